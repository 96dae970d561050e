// The line protocol of contract section 4: lines to events, answers to lines; and the envelope in which an accepted
// line lies in the spool. Pure, thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "run/event.h"

namespace run_recorder {

enum class RefusalCode { kInvalidJson, kTooLarge, kTooDeep, kInvalidEvent, kSpoolFull, kUnavailable, kForbidden };
std::string_view to_string(RefusalCode code);

struct Refusal {
  RefusalCode code;
  std::string message;
};

struct Blank {};

// Deeper than [limits] depth can be set to: a line that was accepted under any limit can be read back from the spool.
inline constexpr std::size_t kDeepestLine = 10'000;
// The most bytes of a message that go out in an answer; what is longer is cut.
inline constexpr std::size_t kMaxMessageBytes = 512;

// What happens to a line whose fields of a later version (queue and job_id, expires_in, job_state, message, usage,
// progress) are not as allowed.
enum class FieldRules {
  kStrict,    // it is refused
  kAccepted,  // they have no effect: an earlier version acknowledged the line without knowing them
};

// One line without its newline (a trailing carriage return is white space). Only what the sender wrote is filled in.
// Refuses with kInvalidJson, kTooDeep and kInvalidEvent; the first thing wrong is named, type and run_id before the
// rest.
std::variant<Event, Blank, Refusal> decode_event(std::string_view line, std::size_t max_depth,
                                                 FieldRules rules = FieldRules::kStrict);

// {"acked":N}\n
std::string format_ack(std::uint64_t line);
// {"error":{"line":N,"code":C,"message":M}}\n
std::string format_refusal(std::uint64_t line, const Refusal& refusal);

// What the daemon knows about an accepted line, and the line itself, as one record of the spool.
struct Envelope {
  Timestamp received_at{};
  std::optional<std::uint32_t> peer_uid;
  std::optional<std::int32_t> peer_pid;
  std::string worker_process;
  std::string sender_process;
  std::string connection;
  std::string_view line;  // on decoding: points into the record's body
};
std::string encode_envelope(const Envelope& envelope);
// kCorrupt where the bytes are no envelope, or one of a newer version.
Result<Envelope> decode_envelope(std::string_view body);

// The record back as an event with everything the daemon knew; lines that were accepted under other limits pass. The
// error (kInvalid, kCorrupt) is for the dead letter.
Result<Event> decode_record(std::string_view body);

// Which types the history keeps ([events] exclude, include). The four lifecycle types always pass.
class TypeFilter {
 public:
  TypeFilter() = default;
  // At most one of them is not empty.
  TypeFilter(std::span<const std::string> exclude, std::span<const std::string> include);
  bool keeps(const Event& event) const;

 private:
  std::vector<std::string> exclude_, include_;
};

}  // namespace run_recorder
