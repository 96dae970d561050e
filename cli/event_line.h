// Lines of the event protocol as the tool writes them: new ones, and those of others completed with an id and a
// worker's pid. What a sender wrote is never respelled. Pure but for the ids' randomness; one thread.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json_writer.h"

namespace run_recorder {

// Deeper lines are left to the daemon, which refuses them at its own limit.
inline constexpr std::size_t kLineDepth = 1'000;

// A JSON object in the making, on one line.
class EventLine {
 public:
  EventLine& text(std::string_view key, std::string_view value);
  EventLine& number(std::string_view key, std::integral auto value) {
    members_.number(key, value);
    return *this;
  }
  EventLine& flag(std::string_view key, bool value);
  // Precondition: valid JSON; newlines in it become spaces.
  EventLine& json(std::string_view key, std::string_view value);
  std::string str() const { return members_.object(); }

 private:
  JsonWriter members_;
};

// Ids that never repeat: a random beginning for the process, then a number.
class EventIds {
 public:
  EventIds();
  std::string next();

 private:
  std::string prefix_;
  std::uint64_t number_ = 0;
};

// What is put into a line that lacks it.
struct Completion {
  std::optional<std::int64_t> worker_pid;
  bool worker_is_guessed = false;   // nobody named that process
  std::string vouched_run_id = {};  // the run whose process is known already; empty: none
};

// The line with an `id` where it has none and `worker_pid` where it has none and completion holds one, inserted
// behind the opening brace. Never into run_queued: whoever queues a run is not its worker. One that is guessed is
// kept out of run_heartbeat and run_lost too, which come from others than the worker as well, and out of events of
// the vouched run. A line that is no JSON object is returned as it is: the daemon's refusal says best what is wrong
// with it.
std::string completed_line(std::string_view line, const Completion& completion, EventIds& ids);

}  // namespace run_recorder
