#include "control/arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <nlohmann/json.hpp>

#include "base/number.h"

namespace run_recorder {
namespace {

constexpr std::size_t kShownBytes = 64;  // of a value, in a message

Error invalid_value(const Parameter& parameter, std::string_view value) {
  return invalid_request(fmt::format("{}: invalid value \"{}\": must be {}", parameter.name,
                                     value.substr(0, kShownBytes), allowed_values(parameter)));
}

// "a", "a and b", "a, b and c"
std::string listed(std::span<const std::string_view> words, std::string_view last) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? fmt::format(" {} ", last) : ", ";
    text += words[i];
  }
  return text;
}

std::optional<bool> to_flag(std::string_view text) {
  if (text == "true" || text == "1") return true;
  if (text == "false" || text == "0") return false;
  return std::nullopt;
}

std::optional<std::int64_t> to_number(const Parameter& parameter, std::string_view text) {
  const auto value = parse_number<std::int64_t>(text);
  if (!value || *value < parameter.least || *value > parameter.most) return std::nullopt;
  return value;
}

std::vector<Status> statuses_of(ParameterKind kind) {
  const auto ended = terminal_statuses();
  std::vector<Status> statuses(ended.begin(), ended.end());
  if (kind == ParameterKind::kEndStatuses) return statuses;
  const auto active = active_statuses();
  statuses.insert(statuses.begin(), active.begin(), active.end());
  return statuses;
}

std::optional<std::vector<Status>> to_statuses(const Parameter& parameter, std::string_view text) {
  const std::vector<Status> allowed = statuses_of(parameter.kind);
  std::vector<Status> statuses;
  for (const std::string_view word : split(text, ',')) {
    const auto status = parse_status(word);
    if (!status || std::ranges::count(allowed, *status) == 0) return std::nullopt;
    statuses.push_back(*status);
  }
  return statuses;
}

// A + that was not written as %2B arrives as a space; before an offset it can only have been that +.
std::optional<Timestamp> to_time(std::string value) {
  constexpr std::size_t kOffset = std::string_view("+02:00").size();
  if (value.size() > kOffset && value[value.size() - kOffset] == ' ') value[value.size() - kOffset] = '+';
  return parse_rfc3339(value);
}

std::optional<RunOrder> to_order(std::string_view text) {
  if (text == "started") return RunOrder::kStarted;
  if (text == "recorded") return RunOrder::kRecorded;
  return std::nullopt;
}

// A member of a body as the text that it has in a query; a list of strings is joined by commas. Empty: it is neither.
std::optional<std::string> as_query_text(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean() || value.is_number_integer()) return value.dump();
  if (!value.is_array()) return std::nullopt;
  std::string joined;
  for (const nlohmann::json& element : value) {
    if (!element.is_string()) return std::nullopt;
    joined += (joined.empty() ? "" : ",") + element.get<std::string>();
  }
  return joined;
}

}  // namespace

std::string allowed_values(const Parameter& parameter) {
  switch (parameter.kind) {
    case ParameterKind::kText:
      return "any text";
    case ParameterKind::kFlag:
      return "true or false";
    case ParameterKind::kNumber:
      if (parameter.most != std::numeric_limits<std::int64_t>::max()) {
        return fmt::format("a number from {} to {}", parameter.least, parameter.most);
      }
      return parameter.least == std::numeric_limits<std::int64_t>::min()
                 ? "a whole number"
                 : fmt::format("a number from {} on", parameter.least);
    case ParameterKind::kStatuses:
    case ParameterKind::kEndStatuses: {
      std::vector<std::string_view> words;
      for (const Status status : statuses_of(parameter.kind)) words.push_back(to_string(status));
      return listed(words, "or") + ", several by comma";
    }
    case ParameterKind::kTime:
      return "an RFC 3339 time with offset, as 2026-01-02T03:04:05Z or 2026-01-02T03:04:05%2B02:00 (in a query + is "
             "written %2B)";
    case ParameterKind::kDuration:
      return "a duration above 0s, as 30d";
    case ParameterKind::kOrder:
      return "started or recorded";
    case ParameterKind::kFindingKind:
      return "missed or overlong";
  }
  return "";
}

