// What senders say of a run beyond the contract's columns: queue, job_id, expires_in, usage, progress; and events
// that leave no entry in the history.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "base/json_text.h"
#include "conformance_fixture.h"

namespace run_recorder::testing {

namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

using StoreColumns = StoreConformance;
INSTANTIATE_TEST_SUITE_P(Databases, StoreColumns, all_backends(), name_of);

run_recorder::Run reporting(std::string run_id) {
  auto run = running(std::move(run_id));
  run.queue = "e-mail";
  run.job_id = "9f8c\t\\N";
  run.expires_in = 2'678'400;
  run.usage = R"({"input_tokens":12345678901234567890,"cost_usd":0.10})";
  run.progress = R"({"done":3,"total":10,"unit":"rows"})";
  return run;
}

void expect_same_json(const std::optional<JsonText>& stored, const std::optional<JsonText>& written) {
  ASSERT_EQ(stored.has_value(), written.has_value());
  if (stored) {
    EXPECT_TRUE(json_equal(*stored, *written)) << *stored << " is not " << *written;
  }
}

void expect_same_reports(const run_recorder::Run& run, const run_recorder::Run& written) {
  EXPECT_EQ(run.queue, written.queue);
  EXPECT_EQ(run.job_id, written.job_id);
  EXPECT_EQ(run.expires_in, written.expires_in);
  expect_same_json(run.usage, written.usage);
  expect_same_json(run.progress, written.progress);
}

// An update that may fill every group of columns.
RunChange with_reports(run_recorder::Run before, bool fields = false, bool outcome = false) {
  RunChange change = update(std::move(before), fields, outcome);
  change.reports_changed = true;
  return change;
}

// What a heartbeat changes: no entry, and the version stays.
RunChange beat(run_recorder::Run before) {
  RunChange change;
  change.after = std::move(before);
  change.expected_last_seq = change.after.last_seq;
  return change;
}

}  // namespace

TEST_P(StoreColumns, AreReadBackByEveryQuery) {
  const Run written = reporting("r");
  store_run(written);
  expect_same_reports(stored("r"), written);
  expect_same_reports(loaded("r"), written);
  expect_same_reports(store().list_runs({}).value().runs.at(0), written);
  expect_same_reports(chain("r").at(0), written);
  expect_same_reports(store().whole_runs(1, "").value().runs.at(0).run, written);
}

TEST_P(StoreColumns, AreNullUntilAnEventNamesThem) {
  store_run(running("r"));
  store_event("r");
  expect_same_reports(stored("r"), Run());
  expect_same_reports(loaded("r"), Run());
  EXPECT_EQ(database().query("SELECT count(*) FROM council_ex_runs WHERE queue IS NULL AND job_id IS NULL AND "
                             "expires_in IS NULL AND usage IS NULL AND progress IS NULL"),
            "1");
}

TEST_P(StoreColumns, RowsWithAndWithoutOptionalColumnsGoInOneBatch) {
  Run with = reporting("with");
  Run without = running("without");
  with.last_seq = without.last_seq = 1;
  commit(batch({insert(without), insert(with)}, {entry("with", 1), entry("without", 1)}));
  expect_same_reports(stored("with"), with);
  expect_same_reports(stored("without"), Run());
  Run later = loaded("without");
  later.usage = R"({"pages":1})";
  commit(batch({update(loaded("with")), with_reports(later)}, {entry("with", 2), entry("without", 2)}));
  expect_same_reports(stored("with"), with);
  expect_same_json(stored("without").usage, later.usage);
}

TEST_P(StoreColumns, AnUpdateWritesOnlyTheGroupThatChanged) {
  const Run first = reporting("r");
  store_run(first);
  Run other = loaded("r");
  other.queue = "other";
  other.job_id = "8";
  other.expires_in = 1;
  other.usage = R"({"input_tokens":1})";
  other.progress = R"({"done":4})";

  commit(batch({update(other)}, {entry("r", 2)}));
  expect_same_reports(stored("r"), first);
  other.last_seq = 2;
  commit(batch({update(other, false, true)}, {entry("r", 3)}));
  expect_same_reports(stored("r"), first);

  other.last_seq = 3;
  commit(batch({with_reports(other)}, {entry("r", 4)}));
  Run reports = first;
  reports.expires_in = other.expires_in;
  reports.usage = other.usage;
  reports.progress = other.progress;
  expect_same_reports(stored("r"), reports);

  other.last_seq = 4;
  commit(batch({update(other, true)}, {entry("r", 5)}));
  expect_same_reports(stored("r"), other);
}

