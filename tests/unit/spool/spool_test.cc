// What a spool does while nothing goes wrong.
#include "spool/spool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "spool/format.h"
#include "spool_fixture.h"

namespace run_recorder {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using testing::HasSubstr;

const Timestamp kNoon = Timestamp(std::chrono::sys_days(std::chrono::year{2026} / 1 / 2)) + hours(12);

TEST(Spool, CreatesItsFolderForItsOwnerOnly) {
  TempFolder folder;
  const Opened opened = open_spool(options_for(folder.path() / "var" / "spool"));
  EXPECT_TRUE(opened.opening.created);
  EXPECT_EQ(opened.spool->id().size(), 32U);
  struct stat status {};
  ASSERT_EQ(stat((folder.path() / "var" / "spool").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700U);
  EXPECT_EQ(opened.spool->usage().first_seq, 1U);
  EXPECT_EQ(opened.spool->usage().last_seq, 0U);
}

TEST(Spool, NumbersRecordsFromOneAcrossReopening) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path());
  std::string id;
  for (int round = 0; round < 5; ++round) {
    const Opened opened = open_spool(options);
    EXPECT_EQ(opened.opening.created, round == 0);
    EXPECT_THAT(opened.opening.set_aside, testing::IsEmpty());
    EXPECT_TRUE(round == 0 || opened.spool->id() == id);
    id = opened.spool->id();
    const auto begun = static_cast<std::uint64_t>(round) * 8;
    EXPECT_EQ(append_group(*opened.spool, 5), begun + 1);
    EXPECT_EQ(append_group(*opened.spool, 3), begun + 6);
    EXPECT_EQ(read_from(*opened.spool, 1).seqs, range(1, begun + 8));
  }
}

TEST(Spool, ReadsFromAnyNumberForwardAndBackward) {
  const QuickFolder folder;
  SpoolOptions options = options_for(folder.path());
  options.max_bytes = 1 << 20;  // segments of 64 KiB
  const Opened opened = open_spool(options);
  for (int group = 0; group < 100; ++group) append_group(*opened.spool, 30);
  EXPECT_GT(opened.spool->usage().segments, 2U);
  for (const std::uint64_t seq : {1U, 2999U, 1500U, 1501U, 7U, 3000U}) {
    EXPECT_EQ(read_from(*opened.spool, seq, 100).seqs, range(seq, 3000));
  }
  EXPECT_TRUE(read_from(*opened.spool, 3001).seqs.empty());
  EXPECT_TRUE(read_from(*opened.spool, 1'000'000).seqs.empty());
  EXPECT_EQ(read_from(*opened.spool, 0).seqs.size(), 3000U);
}

TEST(Spool, ReadIsBoundedByCountAndByBytesBeyondTheFirst) {
  const QuickFolder folder;
  const Opened opened = open_spool(options_for(folder.path()));
  const std::string large(1000, 'x');
  const std::vector<Spool::Entry> entries(5, Spool::Entry{large, true});
  ASSERT_TRUE(opened.spool->append(entries));
  std::vector<std::string> damage;
  EXPECT_EQ(opened.spool->read(1, 2, 1 << 20, damage)->size(), 2U);
  EXPECT_EQ(opened.spool->read(3, 10, 10, damage)->size(), 1U);
  EXPECT_EQ(opened.spool->read(4, 10, 2000, damage)->size(), 2U);
  EXPECT_EQ(opened.spool->read(1, 10, 2999, damage)->size(), 2U);
  EXPECT_TRUE(damage.empty());
}

TEST(Spool, ReaderThatIsAtTheEndFindsWhatIsAppendedLater) {
  const QuickFolder folder;
  const Opened opened = open_spool(options_for(folder.path()));
  std::uint64_t next = 1;
  for (int group = 0; group < 300; ++group) {
    append_group(*opened.spool, 1 + static_cast<std::uint64_t>(group) % 3);
    const Reading reading = read_from(*opened.spool, next, 2);
    EXPECT_EQ(reading.seqs, range(next, opened.spool->usage().last_seq));
    next = opened.spool->usage().last_seq + 1;
  }
}

