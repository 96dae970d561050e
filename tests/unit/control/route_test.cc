// The table of routes: what follows from it without a database, and that docs/control-api.md has the same.
#include "control/route.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <set>

#include "document.h"

namespace run_recorder::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAreArray;

TEST(RouteTable, MatchesTheDocument) {
  EXPECT_THAT(lines_of("docs/control-api.md", "# The control socket", std::regex(R"(^\| `[A-Z]+ /[^|]*\|[^|]*\|)")),
              UnorderedElementsAreArray(documented_routes()));
}

TEST(RouteTable, HasTheParametersThatTheDocumentExplains) {
  std::set<std::string> taken;
  for (const Route& route : routes()) {
    for (const Parameter& parameter : route.parameters) {
      taken.insert("| `" + std::string(parameter.name) + "` | " + allowed_values(parameter) + " |");
    }
  }
  std::set<std::string> documented;
  for (const char* section : {"## Parameters", "## Prune"}) {
    for (const std::string& line :
         lines_of("docs/control-api.md", section, std::regex(R"(^\| `[a-z_]+` \|[^|]*\|)"))) {
      documented.insert(line);
    }
  }
  EXPECT_EQ(documented, taken);
}

TEST(RouteTable, HasEveryMethodOfAPathOnce) {
  std::set<std::pair<std::string_view, std::string_view>> seen;
  for (const Route& route : routes()) {
    EXPECT_TRUE(seen.emplace(route.method, route.path).second) << route.path;
    EXPECT_NE(route.handler, nullptr) << route.path;
  }
}

TEST(TargetTraits, TellWhichTargetsAreServedFromMemory) {
  for (const char* target : {"/healthz", "/readyz", "/metrics", "/v1/status", "/healthz?x=1"}) {
    EXPECT_TRUE(traits_of(target).from_memory) << target;
  }
  for (const char* target : {"/v1/runs", "/v1/reconcile", "/v1/statusx", "", "/", "/%zz"}) {
    EXPECT_FALSE(traits_of(target).from_memory) << target;
  }
}

TEST(TargetTraits, AllowOnlyHealthAndMetricsOnTheMetricsAddress) {
  std::set<std::string_view> served;
  for (const Route& route : routes()) {
    if (traits_of(route.path).on_metrics) served.insert(route.path);
  }
  EXPECT_EQ(served, (std::set<std::string_view>{"/healthz", "/readyz", "/metrics"}));
}

TEST(TargetTraits, AllowALargeBodyToAnImportOnly) {
  for (const Route& route : routes()) EXPECT_EQ(traits_of(route.path).large_body, route.path == "/v1/import");
}

constexpr Parameter kParameters[] = {{"name"},
                                     {"limit", ParameterKind::kNumber, 1, 10},
                                     {"job", ParameterKind::kNumber},
                                     {"force", ParameterKind::kFlag},
                                     {"status", ParameterKind::kStatuses},
                                     {"ended", ParameterKind::kEndStatuses},
                                     {"since", ParameterKind::kTime},
                                     {"age", ParameterKind::kDuration}};

std::string problem_of(const RequestTarget::Query& query, std::string_view body = {}) {
  const auto arguments = Arguments::parse(kParameters, query, body);
  if (arguments) return "";
  EXPECT_EQ(arguments.error().kind, ErrorKind::kInvalid);
  return arguments.error().message;
}

TEST(Arguments, HaveTheTypesOfTheirKinds) {
  const auto arguments = Arguments::parse(
      kParameters,
      {{"name", "a"}, {"limit", "10"}, {"job", "-5"}, {"since", "2026-01-02T03:04:05 02:00"}, {"age", "2s"}});
  ASSERT_TRUE(arguments);
  EXPECT_EQ(arguments->get<std::string>("name"), "a");
  EXPECT_EQ(arguments->get<std::int64_t>("limit"), 10);
  EXPECT_EQ(arguments->get<std::int64_t>("job"), -5);
  EXPECT_EQ(arguments->get<Timestamp>("since"), parse_rfc3339("2026-01-02T01:04:05Z"));
  EXPECT_EQ(arguments->get<std::chrono::milliseconds>("age"), std::chrono::seconds{2});
  EXPECT_EQ(arguments->get<std::vector<Status>>("status"), std::nullopt);
  EXPECT_FALSE(arguments->flag("force"));
}

TEST(Arguments, JoinRepeatedStatusesAndTakeTheLastOfOtherParameters) {
  const auto arguments = Arguments::parse(
      kParameters,
      {{"status", "stuck,failed"}, {"status", "running"}, {"limit", "1"}, {"limit", "2"}, {"force", "1"}});
  ASSERT_TRUE(arguments);
  EXPECT_EQ(arguments->get<std::vector<Status>>("status"),
            (std::vector{Status::kStuck, Status::kFailed, Status::kRunning}));
  EXPECT_EQ(arguments->get<std::int64_t>("limit"), 2);
  EXPECT_TRUE(arguments->flag("force"));
}

TEST(Arguments, AreTakenFromABodyAfterTheQuery) {
  const auto arguments = Arguments::parse(kParameters, {{"limit", "1"}, {"ended", "failed"}},
                                          R"({"limit":3,"force":true,"ended":["stuck","completed"],"name":"b"})");
  ASSERT_TRUE(arguments);
  EXPECT_EQ(arguments->get<std::int64_t>("limit"), 3);
  EXPECT_TRUE(arguments->flag("force"));
  EXPECT_EQ(arguments->get<std::string>("name"), "b");
  EXPECT_EQ(arguments->get<std::vector<Status>>("ended"),
            (std::vector{Status::kFailed, Status::kStuck, Status::kCompleted}));
}

TEST(Arguments, NameWhatIsWrongAndWhatIsAllowed) {
  EXPECT_EQ(problem_of({{"limit", "11"}}), R"(limit: invalid value "11": must be a number from 1 to 10)");
  EXPECT_EQ(problem_of({{"job", "x"}}), R"(job: invalid value "x": must be a whole number)");
  EXPECT_EQ(problem_of({{"force", "yes"}}), R"(force: invalid value "yes": must be true or false)");
  EXPECT_EQ(problem_of({{"ended", "running"}}),
            R"(ended: invalid value "running": must be completed, failed, cancelled or stuck, several by comma)");
  EXPECT_THAT(problem_of({{"since", "yesterday"}}), HasSubstr("RFC 3339"));
  EXPECT_EQ(problem_of({{"age", "0s"}}), R"(age: invalid value "0s": must be a duration above 0s, as 30d)");
  EXPECT_THAT(problem_of({{"colour", "red"}}), HasSubstr(R"(unknown parameter "colour": must be name, limit,)"));
  EXPECT_EQ(problem_of({}, "[]"), "malformed body: must be a JSON object, or nothing");
  EXPECT_EQ(problem_of({}, R"({"force":"true"})"), "force: must be true or false");
  EXPECT_EQ(problem_of({}, R"({"name":{}})"), "name: must be any text");
  EXPECT_EQ(Arguments::parse({}, {{"x", ""}}).error().message, R"(unknown parameter "x": this route takes none)");
}

}  // namespace
}  // namespace run_recorder::testing
