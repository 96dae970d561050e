// What one transaction is decided from: events, rows and known ids in, changes out; and what is kept in memory for
// it.
#include "recorder/decision.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "recorder/row_cache.h"

namespace run_recorder::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Row = run_recorder::Run;

SpooledEvent spooled(std::uint64_t seq, EventKind kind, std::string run_id, std::optional<std::string> id = {}) {
  SpooledEvent made;
  made.seq = seq;
  made.event.kind = kind;
  made.event.type = "event" + std::to_string(seq);
  made.event.run_id = std::move(run_id);
  made.event.id = std::move(id);
  made.bytes = 100;
  return made;
}

std::vector<std::uint64_t> seqs_of(const std::vector<SpooledEvent>& events) {
  std::vector<std::uint64_t> seqs;
  for (const SpooledEvent& event : events) seqs.push_back(event.seq);
  return seqs;
}

struct Rows {
  std::map<std::string, Row, std::less<>> rows;
  const Row* operator()(std::string_view run_id) const {
    const auto found = rows.find(run_id);
    return found == rows.end() ? nullptr : &found->second;
  }
};

Row stored(std::string run_id, Status status, std::int64_t last_seq) {
  Row row;
  row.run_id = std::move(run_id);
  row.status = status;
  row.last_seq = last_seq;
  return row;
}

// ---- decide

TEST(Decide, MakesOneChangePerRunOfAllItsEvents) {
  const std::vector<SpooledEvent> events{spooled(1, EventKind::kQueued, "a"), spooled(2, EventKind::kStarted, "b"),
                                         spooled(3, EventKind::kStarted, "a"),
                                         spooled(4, EventKind::kCompleted, "a")};
  const Decision decision = decide(events, Rows{}, {}, {"rec"});
  ASSERT_EQ(decision.runs.size(), 2U);
  EXPECT_EQ(decision.runs[0].after.run_id, "a");
  EXPECT_EQ(decision.runs[0].after.status, Status::kCompleted);
  EXPECT_EQ(decision.runs[0].after.last_seq, 3);
  EXPECT_EQ(decision.runs[0].expected_last_seq, 0);
  EXPECT_TRUE(decision.runs[0].insert);
  EXPECT_TRUE(decision.runs[0].fields_changed) << "the start gave started_at";
  EXPECT_TRUE(decision.runs[0].outcome_changed);
  EXPECT_EQ(decision.runs[1].after.status, Status::kRunning);
  EXPECT_FALSE(decision.runs[1].outcome_changed);
  EXPECT_EQ(decision.applied, 4U);
  EXPECT_EQ(decision.history.size(), 4U);
  EXPECT_THAT(decision.finalized, ElementsAre("a"));
}

// Of the one run's change: whether it started, and whether it ended.
std::pair<bool, bool> life_by(const Rows& rows, const std::vector<EventKind>& kinds) {
  std::vector<SpooledEvent> events;
  for (const EventKind kind : kinds) events.push_back(spooled(events.size() + 1, kind, "a"));
  const Decision decision = decide(events, rows, {}, {"rec"});
  EXPECT_EQ(decision.runs.size(), 1U);
  return {decision.runs.at(0).started, decision.runs.at(0).ended};
}

TEST(Decide, SaysWhetherARunStartedOrEnded) {
  using enum EventKind;
  const std::pair neither{false, false}, start{true, false}, end{false, true}, both{true, true};
  EXPECT_EQ(life_by({}, {kQueued}), neither);
  EXPECT_EQ(life_by({}, {kQueued, kStarted}), start);
  EXPECT_EQ(life_by({}, {kStarted, kFailed}), both);
  EXPECT_EQ(life_by({}, {kCompleted}), end);
  EXPECT_EQ(life_by({}, {kStarted, kLost}), both);
  EXPECT_EQ(life_by({}, {kStarted, kLost, kOther}), start) << "it goes on";
  EXPECT_EQ(life_by({}, {kStarted, kLost, kCompleted}), both) << "as its row is written, once";

  Row started = stored("a", Status::kRunning, 1);
  started.started_at = Timestamp{};
  const Rows running{{{"a", started}}};
  EXPECT_EQ(life_by(running, {kOther}), neither);
  EXPECT_EQ(life_by(running, {kStarted}), neither) << "once more";
  EXPECT_EQ(life_by(running, {kCompleted, kOther}), end);

  const Rows stuck{{{"a", stored("a", Status::kStuck, 2)}}};
  EXPECT_EQ(life_by(stuck, {kLost}), neither) << "as it is";
  EXPECT_EQ(life_by(stuck, {kOther}), neither);
  EXPECT_EQ(life_by(stuck, {kCompleted}), end);
  const Rows completed{{{"a", stored("a", Status::kCompleted, 2)}}};
  EXPECT_EQ(life_by(completed, {kFailed}), neither) << "a conflict";
}

