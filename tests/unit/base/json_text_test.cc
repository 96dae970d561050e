#include "base/json_text.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

namespace run_recorder {
namespace {

using namespace std::string_literals;

constexpr std::size_t kDepth = 64;

JsonProblem problem(std::string_view text, std::size_t max_depth = kDepth) {
  return scan_json(text, max_depth).problem;
}

std::string repeat(std::string_view part, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) text += part;
  return text;
}

void expect_all(JsonProblem expected, const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    const JsonScan scan = scan_json(text, kDepth);
    EXPECT_EQ(scan.problem, expected) << text << ": " << scan.message;
    EXPECT_EQ(scan.message.empty(), expected == JsonProblem::kNone) << text;
  }
}

TEST(ScanJson, ValuesOfEveryTypeAreAccepted) {
  expect_all(JsonProblem::kNone, {"{}",
                                  "[]",
                                  "\"\"",
                                  "0",
                                  "-0",
                                  "1",
                                  "-12.50",
                                  "1e5",
                                  "1E+05",
                                  "1.5e-7",
                                  "true",
                                  "false",
                                  "null",
                                  " \t\r\n{ } \r\n",
                                  R"({"a":[1,2,{"b":null}],"c":"d"})",
                                  R"([[],[[]],{}])",
                                  R"("\"\\\/\b\f\n\r\t\u00e4\uD83D\uDE00")",
                                  "\"\x7F\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80\"",
                                  R"({"":1})",
                                  "\"\xEF\xBB\xBF\""});
}

TEST(ScanJson, SyntaxErrorsAreMalformed) {
  expect_all(JsonProblem::kMalformed, {"",           "   ",      "{",         "}",           "[",
                                       "]",          "[}",       "{]",        "[1,]",        "[,1]",
                                       "[1 2]",      "{\"a\"}",  "{\"a\":}",  "{\"a\":1,}",  "{,}",
                                       "{a:1}",      "{'a':1}",  "{\"a\" 1}", "{1:2}",       "{\"a\":1 \"b\":2}",
                                       "{\"a\"::1}", "tru",      "True",      "nul",         "nulll",
                                       "NaN",        "Infinity", "undefined", "// c\n1",     "/**/1",
                                       "\"",         "\"a",      "\"\\",      "\"\\\"",      "'a'",
                                       "\"\\x\"",    "\"\\'\"",  "\"\\u12\"", "\"\\u12g4\"", "\"\\U0041\"",
                                       "\x0B{}",     "\x0C{}",   "{}\xC2\xA0"});
}

TEST(ScanJson, TrailingTextIsMalformed) {
  expect_all(JsonProblem::kMalformed, {"{}{}", "{} x", "1 2", "[]]", "{}}", "\"a\"b", "null,", "{}\0"s, "1\0"s});
}

TEST(ScanJson, ByteOrderMarkAndNulByteAreMalformed) {
  expect_all(JsonProblem::kMalformed, {"\xEF\xBB\xBF{}", "\0{}"s, "{\0}"s, "\"\0\""s, "{\"a\0\":1}"s});
}

TEST(ScanJson, RawControlCharactersInStringsAreMalformed) {
  for (int c = 0; c < 0x20; ++c) {
    const std::string character(1, static_cast<char>(c));
    expect_all(JsonProblem::kMalformed,
               {"\"" + character + "\"", "\"1234567" + character + "89\"", "{\"" + character + "\":1}"});
  }
}

TEST(ScanJson, NumbersFollowTheGrammar) {
  expect_all(JsonProblem::kMalformed, {"01", "-01", "00", "-", "+1", ".5", "1.", "1.e5", "1e", "1e+", "1e-", "1ee5",
                                       "1.2.3", "0x10", "1_000", "--1", "1-", "-a", "1a"});
}

