// Group commit: a thread that appends to the spool what the sessions hand it, with one sync for all that wait, tells
// the recorder, and then the sessions. While it syncs, more gathers; that makes the next group larger, not slower.
//
// submit() belongs to the sessions' thread; the callbacks run on the writer's.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/pulse.h"
#include "protocol/protocol.h"
#include "server/tally.h"
#include "spool/spool.h"

namespace run_recorder {

class Session;

// What one turn of one session brought.
struct Submission {
  struct Item {
    std::uint64_t line = 0;
    Event event;
    std::string body;
    std::size_t bytes = 0;  // memory of event and body, roughly
  };
  struct Refused {
    std::uint64_t line = 0;
    Refusal refusal;
  };

  std::shared_ptr<Session> session;
  std::uint64_t source = 0;  // the session's number
  std::chrono::steady_clock::time_point received;
  std::vector<Item> items;  // in line order; empty once it is settled
  std::size_t bytes = 0;
  // The outcome: accepted and durable, but for these.
  std::size_t accepted = 0;
  std::vector<Refused> refused;
};
using Submissions = std::vector<std::unique_ptr<Submission>>;

class SpoolWriter {
 public:
  using OnSettled = std::function<void(Submissions&&)>;

  SpoolWriter(Spool& spool, Tally& tally, EventServer::OnAccepted on_accepted, OnSettled on_settled,
              std::size_t commit_bytes);
  ~SpoolWriter();
  SpoolWriter(const SpoolWriter&) = delete;
  SpoolWriter& operator=(const SpoolWriter&) = delete;

  void start();
  void submit(std::unique_ptr<Submission> submission);
  // Appends what was submitted, as far as that can begin within the time, and ends the thread. Nothing may be
  // submitted any more.
  void stop(std::chrono::milliseconds within);

  // For the watchdog: the thread does not get on, as a rule because the disk does not answer.
  bool stuck() const { return pulse_.missed(); }

 private:
  void run();
  Submissions take_group();
  void commit(Submissions& group);
  void settle(Submissions& group, const Spool::Appended& appended);
  void refuse_all(Submissions& group, const Error& error);
  void note_room(bool refused);

  Spool& spool_;
  Tally& tally_;
  const EventServer::OnAccepted on_accepted_;
  const OnSettled on_settled_;
  const std::size_t commit_bytes_;
  std::thread thread_;
  Pulse pulse_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable emptied_;
  // guarded by mutex_
  Submissions queue_;
  std::size_t queued_bytes_ = 0;
  bool stopping_ = false;
  bool hurry_ = false;  // leave the rest

  // for the thread alone
  RepeatGuard failed_;
  RepeatGuard full_;
  std::chrono::steady_clock::time_point last_full_{};
};

}  // namespace run_recorder
