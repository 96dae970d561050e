// What the retention reads and removes.
#include <gmock/gmock.h>

#include "conformance_fixture.h"

namespace run_recorder::testing {

namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

using StorePrune = StoreConformance;
INSTANTIATE_TEST_SUITE_P(Databases, StorePrune, all_backends(), name_of);

run_recorder::Run finished(std::string run_id, std::optional<std::string> parent = {}) {
  auto run = running(std::move(run_id));
  run.status = Status::kCompleted;
  run.parent_attempt_run_id = std::move(parent);
  return run;
}

std::vector<std::string> ids(const std::vector<AgedRow>& rows) {
  std::vector<std::string> all;
  for (const AgedRow& row : rows) all.push_back(row.run_id);
  return all;
}

DeadLetter letter(std::string run_id) {
  DeadLetter letter;
  letter.recorder = "recorder-1";
  letter.run_id = std::move(run_id);
  letter.record = "record";
  return letter;
}

}  // namespace

TEST_P(StorePrune, AgedRowsAreOldestFirstInPagesWithTheirAges) {
  for (const char* id : {"c", "a", "b"}) store_run(finished(id));
  database().set_time("runs", "inserted_at", at("2020-01-01T00:00:00Z"), "run_id IN ('a', 'b')");
  database().set_time("runs", "last_event_at", now() - 2h, "run_id = 'a'");
  const auto first = store().aged_rows(now() + 1h, 1, "").value();
  ASSERT_THAT(ids(first.rows), ElementsAre("a"));
  EXPECT_GE(first.rows[0].age, 2h);
  EXPECT_LT(first.rows[0].age, 3h);
  EXPECT_EQ(first.rows[0].last_seq, 1);
  EXPECT_EQ(first.rows[0].status, Status::kCompleted);
  EXPECT_FALSE(first.rows[0].linked || first.rows[0].dead_letter);
  const auto rest = store().aged_rows(now() + 1h, 5, first.next).value();
  EXPECT_THAT(ids(rest.rows), ElementsAre("b", "c"));
  EXPECT_LT(rest.rows[1].age, 1h);
  EXPECT_EQ(rest.next, "");
  EXPECT_THAT(ids(store().aged_rows(at("2021-01-01T00:00:00Z"), 5, "").value().rows), ElementsAre("a", "b"));
  EXPECT_EQ(store().aged_rows(now(), 5, "nonsense").error().kind, ErrorKind::kInvalid);
}

