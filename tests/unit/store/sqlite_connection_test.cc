// SQLite itself, as every adapter uses it: what it refuses, deadlines, locks, times, and the claim on a file.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

#include "database/sqlite.h"
#include "support/temp_folder.h"

namespace run_recorder::testing {

namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

class Sqlite : public ::testing::Test {
 protected:
  std::string path() const { return folder_.file("a.db"); }
  std::unique_ptr<SqliteConnection> open(std::chrono::milliseconds deadline = 30s) const {
    return SqliteConnection::open({.path = path(), .create = true, .deadline = deadline}).value();
  }
  Error open_error(const std::string& path, bool create = false) const {
    return SqliteConnection::open({.path = path, .create = create}).error();
  }
  static std::string text(SqliteConnection& connection, const std::string& sql) {
    auto statement = connection.prepare(sql).value();
    SqliteRows rows = statement.rows();
    return rows.next().value() ? std::string(rows.text(0)) : "nothing";
  }

  TempFolder folder_;
};

// What check returns as another process; the test's own locks do not exist there.
bool in_another_process(const std::function<bool()>& check) {
  const pid_t child = fork();
  if (child == 0) _exit(check() ? 0 : 1);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_F(Sqlite, UsesWalAndFullSync) {
  const auto connection = open();
  EXPECT_EQ(text(*connection, "PRAGMA journal_mode"), "wal");
  EXPECT_EQ(text(*connection, "PRAGMA synchronous"), "2");
  EXPECT_EQ(text(*connection, "PRAGMA page_size"), "8192");
}

TEST_F(Sqlite, AFileOfAnotherJournalModeIsTakenIntoWal) {
  const auto made = open();
  ASSERT_EQ(text(*made, "PRAGMA journal_mode=DELETE"), "delete");
  EXPECT_EQ(text(*open(), "PRAGMA journal_mode"), "wal");
}

TEST_F(Sqlite, AFolderThatIsMissingIsNamedAndNotMade) {
  const std::string deep = folder_.file("x") + "/y/z.db";
  const Error missing = open_error(deep, true);
  EXPECT_EQ(missing.kind, ErrorKind::kUnavailable) << "it may be mounted later";
  EXPECT_THAT(missing.message, ::testing::HasSubstr("there is no folder " + folder_.file("x") + "/y"));
  EXPECT_THAT(missing.message, ::testing::HasSubstr("mkdir -p"));
  EXPECT_FALSE(std::filesystem::exists(folder_.file("x")));
}

TEST_F(Sqlite, ANewFileIsNothingForOthers) {
  open();
  struct stat status {};
  ASSERT_EQ(stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0007U, 0U);
}

TEST_F(Sqlite, WhatIsNoDatabaseIsRefused) {
  EXPECT_EQ(open_error(folder_.file("missing.db")).kind, ErrorKind::kRefused);
  EXPECT_FALSE(std::filesystem::exists(folder_.file("missing.db")));
  const Error text_file = open_error(folder_.write("text", std::string(10'000, 'x')));
  EXPECT_EQ(text_file.kind, ErrorKind::kRefused);
  EXPECT_THAT(text_file.message, HasSubstr("not a SQLite database"));
  EXPECT_EQ(open_error(folder_.path().string()).kind, ErrorKind::kRefused) << "a folder";
  ASSERT_EQ(mkfifo(folder_.file("pipe").c_str(), 0600), 0);
  EXPECT_EQ(open_error(folder_.file("pipe"), true).kind, ErrorKind::kRefused);
  EXPECT_EQ(open_error("").kind, ErrorKind::kRefused);
  EXPECT_EQ(open_error(folder_.write("file", "x") + "/below.db", true).kind, ErrorKind::kUnavailable);
}

TEST_F(Sqlite, AnEmptyFileIsAnEmptyDatabase) {
  const std::string empty = folder_.write("empty.db", "");
  EXPECT_TRUE(SqliteConnection::open({.path = empty}));
}

TEST_F(Sqlite, WithoutPermissionItIsRefused) {
  open();
  ASSERT_EQ(chmod(path().c_str(), 0000), 0);
  const auto refused = [this] {
    if (geteuid() == 0 && (setegid(65534) != 0 || seteuid(65534) != 0)) return false;
    const auto opened = SqliteConnection::open({.path = path()});
    return !opened && opened.error().kind == ErrorKind::kRefused;
  };
  ASSERT_EQ(chmod(folder_.path().c_str(), 0755), 0);
  EXPECT_TRUE(in_another_process(refused));
  ASSERT_EQ(chmod(path().c_str(), 0444), 0);
  EXPECT_TRUE(in_another_process(refused)) << "it can only be read";
}

TEST_F(Sqlite, TextsBlobsNumbersAndNothingAreKept) {
  const auto connection = open();
  ASSERT_TRUE(connection->execute("CREATE TABLE t (a, b, c, d, e)"));
  auto insert = connection->prepare("INSERT INTO t VALUES (?1, ?2, ?3, ?4, ?5)").value();
  const std::string with_nul("a\0b", 3);
  EXPECT_EQ(
      insert.execute(with_nul, SqliteBlob{with_nul}, INT64_MIN, std::optional<std::string>(), std::string_view())
          .value(),
      1);
  auto select = connection->prepare("SELECT * FROM t").value();
  SqliteRows rows = select.rows();
  ASSERT_TRUE(rows.next().value());
  EXPECT_EQ(rows.text(0), with_nul);
  EXPECT_EQ(rows.text(1), with_nul);
  EXPECT_EQ(rows.integer(2), INT64_MIN);
  EXPECT_TRUE(rows.is_null(3));
  EXPECT_FALSE(rows.is_null(4));
  EXPECT_EQ(rows.optional_text(3), std::nullopt);
  EXPECT_FALSE(rows.next().value());
}

TEST_F(Sqlite, TimesOfOtherWritersAreUtc) {
  const auto expected = parse_rfc3339("2026-01-02T03:04:05.678901Z");
  for (const char* form : {"2026-01-02T03:04:05.678901Z", "2026-01-02T03:04:05.678901", "2026-01-02 03:04:05.678901",
                           "2026-01-02T04:04:05.678901+01:00"}) {
    EXPECT_EQ(parse_sqlite_time(form), expected) << form;
    EXPECT_EQ(text(*open(), fmt::format("SELECT run_recorder_time('{}')", form)), "2026-01-02T03:04:05.678901Z")
        << form;
  }
  EXPECT_EQ(parse_sqlite_time("2026-01-02 03:04:05"), parse_rfc3339("2026-01-02T03:04:05Z"));
  for (const char* none : {"", "yesterday", "2026-01-02", "17"}) EXPECT_FALSE(parse_sqlite_time(none)) << none;
  EXPECT_EQ(text(*open(), "SELECT run_recorder_time('soon') IS NULL AND run_recorder_time(NULL) IS NULL"), "1");
}

TEST_F(Sqlite, ResultCodesAreToldApart) {
  for (const int code : {SQLITE_CONSTRAINT_TRIGGER, SQLITE_CONSTRAINT_CHECK, SQLITE_CONSTRAINT_NOTNULL,
                         SQLITE_CONSTRAINT_UNIQUE, SQLITE_TOOBIG, SQLITE_MISMATCH}) {
    EXPECT_EQ(kind_of_sqlite_code(code), ErrorKind::kData) << code;
  }
  for (const int code :
       {SQLITE_BUSY, SQLITE_BUSY_SNAPSHOT, SQLITE_LOCKED, SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_READONLY,
        SQLITE_CANTOPEN, SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_ERROR, SQLITE_NOMEM, SQLITE_INTERRUPT}) {
    EXPECT_EQ(kind_of_sqlite_code(code), ErrorKind::kUnavailable) << code;
  }
}

TEST_F(Sqlite, AWriterWaitsForAnotherOnlyUntilItsDeadline) {
  const auto holder = open();
  const auto held = SqliteTransaction::begin(*holder, SqliteTransaction::Mode::kWrite);
  ASSERT_TRUE(held);
  const auto waiting = open(50ms);
  waiting->begin_call();
  const auto begun = SqliteTransaction::begin(*waiting, SqliteTransaction::Mode::kWrite);
  ASSERT_FALSE(begun);
  EXPECT_EQ(begun.error().kind, ErrorKind::kUnavailable);
}

TEST_F(Sqlite, AStatementThatWorksTooLongIsStopped) {
  const auto connection = open(50ms);
  connection->begin_call();
  const auto endless =
      connection->execute("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n");
  ASSERT_FALSE(endless);
  EXPECT_EQ(endless.error().kind, ErrorKind::kUnavailable);
  EXPECT_THAT(endless.error().message, HasSubstr("50ms"));
  connection->begin_call();
  EXPECT_TRUE(connection->execute("SELECT 1"));
}

TEST_F(Sqlite, ATransactionThatIsNotCommittedLeavesNothing) {
  const auto connection = open();
  ASSERT_TRUE(connection->execute("CREATE TABLE t (a)"));
  {
    const auto transaction = SqliteTransaction::begin(*connection, SqliteTransaction::Mode::kWrite);
    ASSERT_TRUE(connection->execute("INSERT INTO t VALUES (1)"));
  }
  EXPECT_EQ(text(*connection, "SELECT count(*) FROM t"), "0");
}

TEST_F(Sqlite, AReaderSeesOneStateWhileAnotherWrites) {
  const auto writer = open();
  ASSERT_TRUE(writer->execute("CREATE TABLE t (a); INSERT INTO t VALUES (1)"));
  const auto reader = open();
  const auto reading = SqliteTransaction::begin(*reader, SqliteTransaction::Mode::kRead);
  ASSERT_EQ(text(*reader, "SELECT count(*) FROM t"), "1");
  ASSERT_TRUE(writer->execute("INSERT INTO t VALUES (2)"));
  EXPECT_EQ(text(*reader, "SELECT count(*) FROM t"), "1");
}

TEST_F(Sqlite, AFileThatWasDeletedOrReplacedIsNoticed) {
  const auto connection = open();
  EXPECT_TRUE(connection->check_file());
  std::filesystem::rename(path(), folder_.file("moved.db"));
  EXPECT_EQ(connection->check_file().error().kind, ErrorKind::kUnavailable);
  folder_.write("a.db", "");
  EXPECT_FALSE(connection->check_file());
}

TEST_F(Sqlite, AConnectionThatOnlyReadsCannotWrite) {
  ASSERT_TRUE(open()->execute("CREATE TABLE t (a)"));
  const auto reader = SqliteConnection::open({.path = path(), .read_only = true}).value();
  EXPECT_EQ(text(*reader, "SELECT count(*) FROM t"), "0");
  EXPECT_FALSE(reader->execute("INSERT INTO t VALUES (1)"));
}

// ---- one daemon per file

TEST_F(Sqlite, OneDaemonHoldsAFile) {
  const auto lock = SqliteFileLock::acquire(path());
  ASSERT_TRUE(lock) << lock.error().message;
  const auto again = SqliteFileLock::acquire(path());
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kConflict);
  EXPECT_THAT(again.error().message, HasSubstr(path()));
  EXPECT_TRUE(in_another_process([this] {
    const int fd = ::open(path().c_str(), O_RDWR | O_CLOEXEC);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  }));
  EXPECT_TRUE(SqliteConnection::open({.path = path()})) << "SQLite itself works beside the claim";
}

TEST_F(Sqlite, AClaimEndsWithItsHolder) {
  {
    const auto lock = SqliteFileLock::acquire(path());
    ASSERT_TRUE(lock);
  }
  EXPECT_TRUE(SqliteFileLock::acquire(path()));
}

TEST_F(Sqlite, AClaimOverALinkIsTheSameClaim) {
  const auto lock = SqliteFileLock::acquire(path());
  ASSERT_TRUE(lock);
  std::filesystem::create_symlink(path(), folder_.file("link.db"));
  EXPECT_EQ(SqliteFileLock::acquire(folder_.file("link.db")).error().kind, ErrorKind::kConflict);
}

TEST_F(Sqlite, ASecondClaimDropsNoneOfSqlitesLocks) {
  const auto lock = SqliteFileLock::acquire(path());
  const auto connection = open();
  const auto writing = SqliteTransaction::begin(*connection, SqliteTransaction::Mode::kWrite);
  ASSERT_TRUE(writing);
  const auto writer_is_kept_out = [this] {
    const auto other = SqliteConnection::open({.path = path(), .deadline = 1s});
    return other && !SqliteTransaction::begin(**other, SqliteTransaction::Mode::kWrite);
  };
  EXPECT_TRUE(in_another_process(writer_is_kept_out));
  EXPECT_FALSE(SqliteFileLock::acquire(path()));
  EXPECT_TRUE(SqliteConnection::open({.path = path(), .create = true}));
  EXPECT_TRUE(in_another_process(writer_is_kept_out));
}

}  // namespace run_recorder::testing
