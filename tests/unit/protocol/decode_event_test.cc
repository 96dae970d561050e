#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "protocol/protocol.h"

namespace run_recorder {
namespace {

using namespace std::string_literals;

constexpr std::size_t kDepth = 64;

std::string repeat(std::string_view part, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) text += part;
  return text;
}

// A line with type and run_id, and more fields as JSON text ("\"attempt\":2").
std::string line_of(std::string_view type, std::string_view more = "") {
  std::string line = R"({"type":")" + std::string(type) + R"(","run_id":"r1")";
  if (!more.empty()) line.append(",").append(more);
  return line + "}";
}

Event accepted(const std::string& line) {
  auto decoded = decode_event(line, kDepth);
  if (const auto* refusal = std::get_if<Refusal>(&decoded)) {
    ADD_FAILURE() << line << ": " << to_string(refusal->code) << ": " << refusal->message;
    return {};
  }
  if (std::holds_alternative<Blank>(decoded)) {
    ADD_FAILURE() << line << ": blank";
    return {};
  }
  return std::get<Event>(decoded);
}

Refusal refused(const std::string& line) {
  auto decoded = decode_event(line, kDepth);
  if (const auto* refusal = std::get_if<Refusal>(&decoded)) return *refusal;
  ADD_FAILURE() << line << ": not refused";
  return {RefusalCode::kForbidden, ""};
}

void expect_refused(RefusalCode code, const std::vector<std::string>& lines) {
  for (const std::string& line : lines) EXPECT_EQ(refused(line).code, code) << line;
}

// Each line is an invalid_event whose message begins with the field's name.
void expect_field_refused(const std::string& field, const std::vector<std::string>& lines) {
  for (const std::string& line : lines) {
    const Refusal refusal = refused(line);
    EXPECT_EQ(refusal.code, RefusalCode::kInvalidEvent) << line;
    EXPECT_TRUE(refusal.message.starts_with(field + " ")) << line << ": " << refusal.message;
  }
}

const std::vector<std::string> kAllTypes = {"run_queued",    "run_started", "run_completed", "run_failed",
                                            "run_heartbeat", "run_lost",    "member_done"};

TEST(DecodeEvent, WhiteSpaceOnlyIsBlank) {
  for (const char* line : {"", " ", "\r", "\t \r", "\n", " \t\r\n "}) {
    EXPECT_TRUE(std::holds_alternative<Blank>(decode_event(line, kDepth))) << line;
  }
  expect_refused(RefusalCode::kInvalidJson, {"\x0B", "\x0C", "\xC2\xA0", "\xEF\xBB\xBF", "\0"s, " \0"s});
}

TEST(DecodeEvent, TheSmallestEventIsAccepted) {
  const Event event = accepted(R"({"type":"run_started","run_id":"r1","council":"demo"})"
                               "\r");
  EXPECT_EQ(event.kind, EventKind::kStarted);
  EXPECT_EQ(event.type, "run_started");
  EXPECT_EQ(event.run_id, "r1");
  EXPECT_EQ(event.council, "demo");
  EXPECT_EQ(event.payload, R"({"council":"demo"})");
  EXPECT_FALSE(event.id || event.at || event.input || event.attempt || event.parent_attempt_run_id ||
               event.oban_job_id || event.result || event.errors || event.cancelled || event.worker_pid);
}

TEST(DecodeEvent, EveryFieldOfAStartIsRead) {
  for (const char* type : {"run_queued", "run_started"}) {
    const Event event = accepted(line_of(
        type, R"("id":"e-1","at":"2026-01-02T03:04:05.678+01:00","council":"A.B","input":{"x": 1.50},"attempt":3,)"
              R"("parent_attempt_run_id":"r0","oban_job_id":9223372036854775807,"worker_pid":2147483647)"));
    EXPECT_EQ(event.kind, type == "run_queued"s ? EventKind::kQueued : EventKind::kStarted);
    EXPECT_EQ(event.id, "e-1");
    ASSERT_TRUE(event.at);
    EXPECT_EQ(format_rfc3339(*event.at), "2026-01-02T02:04:05.678000Z");
    EXPECT_EQ(event.council, "A.B");
    EXPECT_EQ(event.input, R"({"x": 1.50})");
    EXPECT_EQ(event.attempt, 3);
    EXPECT_EQ(event.parent_attempt_run_id, "r0");
    EXPECT_EQ(event.oban_job_id, std::numeric_limits<std::int64_t>::max());
    EXPECT_EQ(event.worker_pid, std::numeric_limits<std::int32_t>::max());
    EXPECT_EQ(event.payload, R"({"council":"A.B","input":{"x": 1.50},"attempt":3,"parent_attempt_run_id":"r0",)"
                             R"("oban_job_id":9223372036854775807})");
  }
}

TEST(DecodeEvent, EndsCarryResultAndErrors) {
  const Event completed = accepted(line_of("run_completed", R"("result": [1,2.0] ,"worker_pid":7)"));
  EXPECT_EQ(completed.kind, EventKind::kCompleted);
  EXPECT_EQ(completed.result, "[1,2.0]");
  EXPECT_EQ(completed.worker_pid, 7);
  EXPECT_EQ(completed.payload, R"({"result":[1,2.0]})");
  const Event failed = accepted(line_of("run_failed", R"("result":null,"errors":["a",{"kind":"b"}])"));
  EXPECT_EQ(failed.kind, EventKind::kFailed);
  EXPECT_EQ(failed.result, "null");
  EXPECT_EQ(failed.errors, R"(["a",{"kind":"b"}])");
  EXPECT_FALSE(failed.cancelled);
  EXPECT_FALSE(accepted(line_of("run_failed")).errors);
}

TEST(DecodeEvent, AnyJsonIsInputAndResult) {
  for (const char* json : {"null", "0", "\"text\"", "[]", "{}", "false", "1e308"}) {
    EXPECT_EQ(accepted(line_of("run_started", "\"input\":"s + json)).input, json);
    EXPECT_EQ(accepted(line_of("run_completed", "\"result\":"s + json)).result, json);
    EXPECT_EQ(accepted(line_of("run_failed", "\"result\":"s + json)).result, json);
  }
}

TEST(DecodeEvent, MalformedLinesAreInvalidJson) {
  expect_refused(
      RefusalCode::kInvalidJson,
      {"{", "x", R"({"type":"run_started","run_id":"r1")", R"({"type":"run_started","run_id":"r1",})",
       line_of("x") + line_of("x"), R"({"type":"x","run_id":"r1","run_id":"r2"})",
       line_of("x", R"("payload":{"a":1,"\u0061":2})"), line_of("x", "\"a\":\"\xFF\""),
       line_of("x", R"("a":"\ud800")"), line_of("x", R"("a":1e309)"), line_of("x", "\"a\":" + std::string(1001, '1')),
       "\xEF\xBB\xBF" + line_of("x"), line_of("x") + "\0"s, line_of("x", "\"a\":\"\t\"")});
}

TEST(DecodeEvent, DepthCountsTheEventItself) {
  accepted(line_of("x", "\"a\":" + repeat("[", 63) + repeat("]", 63)));
  expect_refused(RefusalCode::kTooDeep, {line_of("x", "\"a\":" + repeat("[", 64) + repeat("]", 64)), repeat("[", 65),
                                         "garbage " + repeat("[", 1000),
                                         line_of("x", "\"a\":1,\"a\":" + repeat("[", 64) + repeat("]", 64))});
}

TEST(DecodeEvent, OnlyObjectsWithoutNulAreEvents) {
  expect_refused(RefusalCode::kInvalidEvent, {"[]", "1", "null", "\"a\"", "[" + line_of("x") + "]", "\"\\u0000\"",
                                              line_of("x", R"("a":"\u0000")"), line_of("x", R"("a\u0000":1)"),
                                              R"({"type":"x","run_id":"r\u0000"})", R"({"a":"\u0000"})"});
  EXPECT_NE(refused(line_of("x", R"("a":"\u0000")")).message.find("\\u0000"), std::string::npos);
}

TEST(DecodeEvent, TypeIsASmallLowerCaseName) {
  for (const std::string& type :
       {"a"s, "member_token"s, "a.b_c.9"s, "run_"s, "run_unknown"s, "a" + std::string(63, '_')}) {
    const Event event = accepted(line_of(type));
    EXPECT_EQ(event.type, type);
    EXPECT_EQ(event.kind, EventKind::kOther);
  }
  EXPECT_EQ(accepted(R"({"type":"\u0061b","run_id":"r"})").type, "ab");
  expect_field_refused("type",
                       {R"({"run_id":"r1"})", "{}", R"({"type":null,"run_id":"r1"})", R"({"type":1,"run_id":"r1"})",
                        R"({"type":["x"],"run_id":"r1"})", line_of(""), line_of("A"), line_of("aB"), line_of("1a"),
                        line_of("_a"), line_of(".a"), line_of("a-b"), line_of("a b"), line_of("ä"), line_of(" a"),
                        line_of("a\\n"), line_of(std::string(65, 'a'))});
}

TEST(DecodeEvent, TheDaemonsOwnTypesAreRefused) {
  expect_field_refused("type",
                       {line_of("run_stuck"), line_of("run_revived"), R"({"type":"run\u005fstuck","run_id":"r1"})"});
  accepted(line_of("run_stuck_again"));
}

TEST(DecodeEvent, RunIdIsAStringOf1To255Bytes) {
  const auto with = [](const std::string& run_id) { return R"({"type":"x","run_id":)" + run_id + "}"; };
  EXPECT_EQ(accepted(with("\"" + std::string(255, 'a') + "\"")).run_id.size(), 255u);
  EXPECT_EQ(accepted(with("\"" + repeat("\\u00e4", 127) + "x\"")).run_id.size(), 255u);
  EXPECT_EQ(accepted(with(R"("a b\n\u00e4/")")).run_id, "a b\nä/");
  expect_field_refused("run_id", {R"({"type":"x"})", with("null"), with("1"), with("\"\""), with("{}"),
                                  with("\"" + std::string(256, 'a') + "\""), with("\"" + repeat("ä", 128) + "\"")});
}

TEST(DecodeEvent, TypeThenRunIdAreNamedFirst) {
  EXPECT_TRUE(refused(R"({"attempt":0,"id":""})").message.starts_with("type "));
  EXPECT_TRUE(refused(R"({"attempt":0,"id":"","type":"run_started"})").message.starts_with("run_id "));
  EXPECT_TRUE(refused(R"({"type":"run_stuck"})").message.starts_with("type "));
}

TEST(DecodeEvent, IdAtAndWorkerPidAreCheckedForEveryType) {
  for (const std::string& type : kAllTypes) {
    const auto with = [&](const std::string& more) { return line_of(type, more); };
    EXPECT_EQ(accepted(with("\"id\":\"" + std::string(64, 'i') + "\"")).id->size(), 64u);
    EXPECT_EQ(accepted(with("\"worker_pid\":1")).worker_pid, 1);
    EXPECT_EQ(accepted(with(R"("at":"0001-01-01T00:00:00Z")")).at, parse_rfc3339("0001-01-01T00:00:00Z"));
    expect_field_refused("id", {with("\"id\":null"), with("\"id\":\"\""), with("\"id\":7"),
                                with("\"id\":\"" + std::string(65, 'i') + "\"")});
    expect_field_refused("at", {with("\"at\":null"), with("\"at\":1767323045"), with(R"("at":"")"),
                                with(R"("at":"2026-01-02T03:04:05")"), with(R"("at":"0000-01-01T00:00:00Z")"),
                                with(R"("at":"10000-01-01T00:00:00Z")"), with(R"("at":"yesterday")")});
    expect_field_refused(
        "worker_pid", {with("\"worker_pid\":null"), with("\"worker_pid\":0"), with("\"worker_pid\":-1"),
                       with("\"worker_pid\":2147483648"), with("\"worker_pid\":1.5"), with("\"worker_pid\":\"1\"")});
  }
}

TEST(DecodeEvent, FieldsOfAStartAreChecked) {
  for (const char* type : {"run_queued", "run_started"}) {
    const auto with = [&](const std::string& more) { return line_of(type, more); };
    EXPECT_EQ(accepted(with("\"council\":\"" + std::string(255, 'c') + "\"")).council->size(), 255u);
    EXPECT_EQ(accepted(with("\"attempt\":2147483647")).attempt, 2147483647);
    EXPECT_EQ(
        accepted(with("\"parent_attempt_run_id\":\"" + std::string(255, 'p') + "\"")).parent_attempt_run_id->size(),
        255u);
    expect_field_refused("council", {with("\"council\":null"), with("\"council\":\"\""), with("\"council\":1"),
                                     with("\"council\":\"" + std::string(256, 'c') + "\"")});
    expect_field_refused("attempt", {with("\"attempt\":null"), with("\"attempt\":0"), with("\"attempt\":-1"),
                                     with("\"attempt\":2147483648"), with("\"attempt\":1.5"),
                                     with("\"attempt\":\"1\""), with("\"attempt\":true"), with("\"attempt\":1e308")});
    expect_field_refused("parent_attempt_run_id",
                         {with("\"parent_attempt_run_id\":null"), with("\"parent_attempt_run_id\":\"\""),
                          with("\"parent_attempt_run_id\":\"" + std::string(256, 'p') + "\"")});
    expect_field_refused("oban_job_id", {with("\"oban_job_id\":null"), with("\"oban_job_id\":0"),
                                         with("\"oban_job_id\":-5"), with("\"oban_job_id\":9223372036854775808"),
                                         with("\"oban_job_id\":\"7\""), with("\"oban_job_id\":0.5")});
  }
}

TEST(DecodeEvent, IntegersAreThoseByValue) {
  for (const char* one : {"1", "1.0", "1e0", "10e-1", "1.000e+00"}) {
    EXPECT_EQ(accepted(line_of("run_started", "\"attempt\":"s + one)).attempt, 1);
    EXPECT_EQ(accepted(line_of("run_started", "\"oban_job_id\":"s + one)).oban_job_id, 1);
    EXPECT_EQ(accepted(line_of("x", "\"worker_pid\":"s + one)).worker_pid, 1);
  }
}

TEST(DecodeEvent, ErrorsAreStringsOrObjects) {
  for (const char* errors : {"[]", R"(["a"])", "[{}]", R"([{"kind":null},"x"])"}) {
    EXPECT_EQ(accepted(line_of("run_failed", "\"errors\":"s + errors)).errors, errors);
  }
  for (const char* errors : {"null", "{}", "\"a\"", "1", "[null]", "[1]", "[[]]", R"(["a",true])"}) {
    expect_field_refused("errors", {line_of("run_failed", "\"errors\":"s + errors)});
  }
}

TEST(DecodeEvent, CancelledIsAnElementOrItsKind) {
  for (const char* errors :
       {R"(["cancelled"])", R"([{"kind":"cancelled"}])", R"(["a",{"x":1,"kind":"cancelled"},"b"])",
        R"(["\u0063ancelled"])", R"([{"\u006bind":"cancelle\u0064"}])", R"([ { "kind" : "cancelled" } ])"}) {
    EXPECT_TRUE(accepted(line_of("run_failed", "\"errors\":"s + errors)).cancelled) << errors;
  }
  for (const char* errors :
       {"[]", R"(["Cancelled"])", R"(["cancelled "])", R"([{"kind":["cancelled"]}])", R"([{"Kind":"cancelled"}])",
        R"([{"error":{"kind":"cancelled"}}])", R"([{"message":"cancelled"}])", R"([{"kind":"canceled"}])"}) {
    EXPECT_FALSE(accepted(line_of("run_failed", "\"errors\":"s + errors)).cancelled) << errors;
  }
  EXPECT_FALSE(accepted(line_of("run_completed", R"("errors":["cancelled"])")).cancelled);
}

TEST(DecodeEvent, FieldsNotMeantForATypeAreKeptUnvalidated) {
  const Event completed =
      accepted(line_of("run_completed", R"("council":7,"attempt":null,"errors":1,"payload":null,"oban_job_id":"x")"));
  EXPECT_FALSE(completed.council || completed.attempt || completed.errors || completed.oban_job_id);
  EXPECT_EQ(completed.payload, R"({"council":7,"attempt":null,"errors":1,"payload":null,"oban_job_id":"x"})");
  const Event started = accepted(line_of("run_started", R"("result":null,"errors":{},"payload":[1])"));
  EXPECT_FALSE(started.result || started.errors);
  EXPECT_EQ(started.payload, R"({"result":null,"errors":{},"payload":[1]})");
  const Event other = accepted(line_of(
      "member_done", R"("council":null,"attempt":-1,"input":1,"result":2,"errors":3,"parent_attempt_run_id":"")"));
  EXPECT_FALSE(other.council || other.attempt || other.input || other.result || other.errors ||
               other.parent_attempt_run_id);
  EXPECT_EQ(other.payload,
            R"({"council":null,"attempt":-1,"input":1,"result":2,"errors":3,"parent_attempt_run_id":""})");
}

TEST(DecodeEvent, LifecyclePayloadKeepsOrderAndText) {
  const Event event =
      accepted(R"({ "zeta" : 1.50 , "type":"run_started","id":"e","a":{"id":"x", "type":"y"},"worker_pid":1,)"
               R"("run_id":"r1","at":"2026-01-02T03:04:05Z","\u00e4":"\u00e4" })");
  EXPECT_EQ(event.payload, R"({"zeta":1.50,"a":{"id":"x", "type":"y"},"ä":"\u00e4"})");
  EXPECT_EQ(accepted(line_of("run_failed")).payload, "{}");
}

TEST(DecodeEvent, OtherPayloadIsPayloadWithTheRemainingFields) {
  EXPECT_EQ(accepted(line_of("x")).payload, "{}");
  EXPECT_EQ(accepted(line_of("x", R"("payload":{"a": 1.0})")).payload, R"({"a": 1.0})");
  EXPECT_EQ(accepted(line_of("x", R"("b":2,"payload":{"a":1},"c":[3])")).payload, R"({"a":1,"b":2,"c":[3]})");
  EXPECT_EQ(accepted(line_of("x", R"("payload":{ },"b":2,"worker_pid":1,"id":"e")")).payload, R"({"b":2})");
  EXPECT_EQ(accepted(line_of("x", R"("b":2)")).payload, R"({"b":2})");
  EXPECT_EQ(
      accepted(line_of("x", R"("payload":{"type":1,"run_id":2,"id":3,"at":4,"worker_pid":5,"payload":6})")).payload,
      R"({"type":1,"run_id":2,"id":3,"at":4,"worker_pid":5,"payload":6})");
  for (const char* json : {"null", "[]", "\"a\"", "1", "true"})
    expect_field_refused("payload", {line_of("x", "\"payload\":"s + json)});
}

TEST(DecodeEvent, AFieldBothInPayloadAndBesideItIsNamed) {
  for (const std::string& line : {line_of("x", R"("council":1,"payload":{"council":1})"),
                                  line_of("x", R"("payload":{"a":1,"\u0063ouncil":2},"council":1)")}) {
    const Refusal refusal = refused(line);
    EXPECT_EQ(refusal.code, RefusalCode::kInvalidEvent);
    EXPECT_NE(refusal.message.find("\"council\""), std::string::npos) << refusal.message;
  }
}

TEST(DecodeEvent, ManyFieldsInPayloadAndBesideItAreComparedQuickly) {
  std::string inside, beside;
  for (int i = 0; i < 30'000; ++i) {
    inside += (i > 0 ? ",\"i" : "\"i") + std::to_string(i) + "\":0";
    beside += ",\"b" + std::to_string(i) + "\":0";
  }
  EXPECT_FALSE(accepted(line_of("x", "\"payload\":{" + inside + "}" + beside)).payload.empty());
  expect_refused(RefusalCode::kInvalidEvent,
                 {line_of("x", "\"payload\":{" + inside + "}" + beside + ",\"i29999\":0")});
}

TEST(DecodeEvent, PayloadsAreValidObjectsThatHoldTheNumbersAsSent) {
  const std::string numbers = R"("n":[1e308,0.10,-0,123456789012345678901234567890])";
  for (const std::string& type : kAllTypes) {
    const Event event = accepted(line_of(type, numbers));
    EXPECT_EQ(event.payload, "{" + numbers + "}");
    EXPECT_EQ(scan_json(event.payload, kDepth).problem, JsonProblem::kNone);
  }
}

TEST(DecodeEvent, MessagesNeverEchoMuchOfTheLine) {
  const std::string huge = repeat("ä", 100'000);
  for (const std::string& line :
       {R"({"type":")" + huge + R"(","run_id":"r"})", line_of("x", "\"id\":\"" + huge + "\""),
        line_of("x", "\"" + huge + "\":1,\"payload\":{\"" + huge + "\":1}"),
        line_of("x", "\"" + huge + "\":1,\"" + huge + "\":1"), line_of("x", "\"at\":\"" + huge + "\""), huge}) {
    EXPECT_LT(refused(line).message.size(), kMaxMessageBytes);
  }
}

TEST(DecodeEvent, MutatedLinesKeepTheInvariants) {
  std::mt19937 random(4);
  const auto below = [&](std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random);
  };
  const std::vector<std::string> seeds = {
      line_of("run_started", R"("id":"e","at":"2026-01-02T03:04:05Z","council":"c","input":{"a":[1]},)"
                             R"("attempt":2,"oban_job_id":3,"worker_pid":4)"),
      line_of("run_failed", R"("errors":["a",{"kind":"cancelled"}],"result":null)"),
      line_of("member.done", R"("payload":{"a":1},"b":2)")};
  int events = 0, refusals = 0;
  for (int i = 0; i < 50'000; ++i) {
    std::string line = seeds[below(seeds.size())];
    for (std::size_t edits = below(3) + 1; edits > 0; --edits) {
      const std::size_t at = below(line.size());
      if (below(2) == 0) {
        line[at] = "\"\\{}[]:,0 1aeu\xC3\xA4"[below(16)];
      } else {
        line.erase(at, below(6));
      }
    }
    const auto decoded = decode_event(line, kDepth);
    if (const auto* event = std::get_if<Event>(&decoded)) {
      ++events;
      EXPECT_EQ(scan_json(event->payload, kDepth).type, JsonType::kObject) << line;
      EXPECT_EQ(scan_json(event->payload, kDepth).problem, JsonProblem::kNone) << line << "\n" << event->payload;
      EXPECT_FALSE(event->type.empty() || event->run_id.empty()) << line;
    } else if (const auto* refusal = std::get_if<Refusal>(&decoded)) {
      ++refusals;
      EXPECT_FALSE(refusal->message.empty()) << line;
    }
  }
  EXPECT_GT(events, 1000);
  EXPECT_GT(refusals, 1000);
}

// ---- fields of jobs, heartbeats and findings

TEST(DecodeEvent, QueueAndJobAreReadForStarts) {
  for (const char* type : {"run_queued", "run_started"}) {
    const auto with = [&](const std::string& more) { return line_of(type, more); };
    const Event event = accepted(with(R"("queue":"mail","job_id":"a-7")"));
    EXPECT_EQ(event.queue, "mail");
    EXPECT_EQ(event.job_id, "a-7");
    EXPECT_EQ(event.oban_job_id, std::nullopt);
    EXPECT_EQ(accepted(with("\"queue\":\"" + std::string(64, 'q') + "\"")).queue->size(), 64u);
    expect_field_refused("queue", {with("\"queue\":null"), with("\"queue\":\"\""), with("\"queue\":1"),
                                   with("\"queue\":\"" + std::string(65, 'q') + "\"")});
    expect_field_refused(
        "job_id", {with("\"job_id\":null"), with("\"job_id\":\"\""), with("\"job_id\":1.5"), with("\"job_id\":true"),
                   with("\"job_id\":\"" + std::string(256, 'j') + "\""), with("\"job_id\":18446744073709551616")});
  }
}

TEST(DecodeEvent, AJobsNumberIsItsTextAndTheOtherWayRound) {
  for (const char* seven : {"\"job_id\":7", "\"job_id\":\"7\"", "\"job_id\":7.0", "\"oban_job_id\":7",
                            "\"job_id\":\"7\",\"oban_job_id\":7"}) {
    const Event event = accepted(line_of("run_started", seven));
    EXPECT_EQ(event.job_id, "7") << seven;
    EXPECT_EQ(event.oban_job_id, 7) << seven;
  }
  for (const char* text : {"07", "+7", "7 ", "-7", "0", "9223372036854775808", "7a"}) {
    const Event event = accepted(line_of("run_started", "\"job_id\":\""s + text + "\""));
    EXPECT_EQ(event.job_id, text);
    EXPECT_EQ(event.oban_job_id, std::nullopt) << text;
  }
  expect_field_refused("job_id", {line_of("run_started", R"("job_id":"7","oban_job_id":8)"),
                                  line_of("run_started", R"("job_id":"07","oban_job_id":7)"),
                                  line_of("run_started", R"("job_id":"a","oban_job_id":7)")});
}

TEST(DecodeEvent, WhereARunRunsIsReadForStarts) {
  const std::string fields =
      R"("host":"h1","unit":"a@1.service","user":"worker","cwd":"/srv/a b","command":"make \u00e9")";
  for (const char* type : {"run_queued", "run_started"}) {
    const Event event = accepted(line_of(type, fields));
    EXPECT_EQ(event.host, "h1");
    EXPECT_EQ(event.unit, "a@1.service");
    EXPECT_EQ(event.user, "worker");
    EXPECT_EQ(event.cwd, "/srv/a b");
    EXPECT_EQ(event.command, "make é");
    EXPECT_EQ(event.payload, "{" + fields + "}");
  }
  for (const char* type : {"run_completed", "run_failed", "run_heartbeat", "run_lost", "step"}) {
    const Event event = accepted(line_of(type, fields));
    EXPECT_FALSE(event.host || event.unit || event.user || event.cwd || event.command) << type;
    EXPECT_EQ(event.payload, "{" + fields + "}");
  }
}

TEST(DecodeEvent, WhatSaysNowhereARunRunsHasNoEffectAndIsNoError) {
  using Said = std::optional<std::string> Event::*;
  const std::pair<std::string, std::pair<Said, std::size_t>> fields[] = {{"host", {&Event::host, 255}},
                                                                         {"unit", {&Event::unit, 255}},
                                                                         {"user", {&Event::user, 255}},
                                                                         {"cwd", {&Event::cwd, 1'024}},
                                                                         {"command", {&Event::command, 1'024}}};
  for (const auto& [name, field] : fields) {
    const auto [member, longest] = field;
    const auto quoted = [](std::size_t bytes) { return "\"" + std::string(bytes, 'x') + "\""; };
    EXPECT_EQ((accepted(line_of("run_started", "\"" + name + "\":" + quoted(longest))).*member)->size(), longest);
    for (const std::string& value :
         {"null"s, "7"s, "true"s, "[\"x\"]"s, "{\"name\":\"x\"}"s, "\"\""s, quoted(longest + 1)}) {
      const std::string more = "\"" + name + "\":" + value;
      const Event event = accepted(line_of("run_started", more));
      EXPECT_EQ(event.*member, std::nullopt) << more;
      EXPECT_EQ(event.payload, "{" + more + "}");
    }
  }
}

TEST(DecodeEvent, AnExpiryIsReadForStartsAndHeartbeats) {
  for (const char* type : {"run_started", "run_heartbeat"}) {
    const auto with = [&](const std::string& more) { return line_of(type, "\"expires_in\":" + more); };
    EXPECT_EQ(accepted(with("1")).expires_in, 1);
    EXPECT_EQ(accepted(with("2678400")).expires_in, 2'678'400);
    expect_field_refused("expires_in", {with("0"), with("-1"), with("2678401"), with("1.5"), with("\"30\""),
                                        with("null"), with("true")});
    EXPECT_NE(refused(with("0")).message.find("1 to 2678400"), std::string::npos);
  }
  EXPECT_EQ(accepted(line_of("run_queued", "\"expires_in\":0")).expires_in, std::nullopt);
}

TEST(DecodeEvent, AJobsStateIsReadForTerminalEvents) {
  for (const char* type : {"run_completed", "run_failed"}) {
    EXPECT_EQ(accepted(line_of(type, R"("job_state":"retryable")")).job_state, "retryable");
    expect_field_refused("job_state", {line_of(type, "\"job_state\":null"), line_of(type, "\"job_state\":\"\""),
                                       line_of(type, "\"job_state\":1")});
  }
  EXPECT_EQ(accepted(line_of("run_started", "\"job_state\":1")).job_state, std::nullopt);
}

TEST(DecodeEvent, AFindingHasAMessage) {
  const Event event = accepted(line_of("run_lost", R"("id":"e","message":"gone \u2026","more":1)"));
  EXPECT_EQ(event.kind, EventKind::kLost);
  EXPECT_EQ(event.message, "gone …");
  EXPECT_EQ(event.payload, R"({"message":"gone \u2026","more":1})");
  EXPECT_EQ(accepted(line_of("run_lost")).message, std::nullopt);
  expect_field_refused("message", {line_of("run_lost", "\"message\":null"), line_of("run_lost", "\"message\":{}")});
}

TEST(DecodeEvent, UsageIsAnObjectOfNumbers) {
  for (const std::string& type : kAllTypes) {
    const auto with = [&](const std::string& usage) { return line_of(type, "\"usage\":" + usage); };
    EXPECT_EQ(accepted(with(R"({"tokens":12,"usd":-0.10})")).usage, R"({"tokens":12,"usd":-0.10})");
    EXPECT_EQ(accepted(with("{}")).usage, "{}");
    expect_field_refused("usage", {with("null"), with("1"), with("[]"), with(R"({"a":"1"})"), with(R"({"a":null})"),
                                   with(R"({"a":{}})")});
    EXPECT_EQ(refused(with(R"({"a":9e308})")).code, RefusalCode::kInvalidJson);
  }
}

TEST(DecodeEvent, ProgressIsDoneOfATotalInAUnit) {
  for (const std::string& type : kAllTypes) {
    const auto with = [&](const std::string& progress) { return line_of(type, "\"progress\":" + progress); };
    EXPECT_EQ(accepted(with(R"({"done":1})")).progress, R"({"done":1})");
    EXPECT_EQ(accepted(with(R"({"total":10,"x":[1],"unit":"pages","done":0.5})")).progress,
              R"({"total":10,"unit":"pages","done":0.5})");
    expect_field_refused(
        "progress", {with("null"), with("1"), with("[]"), with("{}"), with(R"({"total":1})"), with(R"({"done":"1"})"),
                     with(R"({"done":1,"total":null})"), with(R"({"done":1,"unit":1})"),
                     with(R"({"done":1,"unit":")" + std::string(65, 'u') + "\"}")});
  }
}

TEST(DecodeEvent, HeartbeatsAndFindingsHaveThePayloadOfLifecycleTypes) {
  const Event event = accepted(line_of("run_heartbeat", R"("worker_pid":5,"payload":{"a":1},"expires_in":30)"));
  EXPECT_EQ(event.kind, EventKind::kHeartbeat);
  EXPECT_EQ(event.payload, R"({"payload":{"a":1},"expires_in":30})");
}

TEST(TypeFilter, LetsOnlyTheFourLifecycleTypesPassAlways) {
  const std::vector<std::string> none{"member_done"};
  const TypeFilter only({}, none);
  for (const char* type : {"run_queued", "run_started", "run_completed", "run_failed"}) {
    EXPECT_TRUE(only.keeps(accepted(line_of(type)))) << type;
  }
  for (const char* type : {"run_heartbeat", "run_lost"}) {
    EXPECT_FALSE(only.keeps(accepted(line_of(type)))) << type;
    EXPECT_TRUE(TypeFilter(none, {}).keeps(accepted(line_of(type)))) << type;
  }
}

}  // namespace
}  // namespace run_recorder
