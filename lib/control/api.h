// The control API (SPEC section 8): a request in, an answer out. It knows no sockets; http_server.h carries it. Calls
// block on the database, each with a Store of its own from a small pool; safe from several threads.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "recorder/reconciler.h"
#include "recorder/recorder.h"

namespace run_recorder {

struct ApiRequest {
  std::string method;  // GET, POST, DELETE
  std::string target;  // "/v1/runs?limit=5"
  std::string body;
};

struct ApiAnswer {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::map<std::string, std::string> headers;  // beside the usual ones
};

struct ApiOptions {
  StoreOptions store;
  std::function<JsonText()> status;        // the object of /v1/status
  std::function<std::string()> metrics;    // Prometheus text
  std::function<std::string()> not_ready;  // why no event would be accepted now; empty: it would
};

class Api {
 public:
  Api(ApiOptions options, Recorder& recorder, Reconciler& reconciler);
  // Whether a request is answered from memory, at once; all others may block.
  static bool is_immediate(std::string_view target);
  ApiAnswer answer(const ApiRequest& request);

 private:
  using Query = std::vector<std::pair<std::string, std::string>>;
  struct Target {
    std::vector<std::string> path;  // decoded
    Query query;
  };
  using Read = std::function<Result<JsonText>(Store&)>;

  static Result<Target> parse_target(std::string_view target);
  ApiAnswer route(const ApiRequest& request, const Target& target);
  ApiAnswer route_runs(const ApiRequest& request, const Target& target);
  ApiAnswer route_reconciliations(const ApiRequest& request, const Target& target);
  ApiAnswer route_dead_letters(const ApiRequest& request, const Target& target);
  ApiAnswer read(const Read& work);
  ApiAnswer reconcile(const ApiRequest& request, const Target& target);
  ApiAnswer undo(const std::string& pass_id);
  Result<std::unique_ptr<Store>> take_store();
  void give_back(std::unique_ptr<Store> store);

  const ApiOptions options_;
  Recorder& recorder_;
  Reconciler& reconciler_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Store>> idle_;  // guarded by mutex_
};

}  // namespace run_recorder
