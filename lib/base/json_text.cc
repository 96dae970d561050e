// Reading and comparing JSON that scan_json found valid: brackets match and strings end, so that searching for the
// next delimiter is enough. Positions are checked against the text's end all the same.
#include "base/json_text.h"

#include <algorithm>
#include <charconv>

#include "base/ascii.h"
#include "base/hex.h"
#include "base/utf8.h"

namespace run_recorder {
namespace {

std::size_t skip_white(std::string_view text, std::size_t pos) {
  while (pos < text.size() && is_white(text[pos])) ++pos;
  return pos;
}

// pos is at an opening quote; the result is after the closing one.
std::size_t skip_string(std::string_view text, std::size_t pos) {
  for (++pos; pos < text.size(); ++pos) {
    if (text[pos] == '"') return pos + 1;
    if (text[pos] == '\\') ++pos;
  }
  return text.size();
}

// Number, true, false or null.
std::size_t skip_word(std::string_view text, std::size_t pos) {
  while (pos < text.size() && !is_white(text[pos]) && text[pos] != ',' && text[pos] != ']' && text[pos] != '}') ++pos;
  return pos;
}

std::size_t skip_value(std::string_view text, std::size_t pos) {
  std::size_t depth = 0;
  while (pos < text.size()) {
    const char c = text[pos];
    if (c == '"') {
      pos = skip_string(text, pos);
    } else if (c == '{' || c == '[') {
      ++depth;
      ++pos;
      continue;
    } else if (c == '}' || c == ']') {
      --depth;
      ++pos;
    } else if (depth > 0) {
      ++pos;
      continue;
    } else {
      return skip_word(text, pos);
    }
    if (depth == 0) return pos;
  }
  return pos;
}

void append_utf8(std::string& out, std::uint32_t code_point) {
  const auto put = [&](std::uint32_t byte) { out += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
    return;
  }
  if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
  } else {
    if (code_point < 0x10000) {
      put(0xE0 | (code_point >> 12));
    } else {
      put(0xF0 | (code_point >> 18));
      put(0x80 | ((code_point >> 12) & 0x3F));
    }
    put(0x80 | ((code_point >> 6) & 0x3F));
  }
  put(0x80 | (code_point & 0x3F));
}

// The four hexadecimal digits of an escape, at pos.
std::uint32_t hex_at(std::string_view text, std::size_t pos) {
  std::uint32_t value = 0;
  const std::string_view digits = text.substr(std::min(pos, text.size()), 4);
  std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  return value;
}

// Appends what the escape at pos (its backslash) encodes; the result is after it.
std::size_t append_unescaped(std::string& out, std::string_view text, std::size_t pos) {
  const char c = pos + 1 < text.size() ? text[pos + 1] : '\\';
  switch (c) {
    case 'b':
      out += '\b';
      break;
    case 'f':
      out += '\f';
      break;
    case 'n':
      out += '\n';
      break;
    case 'r':
      out += '\r';
      break;
    case 't':
      out += '\t';
      break;
    case 'u': {
      const std::uint32_t unit = hex_at(text, pos + 2);
      if (unit < 0xD800 || unit > 0xDFFF) {
        append_utf8(out, unit);
        return pos + 6;
      }
      append_utf8(out, 0x10000 + ((unit & 0x3FF) << 10) + (hex_at(text, pos + 8) & 0x3FF));
      return pos + 12;
    }
    default:
      out += c;
  }
  return pos + 2;
}

// A number's exact value, digits × 10^exponent. Zero is no digits, not negative, exponent 0.
struct Decimal {
  bool negative = false;
  std::string digits;  // neither begins nor ends with 0
  std::int64_t exponent = 0;
};

Decimal parse_decimal(std::string_view number) {
  Decimal decimal;
  std::size_t pos = 0;
  decimal.negative = !number.empty() && number.front() == '-';
  if (decimal.negative) ++pos;
  bool fraction = false;
  for (; pos < number.size() && (is_digit(number[pos]) || number[pos] == '.'); ++pos) {
    if (number[pos] == '.') {
      fraction = true;
      continue;
    }
    if (fraction) --decimal.exponent;
    if (number[pos] != '0' || !decimal.digits.empty()) decimal.digits += number[pos];
  }
  if (pos < number.size()) {
    ++pos;
    if (pos < number.size() && number[pos] == '+') ++pos;
    int written = 0;
    std::from_chars(number.data() + pos, number.data() + number.size(), written);
    decimal.exponent += written;
  }
  while (!decimal.digits.empty() && decimal.digits.back() == '0') {
    decimal.digits.pop_back();
    ++decimal.exponent;
  }
  return decimal.digits.empty() ? Decimal{} : decimal;
}

void append_canonical_number(std::string& out, std::string_view number) {
  const Decimal decimal = parse_decimal(number);
  if (decimal.digits.empty()) {
    out += '0';
    return;
  }
  if (decimal.negative) out += '-';
  out += decimal.digits;
  if (decimal.exponent != 0) out.append("e").append(std::to_string(decimal.exponent));
}

// Copies a valid text token by token, without recursion: white space goes, strings and numbers get their one
// spelling, and an object's members are put in order when it closes.
class Canonicaliser {
 public:
  explicit Canonicaliser(std::string_view text) : text_(text) { out_.reserve(text.size()); }

