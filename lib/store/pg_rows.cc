#include "store/pg_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "base/json_text.h"

namespace run_recorder {
namespace {

// An attempt's number, or seconds: what an application wrote may be anything.
std::int32_t within_int32(std::int64_t number) {
  return static_cast<std::int32_t>(std::clamp<std::int64_t>(number, 1, std::numeric_limits<std::int32_t>::max()));
}

}  // namespace

std::optional<std::string> PgFields::optional_text() {
  const pqxx::field field = row_[next_++];
  if (field.is_null()) return std::nullopt;
  return std::string(field.c_str(), field.size());
}

std::optional<std::int64_t> PgFields::optional_integer() {
  const pqxx::field field = row_[next_++];
  std::int64_t number = 0;
  if (field.is_null()) return std::nullopt;
  const auto [end, code] = std::from_chars(field.c_str(), field.c_str() + field.size(), number);
  if (code != std::errc{}) return std::nullopt;
  return number;
}

bool PgFields::boolean() {
  const pqxx::field field = row_[next_++];
  return !field.is_null() && field.c_str()[0] == 't';
}

std::optional<Timestamp> PgFields::time() {
  const pqxx::field field = row_[next_++];
  if (field.is_null()) return std::nullopt;
  return parse_rfc3339(std::string_view(field.c_str(), field.size()));
}

std::string run_list(const PgSchema& schema, PgRunParts parts) {
  const std::string bare = fmt::format(
      "r.run_id, r.council, r.status, r.attempt, r.parent_attempt_run_id, r.oban_job_id, "
      "r.oban_job_state_at_finalize, r.council_given, r.attempt_given, r.recorder, r.worker_process, "
      "r.sender_process, r.connection, {}, r.stuck_pass, r.queue, r.job_id, r.expires_in, {}",
      version_of_run(schema), schema.time_text("runs", "started_at", "r"));
  const auto time = [&](std::string_view column) { return schema.time_text("runs", column, "r"); };
  if (parts == PgRunParts::kBare) return fmt::format("{}, {}", bare, time("last_event_at"));
  const std::string more = fmt::format("{}, r.usage, r.progress, {}", bare, time("finalized_at"));
  if (parts == PgRunParts::kToDecide) {
    return more + ", r.error IS NOT NULL, r.input IS NOT NULL, r.result IS NOT NULL";
  }
  const std::string list =
      fmt::format("{}, {}, {}, {}, r.error", more, time("inserted_at"), time("updated_at"), time("last_event_at"));
  return parts == PgRunParts::kAll ? list + ", r.input, r.result" : list;
}

Run read_run(PgFields& fields, PgRunParts parts) {
  Run run;
  run.run_id = fields.text();
  run.council = fields.text();
  run.status = parse_status(fields.text()).value_or(Status::kQueued);
  run.attempt = within_int32(fields.integer());
  run.parent_attempt_run_id = fields.optional_text();
  run.oban_job_id = fields.optional_integer();
  run.oban_job_state_at_finalize = fields.optional_text();
  run.council_given = fields.boolean();
  run.attempt_given = fields.boolean();
  run.recorder = fields.text();
  run.worker_process = fields.text();
  run.sender_process = fields.text();
  run.connection = fields.text();
  run.last_seq = fields.integer();
  run.stuck_pass = fields.text();
  run.queue = fields.optional_text();
  run.job_id = fields.optional_text();
  if (const auto seconds = fields.optional_integer()) run.expires_in = within_int32(*seconds);
  run.started_at = fields.time();
  if (parts == PgRunParts::kBare) {
    run.last_event_at = fields.time();
    return run;
  }
  run.usage = fields.optional_text();
  run.progress = fields.optional_text();
  run.finalized_at = fields.time();
  if (parts == PgRunParts::kToDecide) {
    for (JsonColumn* json : {&run.error, &run.input, &run.result}) {
      if (fields.boolean()) *json = JsonColumn::not_loaded();
    }
    return run;
  }
  run.inserted_at = fields.time();
  run.updated_at = fields.time();
  run.last_event_at = fields.time();
  run.error = fields.optional_text();
  if (parts == PgRunParts::kAll) {
    run.input = fields.optional_text();
    run.result = fields.optional_text();
  }
  return run;
}

std::string last_event_instant(const PgSchema& schema) {
  return fmt::format("coalesce({}, {}, {})", schema.instant("runs", "last_event_at", "r"),
                     schema.instant("runs", "updated_at", "r"), schema.instant("runs", "inserted_at", "r"));
}

std::string version_of_run(const PgSchema& schema) {
  return fmt::format(
      "CASE WHEN r.last_seq > 0 THEN r.last_seq ELSE "
      "(SELECT coalesce(max(h.seq), 0) FROM {} h WHERE h.run_id = r.run_id) END",
      schema.table("run_events"));
}

void JsonRecords::begin() {
  text_ += text_.size() > 1 ? ",{" : "{";
  first_field_ = true;
}

// Keys are our own, of letters only.
void JsonRecords::key(std::string_view name) {
  if (!first_field_) text_ += ',';
  first_field_ = false;
  text_ += '"';
  text_ += name;
  text_ += "\":";
}

void JsonRecords::text(std::string_view name, std::string_view value) {
  key(name);
  append_json_string(text_, value);
}

void JsonRecords::number(std::string_view name, std::int64_t value) {
  key(name);
  text_ += std::to_string(value);
}

void JsonRecords::boolean(std::string_view name, bool value) {
  key(name);
  text_ += value ? "true" : "false";
}

void JsonRecords::json(std::string_view name, std::string_view value) {
  key(name);
  text_ += value;
}

std::string JsonRecords::take() && {
  text_ += ']';
  return std::move(text_);
}

}  // namespace run_recorder
