// The parameters that a route takes, and what a request gave for them: checked once, before the handler is called.
// Values and pure functions; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "control/request.h"
#include "run/status.h"
#include "store/store.h"

namespace run_recorder {

// Each with the type that Arguments::get() has for it.
enum class ParameterKind {
  kText,         // std::string
  kFlag,         // bool; without a value it is true
  kNumber,       // std::int64_t
  kStatuses,     // std::vector<Status>; several by comma, and more with each repetition
  kEndStatuses,  // the same, of runs that have ended
  kTime,         // Timestamp; RFC 3339 with offset
  kDuration,     // std::chrono::milliseconds, above 0
  kOrder,        // RunOrder
  kFindingKind,  // FindingKind
};

struct Parameter {
  std::string_view name;
  ParameterKind kind = ParameterKind::kText;
  std::int64_t least = std::numeric_limits<std::int64_t>::min();  // of a number
  std::int64_t most = std::numeric_limits<std::int64_t>::max();
};

// The values that it may have, as messages and docs/control-api.md say it: "a number from 1 to 1000".
std::string allowed_values(const Parameter& parameter);

class Arguments {
 public:
  // kInvalid names the parameter and what is allowed. The parameters outlive the arguments. Where one comes twice the
  // last one counts, but statuses add up.
  static Result<Arguments> parse(std::span<const Parameter> parameters, const RequestTarget::Query& query);
  // Also as the members of a JSON object, which come after the query. The body may be empty.
  static Result<Arguments> parse(std::span<const Parameter> parameters, const RequestTarget::Query& query,
                                 std::string_view body);

  // Precondition: the route has the parameter, and T is its kind's type.
  template <class T>
  std::optional<T> get(std::string_view name) const {
    const Value* value = find(name);
    return value == nullptr ? std::nullopt : std::optional<T>(std::get<T>(*value));
  }
  bool flag(std::string_view name) const { return get<bool>(name).value_or(false); }

 private:
  using Value = std::variant<std::string, bool, std::int64_t, std::vector<Status>, Timestamp,
                             std::chrono::milliseconds, RunOrder, FindingKind>;

  explicit Arguments(std::span<const Parameter> parameters) : parameters_(parameters) {}
  Result<const Parameter*> known(std::string_view name) const;
  Result<void> take(const Parameter& parameter, std::string_view text);
  Result<void> take_body(std::string_view body);
  static std::optional<Value> value_of(const Parameter& parameter, std::string_view text);
  const Value* find(std::string_view name) const;

  std::span<const Parameter> parameters_;
  std::map<std::string_view, Value> values_;  // by the names in parameters_
};

}  // namespace run_recorder