TEST(ScanJson, NumbersThatAreNoFiniteDoubleAreMalformed) {
  const std::string largest = "1.7976931348623157e308";
  expect_all(JsonProblem::kNone,
             {"1e308", "1E+308", "-1e308", largest, "-" + largest, "1e0000000308", "1e-000", "1e00", "0.001e310",
              "17" + std::string(307, '0'), "0." + std::string(400, '0') + "1e700"});
  expect_all(JsonProblem::kMalformed,
             {"9e308", "-9e308", "1e309", "1e+0309", "1.8e308", "1e999", "1e1001", "1e99999999999999999999",
              "18" + std::string(307, '0'), "-2" + std::string(308, '0') + ".5", "100e307", "[1,{\"a\":1e1000}]"});
  EXPECT_EQ(scan_json("[1, 9e308]", 8).message, "number too large for a double at byte 5");
}

TEST(ScanJson, NumbersTooSmallForADoubleAreZero) {
  expect_all(JsonProblem::kNone, {"1e-308", "1e-309", "-1e-400", "0e309", "0.0e999", "0e308",
                                  "0." + std::string(900, '0') + "1", "0." + std::string(900, '0') + "1e-50"});
  expect_all(JsonProblem::kMalformed, {"1e-1001", "0e1001"});
}

TEST(ScanJson, NumbersOfMoreThan1000CharactersAreMalformed) {
  EXPECT_EQ(problem("7." + std::string(998, '7')), JsonProblem::kNone);
  EXPECT_EQ(problem("7." + std::string(999, '7')), JsonProblem::kMalformed);
  EXPECT_EQ(problem("-7." + std::string(997, '7')), JsonProblem::kNone);
  EXPECT_EQ(problem("-7." + std::string(998, '7')), JsonProblem::kMalformed);
  EXPECT_EQ(problem("0." + std::string(998, '0')), JsonProblem::kNone);
  EXPECT_EQ(problem("[0." + std::string(999, '0') + "]"), JsonProblem::kMalformed);
  EXPECT_EQ(problem("1e" + std::string(998, '0')), JsonProblem::kNone);
  EXPECT_EQ(problem("1e" + std::string(999, '0')), JsonProblem::kMalformed);
}

TEST(ScanJson, InvalidUtf8IsMalformedWhereverItStands) {
  for (const char* bytes :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xC2", "\xE0\x9F\xBF", "\xE2\x82", "\xED\xA0\x80", "\xED\xBF\xBF",
        "\xF0\x8F\xBF\xBF", "\xF0\x9F\x98", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF"}) {
    for (std::size_t before = 0; before < 10; ++before) {
      const std::string text = std::string(before, 'x') + bytes;
      expect_all(JsonProblem::kMalformed, {"\"" + text + "\"", "{\"" + text + "\":1}", "\"" + text});
    }
    expect_all(JsonProblem::kMalformed, {bytes, "{} "s + bytes});
  }
}

