// Rows as PostgreSQL brings them and takes them: fields of results to values, and values to the JSON that one
// parameter carries for a whole batch. For the PostgreSQL adapter's files; for one thread. Never throws on what a
// database holds.
#pragma once

#include <cstdint>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <string_view>

#include "base/time.h"
#include "run/run.h"
#include "store/pg_schema.h"
#include "store/read_rows.h"

namespace run_recorder {

// The fields of a row, in order.
class PgFields {
 public:
  explicit PgFields(const pqxx::row& row) : row_(row) {}
  std::string text() { return optional_text().value_or(std::string()); }
  std::optional<std::string> optional_text();
  std::int64_t integer() { return optional_integer().value_or(0); }
  std::optional<std::int64_t> optional_integer();
  std::uint64_t count() { return static_cast<std::uint64_t>(integer()); }
  bool boolean();
  std::optional<Timestamp> time();
  std::string bytes();  // of what encode(…, 'hex') made

 private:
  pqxx::row row_;
  pqxx::row::size_type next_ = 0;
};

// The same of a list whose times are numbers, as run_list() has them of a bare run.
class PgBareFields : public PgFields {
 public:
  using PgFields::PgFields;
  std::optional<Timestamp> time();
};

// The SELECT lists that read_run() reads, of runs as r, and read_event(), of the history as h.
std::string run_list(const PgSchema& schema, RunParts parts);
std::string history_list(const PgSchema& schema);
// When a run's last event was applied, as an instant, of runs as r.
std::string last_event_instant(const PgSchema& schema);
// The version of a run's row: what a table that was taken over has in its history counts too. Of runs as r.
std::string version_of_run(const PgSchema& schema);

// An array of objects for jsonb_to_recordset; what is empty is left out and becomes NULL.
class JsonRecords {
 public:
  void begin();
  void end() { text_ += '}'; }
  void text(std::string_view key, std::string_view value);
  void number(std::string_view key, std::int64_t value);
  void boolean(std::string_view key, bool value);
  void json(std::string_view key, std::string_view value);
  void time(std::string_view key, Timestamp value) { json(key, "\"" + format_rfc3339(value) + "\""); }
  template <class Value>
  void text(std::string_view key, const std::optional<Value>& value) {
    if (value) text(key, *value);
  }
  template <class Value>
  void json(std::string_view key, const std::optional<Value>& value) {
    if (value) json(key, *value);
  }
  template <class Value>
  void number(std::string_view key, const std::optional<Value>& value) {
    if (value) number(key, *value);
  }
  template <class Value>
  void time(std::string_view key, const std::optional<Value>& value) {
    if (value) time(key, *value);
  }
  // Closes the array; nothing may follow.
  std::string take() &&;

 private:
  void key(std::string_view name);
  std::string text_ = "[";
  bool first_field_ = true;
};

}  // namespace run_recorder
