// What the handlers of the control API ask: the recorder, the reconciler, the pruner, and a store of their own for a
// read. Safe from several threads.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "control/answer.h"
#include "expect/expected.h"
#include "reconcile/reconciler.h"
#include "recorder/recorder.h"
#include "retention/pruner.h"
#include "server/acceptance.h"

namespace run_recorder {

struct ApiOptions {
  StoreOptions store;
  std::function<JsonText()> status;      // the object of /v1/status
  std::function<std::string()> metrics;  // Prometheus text
  std::function<Acceptance()> acceptance;
  std::function<std::shared_ptr<const ExpectedRuns>()> expected;
};

class Backend {
 public:
  // The others outlive it.
  Backend(ApiOptions options, Recorder& recorder, Reconciler& reconciler, Pruner& pruner);

  // Waits for what was acknowledged before, so that whoever emits and then lists sees it, until a second after the
  // call was received, however long others held it up; then lends a store to the work. 503 where the database is
  // away. The work may be called twice, on another connection.
  using Read = std::function<Result<JsonText>(Store&)>;
  ApiAnswer read(std::chrono::steady_clock::time_point received, const Read& work);

  // The answer while the database's tables are made.
  static ApiAnswer being_set_up();

  const ApiOptions& options() const { return options_; }
  Recorder& recorder() { return recorder_; }
  Reconciler& reconciler() { return reconciler_; }
  Pruner& pruner() { return pruner_; }

 private:
  ApiAnswer lost_connection(const Error& error);
  Result<std::unique_ptr<Store>> take_store(bool& reused);  // reused: it was kept since an earlier request
  void give_back(std::unique_ptr<Store> store);

  const ApiOptions options_;
  Recorder& recorder_;
  Reconciler& reconciler_;
  Pruner& pruner_;
  Mutex mutex_;
  std::vector<std::unique_ptr<Store>> idle_ GUARDED_BY(mutex_);
};

}  // namespace run_recorder