TEST(ScanJson, LoneSurrogatesAreMalformed) {
  expect_all(JsonProblem::kMalformed, {R"("\ud800")", R"("\udbff")", R"("\udc00")", R"("\uDFFF")", R"("\ud800x")",
                                       R"("\ud800\n")", R"("\ud800\u0041")", R"("\ud800\ud800")", R"("\udc00\ud800")",
                                       R"({"\ud800":1})", R"("\ud800\u")", R"("\ud800\)", R"("\ud83d\ude0")"});
  expect_all(JsonProblem::kNone, {R"("\ud800\udc00")", R"("\uDBFF\uDFFF")", R"("\uD7FF\uE000")"});
}

TEST(ScanJson, DuplicateKeysAreMalformedAtEveryDepth) {
  expect_all(JsonProblem::kMalformed,
             {R"({"a":1,"a":1})", R"({"a":1,"b":2,"a":3})", R"([{"a":1,"a":2}])", R"({"x":{"y":[{"a":1,"a":2}]}})",
              R"({"":1,"":2})", R"({"a":{"a":1},"a":2})", R"({"b":{"a":1,"c":2},"b":2})"});
  expect_all(JsonProblem::kNone,
             {R"({"a":{"a":{"a":1}}})", R"([{"a":1},{"a":2}])", R"({"a":1,"A":2})", R"({"a":"a","b":"a"})"});
}

TEST(ScanJson, KeysAreComparedDecoded) {
  expect_all(JsonProblem::kMalformed,
             {R"({"a":1,"\u0061":2})", R"({"ä":1,"\u00e4":2})", R"({"\ud83d\ude00":1,"😀":2})", R"({"\/":1,"/":2})",
              R"([{"\n":1,"\u000A":2}])"});
  expect_all(JsonProblem::kNone, {R"({"a":1,"\\u0061":2})", R"({"\\":1,"\\\\":2})"});
}

TEST(ScanJson, DuplicatesAreFoundAmongManyKeys) {
  for (const std::size_t count : {7u, 8u, 9u, 10u, 1000u}) {
    std::string object = "{";
    for (std::size_t i = 0; i < count; ++i) object += "\"key" + std::to_string(i * 7919 % count) + "\":0,";
    EXPECT_EQ(problem(object + "\"other\":0}"), JsonProblem::kNone);
    for (const std::size_t twice : {std::size_t{0}, count / 2, count - 1}) {
      const std::string with_duplicate = object + "\"key" + std::to_string(twice) + "\":0}";
      EXPECT_EQ(problem(with_duplicate), JsonProblem::kMalformed);
      EXPECT_EQ(problem("[" + with_duplicate + "]"), JsonProblem::kMalformed);
    }
  }
}

TEST(ScanJson, OutermostArrayOrObjectIsDepthOne) {
  EXPECT_EQ(problem("1", 0), JsonProblem::kNone);
  EXPECT_EQ(problem("[]", 0), JsonProblem::kTooDeep);
  EXPECT_EQ(problem("{}", 1), JsonProblem::kNone);
  EXPECT_EQ(problem("[{}]", 1), JsonProblem::kTooDeep);
  EXPECT_EQ(problem(R"({"a":[1]})", 2), JsonProblem::kNone);
  EXPECT_EQ(problem(repeat("[", 64) + repeat("]", 64)), JsonProblem::kNone);
  EXPECT_EQ(problem(repeat("[", 65) + repeat("]", 65)), JsonProblem::kTooDeep);
  EXPECT_EQ(problem(R"({"a":")" + repeat("[", 100) + "\"}"), JsonProblem::kNone);
}

TEST(ScanJson, TooDeepWinsOverMalformedWhereverItStands) {
  const std::string deep = repeat("[", 65) + repeat("]", 65);
  expect_all(JsonProblem::kTooDeep,
             {repeat("[", 65), repeat("{\"a\":", 65), "x" + deep, "{} " + deep, R"({"a":1,"a":)" + deep + "}",
              "\xFF" + deep, deep + "\xFF", "{\"a\":01,\"b\":" + deep, R"({"a":"\ud800","b":)" + deep + "}",
              R"({"a":"\x\"","b":)" + deep + "}", R"({"a":"\u0000","b":)" + deep + "}",
              repeat("[", 40) + "x" + repeat("[", 40)});
}

TEST(ScanJson, BracketsThatCloseOrStandInStringsDoNotMakeMalformedTextDeep) {
  expect_all(JsonProblem::kMalformed,
             {repeat("[]", 100), repeat("[}", 100), repeat("]", 100) + repeat("[", 64),
              "{\"a\":\"" + repeat("[", 100), "x\"\\\"" + repeat("[", 100) + "\"", repeat("[", 64)});
}

TEST(ScanJson, NulEscapesAreToldApartFromMalformed) {
  expect_all(JsonProblem::kNulEscape,
             {R"("\u0000")", R"({"a":"x\u0000y"})", R"({"\u0000":1})", R"([[{"a":["\u0000"]}]])"});
  expect_all(JsonProblem::kNone, {R"("\\u0000")", R"("\u0001")", R"("u0000")"});
  expect_all(JsonProblem::kMalformed, {R"({"a":"\u0000")", R"({"\u0000":1,"\u0000":2})", R"({"a":"\u0000"} x)"});
}

