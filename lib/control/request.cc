#include "control/request.h"

#include <algorithm>
#include <optional>

#include "base/percent.h"
#include "base/utf8.h"

namespace run_recorder {
namespace {

// No name in the database holds a NUL, and PostgreSQL would read one as the end: another name than was asked for.
bool is_text(std::string_view text) {
  return valid_utf8(text) && text.find('\0') == std::string_view::npos;
}

// UTF-8; in a query + is a space.
std::optional<std::string> decoded(std::string text, bool in_query) {
  if (in_query) std::ranges::replace(text, '+', ' ');
  auto plain = percent_decode(text);
  return plain && is_text(*plain) ? plain : std::nullopt;
}

}  // namespace

Error invalid_request(std::string message) {
  return Error{ErrorKind::kInvalid, std::move(message)};
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

Result<RequestTarget> parse_target(std::string_view target) {
  RequestTarget parsed;
  const std::size_t question = target.find('?');
  std::string_view path = target.substr(0, question);
  if (path.empty() || path.front() != '/') return invalid_request("malformed request: the path must begin with /");
  path.remove_prefix(1);
  for (const std::string_view part : split(path, '/')) {
    auto plain = decoded(std::string(part), false);
    if (!plain) return invalid_request("malformed request: the path's percent-encoding is not UTF-8 text");
    parsed.path.push_back(std::move(*plain));
  }
  if (question == std::string_view::npos) return parsed;
  for (const std::string_view pair : split(target.substr(question + 1), '&')) {
    if (pair.empty()) continue;
    const std::size_t equals = pair.find('=');
    auto name = decoded(std::string(pair.substr(0, equals)), true);
    auto value = decoded(equals == std::string_view::npos ? "" : std::string(pair.substr(equals + 1)), true);
    if (!name || !value) return invalid_request("malformed request: the query's percent-encoding is not UTF-8 text");
    parsed.query.emplace_back(std::move(*name), std::move(*value));
  }
  return parsed;
}

}  // namespace run_recorder
