#include "base/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>
#include <thread>

#include "base/account.h"
#include "base/uuid.h"
#include "support/temp_folder.h"

namespace run_recorder {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

mode_t mode_of(const std::string& path) {
  struct stat found {};
  return stat(path.c_str(), &found) == 0 ? found.st_mode & 07777 : 0;
}

bool is_open(int fd) {
  return fcntl(fd, F_GETFD) != -1;
}

TEST(UniqueFd, ClosesWhatItOwnsAndNothingElse) {
  int raw = -1;
  {
    UniqueFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
    raw = fd.get();
    EXPECT_TRUE(fd);
    EXPECT_TRUE(is_open(raw));
  }
  EXPECT_FALSE(is_open(raw));

  UniqueFd first(open("/dev/null", O_RDONLY | O_CLOEXEC));
  raw = first.get();
  UniqueFd second = std::move(first);
  EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): empty is what is promised
  EXPECT_EQ(second.get(), raw);
  second = UniqueFd();
  EXPECT_FALSE(is_open(raw));

  UniqueFd released(open("/dev/null", O_RDONLY | O_CLOEXEC));
  raw = released.release();
  released.reset();
  EXPECT_TRUE(is_open(raw));
  close(raw);
}

TEST(SystemError, NamesTheOperationAndSortsTheKind) {
  const Error error = system_error_of("open /x", EACCES);
  EXPECT_EQ(error.message, "open /x: Permission denied");
  EXPECT_EQ(error.kind, ErrorKind::kDenied);
  EXPECT_EQ(system_error_of("x", ENOENT).kind, ErrorKind::kNotFound);
  EXPECT_EQ(system_error_of("x", ENOSPC).kind, ErrorKind::kFull);
  EXPECT_EQ(system_error_of("x", EDQUOT).kind, ErrorKind::kFull);
  EXPECT_EQ(system_error_of("x", EROFS).kind, ErrorKind::kDenied);
  EXPECT_EQ(system_error_of("x", EADDRINUSE).kind, ErrorKind::kConflict);
  EXPECT_EQ(system_error_of("x", EIO).kind, ErrorKind::kIo);
}

