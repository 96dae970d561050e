// One pass of the reconciliation: reads rows in pages, gathers the evidence of each, waits until everything that was
// sent by then is applied, judges, marks, reports (contract section 6). For the thread that makes it.
//
// Rows of which the same is known, but for their age, are looked at together first: where many share a worker, a
// sender and a connection that are alive, one look decides all of them, and only the others are read.
//
// The order is what keeps it from marking a run that has just ended: a page is read, then its processes and jobs are
// checked, then everything that could be read from the event socket at that moment is applied, then rows that have
// not moved since are marked.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/liveness.h"
#include "process/ended_processes.h"
#include "reconcile/evidence.h"
#include "reconcile/pass_report.h"
#include "reconcile/plan.h"
#include "reconcile/reconciler_options.h"
#include "recorder/recorder.h"

namespace run_recorder {

// The connections of a pass. A part that is not open yet is opened when it is needed.
struct PassConnections {
  std::unique_ptr<Store> store;
  std::unique_ptr<Store> reader;  // the next page is read while this one is marked
  std::unique_ptr<Store> second;  // where many rows are marked
  std::unique_ptr<JobQueue> queue;
};

// What a pass has of its reconciler, which outlives it.
struct PassHost {
  const ReconcilerOptions& options;
  Recorder& recorder;
  GoneSince& gone;
  std::function<bool()> stopping;
  std::function<void(const PassReport&)> progress;  // between two pages
};

// Options for the evidence by now, from a database that is connected. Also for explain.
EvidenceOptions evidence_options(const PassHost& host, const ReconcilePolicy& policy, Store& store);
// The rules by now.
Rules rules_now(const PassHost& host, const ReconcilePolicy& policy, const Plan& plan);

// What everything answers that the daemon's stop interrupts.
Error stopping_error();

class Pass {
 public:
  Pass(const PassHost& host, Plan plan, const ReconcilePolicy& policy, PassConnections& connections,
       Liveness& liveness)
      : host_(host), plan_(std::move(plan)), policy_(policy), connections_(connections), liveness_(liveness) {}

  // Waits until everything that was received by now is applied: a request at most 10 s. kUnavailable.
  Result<void> wait_until_applied();
  // kUnavailable.
  Result<void> connect();

  // From the lease to the report. released: the lease has been given back, the report is about to be saved. Errors:
  // the store's, kConflict (another daemon has the lease), kUnavailable (the daemon is stopping).
  Result<PassReport> run(std::string pass_id, const std::function<void()>& released);
  // Gives the lease back where run() failed.
  void give_up();
  PassTrigger trigger() const { return plan_.trigger; }
  const PassReport& report() const { return report_; }
  // Of a pass over all rows that ended well: they were counted, where that was possible.
  const std::optional<std::map<Status, std::uint64_t>>& runs_by_status() const { return runs_by_status_; }

  // The rows it judged and deferred, by name; empty: they were too many.
  std::optional<std::vector<std::string>> take_deferred();
  // How many rows it left because this daemon accepts events for less than the grace.
  std::uint64_t deferred_for_listening() const { return deferred_for_listening_; }

  // Instead of run(), for what ended: which of its rows would be marked, and which ends have rows that have to wait.
  // Errors as those of run().
  struct Ended {
    std::vector<std::string> stuck;
    std::vector<ProcessEnd> again;
  };
  Result<Ended> check_ended(std::span<const ProcessEnd> ends);

 private:
  using Steady = std::chrono::steady_clock::time_point;
  static constexpr std::size_t kNamedRows = 1'000;  // that one statement asks for
  // Rows and what is known of each.
  struct Page {
    std::vector<RunningRow> rows;
    std::vector<RowFacts> facts;
    Steady gathered_at{};  // before the evidence was
  };
  using ReadRows = std::function<Result<std::vector<RunningRow>>(Store&, std::string_view after)>;

  Steady now() const { return host_.options.clock(); }
  void prepare_evidence();
  Result<void> save();
  Result<void> begin(std::string pass_id);
  Result<void> check_breaker();
  Result<void> finish(const std::function<void()>& released);
  void read_for_metrics();
  Result<void> renew_lease();
  Result<void> scan(bool mark);
  Result<void> scan_window(const EventWindow& window, bool mark);
  Result<void> scan_running(const EventWindow& window, bool mark);
  // Counts the groups of rows that are alive whatever else is known of their rows: these are not read one by one.
  Result<RunningGroups> settle_groups(const EventWindow& window);
  Result<void> scan_pages(const ReadRows& read, bool mark);
  Result<void> scan_named(bool mark);
  Page gather(std::vector<RunningRow> rows);
  std::vector<Verdict> judge_all(const Page& page) const;
  Result<void> judge_page(const Page& page, bool mark);
  // Everything that could have been read or accepted by now is applied. False: not everything was read in time.
  Result<bool> pass_read_barrier();
  Result<std::set<std::string>> unmoved(const Page& page, std::span<const Verdict> verdicts);
  Result<void> mark_page(const Page& page, std::span<const Verdict> verdicts);
  Result<void> mark(std::span<const StuckMark> marks, std::set<std::string>& marked);
  void count_page(const Page& page, std::span<const Verdict> verdicts, const std::set<std::string>& found, bool mark);
  void sort_out(const Page& page, Ended& ended, std::map<std::string, std::chrono::milliseconds>& waits) const;
  void defer(const RunningRow& row, const RowFacts& facts);
  bool has_beaten_since(const RunningRow& row, Steady when) const;
  void log_row(const RunningRow& row, const Verdict& verdict);
  void log_summary() const;

  const PassHost& host_;
  const Plan plan_;
  const ReconcilePolicy policy_;
  PassConnections& connections_;
  Liveness& liveness_;
  PassReport report_;
  std::string recorder_;  // whose own rows it judges
  std::unique_ptr<EvidenceGatherer> evidence_;
  bool future_is_old_ = false;
  bool leased_ = false;
  Steady lease_renewed_{};
  std::optional<std::map<Status, std::uint64_t>> runs_by_status_;
  std::vector<std::string> deferred_;
  bool too_many_deferred_ = false;
  std::uint64_t deferred_for_listening_ = 0;
  std::uint64_t logged_ = 0;
  std::map<std::pair<std::string, std::string>, std::uint64_t> unlogged_;  // (council, reason) -> rows
};

}  // namespace run_recorder
