// Rows that move from one database to another.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "conformance_fixture.h"

namespace run_recorder::testing {

namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using StoreMove = StoreConformance;
INSTANTIATE_TEST_SUITE_P(Databases, StoreMove, both_databases(), name_of);

run_recorder::Run whole(std::string run_id, std::int64_t last_seq) {
  auto run = running(std::move(run_id));
  run.inserted_at = run.updated_at = at("2026-01-02T00:00:00.5Z");
  run.last_seq = last_seq;
  run.input = R"({"exact":12345678901234567890.5})";
  return run;
}

std::vector<StoredEvent> entries(const std::string& run_id, std::int64_t first, std::int64_t last) {
  std::vector<StoredEvent> events;
  for (std::int64_t seq = first; seq <= last; ++seq) {
    StoredEvent& event = events.emplace_back();
    event.entry = entry(run_id, seq);
    event.entry.event_id = fmt::format("e{}", seq);
    event.inserted_at = at("2026-01-02T00:00:01Z");
    event.recorder = "elsewhere";
  }
  return events;
}

DeadLetter letter_of(std::string recorder) {
  DeadLetter letter;
  letter.recorder = std::move(recorder);
  letter.run_id = "line\n\\.";
  letter.record = std::string("\0\1\xff'\\", 5);
  letter.line = "{}";
  letter.inserted_at = at("2026-01-02T00:00:00.123456Z");
  return letter;
}

RecorderRow recorder_of(std::string id, std::uint64_t letters) {
  RecorderRow row;
  row.self = {std::move(id), "now", "host", "0.1.0"};
  row.first_seen = at("2026-01-01T00:00:00Z");
  row.last_seen = at("2026-01-02T00:00:00Z");
  row.checkpoint.ledger = {
      .applied = 7, .duplicate = 2, .dead_letters = letters, .dead_letters_removed = 3, .conflicts = 1};
  row.checkpoint.applied = {{"before", 5}, {"now", 12}};
  return row;
}

}  // namespace

TEST_P(StoreMove, WholeRowsComeOldestFirstPageByPage) {
  for (const char* id : {"b", "a", "c|d"}) {
    auto run = whole(id, 0);
    if (run.run_id == "b") run.inserted_at = at("2026-01-01T00:00:00Z");
    ASSERT_TRUE(insert_one(store(), run, {}).value());
  }
  std::vector<std::string> ids;
  std::string cursor;
  do {
    const WholePage page = store().whole_runs(2, cursor).value();
    for (const WholeRun& one : page.runs) {
      ids.push_back(one.run.run_id);
      EXPECT_THAT(*one.run.input, HasSubstr("12345678901234567890.5"));
      EXPECT_THAT(store().whole_runs(9, one.place).value().runs, SizeIs(3 - ids.size()));
    }
    cursor = page.next;
  } while (!cursor.empty());
  EXPECT_THAT(ids, ElementsAre("b", "a", "c|d"));
}

