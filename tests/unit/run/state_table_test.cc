// The table of contract section 3, every cell of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "run_fixture.h"

namespace run_recorder::testing {
namespace {

using ::testing::ElementsAre;
using Before = std::optional<Status>;

// What one event does to one row. Every value is written down here; none is derived by a rule.
struct Expected {
  Before before;
  Status after;
  Effect effect;
  bool conflict = false;
  bool finalized = false;
};
constexpr bool kConflict = true;
constexpr bool kFinalized = true;

struct Cell : Expected {
  std::string name;
  Event event;
};

std::string name_of(Before status) {
  return status ? std::string(to_string(*status)) : "none";
}

void add_row(std::vector<Cell>& cells, const std::string& name, const Event& event,
             const std::vector<Expected>& row) {
  for (const Expected& expected : row) cells.push_back({expected, name + "_on_" + name_of(expected.before), event});
}

// The rows of the fixture say something else than the events here, so every end of a finished run contradicts it.
std::vector<Cell> all_cells() {
  using S = Status;
  using E = Effect;
  const auto none = std::nullopt;
  std::vector<Cell> cells;
  add_row(cells, "queued", queued(),
          {{none, S::kQueued, E::kApplied},
           {S::kQueued, S::kQueued, E::kRecorded},
           {S::kRunning, S::kRunning, E::kRecorded},
           {S::kCompleted, S::kCompleted, E::kRecorded},
           {S::kFailed, S::kFailed, E::kRecorded},
           {S::kCancelled, S::kCancelled, E::kRecorded},
           {S::kStuck, S::kStuck, E::kRecorded}});
  add_row(cells, "started", started(),
          {{none, S::kRunning, E::kApplied},
           {S::kQueued, S::kRunning, E::kApplied},
           {S::kRunning, S::kRunning, E::kRecorded},
           {S::kCompleted, S::kCompleted, E::kConflict, kConflict},
           {S::kFailed, S::kFailed, E::kConflict, kConflict},
           {S::kCancelled, S::kCancelled, E::kConflict, kConflict},
           {S::kStuck, S::kRunning, E::kRevived}});
  add_row(cells, "completed", completed(R"({"n":2})"),
          {{none, S::kCompleted, E::kApplied, false, kFinalized},
           {S::kQueued, S::kCompleted, E::kApplied, false, kFinalized},
           {S::kRunning, S::kCompleted, E::kApplied, false, kFinalized},
           {S::kCompleted, S::kCompleted, E::kConflict, kConflict},
           {S::kFailed, S::kFailed, E::kConflict, kConflict},
           {S::kCancelled, S::kCancelled, E::kConflict, kConflict},
           {S::kStuck, S::kCompleted, E::kRevived, false, kFinalized}});
  add_row(cells, "failed", failed(R"(["other"])"),
          {{none, S::kFailed, E::kApplied, false, kFinalized},
           {S::kQueued, S::kFailed, E::kApplied, false, kFinalized},
           {S::kRunning, S::kFailed, E::kApplied, false, kFinalized},
           {S::kCompleted, S::kCompleted, E::kConflict, kConflict},
           {S::kFailed, S::kFailed, E::kConflict, kConflict},
           {S::kCancelled, S::kCancelled, E::kConflict, kConflict},
           {S::kStuck, S::kFailed, E::kRevived, false, kFinalized}});
  add_row(cells, "cancelled", cancelled(R"([{"kind":"cancelled"}])"),
          {{none, S::kCancelled, E::kApplied, false, kFinalized},
           {S::kQueued, S::kCancelled, E::kApplied, false, kFinalized},
           {S::kRunning, S::kCancelled, E::kApplied, false, kFinalized},
           {S::kCompleted, S::kCompleted, E::kConflict, kConflict},
           {S::kFailed, S::kFailed, E::kConflict, kConflict},
           {S::kCancelled, S::kCancelled, E::kConflict, kConflict},
           {S::kStuck, S::kCancelled, E::kRevived, false, kFinalized}});
  add_row(cells, "other", other(),
          {{none, S::kRunning, E::kApplied},
           {S::kQueued, S::kRunning, E::kApplied},
           {S::kRunning, S::kRunning, E::kRecorded},
           {S::kCompleted, S::kCompleted, E::kRecorded},
           {S::kFailed, S::kFailed, E::kRecorded},
           {S::kCancelled, S::kCancelled, E::kRecorded},
           {S::kStuck, S::kRunning, E::kRevived}});
  add_row(cells, "lost", lost(),
          {{none, S::kStuck, E::kApplied},
           {S::kQueued, S::kStuck, E::kApplied},
           {S::kRunning, S::kStuck, E::kApplied},
           {S::kCompleted, S::kCompleted, E::kRecorded},
           {S::kFailed, S::kFailed, E::kRecorded},
           {S::kCancelled, S::kCancelled, E::kRecorded},
           {S::kStuck, S::kStuck, E::kRecorded}});
  add_row(cells, "heartbeat", heartbeat(),
          {{none, S::kRunning, E::kApplied},
           {S::kQueued, S::kRunning, E::kApplied},
           {S::kStuck, S::kRunning, E::kRevived}});
  return cells;
}

std::vector<Cell> cells_where(bool (*condition)(const Before&)) {
  std::vector<Cell> cells = all_cells();
  std::erase_if(cells, [&](const Cell& cell) { return !condition(cell.before); });
  return cells;
}
bool was_finished(const Before& before) {
  return before && is_finished(*before);
}
bool was_stuck(const Before& before) {
  return before == Status::kStuck;
}

class StateTable : public ::testing::TestWithParam<Cell> {};
class StateTableOfFinishedRuns : public ::testing::TestWithParam<Cell> {};
class StateTableOfStuckRuns : public ::testing::TestWithParam<Cell> {};

TEST_P(StateTable, GivesStatusEffectAndConflict) {
  const Cell& cell = GetParam();
  const std::optional<Row> row = cell.before ? std::optional(row_of(*cell.before)) : std::nullopt;
  const Transition made = apply(row ? &*row : nullptr, cell.event, kRecorder);
  EXPECT_EQ(to_string(made.after.status), to_string(cell.after));
  EXPECT_EQ(made.inserted, !row.has_value());
  EXPECT_EQ(made.finalized, cell.finalized);
  EXPECT_EQ(!made.conflict.empty(), cell.conflict) << made.conflict;
  ASSERT_FALSE(made.history.empty());
  EXPECT_EQ(to_string(made.history.front().effect), to_string(cell.effect));
}

TEST_P(StateTable, KeepsEveryEventInTheHistoryWithTheNextNumber) {
  const Cell& cell = GetParam();
  const std::optional<Row> row = cell.before ? std::optional(row_of(*cell.before)) : std::nullopt;
  const Transition made = apply(row ? &*row : nullptr, cell.event, kRecorder);
  const std::int64_t seq = row ? row->last_seq : 0;
  if (cell.effect == Effect::kRevived) {
    EXPECT_THAT(types_of(made), ElementsAre(cell.event.type, "run_revived"));
    EXPECT_EQ(made.history[1].seq, seq + 2);
    EXPECT_EQ(made.history[1].run_id, "r1");
  } else {
    EXPECT_THAT(types_of(made), ElementsAre(cell.event.type));
  }
  EXPECT_EQ(made.history[0].seq, seq + 1);
  EXPECT_EQ(made.after.last_seq, made.history.back().seq);
}

TEST_P(StateTableOfFinishedRuns, TakesNothingFromAFinishedRun) {
  const Cell& cell = GetParam();
  const Row row = row_of(*cell.before);
  const Transition made = apply(&row, cell.event, kRecorder);
  EXPECT_EQ(made.after.result, row.result);
  EXPECT_EQ(made.after.error, row.error);
  EXPECT_EQ(made.after.finalized_at, row.finalized_at);
  EXPECT_EQ(made.after.started_at, row.started_at);
  EXPECT_FALSE(made.outcome_changed);
}

TEST_P(StateTableOfStuckRuns, ClearsTheFindingWhereTheRunGoesOn) {
  const Cell& cell = GetParam();
  const Row row = row_of(Status::kStuck);
  const Transition made = apply(&row, cell.event, kRecorder);
  EXPECT_EQ(made.after.stuck_pass, "pass-1");
  if (cell.effect != Effect::kRevived) {
    EXPECT_EQ(made.after.error, row.error);
    EXPECT_EQ(made.after.finalized_at, row.finalized_at);
    EXPECT_EQ(made.after.oban_job_state_at_finalize, row.oban_job_state_at_finalize);
    EXPECT_FALSE(made.outcome_changed);
    return;
  }
  EXPECT_TRUE(made.outcome_changed);
  EXPECT_EQ(made.after.oban_job_state_at_finalize, std::nullopt);
  if (made.after.status == Status::kRunning) {
    EXPECT_EQ(made.after.error, std::nullopt);
    EXPECT_EQ(made.after.finalized_at, std::nullopt);
  } else {
    EXPECT_EQ(made.after.finalized_at, kReceived);
  }
}

TEST_P(StateTable, SaysWhoWroteTheRowLast) {
  const Cell& cell = GetParam();
  const std::optional<Row> row = cell.before ? std::optional(row_of(*cell.before)) : std::nullopt;
  const Transition made = apply(row ? &*row : nullptr, cell.event, kRecorder);
  EXPECT_EQ(made.after.recorder, kRecorder.recorder);
  EXPECT_EQ(made.after.sender_process, "m:b:n:20:2");
  EXPECT_EQ(made.after.connection, "i-7");
}

std::string cell_name(const ::testing::TestParamInfo<Cell>& cell) {
  return cell.param.name;
}

INSTANTIATE_TEST_SUITE_P(EveryCell, StateTable, ::testing::ValuesIn(all_cells()), cell_name);
INSTANTIATE_TEST_SUITE_P(EveryCell, StateTableOfFinishedRuns, ::testing::ValuesIn(cells_where(was_finished)),
                         cell_name);
INSTANTIATE_TEST_SUITE_P(EveryCell, StateTableOfStuckRuns, ::testing::ValuesIn(cells_where(was_stuck)), cell_name);

TEST(Statuses, AreActiveOrTerminal) {
  EXPECT_THAT(std::vector(active_statuses().begin(), active_statuses().end()),
              ElementsAre(Status::kQueued, Status::kRunning));
  EXPECT_THAT(std::vector(terminal_statuses().begin(), terminal_statuses().end()),
              ElementsAre(Status::kCompleted, Status::kFailed, Status::kCancelled, Status::kStuck));
}

TEST(Statuses, AreReadBackFromTheirNames) {
  for (const Status status : active_statuses()) EXPECT_EQ(parse_status(to_string(status)), status);
  for (const Status status : terminal_statuses()) EXPECT_EQ(parse_status(to_string(status)), status);
  EXPECT_EQ(parse_status("Running"), std::nullopt);
  EXPECT_EQ(parse_status(""), std::nullopt);
}

TEST(Statuses, OfARunThatEndedAreFinishedButStuckIsNot) {
  EXPECT_TRUE(is_finished(Status::kCompleted));
  EXPECT_TRUE(is_finished(Status::kFailed));
  EXPECT_TRUE(is_finished(Status::kCancelled));
  EXPECT_FALSE(is_finished(Status::kStuck));
  EXPECT_FALSE(is_finished(Status::kQueued));
  EXPECT_FALSE(is_finished(Status::kRunning));
}

// ---- heartbeats that change no status: no entry of the history

TEST(StateTableOfHeartbeats, ARowThatRunsIsRenewedWithoutAnEntry) {
  const Row before = row_of(Status::kRunning);
  const Transition made = apply(&before, heartbeat(), kRecorder);
  EXPECT_EQ(made.after.status, Status::kRunning);
  EXPECT_THAT(made.history, ::testing::IsEmpty());
  EXPECT_EQ(made.after.last_seq, before.last_seq);
  EXPECT_EQ(made.after.connection, "i-7");
  EXPECT_EQ(made.after.sender_process, "m:b:n:20:2");
  EXPECT_EQ(made.after.recorder, kRecorder.recorder);
}

TEST(StateTableOfHeartbeats, AFinishedRowStaysAsItIs) {
  for (const Status status : {Status::kCompleted, Status::kFailed, Status::kCancelled}) {
    const Row before = row_of(status);
    const Transition made = apply(&before, heartbeat(), kRecorder);
    EXPECT_EQ(made.after.status, status);
    EXPECT_THAT(made.history, ::testing::IsEmpty());
    EXPECT_FALSE(made.outcome_changed || made.fields_changed || made.reports_changed);
  }
}

}  // namespace
}  // namespace run_recorder::testing
