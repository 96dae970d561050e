// decode_event on any line: what it accepts is sound, what it refuses has an answer that is one line of JSON, and an
// accepted line comes back from its envelope as the same event.
#include <nlohmann/json.hpp>

#include "protocol/protocol.h"
#include "require.h"

namespace run_recorder {
namespace {

constexpr std::size_t kDepth = 8;

void check_event(std::string_view line, const Event& event) {
  require(!event.type.empty() && event.type.size() <= 64, "type is bounded");
  require(!event.run_id.empty() && event.run_id.size() <= 255, "run_id is bounded");
  const JsonScan payload = scan_json(event.payload, kDepth);
  require(payload.problem == JsonProblem::kNone && payload.type == JsonType::kObject, "the payload is an object");
  require(!event.cancelled || event.kind == EventKind::kFailed, "only run_failed cancels");
  Envelope envelope;
  envelope.line = line;
  const Result<Event> again = decode_record(encode_envelope(envelope));
  require(again.has_value(), "an accepted line is an event again");
  require(again->payload == event.payload && again->run_id == event.run_id, "it is the same event");
}

void check_refusal(const Refusal& refusal) {
  const std::string answer = format_refusal(1, refusal);
  require(answer.find('\n') == answer.size() - 1, "an answer is one line");
  require(answer.size() < 4096, "an answer is bounded");
  require(nlohmann::json::accept(answer), "an answer is JSON");
}

void run(std::string_view line) {
  const auto decoded = decode_event(line, kDepth);
  if (const auto* const event = std::get_if<Event>(&decoded)) check_event(line, *event);
  if (const auto* const refusal = std::get_if<Refusal>(&decoded)) check_refusal(*refusal);
}

}  // namespace
}  // namespace run_recorder

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  run_recorder::run({reinterpret_cast<const char*>(data), size});
  return 0;
}