TEST_P(StoreColumns, EveryGroupCanChangeAtOnce) {
  store_run(running("r"));
  Run other = reporting("r");
  other.last_seq = 1;
  other.council = "other";
  other.status = Status::kCompleted;
  other.result = R"({"pages":2})";
  other.finalized_at = at("2026-01-02T03:04:06Z");
  commit(batch({with_reports(other, true, true)}, {entry("r", 2)}));
  const Run run = stored("r");
  expect_same_reports(run, other);
  EXPECT_EQ(run.council, "other");
  EXPECT_EQ(run.finalized_at, other.finalized_at);
  EXPECT_TRUE(json_equal(*run.result, *other.result));
}

TEST_P(StoreColumns, AFinishedRunsUsageGoesOn) {
  Run run = running("r");
  run.status = Status::kFailed;
  store_run(run);
  run.last_seq = 1;
  run.usage = R"({"input_tokens":5})";
  commit(batch({with_reports(run)}, {entry("r", 2)}));
  expect_same_json(stored("r").usage, run.usage);
}

TEST_P(StoreColumns, AHeartbeatRenewsTheTimesAndLeavesVersionAndHistory) {
  store_run(running("r"));
  const Timestamp old = at("2020-01-01T00:00:00Z");
  for (const char* column : {"updated_at", "last_event_at"}) database().set_time("runs", column, old, "1 = 1");
  const Timestamp before = now();
  RunChange change = beat(loaded("r"));
  change.after.connection = "c-2";
  commit(batch({change}, {}));
  const Run run = stored("r");
  EXPECT_EQ(run.last_seq, 1);
  EXPECT_EQ(run.connection, "c-2");
  EXPECT_GE(*run.updated_at, before);
  EXPECT_GE(*run.last_event_at, before);
  EXPECT_LE(*run.last_event_at, now());
  EXPECT_THAT(history("r"), SizeIs(1));

  change.after.expires_in = 60;
  change.after.progress = R"({"done":1})";
  change.reports_changed = true;
  commit(batch({change}, {}));
  EXPECT_EQ(stored("r").expires_in, 60);
  expect_same_json(stored("r").progress, change.after.progress);
  EXPECT_EQ(stored("r").last_seq, 1);
}

TEST_P(StoreColumns, AHeartbeatOfARowThatMovedOrEndedIsRaced) {
  store_run(running("moved"));
  const RunChange late = beat(loaded("moved"));
  store_event("moved");
  EXPECT_EQ(try_commit(batch({late}, {})), Committed::kRaced);

  Run done = running("done");
  done.status = Status::kCompleted;
  store_run(done);
  RunChange revives = beat(loaded("done"));
  revives.after.status = Status::kRunning;
  EXPECT_EQ(try_commit(batch({revives}, {})), Committed::kRaced);
  EXPECT_EQ(try_commit(batch({beat(running("nobody"))}, {})), Committed::kRaced);
  EXPECT_EQ(stored("done").status, Status::kCompleted);
}

// Of a row that was not loaded, only that it is a running one.
RunChange bare(const run_recorder::Run& row) {
  Run known;
  known.run_id = row.run_id;
  known.council = row.council;
  known.status = Status::kRunning;
  known.started_at = row.started_at;
  known.last_seq = row.last_seq;
  known.recorder = "recorder-1";
  known.bare = true;
  return update(std::move(known), false, true);
}

TEST_P(StoreColumns, ABareRowKeepsWhatItWasNotLoadedWith) {
  Run written = reporting("r");
  written.worker_process = "worker-1";
  written.sender_process = "sender-1";
  written.host = "host-9";
  written.input = R"({"a":1})";
  store_run(written);
  RunChange step = bare(loaded("r"));
  step.outcome_changed = false;
  step.after.sender_process = "sender-2";
  step.after.connection = "c-2";
  RunChange end = step;
  commit(batch({step}, {entry("r", 2)}));
  end.after.status = Status::kCompleted;
  end.after.result = R"({"b":2})";
  end.after.finalized_at = at("2026-01-02T04:04:05Z");
  end.outcome_changed = true;
  end.expected_last_seq = 2;
  end.after.last_seq = 3;
  end.after.sender_process.clear();
  commit(batch({end}, {entry("r", 3)}));
  const Run row = stored("r");
  EXPECT_EQ(row.status, Status::kCompleted);
  EXPECT_EQ(row.worker_process, "worker-1");
  EXPECT_EQ(row.sender_process, "");
  EXPECT_EQ(row.connection, "c-2");
  EXPECT_EQ(row.host, "host-9");
  EXPECT_EQ(row.last_seq, 3);
  EXPECT_EQ(row.attempt, written.attempt);
  EXPECT_EQ(row.started_at, written.started_at);
  EXPECT_TRUE(json_equal(*row.input, R"({"a":1})"));
  EXPECT_TRUE(json_equal(*row.result, R"({"b":2})"));
  expect_same_reports(row, written);
}

