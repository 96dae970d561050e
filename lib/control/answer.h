// What a request to the control API is answered with. Values and pure functions; any thread.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/json_text.h"
#include "base/result.h"

namespace run_recorder {

struct ApiAnswer {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::map<std::string, std::string> headers;  // beside the usual ones
};

// 200 with that object.
ApiAnswer json_answer(JsonText object);
// {"error":{"code":…,"message":…}}
ApiAnswer error_answer(unsigned status, std::string_view code, std::string_view message);
// With the status and code that fit the error's kind.
ApiAnswer error_answer(const Error& error);

}  // namespace run_recorder
