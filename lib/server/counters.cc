#include "server/counters.h"

#include <algorithm>

namespace run_recorder {

namespace {

void count(ServerCounters::ByType& types, std::string_view type) {
  auto found = types.find(type);
  if (found == types.end()) {
    const bool another = types.size() < ServerCounters::kTypes;
    found = types.try_emplace(another ? std::string(type) : "other").first;
  }
  ++found->second;
}

}  // namespace

void count_type(ServerCounters& counters, std::string_view type) {
  count(counters.types, type);
}

void count_excluded(ServerCounters& counters, std::string_view type) {
  ++counters.excluded;
  count(counters.excluded_types, type);
}

void count_answer(ServerCounters& counters, std::chrono::steady_clock::duration taken, std::size_t events) {
  const auto& bounds = ServerCounters::kAckBounds;
  const auto bucket = std::lower_bound(bounds.begin(), bounds.end(), taken) - bounds.begin();
  counters.ack_buckets[static_cast<std::size_t>(bucket)] += events;
  counters.ack_sum +=
      std::chrono::duration_cast<std::chrono::microseconds>(taken) * static_cast<std::int64_t>(events);
}

}  // namespace run_recorder
