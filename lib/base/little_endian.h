// Numbers as little-endian bytes, whatever the machine's order is. Pure, thread-safe.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <string>

namespace run_recorder {

// The first sizeof(Number) bytes as a number; that many must be there. The unrolled loops become one instruction.
template <std::unsigned_integral Number>
Number little_endian_at(const char* bytes) {
  Number number = 0;
#pragma GCC unroll 8
  for (std::size_t i = 0; i < sizeof number; ++i) {
    const Number byte = static_cast<unsigned char>(bytes[i]);
    number = static_cast<Number>(number | static_cast<Number>(byte << (8 * i)));
  }
  return number;
}

template <std::unsigned_integral Number>
void append_little_endian(std::string& out, Number number) {
  std::array<char, sizeof number> bytes;
#pragma GCC unroll 8
  for (std::size_t i = 0; i < sizeof number; ++i) bytes[i] = static_cast<char>((number >> (8 * i)) & 0xff);
  out.append(bytes.data(), bytes.size());
}

}  // namespace run_recorder