  std::string run() && {
    while (pos_ < text_.size()) take_token();
    return std::move(out_);
  }

 private:
  struct Open {
    bool object;
    std::size_t first_member;  // in members_
  };
  // Slices of out_.
  struct Member {
    std::size_t begin, key_end, end;
  };

  void take_token() {
    const char c = text_[pos_];
    switch (c) {
      case ' ':
      case '\t':
      case '\n':
      case '\r':
        ++pos_;
        return;
      case '{':
      case '[':
        open_.push_back({c == '{', members_.size()});
        key_next_ = c == '{';
        break;
      case ',':
        end_member();
        key_next_ = !open_.empty() && open_.back().object;
        break;
      case '}':
      case ']':
        close();
        break;
      case ':':
        break;
      case '"':
        take_string();
        return;
      default:
        take_word();
        return;
    }
    out_ += c;
    ++pos_;
  }

  void take_string() {
    if (key_next_) members_.push_back({out_.size(), 0, 0});
    const std::size_t end = skip_string(text_, pos_);
    const std::string_view quoted = text_.substr(pos_, end - pos_);
    if (quoted.find('\\') == std::string_view::npos) {
      out_ += quoted;
    } else {
      append_json_string(out_, json_string_value(quoted));
    }
    if (key_next_) members_.back().key_end = out_.size();
    key_next_ = false;
    pos_ = end;
  }

  void take_word() {
    const std::size_t end = std::max(skip_word(text_, pos_), pos_ + 1);
    const std::string_view word = text_.substr(pos_, end - pos_);
    if (json_type(word) == JsonType::kNumber) {
      append_canonical_number(out_, word);
    } else {
      out_ += word;
    }
    pos_ = end;
  }

  void end_member() {
    if (!open_.empty() && open_.back().object && members_.size() > open_.back().first_member) {
      members_.back().end = out_.size();
    }
  }

  void close() {
    end_member();
    key_next_ = false;
    if (open_.empty()) return;
    if (open_.back().object) sort_members(open_.back().first_member);
    open_.pop_back();
  }

  // Puts the members from first on in order of their keys, and removes them.
  void sort_members(std::size_t first) {
    const auto begin = members_.begin() + static_cast<std::ptrdiff_t>(first);
    const std::string_view out = out_;
    const auto key = [&](const Member& member) { return out.substr(member.begin, member.key_end - member.begin); };
    const auto by_key = [&](const Member& a, const Member& b) { return key(a) < key(b); };
    if (!std::is_sorted(begin, members_.end(), by_key)) {
      const std::size_t object_begin = begin->begin;
      std::sort(begin, members_.end(), by_key);
      std::string sorted;
      sorted.reserve(out_.size() - object_begin);
      for (auto member = begin; member != members_.end(); ++member) {
        if (member != begin) sorted += ',';
        sorted += out.substr(member->begin, member->end - member->begin);
      }
      out_.replace(object_begin, std::string::npos, sorted);
    }
    members_.erase(begin, members_.end());
  }

  const std::string_view text_;
  std::size_t pos_ = 0;
  bool key_next_ = false;
  std::vector<Open> open_;
  std::vector<Member> members_;
  std::string out_;
};

}  // namespace

