// decode_envelope on any bytes: never out of bounds, and what it accepts is written and read back the same.
#include "protocol/protocol.h"
#include "require.h"

namespace run_recorder {
namespace {

void run(std::string_view body) {
  (void)decode_record(body);
  const Result<Envelope> envelope = decode_envelope(body);
  if (!envelope) {
    require(envelope.error().kind == ErrorKind::kCorrupt, "bytes that are no envelope are corrupt");
    return;
  }
  const std::string written = encode_envelope(*envelope);
  const Result<Envelope> again = decode_envelope(written);
  require(again.has_value(), "what was written is read");
  require(again->line == envelope->line && again->received_at == envelope->received_at &&
              again->connection == envelope->connection && again->peer_pid == envelope->peer_pid,
          "it is the same envelope");
}

}  // namespace
}  // namespace run_recorder

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  run_recorder::run({reinterpret_cast<const char*>(data), size});
  return 0;
}
