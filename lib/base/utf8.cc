#include "base/utf8.h"

#include "base/hex.h"

namespace run_recorder {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

std::string hex(char32_t number, int digits) {
  std::string text;
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) text.push_back(kHexDigits[(number >> shift) & 15]);
  return text;
}

// Every character of the list is at most U+FFFF, so that four digits are enough.
std::string json_escape(char32_t c) {
  return "\\u" + hex(c, 4);
}

std::string visible_escape(char32_t c) {
  switch (c) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      return c < 0x100 ? "\\x" + hex(c, 2) : json_escape(c);
  }
}

// The text with what escape makes of each character that commands terminals.
template <class Escape>
std::string with_escapes(std::string_view text, const Escape& escape) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = utf8_sequence_length(text);
    if (length == 0) {
      out += kReplacement;
      text.remove_prefix(1);
      continue;
    }
    const char32_t c = utf8_code_point(text.substr(0, length));
    if (commands_terminal(c)) {
      out += escape(c);
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return out;
}

bool is_continuation(unsigned char byte) {
  return (byte & 0xC0) == 0x80;
}

// How long the sequence is that begins with lead, and what its second byte may be; length 0 where none begins so.
struct SequenceForm {
  std::size_t length;
  unsigned char lowest_second, highest_second;
};

SequenceForm form_of(unsigned char lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

std::size_t utf8_sequence_length(std::string_view text) {
  if (text.empty()) return 0;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const SequenceForm form = form_of(byte(0));
  if (form.length == 0 || text.size() < form.length) return 0;
  if (form.length > 1 && (byte(1) < form.lowest_second || byte(1) > form.highest_second)) return 0;
  for (std::size_t i = 2; i < form.length; ++i) {
    if (!is_continuation(byte(i))) return 0;
  }
  return form.length;
}

bool valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = utf8_sequence_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = utf8_sequence_length(text);
    out += length == 0 ? kReplacement : text.substr(0, length);
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

std::string_view utf8_prefix(std::string_view text, std::size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  while (max_bytes > 0 && is_continuation(static_cast<unsigned char>(text[max_bytes]))) --max_bytes;
  return text.substr(0, max_bytes);
}

char32_t utf8_code_point(std::string_view sequence) {
  const auto byte = [&](std::size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(sequence[i])); };
  switch (sequence.size()) {
    case 1:
      return byte(0);
    case 2:
      return ((byte(0) & 0x1F) << 6) | (byte(1) & 0x3F);
    case 3:
      return ((byte(0) & 0x0F) << 12) | ((byte(1) & 0x3F) << 6) | (byte(2) & 0x3F);
    default:
      return ((byte(0) & 0x07) << 18) | ((byte(1) & 0x3F) << 12) | ((byte(2) & 0x3F) << 6) | (byte(3) & 0x3F);
  }
}

bool commands_terminal(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x061C || c == 0x200E || c == 0x200F ||
         (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
}

std::string printable(std::string_view text) {
  return with_escapes(text, visible_escape);
}

std::string printable_json(std::string_view json) {
  return with_escapes(json, [](char32_t c) {
    // Strings in JSON hold none of the first: they are white space between its tokens.
    if (c == '\n') return std::string("\n");
    return c < 0x20 ? std::string(" ") : json_escape(c);
  });
}

}  // namespace run_recorder
