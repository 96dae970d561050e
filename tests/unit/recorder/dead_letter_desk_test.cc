// Dead letters tried again and removed, in a real database; the recorder's side is the test's.
#include "recorder/dead_letter_desk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recorder_fixture.h"

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Retried = DeadLetterDesk::Retried;

class DeadLetterDeskTest : public RecorderFixture {
 protected:
  void SetUp() override {
    RecorderFixture::SetUp();
    store_ = open_new_store();
    ASSERT_TRUE(store_->check_in(self_));
  }
  // Commits a letter as one that was set aside; its id.
  std::int64_t set_aside(const RecorderSelf& recorder, std::string record) {
    SpooledEvent refused = spooled_event(1, line_of("step", "r", R"("id":"e1")"));
    BatchWrite write;
    write.incarnation = recorder.incarnation;
    write.to = 1;
    write.ledger.dead_letters = 1;
    const Error error{ErrorKind::kData, "not this one", "23514"};
    write.dead_letters.push_back(dead_letter_of(refused, std::move(record), recorder.id, error));
    EXPECT_EQ(store_->commit(recorder, write).value(), Committed::kYes);
    if (recorder.id == self_.id) ledger_ = write.ledger;
    return letter().id;
  }
  std::int64_t set_aside() { return set_aside(self_, envelope_of(line_of("step", "r", R"("id":"e1")"))); }
  DeadLetter letter() const { return open_store()->list_dead_letters(1, {}).value().dead_letters.front(); }
  BatchWrite place() const {
    BatchWrite write;
    write.incarnation = self_.incarnation;
    write.from = write.to = position_;
    write.ledger = ledger_;
    return write;
  }
  DeadLetterDesk desk() {
    return DeadLetterDesk(
        {store_, self_, decider_, [this] { return place(); }, [this](const Ledger& ledger) { ledger_ = ledger; },
         [this](const Error&) { ++lost_; }, [this] { return ++checkpoints_read_, false; },
         [this]() -> Result<std::unique_ptr<Store>> { return open_store(); }, [this](const Error&) { ++counted_; },
         [this](const std::vector<Decision::Conflict>& some) { conflicts_ += some.size(); },
         [this](std::span<const RunChange> changes) { runs_ += changes.size(); }});
  }

  const RecorderSelf self_{"recorder-1", "incarnation-1", "host-1", "0.1.0"};
  Liveness liveness_{1min};
  EventDecider decider_{{}, {.bytes = 1 << 20, .open_runs = 1'000}, 10s, liveness_};
  std::unique_ptr<Store> store_;
  Ledger ledger_;
  std::uint64_t position_ = 1;
  int lost_ = 0;
  int checkpoints_read_ = 0;
  int counted_ = 0;
  std::size_t conflicts_ = 0;
  std::size_t runs_ = 0;
};

TEST_P(DeadLetterDeskTest, ALetterHasTheEventsIdsAndLine) {
  set_aside();
  const DeadLetter found = letter();
  EXPECT_EQ(found.run_id, "r");
  EXPECT_EQ(found.event_id, "e1");
  EXPECT_EQ(found.sqlstate, "23514");
  EXPECT_EQ(found.line, line_of("step", "r", R"("id":"e1")"));
}

TEST_P(DeadLetterDeskTest, AppliesALetterThatIsTakenNow) {
  const std::int64_t id = set_aside();
  EXPECT_EQ(desk().retry(id).value(), Retried::kApplied);
  EXPECT_EQ(ledger_, (Ledger{.applied = 1}));
  EXPECT_THAT(history("r"), ElementsAre("1 step applied"));
  EXPECT_EQ(runs_, 1U);
  EXPECT_EQ(count("dead_letters"), 0U);
  EXPECT_EQ(desk().retry(id).error().kind, ErrorKind::kNotFound);
}

TEST_P(DeadLetterDeskTest, CountsALetterWhoseEventCameAgainAsADuplicate) {
  const std::int64_t first = set_aside();
  ASSERT_EQ(desk().retry(first).value(), Retried::kApplied);
  BatchWrite write = place();
  write.to = position_ = 2;
  write.ledger.dead_letters = ledger_.dead_letters = 1;
  write.dead_letters.push_back(dead_letter_of(spooled_event(2, line_of("step", "r", R"("id":"e1")")),
                                              envelope_of(line_of("step", "r", R"("id":"e1")")), self_.id, {}));
  ASSERT_EQ(store_->commit(self_, write).value(), Committed::kYes);
  EXPECT_EQ(desk().retry(letter().id).value(), Retried::kDuplicate);
  EXPECT_EQ(ledger_, (Ledger{.applied = 1, .duplicate = 1}));
}

TEST_P(DeadLetterDeskTest, KeepsALetterThatIsRefusedAgain) {
  const std::int64_t id = set_aside();
  refuse_rows("run_events", "true");
  EXPECT_EQ(desk().retry(id).value(), Retried::kDead);
  EXPECT_EQ(letter().tries, 2);
  EXPECT_THAT(letter().reason, HasSubstr("not this one"));
  EXPECT_EQ(counted_, 1);
  EXPECT_EQ(lost_, 0);
  EXPECT_EQ(ledger_.dead_letters, 1U);
}

TEST_P(DeadLetterDeskTest, KeepsALetterThatIsNoEvent) {
  EXPECT_EQ(desk().retry(set_aside(self_, "not an envelope")).value(), Retried::kDead);
}

TEST_P(DeadLetterDeskTest, LeavesLettersOfOthersAlone) {
  const RecorderSelf other{"recorder-2", "incarnation-2", "host-2", "0.1.0"};
  ASSERT_TRUE(store_->check_in(other));
  const std::int64_t id = set_aside(other, envelope_of(line_of("step", "r")));
  EXPECT_EQ(desk().retry(id).error().kind, ErrorKind::kConflict);
  EXPECT_EQ(desk().remove(id).error().kind, ErrorKind::kConflict);
  EXPECT_EQ(lost_, 0);
}

TEST_P(DeadLetterDeskTest, ReadsTheCheckpointWhereThePositionIsElsewhere) {
  const std::int64_t id = set_aside();
  position_ = 5;
  EXPECT_EQ(desk().retry(id).error().kind, ErrorKind::kUnavailable);
  EXPECT_EQ(checkpoints_read_, 1);
  EXPECT_EQ(letter().id, id);
}

TEST_P(DeadLetterDeskTest, GivesTheConnectionUpWhereTheStoreFails) {
  const std::int64_t id = set_aside();
  execute("ALTER TABLE council_ex_dead_letters RENAME TO gone");
  EXPECT_FALSE(desk().retry(id));
  EXPECT_FALSE(desk().remove(id));
  EXPECT_EQ(lost_, 2);
}

TEST_P(DeadLetterDeskTest, RemovesALetter) {
  const std::int64_t id = set_aside();
  ASSERT_TRUE(desk().remove(id));
  EXPECT_EQ(ledger_, (Ledger{.dead_letters_removed = 1}));
  EXPECT_EQ(store_->check_in(self_).value().ledger, ledger_);
  EXPECT_EQ(desk().remove(id).error().kind, ErrorKind::kNotFound);
}

INSTANTIATE_TEST_SUITE_P(Recorder, DeadLetterDeskTest, ::testing::Values(DatabaseKind::kSqlite), name_of);

}  // namespace
}  // namespace run_recorder::testing