std::vector<std::string_view> json_elements(std::string_view array) {
  std::vector<std::string_view> elements;
  std::size_t pos = skip_white(array, 0) + 1;
  while ((pos = skip_white(array, pos)) < array.size() && array[pos] != ']') {
    const std::size_t end = skip_value(array, pos);
    elements.push_back(array.substr(pos, end - pos));
    pos = skip_white(array, end);
    if (pos < array.size() && array[pos] == ',') ++pos;
  }
  return elements;
}

std::vector<JsonMember> json_members(std::string_view object) {
  std::vector<JsonMember> members;
  std::size_t pos = skip_white(object, 0) + 1;
  while ((pos = skip_white(object, pos)) < object.size() && object[pos] == '"') {
    const std::size_t key_end = skip_string(object, pos);
    std::string key = json_string_value(object.substr(pos, key_end - pos));
    pos = skip_white(object, skip_white(object, key_end) + 1);
    const std::size_t end = skip_value(object, pos);
    const std::string_view value = object.substr(std::min(pos, object.size()), end - pos);
    members.push_back({std::move(key), json_type(value), value});
    pos = skip_white(object, end);
    if (pos < object.size() && object[pos] == ',') ++pos;
  }
  return members;
}

JsonType json_type(std::string_view value) {
  const std::size_t begin = skip_white(value, 0);
  if (begin == value.size()) return JsonType::kNull;
  switch (value[begin]) {
    case '{':
      return JsonType::kObject;
    case '[':
      return JsonType::kArray;
    case '"':
      return JsonType::kString;
    case 't':
      return JsonType::kTrue;
    case 'f':
      return JsonType::kFalse;
    case 'n':
      return JsonType::kNull;
    default:
      return JsonType::kNumber;
  }
}

std::string json_string_value(std::string_view quoted) {
  if (quoted.size() < 2) return {};
  const std::string_view text = quoted.substr(1, quoted.size() - 2);
  std::string value;
  value.reserve(text.size());
  std::size_t pos = 0;
  while (pos < text.size()) {
    const std::size_t escape = std::min(text.find('\\', pos), text.size());
    value += text.substr(pos, escape - pos);
    pos = escape < text.size() ? append_unescaped(value, text, escape) : escape;
  }
  return value;
}

std::optional<std::int64_t> json_integer(std::string_view number) {
  Decimal decimal = parse_decimal(number);
  constexpr std::size_t kMaxDigits = 19;
  if (decimal.exponent < 0 || decimal.digits.size() > kMaxDigits) return std::nullopt;
  if (decimal.digits.empty()) return 0;
  if (static_cast<std::uint64_t>(decimal.exponent) > kMaxDigits - decimal.digits.size()) return std::nullopt;
  decimal.digits.append(static_cast<std::size_t>(decimal.exponent), '0');
  if (decimal.negative) decimal.digits.insert(0, 1, '-');
  std::int64_t value = 0;
  const char* const end = decimal.digits.data() + decimal.digits.size();
  const auto [parsed, error] = std::from_chars(decimal.digits.data(), end, value);
  if (error != std::errc{} || parsed != end) return std::nullopt;
  return value;
}

void append_json_string(std::string& out, std::string_view text) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  out += '"';
  for (std::size_t pos = 0; pos < text.size();) {
    const auto c = static_cast<unsigned char>(text[pos]);
    if (c >= 0x80) {
      const std::size_t length = utf8_sequence_length(text.substr(pos));
      out += length == 0 ? kReplacement : text.substr(pos, length);
      pos += std::max<std::size_t>(length, 1);
      continue;
    }
    if (c == '"' || c == '\\') {
      out += '\\';
      out += text[pos];
    } else if (c == '\n') {
      out += "\\n";
    } else if (c < 0x20) {
      out += "\\u00";
      out += kHexDigits[c >> 4];
      out += kHexDigits[c & 0xF];
    } else {
      out += text[pos];
    }
    ++pos;
  }
  out += '"';
}

std::string json_string(std::string_view text) {
  std::string quoted;
  quoted.reserve(text.size() + 2);
  append_json_string(quoted, text);
  return quoted;
}

bool json_equal(std::string_view a, std::string_view b) {
  return a == b || canonical_json(a) == canonical_json(b);
}

std::string canonical_json(std::string_view value) {
  return Canonicaliser(value).run();
}

}  // namespace run_recorder
