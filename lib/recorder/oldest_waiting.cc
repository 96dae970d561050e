#include "recorder/oldest_waiting.h"

#include <string_view>
#include <utility>

#include "protocol/protocol.h"
#include "spool/inspect.h"

namespace run_recorder {

void OldestWaiting::check(const SpoolUsage& usage, Clock::time_point now) {
  const std::uint64_t seq = usage.released_seq + 1;
  Oldest found;
  {
    const MutexLock lock(mutex_);
    found = oldest_;
  }
  const bool there_before = seq <= found.last_seq;
  found.last_seq = usage.last_seq;
  if (seq <= usage.last_seq && there_before && (seq != found.seq || !found.is_exact)) {
    found.is_exact = found.seq == 0 || !found.read_at || now - *found.read_at >= kReadEvery;
    if (found.is_exact) {
      found.read_at = now;
      const std::optional<Timestamp> received_at = read_(seq);
      found.seq = received_at ? seq : 0;
      if (received_at) found.received_at = *received_at;
    } else {
      found.seq = seq;  // a backlog shrinks: it came later than the one that was read
    }
  }
  const MutexLock lock(mutex_);
  oldest_ = found;
}

std::optional<Timestamp> OldestWaiting::since(const SpoolUsage& usage, Timestamp now) const {
  const MutexLock lock(mutex_);
  if (oldest_.seq > usage.released_seq && oldest_.seq <= usage.last_seq) return oldest_.received_at;
  // It came since the last check, or will be read at the next.
  if (usage.released_seq < usage.last_seq) return now;
  return std::nullopt;
}

OldestWaiting::Read read_received_at(std::filesystem::path folder) {
  return [folder = std::move(folder)](std::uint64_t seq) {
    std::optional<Timestamp> received_at;
    const auto read = visit_spool(folder, seq, [&](std::uint64_t, std::string_view body) {
      const auto envelope = decode_envelope(body);
      if (!envelope) return true;  // damaged: the next one says it as well
      received_at = envelope->received_at;
      return false;
    });
    return read ? received_at : std::nullopt;
  };
}

}  // namespace run_recorder
