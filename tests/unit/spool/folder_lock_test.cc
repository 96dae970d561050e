// What a spool does when the files it has open are no longer what its path names, and when it is not the only one of
// its kind.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "base/file.h"
#include "spool/inspect.h"
#include "spool_fixture.h"

namespace run_recorder {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

ErrorKind conflict_of(const SpoolOptions& options) {
  SpoolOpening ignored;
  const auto second = Spool::open(options, ignored);
  return second ? ErrorKind::kInternal : second.error().kind;
}

// What is appended now is refused, and says so with these words.
void expect_refusal(Spool& spool, const std::string& words) {
  const Spool::Entry entry{"late", true};
  for (int i = 0; i < 2; ++i) {
    const Result<Spool::Appended> appended = spool.append({&entry, 1});
    ASSERT_FALSE(appended);
    EXPECT_EQ(appended.error().kind, ErrorKind::kIo);
    EXPECT_THAT(appended.error().message, HasSubstr(words));
  }
  EXPECT_TRUE(spool.usage().failed);
  EXPECT_THAT(spool.usage().failure, HasSubstr(words));
}

struct Loss {
  std::string name;
  std::function<void(const fs::path&)> happens;
  std::string words;
};

class SpoolHold : public ::testing::TestWithParam<Loss> {};

TEST_P(SpoolHold, NothingIsAcceptedIntoFilesThatThePathDoesNotNameAndWhatWaitsIsRead) {
  const TempFolder folder;
  const SpoolOptions options = options_for(folder.path() / "spool");
  const Opened opened = open_spool(options);
  append_group(*opened.spool, 5);
  GetParam().happens(options.path);
  expect_refusal(*opened.spool, GetParam().words);
  EXPECT_EQ(read_from(*opened.spool, 1).seqs, range(1, 5));
}

TEST_P(SpoolHold, AnIdleSpoolDetectsIt) {
  const TempFolder folder;
  const SpoolOptions options = options_for(folder.path() / "spool");
  const Opened opened = open_spool(options);
  append_group(*opened.spool, 5);
  EXPECT_THAT(opened.spool->check_files().failed, IsEmpty());
  GetParam().happens(options.path);
  EXPECT_THAT(opened.spool->check_files().failed, HasSubstr(GetParam().words));
  EXPECT_TRUE(opened.spool->usage().failed);
  EXPECT_THAT(opened.spool->check_files().failed, IsEmpty()) << "it is said once";
}

INSTANTIATE_TEST_SUITE_P(
    All, SpoolHold,
    ::testing::Values(
        Loss{"FolderDeleted", [](const fs::path& path) { fs::remove_all(path); }, "was deleted or moved"},
        Loss{"FolderMoved", [](const fs::path& path) { fs::rename(path, path.string() + ".old"); },
             "was deleted or moved"},
        Loss{"FolderExchanged",
             [](const fs::path& path) {
               fs::rename(path, path.string() + ".old");
               fs::create_directory(path);
             },
             "was replaced"},
        Loss{"FolderRestored",
             [](const fs::path& path) {
               fs::rename(path, path.string() + ".old");
               fs::copy(path.string() + ".old", path, fs::copy_options::recursive);
             },
             "was replaced"},
        Loss{"SegmentDeleted", [](const fs::path& path) { fs::remove(path / "00000000000000000001.seg"); },
             "the segment"}),
    [](const auto& one) { return one.param.name; });

TEST(Spool, WhatWasRefusedIsNotInTheFolderThatComesBack) {
  const TempFolder folder;
  const SpoolOptions options = options_for(folder.path() / "spool");
  {
    const Opened opened = open_spool(options);
    append_group(*opened.spool, 5);
    fs::rename(options.path, folder.path() / "old");
    expect_refusal(*opened.spool, "was deleted or moved away");
  }
  fs::rename(folder.path() / "old", options.path);
  const Opened opened = open_spool(options);
  EXPECT_EQ(opened.spool->usage().last_seq, 5U);
  EXPECT_EQ(append_group(*opened.spool, 1), 6U);
}

TEST(Spool, NeverTouchesTheFolderThatTookItsPlace) {
  const TempFolder folder;
  SpoolOptions options = options_for(folder.path() / "spool");
  options.keep = std::chrono::milliseconds{0};
  const Opened opened = open_spool(options);
  append_group(*opened.spool, 5);
  fs::rename(options.path, folder.path() / "old");
  fs::copy(folder.path() / "old", options.path, fs::copy_options::recursive);
  opened.spool->release(5);
  opened.spool->delete_expired(now_utc());
  EXPECT_TRUE(fs::exists(options.path / "00000000000000000001.seg"));
}

TEST(Spool, WithoutItsLockFileIsStillHeldAndMakesItAgain) {
  const TempFolder folder;
  const SpoolOptions options = options_for(folder.path());
  const Opened opened = open_spool(options);
  fs::remove(folder.path() / "lock");
  EXPECT_EQ(conflict_of(options), ErrorKind::kConflict) << "before it is noticed";
  EXPECT_THAT(opened.spool->check_files().repaired, HasSubstr((folder.path() / "lock").string()));
  EXPECT_EQ(conflict_of(options), ErrorKind::kConflict);
  EXPECT_EQ(inspect_spool(folder.path(), InspectionDepth::kHeaders)->holder, getpid());
  EXPECT_THAT(opened.spool->check_files().repaired, IsEmpty());
  append_group(*opened.spool, 1);
}

TEST(Spool, AcceptsNothingWhereSomebodyElseHoldsItsLockFile) {
  const TempFolder folder;
  const Opened opened = open_spool(options_for(folder.path()));
  fs::remove(folder.path() / "lock");
  const Result<UniqueFd> other = open_file(folder.path() / "lock", O_RDWR | O_CREAT);
  ASSERT_EQ(flock(other->get(), LOCK_EX | LOCK_NB), 0);
  expect_refusal(*opened.spool, "its lock file was deleted");
}

// `run-recorder spool` at the very moment of a start made it end with 69.
TEST(Spool, IsOpenedWhileOthersInspectIt) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path());
  append_group(*open_spool(options).spool, 1);
  std::atomic<bool> done = false;
  std::thread looker([&] {
    while (!done) EXPECT_TRUE(inspect_spool(folder.path(), InspectionDepth::kHeaders));
  });
  for (int i = 0; i < 200; ++i) {
    SpoolOpening ignored;
    const auto spool = Spool::open(options, ignored);
    EXPECT_TRUE(spool) << spool.error().message;
  }
  done = true;
  looker.join();
}