TEST_P(StoreColumns, ABareRowsWorkerIsTheOneThatAnEventNamed) {
  Run written = running("r");
  written.worker_process = "worker-1";
  store_run(written);
  RunChange step = bare(loaded("r"));
  step.after.worker_process = "worker-2";
  commit(batch({step}, {entry("r", 2)}));
  EXPECT_EQ(stored("r").worker_process, "worker-2");
  RunChange whole = update(loaded("r"));
  whole.after.worker_process.clear();
  commit(batch({whole}, {entry("r", 3)}));
  EXPECT_EQ(stored("r").worker_process, "") << "a whole row has what it says";
}

// Steps, ends and changes of other columns take different ways in PostgreSQL.
TEST_P(StoreColumns, OneBatchHasUpdatesOfEveryKind) {
  for (const char* run_id : {"bare", "end", "fail", "fields", "reports", "step", "stuck"})
    store_run(reporting(run_id));
  const std::string odd = "a \"quoted\" \\ {b,c} NULL \n ü 😀 'x'";
  std::vector<RunChange> changes;
  changes.push_back(bare(loaded("bare")));
  changes.back().outcome_changed = false;
  changes.push_back(update(loaded("step")));
  changes.back().after.connection = odd;
  changes.back().after.worker_process = odd;
  changes.push_back(update(loaded("end"), false, true));
  changes.back().after.status = Status::kCompleted;
  changes.back().after.result = fmt::format(R"({{"text":{},"n":1.50}})", json_string(odd));
  changes.back().after.finalized_at = at("9999-12-31T23:59:59.999999Z");
  changes.back().after.oban_job_state_at_finalize = odd;
  changes.push_back(update(loaded("fail"), false, true));
  changes.back().after.status = Status::kFailed;
  changes.back().after.error = R"({"errors":["x"]})";
  changes.back().after.finalized_at = at("0001-01-01T00:00:00Z");
  changes.push_back(update(loaded("stuck"), false, true));
  changes.back().after.status = Status::kStuck;
  changes.back().after.stuck_pass = "pass-1";
  changes.push_back(update(loaded("fields"), true, true));
  changes.back().after.council = odd;
  changes.push_back(with_reports(loaded("reports")));
  changes.back().after.usage = R"({"pages":1})";
  std::vector<HistoryEntry> history;
  for (const RunChange& change : changes) history.push_back(entry(change.after.run_id, 2));
  const BatchWrite write = batch(changes, history);
  const auto prepared = store().prepare(self_, write);
  ASSERT_EQ(store().commit(self_, write, {prepared.get(), nullptr}).value(), Committed::kYes);

  EXPECT_EQ(stored("bare").last_seq, 2);
  EXPECT_EQ(stored("step").connection, odd);
  EXPECT_EQ(stored("step").worker_process, odd);
  EXPECT_EQ(stored("step").status, Status::kRunning);
  const Run end = stored("end");
  EXPECT_EQ(end.status, Status::kCompleted);
  EXPECT_TRUE(json_equal(*end.result, *changes[2].after.result)) << *end.result;
  EXPECT_FALSE(end.error);
  EXPECT_EQ(end.finalized_at, at("9999-12-31T23:59:59.999999Z"));
  EXPECT_EQ(end.oban_job_state_at_finalize, odd);
  const Run fail = stored("fail");
  EXPECT_TRUE(json_equal(*fail.error, R"({"errors":["x"]})"));
  EXPECT_FALSE(fail.result);
  EXPECT_EQ(fail.finalized_at, at("0001-01-01T00:00:00Z"));
  EXPECT_EQ(stored("stuck").stuck_pass, "pass-1");
  EXPECT_FALSE(stored("stuck").finalized_at);
  EXPECT_EQ(stored("fields").council, odd);
  expect_same_json(stored("reports").usage, R"({"pages":1})");
  for (const RunChange& change : changes) {
    const Run row = stored(change.after.run_id);
    EXPECT_EQ(row.last_seq, 2) << row.run_id;
    EXPECT_EQ(row.started_at, at("2026-01-02T03:04:05Z")) << row.run_id;
    EXPECT_EQ(row.queue, "e-mail") << row.run_id;
  }
}

TEST_P(StoreColumns, OneUpdateOfMovedRowsLeavesAllAlone) {
  for (const char* run_id : {"end", "step"}) store_run(running(run_id));
  const RunChange step = update(loaded("step"));
  RunChange end = update(loaded("end"), false, true);
  end.after.status = Status::kCompleted;
  store_event("end");
  EXPECT_EQ(try_commit(batch({step, end}, {entry("step", 2), entry("end", 2)})), Committed::kRaced);
  EXPECT_EQ(stored("step").last_seq, 1);
  EXPECT_EQ(stored("end").status, Status::kRunning);
}

