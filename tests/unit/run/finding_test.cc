// The part of the state table that no event asks for.
#include "run/finding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "run_fixture.h"

namespace run_recorder::testing {
namespace {

using ::testing::ElementsAre;

TEST(StuckTransition, WritesTheFindingAndOneEntry) {
  const BulkTransition to = stuck_transition();
  EXPECT_EQ(to.status, Status::kStuck);
  EXPECT_EQ(to.outcome, Write::kGiven);
  EXPECT_EQ(to.finalized_at, Write::kNow);
  EXPECT_EQ(to.last_event_at, Write::kKeep) << "a finding is no event";
  EXPECT_EQ(to.seq_step, 1);
  EXPECT_EQ(to.type, "run_stuck");
  EXPECT_EQ(to.effect, Effect::kApplied);
}

TEST(UndoTransition, ReturnsToTheStatusTheRunHad) {
  for (const Status status : active_statuses()) {
    const UndoTransition to = undo_transition(status, "pass-1");
    EXPECT_EQ(to.status, status);
    EXPECT_EQ(to.outcome, Write::kClear);
    EXPECT_EQ(to.finalized_at, Write::kClear);
    EXPECT_EQ(to.last_event_at, Write::kNow) << "the grace begins anew";
    EXPECT_EQ(to.seq_step, 1);
    EXPECT_EQ(to.type, "run_revived");
    EXPECT_EQ(to.effect, Effect::kRevived);
  }
  EXPECT_EQ(undo_transition(Status::kQueued, "pass-1").payload,
            R"({"from":"stuck","to":"queued","by":"undo","pass_id":"pass-1"})");
  EXPECT_EQ(undo_transition(Status::kRunning, "p\"").payload,
            R"({"from":"stuck","to":"running","by":"undo","pass_id":"p\""})");
}

TEST(StuckError, OfAPassNamesIt) {
  EXPECT_EQ(stuck_error({.reason = "process_gone", .message = "a \"b\"", .pass_id = "p", .evidence = R"({"n":1})"}),
            R"({"kind":"stuck","reason":"process_gone","message":"a \"b\"","pass_id":"p","evidence":{"n":1}})");
}

TEST(StuckError, OfASenderHasTheSameFormWithoutAPass) {
  EXPECT_EQ(stuck_error({.reason = "reported_lost", .message = "gone"}),
            R"({"kind":"stuck","reason":"reported_lost","message":"gone","evidence":{}})");
  const Row running = row_of(Status::kRunning);
  EXPECT_EQ(apply(&running, lost("gone"), kRecorder).after.error.text(),
            stuck_error({.reason = "reported_lost", .message = "gone"}));
}

TEST(RevivedPayload, NamesThePassWhereOneFoundTheRun) {
  EXPECT_EQ(revived_payload(Status::kCompleted, "run_completed", "pass-1"),
            R"({"from":"stuck","to":"completed","by":"run_completed","pass_id":"pass-1"})");
  EXPECT_EQ(revived_payload(Status::kRunning, "run_started", std::nullopt),
            R"({"from":"stuck","to":"running","by":"run_started","pass_id":null})");
}

TEST(Statuses, AreActiveFinishedOrStuck) {
  EXPECT_THAT(active_statuses(), ElementsAre(Status::kQueued, Status::kRunning));
  EXPECT_THAT(finished_statuses(), ElementsAre(Status::kCompleted, Status::kFailed, Status::kCancelled));
  EXPECT_THAT(terminal_statuses(),
              ElementsAre(Status::kCompleted, Status::kFailed, Status::kCancelled, Status::kStuck));
}

}  // namespace
}  // namespace run_recorder::testing
