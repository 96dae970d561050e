// Reading rows, history, chains, passes and dead letters.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "conformance_fixture.h"

namespace run_recorder::testing {

namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

using StoreRead = StoreConformance;
INSTANTIATE_TEST_SUITE_P(Databases, StoreRead, both_databases(), name_of);

using StoreDeadLetters = StoreConformance;
INSTANTIATE_TEST_SUITE_P(Databases, StoreDeadLetters, both_databases(), name_of);

run_recorder::Run attempt(std::string run_id, std::int32_t number, std::optional<std::string> parent) {
  auto run = running(std::move(run_id));
  run.attempt = number;
  run.parent_attempt_run_id = std::move(parent);
  return run;
}

DeadLetter letter(std::string run_id) {
  DeadLetter letter;
  letter.recorder = "recorder-1";
  letter.run_id = std::move(run_id);
  letter.type = "run_started";
  letter.record = "record";
  letter.line = "{}";
  letter.reason = "refused";
  return letter;
}

}  // namespace

TEST_P(StoreRead, AnEmptyDatabaseHasNothing) {
  EXPECT_FALSE(store().find_run("r").value());
  EXPECT_THAT(store().list_runs({}).value().runs, IsEmpty());
  EXPECT_EQ(store().list_runs({}).value().next, "");
  EXPECT_THAT(store().list_events("r", 10, "").value().events, IsEmpty());
  EXPECT_THAT(chain("r"), IsEmpty());
  EXPECT_THAT(store().list_reconciliations(10, "", "").value().passes, IsEmpty());
  EXPECT_THAT(store().list_dead_letters(10, "").value().dead_letters, IsEmpty());
  EXPECT_THAT(store().count_by_status().value(), IsEmpty());
}

TEST_P(StoreRead, ListIsNewestFirstThenByRunId) {
  for (const char* id : {"b", "a", "c", "d"}) store_run(running(id));
  database().set_time("runs", "inserted_at", at("2026-01-02T00:00:00Z"), "run_id IN ('a', 'b')");
  database().set_time("runs", "inserted_at", at("2026-01-03T00:00:00Z"), "run_id = 'c'");
  database().set_time("runs", "inserted_at", at("2026-01-01T00:00:00Z"), "run_id = 'd'");
  EXPECT_THAT(ids_of(store().list_runs({}).value().runs), ElementsAre("c", "b", "a", "d"));
}

TEST_P(StoreRead, ListLeavesOutInputAndResultButNotTheError) {
  auto run = running("r");
  run.input = "{}";
  run.result = "{}";
  run.error = R"({"errors":[]})";
  store_run(run);
  const auto listed = store().list_runs({}).value().runs.front();
  EXPECT_FALSE(listed.input || listed.result);
  EXPECT_TRUE(listed.error);
  EXPECT_EQ(listed.last_seq, 1);
  EXPECT_EQ(listed.recorder, "recorder-1");
}

