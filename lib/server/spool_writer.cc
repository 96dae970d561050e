#include "server/spool_writer.h"

#include <map>
#include <utility>

namespace run_recorder {
namespace {

// How long nothing must have been refused before the spool counts as having room again; else a spool at its limit
// would say so with every event it applies.
constexpr std::chrono::seconds kRoomProven{5};
constexpr std::chrono::seconds kIdleTurn{5};
// How long the sessions may wait for a sync of their own thread before the other one runs them.
constexpr std::chrono::milliseconds kDiskPatience{20};
constexpr std::chrono::seconds kAppendTime{60};  // a disk that takes longer for one sync is as good as gone

constexpr std::string_view kFullMessage =
    "the spool is full: the database has to take some of it first; send this event again later";
// The reason is for the operator, in the log.
constexpr std::string_view kFailedMessage = "the daemon cannot write to its spool; send this event again later";

}  // namespace

SpoolWriter::SpoolWriter(Spool& spool, Counters& counters, OnAccepted on_accepted, Sessions sessions,
                         const ServerBounds& bounds)
    : spool_(spool),
      counters_(counters),
      on_accepted_(std::move(on_accepted)),
      sessions_(std::move(sessions)),
      bounds_(bounds),
      liveness_(kAppendTime),
      small_liveness_(kAppendTime),
      failed_(LogLevel::kError, "the spool cannot take events, all are refused", "the spool takes events again"),
      full_(LogLevel::kError, "the spool is full, events are refused", "the spool has room again") {}

SpoolWriter::~SpoolWriter() {
  stop(std::chrono::milliseconds{0});
}

void SpoolWriter::start() {
  thread_ = std::thread([this] { run(); });
}

void SpoolWriter::submit(std::unique_ptr<Submission> submission) {
  bool called = false;
  {
    const std::lock_guard lock(mutex_);
    queued_bytes_ += submission->bytes;
    queue_.push_back(std::move(submission));
    // Behind a group that is not settled too, so that the sessions hear of each in its order.
    handed_over_ = handed_over_ || queued_bytes_ > bounds_.small_commit_bytes || unsettled_ > 0 || small_since_;
    called = is_called();
  }
  if (called) {
    changed_.notify_all();
  }
}

void SpoolWriter::commit_small() {
  Submissions group;
  {
    const std::lock_guard lock(mutex_);
    if (queue_.empty() || handed_over_ || stopping_) return;
    group = take_group();
    small_since_ = Clock::now();
    ++small_commits_;
    if (!watching_) changed_.notify_all();
  }
  small_liveness_.beat();
  commit(group);
  small_liveness_.rest();
  {
    std::unique_lock lock(mutex_);
    small_since_.reset();
    if (standing_in_) {
      sessions_.post([] {});  // there may be nothing else to do that would let it see that it is over
      changed_.wait(lock, [this] { return !standing_in_; });
    }
  }
  sessions_.settle(std::move(group));
}

void SpoolWriter::stop(std::chrono::milliseconds within) {
  if (!thread_.joinable()) {
    return;
  }
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
    emptied_.wait_for(lock, within, [this] { return queue_.empty(); });
    hurry_ = true;
  }
  thread_.join();
}

void SpoolWriter::run() {
  name_this_thread("spool-writer");
  ask_for_short_slices();
  std::unique_lock lock(mutex_);
  while (true) {
    liveness_.beat();
    const std::uint64_t small_commits = small_commits_;
    changed_.wait_for(lock, watching_ ? kDiskPatience : kIdleTurn,
                      [this] { return is_called() || (small_since_ && !watching_); });
    watching_ = small_since_ || small_commits != small_commits_;
    if (small_since_ && Clock::now() - *small_since_ >= kDiskPatience) {
      stand_in(lock);
    } else if (is_called()) {
      if (queue_.empty() || hurry_) {
        break;
      }
      Submissions group = take_group();
      ++unsettled_;
      lock.unlock();
      commit(group);
      sessions_.post([this, done = std::make_shared<Submissions>(std::move(group))] {
        {
          const std::lock_guard settled(mutex_);
          --unsettled_;
        }
        sessions_.settle(std::move(*done));
      });
      lock.lock();
    }
  }
  liveness_.rest();
}

