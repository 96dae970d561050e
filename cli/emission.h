// Sends events until the daemon has settled each of them, and says which it refused: what `run-recorder emit` does.
// For a single-threaded process that ignores SIGPIPE.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/event_line.h"
#include "cli/event_socket.h"

namespace run_recorder {

// The longest line that is taken: the daemon shares as much among all long lines.
inline constexpr std::size_t kMaxEmittedBytes = std::size_t{16} << 20;

// Where the events come from.
class EventSource {
 public:
  virtual ~EventSource() = default;
  struct Item {
    std::uint64_t number = 0;
    std::string text;
    bool too_long = false;
  };
  virtual std::optional<Item> next() = 0;
  virtual int fd() const = 0;  // to poll for more; -1: nothing more will come
  virtual Result<void> read() = 0;
  virtual bool ended() const = 0;
};

struct EmissionOptions {
  EventSocket socket;
  std::string unsent_folder;          // what was kept from earlier is sent first; empty: nothing is
  std::chrono::milliseconds wait{0};  // how long to retry without progress
  bool wait_for_start = false;        // also while the daemon was away from the beginning
  Completion completion;
  std::vector<std::string> warnings;     // said while the events are under way
  bool names_lines = false;              // where it is not one event, refusals name their lines
  std::function<std::string()> how_far;  // shown before the counts from time to time; empty: nothing is shown
};

// Returns the exit status.
int send_events(const EmissionOptions& options, EventSource& source);

}  // namespace run_recorder
