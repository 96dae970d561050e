// Room: max_bytes and its last tenth, min_free, a file system that is full or read-only, a disk that does not sync.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "spool/spool.h"
#include "spool_fixture.h"

namespace run_recorder {
namespace {

using std::chrono::hours;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;

using Admission = Spool::Admission;

const Timestamp kNoon = Timestamp(std::chrono::sys_days(std::chrono::year{2026} / 1 / 2)) + hours(12);

Admission append_sized(Spool& spool, std::size_t size, bool privileged) {
  const std::string body(size, 'x');
  const Spool::Entry entry{body, privileged};
  const Result<Spool::Appended> appended = spool.append({&entry, 1});
  EXPECT_TRUE(appended) << appended.error().message;
  return appended ? appended->admissions.at(0) : Admission::kFull;
}

std::uint64_t fill(Spool& spool, std::size_t size, bool privileged) {
  std::uint64_t count = 0;
  while (append_sized(spool, size, privileged) == Admission::kAccepted) ++count;
  return count;
}

SpoolOptions small_options(const std::filesystem::path& path) {
  SpoolOptions options = options_for(path);
  options.max_bytes = 1 << 20;
  return options;
}

TEST(SpoolRoom, LastTenthIsForPrivilegedRecords) {
  const QuickFolder folder;
  const Opened opened = open_spool(small_options(folder.path()));
  fill(*opened.spool, 1000, false);
  EXPECT_NEAR(static_cast<double>(opened.spool->usage().pending_bytes), 0.9 * (1 << 20), 2000);
  EXPECT_GT(fill(*opened.spool, 1000, true), 90U);
  EXPECT_LE(opened.spool->usage().pending_bytes, 1U << 20);
  EXPECT_GT(opened.spool->usage().pending_bytes, (1U << 20) - 2000);
}

TEST(SpoolRoom, IsSeenWithoutAppending) {
  const QuickFolder folder;
  const Opened opened = open_spool(small_options(folder.path()));
  EXPECT_TRUE(opened.spool->room().has_room);
  const std::uint64_t others = fill(*opened.spool, 1000, false);
  SpoolRoom room = opened.spool->room();
  EXPECT_FALSE(room.has_room) << "though a few bytes are left: the last one did not fit";
  EXPECT_TRUE(room.has_privileged_room);
  EXPECT_EQ(room.allowed_bytes, room.max_bytes - room.max_bytes / 10);
  EXPECT_LE(room.pending_bytes, room.allowed_bytes);
  const std::uint64_t privileged = fill(*opened.spool, 1000, true);
  EXPECT_FALSE(opened.spool->room().has_privileged_room);
  opened.spool->release(others / 2);
  room = opened.spool->room();
  EXPECT_TRUE(room.has_room && room.has_privileged_room);
  opened.spool->release(others + privileged);
  EXPECT_EQ(append_sized(*opened.spool, 1000, false), Admission::kAccepted);
}

TEST(SpoolRoom, ARecordThatNeverFitsDoesNotMakeTheSpoolFull) {
  const QuickFolder folder;
  const Opened opened = open_spool(small_options(folder.path()));
  EXPECT_EQ(append_sized(*opened.spool, 2 << 20, true), Admission::kFull);
  const SpoolRoom room = opened.spool->room();
  EXPECT_TRUE(room.has_room && room.has_privileged_room && room.disk_has_room);
}

TEST(SpoolRoom, EachEntryIsAdmittedByItself) {
  const QuickFolder folder;
  const Opened opened = open_spool(small_options(folder.path()));
  const std::string large(2 << 20, 'x');
  const std::vector<Spool::Entry> entries = {{"a", false}, {large, true}, {"b", false}, {"c", true}};
  const auto appended = opened.spool->append(entries);
  ASSERT_TRUE(appended);
  EXPECT_THAT(appended->admissions, testing::ElementsAre(Admission::kAccepted, Admission::kFull, Admission::kAccepted,
                                                         Admission::kAccepted));
  std::vector<std::string> damage;
  const auto records = opened.spool->read(1, 10, 1 << 20, damage);
  ASSERT_EQ(records->size(), 3U);
  EXPECT_EQ((*records)[1].body, "b");
  EXPECT_EQ((*records)[2].seq, 3U);
}

TEST(SpoolRoom, GoesOnWhenRecordsAreReleasedAndKeptOnesGiveWay) {
  const QuickFolder folder;
  const Opened opened = open_spool(small_options(folder.path()));
  std::uint64_t in_all = 0;
  for (int round = 0; round < 20; ++round) {
    const std::uint64_t count = fill(*opened.spool, 1000, false);
    EXPECT_GT(count, 800U);
    in_all += count;
    opened.spool->release(opened.spool->usage().last_seq);
    EXPECT_EQ(opened.spool->usage().pending_bytes, 0U);
    EXPECT_GT(opened.spool->usage().kept_bytes, 500'000U);
    EXPECT_LE(opened.spool->usage().kept_bytes, 1U << 20);
  }
  EXPECT_EQ(opened.spool->usage().last_seq, in_all);
}

TEST(SpoolRoom, DeletingBringsKeptBytesBelowANewLimit) {
  const QuickFolder folder;
  const Opened opened = open_spool(small_options(folder.path()));
  fill(*opened.spool, 1000, false);
  opened.spool->release(opened.spool->usage().last_seq);
  opened.spool->set_limits(200'000, 0, hours(1));
  opened.spool->delete_expired(kNoon);
  EXPECT_LE(opened.spool->usage().kept_bytes, 200'000U);
  EXPECT_GT(opened.spool->usage().kept_bytes, 0U);
}

TEST(SpoolRoom, PendingBytesFollowTheReleaseWithinASegment) {
  const QuickFolder folder;
  const Opened opened = open_spool(small_options(folder.path()));
  for (int i = 0; i < 100; ++i) append_sized(*opened.spool, 500, false);
  const std::uint64_t all = opened.spool->usage().pending_bytes;
  opened.spool->release(25);
  EXPECT_NEAR(static_cast<double>(opened.spool->usage().pending_bytes), 0.75 * static_cast<double>(all), 1000);
  opened.spool->release(100);
  EXPECT_EQ(opened.spool->usage().pending_bytes, 0U);
  EXPECT_EQ(opened.spool->usage().kept_bytes, all);
}

TEST(SpoolRoom, MinFreeOfTheFileSystemIsLeft) {
  const QuickFolder folder;
  SpoolOptions options = options_for(folder.path());
  struct statvfs status {};
  ASSERT_EQ(statvfs(folder.path().c_str(), &status), 0);
  options.min_free = status.f_bavail * status.f_frsize * 2;
  const Opened opened = open_spool(options);
  EXPECT_FALSE(opened.spool->room().disk_has_room) << "before anything is appended";
  EXPECT_EQ(append_sized(*opened.spool, 10, true), Admission::kFull);
  EXPECT_FALSE(opened.spool->usage().failed);
  opened.spool->set_limits(1 << 30, 0, hours(1));
  EXPECT_TRUE(opened.spool->room().disk_has_room);
  EXPECT_EQ(append_sized(*opened.spool, 10, true), Admission::kAccepted);
}

// A small file system of its own; unmounted at the end.
class SmallDisk {
 public:
  explicit SmallDisk(const char* options) : mounted_(mount("none", path().c_str(), "tmpfs", 0, options) == 0) {}
  ~SmallDisk() {
    if (mounted_) umount2(path().c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  const std::filesystem::path& path() const { return folder_.path(); }
  bool remount(unsigned long flags) const {
    return mount("none", path().c_str(), "tmpfs", MS_REMOUNT | flags, "") == 0;
  }

 private:
  TempFolder folder_;
  bool mounted_;
};

std::vector<std::uint64_t> seqs_of(Spool& spool) {
  std::vector<std::uint64_t> seqs;
  std::vector<std::string> damage;
  const auto records = spool.read(1, 1'000'000, 1 << 30, damage);
  EXPECT_TRUE(records);
  EXPECT_THAT(damage, IsEmpty());
  if (!records) return seqs;
  for (const SpoolRecord& record : *records) seqs.push_back(record.seq);
  return seqs;
}

TEST(SpoolDisk, AFullFileSystemIsFullAndGoesOnByItself) {
  const SmallDisk disk("size=1m");
  if (!disk.mounted()) GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  const SpoolOptions options = options_for(disk.path() / "spool");
  std::uint64_t accepted = 0;
  {
    const Opened opened = open_spool(options);
    accepted = fill(*opened.spool, 3000, true);
    EXPECT_GT(accepted, 200U);
    // Not even a small one in the middle of a group that is too large leaves anything behind.
    const std::string large(200'000, 'x');
    const std::vector<Spool::Entry> entries = {{"a", true}, {large, true}};
    const auto appended = opened.spool->append(entries);
    ASSERT_TRUE(appended);
    accepted += static_cast<std::uint64_t>(
        std::count(appended->admissions.begin(), appended->admissions.end(), Admission::kAccepted));
    EXPECT_EQ(seqs_of(*opened.spool), range(1, accepted));
    EXPECT_FALSE(opened.spool->usage().failed);
  }
  // It opens on the full disk too, reads, and takes records as soon as there is room.
  const Opened opened = open_spool(options);
  EXPECT_EQ(opened.opening.damaged_records, 0U);
  EXPECT_EQ(opened.opening.torn_bytes, 0U);
  EXPECT_EQ(seqs_of(*opened.spool), range(1, accepted));
  opened.spool->release(accepted);
  opened.spool->delete_expired(kNoon);
  ASSERT_TRUE(mount("none", disk.path().c_str(), "tmpfs", MS_REMOUNT, "size=4m") == 0);
  EXPECT_EQ(append_sized(*opened.spool, 3000, false), Admission::kAccepted);
  EXPECT_EQ(opened.spool->usage().last_seq, accepted + 1);
}

TEST(SpoolDisk, KeptSegmentsGiveWayOnAFullFileSystem) {
  const SmallDisk disk("size=2m");
  if (!disk.mounted()) GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  SpoolOptions options = options_for(disk.path() / "spool");
  options.segment_bytes = 1;
  options.min_free = 300'000;
  const Opened opened = open_spool(options);
  const std::uint64_t first = fill(*opened.spool, 3000, true);
  EXPECT_FALSE(opened.spool->room().disk_has_room);
  opened.spool->release(first);
  EXPECT_TRUE(opened.spool->room().disk_has_room) << "what is kept gives way";
  EXPECT_GT(fill(*opened.spool, 3000, true), first / 2);
}

TEST(SpoolDisk, NoInodeForANewSegmentDoesNotStopTheOldOne) {
  const SmallDisk disk("size=8m,nr_inodes=9");
  if (!disk.mounted()) GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  SpoolOptions options = options_for(disk.path() / "spool");
  options.segment_bytes = 1;
  const Opened opened = open_spool(options);
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(append_sized(*opened.spool, 3000, true), Admission::kAccepted);
  EXPECT_LT(opened.spool->usage().segments, 9U);
  EXPECT_EQ(seqs_of(*opened.spool), range(1, 1000));
}

TEST(SpoolDisk, AWriteThatTheFileSystemRefusesThoughItHasRoomIsKnownUntilOneSucceeds) {
  const SmallDisk disk("size=8m,nr_inodes=20");
  if (!disk.mounted()) GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  const SpoolOptions options = options_for(disk.path() / "spool");
  { const Opened first = open_spool(options); }
  std::vector<std::filesystem::path> filling;
  do {
    filling.push_back(disk.path() / std::to_string(filling.size()));
  } while (std::ofstream(filling.back()));
  const Opened opened = open_spool(options);
  EXPECT_EQ(append_sized(*opened.spool, 10, true), Admission::kFull);
  const SpoolRoom room = opened.spool->room();
  EXPECT_TRUE(room.disk_has_room);
  EXPECT_THAT(room.disk_error, HasSubstr("No space left on device"));
  for (const auto& file : filling) std::filesystem::remove(file);
  EXPECT_EQ(append_sized(*opened.spool, 10, true), Admission::kAccepted);
  EXPECT_EQ(opened.spool->room().disk_error, "");
}

TEST(SpoolDisk, NoDescriptorForANewSegmentDoesNotStopTheOldOne) {
  const QuickFolder folder;
  SpoolOptions options = options_for(folder.path());
  options.segment_bytes = 1;
  const Opened opened = open_spool(options);
  append_sized(*opened.spool, 100, true);
  std::vector<std::string> damage;
  EXPECT_EQ(opened.spool->read(1, 1, 10, damage)->size(), 1U);  // the reader has its file open
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 3;
  setrlimit(RLIMIT_NOFILE, &none);
  std::size_t accepted = 0;
  for (int i = 0; i < 100; ++i) {
    const std::string body(3000, 'x');
    const Spool::Entry entry{body, true};
    const auto appended = opened.spool->append({&entry, 1});
    if (appended && appended->admissions.at(0) == Admission::kAccepted) ++accepted;
  }
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(accepted, 100U);
  EXPECT_EQ(seqs_of(*opened.spool), range(1, 101));
}

// The descriptor that is left is enough for the new segment, not for the folder its name is to be synced in.
TEST(SpoolDisk, ASegmentThatCouldNotBeBegunHidesNoRecordFromTheNextOpening) {
  const QuickFolder folder;
  SpoolOptions options = options_for(folder.path());
  options.segment_bytes = 1;
  {
    const Opened opened = open_spool(options);
    append_group(*opened.spool, 2'000);  // more than a segment takes
    rlimit before{};
    getrlimit(RLIMIT_NOFILE, &before);
    const int lowest_free = dup(STDERR_FILENO);
    close(lowest_free);
    rlimit one_more = before;
    one_more.rlim_cur = static_cast<rlim_t>(lowest_free) + 1;
    setrlimit(RLIMIT_NOFILE, &one_more);
    for (int i = 0; i < 10; ++i) append_group(*opened.spool, 3);
    setrlimit(RLIMIT_NOFILE, &before);
    append_group(*opened.spool, 3);
    EXPECT_EQ(segment_files(folder.path()).size(), opened.spool->usage().segments);
  }
  const Opened opened = open_spool(options);
  EXPECT_THAT(opened.opening.set_aside, IsEmpty());
  const Reading reading = read_from(*opened.spool, 1, 500);
  EXPECT_THAT(reading.damage, IsEmpty()) << joined(reading.damage);
  EXPECT_EQ(reading.seqs, range(1, 2'033));
}

TEST(SpoolDisk, RecoversFromAReadOnlyFileSystem) {
  const SmallDisk disk("size=4m");
  if (!disk.mounted()) GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  SpoolOptions options = options_for(disk.path() / "spool");
  append_group(*open_spool(options).spool, 3);
  ASSERT_TRUE(disk.remount(MS_RDONLY));
  SpoolOpening ignored;
  const auto spool = Spool::open(options, ignored);
  ASSERT_FALSE(spool);
  EXPECT_EQ(spool.error().kind, ErrorKind::kDenied);
  ASSERT_TRUE(disk.remount(0));
  EXPECT_EQ(read_from(*open_spool(options).spool, 1).seqs, range(1, 3));
}

int failures_after = -1;  // so many syncs succeed yet; -1: all do
int failing_sync(int fd) {
  if (failures_after == 0) {
    errno = EIO;
    return -1;
  }
  if (failures_after > 0) --failures_after;
  return fdatasync(fd);
}

TEST(SpoolDisk, AfterAFailedSyncNothingIsAcceptedUntilTheNextOpening) {
  const QuickFolder folder;
  SpoolOptions options = options_for(folder.path());
  options.sync = failing_sync;
  failures_after = -1;
  {
    const Opened opened = open_spool(options);
    append_group(*opened.spool, 5);
    failures_after = 0;
    const Spool::Entry entry{"lost", true};
    const auto failed = opened.spool->append({&entry, 1});
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().kind, ErrorKind::kIo);
    EXPECT_TRUE(opened.spool->usage().failed);
    EXPECT_THAT(opened.spool->usage().failure, HasSubstr("until it is opened again"));
    failures_after = -1;
    const auto after = opened.spool->append({&entry, 1});
    ASSERT_FALSE(after);
    EXPECT_EQ(after.error().kind, ErrorKind::kIo);
    EXPECT_EQ(read_from(*opened.spool, 1).seqs, range(1, 5));
    opened.spool->release(5);
    opened.spool->delete_expired(kNoon);
  }
  const Opened opened = open_spool(options);
  EXPECT_EQ(opened.opening.damaged_records, 0U);
  EXPECT_EQ(read_from(*opened.spool, 1).seqs, range(1, 5));
  EXPECT_EQ(append_group(*opened.spool, 1), 6U);
}

TEST(SpoolDisk, ASegmentThatCannotBeMadeDurableIsNotUsed) {
  const QuickFolder folder;
  SpoolOptions options = options_for(folder.path());
  options.sync = failing_sync;
  failures_after = 0;
  const Opened opened = open_spool(options);
  const Spool::Entry entry{"a", true};
  EXPECT_FALSE(opened.spool->append({&entry, 1}));
  EXPECT_FALSE(opened.spool->usage().failed);  // nothing of anybody's was in it
  failures_after = -1;
  EXPECT_EQ(append_group(*opened.spool, 2), 1U);
}

}  // namespace
}  // namespace run_recorder