TEST_P(StoreRead, ListFiltersAloneAndTogether) {
  const auto put = [this](const char* id, Status status, const char* council, std::optional<std::int64_t> job) {
    auto run = running(id);
    run.status = status;
    run.council = council;
    run.oban_job_id = job;
    store_run(run);
  };
  put("a", Status::kRunning, "one", 1);
  put("b", Status::kCompleted, "one", 1);
  put("c", Status::kFailed, "two", 2);
  put("d", Status::kRunning, "two", std::nullopt);
  const auto listed = [this](const RunFilter& filter) { return ids_of(store().list_runs(filter).value().runs); };

  RunFilter by_status;
  by_status.statuses = {Status::kRunning};
  EXPECT_THAT(listed(by_status), UnorderedElementsAre("a", "d"));
  by_status.statuses = {Status::kFailed, Status::kCompleted};
  EXPECT_THAT(listed(by_status), UnorderedElementsAre("b", "c"));
  RunFilter by_council;
  by_council.council = "two";
  EXPECT_THAT(listed(by_council), UnorderedElementsAre("c", "d"));
  RunFilter by_job;
  by_job.oban_job_id = 1;
  EXPECT_THAT(listed(by_job), UnorderedElementsAre("a", "b"));
  by_job.statuses = {Status::kRunning};
  EXPECT_THAT(listed(by_job), ElementsAre("a"));
  RunFilter nothing;
  nothing.council = "it's \"none\" %_";
  EXPECT_THAT(listed(nothing), IsEmpty());

  database().set_time("runs", "inserted_at", at("2026-01-02T03:04:05.000001Z"), "run_id IN ('a', 'd')");
  database().set_time("runs", "inserted_at", at("2026-01-02T03:04:05Z"), "run_id = 'b'");
  database().set_time("runs", "inserted_at", at("2020-01-01T00:00:00Z"), "run_id = 'c'");
  RunFilter since;
  since.since = at("2026-01-02T03:04:05.000001Z");
  EXPECT_THAT(listed(since), ElementsAre("d", "a"));
  since.since = at("2026-01-02T03:04:05Z");
  since.council = "one";
  EXPECT_THAT(listed(since), ElementsAre("a", "b"));
}

TEST_P(StoreRead, RunsAreFoundByPatternsOfTheirName) {
  for (const char* name : {"nightly-a", "nightly_b", "Nightly-c", "nightly*", "100%", "a[b]"}) {
    Run run = running(name);
    run.council = name;
    store_run(run);
  }
  const auto fitting = [this](const std::string& pattern) {
    RunFilter filter;
    filter.council_glob = pattern;
    return ids_of(store().list_runs(filter).value().runs);
  };
  EXPECT_THAT(fitting("nightly-*"), ElementsAre("nightly-a"));
  EXPECT_THAT(fitting("nightly?*"), UnorderedElementsAre("nightly-a", "nightly_b", "nightly*"));
  EXPECT_THAT(fitting("nightly\\*"), ElementsAre("nightly*"));
  EXPECT_THAT(fitting("*%"), ElementsAre("100%"));
  EXPECT_THAT(fitting("a[*"), ElementsAre("a[b]"));
  EXPECT_THAT(fitting("?ightly-c"), ElementsAre("Nightly-c"));
  EXPECT_THAT(fitting("*"), SizeIs(6));
}

TEST_P(StoreRead, RunsAreFoundByPatternsOfWhereTheyRun) {
  store_run(running("none"));
  for (const std::string id : {"a", "b"}) {
    Run run = running(id);
    run.host = "db-" + id;
    run.unit = "report@" + id + ".service";
    run.os_user = "user_" + id;
    store_run(run);
  }
  const auto fitting = [this](std::optional<std::string> RunFilter::*column, const std::string& pattern) {
    RunFilter filter;
    filter.*column = pattern;
    return ids_of(store().list_runs(filter).value().runs);
  };
  EXPECT_THAT(fitting(&RunFilter::host, "db-a"), ElementsAre("a"));
  EXPECT_THAT(fitting(&RunFilter::host, "db-?"), UnorderedElementsAre("a", "b"));
  EXPECT_THAT(fitting(&RunFilter::host, "DB-a"), IsEmpty());
  EXPECT_THAT(fitting(&RunFilter::unit, "report@*"), UnorderedElementsAre("a", "b"));
  EXPECT_THAT(fitting(&RunFilter::unit, "*@b.service"), ElementsAre("b"));
  EXPECT_THAT(fitting(&RunFilter::os_user, "user_b"), ElementsAre("b"));
  EXPECT_THAT(fitting(&RunFilter::os_user, "userxb"), IsEmpty());
  RunFilter both;
  both.host = "db-*";
  both.os_user = "*_a";
  EXPECT_THAT(ids_of(store().list_runs(both).value().runs), ElementsAre("a"));
}

