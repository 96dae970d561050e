// The validation of json_text.h: one pass, no recursion, and no allocation per value but for the members of the
// outermost object and escaped keys.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <forward_list>

#include "base/ascii.h"
#include "base/hex.h"
#include "base/json_text.h"
#include "base/utf8.h"

namespace run_recorder {
namespace {

constexpr std::size_t kMaxNumberLength = 1000;
// Beyond any exponent that a double needs. What is written out in full, as PostgreSQL does, stays within twice the
// longest number.
constexpr int kMaxExponent = 1000;
// Objects of up to so many members are searched for duplicate keys pair by pair, larger ones are sorted.
constexpr std::size_t kFewKeys = 16;
constexpr std::size_t kMaxKeyInMessage = 64;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// Which of eight bytes end the plain part of a string (quote, backslash, control character, not ASCII), as the high
// bit of that byte. Bits above the lowest set one may be wrong: the subtraction borrows from there.
std::uint64_t special_bytes(std::uint64_t word) {
  constexpr std::uint64_t kOnes = 0x0101010101010101;
  constexpr std::uint64_t kHighs = 0x8080808080808080;
  const auto zero_bytes = [](std::uint64_t w) { return (w - kOnes) & ~w; };
  const std::uint64_t quotes = zero_bytes(word ^ (kOnes * '"'));
  const std::uint64_t backslashes = zero_bytes(word ^ (kOnes * '\\'));
  const std::uint64_t controls = (word - kOnes * 0x20) & ~word;
  return (quotes | backslashes | controls | word) & kHighs;
}

// Whether the digits before an exponent leave a number 1 or larger once it is moved by it: what is too small for a
// double is 0, what is too large is none.
bool is_large(std::string_view digits, int exponent) {
  const std::size_t point = std::min(digits.find('.'), digits.size());
  const std::size_t first = digits.find_first_of("123456789");
  if (first == std::string_view::npos) return false;
  const auto place = static_cast<std::ptrdiff_t>(point) - static_cast<std::ptrdiff_t>(first);
  return place + exponent > 0;
}

// number: of the grammar's form.
bool is_finite_double(std::string_view number, std::size_t digits, int exponent) {
  constexpr std::size_t kAlwaysFinite = 300;  // so many characters without an exponent
  if (exponent <= 0 && digits <= kAlwaysFinite) return true;
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error == std::errc::result_out_of_range) return !is_large(number.substr(0, digits), exponent);
  return std::isfinite(value);
}

// Whether the brackets outside of strings nest deeper than max_depth, in a text that need not be JSON at all.
bool brackets_too_deep(std::string_view text, std::size_t max_depth) {
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > max_depth) return true;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return false;
}

// Functions that take something return false when they failed; what failed is then in scan_.
class Scanner {
 public:
  Scanner(std::string_view text, std::size_t max_depth) : text_(text), max_depth_(max_depth) {
    open_.reserve(8);
    keys_.reserve(16);
  }

  JsonScan run() && {
    if (take_document()) {
      if (nul_escape_at_ != 0) {
        scan_.problem = JsonProblem::kNulEscape;
        scan_.message = fmt::format("a string holds \\u0000 at byte {}", nul_escape_at_);
      }
      return std::move(scan_);
    }
    scan_.members.clear();
    if (scan_.problem == JsonProblem::kTooDeep || brackets_too_deep(text_, max_depth_)) {
      scan_.problem = JsonProblem::kTooDeep;
      scan_.message = fmt::format("more than {} nested arrays and objects", max_depth_);
    }
    return std::move(scan_);
  }

 private:
  // An array or object that has begun and not ended.
  struct Open {
    bool object;
    bool empty;
    std::size_t first_key;  // in keys_: keys of this object and of those inside of it follow
  };
  struct Key {
    std::string_view name;  // decoded: a slice of text_, or of decoded_keys_
    std::size_t at;
  };

  bool take_document() {
    if (text_.starts_with(kByteOrderMark)) {
      return fail("a byte order mark (U+FEFF) precedes the JSON text, which must begin without one,", 0);
    }
    skip_white();
    if (at_end()) return fail("a JSON value is missing", pos_);
    scan_.type = json_type(text_.substr(pos_, 1));
    if (scan_.type == JsonType::kObject) scan_.members.reserve(16);
    if (!take_value()) return false;
    while (!open_.empty()) {
      if (!take_step()) return false;
    }
    skip_white();
    return at_end() || fail("unexpected text after the JSON value", pos_);
  }

