// Since when the oldest event that is not applied yet waits. To know it a segment of the spool is read, so that is
// done seldom: meanwhile a backlog that shrinks is said to wait since the last one that was read. Clock and spool are
// parameters. check() is for one thread, since() for any.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <utility>

#include "base/mutex.h"
#include "base/time.h"
#include "spool/spool.h"

namespace run_recorder {

class OldestWaiting {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kReadEvery{10};
  // When that record, or the first one behind it that can be read, was received; empty: none can be read.
  using Read = std::function<std::optional<Timestamp>(std::uint64_t seq)>;

  explicit OldestWaiting(Read read) : read_(std::move(read)) {}

  // To be called now and then, as each second. Only an event that waited at the last check too is read.
  void check(const SpoolUsage& usage, Clock::time_point now);
  // Empty: nothing waits. now: what an event is said to wait since that came after the last check.
  std::optional<Timestamp> since(const SpoolUsage& usage, Timestamp now) const;

 private:
  struct Oldest {
    std::uint64_t seq = 0;
    Timestamp received_at{};
    bool is_exact = false;       // received_at is this one's, not that of one before it
    std::uint64_t last_seq = 0;  // the newest one then
    std::optional<Clock::time_point> read_at;
  };

  const Read read_;
  mutable Mutex mutex_;
  Oldest oldest_ GUARDED_BY(mutex_);
};

// Reads the spool in that folder, beside whoever has it open.
OldestWaiting::Read read_received_at(std::filesystem::path folder);

}  // namespace run_recorder
