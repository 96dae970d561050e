#include "server/spool_writer.h"

#include <cassert>
#include <map>
#include <utility>

namespace run_recorder {
namespace {

constexpr std::chrono::seconds kAppendTime{60};  // a disk that takes longer for one sync is as good as gone

// The reason is for the operator, in the log.
constexpr std::string_view kFailedMessage = "the daemon cannot write to its spool; send this event again later";

}  // namespace

SpoolWriter::SpoolWriter(Spool& spool, Counters& counters, AcceptanceWatch& acceptance, OnAccepted on_accepted,
                         Sessions sessions, const ServerBounds& bounds)
    : spool_(spool),
      counters_(counters),
      acceptance_(acceptance),
      on_accepted_(std::move(on_accepted)),
      sessions_(std::move(sessions)),
      bounds_(bounds),
      liveness_(kAppendTime),
      small_liveness_(kAppendTime),
      failed_(LogLevel::kError, "the spool cannot accept events, all are refused", "the spool accepts events again") {
}

SpoolWriter::~SpoolWriter() {
  stop(std::chrono::milliseconds{0});
}

void SpoolWriter::start() {
  thread_ = std::thread([this] { run(); });
}

void SpoolWriter::submit(std::unique_ptr<Submission> submission) {
  bool called = false;
  {
    const MutexLock lock(mutex_);
    queued_bytes_ += submission->bytes;
    queue_.push_back(std::move(submission));
    turns_.submitted(queued_bytes_ > bounds_.small_commit_bytes);
    called = turns_.calls_writer(Clock::now(), true);
  }
  if (called) {
    changed_.notify_all();
  }
}

void SpoolWriter::commit_small() {
  Submissions group;
  {
    const MutexLock lock(mutex_);
    const auto now = Clock::now();
    if (!turns_.begin_small(now, !queue_.empty())) return;
    group = take_group();
    if (turns_.calls_writer(now, !queue_.empty())) changed_.notify_all();
  }
  small_liveness_.beat();
  commit(group);
  small_liveness_.rest();
  {
    MutexLock lock(mutex_);
    turns_.end_small();
    if (turns_.writer_runs_sessions()) {
      sessions_.post([] {});  // there may be nothing else to do that would let it see that it is over
      while (turns_.writer_runs_sessions()) changed_.wait(lock);
    }
  }
  sessions_.settle(std::move(group));
}

void SpoolWriter::stop(std::chrono::milliseconds within) {
  if (!thread_.joinable()) {
    return;
  }
  {
    MutexLock lock(mutex_);
    turns_.drain();
    changed_.notify_all();
    emptied_.wait_for(lock, within, [this] {
      mutex_.assert_held();
      return queue_.empty();
    });
    turns_.abandon();
  }
  thread_.join();
}

void SpoolWriter::run() {
  name_this_thread("spool-writer");
  ask_for_short_slices();
  MutexLock lock(mutex_);
  while (true) {
    liveness_.beat();
    turns_.begin_wait();
    changed_.wait_for(lock, turns_.longest_wait(), [this] {
      mutex_.assert_held();
      return turns_.calls_writer(Clock::now(), !queue_.empty());
    });
    turns_.end_wait();
    switch (turns_.task(Clock::now(), !queue_.empty())) {
      case CommitTurns::Task::kWait:
        break;
      case CommitTurns::Task::kStandIn:
        stand_in();
        break;
      case CommitTurns::Task::kCommit:
        commit_group();
        break;
      case CommitTurns::Task::kEnd:
        liveness_.rest();
        return;
    }
  }
}

void SpoolWriter::stand_in() {
  liveness_.rest();
  turns_.stand_in();
  while (turns_.state() == CommitTurns::State::kStandIn) {
    mutex_.unlock();
    sessions_.run_one();
    mutex_.lock();
  }
  turns_.returned(!queue_.empty());
  changed_.notify_all();
}

void SpoolWriter::commit_group() {
  Submissions group = take_group();
  turns_.group_committed();
  mutex_.unlock();
  commit(group);
  sessions_.post([this, done = std::make_shared<Submissions>(std::move(group))] {
    {
      const MutexLock settled(mutex_);
      turns_.group_settled();
    }
    sessions_.settle(std::move(*done));
  });
  mutex_.lock();
}

// All that wait; where that is more than one commit should carry, an equal part of every session's, so that one that
// floods delays only itself. A session's order is kept.
Submissions SpoolWriter::take_group() {
  assert(!queue_.empty());
  if (queued_bytes_ <= bounds_.commit_bytes) {
    queued_bytes_ = 0;
    turns_.taken_all();
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
    // One submission of a flood may be more than a commit should carry: what little another session has goes with it.
    const bool fits = part.bytes + submission->bytes <= fair;
    part.full = part.full || (!fits && (part.bytes > 0 || bytes > bounds_.commit_bytes));
    if (part.full) {
      rest.push_back(std::move(submission));
      continue;
    }
    part.bytes += submission->bytes;
    bytes += submission->bytes;
    group.push_back(std::move(submission));
  }
  assert(!group.empty() && bytes <= queued_bytes_);
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
  Refusal why{RefusalCode::kSpoolFull, {}};
  for (const auto& submission : group) {
    for (Submission::Item& item : submission->items) {
      if (appended.admissions[entry++] == Spool::Admission::kAccepted) {
        accepted.push_back({seq++, std::move(item.event), item.body.size()});
        ++submission->accepted;
      } else {
        if (refused++ == 0) why.message = no_room();
        submission->refused.push_back({item.line, why});
      }
    }
    submission->items = {};
  }
  assert(entry == appended.admissions.size());
  counters_.update([&accepted, refused](ServerCounters& counters) {
    counters.spool_failure.clear();
    counters.refused_by_spool += refused;
    counters.accepted += accepted.size();
    for (const Accepted& event : accepted) {
      count_type(counters, event.event.type);
    }
  });
  failed_.clear();
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

// For the sender of an event that found none: the cause as it shows now. Where it does not show, there is room again,
// or there was for others, but not for this one.
std::string SpoolWriter::no_room() {
  counters_.update([](ServerCounters& counters) { counters.spool_failure.clear(); });  // this append did not fail
  const std::string cause = in_words(acceptance_.look());
  return (cause.empty() ? "the spool has too little room for this event" : cause) + "; send this event again later";
}

}  // namespace run_recorder
