#include "control/answer.h"

#include <fmt/format.h>

namespace run_recorder {

ApiAnswer json_answer(JsonText object) {
  ApiAnswer answer;
  answer.body = std::move(object);
  answer.body += '\n';
  return answer;
}

ApiAnswer error_answer(unsigned status, std::string_view code, std::string_view message) {
  ApiAnswer answer;
  answer.status = status;
  answer.body =
      fmt::format("{{\"error\":{{\"code\":{},\"message\":{}}}}}\n", json_string(code), json_string(message));
  return answer;
}

ApiAnswer error_answer(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kInvalid:
      return error_answer(400, "invalid", error.message);
    case ErrorKind::kNotFound:
      return error_answer(404, "not_found", error.message);
    case ErrorKind::kConflict:
      return error_answer(409, "conflict", error.message);
    case ErrorKind::kDenied:
      return error_answer(403, "forbidden", error.message);
    case ErrorKind::kUnavailable:
    case ErrorKind::kRefused:
    case ErrorKind::kInDoubt:
    case ErrorKind::kFull:
      return error_answer(503, "unavailable", error.message);
    case ErrorKind::kData:
    case ErrorKind::kCorrupt:
    case ErrorKind::kIo:
    case ErrorKind::kInternal:
      break;
  }
  return error_answer(500, "internal", error.message);
}

}  // namespace run_recorder
