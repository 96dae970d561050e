// A request to the control API and its answer, and what a request's target says. Values and pure functions; any
// thread.
#pragma once

#include <map>
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
};

struct ApiAnswer {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::map<std::string, std::string> headers;  // beside the usual ones
};

// "/v1/runs/a%2Fb?limit=5" decoded: valid UTF-8 without NUL. The path has at least one part, which may be empty.
struct RequestTarget {
  using Query = std::vector<std::pair<std::string, std::string>>;
  std::vector<std::string> path;
  Query query;
};
// kInvalid: broken encoding, or no path.
Result<RequestTarget> parse_target(std::string_view target);

// Whether a request is answered from memory, at once; all others may block.
bool is_immediate(std::string_view target);

// The parts between the separators, at least one.
std::vector<std::string_view> split(std::string_view text, char separator);

}  // namespace run_recorder