TEST(Decide, ExpectsTheRowAsItWasGiven) {
  const Rows rows{{{"a", stored("a", Status::kRunning, 7)}}};
  const std::vector<SpooledEvent> events{spooled(1, EventKind::kOther, "a"), spooled(2, EventKind::kOther, "a")};
  const Decision decision = decide(events, rows, {}, {"rec"});
  EXPECT_EQ(decision.runs[0].expected_last_seq, 7);
  EXPECT_EQ(decision.runs[0].after.last_seq, 9);
  EXPECT_FALSE(decision.runs[0].insert);
  EXPECT_FALSE(decision.runs[0].fields_changed);
}

TEST(Decide, LeavesOutWhatTheHistoryHasAlready) {
  const Rows rows{{{"a", stored("a", Status::kRunning, 1)}}};
  const std::vector<SpooledEvent> events{spooled(1, EventKind::kStarted, "a", "e1")};
  const Decision decision = decide(events, rows, {{"a", "e1"}}, {"rec"});
  EXPECT_EQ(decision.duplicate, 1U);
  EXPECT_EQ(decision.applied, 0U);
  EXPECT_THAT(decision.runs, IsEmpty());
  EXPECT_THAT(decision.history, IsEmpty());
}

TEST(Decide, TellsResendsByRunAndId) {
  const std::vector<SpooledEvent> events{
      spooled(1, EventKind::kOther, "a", "e1"), spooled(2, EventKind::kOther, "b", "e1"),
      spooled(3, EventKind::kOther, "a", "e1"), spooled(4, EventKind::kOther, "a", "e2"),
      spooled(5, EventKind::kOther, "a"),       spooled(6, EventKind::kOther, "a")};
  const Decision decision = decide(events, Rows{}, {}, {"rec"});
  EXPECT_EQ(decision.applied, 5U);
  EXPECT_EQ(decision.duplicate, 1U);
}

TEST(Decide, GivesARevivedRunBothEntriesAndGoesOnAfterThem) {
  const Rows rows{{{"a", stored("a", Status::kStuck, 2)}}};
  const std::vector<SpooledEvent> events{spooled(1, EventKind::kOther, "a"), spooled(2, EventKind::kCompleted, "a")};
  const Decision decision = decide(events, rows, {}, {"rec"});
  std::vector<std::int64_t> seqs;
  for (const HistoryEntry& entry : decision.history) seqs.push_back(entry.seq);
  EXPECT_THAT(seqs, ElementsAre(3, 4, 5));
  EXPECT_EQ(decision.applied, 2U);
  EXPECT_EQ(decision.runs[0].after.last_seq, 5);
}

TEST(Decide, ReportsConflicts) {
  const Rows rows{{{"a", stored("a", Status::kCompleted, 2)}}};
  const std::vector<SpooledEvent> events{spooled(1, EventKind::kStarted, "a")};
  const Decision decision = decide(events, rows, {}, {"rec"});
  ASSERT_EQ(decision.conflicts.size(), 1U);
  EXPECT_EQ(decision.conflicts[0].run_id, "a");
  EXPECT_EQ(decision.conflicts[0].type, "event1");
  EXPECT_FALSE(decision.conflicts[0].what.empty());
}

TEST(Decide, ComparesATerminalEventWithTheTextsOfItsRowByWhatTheDatabaseSays) {
  Row row = stored("a", Status::kCompleted, 2);
  row.result = JsonColumn::not_loaded();
  const Rows rows{{{"a", row}}};
  std::vector<SpooledEvent> events{spooled(1, EventKind::kCompleted, "a"), spooled(2, EventKind::kCompleted, "a")};
  for (SpooledEvent& spooled : events) spooled.event.result = "1";
  const Decision decision = decide(events, rows, {}, {"rec"}, {}, {{1, {.result = true}}, {2, {.result = false}}});
  ASSERT_EQ(decision.conflicts.size(), 1U);
  EXPECT_EQ(decision.conflicts[0].type, "event2");
  EXPECT_FALSE(decision.runs[0].after.result.loaded()) << "so that it is left as it is";
}

// ---- FreshEvents

std::vector<SpooledEvent> fresh(std::uint64_t first, std::uint64_t last) {
  std::vector<SpooledEvent> events;
  for (std::uint64_t seq = first; seq <= last; ++seq) events.push_back(spooled(seq, EventKind::kOther, "r"));
  return events;
}

TEST(FreshEvents, GivesWhatFollowsWithoutAGap) {
  FreshEvents events(1 << 20);
  events.add(fresh(5, 7));
  events.add(fresh(9, 9));
  EXPECT_THAT(seqs_of(events.take(5, 100, 1 << 20)), ElementsAre(5, 6, 7));
  EXPECT_THAT(events.take(8, 100, 1 << 20), IsEmpty());
  EXPECT_THAT(seqs_of(events.take(9, 100, 1 << 20)), ElementsAre(9));
}

TEST(FreshEvents, ForgetsWhatLiesBefore) {
  FreshEvents events(1 << 20);
  events.add(fresh(1, 9));
  EXPECT_THAT(seqs_of(events.take(8, 100, 1 << 20)), ElementsAre(8, 9));
  EXPECT_THAT(events.take(1, 100, 1 << 20), IsEmpty());
}