  // The next element, member, or closing bracket of the innermost array or object.
  bool take_step() {
    skip_white();
    Open& open = open_.back();
    if (take(open.object ? '}' : ']')) return close();
    if (!open.empty) {
      if (!take(',')) return fail(open.object ? "',' or '}' expected" : "',' or ']' expected", pos_);
      skip_white();
    }
    open.empty = false;
    if (open.object && !take_key()) return false;
    const std::size_t begin = pos_;
    if (!take_value()) return false;
    if (open_.size() == 1) end_outermost_member(begin);
    return true;
  }

  bool take_key() {
    const std::size_t at = pos_;
    bool escaped = false;
    if (at_end() || text_[pos_] != '"') return fail("a key in quotes expected", pos_);
    if (!take_string(escaped)) return false;
    std::string_view name = text_.substr(at + 1, pos_ - at - 2);
    if (escaped) name = decoded_keys_.emplace_front(json_string_value(text_.substr(at, pos_ - at)));
    keys_.push_back({name, at});
    skip_white();
    if (!take(':')) return fail("':' expected", pos_);
    skip_white();
    if (open_.size() == 1) {
      member_begin_ = pos_;
      scan_.members.push_back({std::string(name), json_type(text_.substr(pos_, 1)), {}});
    }
    return true;
  }

  // A whole scalar, or the opening bracket of an array or object.
  bool take_value() {
    if (at_end()) return fail("the text ends where a value is expected", pos_);
    bool escaped = false;
    switch (text_[pos_]) {
      case '{':
      case '[':
        if (open_.size() >= max_depth_) return fail_too_deep();
        open_.push_back({text_[pos_] == '{', true, keys_.size()});
        ++pos_;
        return true;
      case '"':
        return take_string(escaped);
      case 't':
        return take_word("true");
      case 'f':
        return take_word("false");
      case 'n':
        return take_word("null");
      default:
        return take_number();
    }
  }

  bool close() {
    const Open closed = open_.back();
    if (closed.object && !check_keys(closed.first_key)) return false;
    open_.pop_back();
    if (open_.size() == 1) end_outermost_member(member_begin_);
    return true;
  }

  void end_outermost_member(std::size_t begin) {
    if (open_.front().object) scan_.members.back().value = text_.substr(begin, pos_ - begin);
  }

  // No two of the keys from first on are equal; removes them.
  bool check_keys(std::size_t first) {
    const auto begin = keys_.begin() + static_cast<std::ptrdiff_t>(first);
    const auto by_name = [](const Key& a, const Key& b) { return a.name < b.name; };
    const auto same_name = [](const Key& a, const Key& b) { return a.name == b.name; };
    if (keys_.size() - first <= kFewKeys) {
      for (auto key = begin; key != keys_.end(); ++key) {
        if (std::any_of(begin, key, [&](const Key& other) { return same_name(other, *key); }))
          return fail_duplicate(*key);
      }
    } else {
      std::sort(begin, keys_.end(), by_name);
      const auto found = std::adjacent_find(begin, keys_.end(), same_name);
      if (found != keys_.end()) return fail_duplicate(found->at > (found + 1)->at ? *found : *(found + 1));
    }
    keys_.erase(begin, keys_.end());
    return true;
  }

  // pos_ is at the opening quote. Sets escaped where there is a backslash.
  bool take_string(bool& escaped) {
    const std::size_t begin = pos_++;
    for (;;) {
      skip_plain();
      if (at_end()) return fail("unterminated string", begin);
      const char c = text_[pos_];
      if (c == '"') {
        ++pos_;
        return true;
      }
      if (c == '\\') {
        escaped = true;
        if (!take_escape()) return false;
      } else if (static_cast<unsigned char>(c) < 0x20) {
        return fail("a control character in a string must be written as an escape", pos_);
      } else {
        const std::size_t length = utf8_sequence_length(text_.substr(pos_));
        if (length == 0) return fail("invalid UTF-8", pos_);
        pos_ += length;
      }
    }
  }

  // Skips the characters of a string that need no check.
  void skip_plain() {
    if constexpr (std::endian::native == std::endian::little) {
      while (text_.size() - pos_ >= sizeof(std::uint64_t)) {
        std::uint64_t word;
        std::memcpy(&word, text_.data() + pos_, sizeof word);
        if (const std::uint64_t special = special_bytes(word); special != 0) {
          pos_ += static_cast<std::size_t>(std::countr_zero(special)) / 8;
          return;
        }
        pos_ += sizeof word;
      }
    }
    while (!at_end()) {
      const auto c = static_cast<unsigned char>(text_[pos_]);
      if (c < 0x20 || c == '"' || c == '\\' || c >= 0x80) return;
      ++pos_;
    }
  }

