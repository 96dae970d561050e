#include "store/pg_updates.h"

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <utility>

#include "store/pg_array.h"

namespace run_recorder {
namespace {

using Type = PgArray::Type;

bool is_text(const PgColumn& column) {
  return column.base == "text" || column.base == "varchar";
}

// The value of a text in the arrays for a column. An assignment refuses what is too long for a varchar, where a cast
// would cut it.
std::string text_for(const PgSchema& schema, std::string_view column, std::string_view key) {
  const PgColumn& into = schema.column("runs", column);
  return is_text(into) ? fmt::format("c.{}", key) : fmt::format("c.{}::{}", key, into.type);
}

constexpr std::chrono::sys_days kPostgresEpoch = std::chrono::year{2000} / 1 / 1;

void put(PgArray& array, std::string_view text) {
  array.text(text);
}
void put(PgArray& array, std::int64_t number) {
  array.bigint(number);
}
void put(PgArray& array, bool flag) {
  array.boolean(flag);
}
void put(PgArray& array, Timestamp time) {
  array.bigint((time - Timestamp(kPostgresEpoch)).count());
}
template <class Value>
void put(PgArray& array, const std::optional<Value>& value) {
  if (value) {
    put(array, Value(*value));
  } else {
    array.null();
  }
}

std::optional<std::string_view> text_of(const JsonColumn& json) {
  return json.text() ? std::optional<std::string_view>(*json.text()) : std::nullopt;
}

std::string_view name_of(Type type) {
  switch (type) {
    case Type::kBoolean:
      return "boolean[]";
    case Type::kBigint:
      return "bigint[]";
    case Type::kText:
      return "text[]";
    case Type::kTimestamp:
      return "timestamp[]";
    case Type::kTimestamptz:
      return "timestamptz[]";
  }
  return {};
}

}  // namespace

PgUpdates::PgUpdates(const PgSchema& schema) {
  const std::string& finalized = schema.column("runs", "finalized_at").base;
  zoned_ = finalized == "timestamptz";
  possible_ = is_text(schema.column("runs", "run_id")) && (zoned_ || finalized == "timestamp");
  head_ = fmt::format("UPDATE {} r SET ", schema.table("runs"));
  step_sets_ = fmt::format(
      "status = c.s, recorder = $1::text, worker_process = coalesce(c.w, r.worker_process), sender_process = c.v, "
      "connection = c.o, last_seq = c.q, updated_at = {}, last_event_at = {}",
      schema.now_for("runs", "updated_at"), schema.now_for("runs", "last_event_at"));
  end_sets_ = fmt::format(
      "{}, oban_job_state_at_finalize = {}, result = {}, error = {}, finalized_at = c.d, stuck_pass = c.m",
      step_sets_, text_for(schema, "oban_job_state_at_finalize", "z"), text_for(schema, "result", "y"),
      text_for(schema, "error", "k"));
  const PgColumn& status = schema.column("runs", "status");
  if (!is_text(status)) status_cast_ = "::" + status.type;
}

UpdateKind PgUpdates::kind_of(const RunChange& change, std::string_view recorder) const {
  const Run& run = change.after;
  if (!possible_ || change.fields_changed || change.reports_changed || run.recorder != recorder) {
    return UpdateKind::kOther;
  }
  if (!change.outcome_changed) return UpdateKind::kStep;
  return run.result.loaded() && run.error.loaded() ? UpdateKind::kEnd : UpdateKind::kOther;
}

// Arrays behind a subquery of their own are no constants to the planner, which then does not think of reading the
// whole table for so many rows; and in a select list they are read side by side, without a copy of each.
std::string PgUpdates::sql(PgCommand& command, UpdateKind kind, std::span<const RunChange* const> changes,
                           std::string_view guard) const {
  std::string columns;
  const auto add = [&](std::string_view key, Type type, const auto& value_of) {
    PgArray array(type);
    for (const RunChange* change : changes) put(array, value_of(*change));
    const std::string param = command.param(PgParam::binary(std::move(array).take()), name_of(type));
    columns += fmt::format("{}unnest((SELECT {})){} AS {}", columns.empty() ? "" : ", ", param,
                           key == "s" ? status_cast_ : "", key);
  };
  using Text = std::string_view;
  using MaybeText = std::optional<std::string_view>;
  const bool ends = kind == UpdateKind::kEnd;
  add("i", Type::kText, [](const RunChange& change) { return Text(change.after.run_id); });
  add("a", Type::kBigint, [](const RunChange& change) { return change.expected_last_seq; });
  add("q", Type::kBigint, [](const RunChange& change) { return change.after.last_seq; });
  add("w", Type::kText, [](const RunChange& change) {
    const Run& run = change.after;
    return run.bare && run.worker_process.empty() ? MaybeText() : MaybeText(run.worker_process);
  });
  add("v", Type::kText, [](const RunChange& change) { return Text(change.after.sender_process); });
  add("o", Type::kText, [](const RunChange& change) { return Text(change.after.connection); });
  add("s", Type::kText, [](const RunChange& change) { return to_string(change.after.status); });
  add("ba", Type::kBoolean,
      [](const RunChange& change) { return change.after.bare ? std::optional(true) : std::nullopt; });
  if (ends) {
    const auto maybe = [](const std::optional<std::string>& text) { return text ? MaybeText(*text) : MaybeText(); };
    add("z", Type::kText, [&](const RunChange& change) { return maybe(change.after.oban_job_state_at_finalize); });
    add("y", Type::kText, [](const RunChange& change) { return text_of(change.after.result); });
    add("k", Type::kText, [](const RunChange& change) { return text_of(change.after.error); });
    add("d", zoned_ ? Type::kTimestamptz : Type::kTimestamp,
        [](const RunChange& change) { return change.after.finalized_at; });
    add("m", Type::kText, [](const RunChange& change) { return Text(change.after.stuck_pass); });
  }
  return fmt::format("{}{} FROM (SELECT {}) AS c WHERE {}", head_, ends ? end_sets_ : step_sets_, columns, guard);
}

}  // namespace run_recorder
