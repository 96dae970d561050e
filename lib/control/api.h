// The control API (contract section 8): a request in, an answer out, by the table of route.h. It knows no sockets;
// http_server.h carries it. Calls block on the database; safe from several threads.
#pragma once

#include "control/backend.h"
#include "control/request.h"
#include "control/route.h"

namespace run_recorder {

class Api {
 public:
  Api(ApiOptions options, Recorder& recorder, Reconciler& reconciler, Pruner& pruner)
      : backend_(std::move(options), recorder, reconciler, pruner) {}
  ApiAnswer answer(const ApiRequest& request) { return answer_call(backend_, request); }

 private:
  Backend backend_;
};

}  // namespace run_recorder
