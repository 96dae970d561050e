#include "spool/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <concepts>
#include <cstring>

#include "base/hex.h"
#include "base/little_endian.h"
#include "base/number.h"
#include "base/uuid.h"
#include "spool/crc32c.h"

namespace run_recorder::spool_format {
namespace {

constexpr std::string_view kSegmentMagic = "RRspool\n";
constexpr std::string_view kMarkMagic = "RRsynced";
constexpr std::string_view kSegmentSuffix = ".seg";
constexpr std::size_t kSegmentDigits = 20;
constexpr std::size_t kHintHeaderBytes = 16;

template <std::unsigned_integral Number>
Number number_at(std::string_view bytes, std::size_t offset) {
  assert(offset + sizeof(Number) <= bytes.size());
  return little_endian_at<Number>(bytes.data() + offset);
}

Id id_at(std::string_view bytes, std::size_t offset) {
  Id id;
  std::memcpy(id.data(), bytes.data() + offset, id.size());
  return id;
}

std::string_view view(const Id& id) {
  return {id.data(), id.size()};
}

}  // namespace

std::string to_hex(const Id& id) {
  return run_recorder::to_hex({id.data(), id.size()});
}

std::optional<Id> id_from_hex(std::string_view hex) {
  Id id;
  const auto bytes = from_hex(hex);
  if (!bytes || bytes->size() != id.size()) return std::nullopt;
  std::ranges::copy(*bytes, id.begin());
  return id;
}

Id random_id() {
  return *id_from_hex(random_hex(32));
}

void append_segment_header(std::string& out, const SegmentHeader& header) {
  const std::size_t begin = out.size();
  out += kSegmentMagic;
  append_little_endian(out, header.version);
  append_little_endian(out, static_cast<std::uint32_t>(kSegmentHeaderBytes));
  out += view(header.recorder);
  out += view(header.incarnation);
  append_little_endian(out, header.first_seq);
  append_little_endian(out, std::uint32_t{0});  // reserved
  append_little_endian(out, crc32c(0, std::string_view(out).substr(begin)));
  assert(out.size() == begin + kSegmentHeaderBytes);
}

std::optional<SegmentHeader> parse_segment_header(std::string_view bytes) {
  if (bytes.size() < kSegmentHeaderBytes || !bytes.starts_with(kSegmentMagic)) return std::nullopt;
  if (crc32c(0, bytes.substr(0, 60)) != number_at<std::uint32_t>(bytes, 60)) return std::nullopt;
  SegmentHeader header;
  header.version = number_at<std::uint32_t>(bytes, 8);
  header.recorder = id_at(bytes, 16);
  header.incarnation = id_at(bytes, 32);
  header.first_seq = number_at<std::uint64_t>(bytes, 48);
  return header;
}

void append_group_header(std::string& out, const GroupHeader& header) {
  const std::size_t begin = out.size();
  append_little_endian(out, kGroupMagic);
  append_little_endian(out, header.bytes);
  append_little_endian(out, header.first_seq);
  out += view(header.incarnation);
  append_little_endian(out, header.count);
  append_little_endian(out, crc32c(0, std::string_view(out).substr(begin)));
  assert(out.size() == begin + kGroupHeaderBytes);
}

std::optional<GroupHeader> parse_group_header(std::string_view bytes) {
  if (bytes.size() < kGroupHeaderBytes || number_at<std::uint32_t>(bytes, 0) != kGroupMagic) return std::nullopt;
  if (crc32c(0, bytes.substr(0, 36)) != number_at<std::uint32_t>(bytes, 36)) return std::nullopt;
  GroupHeader header;
  header.bytes = number_at<std::uint32_t>(bytes, 4);
  header.first_seq = number_at<std::uint64_t>(bytes, 8);
  header.incarnation = id_at(bytes, 16);
  header.count = number_at<std::uint32_t>(bytes, 32);
  return header;
}

std::uint32_t record_salt(const Id& incarnation) {
  return crc32c(0, view(incarnation));
}

std::uint32_t record_crc(std::uint32_t salt, std::uint64_t seq, std::string_view body) {
  std::string head;
  append_little_endian(head, seq);
  append_little_endian(head, static_cast<std::uint32_t>(body.size()));
  return crc32c(crc32c(salt, head), body);
}

void append_record(std::string& out, std::uint32_t salt, std::uint64_t seq, std::string_view body) {
  assert(body.size() <= kMaxRecordBytes);
  append_little_endian(out, static_cast<std::uint32_t>(body.size()));
  append_little_endian(out, static_cast<std::uint32_t>(seq & 0xffffffff));
  append_little_endian(out, record_crc(salt, seq, body));
  out += body;
}

RecordHeader parse_record_header(std::string_view bytes) {
  return {number_at<std::uint32_t>(bytes, 0), number_at<std::uint32_t>(bytes, 4), number_at<std::uint32_t>(bytes, 8)};
}

std::string encode_mark(const Mark& mark) {
  std::string out(kMarkMagic);
  append_little_endian(out, kVersion);
  append_little_endian(out, std::uint32_t{0});  // reserved
  out += view(mark.recorder);
  append_little_endian(out, mark.seq);
  append_little_endian(out, std::uint32_t{0});  // reserved
  append_little_endian(out, crc32c(0, out));
  assert(out.size() == kMarkBytes);
  return out;
}

std::optional<Mark> parse_mark(std::string_view bytes) {
  if (bytes.size() < kMarkBytes || !bytes.starts_with(kMarkMagic)) return std::nullopt;
  if (crc32c(0, bytes.substr(0, 44)) != number_at<std::uint32_t>(bytes, 44)) return std::nullopt;
  return Mark{id_at(bytes, 16), number_at<std::uint64_t>(bytes, 32)};
}

std::optional<std::string> encode_hint(const Hint& hint) {
  if (hint.text.size() > kHintSlotBytes - kHintHeaderBytes) return std::nullopt;
  std::string body;
  append_little_endian(body, hint.generation);
  append_little_endian(body, static_cast<std::uint32_t>(hint.text.size()));
  body += hint.text;
  std::string out;
  append_little_endian(out, crc32c(0, body));
  return out + body;
}

std::optional<Hint> parse_hint(std::string_view slot) {
  if (slot.size() < kHintHeaderBytes) return std::nullopt;
  const std::uint64_t generation = number_at<std::uint64_t>(slot, 4);
  const std::uint32_t length = number_at<std::uint32_t>(slot, 12);
  if (generation == 0 || length > slot.size() - kHintHeaderBytes) return std::nullopt;
  if (crc32c(0, slot.substr(4, 12 + length)) != number_at<std::uint32_t>(slot, 0)) return std::nullopt;
  return Hint{generation, std::string(slot.substr(kHintHeaderBytes, length))};
}

std::string segment_name(std::uint64_t first_seq) {
  return fmt::format("{:020}{}", first_seq, kSegmentSuffix);
}

std::optional<std::uint64_t> parse_segment_name(std::string_view name) {
  if (name.size() != kSegmentDigits + kSegmentSuffix.size() || !name.ends_with(kSegmentSuffix)) return std::nullopt;
  const auto seq = parse_number<std::uint64_t>(name.substr(0, kSegmentDigits));
  return seq > 0 ? seq : std::nullopt;
}

}  // namespace run_recorder::spool_format
