#include "store/migrations.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "run/names.h"
#include "store/migrations_data.h"

namespace run_recorder {
namespace {

constexpr std::string_view kPlaceholder = "{{prefix}}";
constexpr std::string_view kOldestDaemon = "-- oldest daemon: ";
constexpr std::string_view kEachByItself = "-- each statement by itself";

std::string_view next_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

std::string_view without_spaces_around(std::string_view line) {
  const std::size_t begin = line.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return line.substr(begin, line.find_last_not_of(" \t\r") + 1 - begin);
}

int leading_number(std::string_view& text) {
  int number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return code == std::errc{} ? number : 0;
}

std::vector<Migration> read_migrations(std::span<const MigrationFile> files) {
  std::vector<Migration> migrations;
  for (const MigrationFile& file : files) {
    Migration migration;
    migration.name = file.name;
    std::string_view digits = file.name;
    migration.version = leading_number(digits);
    migration.sql = file.sql;
    std::string_view rest = file.sql;
    while (rest.starts_with("--")) {
      const std::string_view line = next_line(rest);
      if (line.starts_with(kOldestDaemon))
        migration.oldest_daemon = without_spaces_around(line.substr(kOldestDaemon.size()));
      if (line.starts_with(kEachByItself)) migration.each_by_itself = true;
    }
    migrations.push_back(migration);
  }
  std::sort(migrations.begin(), migrations.end(),
            [](const Migration& a, const Migration& b) { return a.version < b.version; });
  return migrations;
}

}  // namespace

std::span<const Migration> postgresql_migrations() {
  static const std::vector<Migration> migrations = read_migrations(postgresql_migration_files());
  return migrations;
}

std::span<const Migration> sqlite_migrations() {
  static const std::vector<Migration> migrations = read_migrations(sqlite_migration_files());
  return migrations;
}

Result<void> check_table_prefix(std::string_view prefix) {
  if (is_table_prefix(prefix)) return {};
  return Error{ErrorKind::kInvalid,
               fmt::format("invalid table_prefix: must be up to {} letters a to z, digits and _, no digit first",
                           kMaxTablePrefixBytes)};
}

std::string lock_of_migrations(std::string_view prefix) {
  return fmt::format("run-recorder migrations of {}", prefix);
}

std::string with_prefix(std::string_view sql, std::string_view prefix) {
  std::string text;
  text.reserve(sql.size());
  for (;;) {
    const std::size_t found = sql.find(kPlaceholder);
    text += sql.substr(0, found);
    if (found == std::string_view::npos) return text;
    text += prefix;
    sql.remove_prefix(found + kPlaceholder.size());
  }
}

std::vector<std::string> statements_of(std::string_view sql) {
  std::vector<std::string> statements;
  std::string statement;
  while (!sql.empty()) {
    const std::string_view line = next_line(sql);
    const std::string_view words = without_spaces_around(line);
    if (words.empty() || words.starts_with("--")) continue;
    statement += line;
    statement += '\n';
    if (!words.ends_with(';')) continue;
    statement.erase(statement.find_last_of(';'));
    statements.push_back(std::move(statement));
    statement.clear();
  }
  return statements;
}

std::string printed_migrations(std::span<const Migration> migrations, std::string_view prefix) {
  std::string text;
  for (const Migration& migration : migrations) {
    text += fmt::format("-- ---- {}.sql\n{}\n", migration.name, with_prefix(migration.sql, prefix));
    text += fmt::format(
        "INSERT INTO \"{}recorder_schema\" (version, name, applied_at, oldest_daemon)\n"
        "  VALUES ({}, '{}', CURRENT_TIMESTAMP, '{}') ON CONFLICT (version) DO NOTHING;\n\n",
        prefix, migration.version, migration.name, migration.oldest_daemon);
  }
  return text;
}

bool version_less(std::string_view a, std::string_view b) {
  while (!a.empty() || !b.empty()) {
    const int left = leading_number(a);
    const int right = leading_number(b);
    if (left != right) return left < right;
    // What does not go on with a point, as "-rc1", does not count.
    a = a.starts_with('.') ? a.substr(1) : std::string_view();
    b = b.starts_with('.') ? b.substr(1) : std::string_view();
  }
  return false;
}

Result<void> check_schema_age(std::span<const Migration> migrations, int version, std::string_view oldest_daemon) {
  const int newest = migrations.empty() ? 0 : migrations.back().version;
  if (version <= newest || !version_less(RR_VERSION, oldest_daemon)) return {};
  return Error{ErrorKind::kRefused,
               fmt::format("the database has schema {} of a newer run-recorder, and this one is {} (schema {}): "
                           "install {} or later",
                           version, RR_VERSION, newest, oldest_daemon)};
}

}  // namespace run_recorder