TEST_P(StoreColumns, ABareRowThatIsNotRunningIsRaced) {
  for (const Status status : {Status::kCompleted, Status::kStuck, Status::kQueued}) {
    const std::string run_id(to_string(status));
    Run row = running(run_id);
    row.status = status;
    store_run(row);
    RunChange end = bare(loaded(run_id));
    end.after.status = Status::kCompleted;
    EXPECT_EQ(try_commit(batch({end}, {entry(run_id, 2)})), Committed::kRaced) << run_id;
    EXPECT_EQ(stored(run_id).status, status);
  }
}

TEST_P(StoreColumns, ARunningRowBringsWhatVerdictsNeed) {
  const Run written = reporting("r");
  store_run(written);
  const RunningRow row = store().running_rows("", 1, {{}, now() + 1h}).value().at(0);
  EXPECT_EQ(row.run.queue, written.queue);
  EXPECT_EQ(row.run.job_id, written.job_id);
  EXPECT_EQ(row.run.expires_in, written.expires_in);
  EXPECT_EQ(row.run.started_at, written.started_at);
  EXPECT_FALSE(row.run.usage || row.run.progress);
}

TEST_P(StoreColumns, RowsAreFoundByJobAndByQueue) {
  const auto put = [this](const char* id, std::optional<std::string> queue, std::optional<std::string> job,
                          std::optional<std::int64_t> number) {
    Run run = running(id);
    run.queue = std::move(queue);
    run.job_id = std::move(job);
    run.oban_job_id = number;
    store_run(run);
  };
  put("number", "a", "7", 7);
  put("application", std::nullopt, std::nullopt, 7);
  put("text", "a", "seven", std::nullopt);
  put("zero", std::nullopt, "07", std::nullopt);
  put("default", "default", "x", std::nullopt);
  put("no-job", std::nullopt, std::nullopt, std::nullopt);
  const auto by_job = [this](const char* job) {
    RunFilter filter;
    filter.job = job;
    return ids_of(store().list_runs(filter).value().runs);
  };
  EXPECT_THAT(by_job("7"), UnorderedElementsAre("number", "application"));
  EXPECT_THAT(by_job("seven"), ElementsAre("text"));
  EXPECT_THAT(by_job("07"), ElementsAre("zero"));
  EXPECT_THAT(by_job("9223372036854775808"), IsEmpty());
  EXPECT_THAT(by_job("it's ?"), IsEmpty());
  const auto by_queue = [this](const char* queue) {
    RunFilter filter;
    filter.queue = queue;
    return ids_of(store().list_runs(filter).value().runs);
  };
  EXPECT_THAT(by_queue("a"), UnorderedElementsAre("number", "text"));
  EXPECT_THAT(by_queue("default"), UnorderedElementsAre("application", "zero", "default"));
  EXPECT_THAT(by_queue("b"), IsEmpty());
}

TEST_P(StoreColumns, LargeUsagesEndAPage) {
  Run run = running("x");
  run.usage = fmt::format(R"({{"{:x<4000}":1}})", "x");
  constexpr int kRows = 600;  // 2.4 MB; a page ends in the part of it that exceeds 1 MiB
  std::vector<RunChange> changes;
  std::vector<HistoryEntry> entries;
  for (int i = 0; i < kRows; ++i) {
    run.run_id = fmt::format("r{:03}", i);
    run.last_seq = 1;
    changes.push_back(insert(run));
    entries.push_back(entry(run.run_id, 1));
  }
  commit(batch(std::move(changes), std::move(entries)));
  RunFilter filter;
  filter.limit = 1'000;
  const RunPage page = store().list_runs(filter).value();
  EXPECT_LT(page.runs.size(), kRows);
  EXPECT_NE(page.next, "");
  const WholePage whole = store().whole_runs(1'000, "").value();
  EXPECT_LT(whole.runs.size(), kRows);
  EXPECT_NE(whole.next, "");
}

TEST_P(StoreColumns, AreMovedWithWholeRows) {
  Run written = reporting("r");
  written.inserted_at = written.updated_at = written.last_event_at = at("2026-01-02T00:00:00.5Z");
  ASSERT_TRUE(insert_one(store(), written, {}).value());
  expect_same_reports(stored("r"), written);
  written.run_id = "part";
  ASSERT_TRUE(store().insert_row(written).value());
  expect_same_reports(stored("part"), written);
}

}  // namespace run_recorder::testing
