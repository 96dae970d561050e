#include "server/spool_writer.h"

#include <map>
#include <utility>

namespace run_recorder {
namespace {

using std::chrono::steady_clock;

// How long nothing must have been refused before the spool counts as having room again; else a spool at its limit
// would say so with every event it applies.
constexpr std::chrono::seconds kRoomProven{5};
constexpr std::chrono::seconds kIdleTurn{5};
constexpr std::chrono::seconds kAppendTime{60};  // a disk that takes longer for one sync is as good as gone

constexpr std::string_view kFullMessage =
    "the spool is full: the database has to take some of it first; send this event again later";
// The reason is for the operator, in the log.
constexpr std::string_view kFailedMessage = "the daemon cannot write to its spool; send this event again later";

}  // namespace

SpoolWriter::SpoolWriter(Spool& spool, Tally& tally, EventServer::OnAccepted on_accepted, OnSettled on_settled,
                         std::size_t commit_bytes)
    : spool_(spool),
      tally_(tally),
      on_accepted_(std::move(on_accepted)),
      on_settled_(std::move(on_settled)),
      commit_bytes_(commit_bytes),
      pulse_(kAppendTime),
      failed_(LogLevel::kError, "the spool cannot take events, all are refused", "the spool takes events again"),
      full_(LogLevel::kError, "the spool is full, events are refused", "the spool has room again") {}

SpoolWriter::~SpoolWriter() {
  stop(std::chrono::milliseconds{0});
}

void SpoolWriter::start() {
  thread_ = std::thread([this] { run(); });
}

void SpoolWriter::submit(std::unique_ptr<Submission> submission) {
  {
    const std::lock_guard lock(mutex_);
    queued_bytes_ += submission->bytes;
    queue_.push_back(std::move(submission));
  }
  changed_.notify_one();
}

void SpoolWriter::stop(std::chrono::milliseconds within) {
  if (!thread_.joinable()) {
    return;
  }
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
    emptied_.wait_for(lock, within, [this] { return queue_.empty(); });
    hurry_ = true;
  }
  thread_.join();
}

void SpoolWriter::run() {
  name_this_thread("spool-writer");
  ask_for_short_slices();
  while (true) {
    Submissions group;
    {
      std::unique_lock lock(mutex_);
      do {
        pulse_.beat();
      } while (!changed_.wait_for(lock, kIdleTurn, [this] { return stopping_ || !queue_.empty(); }));
      if (queue_.empty() || hurry_) {
        pulse_.rest();
        return;
      }
      group = take_group();
      if (queue_.empty()) {
        emptied_.notify_one();
      }
    }
    commit(group);
    on_settled_(std::move(group));
  }
}

// All that wait; where that is more than one commit should carry, an equal part of every session's, so that one that
// floods delays only itself. A session's order is kept. Called with the lock held.
Submissions SpoolWriter::take_group() {
  if (queued_bytes_ <= commit_bytes_) {
    queued_bytes_ = 0;
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
  const std::size_t fair = commit_bytes_ / parts.size();
  Submissions group;
  Submissions rest;
  std::size_t bytes = 0;
  for (auto& submission : queue_) {
    Part& part = parts[submission->source];
    part.full = part.full || (part.bytes > 0 && part.bytes + submission->bytes > fair) || bytes > commit_bytes_;
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
      entries.push_back({item.body, item.event.kind != EventKind::kOther});
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
  bool refused = false;
  for (const auto& submission : group) {
    for (Submission::Item& item : submission->items) {
      if (appended.admissions[entry++] == Spool::Admission::kAccepted) {
        accepted.push_back({seq++, std::move(item.event), item.body.size()});
        ++submission->accepted;
      } else {
        submission->refused.push_back({item.line, {RefusalCode::kSpoolFull, std::string(kFullMessage)}});
        refused = true;
      }
    }
    submission->items = {};
  }
  tally_.update([&accepted](ServerCounters& counters) {
    counters.spool_failure.clear();
    counters.accepted += accepted.size();
    for (const Accepted& event : accepted) {
      count_type(counters, event.event.type);
    }
  });
  failed_.clear();
  note_room(refused);
  if (!accepted.empty()) {
    on_accepted_(std::move(accepted));
  }
}

void SpoolWriter::refuse_all(Submissions& group, const Error& error) {
  for (const auto& submission : group) {
    for (const Submission::Item& item : submission->items) {
      submission->refused.push_back({item.line, {RefusalCode::kUnavailable, std::string(kFailedMessage)}});
    }
    submission->items = {};
  }
  tally_.update([&error](ServerCounters& counters) { counters.spool_failure = error.message; });
  failed_.report(error.message);
}

void SpoolWriter::note_room(bool refused) {
  const auto now = steady_clock::now();
  if (refused) {
    last_full_ = now;
    full_.report("what is not applied yet has reached its limit, or the file system has too little left");
  } else if (full_.active() && now - last_full_ >= kRoomProven) {
    full_.clear();
  }
}

}  // namespace run_recorder
