#include "cli/text.h"

#include <gtest/gtest.h>

#include <clocale>

#include "cli/json_object.h"
#include "cli/run_query.h"
#include "cli/run_view.h"
#include "cli/table.h"
#include "cli/timeline.h"

namespace run_recorder {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Text : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { std::setlocale(LC_CTYPE, "C.UTF-8"); }
};

TEST_F(Text, EscapesControlCharacters) {
  EXPECT_EQ(printable("a\x1b[31mb\n\x7f\xc2\x9b\xff"), "a\\x1b[31mb\\n\\x7f\\x9b\uFFFD");
  EXPECT_EQ(printable("left\u202Eright"), "left\\u202eright");
  EXPECT_EQ(printable("ünï → 漢"), "ünï → 漢");
}

TEST_F(Text, TablesEscapeControlCharacters) {
  Table table({{.title = "RUN"}}, Terminal{});
  table.add({{"a\u061Cb\uFEFFc\u0085"}});
  EXPECT_EQ(table.render(), "RUN\na\\u061cb\\ufeffc\\x85\n");
}

TEST_F(Text, WidthsAreColumnsNotBytes) {
  EXPECT_EQ(display_width("ü漢x"), 4U);
  EXPECT_EQ(fit("ü漢字x", 4), "ü漢…");
  EXPECT_EQ(fit("abc", 3), "abc");
  EXPECT_EQ(fit("abcd", 3), "ab…");
}

TEST_F(Text, FormatsDurationsAndAges) {
  EXPECT_EQ(duration_in_words(milliseconds(850)), "850 ms");
  EXPECT_EQ(duration_in_words(milliseconds(12'340)), "12.3 s");
  EXPECT_EQ(duration_in_words(seconds(245)), "4 min 5 s");
  EXPECT_EQ(duration_in_words(seconds(12'000)), "3 h 20 min");
  EXPECT_EQ(duration_in_words(seconds(2 * 86'400 + 4 * 3'600)), "2 d 4 h");
  const Timestamp now = *parse_rfc3339("2026-01-02T03:04:05Z");
  EXPECT_EQ(age_in_words(now, now), "just now");
  EXPECT_EQ(age_in_words(now - seconds(12), now), "12 s ago");
  EXPECT_EQ(age_in_words(now - seconds(200), now), "3 min ago");
  EXPECT_EQ(age_in_words(now - seconds(47 * 3'600), now), "47 h ago");
  EXPECT_EQ(age_in_words(now - seconds(12 * 86'400), now), "12 d ago");
  EXPECT_EQ(age_in_words(now + seconds(3'600), now), "in 1 h");
}

TEST_F(Text, FormatsNumbers) {
  EXPECT_EQ(with_separators(0), "0");
  EXPECT_EQ(with_separators(999), "999");
  EXPECT_EQ(with_separators(1'234'567), "1,234,567");
  EXPECT_EQ(number_in_words("-1234567.8900"), "-1,234,567.8900");
  EXPECT_EQ(number_in_words("-123"), "-123");
  EXPECT_EQ(number_in_words("12345e3"), "12345e3");
  EXPECT_EQ(count_of(1, "run"), "1 run");
  EXPECT_EQ(count_of(1'000, "run"), "1,000 runs");
}

TEST_F(Text, APaceSaysWhatIsKnown) {
  using std::chrono::milliseconds;
  EXPECT_EQ(pace_in_words(0, 0, milliseconds{0}), "");
  EXPECT_EQ(pace_in_words(19'000, 0, milliseconds{2'000}), ", 9,500 runs/s");
  EXPECT_EQ(pace_in_words(1'000, 0.25, milliseconds{10'000}), ", 25 %, 100 runs/s, 31.0 s left");
  EXPECT_EQ(pace_in_words(10, 0.001, milliseconds{1'000}), ", 0 %, 10 runs/s") << "too early for a guess";
  EXPECT_EQ(pace_in_words(10, 1, milliseconds{1'000}), ", 100 %, 10 runs/s");
  EXPECT_EQ(pace_in_words(10, 1.5, milliseconds{1'000}), ", 10 runs/s") << "more than there were said to be";
}

TEST_F(Text, AnyRunIdIsOnePathSegment) {
  EXPECT_EQ(percent_encoded("a/b ü%?#"), "a%2Fb%20%C3%BC%25%3F%23");
  EXPECT_EQ(percent_encoded("A-z_0.9~"), "A-z_0.9~");
  EXPECT_EQ(percent_encoded(".."), "%2E%2E");
}

TEST_F(Text, ABarHasAtLeastOneBlock) {
  EXPECT_EQ(bar(0, 1, 4), "████");
  EXPECT_EQ(bar(0, 0, 4), "█···");
  EXPECT_EQ(bar(1, 1, 4), "···█");
  EXPECT_EQ(bar(0.5, 0.74, 4), "··█·");
}

TEST_F(Text, PrettyJsonKeepsNumbersAsTheyAre) {
  EXPECT_EQ(pretty_json(R"({"a":1.000000000000000000001,"b":[],"c":[1,{"d":"x"}]})", 0),
            "{\n  \"a\": 1.000000000000000000001,\n  \"b\": [],\n  \"c\": [\n    1,\n    {\n      \"d\": \"x\"\n    "
            "}\n  ]\n}");
}

TEST_F(Text, ATableIsAlignedAndFitsTheTerminal) {
  const std::vector<Column> columns = {
      {.title = "ID", .right = true}, {.title = "NAME", .shrinks_to = 4}, {.title = "NOTE", .optional = true}};
  Table wide(columns, Terminal{});
  wide.add({{"7"}, {"漢字 backup"}, {"fine"}});
  wide.add({{"123"}, {"b"}, {""}});
  EXPECT_EQ(wide.render(), " ID  NAME         NOTE\n  7  漢字 backup  fine\n123  b\n");
  Table narrow(columns, Terminal{.is_terminal = true, .columns = 12});
  narrow.add({{"7"}, {"nightly-backup"}, {"a long note that has no place"}});
  EXPECT_EQ(narrow.render(), "ID  NAME\n 7  nightly…\n");
}

TEST_F(Text, LaterPagesKeepTheColumnWidths) {
  Table table({{.title = "A"}, {.title = "B"}}, Terminal{});
  table.add({{"long value"}, {"x"}});
  EXPECT_EQ(table.render(), "A           B\nlong value  x\n");
  table.add({{"s"}, {"y"}});
  EXPECT_EQ(table.render(), "s           y\n");
}

}  // namespace
}  // namespace run_recorder