// Tools of earlier releases locked it for the moment of their look.
TEST(Spool, WaitsForALockThatIsHeldForAMoment) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path());
  append_group(*open_spool(options).spool, 1);
  Result<UniqueFd> look = open_file(folder.path() / "lock", O_RDONLY);
  ASSERT_EQ(flock(look->get(), LOCK_SH | LOCK_NB), 0);
  std::atomic<bool> begun = false;
  std::thread looker([&] {
    while (!begun) std::this_thread::yield();
    look->reset();
  });
  begun = true;
  EXPECT_TRUE(open_spool(options).spool);
  looker.join();
}

// ---- copies

TEST(SpoolIdentity, StaysWhereTheFolderStays) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path());
  std::string id, first;
  {
    const Opened opened = open_spool(options);
    id = opened.spool->id();
    first = opened.spool->incarnations().back().id;
    EXPECT_EQ(opened.spool->origin(), id);
    EXPECT_FALSE(opened.spool->may_be_copy());
    append_group(*opened.spool, 3);
  }
  const Opened opened = open_spool(options);
  EXPECT_EQ(opened.spool->id(), id);
  EXPECT_FALSE(opened.spool->may_be_copy());
  const std::vector<Incarnation> remembered = opened.spool->remembered();
  ASSERT_EQ(remembered.size(), 2U);
  EXPECT_EQ(remembered[0].id, first);
  EXPECT_EQ(remembered[0].first_seq, 1U);
  EXPECT_EQ(remembered[1].id, opened.spool->incarnations().back().id);
  EXPECT_EQ(remembered[1].first_seq, 4U);
}

TEST(SpoolIdentity, IsSuspectedToBeACopyUntilSettled) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path() / "spool");
  const std::string id = open_spool(options).spool->id();
  const SpoolOptions copy = options_for(folder.path() / "copy");
  copy_folder(options.path, copy.path);
  EXPECT_TRUE(open_spool(copy).spool->may_be_copy());
  {
    const Opened opened = open_spool(copy);
    EXPECT_TRUE(opened.spool->may_be_copy()) << "also at the next opening";
    EXPECT_EQ(opened.spool->id(), id);
    opened.spool->settle();
    EXPECT_FALSE(opened.spool->may_be_copy());
  }
  EXPECT_FALSE(open_spool(copy).spool->may_be_copy());
  EXPECT_FALSE(open_spool(options).spool->may_be_copy());
}

