// CRC-32C (Castagnoli), the checksum of everything in the spool. By the processor's instruction where it has one
// (x86-64 with SSE 4.2, arm64 with CRC32), else by tables. Pure, thread-safe.
#pragma once

#include <cstdint>
#include <string_view>

namespace run_recorder {

// The checksum of the bytes that gave `crc` followed by `bytes`; begin with 0. crc32c(0, "123456789") is 0xe3069283.
std::uint32_t crc32c(std::uint32_t crc, std::string_view bytes);
// The same without the processor's instruction: what crc32c() falls back to, open to the test that compares both.
std::uint32_t crc32c_by_tables(std::uint32_t crc, std::string_view bytes);

}  // namespace run_recorder
