#include "database/sqlite.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "support/temp_folder.h"

namespace run_recorder {
namespace {

using testing::HasSubstr;

// A file with one table of numbers, and what happens to its -wal while it is in use.
class SqliteWal : public testing::Test {
 protected:
  std::unique_ptr<SqliteConnection> open() { return SqliteConnection::open({.path = path_, .create = true}).value(); }
  std::unique_ptr<SqliteConnection> open_first() {
    auto connection = open();
    run(*connection, "CREATE TABLE numbers (number INTEGER)");
    return connection;
  }
  static void run(SqliteConnection& connection, const std::string& sql) {
    const auto done = connection.execute(sql);
    ASSERT_TRUE(done) << done.error().message;
  }
  static void add(SqliteConnection& connection, int number) {
    run(connection, "INSERT INTO numbers VALUES (" + std::to_string(number) + ")");
  }
  static std::string first_text(SqliteConnection& connection, const std::string& sql) {
    auto statement = connection.prepare(sql);
    if (!statement) return statement.error().message;
    auto rows = statement->rows();
    const auto row = rows.next();
    return row ? std::string(rows.text(0)) : row.error().message;
  }
  std::string what_is_there() {
    const auto connection = open();
    EXPECT_EQ(first_text(*connection, "PRAGMA integrity_check"), "ok");
    return first_text(*connection, "SELECT group_concat(number) FROM (SELECT number FROM numbers ORDER BY number)");
  }

  const TempFolder folder_;
  const std::string path_ = folder_.file("numbers.db");
  const std::string wal_ = path_ + "-wal";
};

TEST_F(SqliteWal, StaysTheSameFileInOrdinaryUse) {
  auto first = open_first();
  add(*first, 1);
  auto second = open();
  run(*first, "PRAGMA wal_checkpoint(TRUNCATE)");
  add(*second, 2);
  EXPECT_TRUE(first->check_file());
  EXPECT_TRUE(second->check_file());
  second.reset();
  EXPECT_TRUE(first->check_file());
}

TEST_F(SqliteWal, ThatIsDeletedInUseIsNoticedAndLosesNothing) {
  auto writer = open_first();
  auto reader = open();
  add(*writer, 1);
  ASSERT_TRUE(std::filesystem::remove(wal_));
  add(*writer, 2);  // committed before anybody looked
  EXPECT_FALSE(SqliteConnection::open({.path = path_}));
  const auto checked = writer->check_file();
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().kind, ErrorKind::kUnavailable);
  EXPECT_THAT(checked.error().message, HasSubstr("its -wal was deleted or replaced while it was in use; its content "
                                                 "has been copied"));
  EXPECT_FALSE(reader->check_file());
  writer.reset();
  EXPECT_EQ(what_is_there(), "1,2");  // beside the reader, which still has the old one
  reader.reset();
  EXPECT_EQ(what_is_there(), "1,2");
}

TEST_F(SqliteWal, ThatIsDeletedBeforeAConnectionClosesLosesNothing) {
  auto writer = open_first();
  add(*writer, 1);
  ASSERT_TRUE(std::filesystem::remove(wal_));
  writer.reset();
  EXPECT_EQ(what_is_there(), "1");
}

TEST_F(SqliteWal, ThatWasDeletedNeverOverwritesWhatAnotherConnectionWroteSince) {
  auto old = open_first();
  add(*old, 1);
  run(*old, "PRAGMA wal_checkpoint(FULL)");  // a connection that opens now needs nothing of it
  ASSERT_TRUE(std::filesystem::remove(wal_));
  auto fresh = open();
  for (int number = 2; number <= 9; ++number) add(*fresh, number);
  EXPECT_FALSE(old->check_file());
  EXPECT_TRUE(fresh->check_file());
  fresh.reset();
  old.reset();  // the last one
  EXPECT_EQ(what_is_there(), "1,2,3,4,5,6,7,8,9");
}

}  // namespace
}  // namespace run_recorder
