// A request to the control API, and what its target says. Values and pure functions; any thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace run_recorder {

struct ApiRequest {
  std::string method;  // GET, POST, DELETE
  std::string target;  // "/v1/runs?limit=5"
  std::string body;
  std::optional<uid_t> user = {};  // of the process that asks; empty: not known, as over TCP
  std::chrono::steady_clock::time_point received = std::chrono::steady_clock::now();
};

// "/v1/runs/a%2Fb?limit=5" decoded: valid UTF-8 without NUL. The path has at least one part, which may be empty.
struct RequestTarget {
  using Query = std::vector<std::pair<std::string, std::string>>;
  std::vector<std::string> path;
  Query query;
};
// kInvalid.
Error invalid_request(std::string message);
// kInvalid: broken encoding, or no path.
Result<RequestTarget> parse_target(std::string_view target);

// What the HTTP server has to know of a target before it reads the body and hands the request over.
struct TargetTraits {
  bool from_memory = false;  // answered at once; all others may block
  bool on_metrics = false;   // served on [metrics] listen too
  bool large_body = false;   // the limit for a body is that of an import
};

// The parts between the separators, at least one.
std::vector<std::string_view> split(std::string_view text, char separator);

}  // namespace run_recorder