TEST(ScanJson, MembersAreDecodedKeysAndSlicesOfTheText) {
  const std::string text =
      R"( { "a" : 1.50 , "\u00e4b":[ 1, {"x":2} ] ,"c":{"d" : "}"},"e":"\"" , "f":null,"g":{},"h":true } )";
  const JsonScan scan = scan_json(text, kDepth);
  ASSERT_EQ(scan.problem, JsonProblem::kNone);
  EXPECT_EQ(scan.type, JsonType::kObject);
  const std::vector<std::pair<std::string, std::string>> expected = {{"a", "1.50"},
                                                                     {"äb", R"([ 1, {"x":2} ])"},
                                                                     {"c", R"({"d" : "}"})"},
                                                                     {"e", R"("\"")"},
                                                                     {"f", "null"},
                                                                     {"g", "{}"},
                                                                     {"h", "true"}};
  const std::vector<JsonType> types = {JsonType::kNumber, JsonType::kArray,  JsonType::kObject, JsonType::kString,
                                       JsonType::kNull,   JsonType::kObject, JsonType::kTrue};
  ASSERT_EQ(scan.members.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(scan.members[i].key, expected[i].first);
    EXPECT_EQ(scan.members[i].value, expected[i].second);
    EXPECT_EQ(scan.members[i].type, types[i]);
    EXPECT_GE(scan.members[i].value.data(), text.data());
    EXPECT_LE(scan.members[i].value.data(), text.data() + text.size());
  }
  const auto again = json_members(text);
  ASSERT_EQ(again.size(), scan.members.size());
  for (std::size_t i = 0; i < again.size(); ++i) {
    EXPECT_EQ(again[i].key, scan.members[i].key);
    EXPECT_EQ(again[i].value.data(), scan.members[i].value.data());
    EXPECT_EQ(again[i].value.size(), scan.members[i].value.size());
    EXPECT_EQ(again[i].type, scan.members[i].type);
  }
}

TEST(ScanJson, OnlyObjectsHaveMembers) {
  EXPECT_TRUE(scan_json(R"([{"a":1}])", kDepth).members.empty());
  EXPECT_TRUE(scan_json(R"({"a":1)", kDepth).members.empty());
  EXPECT_EQ(scan_json("[]", kDepth).type, JsonType::kArray);
  EXPECT_EQ(scan_json(" \"a\"", kDepth).type, JsonType::kString);
  EXPECT_EQ(scan_json("-1", kDepth).type, JsonType::kNumber);
}

TEST(ScanJson, MessagesNameTheByteAndStayShort) {
  EXPECT_NE(scan_json(R"({"a" 1})", kDepth).message.find("byte 6"), std::string::npos);
  EXPECT_NE(scan_json(R"({"a":1,"a":2})", kDepth).message.find("duplicate key \"a\""), std::string::npos);
  EXPECT_NE(scan_json("[[]]", 1).message.find("more than 1 nested"), std::string::npos);
  const std::string long_key = "\"" + repeat("ä", 10'000) + "\":1";
  EXPECT_LT(scan_json("{" + long_key + "," + long_key + "}", kDepth).message.size(), 200u);
}

TEST(ScanJson, HugeHostileTextsTakeLinearTimeAndLittleStack) {
  const std::size_t size = 1 << 20;
  EXPECT_EQ(problem(repeat("[", size)), JsonProblem::kTooDeep);
  EXPECT_EQ(problem(repeat("[", size), size), JsonProblem::kMalformed);
  EXPECT_EQ(problem(repeat("[", size) + repeat("]", size), size), JsonProblem::kNone);
  EXPECT_EQ(problem("\"" + std::string(size, 'a')), JsonProblem::kMalformed);
  std::string object = "{";
  for (int i = 0; i < 100'000; ++i) object += "\"" + std::to_string(i) + "\":0,";
  EXPECT_EQ(problem(object + "\"x\":0}"), JsonProblem::kNone);
  EXPECT_EQ(problem(object + "\"99999\":0}"), JsonProblem::kMalformed);
}

TEST(ReadJson, ElementsAreSlices) {
  const auto elements = json_elements(R"( [ 1 ,"a,]" , [2,[3]],{"b":[4]} , null,-1.5e3 ] )");
  const std::vector<std::string_view> expected = {"1", R"("a,]")", "[2,[3]]", R"({"b":[4]})", "null", "-1.5e3"};
  EXPECT_EQ(elements, expected);
  EXPECT_TRUE(json_elements("[]").empty());
  EXPECT_TRUE(json_elements(" [ ] ").empty());
  EXPECT_TRUE(json_members(" { } ").empty());
}