TEST_P(StoreRead, RunsAreFoundByWhatTheirIdBeginsWith) {
  for (const char* id : {"0192-a", "0192-b", "0193", "é1", "é", "zz"}) store_run(running(id));
  const auto beginning = [this](const std::string& prefix, RunOrder by) {
    RunFilter filter;
    filter.id_prefix = prefix;
    filter.by = by;
    return ids_of(store().list_runs(filter).value().runs);
  };
  for (const RunOrder by : {RunOrder::kRecorded, RunOrder::kStarted}) {
    EXPECT_THAT(beginning("0192", by), UnorderedElementsAre("0192-a", "0192-b"));
    EXPECT_THAT(beginning("0192-b", by), ElementsAre("0192-b"));
    EXPECT_THAT(beginning("é", by), UnorderedElementsAre("é", "é1"));
    EXPECT_THAT(beginning("z", by), ElementsAre("zz"));
    EXPECT_THAT(beginning("y", by), IsEmpty());
  }
}

TEST_P(StoreRead, RunsAreFoundByHowTheyEnded) {
  const auto put = [this](const char* id, Status status, int seconds, std::optional<std::string> error,
                          std::optional<std::string> result) {
    Run run = running(id);
    run.status = status;
    run.started_at = at("2026-01-02T00:00:00Z");
    if (status != Status::kRunning) run.finalized_at = at("2026-01-02T00:00:00Z") + std::chrono::seconds(seconds);
    run.error = error;
    run.result = result;
    store_run(run);
  };
  put("quick", Status::kCompleted, 60, {}, R"({"exit_status":0})");
  put("slow", Status::kFailed, 61, R"({"errors":["text",{"exit_status":3,"message":"Verbindung \"A\" verweigert"}]})",
      {});
  put("other", Status::kFailed, 1, R"({"errors":[{"exit_status":33,"kind":"\u00c9chec"},"x"]})", {});
  put("going", Status::kRunning, 0, {}, {});
  put("stuck", Status::kStuck, 900, R"({"kind":"stuck","reason":"silent"})", {});
  const auto listed = [this](const RunFilter& filter) { return ids_of(store().list_runs(filter).value().runs); };

  RunFilter longer;
  longer.longer_than = std::chrono::minutes(1);
  EXPECT_THAT(listed(longer), UnorderedElementsAre("slow", "going"));
  longer.longer_than = std::chrono::milliseconds(59'999);
  EXPECT_THAT(listed(longer), UnorderedElementsAre("quick", "slow", "going"));
  RunFilter error;
  error.error_text = "verbindung \"a\" VER";
  EXPECT_THAT(listed(error), ElementsAre("slow"));
  error.error_text = "%";
  EXPECT_THAT(listed(error), IsEmpty());
  error.error_text = "éCHEC";
  EXPECT_THAT(listed(error), ElementsAre("other"));
  for (const char* const key : {"message", "exit_status", "errors", "\", "}) {
    error.error_text = key;
    EXPECT_THAT(listed(error), IsEmpty()) << key;
  }
  RunFilter exit;
  exit.exit_status = 3;
  EXPECT_THAT(listed(exit), ElementsAre("slow"));
  exit.exit_status = 0;
  EXPECT_THAT(listed(exit), ElementsAre("quick"));
}

