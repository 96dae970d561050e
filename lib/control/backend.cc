#include "control/backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

namespace run_recorder {
namespace {

constexpr std::chrono::milliseconds kReadPatience{1'000};
constexpr std::size_t kIdleStores = 1;

}  // namespace

Backend::Backend(ApiOptions options, Recorder& recorder, Reconciler& reconciler, Pruner& pruner)
    : options_(std::move(options)), recorder_(recorder), reconciler_(reconciler), pruner_(pruner) {}

ApiAnswer Backend::read(std::chrono::steady_clock::time_point received, const Read& work) {
  const auto patience = [until = received + kReadPatience] {
    const auto left = until - std::chrono::steady_clock::now();
    return std::max(std::chrono::ceil<std::chrono::milliseconds>(left), std::chrono::milliseconds{0});
  };
  const std::uint64_t acknowledged = recorder_.accepted_seq();
  const bool tables = recorder_.wait_tables(patience());
  const RecorderStatus status = recorder_.status();
  const bool away = status.database == DatabaseState::kAway || status.database == DatabaseState::kRefused;
  if (away) return error_answer(503, "unavailable", "the database is away: " + status.database_error);
  if (!tables) return being_set_up();
  const bool complete = recorder_.wait_applied(acknowledged, patience());
  bool reused = false;
  auto store = take_store(reused);
  if (!store) return lost_connection(store.error());
  const auto begun = std::chrono::steady_clock::now();
  auto body = work(*store.value());
  const bool at_once = std::chrono::steady_clock::now() - begun < kReadPatience;
  if (!body && reused && at_once && body.error().kind == ErrorKind::kUnavailable) {
    // The connection was kept since an earlier request; the server may have been restarted since. One that hangs
    // would only hang again.
    store = open_store(options_.store);
    if (!store) return lost_connection(store.error());
    body = work(*store.value());
  }
  const bool broken =
      !body && (body.error().kind == ErrorKind::kUnavailable || body.error().kind == ErrorKind::kInDoubt);
  if (broken) {
    recorder_.check_in_soon();
  } else {
    give_back(std::move(store.value()));
  }
  const std::uint64_t pending = complete ? 0 : recorder_.pending_until(acknowledged);
  if (!body && body.error().kind == ErrorKind::kNotFound && pending > 0) {
    body =
        Error{ErrorKind::kNotFound,
              fmt::format("{}; {} acknowledged before {} not applied yet, try again soon", body.error().message,
                          pending == 1 ? "1 event" : fmt::format("{} events", pending), pending == 1 ? "is" : "are")};
  }
  ApiAnswer answer = body ? json_answer(std::move(body.value())) : error_answer(body.error());
  if (pending > 0) answer.headers["X-Run-Recorder-Pending"] = std::to_string(pending);
  return answer;
}

// The recorder may not have noticed yet, and would call the database up.
ApiAnswer Backend::lost_connection(const Error& error) {
  recorder_.check_in_soon();
  return error_answer(503, "unavailable", error.message);
}

ApiAnswer Backend::being_set_up() {
  return error_answer(503, "unavailable", "the database is being migrated, try again soon");
}

Result<std::unique_ptr<Store>> Backend::take_store(bool& reused) {
  {
    const MutexLock lock(mutex_);
    if (!idle_.empty()) {
      auto store = std::move(idle_.back());
      idle_.pop_back();
      reused = true;
      return store;
    }
  }
  return open_store(options_.store);
}

void Backend::give_back(std::unique_ptr<Store> store) {
  const MutexLock lock(mutex_);
  if (idle_.size() < kIdleStores) idle_.push_back(std::move(store));
}

}  // namespace run_recorder
