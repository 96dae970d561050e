// Bytes as hexadecimal digits. Pure, thread-safe.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace run_recorder {

inline constexpr std::string_view kHexDigits = "0123456789abcdef";

// The value of a digit of either case; -1 for anything else.
constexpr int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Two small digits a byte.
std::string to_hex(std::string_view bytes);
// Empty where there is anything but pairs of digits.
std::optional<std::string> from_hex(std::string_view digits);

}  // namespace run_recorder