  bool take_escape() {
    const std::size_t at = pos_++;
    if (at_end()) return fail("unterminated escape", at);
    const char c = text_[pos_++];
    if (c != 'u') {
      return std::string_view("\"\\/bfnrt").find(c) != std::string_view::npos || fail("unknown escape", at);
    }
    const int unit = take_hex();
    if (unit < 0) return fail("\\u needs four hexadecimal digits", at);
    if (unit == 0 && nul_escape_at_ == 0) nul_escape_at_ = at + 1;
    if (unit < 0xD800 || unit > 0xDFFF) return true;
    if (unit > 0xDBFF || !take('\\') || !take('u')) return fail("a lone surrogate", at);
    const int low = take_hex();
    return (low >= 0xDC00 && low <= 0xDFFF) || fail("a lone surrogate", at);
  }

  // Four hexadecimal digits; -1 where they are not there.
  int take_hex() {
    if (text_.size() - pos_ < 4) return -1;
    int value = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      const int digit = hex_digit(text_[pos_ + i]);
      if (digit < 0) return -1;
      value = value * 16 + digit;
    }
    pos_ += 4;
    return value;
  }

  bool take_number() {
    const std::size_t begin = pos_;
    const bool negative = take('-');
    if (at_end() || !is_digit(text_[pos_])) return fail(negative ? "a digit expected" : "a value expected", pos_);
    if (!take('0')) skip_digits();
    if (!at_end() && is_digit(text_[pos_])) return fail("a number must not begin with 0", begin);
    if (take('.') && skip_digits() == 0) return fail("a digit expected", pos_);
    const std::size_t digits = pos_ - begin;
    int exponent = 0;
    if ((take('e') || take('E')) && !take_exponent(exponent)) return false;
    const std::string_view number = text_.substr(begin, pos_ - begin);
    if (number.size() > kMaxNumberLength) return fail("number longer than 1000 characters", begin);
    return is_finite_double(number, digits, exponent) || fail("number too large for a double", begin);
  }

  bool take_exponent(int& exponent) {
    const bool negative = take('-');
    if (!negative) take('+');
    const std::size_t begin = pos_;
    if (skip_digits() == 0) return fail("a digit expected", pos_);
    for (const char c : text_.substr(begin, pos_ - begin)) {
      exponent = exponent * 10 + (c - '0');
      if (exponent > kMaxExponent) return fail("a number with an exponent beyond 1000", begin);
    }
    if (negative) exponent = -exponent;
    return true;
  }

  std::size_t skip_digits() {
    const std::size_t begin = pos_;
    while (!at_end() && is_digit(text_[pos_])) ++pos_;
    return pos_ - begin;
  }

  bool take_word(std::string_view word) {
    if (text_.substr(pos_, word.size()) != word) return fail("a value expected", pos_);
    pos_ += word.size();
    return true;
  }

  void skip_white() {
    while (!at_end() && is_white(text_[pos_])) ++pos_;
  }
  bool at_end() const { return pos_ == text_.size(); }
  bool take(char wanted) {
    if (at_end() || text_[pos_] != wanted) return false;
    ++pos_;
    return true;
  }

  bool fail(std::string_view what, std::size_t at) {
    scan_.problem = JsonProblem::kMalformed;
    scan_.message = fmt::format("{} at byte {}", what, at + 1);
    return false;
  }
  bool fail_duplicate(const Key& key) {
    const std::string_view shown = utf8_prefix(key.name, kMaxKeyInMessage);
    return fail(fmt::format("duplicate key {}{} in one object", json_string(shown),
                            shown.size() < key.name.size() ? "…" : ""),
                key.at);
  }
  bool fail_too_deep() {
    scan_.problem = JsonProblem::kTooDeep;
    return false;
  }

  const std::string_view text_;
  const std::size_t max_depth_;
  std::size_t pos_ = 0;
  std::size_t member_begin_ = 0;   // of the outermost object's member that has begun
  std::size_t nul_escape_at_ = 0;  // from 1; 0 is nowhere
  std::vector<Open> open_;
  std::vector<Key> keys_;
  std::forward_list<std::string> decoded_keys_;
  JsonScan scan_;
};

}  // namespace

JsonScan scan_json(std::string_view text, std::size_t max_depth) {
  return Scanner(text, max_depth).run();
}

}  // namespace run_recorder
