#include "base/log_queue.h"

#include <cassert>
#include <deque>

#include "base/liveness.h"
#include "base/mutex.h"

namespace run_recorder {
namespace {

using Clock = std::chrono::steady_clock;

std::size_t size_of(const LogQueue::Line& line) {
  std::size_t bytes = sizeof(line) + line.text.size();
  for (const std::string& field : line.entry) bytes += sizeof(std::string) + field.size();
  return bytes;
}

}  // namespace

struct LogQueue::State {
  // A line, or a gap of so many dropped ones.
  struct Item {
    Line line;
    std::uint64_t dropped = 0;
  };

  State(Write the_write, Gap the_gap, Bounds the_bounds)
      : write(std::move(the_write)), gap(std::move(the_gap)), bounds(the_bounds) {}

  void drop() REQUIRES(mutex);
  void fall_behind() REQUIRES(mutex);
  std::uint64_t write_item(const Item& item) EXCLUDES(mutex);  // how many lines it lost; for the thread alone

  const Write write;
  const Gap gap;
  const Bounds bounds;
  std::uint64_t unreported = 0;  // lost lines; the thread's

  Mutex mutex;
  Condition arrived, progressed;
  std::deque<Item> items GUARDED_BY(mutex);
  std::size_t bytes GUARDED_BY(mutex) = 0;      // of items and of the line being written
  std::uint64_t pushed GUARDED_BY(mutex) = 0;   // lines that found room
  std::uint64_t written GUARDED_BY(mutex) = 0;  // of these; also those whose write failed
  std::uint64_t dropped GUARDED_BY(mutex) = 0;
  bool ending GUARDED_BY(mutex) = false;     // the thread ends when items is empty
  bool ended GUARDED_BY(mutex) = false;      // it has
  bool abandoned GUARDED_BY(mutex) = false;  // the thread is detached
  bool behind GUARDED_BY(mutex) = false;
  Clock::time_point behind_since GUARDED_BY(mutex){};
};

void LogQueue::State::drop() {
  ++dropped;
  if (items.empty() || items.back().dropped == 0) items.emplace_back();
  ++items.back().dropped;
}

void LogQueue::State::fall_behind() {
  if (behind) return;
  behind = true;
  behind_since = Clock::now();
  progressed.notify_all();  // releases the other callers of push()
}

// A line that fails is not retried; the next one that succeeds follows the count of those lost.
std::uint64_t LogQueue::State::write_item(const Item& item) {
  const std::uint64_t lines = item.dropped == 0 ? 1 : 0;
  unreported += item.dropped;
  if (unreported > 0 && !write(gap(unreported))) {
    unreported += lines;
    return lines;
  }
  unreported = 0;
  if (lines == 0 || write(item.line)) return 0;
  unreported = 1;
  return 1;
}

LogQueue::LogQueue(Write write, Gap gap, Bounds bounds)
    : state_(std::make_shared<State>(std::move(write), std::move(gap), bounds)),
      thread_([state = state_] { run(state); }) {}

LogQueue::~LogQueue() {
  if (thread_.joinable()) finish(std::chrono::milliseconds{0});
}

void LogQueue::run(const std::shared_ptr<State>& state) {
  name_this_thread("log");
  State& own = *state;
  MutexLock lock(own.mutex);
  while (true) {
    own.arrived.wait(lock, [&own] {
      own.mutex.assert_held();
      return !own.items.empty() || own.ending;
    });
    if (own.items.empty() || own.abandoned) break;
    const State::Item item = std::move(own.items.front());
    own.items.pop_front();
    lock.unlock();
    const std::uint64_t lost = own.write_item(item);
    lock.lock();
    own.dropped += lost;
    if (item.dropped == 0) {
      ++own.written;
      assert(own.written <= own.pushed && own.bytes >= size_of(item.line));
      own.bytes -= size_of(item.line);
    }
    assert(!own.items.empty() || (own.bytes == 0 && own.written == own.pushed));
    if (own.items.empty()) own.behind = false;
    own.progressed.notify_all();
  }
  own.ended = true;
  own.progressed.notify_all();
}

void LogQueue::push(Line line) {
  State& own = *state_;
  const std::size_t bytes = size_of(line);
  MutexLock lock(own.mutex);
  if (own.abandoned || own.ended || (own.bytes > 0 && own.bytes + bytes > own.bounds.bytes)) {
    own.drop();
    own.fall_behind();
    return;
  }
  own.items.push_back({std::move(line), 0});
  own.bytes += bytes;
  const std::uint64_t number = ++own.pushed;
  own.arrived.notify_one();
  const bool in_time = own.progressed.wait_for(
      lock, own.behind ? std::chrono::milliseconds{0} : own.bounds.push_timeout, [&own, number] {
        own.mutex.assert_held();
        return own.behind || own.written >= number;
      });
  if (!in_time) own.fall_behind();
}

bool LogQueue::flush(std::chrono::milliseconds within) {
  State& own = *state_;
  MutexLock lock(own.mutex);
  const std::uint64_t number = own.pushed;
  return own.progressed.wait_for(lock, within, [&own, number] {
    own.mutex.assert_held();
    return own.written >= number;
  });
}

bool LogQueue::finish(std::chrono::milliseconds within) {
  State& own = *state_;
  MutexLock lock(own.mutex);
  assert(!own.ending);
  own.ending = true;
  own.arrived.notify_one();
  if (own.progressed.wait_for(lock, within, [&own] {
        own.mutex.assert_held();
        return own.ended;
      })) {
    lock.unlock();
    thread_.join();
    return true;
  }
  own.abandoned = true;
  lock.unlock();
  thread_.detach();
  return false;
}

std::uint64_t LogQueue::dropped() const {
  const MutexLock lock(state_->mutex);
  return state_->dropped;
}

std::chrono::milliseconds LogQueue::behind_for() const {
  const MutexLock lock(state_->mutex);
  if (!state_->behind) return std::chrono::milliseconds{0};
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - state_->behind_since);
}

}  // namespace run_recorder