TEST(SpoolIdentity, ANewOneKeepsTheOriginAndWhatWaits) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path());
  std::string old, renewed;
  {
    const Opened opened = open_spool(options);
    append_group(*opened.spool, 4);
    old = opened.spool->id();
    EXPECT_EQ(opened.spool->shared_before(), 0U);
    renewed = opened.spool->renew();
    EXPECT_NE(renewed, old);
    EXPECT_EQ(opened.spool->id(), renewed);
    append_group(*opened.spool, 4);
  }
  const Opened opened = open_spool(options);
  EXPECT_EQ(opened.spool->id(), renewed);
  EXPECT_EQ(opened.spool->origin(), old);
  EXPECT_EQ(opened.spool->shared_before(), 1U) << "the incarnation of the renewal is its own";
  EXPECT_THAT(opened.opening.set_aside, IsEmpty());
  EXPECT_EQ(read_from(*opened.spool, 1).seqs, range(1, 8));
  EXPECT_EQ(inspect_spool(folder.path(), InspectionDepth::kRecords)->id, renewed);
}

TEST(SpoolIdentity, IsRenewedOnAnotherMachine) {
  const QuickFolder folder;
  SpoolOptions options = options_for(folder.path());
  options.machine = "0123456789abcdef";
  std::string id;
  {
    const Opened opened = open_spool(options);
    id = opened.spool->id();
    append_group(*opened.spool, 2);
  }
  options.machine = "fedcba9876543210";
  std::string renewed;
  {
    const Opened opened = open_spool(options);
    renewed = opened.spool->id();
    EXPECT_NE(renewed, id);
    EXPECT_EQ(opened.opening.other_machines, id);
    EXPECT_EQ(opened.spool->origin(), id);
    EXPECT_EQ(read_from(*opened.spool, 1).seqs, range(1, 2));
  }
  const Opened opened = open_spool(options);
  EXPECT_EQ(opened.spool->id(), renewed);
  EXPECT_THAT(opened.opening.other_machines, IsEmpty());
  EXPECT_FALSE(opened.spool->may_be_copy());
}

TEST(SpoolIdentity, IsKeptWhereTheMoveIsOnPurpose) {
  const QuickFolder folder;
  SpoolOptions options = options_for(folder.path());
  options.machine = "0123456789abcdef";
  const std::string id = open_spool(options).spool->id();
  const Result<std::string> adopted = adopt_spool(folder.path());
  ASSERT_TRUE(adopted) << adopted.error().message;
  EXPECT_EQ(*adopted, id);
  const Opened opened = open_spool(options_for(folder.path()));  // this machine
  EXPECT_EQ(opened.spool->id(), id);
  EXPECT_TRUE(opened.spool->may_be_copy()) << "the other one may be alive all the same";
  EXPECT_EQ(adopt_spool(folder.path()).error().kind, ErrorKind::kConflict) << "it is in use";
}

TEST(SpoolIdentity, RemembersABoundedNumberOfOpenings) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path());
  append_group(*open_spool(options).spool, 3);
  for (int i = 0; i < 60; ++i) open_spool(options);
  const Opened opened = open_spool(options);
  const std::vector<Incarnation> remembered = opened.spool->remembered();
  EXPECT_LE(remembered.size(), 50U);
  EXPECT_EQ(remembered.front().first_seq, 1U) << "one that wrote something is kept before those that did not";
  EXPECT_EQ(remembered.back().id, opened.spool->incarnations().back().id);
}

// `cp -r` copies the mark after a segment that has grown meanwhile.
TEST(SpoolIdentity, ACopyTakenWhileItGrewSaysWhatTheOriginalHas) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path() / "spool");
  const SpoolOptions copy = options_for(folder.path() / "copy");
  const Opened original = open_spool(options);
  append_group(*original.spool, 5);
  copy_folder(options.path, copy.path);
  append_group(*original.spool, 5);
  fs::copy(options.path / "synced", copy.path / "synced", fs::copy_options::overwrite_existing);
  const Opened opened = open_spool(copy);
  EXPECT_EQ(opened.opening.damaged_records, 5U);
  EXPECT_THAT(
      opened.opening.set_aside,
      ElementsAre("records 6 to 10 came too late for this copy of a spool; the original has acknowledged them"));
}

}  // namespace
}  // namespace run_recorder