TEST(FreshEvents, StopsAtTheLimitsButGivesTheFirstWhateverItsSize) {
  FreshEvents events(1 << 20);
  events.add(fresh(1, 9));
  EXPECT_THAT(seqs_of(events.take(1, 2, 1 << 20)), ElementsAre(1, 2));
  EXPECT_THAT(seqs_of(events.take(3, 100, 200)), ElementsAre(3, 4));
  EXPECT_THAT(seqs_of(events.take(5, 100, 1)), ElementsAre(5));
}

TEST(FreshEvents, TakesNoMoreThanItMayHoldAndGoesOnLater) {
  FreshEvents events(2'000);  // room for two
  events.add(fresh(1, 9));
  EXPECT_THAT(seqs_of(events.take(1, 100, 1 << 20)), ElementsAre(1, 2));
  events.add(fresh(10, 10));
  EXPECT_THAT(events.take(3, 100, 1 << 20), IsEmpty()) << "the rest is in the spool";
  EXPECT_THAT(seqs_of(events.take(10, 100, 1 << 20)), ElementsAre(10));
}

// ---- RowCache

TEST(RowCache, FindsWhatWasPutLast) {
  RowCache cache(1 << 20, 0);
  EXPECT_EQ(cache.find("a"), nullptr);
  cache.put(stored("a", Status::kQueued, 1));
  cache.put(stored("a", Status::kRunning, 2));
  ASSERT_NE(cache.find("a"), nullptr);
  EXPECT_EQ(cache.find("a")->last_seq, 2);
  cache.erase("a");
  cache.erase("a");
  EXPECT_EQ(cache.find("a"), nullptr);
}

TEST(RowCache, ForgetsTheOldestFirst) {
  RowCache cache(10 * 2 * sizeof(Row), 0);
  for (int i = 0; i < 20; ++i) cache.put(stored("r" + std::to_string(i), Status::kRunning, 1));
  EXPECT_EQ(cache.find("r0"), nullptr);
  EXPECT_NE(cache.find("r19"), nullptr);
  cache.put(stored("r15", Status::kRunning, 2));
  for (int i = 20; i < 25; ++i) cache.put(stored("r" + std::to_string(i), Status::kRunning, 1));
  EXPECT_NE(cache.find("r15"), nullptr) << "it was put again lately";
  cache.clear();
  EXPECT_EQ(cache.find("r15"), nullptr);
}

TEST(RowCache, KeepsRowsOfAnySizeWithoutTheirTexts) {
  RowCache cache(1 << 20, 0);
  Row row = stored("a", Status::kRunning, 1);
  row.input = std::string(20'000'000, ' ');
  cache.put(row);
  ASSERT_NE(cache.find("a"), nullptr);
  EXPECT_TRUE(cache.find("a")->input);
  EXPECT_FALSE(cache.find("a")->input.loaded());
  EXPECT_FALSE(cache.find("a")->result);
  EXPECT_TRUE(cache.find("a")->result.loaded()) << "there is none, and that is known";
}

TEST(RowCache, DoesNotKeepRowsThatNoEventCouldMakeNorTheirOlderForm) {
  RowCache cache(1 << 20, 0);
  Row row = stored("a", Status::kRunning, 1);
  cache.put(row);
  row.council = std::string(20'000, ' ');
  row.last_seq = 2;
  cache.put(row);
  EXPECT_EQ(cache.find("a"), nullptr);
}

TEST(RowCache, RemembersOpenRunsThatItHasNoRoomFor) {
  RowCache cache(0, 10);
  Row row = stored("a", Status::kRunning, 1);
  row.started_at = parse_rfc3339("2026-03-01T12:00:00Z");
  cache.put(row);
  EXPECT_EQ(cache.find("a"), nullptr);
  ASSERT_TRUE(cache.find_open("a"));
  row.bare = true;
  row.last_seq = 2;
  cache.put(row);
  EXPECT_EQ(cache.find_open("a")->last_seq, 2);
  row.status = Status::kCompleted;
  cache.put(row);
  EXPECT_FALSE(cache.find_open("a"));
}

TEST(RowCache, OutdatedRowsAreOpenRunsOnly) {
  RowCache cache(1 << 20, 10);
  Row row = stored("a", Status::kRunning, 3);
  row.started_at = parse_rfc3339("2026-03-01T12:00:00Z");
  cache.put(row);
  cache.outdate("a");
  cache.outdate("a");
  EXPECT_EQ(cache.find("a"), nullptr);
  ASSERT_TRUE(cache.find_open("a"));
  EXPECT_EQ(cache.find_open("a")->last_seq, 3);
  cache.erase("a");
  EXPECT_FALSE(cache.find_open("a"));
}

TEST(RowCache, OfSizeZeroKeepsNothing) {
  RowCache cache(0, 0);
  cache.put(stored("a", Status::kRunning, 1));
  EXPECT_EQ(cache.find("a"), nullptr);
}

}  // namespace
}  // namespace run_recorder::testing
