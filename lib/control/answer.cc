#include "control/answer.h"

#include "base/json_writer.h"

namespace run_recorder {

ApiAnswer json_answer(JsonText object) {
  ApiAnswer answer;
  answer.body = std::move(object);
  answer.body += '\n';
  return answer;
}

ApiAnswer error_answer(unsigned status, std::string_view code, std::string_view message) {
  JsonWriter error, out;
  error.text("code", code);
  error.text("message", message);
  out.raw("error", std::move(error).object());
  ApiAnswer answer = json_answer(std::move(out).object());
  answer.status = status;
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