TEST_P(StorePrune, AStuckRunIsAsOldAsTheFindingHoweverLongItWasSilentBefore) {
  for (const char* id : {"marked", "lost", "ended"}) store_run(running(id));
  const StuckMark mark{"marked", 1, R"({"kind":"stuck"})", std::nullopt};
  ASSERT_THAT(store().mark_stuck(self_, "pass", {&mark, 1}).value(), ElementsAre("marked"));
  // As a sender's own finding is written: its time is the sender's word, the writing's is the database's.
  auto lost = update(loaded("lost"), false, true);
  lost.after.status = Status::kStuck;
  lost.after.finalized_at = at("2020-01-01T00:00:00Z");
  commit(batch({lost}, {entry("lost", 2, "run_lost")}));
  auto ended = update(loaded("ended"), false, true);
  ended.after.status = Status::kCompleted;
  commit(batch({ended}, {entry("ended", 2, "run_completed")}));
  database().set_time("runs", "inserted_at", at("2020-01-01T00:00:00Z"), "true");
  database().set_time("runs", "last_event_at", now() - 2'000h, "true");
  const auto rows = store().aged_rows(now() - 1h, 5, "").value().rows;
  ASSERT_THAT(ids(rows), UnorderedElementsAre("marked", "lost", "ended"));
  for (const AgedRow& row : rows) {
    EXPECT_EQ(row.age < 1h, row.status == Status::kStuck) << row.run_id;
    EXPECT_EQ(store().aged_chain(row.run_id, 5).value().at(0).age < 1h, row.status == Status::kStuck) << row.run_id;
  }
  database().set_time("runs", "updated_at", now() - 100h, "run_id = 'marked'");
  const auto later = store().aged_chain("marked", 5).value().at(0).age;
  EXPECT_GE(later, 100h);
  EXPECT_LT(later, 101h);
}

TEST_P(StorePrune, AChainIsFoundFromAnyOfItsRunsInBothForms) {
  store_run(finished("root"));
  store_run(finished("second", "root"));
  store_run(finished("third", "second"));
  store_run(finished("other", "root"));
  store_run(finished("alone"));
  for (const char* from : {"root", "second", "third", "other"}) {
    EXPECT_THAT(ids(store().aged_chain(from, 100).value()), UnorderedElementsAre("root", "second", "third", "other"));
  }
  const auto rows = store().aged_rows(now() + 1h, 10, "").value().rows;
  for (const AgedRow& row : rows) EXPECT_EQ(row.linked, row.run_id != "alone") << row.run_id;
  EXPECT_THAT(ids(store().aged_chain("alone", 100).value()), ElementsAre("alone"));
  EXPECT_THAT(store().aged_chain("nobody", 100).value(), IsEmpty());
}

TEST_P(StorePrune, RemovesRowsWithTheirHistoryAndRemembersThem) {
  store_run(finished("a"));
  store_event("a");
  store_run(finished("b"));
  const Pruned pruned = store().prune({{store().aged_chain("a", 10).value()}}).value();
  EXPECT_EQ(pruned.runs, 1U);
  EXPECT_EQ(pruned.events, 2U);
  EXPECT_FALSE(store().find_run("a").value());
  EXPECT_EQ(history_size("a"), 0U);
  EXPECT_EQ(history_size("b"), 1U);
  EXPECT_THAT(store().pruned(std::vector<std::string>{"a", "b", "c"}).value(), ElementsAre("a"));
  EXPECT_EQ(store().prune({}).value().runs, 0U);
}

TEST_P(StorePrune, NothingOfAChainGoesThatMovedSinceItWasRead) {
  store_run(finished("root"));
  store_run(finished("child", "root"));
  store_run(finished("alone"));
  const std::vector<std::vector<AgedRow>> chains{store().aged_chain("root", 10).value(),
                                                 store().aged_chain("alone", 10).value()};
  store_event("child");
  EXPECT_EQ(store().prune(chains).value().runs, 1U);
  EXPECT_TRUE(store().find_run("root").value() && store().find_run("child").value());
  EXPECT_FALSE(store().find_run("alone").value());
}

TEST_P(StorePrune, AnActiveRunADeadLetterOrAChildOutsideKeepTheChain) {
  store_run(running("active"));
  store_run(finished("lettered"));
  auto write = batch({}, {});
  write.dead_letters = {letter("lettered")};
  write.ledger.dead_letters = 1;
  commit(write);
  store_run(finished("parent"));
  const auto parent_alone = store().aged_chain("parent", 10).value();
  store_run(finished("new-child", "parent"));
  EXPECT_EQ(store().prune({{store().aged_chain("active", 10).value()}}).value().runs, 0U);
  const auto lettered = store().aged_chain("lettered", 10).value();
  EXPECT_TRUE(lettered[0].dead_letter);
  EXPECT_EQ(store().prune({{lettered}}).value().runs, 0U);
  EXPECT_EQ(store().prune({{parent_alone}}).value().runs, 0U);
  EXPECT_EQ(store().prune({{store().aged_chain("parent", 10).value()}}).value().runs, 2U);
}

TEST_P(StorePrune, NoRowIsInsertedForARemovedRunUntilItIsForgotten) {
  store_run(finished("a"));
  ASSERT_EQ(store().prune({{store().aged_chain("a", 10).value()}}).value().runs, 1U);
  EXPECT_EQ(try_commit(batch({insert(running("a")), insert(running("b"))}, {entry("a", 1), entry("b", 1)})),
            Committed::kRaced);
  EXPECT_EQ(history_size("a") + history_size("b"), 0U) << "nothing of the batch was written";
  EXPECT_EQ(store().forget_pruned(1h, 10).value(), 0U);
  database().set_time("pruned", "pruned_at", now() - 2h, "run_id = 'a'");
  EXPECT_EQ(store().forget_pruned(1h, 10).value(), 1U);
  EXPECT_THAT(store().pruned(std::vector<std::string>{"a"}).value(), IsEmpty());
  EXPECT_EQ(try_commit(batch({insert(running("a"))}, {entry("a", 1)})), Committed::kYes);
}

TEST_P(StorePrune, ForgettingIsBounded) {
  for (const char* id : {"a", "b", "c"}) {
    store_run(finished(id));
    ASSERT_EQ(store().prune({{store().aged_chain(id, 10).value()}}).value().runs, 1U);
  }
  database().set_time("pruned", "pruned_at", now() - 2h, "true");
  EXPECT_EQ(store().forget_pruned(1h, 2).value(), 2U);
  EXPECT_EQ(store().forget_pruned(1h, 2).value(), 1U);
}

TEST_P(StorePrune, ListIsBoundedByUntil) {
  for (const char* id : {"a", "b"}) store_run(finished(id));
  database().set_time("runs", "inserted_at", at("2026-01-02T10:00:00Z"), "run_id = 'a'");
  database().set_time("runs", "inserted_at", at("2026-01-02T11:00:00Z"), "run_id = 'b'");
  RunFilter filter;
  filter.until = at("2026-01-02T11:00:00Z");
  EXPECT_THAT(ids_of(store().list_runs(filter).value().runs), ElementsAre("a"));
  filter.until = at("2026-01-02T11:00:00.000001Z");
  EXPECT_THAT(ids_of(store().list_runs(filter).value().runs), ElementsAre("b", "a"));
  filter.since = at("2026-01-02T10:30:00Z");
  EXPECT_THAT(ids_of(store().list_runs(filter).value().runs), ElementsAre("b"));
}

}  // namespace run_recorder::testing