TEST_P(StoreMove, WholeRowsPagesAreBoundedByBytes) {
  const std::string large = fmt::format("{{\"text\":\"{}\"}}", std::string(400'000, 'x'));
  for (int i = 0; i < 10; ++i) {
    auto run = whole(fmt::format("r{}", i), 0);
    run.input = run.result = run.error = large;
    ASSERT_TRUE(insert_one(store(), run, {}).value());
  }
  std::size_t runs = 0;
  std::string cursor;
  do {
    const WholePage page = store().whole_runs(100, cursor).value();
    EXPECT_LE(page.runs.size(), 2U);
    runs += page.runs.size();
    cursor = page.next;
  } while (!cursor.empty());
  EXPECT_EQ(runs, 10U);
}

TEST_P(StoreMove, ARowComesWithItsHistoryOrNotAtAll) {
  EXPECT_TRUE(insert_one(store(), whole("r", 3), entries("r", 1, 3)).value());
  EXPECT_FALSE(insert_one(store(), whole("r", 0), {}).value());
  EXPECT_EQ(history_size("r"), 3U);
  auto twice = entries("s", 1, 2);
  twice.back().entry.event_id = "e1";
  EXPECT_EQ(insert_one(store(), whole("s", 2), twice).error().kind, ErrorKind::kData);
  EXPECT_FALSE(store().find_run("s").value());
  EXPECT_EQ(history_size("s"), 0U);
}

TEST_P(StoreMove, SeveralRowsComeInOneTransactionWithoutThoseThatAreThere) {
  ASSERT_TRUE(insert_one(store(), whole("there", 1), entries("there", 1, 1)).value());
  ASSERT_TRUE(store().insert_history("part", entries("part", 1, 1)));
  const PrunedRun removed[] = {{"z", at("2026-01-02T00:00:00Z")}};
  ASSERT_EQ(store().insert_pruned(removed).value(), 1U);
  const std::vector<MovedRun> runs{{whole("z", 2), entries("z", 1, 2)},
                                   {whole("there", 2), entries("there", 1, 2)},
                                   {whole("part", 2), entries("part", 1, 2)},
                                   {whole("none", 0), {}},
                                   {whole("a", 3), entries("a", 1, 3)}};
  EXPECT_THAT(store().insert_whole(runs).value(), ElementsAre(true, false, false, true, true));
  EXPECT_EQ(history_size("z"), 2U);
  EXPECT_EQ(history_size("a"), 3U);
  EXPECT_EQ(history_size("there"), 1U);
  EXPECT_EQ(history_size("part"), 1U);
  EXPECT_FALSE(store().find_run("part").value());
  EXPECT_THAT(store().list_pruned(9, "").value().runs, IsEmpty());
  EXPECT_THAT(store().insert_whole({}).value(), IsEmpty());
}

TEST_P(StoreMove, OneRowThatIsRefusedKeepsAllOthersOfItsTransactionOut) {
  auto twice = entries("bad", 1, 2);
  twice.back().entry.event_id = "e1";
  const std::vector<MovedRun> runs{
      {whole("a", 1), entries("a", 1, 1)}, {whole("bad", 2), twice}, {whole("c", 0), {}}};
  EXPECT_EQ(store().insert_whole(runs).error().kind, ErrorKind::kData);
  EXPECT_FALSE(store().find_run("a").value());
  EXPECT_FALSE(store().find_run("c").value());
  EXPECT_EQ(history_size("a"), 0U);
}

TEST_P(StoreMove, ALargeHistoryComesInPartsAndThenItsRow) {
  ASSERT_TRUE(store().insert_history("r", entries("r", 1, 2)));
  EXPECT_FALSE(store().find_run("r").value());
  EXPECT_FALSE(insert_one(store(), whole("r", 4), entries("r", 1, 4)).value());
  EXPECT_EQ(store().insert_history("r", entries("r", 2, 3)).error().kind, ErrorKind::kData);
  EXPECT_EQ(history_size("r"), 2U);
  const auto early = store().insert_row(whole("r", 4));
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(early.error().message, HasSubstr("1 to last_seq (4)"));
  ASSERT_TRUE(store().insert_history("r", entries("r", 3, 4)));
  EXPECT_EQ(store().insert_row(whole("r", 3)).error().kind, ErrorKind::kInvalid);
  EXPECT_TRUE(store().insert_row(whole("r", 4)).value());
  EXPECT_FALSE(store().insert_row(whole("r", 4)).value());
  EXPECT_EQ(last_seq("r"), 4);
  EXPECT_EQ(store().insert_history("r", entries("r", 5, 5)).error().kind, ErrorKind::kConflict);
}

TEST_P(StoreMove, AHistoryWithoutARowCanBeTakenOutAgain) {
  ASSERT_TRUE(store().insert_history("r", entries("r", 1, 2)));
  ASSERT_TRUE(insert_one(store(), whole("s", 1), entries("s", 1, 1)).value());
  ASSERT_TRUE(store().remove_history("r"));
  ASSERT_TRUE(store().remove_history("s"));
  EXPECT_EQ(history_size("r"), 0U);
  EXPECT_EQ(history_size("s"), 1U);
}

TEST_P(StoreMove, IdsOfRemovedRunsMoveAndARowIsStronger) {
  ASSERT_TRUE(insert_one(store(), whole("there", 0), {}).value());
  const std::vector<PrunedRun> ids{{"a\n\\.", at("2026-01-02T00:00:00.123456Z")},
                                   {"b", at("2026-01-02T00:00:00Z")},
                                   {"there", at("2026-01-02T00:00:00Z")}};
  EXPECT_EQ(store().insert_pruned(ids).value(), 2U);
  EXPECT_EQ(store().insert_pruned(ids).value(), 0U);
  const PrunedPage first = store().list_pruned(1, "").value();
  ASSERT_THAT(first.runs, SizeIs(1));
  EXPECT_EQ(first.runs.front().run_id, "a\n\\.");
  EXPECT_EQ(first.runs.front().pruned_at, ids.front().pruned_at);
  const PrunedPage second = store().list_pruned(5, first.next).value();
  ASSERT_THAT(second.runs, SizeIs(1));
  EXPECT_EQ(second.runs.front().run_id, "b");
  EXPECT_THAT(second.next, IsEmpty());
  // A run that comes back is remembered no longer.
  EXPECT_TRUE(insert_one(store(), whole("b", 0), {}).value());
  ASSERT_TRUE(store().insert_history("a\n\\.", entries("a\n\\.", 1, 1)));
  EXPECT_TRUE(store().insert_row(whole("a\n\\.", 1)).value());
  EXPECT_THAT(store().list_pruned(5, "").value().runs, IsEmpty());
}

TEST_P(StoreMove, APassMovesOnce) {
  ReconciliationRow row{"pass", "recorder", "boot", at("2026-01-02T00:00:00Z"), std::nullopt, R"({"runs":[]})"};
  EXPECT_TRUE(store().insert_reconciliation(row).value());
  EXPECT_FALSE(store().insert_reconciliation(row).value());
  EXPECT_THAT(store().list_reconciliations(5, "", "").value().passes, SizeIs(1));
}

TEST_P(StoreMove, ARecorderMovesWithItsLettersOrNotAtAll) {
  EXPECT_EQ(store().insert_recorder(recorder_of("moving", 1)).error().kind, ErrorKind::kConflict);
  EXPECT_TRUE(store().insert_dead_letter(letter_of("moving")).value());
  EXPECT_FALSE(store().insert_dead_letter(letter_of("moving")).value());
  EXPECT_TRUE(store().insert_recorder(recorder_of("moving", 1)).value());
  EXPECT_FALSE(store().insert_recorder(recorder_of("moving", 1)).value());
  const auto letters = store().list_dead_letters(5, "").value().dead_letters;
  ASSERT_THAT(letters, SizeIs(1));
  EXPECT_EQ(letters.front().record, letter_of("").record);
  const auto recorders = store().list_recorders("", 5).value();
  ASSERT_THAT(recorders, SizeIs(1));
  EXPECT_EQ(recorders.front().checkpoint.ledger, recorder_of("", 1).checkpoint.ledger);
  EXPECT_EQ(recorders.front().checkpoint.applied, recorder_of("", 1).checkpoint.applied);
  EXPECT_THAT(store().list_recorders("moving", 5).value(), IsEmpty());
  const Checkpoint checkpoint = store().check_in({"moving", "now", "host", "0.1.0"}).value();
  EXPECT_EQ(checkpoint.ledger, recorder_of("", 1).checkpoint.ledger);
  EXPECT_EQ(checkpoint.applied, recorder_of("", 1).checkpoint.applied);
}

TEST_P(StoreMove, ARecorderThatWritesHereKeepsItsOwnLetters) {
  commit(batch({}, {}));
  const auto refused = store().insert_dead_letter(letter_of(self_.id));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kConflict);
  EXPECT_FALSE(store().insert_recorder(recorder_of(self_.id, 0)).value());
  EXPECT_THAT(store().list_dead_letters(5, "").value().dead_letters, IsEmpty());
}

}  // namespace run_recorder::testing