Result<Arguments> Arguments::parse(std::span<const Parameter> parameters, const RequestTarget::Query& query) {
  Arguments arguments(parameters);
  for (const auto& [name, text] : query) {
    const auto parameter = arguments.known(name);
    if (!parameter) return parameter.error();
    if (const auto taken = arguments.take(**parameter, text); !taken) return taken.error();
  }
  return arguments;
}

Result<Arguments> Arguments::parse(std::span<const Parameter> parameters, const RequestTarget::Query& query,
                                   std::string_view body) {
  auto arguments = parse(parameters, query);
  if (!arguments) return arguments;
  if (const auto taken = arguments->take_body(body); !taken) return taken.error();
  return arguments;
}

Result<const Parameter*> Arguments::known(std::string_view name) const {
  const auto found = std::ranges::find(parameters_, name, &Parameter::name);
  if (found != parameters_.end()) return &*found;
  std::vector<std::string_view> names;
  for (const Parameter& one : parameters_) names.push_back(one.name);
  return invalid_request(fmt::format("unknown parameter \"{}\": {}", name.substr(0, kShownBytes),
                                     names.empty() ? "this route takes none" : "must be " + listed(names, "or")));
}

Result<void> Arguments::take(const Parameter& parameter, std::string_view text) {
  auto value = value_of(parameter, text);
  if (!value) return invalid_value(parameter, text);
  const auto [place, is_new] = values_.try_emplace(parameter.name, *value);
  if (is_new) return {};
  if (auto* statuses = std::get_if<std::vector<Status>>(&place->second)) {
    const auto& more = std::get<std::vector<Status>>(*value);
    statuses->insert(statuses->end(), more.begin(), more.end());
  } else {
    place->second = std::move(*value);
  }
  return {};
}

Result<void> Arguments::take_body(std::string_view body) {
  if (body.find_first_not_of(" \t\r\n") == std::string_view::npos) return {};
  const auto object = nlohmann::json::parse(body, nullptr, false);
  if (!object.is_object()) return invalid_request("malformed body: must be a JSON object, or nothing");
  for (const auto& [name, value] : object.items()) {
    const auto parameter = known(name);
    if (!parameter) return parameter.error();
    const bool fits = (*parameter)->kind != ParameterKind::kFlag || value.is_boolean();
    const auto text = fits ? as_query_text(value) : std::nullopt;
    if (!text) return invalid_request(fmt::format("{}: must be {}", name, allowed_values(**parameter)));
    if (const auto taken = take(**parameter, *text); !taken) return taken.error();
  }
  return {};
}

std::optional<Arguments::Value> Arguments::value_of(const Parameter& parameter, std::string_view text) {
  const auto value = [](auto parsed) { return parsed ? std::optional<Value>(std::move(*parsed)) : std::nullopt; };
  switch (parameter.kind) {
    case ParameterKind::kText:
      return std::string(text);
    case ParameterKind::kFlag:
      return value(to_flag(text));
    case ParameterKind::kNumber:
      return value(to_number(parameter, text));
    case ParameterKind::kStatuses:
    case ParameterKind::kEndStatuses:
      return value(to_statuses(parameter, text));
    case ParameterKind::kTime:
      return value(to_time(std::string(text)));
    case ParameterKind::kDuration: {
      const auto duration = parse_duration(text);
      return value(duration && duration->count() > 0 ? duration : std::nullopt);
    }
    case ParameterKind::kOrder:
      return value(to_order(text));
    case ParameterKind::kFindingKind:
      return value(finding_kind_from(text));
  }
  return std::nullopt;
}

const Arguments::Value* Arguments::find(std::string_view name) const {
  assert(std::ranges::find(parameters_, name, &Parameter::name) != parameters_.end());
  const auto found = values_.find(name);
  return found == values_.end() ? nullptr : &found->second;
}

}  // namespace run_recorder
