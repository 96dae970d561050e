// What the daemon says to a sender.
#include "base/utf8.h"
#include "protocol/protocol.h"

namespace run_recorder {

std::string_view to_string(RefusalCode code) {
  switch (code) {
    case RefusalCode::kInvalidJson:
      return "invalid_json";
    case RefusalCode::kTooLarge:
      return "too_large";
    case RefusalCode::kTooDeep:
      return "too_deep";
    case RefusalCode::kInvalidEvent:
      return "invalid_event";
    case RefusalCode::kSpoolFull:
      return "spool_full";
    case RefusalCode::kUnavailable:
      return "unavailable";
    case RefusalCode::kForbidden:
      return "forbidden";
  }
  return "unavailable";
}

std::string format_ack(std::uint64_t line) {
  std::string answer = "{\"acked\":";
  answer += std::to_string(line);
  return answer += "}\n";
}

std::string format_refusal(std::uint64_t line, const Refusal& refusal) {
  constexpr std::string_view kCut = "…";
  std::string answer = "{\"error\":{\"line\":";
  answer += std::to_string(line);
  answer += ",\"code\":\"";
  answer += to_string(refusal.code);
  answer += "\",\"message\":";
  if (refusal.message.size() <= kMaxMessageBytes) {
    append_json_string(answer, refusal.message);
  } else {
    std::string message(utf8_prefix(refusal.message, kMaxMessageBytes - kCut.size()));
    append_json_string(answer, message.append(kCut));
  }
  return answer += "}}\n";
}

}  // namespace run_recorder
