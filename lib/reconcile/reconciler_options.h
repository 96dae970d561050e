// What reconciliation is given by the configuration and by those who wire it up.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "config/policies.h"
#include "queue/queue.h"
#include "reconcile/listening.h"
#include "store/store.h"

namespace run_recorder {

// All functions are called from any thread, and may be empty but for connection_open.
struct ReconcilerOptions {
  std::function<std::chrono::steady_clock::time_point()> clock = std::chrono::steady_clock::now;
  ReconcilePolicy policy;
  StoreOptions store;
  std::function<std::unique_ptr<JobQueue>()> make_queue;  // empty: none is configured
  std::function<bool(std::string_view)> connection_open;
  // As EventServer::settle_pending(). Empty: nothing is received but what the recorder knows of.
  std::function<bool(std::chrono::milliseconds)> read_barrier;
  // Since when events are accepted without a break, by now. Empty: since ever.
  std::function<Listening::State()> listening;
  // A worker that is to be watched: process_ended() is to be called when it ends.
  std::function<void(const std::string&)> watch;
};

}  // namespace run_recorder
