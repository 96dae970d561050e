// Whether events are accepted now, and why not: one answer for whoever asks (status, metrics, readiness, the service
// manager, the log, a sender that was refused). Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/time.h"
#include "spool/spool.h"

namespace run_recorder {

struct Acceptance {
  enum class State { kAccepting, kLifecycleOnly, kRefusing };
  enum class Reason {
    kNone,
    kMaxBytes,  // [spool] max_bytes wait; from nine tenths of it on only lifecycle events are accepted
    kMinFree,   // less than [spool] min_free is free
    kDiskFull,  // the file system takes nothing, whatever it says is free
    kFailed,    // writing failed, or the spool's files are gone
  };

  State state = State::kAccepting;
  Reason reason = Reason::kNone;
  Timestamp since{};  // state and reason are as they are
  SpoolRoom room;
  std::string failure;    // of kDiskFull, kFailed: what the system said
  std::string backlog;    // why events wait, as "the database is away since …"; may be empty
  bool disk_low = false;  // free for now, but less than twice [spool] min_free
};

std::string_view to_string(Acceptance::State state);
// "max_bytes", "min_free", "disk_full", "spool_failed"; empty for kNone.
std::string_view to_string(Acceptance::Reason reason);
// The key that is reached, as "[spool] min_free"; empty where it is none.
std::string_view limit_of(Acceptance::Reason reason);
// "the spool is full: 1 GiB of 1 GiB ([spool] max_bytes) wait in /var/lib/run-recorder/spool"; empty where all events
// are accepted.
std::string in_words(const Acceptance& acceptance);
// "180 MiB free under /var/lib/run-recorder/spool, [spool] min_free is 256 MiB"
std::string disk_in_words(const SpoolRoom& room);

// The limit, as "[spool] min_free", for which applied events that are kept leave the spool before their time; empty:
// none does.
std::string_view limit_of_kept(const SpoolRoom& room);

// State and reason of that room. append_failure: the last append failed with this; empty: it did not.
Acceptance acceptance_of(SpoolRoom room, std::string_view append_failure);

}  // namespace run_recorder