TEST(Spool, KeepsBodiesOfAnySizeExactly) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path());
  std::vector<std::string> bodies = {"", std::string(1, '\0'), std::string(3 << 20, 'b'), std::string(70'000, '\xff'),
                                     "e"};
  {
    const Opened opened = open_spool(options);
    ASSERT_TRUE(opened.spool->append({}));
    std::vector<Spool::Entry> list;
    for (const std::string& body : bodies) list.push_back({body, false});
    EXPECT_EQ(opened.spool->append(list)->first_seq, 1U);
  }
  const Opened opened = open_spool(options);
  std::vector<std::string> damage;
  const auto records = opened.spool->read(1, 100, 100 << 20, damage);
  ASSERT_TRUE(records);
  ASSERT_EQ(records->size(), bodies.size());
  for (std::size_t i = 0; i < bodies.size(); ++i) EXPECT_EQ((*records)[i].body, bodies[i]);
}

TEST(Spool, EachOpeningIsAnIncarnation) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path());
  std::vector<Incarnation> before;
  for (int round = 0; round < 3; ++round) {
    const Opened opened = open_spool(options);
    const std::vector<Incarnation> found = opened.spool->incarnations();
    ASSERT_EQ(found.size(), static_cast<std::size_t>(round) + 1);
    for (std::size_t i = 0; i < before.size(); ++i) {
      EXPECT_EQ(found[i].id, before[i].id);
      EXPECT_EQ(found[i].first_seq, before[i].first_seq);
    }
    EXPECT_EQ(found.back().first_seq, static_cast<std::uint64_t>(round) * 4 + 1);
    append_group(*opened.spool, 4);
    before = opened.spool->incarnations();
    EXPECT_EQ(before.back().id, found.back().id);
  }
  // One in which nothing was appended leaves no trace.
  std::string empty_one = open_spool(options).spool->incarnations().back().id;
  const std::vector<Incarnation> found = open_spool(options).spool->incarnations();
  EXPECT_EQ(found.size(), 4U);
  EXPECT_NE(found.back().id, empty_one);
}

TEST(Spool, RestoredOlderCopyContinuesAsANewIncarnation) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path() / "spool");
  std::string newer;
  {
    const Opened opened = open_spool(options);
    append_group(*opened.spool, 10);
    copy_folder(options.path, folder.path() / "copy");
    append_group(*opened.spool, 10);
    newer = opened.spool->incarnations().back().id;
  }
  copy_folder(folder.path() / "copy", options.path);
  const Opened opened = open_spool(options);
  EXPECT_EQ(opened.opening.damaged_records, 0U);
  EXPECT_EQ(append_group(*opened.spool, 1), 11U);
  const std::vector<Incarnation> found = opened.spool->incarnations();
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].id, newer);
  EXPECT_EQ(found[0].first_seq, 1U);
  EXPECT_NE(found[1].id, newer);
  EXPECT_EQ(found[1].first_seq, 11U);
}

TEST(Spool, IsHeldByOneProcessAtATime) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path());
  Opened opened = open_spool(options);
  SpoolOpening ignored;
  const Result<std::unique_ptr<Spool>> second = Spool::open(options, ignored);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kConflict);
  EXPECT_THAT(second.error().message, HasSubstr(std::to_string(getpid())));
  opened.spool.reset();
  EXPECT_TRUE(Spool::open(options, ignored));
}

