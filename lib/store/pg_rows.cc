#include "store/pg_rows.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/json_text.h"
#include "base/number.h"

namespace run_recorder {
std::optional<std::string> PgFields::optional_text() {
  const pqxx::field field = row_[next_++];
  if (field.is_null()) return std::nullopt;
  return std::string(field.c_str(), field.size());
}

std::optional<std::int64_t> PgFields::optional_integer() {
  const pqxx::field field = row_[next_++];
  if (field.is_null()) return std::nullopt;
  return parse_number<std::int64_t>({field.c_str(), field.size()});
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

std::optional<Timestamp> PgBareFields::time() {
  const auto number = optional_integer();
  if (!number) return std::nullopt;
  return Timestamp{std::chrono::microseconds(*number)};
}

std::string PgFields::bytes() {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  const std::string hex = text();
  std::string bytes;
  bytes.reserve(hex.size() / 2);
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes += static_cast<char>(digit(hex[i]) * 16 + digit(hex[i + 1]));
  }
  return bytes;
}

std::string run_list(const PgSchema& schema, RunParts parts) {
  std::string list;
  for (const RunColumn& column : run_columns()) {
    if (!column.in(parts)) continue;
    std::string value = fmt::format("r.{}", column.name);
    if (column.name == "last_seq") value = version_of_run(schema);
    if (column.kind == ColumnKind::kTime) {
      value = parts == RunParts::kBare
                  ? fmt::format("CASE WHEN isfinite({0}) THEN {1} END", value, microseconds_of(value))
                  : schema.time_text("runs", column.name, "r");
    }
    if (column.unloadable() && parts == RunParts::kToDecide) value += " IS NOT NULL";
    list += fmt::format("{}{}", list.empty() ? "" : ", ", value);
  }
  return list;
}

// An id that is no number is shown as one made of its first 60 bits.
std::string history_list(const PgSchema& schema) {
  std::string list;
  for (const HistoryColumn& column : history_columns()) {
    std::string value = fmt::format("h.{}", column.name);
    if (column.kind == ColumnKind::kTime) value = schema.time_text("run_events", column.name, "h");
    if (column.group == ColumnGroup::kDatabase && schema.column("run_events", column.name).base == "uuid") {
      value = fmt::format("('x' || substr(replace({}::text, '-', ''), 1, 15))::bit(60)::bigint", value);
    }
    list += fmt::format("{}{}", list.empty() ? "" : ", ", value);
  }
  return list;
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