TEST_P(StoreRead, OrderedByWhenTheyStarted) {
  const auto put = [this](const char* id, const char* started, const char* inserted) {
    Run run = running(id);
    if (started != nullptr) run.started_at = at(started);
    if (started == nullptr) run.started_at = std::nullopt;
    store_run(run);
    database().set_time("runs", "inserted_at", at(inserted), fmt::format("run_id = '{}'", id));
  };
  put("late", "2026-01-01T00:00:00Z", "2026-01-09T00:00:00Z");
  put("middle", "2026-01-05T00:00:00.000001Z", "2026-01-05T00:00:01Z");
  put("same", "2026-01-05T00:00:00.000001Z", "2026-01-06T00:00:01Z");
  put("waits", nullptr, "2026-01-03T00:00:00Z");
  put("new", "2026-01-08T00:00:00Z", "2026-01-08T00:00:00Z");
  RunFilter filter;
  EXPECT_THAT(ids_of(store().list_runs(filter).value().runs), ElementsAre("late", "new", "same", "middle", "waits"));
  filter.by = RunOrder::kStarted;
  EXPECT_THAT(ids_of(store().list_runs(filter).value().runs), ElementsAre("new", "same", "middle", "waits", "late"));
  filter.since = at("2026-01-03T00:00:00Z");
  filter.until = at("2026-01-08T00:00:00Z");
  EXPECT_THAT(ids_of(store().list_runs(filter).value().runs), ElementsAre("same", "middle", "waits"));

  filter.since = filter.until = std::nullopt;
  filter.limit = 1;
  std::vector<std::string> seen;
  do {
    const RunPage page = store().list_runs(filter).value();
    for (const auto& run : page.runs) seen.push_back(run.run_id);
    filter.cursor = page.next;
  } while (!filter.cursor.empty() && seen.size() < 10);
  EXPECT_THAT(seen, ElementsAre("new", "same", "middle", "waits", "late"));
}

TEST_P(StoreRead, ACursorOfTheOtherOrderIsInvalid) {
  for (const char* id : {"a", "b"}) store_run(running(id));
  RunFilter recorded, started;
  recorded.limit = started.limit = 1;
  started.by = RunOrder::kStarted;
  recorded.cursor = store().list_runs(started).value().next;
  RunFilter first;
  first.limit = 1;
  started.cursor = store().list_runs(first).value().next;
  for (const RunFilter& filter : {recorded, started}) {
    ASSERT_FALSE(filter.cursor.empty());
    const auto runs = store().list_runs(filter);
    ASSERT_FALSE(runs);
    EXPECT_EQ(runs.error().kind, ErrorKind::kInvalid);
    EXPECT_THAT(runs.error().message, HasSubstr("begin again without it"));
  }
}

TEST_P(StoreRead, PagesAreStableWhileRowsAreInserted) {
  std::vector<std::string> expected;
  for (int i = 0; i < 25; ++i) {
    const std::string id = fmt::format("r{:02}", i);
    store_run(running(id));
    // Several rows of one moment, so that a page ends among them.
    const Timestamp moment = at("2026-01-02T00:00:00Z") + std::chrono::seconds(i / 4);
    database().set_time("runs", "inserted_at", moment, fmt::format("run_id = '{}'", id));
    expected.insert(expected.begin(), id);
  }
  RunFilter filter;
  filter.limit = 7;
  std::vector<std::string> seen;
  for (int page_number = 0; page_number < 10; ++page_number) {
    const RunPage page = store().list_runs(filter).value();
    EXPECT_LE(page.runs.size(), 7U);
    for (const auto& run : page.runs) seen.push_back(run.run_id);
    if (page.next.empty()) break;
    filter.cursor = page.next;
    store_run(running(fmt::format("new{}", page_number)));
  }
  EXPECT_EQ(seen, expected);
}

TEST_P(StoreRead, APageThatEndsWithTheLastRowHasNoNext) {
  for (const char* id : {"a", "b", "c", "d"}) store_run(running(id));
  RunFilter filter;
  filter.limit = 4;
  EXPECT_EQ(store().list_runs(filter).value().next, "");
  filter.limit = 3;
  filter.cursor = store().list_runs(filter).value().next;
  const RunPage last = store().list_runs(filter).value();
  EXPECT_THAT(last.runs, SizeIs(1));
  EXPECT_EQ(last.next, "");
}

TEST_P(StoreRead, ACursorCarriesAnyRunId) {
  for (const char* id : {"a|b", "日本", "it's", "2026-01-02T00:00:00Z|x"}) store_run(running(id));
  database().set_time("runs", "inserted_at", at("2026-01-02T00:00:00Z"), "1 = 1");
  RunFilter filter;
  filter.limit = 1;
  std::vector<std::string> seen;
  do {
    const RunPage page = store().list_runs(filter).value();
    for (const auto& run : page.runs) seen.push_back(run.run_id);
    filter.cursor = page.next;
  } while (!filter.cursor.empty() && seen.size() < 10);
  EXPECT_THAT(seen, UnorderedElementsAre("a|b", "日本", "it's", "2026-01-02T00:00:00Z|x"));
}