TEST(Spool, RefusesAFolderWithForeignFiles) {
  const QuickFolder folder;
  write_bytes(folder.path() / "letter.txt", "dear");
  SpoolOpening ignored;
  const auto spool = Spool::open(options_for(folder.path()), ignored);
  ASSERT_FALSE(spool);
  EXPECT_EQ(spool.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(spool.error().message, HasSubstr("letter.txt"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(Spool, RefusesANewerFormatNamingBothVersions) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path());
  append_group(*open_spool(options).spool, 1);
  std::string identity = bytes_of(folder.path() / "identity");
  identity.replace(identity.find("version 1"), 9, "version 7");
  write_bytes(folder.path() / "identity", identity);
  SpoolOpening ignored;
  const auto spool = Spool::open(options, ignored);
  ASSERT_FALSE(spool);
  EXPECT_EQ(spool.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(spool.error().message, HasSubstr("version 7"));
  EXPECT_THAT(spool.error().message, HasSubstr("up to 1"));
}

TEST(Spool, RefusesASegmentOfANewerFormat) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path());
  const std::string id = open_spool(options).spool->id();
  std::string header;
  spool_format::append_segment_header(header, {2, *spool_format::id_from_hex(id), spool_format::random_id(), 1});
  write_bytes(folder.path() / spool_format::segment_name(1), header);
  SpoolOpening ignored;
  const auto spool = Spool::open(options, ignored);
  ASSERT_FALSE(spool);
  EXPECT_EQ(spool.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(spool.error().message, HasSubstr("version 2"));
  EXPECT_EQ(bytes_of(folder.path() / spool_format::segment_name(1)), header);
}

TEST(Spool, HintSurvivesReopeningAndFallsBackToTheOneBefore) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path());
  {
    const Opened opened = open_spool(options);
    EXPECT_EQ(opened.spool->hint(), "");
    for (int i = 1; i <= 5; ++i) opened.spool->set_hint("position " + std::to_string(i));
    EXPECT_EQ(opened.spool->hint(), "position 5");
  }
  EXPECT_EQ(open_spool(options).spool->hint(), "position 5");
  std::string bytes = bytes_of(folder.path() / "hint");
  bytes[bytes.find("position 5")] = '!';
  write_bytes(folder.path() / "hint", bytes);
  {
    const Opened opened = open_spool(options);
    EXPECT_EQ(opened.spool->hint(), "position 4");
    opened.spool->set_hint("");
  }
  EXPECT_EQ(open_spool(options).spool->hint(), "");
  write_bytes(folder.path() / "hint", "nonsense");
  EXPECT_EQ(open_spool(options).spool->hint(), "");
}

TEST(Spool, AHintThatStaysTheSameIsNotWrittenAgain) {
  const QuickFolder folder;
  const Opened opened = open_spool(options_for(folder.path()));
  opened.spool->set_hint("position 1");
  const std::string bytes = bytes_of(folder.path() / "hint");
  opened.spool->set_hint("position 1");
  EXPECT_EQ(bytes_of(folder.path() / "hint"), bytes);
  opened.spool->set_hint("position 2");
  EXPECT_NE(bytes_of(folder.path() / "hint"), bytes);
}

TEST(Spool, ReleasedRecordsAreKeptAndThenDeleted) {
  const QuickFolder folder;
  SpoolOptions options = options_for(folder.path());
  options.max_bytes = 4 << 20;
  options.segment_bytes = 1;  // the smallest there is
  options.keep = hours(1);
  const Opened opened = open_spool(options);
  while (opened.spool->usage().segments < 4) append_group(*opened.spool, 50);
  const std::uint64_t last = opened.spool->usage().last_seq;
  const std::uint64_t all = opened.spool->usage().pending_bytes;
  EXPECT_EQ(opened.spool->usage().kept_bytes, 0U);
  opened.spool->release(last);
  EXPECT_EQ(opened.spool->usage().pending_bytes, 0U);
  EXPECT_EQ(opened.spool->usage().kept_bytes, all);
  opened.spool->delete_expired(kNoon);
  opened.spool->delete_expired(kNoon + minutes(59));
  EXPECT_EQ(read_from(*opened.spool, 1).seqs, range(1, last));
  opened.spool->delete_expired(kNoon + minutes(60));
  EXPECT_EQ(opened.spool->usage().first_seq, last + 1);
  EXPECT_EQ(opened.spool->usage().last_seq, last);
  EXPECT_EQ(opened.spool->usage().kept_bytes, 0U);
  EXPECT_EQ(segment_files(folder.path()).size(), 1U);
  EXPECT_EQ(append_group(*opened.spool, 1), last + 1);
  EXPECT_EQ(read_from(*opened.spool, 1).seqs, range(last + 1, last + 1));
}

