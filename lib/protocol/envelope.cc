// The envelope's bytes, version 1, integers little-endian:
//   version (1 byte) | flags (1 byte: 1 = has peer_uid, 2 = has peer_pid) | received_at (8 bytes, µs since 1970)
//   | peer_uid (4, if there) | peer_pid (4, if there)
//   | worker_process | sender_process | connection | line, each as its length (LEB128, at most 5 bytes) and its bytes
// and nothing behind it. The record around it has the checksum.
#include <fmt/format.h>

#include "base/little_endian.h"
#include "protocol/protocol.h"

namespace run_recorder {
namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::uint8_t kHasUid = 1;
constexpr std::uint8_t kHasPid = 2;
// The years that a Timestamp of ours can have, 0001 to 9999.
constexpr Timestamp kEarliest = std::chrono::sys_days{std::chrono::year{1} / 1 / 1};
constexpr Timestamp kEnd = std::chrono::sys_days{std::chrono::year{10000} / 1 / 1};

void put_text(std::string& out, std::string_view text) {
  std::size_t rest = text.size();
  for (; rest >= 0x80; rest >>= 7) out += static_cast<char>(static_cast<unsigned char>(rest | 0x80));
  out += static_cast<char>(rest);
  out += text;
}

// Takes fields from the front of the bytes; empty where there are too few.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  bool done() const { return rest_.empty(); }

  template <std::unsigned_integral Unsigned>
  std::optional<Unsigned> take_integer() {
    const auto bytes = take(sizeof(Unsigned));
    if (!bytes) return std::nullopt;
    return little_endian_at<Unsigned>(bytes->data());
  }

  std::optional<std::string_view> take_text() {
    std::uint64_t size = 0;
    for (int shift = 0; shift < 35; shift += 7) {
      const auto byte = take_integer<std::uint8_t>();
      if (!byte) return std::nullopt;
      size |= static_cast<std::uint64_t>(*byte & 0x7F) << shift;
      if (*byte < 0x80) return take(size);
    }
    return std::nullopt;
  }

 private:
  std::optional<std::string_view> take(std::uint64_t count) {
    if (rest_.size() < count) return std::nullopt;
    const std::string_view taken = rest_.substr(0, static_cast<std::size_t>(count));
    rest_.remove_prefix(taken.size());
    return taken;
  }

  std::string_view rest_;
};

Error corrupt(std::string message) {
  return Error{ErrorKind::kCorrupt, std::move(message)};
}

bool read_peer(Reader& reader, std::uint8_t flags, Envelope& envelope) {
  if ((flags & kHasUid) != 0) {
    envelope.peer_uid = reader.take_integer<std::uint32_t>();
    if (!envelope.peer_uid) return false;
  }
  if ((flags & kHasPid) != 0) {
    const auto pid = reader.take_integer<std::uint32_t>();
    if (!pid) return false;
    envelope.peer_pid = static_cast<std::int32_t>(*pid);
  }
  return true;
}

bool read_texts(Reader& reader, Envelope& envelope) {
  for (std::string* const text : {&envelope.worker_process, &envelope.sender_process, &envelope.connection}) {
    const auto read = reader.take_text();
    if (!read) return false;
    *text = *read;
  }
  const auto line = reader.take_text();
  if (!line) return false;
  envelope.line = *line;
  return true;
}

}  // namespace

std::string encode_envelope(const Envelope& envelope) {
  constexpr std::size_t kMostBesideTexts = 1 + 1 + 8 + 4 + 4 + 4 * 5;
  std::string body;
  body.reserve(kMostBesideTexts + envelope.worker_process.size() + envelope.sender_process.size() +
               envelope.connection.size() + envelope.line.size());
  append_little_endian(body, kVersion);
  append_little_endian(
      body, static_cast<std::uint8_t>((envelope.peer_uid ? kHasUid : 0) | (envelope.peer_pid ? kHasPid : 0)));
  append_little_endian(body, static_cast<std::uint64_t>(envelope.received_at.time_since_epoch().count()));
  if (envelope.peer_uid) append_little_endian(body, *envelope.peer_uid);
  if (envelope.peer_pid) append_little_endian(body, static_cast<std::uint32_t>(*envelope.peer_pid));
  put_text(body, envelope.worker_process);
  put_text(body, envelope.sender_process);
  put_text(body, envelope.connection);
  put_text(body, envelope.line);
  return body;
}

Result<Envelope> decode_envelope(std::string_view body) {
  Reader reader(body);
  const auto version = reader.take_integer<std::uint8_t>();
  if (!version) return corrupt("empty record");
  if (*version != kVersion) {
    return corrupt(
        fmt::format("the record has envelope version {}, this program reads version {}", *version, kVersion));
  }
  const auto flags = reader.take_integer<std::uint8_t>();
  const auto received_at = reader.take_integer<std::uint64_t>();
  Envelope envelope;
  if (!flags || !received_at || !read_peer(reader, *flags, envelope) || !read_texts(reader, envelope)) {
    return corrupt("truncated envelope");
  }
  envelope.received_at = Timestamp{std::chrono::microseconds{static_cast<std::int64_t>(*received_at)}};
  if (envelope.received_at < kEarliest || envelope.received_at >= kEnd || (*flags & ~(kHasUid | kHasPid)) != 0) {
    return corrupt("invalid value in the envelope");
  }
  if (!reader.done()) return corrupt("data after the envelope");
  return envelope;
}

Result<Event> decode_record(std::string_view body) {
  Result<Envelope> envelope = decode_envelope(body);
  if (!envelope) return envelope.error();
  auto decoded = decode_event(envelope->line, kDeepestLine, FieldRules::kAccepted);
  if (const auto* const refusal = std::get_if<Refusal>(&decoded)) {
    return Error{ErrorKind::kInvalid, fmt::format("{}: {}", to_string(refusal->code), refusal->message)};
  }
  if (std::holds_alternative<Blank>(decoded)) return Error{ErrorKind::kInvalid, "blank line in the record"};
  Event event = std::get<Event>(std::move(decoded));
  event.received_at = envelope->received_at;
  event.peer_uid = envelope->peer_uid;
  event.peer_pid = envelope->peer_pid;
  event.worker_process = std::move(envelope->worker_process);
  event.sender_process = std::move(envelope->sender_process);
  event.connection = std::move(envelope->connection);
  return event;
}

}  // namespace run_recorder