TEST_P(StoreRead, AMalformedCursorIsInvalid) {
  for (const char* cursor : {"x", "!!!", "'; DROP TABLE runs", "YWJj"}) {
    RunFilter filter;
    filter.cursor = cursor;
    const auto runs = store().list_runs(filter);
    ASSERT_FALSE(runs) << cursor;
    EXPECT_EQ(runs.error().kind, ErrorKind::kInvalid);
    EXPECT_EQ(store().list_events("r", 10, cursor).error().kind, ErrorKind::kInvalid) << cursor;
    EXPECT_EQ(store().list_reconciliations(10, cursor, "").error().kind, ErrorKind::kInvalid) << cursor;
    EXPECT_EQ(store().list_dead_letters(10, cursor).error().kind, ErrorKind::kInvalid) << cursor;
  }
}

TEST_P(StoreRead, ALargePageEndsByItsBytes) {
  const std::string large = fmt::format("{{\"text\":\"{}\"}}", std::string(1 << 20, 'x'));
  std::vector<HistoryEntry> entries;
  for (int i = 0; i < 12; ++i) {
    auto run = running(fmt::format("r{:02}", i));
    run.error = large;
    store_run(run);
    entries.push_back(entry("large", i + 1));
    entries.back().payload = large;
  }
  commit(batch({}, entries));
  RunFilter filter;
  std::size_t runs = 0;
  int pages = 0;
  do {
    const RunPage page = store().list_runs(filter).value();
    EXPECT_LE(page.runs.size(), 6U);
    ASSERT_FALSE(page.runs.empty());
    runs += page.runs.size();
    filter.cursor = page.next;
  } while (!filter.cursor.empty() && ++pages < 20);
  EXPECT_EQ(runs, 12U);

  std::string cursor;
  std::size_t events = 0;
  pages = 0;
  do {
    const EventPage page = store().list_events("large", 100, cursor).value();
    EXPECT_LE(page.events.size(), 6U);
    ASSERT_FALSE(page.events.empty());
    events += page.events.size();
    cursor = page.next;
  } while (!cursor.empty() && ++pages < 20);
  EXPECT_EQ(events, 12U);
}