TEST(ReadJson, StringsAreDecoded) {
  EXPECT_EQ(json_string_value(R"("")"), "");
  EXPECT_EQ(json_string_value(R"("plain ä")"), "plain ä");
  EXPECT_EQ(json_string_value(R"("\"\\\/\b\f\n\r\t")"), "\"\\/\b\f\n\r\t");
  EXPECT_EQ(json_string_value(R"("\u0041\u00e4\u20AC\uD83D\uDE00\uffff")"), "Aä€😀\xEF\xBF\xBF");
  EXPECT_EQ(json_string_value(R"("a\u0000b")"), "a\0b"s);
}

TEST(ReadJson, IntegersAreThoseByValue) {
  const std::vector<std::pair<std::string, std::int64_t>> integers = {
      {"0", 0},
      {"-0", 0},
      {"0.000", 0},
      {"0e-308", 0},
      {"1", 1},
      {"-5", -5},
      {"1.0", 1},
      {"1e0", 1},
      {"1E+3", 1000},
      {"2.50e1", 25},
      {"1200e-2", 12},
      {"0.001e3", 1},
      {"2147483647", 2147483647},
      {"9223372036854775807", std::numeric_limits<std::int64_t>::max()},
      {"-9223372036854775808", std::numeric_limits<std::int64_t>::min()},
      {"9223372036854775807.000", std::numeric_limits<std::int64_t>::max()},
      {"1e18", 1'000'000'000'000'000'000},
      {"1" + std::string(300, '0') + "e-300", 1}};
  for (const auto& [text, value] : integers) EXPECT_EQ(json_integer(text), value) << text;
  for (const std::string& text : {"1.5"s, "1e-1"s, "9223372036854775808"s, "-9223372036854775809"s, "1e19"s, "1e308"s,
                                  "1e-308"s, "0.1"s, std::string(1000, '9'), "9223372036854775807.1"s}) {
    EXPECT_EQ(json_integer(text), std::nullopt) << text;
  }
}

TEST(WriteJson, StringsAreEscapedAndReadBack) {
  EXPECT_EQ(json_string("a\"b\\c\n\x01\x7F/ä"), "\"a\\\"b\\\\c\\n\\u0001\x7F/ä\"");
  std::string all;
  for (int c = 0; c < 0x80; ++c) all += static_cast<char>(c);
  EXPECT_EQ(json_string_value(json_string(all)), all);
  EXPECT_EQ(problem(json_string(all)), JsonProblem::kNulEscape);
  EXPECT_EQ(json_string("a\xFF\xC3z"), "\"a\xEF\xBF\xBD\xEF\xBF\xBDz\"");
}

TEST(CompareJson, IgnoresSpelling) {
  const std::vector<std::pair<std::string, std::string>> equal = {
      {"1", "1.0"},
      {"1", "10e-1"},
      {"100", "1E2"},
      {"-0", "0"},
      {"-0.0e5", "0"},
      {"0.5", "5e-1"},
      {"1e308", "1" + std::string(308, '0')},
      {"1e-308", "0." + std::string(307, '0') + "1"},
      {"\"a\"", "\"\\u0061\""},
      {"\"/\"", "\"\\/\""},
      {"\"\\ud83d\\ude00\"", "\"😀\""},
      {R"({"a":1,"b":[1,2]})", R"( { "b" : [ 1.0 , 2 ] , "a" : 1 } )"},
      {R"({"x":{"c":1,"a":2,"b":{"z":1,"y":2}}})", R"({"x":{"b":{"y":2,"z":1},"a":2,"c":1}})"},
      {"{}", " { } "},
      {"[ ]", "[]"},
      {R"({"\u0061":1})", R"({"a":1})"},
      {std::string(1000, '7'), std::string(1000, '7') + ".000"},
      {"1" + std::string(900, '0') + "e308", "1" + std::string(1208, '0')}};
  for (const auto& [a, b] : equal) {
    EXPECT_TRUE(json_equal(a, b)) << a << " " << b;
    EXPECT_TRUE(json_equal(b, a));
    EXPECT_EQ(canonical_json(a), canonical_json(b));
    EXPECT_EQ(canonical_json(canonical_json(a)), canonical_json(a));
  }
}

