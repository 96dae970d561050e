#include "control/route.h"

#include <fmt/format.h>

namespace run_recorder {
namespace {

// What stands for the pattern's {id}; empty where the path is another one.
std::optional<std::vector<std::string>> match(std::string_view pattern, const std::vector<std::string>& path) {
  const std::vector<std::string_view> parts = split(pattern.substr(1), '/');
  if (parts.size() != path.size()) return std::nullopt;
  std::vector<std::string> ids;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i] == "{id}") {
      ids.push_back(path[i]);
    } else if (parts[i] != path[i]) {
      return std::nullopt;
    }
  }
  return ids;
}

ApiAnswer wrong_method(std::string_view allowed) {
  ApiAnswer answer = error_answer(405, "method_not_allowed", fmt::format("allowed here: {}", allowed));
  answer.headers["Allow"] = std::string(allowed);
  return answer;
}

Result<Arguments> arguments_of(const Route& route, const RequestTarget::Query& query, std::string_view body) {
  switch (route.input) {
    case Route::Input::kQuery:
      return Arguments::parse(route.parameters, query);
    case Route::Input::kQueryOrBody:
      return Arguments::parse(route.parameters, query, body);
    case Route::Input::kLines:
    case Route::Input::kIgnored:
      break;
  }
  return Arguments::parse({}, {});
}

}  // namespace

TargetTraits traits_of(std::string_view target) {
  TargetTraits traits;
  const auto parsed = parse_target(target);
  if (!parsed) return traits;
  for (const Route& route : routes()) {
    if (!match(route.path, parsed->path)) continue;
    traits.from_memory |= route.work == Route::Work::kFromMemory;
    traits.on_metrics |= route.served == Route::Served::kControlAndMetrics;
    traits.large_body |= route.input == Route::Input::kLines;
  }
  return traits;
}

ApiAnswer answer_call(Backend& backend, const ApiRequest& request) {
  const auto parsed = parse_target(request.target);
  if (!parsed) return error_answer(parsed.error());
  std::string allowed;
  for (const Route& route : routes()) {
    auto ids = match(route.path, parsed->path);
    if (!ids) continue;
    if (route.method != request.method) {
      allowed += fmt::format("{}{}", allowed.empty() ? "" : ", ", route.method);
      continue;
    }
    auto arguments = arguments_of(route, parsed->query, request.body);
    if (!arguments) return error_answer(arguments.error());
    return route.handler(backend,
                         Call{std::move(*ids), std::move(*arguments), request.body, request.user, request.received});
  }
  if (!allowed.empty()) return wrong_method(allowed);
  return error_answer(404, "not_found", fmt::format("there is nothing at {}", request.target));
}

std::vector<std::string> documented_routes() {
  std::vector<std::string> lines;
  for (const Route& route : routes()) {
    std::string names;
    for (const Parameter& parameter : route.parameters) {
      names += fmt::format("{}`{}`", names.empty() ? "" : ", ", parameter.name);
    }
    lines.push_back(fmt::format("| `{} {}` | {}{}|", route.method, route.path, names, names.empty() ? "" : " "));
  }
  return lines;
}

}  // namespace run_recorder