// The writer's thread has something to commit, or has to end. Requires mutex_.
bool SpoolWriter::is_called() const {
  return !small_since_ && (stopping_ || (handed_over_ && !queue_.empty()));
}

void SpoolWriter::stand_in(std::unique_lock<std::mutex>& lock) {
  liveness_.rest();
  standing_in_ = true;
  while (small_since_) {
    lock.unlock();
    sessions_.run_one();
    lock.lock();
  }
  standing_in_ = false;
  changed_.notify_all();
}

// All that wait; where that is more than one commit should carry, an equal part of every session's, so that one that
// floods delays only itself. A session's order is kept. Called with the lock held.
Submissions SpoolWriter::take_group() {
  if (queued_bytes_ <= bounds_.commit_bytes) {
    queued_bytes_ = 0;
    handed_over_ = false;
    emptied_.notify_all();
    return std::exchange(queue_, {});
  }
  struct Part {
    std::size_t bytes = 0;
    bool full = false;
  };
  std::map<std::uint64_t, Part> parts;
  for (const auto& submission : queue_) {
    parts[submission->source];
  }
  const std::size_t fair = bounds_.commit_bytes / parts.size();
  Submissions group;
  Submissions rest;
  std::size_t bytes = 0;
  for (auto& submission : queue_) {
    Part& part = parts[submission->source];
    part.full =
        part.full || (part.bytes > 0 && part.bytes + submission->bytes > fair) || bytes > bounds_.commit_bytes;
    if (part.full) {
      rest.push_back(std::move(submission));
      continue;
    }
    part.bytes += submission->bytes;
    bytes += submission->bytes;
    group.push_back(std::move(submission));
  }
  queue_ = std::move(rest);
  queued_bytes_ -= bytes;
  return group;
}

void SpoolWriter::commit(Submissions& group) {
  std::vector<Spool::Entry> entries;
  for (const auto& submission : group) {
    for (const Submission::Item& item : submission->items) {
      entries.push_back({item.body, is_lifecycle(item.event.kind)});
    }
  }
  const Result<Spool::Appended> appended = spool_.append(entries);
  if (appended) {
    settle(group, *appended);
  } else {
    refuse_all(group, appended.error());
  }
}

void SpoolWriter::settle(Submissions& group, const Spool::Appended& appended) {
  std::vector<Accepted> accepted;
  accepted.reserve(appended.admissions.size());
  std::uint64_t seq = appended.first_seq;
  std::size_t entry = 0;
  std::uint64_t refused = 0;
  for (const auto& submission : group) {
    for (Submission::Item& item : submission->items) {
      if (appended.admissions[entry++] == Spool::Admission::kAccepted) {
        accepted.push_back({seq++, std::move(item.event), item.body.size()});
        ++submission->accepted;
      } else {
        submission->refused.push_back({item.line, {RefusalCode::kSpoolFull, std::string(kFullMessage)}});
        ++refused;
      }
    }
    submission->items = {};
  }
  counters_.update([&accepted, refused](ServerCounters& counters) {
    counters.spool_failure.clear();
    counters.refused_by_spool += refused;
    counters.accepted += accepted.size();
    for (const Accepted& event : accepted) {
      count_type(counters, event.event.type);
    }
  });
  failed_.clear();
  note_room(refused > 0);
  if (!accepted.empty()) {
    on_accepted_(std::move(accepted));
  }
}

void SpoolWriter::refuse_all(Submissions& group, const Error& error) {
  std::uint64_t refused = 0;
  for (const auto& submission : group) {
    refused += submission->items.size();
    for (const Submission::Item& item : submission->items) {
      submission->refused.push_back({item.line, {RefusalCode::kUnavailable, std::string(kFailedMessage)}});
    }
    submission->items = {};
  }
  counters_.update([&error, refused](ServerCounters& counters) {
    counters.spool_failure = error.message;
    counters.refused_by_spool += refused;
  });
  failed_.report(error.message);
}

void SpoolWriter::note_room(bool refused) {
  const auto now = Clock::now();
  if (refused) {
    last_full_ = now;
    full_.report("what is not applied yet has reached its limit, or the file system has too little left");
  } else if (full_.active() && now - last_full_ >= kRoomProven) {
    full_.clear();
  }
}

}  // namespace run_recorder
