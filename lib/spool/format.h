// The bytes of a segment: its header, a group's header, a record's header (FORMAT.md). Encoding and checking only, no
// I/O. Pure but for random_id(), thread-safe. All numbers are little-endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace run_recorder::spool_format {

inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::size_t kSegmentHeaderBytes = 64;
inline constexpr std::size_t kGroupHeaderBytes = 40;
inline constexpr std::size_t kRecordHeaderBytes = 12;
inline constexpr std::size_t kMarkBytes = 48;
// The first four bytes of a group header; larger than any record's length, so that the two cannot be mistaken.
inline constexpr std::uint32_t kGroupMagic = 0xf0675272;
inline constexpr std::uint32_t kMaxRecordBytes = 1U << 30;

using Id = std::array<char, 16>;
std::string to_hex(const Id& id);
std::optional<Id> id_from_hex(std::string_view hex);
Id random_id();

struct SegmentHeader {
  std::uint32_t version = kVersion;
  Id recorder{};
  Id incarnation{};
  std::uint64_t first_seq = 1;
};
void append_segment_header(std::string& out, const SegmentHeader& header);
// Empty where bytes do not begin with a header that is what was written. A header of a newer version is returned.
std::optional<SegmentHeader> parse_segment_header(std::string_view bytes);

// What one append() wrote: `count` records in `bytes` bytes, numbered from first_seq.
struct GroupHeader {
  Id incarnation{};
  std::uint64_t first_seq = 0;
  std::uint32_t bytes = 0;
  std::uint32_t count = 0;
};
void append_group_header(std::string& out, const GroupHeader& header);
std::optional<GroupHeader> parse_group_header(std::string_view bytes);

struct RecordHeader {
  std::uint32_t length = 0;
  std::uint32_t seq_low = 0;  // the lower half of the sequence number
  std::uint32_t crc = 0;      // over incarnation, sequence number, length and body
};
// The part of a record's checksum that is the same for all of an incarnation. A body that imitates records, sent by
// somebody who does not know the incarnation's id, never passes for one.
std::uint32_t record_salt(const Id& incarnation);
std::uint32_t record_crc(std::uint32_t salt, std::uint64_t seq, std::string_view body);
void append_record(std::string& out, std::uint32_t salt, std::uint64_t seq, std::string_view body);
// Precondition: at least kRecordHeaderBytes.
RecordHeader parse_record_header(std::string_view bytes);

// The `synced` file: everything up to seq was acknowledged. A lower bound, never too high.
struct Mark {
  Id recorder{};
  std::uint64_t seq = 0;
};
std::string encode_mark(const Mark& mark);
std::optional<Mark> parse_mark(std::string_view bytes);

// One of the `hint` file's two slots; the one with the higher generation counts.
inline constexpr std::size_t kHintSlotBytes = std::size_t{64} * 1024;
struct Hint {
  std::uint64_t generation = 0;
  std::string text = {};
};
// Empty where the text is too long for a slot.
std::optional<std::string> encode_hint(const Hint& hint);
std::optional<Hint> parse_hint(std::string_view slot);

std::string segment_name(std::uint64_t first_seq);
// The first sequence number, where name is a segment's.
std::optional<std::uint64_t> parse_segment_name(std::string_view name);

}  // namespace run_recorder::spool_format