TEST_P(StoreRead, EventsAreListedBySeqInPages) {
  std::vector<HistoryEntry> entries;
  for (int seq = 1; seq <= 10; ++seq) entries.push_back(entry("r", seq));
  entries.push_back(entry("other", 1));
  commit(batch({}, entries));
  std::vector<std::int64_t> seqs;
  std::string cursor;
  do {
    const EventPage page = store().list_events("r", 4, cursor).value();
    EXPECT_LE(page.events.size(), 4U);
    for (const StoredEvent& event : page.events) seqs.push_back(event.entry.seq);
    cursor = page.next;
  } while (!cursor.empty());
  EXPECT_THAT(seqs, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
}

TEST_P(StoreRead, ListEventsGoesOnAfterASeq) {
  commit(batch({}, {entry("r", 1), entry("r", 2), entry("r", 3)}));
  const auto later = store().list_events("r", 10, "2").value();
  ASSERT_THAT(later.events, SizeIs(1));
  EXPECT_EQ(later.events.front().entry.seq, 3);
  EXPECT_THAT(store().list_events("r", 10, "3").value().events, IsEmpty());
}

// ---- chains

TEST_P(StoreRead, AChainWhereEachAttemptNamesThePreviousOne) {
  store_run(attempt("third", 3, "second"));
  store_run(attempt("first", 1, std::nullopt));
  store_run(attempt("second", 2, "first"));
  store_run(attempt("stranger", 1, std::nullopt));
  for (const char* id : {"first", "second", "third"}) {
    EXPECT_THAT(ids_of(chain(id)), ElementsAre("first", "second", "third")) << id;
  }
  EXPECT_THAT(ids_of(chain("stranger")), ElementsAre("stranger"));
}

TEST_P(StoreRead, AChainWhereEachAttemptNamesTheOriginal) {
  store_run(attempt("c", 3, "a"));
  store_run(attempt("a", 1, std::nullopt));
  store_run(attempt("b", 2, "a"));
  for (const char* id : {"a", "b", "c"}) {
    EXPECT_THAT(ids_of(chain(id)), ElementsAre("a", "b", "c")) << id;
  }
}

TEST_P(StoreRead, AttemptsOfARootThatWasNeverRecordedBelongTogether) {
  store_run(attempt("c", 3, "lost"));
  store_run(attempt("b", 2, "lost"));
  EXPECT_THAT(ids_of(chain("c")), ElementsAre("b", "c"));
  EXPECT_THAT(chain("lost"), IsEmpty());
}

TEST_P(StoreRead, AChainThatLoopsEnds) {
  store_run(attempt("a", 1, "b"));
  store_run(attempt("b", 2, "a"));
  store_run(attempt("self", 1, "self"));
  store_run(attempt("tail", 3, "b"));
  EXPECT_THAT(ids_of(chain("b")), ElementsAre("a", "b", "tail"));
  EXPECT_THAT(ids_of(chain("self")), ElementsAre("self"));
}

TEST_P(StoreRead, OneAttemptNumberTwiceIsInOrderOfTheStart) {
  store_run(attempt("a", 1, std::nullopt));
  auto late = attempt("b", 2, "a");
  late.started_at = at("2026-01-02T05:00:00Z");
  store_run(late);
  auto early = attempt("c", 2, "a");
  early.started_at = at("2026-01-02T04:00:00Z");
  store_run(early);
  EXPECT_THAT(ids_of(chain("a")), ElementsAre("a", "c", "b"));
}

TEST_P(StoreRead, AChainIsBounded) {
  std::vector<RunChange> runs;
  std::vector<HistoryEntry> entries;
  for (int i = 0; i < 1'200; ++i) {
    auto run =
        attempt(fmt::format("r{:04}", i), i + 1, i == 0 ? std::nullopt : std::optional(fmt::format("r{:04}", i - 1)));
    run.last_seq = 1;
    entries.push_back(entry(run.run_id, 1));
    runs.push_back(insert(run));
  }
  commit(batch(runs, entries));
  const auto rows = chain("r0000");
  ASSERT_THAT(rows, SizeIs(1'000));
  EXPECT_EQ(rows.front().run_id, "r0000");
  EXPECT_EQ(rows.back().run_id, "r0999");
}

TEST_P(StoreRead, AChainSaysWhetherItIsCut) {
  for (int i = 0; i < 3; ++i) {
    store_run(attempt(fmt::format("r{}", i), i + 1, i == 0 ? std::nullopt : std::optional<std::string>("r0")));
  }
  EXPECT_FALSE(store().chain("r1", 2, "").value().truncated);
  std::vector<RunChange> runs;
  std::vector<HistoryEntry> entries;
  for (int i = 3; i < 1'001; ++i) {
    auto run = attempt(fmt::format("r{}", i), i + 1, "r0");
    run.last_seq = 1;
    entries.push_back(entry(run.run_id, 1));
    runs.push_back(insert(run));
  }
  commit(batch(runs, entries));
  const ChainPage page = store().chain("r1", 2, "").value();
  EXPECT_TRUE(page.truncated);
  EXPECT_THAT(ids_of(page.runs), ElementsAre("r0", "r1"));
}

TEST_P(StoreRead, ALargeChainComesInPagesOfBoundedBytes) {
  const std::string large = fmt::format("{{\"text\":\"{}\"}}", std::string(900'000, 'x'));
  std::vector<std::string> ids;
  for (int i = 0; i < 30; ++i) {
    ids.push_back(fmt::format("r{:02}", i));
    auto run = attempt(ids.back(), i + 1, i == 0 ? std::nullopt : std::optional(ids[ids.size() - 2]));
    if (i % 3 != 0) run.error = large;
    store_run(run);
  }
  std::vector<std::string> seen;
  std::string cursor;
  do {
    const ChainPage page = store().chain("r17", 1'000, cursor).value();
    std::size_t bytes = 0;
    for (const auto& run : page.runs) {
      bytes += run.error ? run.error->size() : 0;
      EXPECT_EQ(run.error.has_value(), seen.size() % 3 != 0);
      seen.push_back(run.run_id);
    }
    ASSERT_FALSE(page.runs.empty());
    EXPECT_LE(bytes, (1U << 20) + 2 * large.size());
    cursor = page.next;
  } while (!cursor.empty());
  EXPECT_EQ(seen, ids);
  EXPECT_EQ(ids_of(chain("r29", 7)), ids);
}

TEST_P(StoreRead, AChainsPagesGoOnBesideRowsThatComeAndGo) {
  store_run(attempt("a", 1, std::nullopt));
  for (const char* id : {"b", "d", "e"}) store_run(attempt(id, id[0] - 'a' + 1, "a"));
  const ChainPage first = store().chain("a", 2, "").value();
  EXPECT_THAT(ids_of(first.runs), ElementsAre("a", "b"));
  store_run(attempt("aa", 1, "a"));  // before what was shown
  EXPECT_THAT(ids_of(store().chain("a", 2, first.next).value().runs), ElementsAre("d", "e"));
  database().execute("DELETE FROM council_ex_runs WHERE run_id IN ('b', 'aa')");
  EXPECT_THAT(ids_of(store().chain("a", 2, first.next).value().runs), ElementsAre("d", "e"));
  EXPECT_EQ(store().chain("a", 2, "x").error().kind, ErrorKind::kInvalid);
}

TEST_P(StoreRead, AChainsRowsComeWithoutInputAndResult) {
  auto run = running("r");
  run.input = "{}";
  run.result = "{}";
  store_run(run);
  const auto rows = chain("r");
  EXPECT_FALSE(rows.front().input || rows.front().result);
}

TEST_P(StoreRead, RowsAreCountedByStatus) {
  for (const char* id : {"a", "b", "c"}) store_run(running(id));
  auto done = running("d");
  done.status = Status::kCompleted;
  store_run(done);
  const auto counts = store().count_by_status().value();
  EXPECT_EQ(counts.at(Status::kRunning), 3U);
  EXPECT_EQ(counts.at(Status::kCompleted), 1U);
  EXPECT_EQ(counts.count(Status::kStuck), 0U);
}

TEST_P(StoreRead, TablesOfAnotherPrefixAreSeparate) {
  StoreOptions mine = options();
  mine.table_prefix = "odd_prefix_";
  ASSERT_TRUE(migrate(mine, false));
  auto other = open_store(mine);
  ASSERT_TRUE(other);
  store_run(running("r"));
  EXPECT_FALSE((*other)->find_run("r").value());
  BatchWrite write = batch({insert(running("s"))}, {entry("s", 1)});
  write.from = 0;
  EXPECT_EQ((*other)->commit(self_, write).value(), Committed::kYes);
  EXPECT_TRUE((*other)->find_run("s").value());
}

// ---- dead letters

TEST_P(StoreDeadLetters, ALetterReadsBackWhole) {
  DeadLetter written = letter("r");
  written.event_id = "event-1";
  written.record = std::string("\0\x01\xff binary \\ ' \"", 16);
  written.line = "{\"type\":\"run_started\",\"run_id\":\"ü\"}";
  written.sqlstate = "22001";
  written.reason = "value too long";
  written.tries = 3;
  written.received_at = at("2026-01-02T03:04:05.678901Z");
  BatchWrite write = batch({}, {});
  write.dead_letters = {written};
  write.ledger.dead_letters = 1;
  commit(write);

  const auto page = store().list_dead_letters(10, "").value();
  ASSERT_THAT(page.dead_letters, SizeIs(1));
  const auto found = store().find_dead_letter(page.dead_letters.front().id).value();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->recorder, self_.id);
  EXPECT_EQ(found->run_id, "r");
  EXPECT_EQ(found->type, "run_started");
  EXPECT_EQ(found->event_id, "event-1");
  EXPECT_EQ(found->record, written.record);
  EXPECT_EQ(found->line, written.line);
  EXPECT_EQ(found->sqlstate, "22001");
  EXPECT_EQ(found->reason, "value too long");
  EXPECT_EQ(found->tries, 3);
  EXPECT_EQ(found->received_at, written.received_at);
  EXPECT_TRUE(found->inserted_at);
  EXPECT_EQ(store().check_in(self_).value().ledger, write.ledger);
}

TEST_P(StoreDeadLetters, LettersAreListedOldestFirstInPages) {
  BatchWrite write = batch({}, {});
  for (int i = 0; i < 5; ++i) write.dead_letters.push_back(letter(fmt::format("r{}", i)));
  write.ledger.dead_letters = 5;
  commit(write);
  std::vector<std::string> seen;
  std::string cursor;
  do {
    const auto page = store().list_dead_letters(2, cursor).value();
    EXPECT_LE(page.dead_letters.size(), 2U);
    for (const DeadLetter& found : page.dead_letters) seen.push_back(found.run_id);
    cursor = page.next;
  } while (!cursor.empty());
  EXPECT_THAT(seen, ElementsAre("r0", "r1", "r2", "r3", "r4"));
}

TEST_P(StoreDeadLetters, RemovingOneMovesTheLedgerOnce) {
  BatchWrite write = batch({}, {});
  write.dead_letters = {letter("a"), letter("b")};
  write.ledger.dead_letters = 2;
  commit(write);
  const std::int64_t id = store().list_dead_letters(1, "").value().dead_letters.front().id;
  EXPECT_TRUE(store().remove_dead_letter(id).value());
  EXPECT_FALSE(store().remove_dead_letter(id).value());
  EXPECT_FALSE(store().remove_dead_letter(987'654).value());
  EXPECT_FALSE(store().find_dead_letter(id).value());
  const Ledger ledger = store().check_in(self_).value().ledger;
  EXPECT_EQ(ledger.dead_letters, 1U);
  EXPECT_EQ(ledger.dead_letters_removed, 1U);
}

TEST_P(StoreDeadLetters, ARetriedLetterIsTakenOutByItsBatch) {
  BatchWrite write = batch({}, {});
  write.dead_letters = {letter("a"), letter("b")};
  write.ledger.dead_letters = 2;
  commit(write);
  const auto letters = store().list_dead_letters(10, "").value().dead_letters;
  BatchWrite retry = batch({}, {entry("a", 1)});
  retry.incarnation.clear();
  retry.retried = {letters[0].id};
  retry.ledger.dead_letters = 1;
  commit(retry);
  EXPECT_FALSE(store().find_dead_letter(letters[0].id).value());
  EXPECT_TRUE(store().find_dead_letter(letters[1].id).value());
  EXPECT_EQ(history_size("a"), 1U);
  EXPECT_EQ(store().check_in(self_).value().ledger, retry.ledger);
}

TEST_P(StoreDeadLetters, RetryOfALetterThatIsGoneIsRacedAndWritesNothing) {
  BatchWrite write = batch({}, {});
  write.dead_letters = {letter("a")};
  write.ledger.dead_letters = 1;
  commit(write);
  const std::int64_t id = store().list_dead_letters(1, "").value().dead_letters.front().id;
  ASSERT_TRUE(store().remove_dead_letter(id).value());
  BatchWrite retry = batch({}, {entry("a", 1)});
  retry.incarnation.clear();
  retry.retried = {id};
  EXPECT_EQ(try_commit(retry), Committed::kRaced);
  EXPECT_EQ(history_size("a"), 0U);
}

}  // namespace run_recorder::testing
