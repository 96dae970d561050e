// What a batch is decided from: cached rows, stored ones, and heartbeats by a clock that is given. Against a real
// database.
#include "recorder/event_decider.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json_text.h"
#include "recorder/dead_letter_desk.h"
#include "recorder_fixture.h"

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const std::chrono::steady_clock::time_point kNow{};
constexpr auto kWriteEvery = 10s;

class EventDeciderTest : public RecorderFixture {
 protected:
  explicit EventDeciderTest(RowCacheSize cache = {.bytes = 1 << 20, .open_runs = 1'000})
      : decider_({}, cache, kWriteEvery, liveness_) {}
  void SetUp() override {
    RecorderFixture::SetUp();
    if (IsSkipped()) return;
    store_ = open_new_store();
    ASSERT_TRUE(store_->check_in(self_));
  }
  static std::vector<SpooledEvent> events(const std::vector<std::string>& lines) {
    std::vector<SpooledEvent> made;
    for (const std::string& line : lines) {
      made.push_back(spooled_event(made.size() + 1, line));
      Event& event = made.back().event;
      if (event.worker_pid) event.worker_process = "worker-" + std::to_string(*event.worker_pid);
    }
    return made;
  }
  Decision decide(const std::vector<std::string>& lines, Lookup lookup = Lookup::kCached,
                  std::chrono::steady_clock::time_point now = kNow) {
    return decider_.decide_batch(*store_, events(lines), self_.recorded_by(), lookup, now).value();
  }
  // Decides them and commits what they write.
  void apply(const std::vector<std::string>& lines, std::chrono::steady_clock::time_point now = kNow) {
    Decision decision = decide(lines, Lookup::kCached, now);
    BatchWrite write;
    write.incarnation = self_.incarnation;
    write.from = applied_;
    write.to = applied_ += lines.size();
    take_decision(write, decision);
    ASSERT_EQ(store_->commit(self_, write).value(), Committed::kYes);
    decider_.planned(write, decision.beating, self_.id, now);
  }

  const RecorderSelf self_{"recorder-1", "incarnation-1", "host-1", "0.1.0"};
  Liveness liveness_{1min};
  EventDecider decider_;
  std::unique_ptr<Store> store_;
  std::uint64_t applied_ = 0;
};

TEST_P(EventDeciderTest, NeedsTheDatabaseForRowsThatItDoesNotHave) {
  EXPECT_FALSE(decider_.needs_database(events({line_of("run_started", "r"), line_of("step", "r")})));
  EXPECT_TRUE(decider_.needs_database(events({line_of("step", "r")})));
  apply({line_of("run_started", "r")});
  EXPECT_FALSE(decider_.needs_database(events({line_of("step", "r")})));
  decider_.forget_row("r");
  EXPECT_TRUE(decider_.needs_database(events({line_of("step", "r")})));
}

TEST_P(EventDeciderTest, NeedsTheDatabaseToCompareASecondEnd) {
  apply({line_of("run_started", "r"), line_of("run_completed", "r", R"("result":{"a":1})")});
  EXPECT_TRUE(decider_.needs_database(events({line_of("run_completed", "r", R"("result":{"a":2})")})));
}

TEST_P(EventDeciderTest, ContinuesFromPlannedRows) {
  apply({line_of("run_started", "r")});
  const Decision next = decide({line_of("step", "r")});
  ASSERT_THAT(next.runs, SizeIs(1));
  EXPECT_FALSE(next.runs[0].insert);
  EXPECT_EQ(next.runs[0].after.last_seq, 2);
}

TEST_P(EventDeciderTest, DropsPlannedRowsThatWereNotWritten) {
  apply({line_of("run_started", "r")});
  Decision lost = decide({line_of("step", "r")});
  BatchWrite write;
  take_decision(write, lost);
  decider_.planned(write, {}, self_.id, kNow);
  decider_.not_written(write);
  EXPECT_EQ(decide({line_of("step", "r")}).runs.at(0).after.last_seq, 2);
}

TEST_P(EventDeciderTest, FindsKnownEventsOnlyAmongStoredRows) {
  apply({line_of("run_started", "r"), line_of("step", "r", R"("id":"e1")")});
  const std::vector<std::string> resent{line_of("step", "r", R"("id":"e1")")};
  EXPECT_EQ(decide(resent, Lookup::kCached).duplicate, 0U) << "the unique index tells";
  EXPECT_EQ(decide(resent, Lookup::kStored).duplicate, 1U);
}

TEST_P(EventDeciderTest, LeavesRemovedRunsAlone) {
  apply({line_of("run_started", "r"), line_of("run_completed", "r")});
  const std::vector<std::vector<AgedRow>> chains{store_->aged_chain("r", 10).value()};
  ASSERT_EQ(store_->prune(chains).value().runs, 1U);
  decider_.forget_rows();
  const Decision resent = decide({line_of("run_started", "r")}, Lookup::kStored);
  EXPECT_THAT(resent.runs, IsEmpty());
  EXPECT_EQ(resent.duplicate, 1U);
}

TEST_P(EventDeciderTest, DecidesAHeartbeatInDoubtByItself) {
  apply({line_of("run_started", "r")});
  decider_.doubt_heartbeats();
  const Decision decision = decide({line_of("run_heartbeat", "r")}, Lookup::kCached, kNow + 1s);
  EXPECT_THAT(decision.beats, IsEmpty());
  EXPECT_THAT(decision.beating, ElementsAre("r"));
}

TEST_P(EventDeciderTest, ReturnsTheStoresErrors) {
  execute("ALTER TABLE council_ex_runs RENAME TO gone");
  EXPECT_FALSE(
      decider_.decide_batch(*store_, events({line_of("step", "r")}), self_.recorded_by(), Lookup::kCached, kNow));
}

// ---- open runs: rows of which little is remembered

class OpenRunsOfDecider : public EventDeciderTest {
 protected:
  OpenRunsOfDecider() : EventDeciderTest({.bytes = 0, .open_runs = 1'000}) {}
};

TEST_P(OpenRunsOfDecider, DecidesAnOpenRunsEventsWithoutItsRow) {
  apply({line_of("run_started", "r", R"("council":"nightly","worker_pid":1)")});
  const auto before = store_->find_run("r").value().value();
  ASSERT_EQ(before.worker_process, "worker-1");
  const std::vector<std::string> lines{line_of("step", "r"), line_of("run_completed", "r", R"("result":{"a":1})"),
                                       line_of("late", "r")};
  ASSERT_FALSE(decider_.needs_database(events(lines)));
  apply(lines);
  const auto after = store_->find_run("r").value().value();
  EXPECT_EQ(after.status, Status::kCompleted);
  EXPECT_EQ(after.last_seq, 4);
  EXPECT_EQ(after.council, "nightly");
  EXPECT_EQ(after.worker_process, before.worker_process) << "no event named another";
  EXPECT_EQ(after.host, before.host);
  EXPECT_EQ(after.started_at, before.started_at);
  EXPECT_EQ(after.attempt, before.attempt);
  EXPECT_TRUE(decider_.needs_database(events({line_of("step", "r")}))) << "it is no open run any more";
}

TEST_P(OpenRunsOfDecider, CountsAnOpenRunsEndUnderItsCouncil) {
  apply({line_of("run_started", "r", R"("council":"nightly")")});
  const Decision ends = decide({line_of("run_completed", "r")});
  ASSERT_THAT(ends.runs, SizeIs(1));
  EXPECT_TRUE(ends.runs[0].after.bare);
  EXPECT_TRUE(ends.runs[0].ended);
  EXPECT_FALSE(ends.runs[0].started);
  EXPECT_EQ(ends.runs[0].after.council, "nightly");
  EXPECT_TRUE(ends.runs[0].after.started_at);
}

TEST_P(OpenRunsOfDecider, AnOpenRunsWorkerIsTheOneThatAnEventNames) {
  apply({line_of("run_started", "r", R"("worker_pid":1)")});
  apply({line_of("step", "r", R"("worker_pid":2)")});
  apply({line_of("step", "r")});
  const auto row = store_->find_run("r").value().value();
  EXPECT_EQ(row.status, Status::kRunning);
  EXPECT_EQ(row.last_seq, 3);
  EXPECT_EQ(row.worker_process, "worker-2");
}

TEST_P(OpenRunsOfDecider, LoadsAnOpenRunsRowForWhatDependsOnIt) {
  apply({line_of("run_started", "r", R"("usage":{"tokens":3},"progress":{"done":1},"expires_in":60)")});
  for (const char* more : {R"("usage":{"tokens":4})", R"("progress":{"done":2})"}) {
    EXPECT_TRUE(decider_.needs_database(events({line_of("step", "r", more)}))) << more;
    EXPECT_TRUE(decider_.needs_database(events({line_of("step", "r"), line_of("step", "r", more)}))) << more;
  }
  EXPECT_TRUE(decider_.needs_database(events({line_of("run_started", "r")}))) << "a resend, or a second attempt";
  EXPECT_TRUE(decider_.needs_database(events({line_of("run_heartbeat", "r")})));
  apply({line_of("step", "r"), line_of("step", "r", R"("usage":{"tokens":4})")});
  apply({line_of("run_completed", "r")});
  const auto row = store_->find_run("r").value().value();
  ASSERT_TRUE(row.usage);
  EXPECT_TRUE(json_equal(*row.usage, R"({"tokens":7})"));
  EXPECT_TRUE(row.progress);
  EXPECT_EQ(row.expires_in, 60);
}

TEST_P(OpenRunsOfDecider, AnOpenRunThatAnotherEndedIsRaced) {
  apply({line_of("run_started", "r")});
  execute("UPDATE council_ex_runs SET status = 'completed'");
  Decision decision = decide({line_of("run_completed", "r", R"("result":{"a":1})")});
  BatchWrite write;
  take_decision(write, decision);
  EXPECT_EQ(store_->commit(self_, write).value(), Committed::kRaced);
}

TEST_P(OpenRunsOfDecider, ForgetsAnOpenRunThatHasNoRow) {
  apply({line_of("run_started", "r")});
  execute("DELETE FROM council_ex_run_events");
  execute("DELETE FROM council_ex_runs");
  const Decision decision = decide({line_of("step", "r"), line_of("step", "r", R"("usage":{"tokens":4})")});
  ASSERT_THAT(decision.runs, SizeIs(1));
  EXPECT_TRUE(decision.runs[0].insert);
  EXPECT_EQ(decision.runs[0].after.last_seq, 2);
}

INSTANTIATE_TEST_SUITE_P(Recorder, EventDeciderTest, ::testing::Values(DatabaseKind::kSqlite), name_of);
INSTANTIATE_TEST_SUITE_P(Recorder, OpenRunsOfDecider,
                         ::testing::Values(DatabaseKind::kSqlite, DatabaseKind::kPostgres), name_of);

}  // namespace
}  // namespace run_recorder::testing
