// The control API (SPEC section 8): a request in, an answer out. It knows no sockets; http_server.h carries it. Calls
// block on the database, each with a Store of its own from a small pool; safe from several threads.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "control/request.h"
#include "reconcile/reconciler.h"
#include "recorder/recorder.h"
#include "retention/pruner.h"

namespace run_recorder {

struct ApiOptions {
  StoreOptions store;
  std::function<JsonText()> status;        // the object of /v1/status
  std::function<std::string()> metrics;    // Prometheus text
  std::function<std::string()> not_ready;  // why no event would be accepted now; empty: it would
};

class Api {
 public:
  Api(ApiOptions options, Recorder& recorder, Reconciler& reconciler, Pruner& pruner);
  ApiAnswer answer(const ApiRequest& request);

 private:
  using Read = std::function<Result<JsonText>(Store&)>;

  ApiAnswer route(const ApiRequest& request, const RequestTarget& target);
  ApiAnswer route_runs(const ApiRequest& request, const RequestTarget& target);
  ApiAnswer route_reconciliations(const ApiRequest& request, const RequestTarget& target);
  ApiAnswer route_dead_letters(const ApiRequest& request, const RequestTarget& target);
  ApiAnswer read(const Read& work);
  ApiAnswer lost_connection(const Error& error);
  ApiAnswer reconcile(const ApiRequest& request, const RequestTarget& target);
  ApiAnswer undo(const std::string& pass_id);
  ApiAnswer prune(const ApiRequest& request, const RequestTarget& target);
  Result<std::unique_ptr<Store>> take_store(bool& reused);  // reused: it was kept since an earlier request
  void give_back(std::unique_ptr<Store> store);

  const ApiOptions options_;
  Recorder& recorder_;
  Reconciler& reconciler_;
  Pruner& pruner_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Store>> idle_;  // guarded by mutex_
};

}  // namespace run_recorder
