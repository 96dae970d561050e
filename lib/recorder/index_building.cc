#include "recorder/index_building.h"

#include <chrono>
#include <utility>

#include "base/liveness.h"
#include "base/log.h"

namespace run_recorder {
namespace {

constexpr std::chrono::seconds kPause{2};
// Entries that contradict each other take somebody's hand, and to find them the whole history is read.
constexpr std::chrono::seconds kPauseAfterRefusal{30};

}  // namespace

IndexBuilding::IndexBuilding(StoreOptions options) : build_(std::move(options)) {}

IndexBuilding::~IndexBuilding() {
  {
    const MutexLock lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  build_.abandon();
  if (thread_.joinable()) thread_.join();
}

void IndexBuilding::begin() {
  {
    const MutexLock lock(mutex_);
    if (under_way_ || ending_) return;
    under_way_ = true;
  }
  if (thread_.joinable()) thread_.join();
  thread_ = std::thread([this] { run(); });
}

std::string IndexBuilding::error() const {
  const MutexLock lock(mutex_);
  return error_;
}

void IndexBuilding::run() {
  name_this_thread("indexes");
  while (true) {
    const auto built = build_.run();
    if (built) {
      for (const std::string& name : built->recorded) log_info("migration applied", {{"MIGRATION", name}});
    }
    MutexLock lock(mutex_);
    error_ = built ? std::string() : built.error().message;
    const bool done = built && built->all_valid;
    const bool refused = !built && built.error().kind == ErrorKind::kRefused;
    const auto pause = refused ? kPauseAfterRefusal : kPause;
    const bool ending = done || wake_.wait_for(lock, pause, [this] {
      mutex_.assert_held();
      return ending_;
    });
    if (!ending) continue;
    under_way_ = false;
    return;
  }
}

}  // namespace run_recorder
