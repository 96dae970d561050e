// Whether this process may record under its spool's id, where the database says that another incarnation does. A
// spool can be copied with the machine or volume it is on; two that record as one would take each other's runs for
// their own and overwrite each other's ledger. Pure.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "store/store.h"

namespace run_recorder {

enum class Claim {
  kTakeOver,  // the other incarnation has ended: it was this spool's own, or has been silent for long enough
  kWait,      // it may be alive: ask again
  kRenew,     // it is alive: this spool is a copy, or has been copied
};

// Judges one holder again and again. For one thread.
class Claimant {
 public:
  // patience: longer than the longest silence of a recorder that is alive.
  explicit Claimant(std::chrono::milliseconds patience) : patience_(patience) {}

  // own: the holder is an earlier incarnation of this very folder, which has not moved since.
  Claim judge(const Holder& holder, bool own, std::chrono::steady_clock::time_point now);
  void reset() { first_.reset(); }

 private:
  struct Sighting {
    std::string incarnation;
    std::string last_seen;
    std::chrono::steady_clock::time_point at;
  };

  const std::chrono::milliseconds patience_;
  std::optional<Sighting> first_;
};

}  // namespace run_recorder
