// The numbers of the migrations: docs/decisions/0010-numbers-of-migrations.md.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "store/migrations.h"

namespace run_recorder {
namespace {

using ::testing::ElementsAre;

constexpr int kFirstShared = 7;

// Name and statements, not the comments.
std::vector<std::string> before_shared(std::span<const Migration> migrations) {
  std::vector<std::string> found;
  for (const Migration& migration : migrations) {
    if (migration.version >= kFirstShared) continue;
    std::uint64_t hash = 14'695'981'039'346'656'037U;  // FNV-1a
    for (const std::string& statement : statements_of(migration.sql)) {
      for (const char byte : statement) hash = (hash ^ static_cast<unsigned char>(byte)) * 1'099'511'628'211U;
    }
    found.push_back(fmt::format("{} {:016x}", migration.name, hash));
  }
  return found;
}

std::map<int, std::string_view> shared(std::span<const Migration> migrations) {
  std::map<int, std::string_view> found;
  for (const Migration& migration : migrations) {
    if (migration.version >= kFirstShared) found.emplace(migration.version, migration.name);
  }
  return found;
}

// Databases carry their numbers: what they stand for stays.
TEST(Migrations, OfThePastAreUnchanged) {
  EXPECT_THAT(before_shared(postgresql_migrations()),
              ElementsAre("0001_tables b8a445fcfed6a858", "0002_indexes a76a1979d650a519",
                          "0003_pruned 8517886069e17b38", "0004_event_ids 671d1d39bb4f5313",
                          "0005_job_columns a3ba4a3a721cd69e", "0006_job_index 27f574138e43bdb8"));
  EXPECT_THAT(before_shared(sqlite_migrations()),
              ElementsAre("0001_tables fb43417f6099ed07", "0002_pruned d59e4954b77221eb",
                          "0003_job_columns c2ce78cbcd3219e7"));
}

TEST(Migrations, HaveTheSameNumbersForTheSameChangeSinceThen) {
  const auto postgresql = shared(postgresql_migrations());
  const auto sqlite = shared(sqlite_migrations());
  auto both = postgresql;
  both.insert(sqlite.begin(), sqlite.end());
  int next = kFirstShared;
  for (const auto& [version, name] : both) {
    EXPECT_EQ(version, next++) << name;
    EXPECT_TRUE(name.starts_with(fmt::format("{:04}_", version))) << name;
    // One that has nothing to do for a change leaves its number out.
    if (postgresql.contains(version) && sqlite.contains(version)) {
      EXPECT_EQ(postgresql.at(version), sqlite.at(version));
    }
  }
}

}  // namespace
}  // namespace run_recorder
