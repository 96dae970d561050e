#include "base/json_search.h"

#include <locale.h>
#include <wctype.h>

#include <string>

#include "base/ascii.h"
#include "base/json_text.h"
#include "base/utf8.h"

namespace run_recorder {
namespace {

constexpr char32_t kNoCharacter = 0xFFFD;

// Of all languages, whatever the process's is; null where the host has none.
locale_t all_letters() {
  static const locale_t all = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", locale_t{});
  return all;
}

char32_t small_letter(char32_t c) {
  if (c < 0x80) return static_cast<unsigned char>(to_lower(static_cast<char>(c)));
  const locale_t all = all_letters();
  return all == locale_t{} ? c : static_cast<char32_t>(::towlower_l(static_cast<wint_t>(c), all));
}

std::u32string in_small_letters(std::string_view text) {
  std::u32string small;
  small.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = utf8_sequence_length(text);
    small += length == 0 ? kNoCharacter : small_letter(utf8_code_point(text.substr(0, length)));
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return small;
}

// Behind the closing quote of the string that begins there, or the end of a text that has none.
std::size_t end_of_string(std::string_view json, std::size_t begin) {
  for (std::size_t at = begin + 1; at < json.size(); ++at) {
    if (json[at] == '"') return at + 1;
    if (json[at] == '\\') ++at;
  }
  return json.size();
}

bool is_key(std::string_view json, std::size_t end) {
  while (end < json.size() && is_white(json[end])) ++end;
  return end < json.size() && json[end] == ':';
}

}  // namespace

bool json_strings_hold(std::string_view json, std::string_view text) {
  const std::u32string wanted = in_small_letters(text);
  for (std::size_t begin = json.find('"'); begin != std::string_view::npos;) {
    const std::size_t end = end_of_string(json, begin);
    if (!is_key(json, end)) {
      const std::string value = json_string_value(json.substr(begin, end - begin));
      if (in_small_letters(value).find(wanted) != std::u32string::npos) return true;
    }
    begin = json.find('"', end);
  }
  return false;
}

}  // namespace run_recorder