TEST(CompareJson, ValuesAreComparedExactly) {
  const std::vector<std::pair<std::string, std::string>> different = {{"1", "-1"},
                                                                      {"1", "\"1\""},
                                                                      {"1", "true"},
                                                                      {"null", "false"},
                                                                      {"[]", "{}"},
                                                                      {"[1,2]", "[2,1]"},
                                                                      {"{}", R"({"a":null})"},
                                                                      {R"({"a":1})", R"({"a":2})"},
                                                                      {R"({"a":1})", R"({"b":1})"},
                                                                      {"9007199254740993", "9007199254740992"},
                                                                      {"0.1", "0.1000000000000000055511151231257827"},
                                                                      {"1e308", "1e307"},
                                                                      {"1e2", "1e-2"},
                                                                      {"\"a\"", "\"A\""},
                                                                      {"\"1.0\"", "\"1\""},
                                                                      {"[[1],2]", "[1,[2]]"},
                                                                      {"[[],[]]", "[[[]]]"},
                                                                      {R"(["a","b"])", R"(["a,b"])"},
                                                                      {"\"a \"", "\"a\""}};
  for (const auto& [a, b] : different) {
    EXPECT_FALSE(json_equal(a, b)) << a << " " << b;
    EXPECT_NE(canonical_json(a), canonical_json(b));
  }
}

TEST(CompareJson, DeepAndLargeValuesAreCompared) {
  const std::size_t depth = 10'000;
  const std::string deep = repeat(R"({"b":0,"a":)", depth) + "1" + repeat("}", depth);
  const std::string deep_reordered = repeat(R"({"a":)", depth) + "1.0" + repeat(R"(,"b":0})", depth);
  EXPECT_TRUE(json_equal(deep, deep_reordered));
  std::string up = "{", down = "{";
  for (int i = 0; i < 20'000; ++i) {
    up += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":" + std::to_string(i);
    down += (i > 0 ? ",\"" : "\"") + std::to_string(19'999 - i) + "\":" + std::to_string(19'999 - i);
  }
  EXPECT_TRUE(json_equal(up + "}", down + "}"));
}

// What nlohmann_json thinks of a text, with the contract's own rules checked on its events.
class Reference : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Reference(const std::string& text) { accepted_ = nlohmann::json::sax_parse(text, this); }

  // Numbers that a double cannot hold are refused by nlohmann_json, but not by the contract.
  bool comparable() const { return !out_of_range_; }
  JsonProblem problem(std::size_t max_depth) const {
    if (accepted_ && deepest_ > max_depth) return JsonProblem::kTooDeep;
    if (!accepted_ || broken_) return JsonProblem::kMalformed;
    return nul_ ? JsonProblem::kNulEscape : JsonProblem::kNone;
  }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t& text) override {
    const std::size_t e = text.find_first_of("eE");
    broken_ = broken_ || text.size() > 1000 ||
              (e != std::string::npos && std::abs(std::strtod(text.c_str() + e + 1, nullptr)) > 1000);
    return true;
  }
  bool string(string_t& value) override {
    nul_ = nul_ || value.find('\0') != std::string::npos;
    return true;
  }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override {
    keys_.emplace_back();
    return open();
  }
  bool key(string_t& value) override {
    broken_ = !keys_.back().insert(value).second || broken_;
    return string(value);
  }
  bool end_object() override {
    keys_.pop_back();
    return close();
  }
  bool start_array(std::size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& error) override {
    out_of_range_ = error.id == 406;
    return false;
  }

 private:
  bool open() {
    deepest_ = std::max(deepest_, ++depth_);
    return true;
  }
  bool close() {
    --depth_;
    return true;
  }

  bool accepted_ = false, broken_ = false, nul_ = false, out_of_range_ = false;
  std::size_t depth_ = 0, deepest_ = 0;
  std::vector<std::set<std::string>> keys_;
};

