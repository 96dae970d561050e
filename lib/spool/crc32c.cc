#include "spool/crc32c.h"

#include <array>
#include <cstddef>
#include <cstring>

#include "base/little_endian.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace run_recorder {
namespace {

using Table = std::array<std::uint32_t, 256>;

// tables[k][b]: what byte b does to the checksum when k more bytes follow it.
constexpr std::array<Table, 8> make_tables() {
  constexpr std::uint32_t kPolynomial = 0x82f63b78;  // Castagnoli's, bits reversed
  std::array<Table, 8> tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}

constexpr std::array<Table, 8> kTables = make_tables();

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) std::uint32_t crc32c_by_instruction(std::uint32_t crc, std::string_view bytes) {
  std::uint64_t state = ~crc;
  const char* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 8; left -= 8, at += 8) {
    std::uint64_t word;
    std::memcpy(&word, at, sizeof word);
    state = _mm_crc32_u64(state, word);
  }
  auto narrow = static_cast<std::uint32_t>(state);
  for (; left > 0; --left, ++at) narrow = _mm_crc32_u8(narrow, static_cast<unsigned char>(*at));
  return ~narrow;
}

const bool kHasInstruction = __builtin_cpu_supports("sse4.2") != 0;
#elif defined(__aarch64__)
// <arm_acle.h> would want all of this file compiled for processors that have the instructions, with clang.
std::uint32_t add_word(std::uint32_t state, std::uint64_t word) {
  asm(".arch_extension crc\n\tcrc32cx %w0, %w0, %1" : "+r"(state) : "r"(word));
  return state;
}

std::uint32_t add_byte(std::uint32_t state, unsigned char byte) {
  asm(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(state) : "r"(byte));
  return state;
}

std::uint32_t crc32c_by_instruction(std::uint32_t crc, std::string_view bytes) {
  std::uint32_t state = ~crc;
  const char* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 8; left -= 8, at += 8) state = add_word(state, little_endian_at<std::uint64_t>(at));
  for (; left > 0; --left, ++at) state = add_byte(state, static_cast<unsigned char>(*at));
  return ~state;
}

const bool kHasInstruction = (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#endif

}  // namespace

std::uint32_t crc32c_by_tables(std::uint32_t crc, std::string_view bytes) {
  std::uint32_t state = ~crc;
  const auto* at = reinterpret_cast<const unsigned char*>(bytes.data());
  std::size_t left = bytes.size();
  for (; left >= 8; left -= 8, at += 8) {
    state ^= little_endian_at<std::uint32_t>(reinterpret_cast<const char*>(at));
    state = kTables[7][state & 0xff] ^ kTables[6][(state >> 8) & 0xff] ^ kTables[5][(state >> 16) & 0xff] ^
            kTables[4][state >> 24] ^ kTables[3][at[4]] ^ kTables[2][at[5]] ^ kTables[1][at[6]] ^ kTables[0][at[7]];
  }
  for (; left > 0; --left, ++at) state = (state >> 8) ^ kTables[0][(state ^ *at) & 0xff];
  return ~state;
}

std::uint32_t crc32c(std::uint32_t crc, std::string_view bytes) {
#if defined(__x86_64__) || defined(__aarch64__)
  if (kHasInstruction) return crc32c_by_instruction(crc, bytes);
#endif
  return crc32c_by_tables(crc, bytes);
}

}  // namespace run_recorder