TEST(Spool, DeletingAllKeepsTheNumberAcrossReopening) {
  const QuickFolder folder;
  SpoolOptions options = options_for(folder.path());
  options.keep = milliseconds(0);
  {
    const Opened opened = open_spool(options);
    append_group(*opened.spool, 10);
    opened.spool->release(10);
    opened.spool->delete_expired(kNoon);
    EXPECT_EQ(opened.spool->usage().first_seq, 11U);
  }
  std::filesystem::remove(folder.path() / "synced");  // the segment's name alone must tell
  const Opened opened = open_spool(options);
  EXPECT_EQ(opened.spool->usage().last_seq, 10U);
  EXPECT_EQ(append_group(*opened.spool, 1), 11U);
}

TEST(Spool, UnreleasedRecordsAreNeverDeleted) {
  const QuickFolder folder;
  SpoolOptions options = options_for(folder.path());
  options.max_bytes = 4 << 20;
  options.segment_bytes = 1;
  options.keep = milliseconds(0);
  const Opened opened = open_spool(options);
  while (opened.spool->usage().segments < 4) append_group(*opened.spool, 50);
  const std::uint64_t last = opened.spool->usage().last_seq;
  opened.spool->release(last - 1);
  opened.spool->delete_expired(kNoon);
  const Reading reading = read_from(*opened.spool, 1);
  EXPECT_EQ(reading.seqs.back(), last);
  EXPECT_TRUE(reading.damage.empty());
}

TEST(Spool, ReleaseGoesBackAndStartsTheTimeAnew) {
  const QuickFolder folder;
  SpoolOptions options = options_for(folder.path());
  options.keep = hours(1);
  const Opened opened = open_spool(options);
  append_group(*opened.spool, 100);
  opened.spool->release(100);
  opened.spool->delete_expired(kNoon);
  const std::uint64_t all = opened.spool->usage().kept_bytes;
  opened.spool->release(40);
  EXPECT_GT(opened.spool->usage().pending_bytes, all / 3);
  opened.spool->delete_expired(kNoon + hours(2));
  EXPECT_EQ(read_from(*opened.spool, 41).seqs, range(41, 100));
  opened.spool->release(100);
  opened.spool->delete_expired(kNoon + hours(2));
  opened.spool->delete_expired(kNoon + hours(2) + minutes(59));
  EXPECT_EQ(opened.spool->usage().first_seq, 1U);
  opened.spool->delete_expired(kNoon + hours(3));
  EXPECT_EQ(opened.spool->usage().first_seq, 101U);
  opened.spool->release(3);  // what is deleted cannot come back
  EXPECT_EQ(opened.spool->usage().pending_bytes, 0U);
}

TEST(Spool, AClockThatIsSetBackOnlyKeepsLonger) {
  const QuickFolder folder;
  SpoolOptions options = options_for(folder.path());
  options.keep = hours(1);
  const Opened opened = open_spool(options);
  append_group(*opened.spool, 1);
  opened.spool->release(1);
  opened.spool->delete_expired(kNoon);
  opened.spool->delete_expired(kNoon - hours(5));
  opened.spool->delete_expired(kNoon - hours(5) + minutes(59));
  EXPECT_EQ(opened.spool->usage().first_seq, 1U);
  opened.spool->delete_expired(kNoon - hours(4));
  EXPECT_EQ(opened.spool->usage().first_seq, 2U);
}

}  // namespace
}  // namespace run_recorder
