// The control API's table of routes (contract section 8). What is not found, which methods are allowed, which
// parameters are known, how large a body may be, where a route is served and the list in docs/control-api.md all
// follow from it. A new route is a line in routes.cc, its handler in the file of its subject, and a line of that
// document. Safe from several threads.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/answer.h"
#include "control/arguments.h"
#include "control/request.h"

namespace run_recorder {

class Backend;

// A request that matches a route, on its way to the handler.
struct Call {
  std::vector<std::string> ids;  // what stands in the path for {id}, decoded
  Arguments arguments;
  std::string_view body;
  // See ApiRequest.
  std::optional<uid_t> user = {};
  std::chrono::steady_clock::time_point received = {};
};

struct Route {
  enum class Input {
    kQuery,        // parameters in the query; others are refused
    kQueryOrBody,  // also as the members of a JSON object in the body
    kLines,        // a body of lines, of the size of an import; the query is ignored
    kIgnored,      // nothing; whatever comes is ignored
  };
  enum class Served {
    kControl,
    kControlAndMetrics,  // on [metrics] listen too, where nobody is asked who he is
  };
  enum class Work {
    kBlocks,      // asks the database: on a thread for such
    kFromMemory,  // on the I/O thread
  };

  std::string_view method;
  std::string_view path;  // "/v1/runs/{id}/events"
  ApiAnswer (*handler)(Backend& backend, const Call& call);
  std::span<const Parameter> parameters = {};
  Input input = Input::kQuery;
  Served served = Served::kControl;
  Work work = Work::kBlocks;
};

std::span<const Route> routes();

// Of the routes with a target's path, whatever their method; nothing of what no route has, or is malformed.
TargetTraits traits_of(std::string_view target);

// The handler's answer; 404, 405 with Allow, or 400 where there is no such call.
ApiAnswer answer_call(Backend& backend, const ApiRequest& request);

// The beginning of each route's line in the table of docs/control-api.md: "| `GET /v1/clock` | |".
std::vector<std::string> documented_routes();

}  // namespace run_recorder
