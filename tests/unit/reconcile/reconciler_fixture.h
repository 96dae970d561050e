// Rows that a Reconciler judges: made by real events, aged by writing older times into them.
#pragma once

#include <atomic>
#include <nlohmann/json.hpp>
#include <set>

#include "reconcile/reconciler.h"
#include "unit/recorder/recorder_fixture.h"

namespace run_recorder::testing {

class ReconcilerFixture : public RecorderFixture {
 protected:
  void SetUp() override;
  void TearDown() override;

  // A run that an event began, `age` ago by the database's clock. more: further members of run_started.
  void put_run(const std::string& run_id, const std::string& more = {}, std::chrono::seconds age = kOld);
  // So many running rows at once, as old, each with these values of worker_process, sender_process, connection and
  // expires_in, as SQL. More than one page of them.
  static constexpr int kMany = 4'500;
  void put_many(const std::string& prefix, const std::string& worker, const std::string& sender,
                const std::string& connection, const std::string& expires_in = "NULL", int rows = kMany) const;
  void age_row(const std::string& run_id, std::chrono::milliseconds age = kOld) const;
  void set_column(const std::string& run_id, const std::string& column, const std::string& value) const;
  // Another recorder that was seen that long ago, and wrote the run last.
  void give_to_other(const std::string& run_id, std::chrono::milliseconds seen_ago) const;

  // The reconciler's clock goes on by so much, at once; not the database's.
  void skip(std::chrono::milliseconds time);

  Reconciler& reconciler();
  PassReport pass(const PassRequest& request = {});
  PassReport boot_like() { return pass({.unvouched = true}); }
  nlohmann::json explain(const std::string& run_id);
  static const ReportedRun* find(const PassReport& report, const std::string& run_id);
  // verdict and reason of a run in a report, "alive" where it is not among the others.
  static std::string found(const PassReport& report, const std::string& run_id);
  static void expect_sums(const PassReport& report);
  nlohmann::json saved_report(const std::string& pass_id) const;

  static constexpr std::chrono::seconds kOld{3'600};
  ReconcilerOptions options_;
  std::atomic<std::chrono::milliseconds> skipped_{};
  std::set<std::string, std::less<>> open_connections_;
  std::unique_ptr<Reconciler> reconciler_;
};

}  // namespace run_recorder::testing
