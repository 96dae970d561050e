// Whether a database that refused an event takes others: asked of a real one, with triggers that refuse.
#include "recorder/acceptance_probe.h"

#include <gtest/gtest.h>

#include "recorder_fixture.h"

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;

const Refused kRefusedRow{Error{ErrorKind::kData, "not this one"}, true};
const Refused kRefusedChange{Error{ErrorKind::kData, "not this one"}, false};
constexpr const char* kProbes = "NEW.run_id LIKE 'run-recorder-probe%'";

class AcceptanceProbeTest : public RecorderFixture {
 protected:
  void SetUp() override {
    RecorderFixture::SetUp();
    store_ = open_new_store();
    ASSERT_TRUE(store_->check_in(self_));
    place_.incarnation = self_.incarnation;
    reader_ = std::make_unique<BatchReader>(*spool_, 1 << 20, 1 << 20);
    probe_ = std::make_unique<AcceptanceProbe>(*reader_, decider_, health_, liveness_);
    probe_->begin();
  }
  bool takes_others(const Refused& refused, std::uint64_t seq = 1) {
    const auto taken = probe_->takes_others({*store_, self_, place_}, refused, seq);
    EXPECT_TRUE(taken) << taken.error().message;
    EXPECT_EQ(count("runs", "run_id LIKE 'run-recorder-probe%'"), 0U);
    return taken.value();
  }

  const RecorderSelf self_{"recorder-1", "incarnation-1", "host-1", "0.1.0"};
  BatchWrite place_;
  Liveness liveness_{1min};
  EventDecider decider_{{}, {.bytes = 1 << 20, .open_runs = 1'000}, 10s, liveness_};
  DatabaseHealth health_{"sqlite:runs.db"};
  std::unique_ptr<Store> store_;
  std::unique_ptr<BatchReader> reader_;
  std::unique_ptr<AcceptanceProbe> probe_;
};

TEST_P(AcceptanceProbeTest, IsTakenByADatabaseThatRefusesOneEvent) {
  refuse_rows("run_events", "NEW.type = 'poison'");
  EXPECT_TRUE(takes_others(kRefusedRow));
  EXPECT_TRUE(takes_others(kRefusedChange));
}

TEST_P(AcceptanceProbeTest, IsRefusedByADatabaseThatRefusesEverything) {
  refuse_rows("run_events", "true");
  EXPECT_FALSE(takes_others(kRefusedRow));
  EXPECT_EQ(health_.status().errors.size(), 1U);
}

TEST_P(AcceptanceProbeTest, ResemblesTheNewestRunWhereAUsualOneIsRefused) {
  refuse_rows("runs", "NEW.council IS NOT 'ours'");
  EXPECT_FALSE(takes_others(kRefusedRow));
  std::vector<SpooledEvent> started;
  started.push_back(spooled_event(1, line_of("run_started", "r", R"("council":"ours")")));
  auto decision = decider_.decide_each(*store_, std::move(started), self_.recorded_by(), Lookup::kCached).value();
  BatchWrite write = place_;
  write.runs = std::move(decision.runs);
  write.history = std::move(decision.history);
  write.to = 1;
  ASSERT_EQ(store_->commit(self_, write).value(), Committed::kYes);
  place_.from = place_.to = 1;
  EXPECT_TRUE(takes_others(kRefusedRow));
}

TEST_P(AcceptanceProbeTest, CountsEventsOfTheBatchThatWereWrittenInTheSameWay) {
  refuse_rows("runs", kProbes);
  probe_->taken(true, false);
  EXPECT_TRUE(takes_others(kRefusedRow));
  EXPECT_FALSE(takes_others(kRefusedChange));
  probe_->begin();
  EXPECT_FALSE(takes_others(kRefusedRow)) << "those of an earlier batch prove nothing";
}

TEST_P(AcceptanceProbeTest, TriesTheEventsBehindTheRefusedOne) {
  refuse_rows("runs", std::string(kProbes) + " OR NEW.run_id = 'poison'");
  const std::uint64_t refused = append({line_of("run_started", "poison")});
  EXPECT_FALSE(takes_others(kRefusedRow, refused));
  append({line_of("run_started", "r")});
  EXPECT_TRUE(takes_others(kRefusedRow, refused));
  EXPECT_FALSE(takes_others(kRefusedChange, refused)) << "none of them is written as a change";
  EXPECT_EQ(count("runs"), 0U);
}

TEST_P(AcceptanceProbeTest, ProvesNothingAtAnotherPosition) {
  place_.from = place_.to = 7;  // where the position is not
  const auto misplaced = probe_->takes_others({*store_, self_, place_}, kRefusedRow, 1);
  EXPECT_TRUE(misplaced && !misplaced.value());
}

TEST_P(AcceptanceProbeTest, IsProvenForOneBatch) {
  EXPECT_FALSE(probe_->proven());
  probe_->prove();
  EXPECT_TRUE(probe_->proven());
  probe_->begin();
  EXPECT_FALSE(probe_->proven());
}

INSTANTIATE_TEST_SUITE_P(Recorder, AcceptanceProbeTest, ::testing::Values(DatabaseKind::kSqlite), name_of);

}  // namespace
}  // namespace run_recorder::testing
