#include "store/paging.h"

#include <array>

#include "base/number.h"

namespace run_recorder {

namespace {

constexpr std::string_view kDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
// Not in a time, so that the first one ends it whatever bytes the id holds.
constexpr char kSeparator = '|';
// Before the cursor of a list that is ordered by when runs started. Not a digit of cursors.
constexpr std::string_view kStartedMark = "s.";

int digit_value(char digit) {
  const auto place = kDigits.find(digit);
  return place == std::string_view::npos ? -1 : static_cast<int>(place);
}

// Six bits a character, as base64, without padding.
std::string to_url_text(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() * 4 + 2) / 3);
  unsigned pending = 0;
  int bits = 0;
  for (const char byte : bytes) {
    pending = (pending << 8) | static_cast<unsigned char>(byte);
    for (bits += 8; bits >= 6; bits -= 6) text += kDigits[(pending >> (bits - 6)) & 63U];
  }
  if (bits > 0) text += kDigits[(pending << (6 - bits)) & 63U];
  return text;
}

std::optional<std::string> from_url_text(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size() * 3 / 4);
  unsigned pending = 0;
  int bits = 0;
  for (const char character : text) {
    const int value = digit_value(character);
    if (value < 0) return std::nullopt;
    pending = (pending << 6) | static_cast<unsigned>(value);
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes += static_cast<char>((pending >> bits) & 255U);
    }
  }
  return bytes;
}

}  // namespace

Error invalid_cursor(std::string_view cursor) {
  constexpr std::size_t kShownBytes = 64;
  return Error{ErrorKind::kInvalid, "invalid cursor \"" + std::string(cursor.substr(0, kShownBytes)) + '"'};
}

std::string encode_cursor(const PagePlace& place) {
  return to_url_text(place.time + kSeparator + place.id);
}

std::optional<PagePlace> decode_cursor(std::string_view cursor) {
  const auto bytes = from_url_text(cursor);
  if (!bytes) return std::nullopt;
  const auto separator = bytes->find(kSeparator);
  if (separator == std::string::npos || separator == 0 || separator + 1 == bytes->size()) return std::nullopt;
  // Every time of ours and of other writers begins with a year.
  for (std::size_t i = 0; i < 4; ++i) {
    if (i >= separator || (*bytes)[i] < '0' || (*bytes)[i] > '9') return std::nullopt;
  }
  return PagePlace{bytes->substr(0, separator), bytes->substr(separator + 1)};
}

std::string encode_run_cursor(RunOrder by, const PagePlace& place) {
  return (by == RunOrder::kStarted ? std::string(kStartedMark) : std::string()) + encode_cursor(place);
}

Result<PagePlace> decode_run_cursor(RunOrder by, std::string_view cursor) {
  const bool marked = cursor.starts_with(kStartedMark);
  auto place = decode_cursor(marked ? cursor.substr(kStartedMark.size()) : cursor);
  if (!place) return invalid_cursor(cursor);
  if (marked == (by == RunOrder::kStarted)) return std::move(*place);
  return Error{ErrorKind::kInvalid, marked ? "cursor: it belongs to a list with by=started; begin again without it"
                                           : "cursor: it belongs to a list with by=recorded; begin again without it"};
}

std::string encode_id_cursor(std::string_view id) {
  return to_url_text(id);
}

std::optional<std::string> decode_id_cursor(std::string_view cursor) {
  auto id = from_url_text(cursor);
  if (!id || id->find('\0') != std::string::npos) return std::nullopt;
  return id;
}

std::optional<std::int64_t> decode_number_cursor(std::string_view cursor) {
  if (cursor.empty()) return 0;
  const auto number = parse_number<std::int64_t>(cursor);
  return number >= 0 ? number : std::nullopt;
}

}  // namespace run_recorder
