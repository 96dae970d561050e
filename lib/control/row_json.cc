#include "control/row_json.h"

#include "base/hex.h"
#include "base/json_writer.h"
#include "store/columns.h"

namespace run_recorder {
namespace {

// Puts a column's value in under its name.
struct PutValue {
  JsonWriter& out;
  std::string_view name;
  bool json;            // text is a JSON value
  bool null_for_empty;  // our own columns say "nothing" with an empty text

  void operator()(const std::string& value) const {
    if (json) {
      out.raw(name, value.empty() ? "{}" : value);
    } else if (null_for_empty) {
      out.text_or_null(name, value);
    } else {
      out.text(name, value);
    }
  }
  void operator()(const std::optional<std::string>& value) const {
    json ? out.json(name, value) : out.maybe_text(name, value);
  }
  void operator()(const JsonColumn& value) const { out.json(name, value.text()); }
  void operator()(Status value) const { out.text(name, to_string(value)); }
  void operator()(Effect value) const { out.text(name, to_string(value)); }
  void operator()(const std::optional<Timestamp>& value) const { out.time(name, value); }
  void operator()(Timestamp value) const {
    out.time(name, value == Timestamp{} ? std::nullopt : std::optional(value));
  }
  void operator()(bool value) const { out.flag(name, value); }
  void operator()(const auto& number) const { out.number(name, number); }
};

template <class Column, class Row>
void put(JsonWriter& out, const Column& column, const Row& row) {
  visit_value(column, row,
              PutValue{out, column.name, column.kind == ColumnKind::kJson, column.owner != ColumnOwner::kContract});
}

}  // namespace

JsonText run_json(const Run& run, bool with_payloads) {
  JsonWriter out;
  for (const RunColumn& column : run_columns()) {
    if (column.in(with_payloads ? RunParts::kAll : RunParts::kWithoutData)) put(out, column, run);
  }
  return std::move(out).object();
}

JsonText event_json(const StoredEvent& event) {
  JsonWriter out;
  for (const HistoryColumn& column : history_columns()) put(out, column, event);
  return std::move(out).object();
}

namespace {

JsonWriter letter_object(const DeadLetter& letter) {
  JsonWriter out;
  out.number("id", letter.id);
  out.text("recorder", letter.recorder);
  out.text_or_null("run_id", letter.run_id);
  out.text_or_null("type", letter.type);
  out.maybe_text("event_id", letter.event_id);
  out.text_or_null("sqlstate", letter.sqlstate);
  out.text("reason", letter.reason);
  out.text_or_null("line", letter.line);
  out.number("tries", letter.tries);
  out.time("received_at", letter.received_at);
  out.time("inserted_at", letter.inserted_at);
  return out;
}

}  // namespace

JsonText dead_letter_json(const DeadLetter& letter) {
  return letter_object(letter).object();
}

JsonText moved_letter_json(const DeadLetter& letter) {
  JsonWriter out = letter_object(letter);
  out.text("record", to_hex(letter.record));
  return std::move(out).object();
}

JsonText reconciliation_json(const ReconciliationRow& row) {
  JsonWriter out;
  out.text("pass_id", row.pass_id);
  out.text("recorder", row.recorder);
  out.text("trigger", row.trigger);
  out.text("started_at", format_rfc3339(row.started_at));
  out.time("finished_at", row.finished_at);
  out.raw("report", row.report);
  return std::move(out).object();
}

JsonText recorder_json(const RecorderRow& row) {
  const Ledger& ledger = row.checkpoint.ledger;
  JsonWriter positions;
  for (const auto& [incarnation, applied] : row.checkpoint.applied) positions.number(incarnation, applied);
  JsonWriter out;
  out.text("id", row.self.id);
  out.text("host", row.self.host);
  out.text("version", row.self.version);
  out.text("incarnation", row.self.incarnation);
  out.time("first_seen", row.first_seen);
  out.time("last_seen", row.last_seen);
  out.number("applied", ledger.applied);
  out.number("duplicate", ledger.duplicate);
  out.number("dead_letters", ledger.dead_letters);
  out.number("dead_letters_removed", ledger.dead_letters_removed);
  out.number("conflicts", ledger.conflicts);
  out.raw("positions", std::move(positions).object());
  return std::move(out).object();
}

JsonText pruned_json(const PrunedRun& run) {
  JsonWriter out;
  out.text("run_id", run.run_id);
  out.time("pruned_at", run.pruned_at);
  return std::move(out).object();
}

JsonList::JsonList(std::string_view name) : text_("{") {
  append_json_string(text_, name);
  text_ += ":[";
}

void JsonList::add(const JsonText& item) {
  if (!empty_) text_ += ',';
  empty_ = false;
  text_ += item;
}

JsonText JsonList::close(std::string_view next) {
  text_ += "],\"next\":";
  text_ += next.empty() ? "null" : json_string(next);
  text_ += '}';
  return std::move(text_);
}

}  // namespace run_recorder
