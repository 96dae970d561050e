// A real spool, a real database and a Recorder between them, that can be stopped, set back and started again.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/url.h"
#include "database/sqlite.h"
#include "recorder/recorder.h"
#include "support/temp_folder.h"

namespace run_recorder::testing {

// GoogleTest's own Test::Run hides the other name inside of a test.
using Row = run_recorder::Run;

inline constexpr std::chrono::seconds kLongest{60};  // a test that waits longer for anything has failed

// Waits for a condition that another thread brings about.
bool eventually(const std::function<bool()>& condition);

class RecorderFixture : public ::testing::TestWithParam<DatabaseKind> {
 protected:
  RecorderFixture();
  void SetUp() override;
  void TearDown() override;

  // ---- the spool
  void open_spool();
  // Makes lines durable as the server would; the first sequence number. told: the recorder gets them from memory too.
  std::uint64_t append(const std::vector<std::string>& lines, bool told = true);
  std::uint64_t append_record(const std::string& body);
  std::filesystem::path spool_path() const { return folder_.path() / "spool"; }
  void copy_spool(const std::string& name) const;
  void restore_spool(const std::string& name) const;

  // ---- the recorder
  void start();
  void stop();
  void restart();  // the whole process, so to speak: a new incarnation of the spool too
  void make_recorder(std::unique_ptr<JobQueue> queue = nullptr);
  // Waits until everything in the spool is applied.
  void settle();
  RecorderStatus status() const { return recorder_->status(); }
  CouncilTotals council(std::string_view name) const;  // zeros where there is none
  void expect_identity() const;
  bool is_away() const;

  // ---- the database
  std::string url() const { return url_; }
  StoreOptions store_options() const;
  std::unique_ptr<Store> open_store() const;
  std::unique_ptr<Store> open_new_store() const;  // makes the tables first
  void execute(const std::string& sql) const;
  std::string query(const std::string& sql) const;
  // From now on no row of the table for which the condition on NEW is true is inserted or updated.
  void refuse_rows(const std::string& table, const std::string& condition) const;
  void accept_rows(const std::string& table) const;
  void copy_database(const std::string& name) const;  // SQLite
  void restore_database(const std::string& name) const;
  // A queue in the form of Oban's Lite engine, in the same database.
  void make_lite_queue() const;
  void put_job(std::int64_t id, const std::string& state, int attempt = 1,
               const std::string& changed_at = "2026-01-01T00:00:00Z") const;
  // The database is gone, or back.
  void hide_database() const;
  void show_database() const;
  Row row(const std::string& run_id) const;
  std::vector<std::string> history(const std::string& run_id) const;  // "seq type effect"
  std::uint64_t count(const std::string& table, const std::string& where = "true") const;

  TempFolder folder_;
  SpoolOptions spool_options_;
  RecorderOptions recorder_options_;
  SpoolOpening opening_;
  std::unique_ptr<Spool> spool_;
  std::unique_ptr<Recorder> recorder_;

 private:
  std::string url_;
};

std::string line_of(const std::string& type, const std::string& run_id, const std::string& more = {});
std::string envelope_of(const std::string& line);

// What append() makes of a line.
SpooledEvent spooled_event(std::uint64_t seq, const std::string& line);

std::string name_of(const ::testing::TestParamInfo<DatabaseKind>& info);

}  // namespace run_recorder::testing