class Generator {
 public:
  explicit Generator(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t limit) { return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random_); }

  std::string value(int depth) {
    switch (below(depth > 0 ? 9 : 6)) {
      case 0:
        return pick({"null", "true", "false"});
      case 1:
      case 2:
        return pick({"0", "-0", "1", "-12", "3.25", "1e5", "1E+008", "2.5e-300", "123456789012345678901234567890",
                     "1e308", "0e309", "1e-400"});
      case 3:
      case 4:
      case 5:
        return string();
      case 6:
        return list("[", "]", depth, false);
      default:
        return list("{", "}", depth, true);
    }
  }

  std::string mutated(std::string text) {
    for (std::size_t i = below(3) + 1; i > 0; --i) {
      const std::size_t at = below(text.size() + 1);
      switch (below(4)) {
        case 0:
          text.insert(at, pick({"\"", "\\", "{", "}", "[", "]", ",", ":", "0", "-", ".", "e", " ", "\\u", "\xC3",
                                "\xED\xA0\x80", "u0000"}));
          break;
        case 1:
          text.erase(at, below(4));
          break;
        case 2:
          if (at < text.size()) text[at] = static_cast<char>(below(255) + 1);
          break;
        default:
          text.insert(at, text.substr(below(text.size() + 1), below(20)));
      }
    }
    return text;
  }

 private:
  std::string pick(std::initializer_list<std::string> choices) { return *(choices.begin() + below(choices.size())); }
  std::string white() { return pick({"", "", "", " ", "\t", "\r", "  "}); }
  std::string string() {
    std::string text = "\"";
    for (std::size_t i = below(6); i > 0; --i) {
      text += pick({"a", "b", "plain text of some length", "ä", "€", "😀", "\\n", "\\\"", "\\\\", "\\u00e4",
                    "\\ud83d\\ude00", "\\ud83d", "\\u0000", "\x7F", "[", "}"});
    }
    return text + "\"";
  }
  std::string list(const char* open, const char* close, int depth, bool object) {
    std::string text = open + white();
    for (std::size_t i = 0, count = below(5); i < count; ++i) {
      if (i > 0) text += white() + "," + white();
      if (object)
        text += (below(4) == 0 ? string() : "\"k" + std::to_string(below(12)) + "\"") + white() + ":" + white();
      text += value(depth - 1);
    }
    return text + white() + close;
  }

  std::mt19937 random_;
};

TEST(ScanJson, AgreesWithAnotherParserOnGeneratedAndMutatedTexts) {
  constexpr std::size_t kMaxDepth = 4;
  Generator generator(20'260'102);
  std::array<int, 4> seen{};
  for (int i = 0; i < 60'000; ++i) {
    std::string text = generator.value(5);
    if (i % 3 != 0) text = generator.mutated(text);
    if (text.empty() || text.starts_with("\xEF")) continue;  // the other parser skips a byte order mark
    const Reference reference(text);
    if (!reference.comparable()) continue;
    const JsonProblem expected = reference.problem(kMaxDepth);
    const JsonScan scan = scan_json(text, kMaxDepth);
    ++seen[static_cast<std::size_t>(scan.problem)];
    if (expected == JsonProblem::kMalformed && scan.problem == JsonProblem::kTooDeep) continue;  // ours looks further
    ASSERT_EQ(scan.problem, expected) << text << "\n" << scan.message;
    if (scan.problem != JsonProblem::kNone) continue;
    const auto parsed = nlohmann::json::parse(text);
    const std::string canonical = canonical_json(text);
    ASSERT_EQ(nlohmann::json::parse(canonical), parsed) << text << "\n" << canonical;
    ASSERT_EQ(canonical_json(canonical), canonical) << text;
    if (parsed.is_object()) {
      ASSERT_EQ(scan.members.size(), parsed.size()) << text;
      for (const JsonMember& member : scan.members) {
        ASSERT_EQ(nlohmann::json::parse(member.value), parsed.at(member.key)) << text;
      }
    } else if (parsed.is_array()) {
      const auto elements = json_elements(text);
      ASSERT_EQ(elements.size(), parsed.size()) << text;
      for (std::size_t e = 0; e < elements.size(); ++e)
        ASSERT_EQ(nlohmann::json::parse(elements[e]), parsed[e]) << text;
    } else if (parsed.is_string() && text.front() == '"' && text.back() == '"') {
      ASSERT_EQ(json_string_value(text), parsed.get<std::string>());
    }
  }
  for (const int count : seen) EXPECT_GT(count, 500);
}

}  // namespace
}  // namespace run_recorder
