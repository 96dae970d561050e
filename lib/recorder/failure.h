// Why a transaction of events failed, as far as its error alone tells, and what is remembered of an event that fails
// again and again. Pure: no I/O. A Suspect is for one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"

namespace run_recorder {

// No list of codes can tell an event that the database refuses from a database that refuses all events: a trigger or
// an index of somebody else's may raise any code. The error only says which question comes next.
enum class FailureCause {
  kContent,   // something of what was written was refused: does the database take other rows?
  kMoment,    // time, locks, others, the connection: again, with fewer events
  kDatabase,  // full, shutting down, broken, of another schema: later
};
FailureCause cause_of(const Error& error);

inline constexpr std::string_view kReadOnlyState = "25006";  // SQLSTATE of a server that is a standby or set to it

// What the database refused, and how that was to be written: an event that makes its run's row, or one that changes
// it.
struct Refused {
  Error error;
  bool inserts = false;
};

struct SuspectPolicy {
  int tries = 5;                               // alone
  std::chrono::milliseconds time{5 * 60'000};  // from the first to the last of them, at least
};

// The event that a transaction failed for a reason of the moment with, and alone: what takes too long for it alone,
// or ends its connection, is no fault of the moment for ever. After enough tries it gets a last one, behind a proof
// that the database takes other rows, and is convicted by that.
class Suspect {
 public:
  using Clock = std::chrono::steady_clock;
  explicit Suspect(const SuspectPolicy& policy) : policy_(policy) {}

  // It failed once more; last: its last try.
  void failed(std::uint64_t seq, const Refused& refused, Clock::time_point now, bool last);
  bool is_due(std::uint64_t seq, Clock::time_point now) const;  // for its last try
  bool is_convicted(std::uint64_t seq) const { return convicted_ && seq == seq_; }
  const Refused& refused() const { return refused_; }  // the latest

 private:
  const SuspectPolicy policy_;
  std::uint64_t seq_ = 0;  // 0: nobody is suspected
  Refused refused_;
  int tries_ = 0;
  Clock::time_point since_{};
  bool convicted_ = false;
};

}  // namespace run_recorder