TEST(OpenFile, IsNotInheritedByChildren) {
  const Result<UniqueFd> file = open_file("/dev/null", O_RDONLY);
  ASSERT_TRUE(file);
  EXPECT_NE(fcntl(file->get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(ReadFile, GivesAllBytesUpToTheLimit) {
  const TempFolder folder;
  const std::string content = std::string(200'000, 'a') + std::string("\0\n", 2);
  const std::string path = folder.write("f", content);
  EXPECT_EQ(read_file(path, content.size()).value(), content);
  EXPECT_EQ(read_file(folder.write("empty", ""), 0).value(), "");

  const Result<std::string> too_large = read_file(path, content.size() - 1);
  ASSERT_FALSE(too_large);
  EXPECT_EQ(too_large.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(too_large.error().message, HasSubstr(path));
}

TEST(ReadFile, SaysWhatIsMissing) {
  const TempFolder folder;
  const Result<std::string> missing = read_file(folder.file("none"), 10);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(missing.error().message, "open " + folder.file("none") + ": No such file or directory");
  EXPECT_EQ(read_file(folder.path(), 10).error().message, "read " + folder.path().string() + ": Is a directory");
}

TEST(ReadFile, ReadsPipes) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  ASSERT_TRUE(write_all(writing.get(), "abc"));
  writing.reset();
  EXPECT_EQ(read_file("/dev/fd/" + std::to_string(reading.get()), 10).value(), "abc");
}

TEST(WriteAll, ContinuesShortWrites) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  const std::string much(1 << 20, 'x');  // larger than any pipe's buffer
  std::thread writer([&] {
    EXPECT_TRUE(write_all(writing.get(), much));
    writing.reset();
  });
  EXPECT_EQ(read_file("/dev/fd/" + std::to_string(reading.get()), much.size()).value(), much);
  writer.join();
}

TEST(WriteAll, ReportsAFullDevice) {
  const Result<UniqueFd> full = open_file("/dev/full", O_WRONLY);
  ASSERT_TRUE(full);
  const Result<void> written = write_all(full->get(), "x");
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().kind, ErrorKind::kFull);
}

TEST(ReadAt, StopsAtTheEnd) {
  const TempFolder folder;
  const Result<UniqueFd> file = open_file(folder.write("f", "0123456789"), O_RDONLY);
  ASSERT_TRUE(file);
  char buffer[8];
  EXPECT_EQ(read_at(file->get(), buffer, 4, 3).value(), 4U);
  EXPECT_EQ(std::string(buffer, 4), "3456");
  EXPECT_EQ(read_at(file->get(), buffer, 8, 7).value(), 3U);
  EXPECT_EQ(read_at(file->get(), buffer, 8, 20).value(), 0U);
}

TEST(ReplaceFile, ReplacesTheContentAndLeavesNothingBeside) {
  const TempFolder folder;
  const std::string path = folder.write("f", "old");
  const mode_t umask_before = umask(0077);
  ASSERT_TRUE(replace_file_atomically(path, "new", {0644, true}));
  umask(umask_before);
  EXPECT_EQ(read_file(path, 10).value(), "new");
  EXPECT_EQ(mode_of(path), 0644U);  // whatever the umask
  ASSERT_TRUE(replace_file_atomically(path, "newer", {0600, false}));
  EXPECT_EQ(read_file(path, 10).value(), "newer");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(ReplaceFile, KeepsTheOldContentWhenItFails) {
  const TempFolder folder;
  const std::string path = folder.file("folder");
  std::filesystem::create_directory(path);
  const Result<void> replaced = replace_file_atomically(path, "new");
  ASSERT_FALSE(replaced);
  EXPECT_THAT(replaced.error().message, HasSubstr("rename"));
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
  EXPECT_FALSE(replace_file_atomically(folder.file("none/f"), "new"));
}

TEST(ReplaceFile, OverwritesATemporaryFileOfACrash) {
  const TempFolder folder;
  folder.write("f.tmp", "half written, and longer than the new content");
  ASSERT_TRUE(replace_file_atomically(folder.file("f"), "new"));
  EXPECT_EQ(read_file(folder.file("f"), 10).value(), "new");
}

TEST(SyncDirectory, RefusesAFile) {
  const TempFolder folder;
  EXPECT_TRUE(sync_directory(folder.path()));
  EXPECT_FALSE(sync_directory(folder.write("f", "")));
}

TEST(MakeDirectories, CreatesAllThatIsMissing) {
  const TempFolder folder;
  const std::string path = folder.file("a/b/c");
  ASSERT_TRUE(make_directories(path, 0700));
  EXPECT_EQ(mode_of(path), 0700U);
  EXPECT_EQ(mode_of(folder.file("a")), 0700U);
  EXPECT_TRUE(make_directories(path, 0755));
  EXPECT_EQ(mode_of(path), 0700U);
  EXPECT_FALSE(make_directories(folder.write("f", "") + "/g", 0700));
  EXPECT_EQ(make_directories(folder.file("f"), 0700).error().kind, ErrorKind::kConflict);
}

TEST(Uuid, IsWellFormedAndDoesNotRepeat) {
  EXPECT_THAT(random_hex(32), MatchesRegex("[0-9a-f]{32}"));
  EXPECT_EQ(random_hex(7).size(), 7U);
  EXPECT_EQ(random_hex(0), "");
  std::set<std::string> seen;
  for (int i = 0; i < 1'000; ++i) {
    const std::string uuid = random_uuid();
    EXPECT_THAT(uuid, MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
    EXPECT_TRUE(seen.insert(uuid).second);
  }
}

TEST(Uuid, TimeOrderedOnesSortByTime) {
  const Timestamp time{std::chrono::microseconds(0x0123456789abLL * 1'000)};
  const std::string uuid = time_ordered_uuid(time);
  EXPECT_THAT(uuid, MatchesRegex("01234567-89ab-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
  EXPECT_LT(uuid, time_ordered_uuid(time + std::chrono::milliseconds(1)));
}

TEST(Account, IsFoundByNameAndByNumber) {
  EXPECT_EQ(find_user("root"), uid_t{0});
  EXPECT_EQ(find_group("root"), gid_t{0});
  EXPECT_EQ(find_user("4711"), uid_t{4711});
  EXPECT_EQ(find_group("4711"), gid_t{4711});
  EXPECT_EQ(find_user("no-such-user-here"), std::nullopt);
  EXPECT_EQ(find_group("no-such-group-here"), std::nullopt);
  EXPECT_EQ(find_user(""), std::nullopt);
  EXPECT_EQ(find_user("-1"), std::nullopt);
  EXPECT_EQ(find_user("4294967295"), std::nullopt);  // chown's "leave it"
  EXPECT_EQ(user_name(0), "root");
  EXPECT_EQ(user_name(4'242'424), "4242424");
  EXPECT_THAT(groups_of(0), testing::Contains(gid_t{0}));
  EXPECT_TRUE(groups_of(4'242'424).empty());
}

}  // namespace
}  // namespace run_recorder
