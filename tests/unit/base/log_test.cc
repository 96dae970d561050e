#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

namespace run_recorder {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

const Timestamp kTime = parse_rfc3339("2026-01-02T03:04:05.678Z").value();

std::string text_line(std::string_view message, std::vector<LogField> fields = {}) {
  return format_text_line(kTime, LogLevel::kInfo, message, fields);
}

nlohmann::json json_line(std::string_view message, std::vector<LogField> fields = {}) {
  const std::string line = format_json_line(kTime, LogLevel::kError, message, fields);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  return nlohmann::json::parse(line);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// What is written to stderr while action runs.
template <class Action>
std::vector<std::string> logged(const LogOptions& options, const Action& action) {
  testing::internal::CaptureStderr();
  set_up_log(options);
  action();
  set_up_log({});
  return lines_of(testing::internal::GetCapturedStderr());
}

TEST(TextLine, HasTimeLevelMessageAndFields) {
  EXPECT_EQ(text_line("run is stuck", {{"RUN_ID", "r1"}, {"ATTEMPT", 2}}),
            "2026-01-02T03:04:05.678000Z info run is stuck run_id=r1 attempt=2");
  EXPECT_EQ(format_text_line(kTime, LogLevel::kWarning, "m", {}), "2026-01-02T03:04:05.678000Z warning m");
}

TEST(TextLine, QuotesValuesThatWouldBeMisread) {
  EXPECT_THAT(text_line("m", {{"A", "two words"}}), HasSubstr(R"( a="two words")"));
  EXPECT_THAT(text_line("m", {{"A", ""}}), HasSubstr(R"( a="")"));
  EXPECT_THAT(text_line("m", {{"A", "x=y"}}), HasSubstr(R"( a="x=y")"));
  EXPECT_THAT(text_line("m", {{"A", "say \"hi\""}}), HasSubstr(R"( a="say \"hi\"")"));
  EXPECT_THAT(text_line("m", {{"A", "äöü"}}), HasSubstr(" a=äöü"));
}

TEST(TextLine, EscapesControlCharacters) {
  const std::string nasty = "a\nb\r\x1b[31m\x7f\xc2\x9b\xe2\x80\xa8" + std::string(1, '\0');
  const std::string line = text_line(nasty, {{"V", nasty}});
  for (const char c : line) EXPECT_GE(static_cast<unsigned char>(c), 0x20);
  EXPECT_EQ(line.find('\x7f'), std::string::npos);
  EXPECT_EQ(line.find("\xc2\x9b"), std::string::npos);
  EXPECT_EQ(line.find("\xe2\x80\xa8"), std::string::npos);
  EXPECT_THAT(line, HasSubstr(R"(info a\nb\u000d\u001b[31m\u007f\u009b\u2028\u0000 v=)"));
  EXPECT_THAT(text_line("the \"council\" is new\n"), HasSubstr(R"(info the "council" is new\n)"));
}

TEST(TextLine, EscapesBidirectionalCharacters) {
  EXPECT_THAT(text_line("a\u202Eb", {{"V", "c\u061Cd\uFEFF"}, {"W", "\u2066e f"}}),
              HasSubstr(R"(info a\u202eb v="c\u061cd\ufeff" w="\u2066e f")"));
  const std::vector<LogField> fields = {{"V", "c\u061Cd\u2069"}};
  EXPECT_THAT(format_json_line(kTime, LogLevel::kInfo, "a\u202Eb", fields),
              HasSubstr(R"("message":"a\u202eb","v":"c\u061cd\u2069")"));
}

TEST(TextLine, ReplacesInvalidUtf8) {
  EXPECT_THAT(text_line("a\xff"), HasSubstr("info a\xef\xbf\xbd"));
}

TEST(JsonLine, IsOneObjectWithLowerCaseNames) {
  const auto line = json_line("m", {{"RUN_ID", "r\n1"}, {"COUNT", std::uint64_t{3}}, {"NEGATIVE", -1}});
  EXPECT_EQ(line.at("time"), "2026-01-02T03:04:05.678000Z");
  EXPECT_EQ(line.at("level"), "error");
  EXPECT_EQ(line.at("message"), "m");
  EXPECT_EQ(line.at("run_id"), "r\n1");
  EXPECT_EQ(line.at("count"), 3);
  EXPECT_EQ(line.at("negative"), -1);
}

TEST(JsonLine, IsValidWhateverIsInIt) {
  std::string all;
  for (int c = 0; c < 256; ++c) all.push_back(static_cast<char>(c));
  const auto line = json_line(all, {{"V", all}});
  EXPECT_THAT(line.at("v").get<std::string>(), StartsWith(std::string("\0\1\2", 3)));
}

TEST(Journal, GetsFieldsOfItsOwnAndAMessageThatIsReadableAlone) {
  const std::vector<LogField> fields = {{"RUN_ID", "r1"}, {"DETAIL", "a\nb"}};
  EXPECT_THAT(journal_entry(LogLevel::kWarning, "run is stuck", fields),
              ElementsAre("PRIORITY=4", StartsWith("SYSLOG_IDENTIFIER="),
                          R"(MESSAGE=run is stuck run_id=r1 detail="a\nb")", "RUN_ID=r1", "DETAIL=a\nb"));
  EXPECT_EQ(journal_entry(LogLevel::kDebug, "m", {})[0], "PRIORITY=7");
  EXPECT_EQ(journal_entry(LogLevel::kInfo, "m", {})[0], "PRIORITY=6");
  EXPECT_EQ(journal_entry(LogLevel::kError, "m", {})[0], "PRIORITY=3");
}

TEST(Log, WritesLinesAtTheLevelAndAbove) {
  const auto lines = logged({LogLevel::kWarning, LogFormat::kText}, [] {
    log_debug("one");
    log_info("two");
    log_warning("three", {{"RUN_ID", "r1"}});
    log_error("four {} %s");
    EXPECT_FALSE(log_enabled(LogLevel::kInfo));
    set_up_log({LogLevel::kDebug});
    EXPECT_TRUE(log_enabled(LogLevel::kDebug));
    log_debug("five");
  });
  EXPECT_THAT(lines, ElementsAre(HasSubstr("Z warning three run_id=r1"), HasSubstr("Z error four {} %s"),
                                 HasSubstr("Z debug five")));
}

TEST(Log, WritesJsonWhereAsked) {
  const auto lines = logged({LogLevel::kInfo, LogFormat::kJson}, [] { log_info("m", {{"A", "b"}}); });
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(nlohmann::json::parse(lines[0]).at("a"), "b");
}

TEST(Log, GoesToStderrWhereTheJournalIsSomewhereElse) {
  ASSERT_EQ(setenv("JOURNAL_STREAM", "1:1", 1), 0);  // a service whose stderr was redirected
  const auto lines = logged({}, [] { log_info("m"); });
  unsetenv("JOURNAL_STREAM");
  EXPECT_THAT(lines, ElementsAre(HasSubstr("Z info m")));
}

TEST(Log, KeepsErrnoAndLinesWholeAcrossThreads) {
  constexpr int kThreads = 4;
  constexpr int kEach = 200;
  const auto lines = logged({}, [] {
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([] {
        for (int i = 0; i < kEach; ++i) {
          errno = EXDEV;
          log_info("all of this line", {{"FIELD", "value"}});
          EXPECT_EQ(errno, EXDEV);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  ASSERT_EQ(lines.size(), std::size_t{kThreads * kEach});
  for (const std::string& line : lines) EXPECT_THAT(line, MatchesRegex("[^ ]+Z info all of this line field=value"));
}

TEST(RepeatGuard, SaysOnceThatItBeginsAndOnceThatItEnds) {
  auto now = std::chrono::steady_clock::time_point{};
  RepeatGuard guard(LogLevel::kError, "the database is away", "the database is back", [&now] { return now; });
  const auto lines = logged({}, [&] {
    EXPECT_FALSE(guard.clear());
    EXPECT_TRUE(guard.report("refused", {{"HOST", "h"}}));
    now += std::chrono::seconds(60);
    EXPECT_FALSE(guard.report("timed out"));
    EXPECT_TRUE(guard.active());
    EXPECT_EQ(guard.count(), 2U);
    EXPECT_EQ(guard.detail(), "timed out");
    now += std::chrono::seconds(30);
    EXPECT_TRUE(guard.clear({{"HOST", "h"}}));
    EXPECT_FALSE(guard.clear());
    EXPECT_FALSE(guard.active());
    EXPECT_EQ(guard.count(), 0U);
    EXPECT_EQ(guard.detail(), "");
    EXPECT_TRUE(guard.report(""));
  });
  EXPECT_THAT(lines, ElementsAre(HasSubstr("Z error the database is away: refused host=h"),
                                 HasSubstr("Z info the database is back count=2 duration=1m30s host=h"),
                                 testing::EndsWith("Z error the database is away")));
}

TEST(RateLimiter, LetsSomeLinesOfAMinuteThroughAndCountsTheOthers) {
  std::chrono::steady_clock::time_point now{};
  RateLimiter limit(LogLevel::kWarning, 2, "more of them", [&now] { return now; });
  const auto lines = logged({}, [&] {
    EXPECT_TRUE(limit.admit());
    now += std::chrono::seconds(59);
    EXPECT_TRUE(limit.admit());
    EXPECT_FALSE(limit.admit());
    EXPECT_FALSE(limit.admit());
    limit.tick();
    now += std::chrono::seconds(1);
    limit.tick();
    limit.tick();
    EXPECT_TRUE(limit.admit());
    now += std::chrono::seconds(60);
    EXPECT_TRUE(limit.admit());
  });
  EXPECT_THAT(lines, ElementsAre(HasSubstr("Z warning more of them count=2")));
}

TEST(RepeatGuard, LogsOneBeginningWhenManyThreadsReport) {
  RepeatGuard guard(LogLevel::kWarning, "full", "has room");
  const auto lines = logged({}, [&] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 100; ++i) guard.report("x");
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  EXPECT_EQ(lines.size(), 1U);
  EXPECT_EQ(guard.count(), 400U);
}

}  // namespace
}  // namespace run_recorder
