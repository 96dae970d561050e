// Under which id this process records: registers it with the database, takes the id over from an incarnation that has
// ended, waits while one may be alive, and takes a new id beside one that is. claim() and own() are for the
// recorder's thread; self() and wait_settled() for any.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "base/mutex.h"
#include "base/result.h"
#include "recorder/claim.h"
#include "recorder/database_health.h"
#include "spool/spool.h"
#include "store/store.h"

namespace run_recorder {

class Registration {
 public:
  // spool and health outlive it. sole_writer: the database is this process's alone, so whoever wrote into it before
  // has ended. silence: longer than a recorder that is alive stays silent.
  Registration(Spool& spool, DatabaseHealth& health, std::string host, std::string version, bool sole_writer,
               std::chrono::milliseconds silence);

  // The checkpoint, once this incarnation holds the id, which may be a new one then. Empty: another incarnation may
  // be recording under it; health says so, to be asked again after its backoff. Errors: the store's.
  Result<std::optional<Checkpoint>> claim(Store& store, std::chrono::steady_clock::time_point now);

  const RecorderSelf& own() const { return self_; }
  RecorderSelf self() const;
  // Waits until no other process is known or suspected to record under self().id. False: not within timeout.
  bool wait_settled(std::chrono::milliseconds timeout);

 private:
  bool is_own(const Holder& holder) const;  // an earlier incarnation of this very folder, which has not moved since
  void wait_for(const Holder& holder);
  void take_new_id(const Holder& holder);
  void settle();

  Spool& spool_;
  DatabaseHealth& health_;
  const bool sole_writer_;
  Claimant claimant_;
  RecorderSelf self_;  // written by the recorder's thread under mutex_
  mutable Mutex mutex_;
  Condition changed_;
  bool settled_ GUARDED_BY(mutex_);
};

}  // namespace run_recorder
