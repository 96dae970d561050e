#include "store/pg_copy.h"

#include <fmt/compile.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "base/time.h"
#include "store/pg_batch.h"

namespace run_recorder {
namespace {

constexpr std::array<std::string_view, 28> kRunColumns{
    "run_id",
    "status",
    "council",
    "attempt",
    "parent_attempt_run_id",
    "oban_job_id",
    "input",
    "started_at",
    "result",
    "error",
    "finalized_at",
    "oban_job_state_at_finalize",
    "council_given",
    "attempt_given",
    "recorder",
    "worker_process",
    "sender_process",
    "connection",
    "last_seq",
    "stuck_pass",
    "inserted_at",
    "updated_at",
    "last_event_at",
    "queue",
    "job_id",
    "expires_in",
    "usage",
    "progress",
};
// Without the optional columns, which are the last.
constexpr std::span<const std::string_view> kPlainRunColumns = std::span(kRunColumns).first(kRunColumns.size() - 5);
constexpr std::array<std::string_view, 13> kEventColumns{
    "run_id",   "seq",      "type",   "payload", "event_id",    "at",       "received_at",
    "peer_uid", "peer_pid", "effect", "pass_id", "inserted_at", "recorder",
};

// What PostgreSQL reads as the transaction's time, in a column with time zone.
constexpr std::string_view kNow = "now";
constexpr const char* kNowWithoutZone =
    "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";

constexpr std::size_t kChunkBytes = 32'768;

// Appends rows in COPY's text format to a text.
class CopyText {
 public:
  explicit CopyText(std::string& out) : out_(out) {}

  void text(std::string_view value) {
    separate();
    while (true) {
      const auto special = std::ranges::find_if(value, [](char c) { return c == '\\' || (c >= 0 && c < ' '); });
      const auto plain = static_cast<std::size_t>(special - value.begin());
      out_.append(value.substr(0, plain));
      if (plain == value.size()) return;
      escape(value[plain]);
      value.remove_prefix(plain + 1);
    }
  }
  void null() {
    separate();
    out_ += "\\N";
  }
  // Of what needs no escaping: digits, words of ours.
  void plain(std::string_view value) {
    separate();
    out_ += value;
  }
  void boolean(bool value) { plain(value ? "t" : "f"); }
  template <std::integral Number>
  void number(Number value) {
    separate();
    fmt::format_to(std::back_inserter(out_), FMT_COMPILE("{}"), value);
  }
  void time(Timestamp value) { plain(format_rfc3339(value)); }
  void text_or_null(const std::optional<std::string>& value) { value ? text(*value) : null(); }
  template <class Value>
  void number(const std::optional<Value>& value) {
    value ? number(*value) : null();
  }
  void time(const std::optional<Timestamp>& value) { value ? time(*value) : null(); }
  void end_row() {
    out_ += '\n';
    first_ = true;
  }

 private:
  void separate() {
    if (!std::exchange(first_, false)) out_ += '\t';
  }
  void escape(char c) {
    out_ += '\\';
    switch (c) {
      case '\n':
        out_ += 'n';
        break;
      case '\r':
        out_ += 'r';
        break;
      case '\t':
        out_ += 't';
        break;
      default:
        out_ += c;  // a backslash; COPY takes other control characters as they are
    }
  }

  std::string& out_;
  bool first_ = true;
};

void put_run(CopyText& row, const Run& run, std::string_view now, bool optional_columns) {
  row.text(run.run_id);
  row.plain(to_string(run.status));
  row.text(run.council);
  row.number(run.attempt);
  row.text_or_null(run.parent_attempt_run_id);
  row.number(run.oban_job_id);
  row.text_or_null(run.input.text());
  row.time(run.started_at);
  row.text_or_null(run.result.text());
  row.text_or_null(run.error.text());
  row.time(run.finalized_at);
  row.text_or_null(run.oban_job_state_at_finalize);
  row.boolean(run.council_given);
  row.boolean(run.attempt_given);
  row.text(run.recorder);
  row.text(run.worker_process);
  row.text(run.sender_process);
  row.text(run.connection);
  row.number(run.last_seq);
  row.text(run.stuck_pass);
  row.plain(now);  // inserted_at
  row.plain(now);  // updated_at
  row.plain(now);  // last_event_at
  if (optional_columns) {
    row.text_or_null(run.queue);
    row.text_or_null(run.job_id);
    row.number(run.expires_in);
    row.text_or_null(run.usage);
    row.text_or_null(run.progress);
  }
  row.end_row();
}

void put_entry(CopyText& row, const HistoryEntry& entry, std::string_view self, std::string_view now,
               bool updated_at) {
  row.text(entry.run_id);
  row.number(entry.seq);
  row.text(entry.type);
  row.text(entry.payload);
  row.text_or_null(entry.event_id);
  row.time(entry.at);
  row.time(entry.received_at);
  row.number(entry.peer_uid);
  row.number(entry.peer_pid);
  row.plain(to_string(entry.effect));
  entry.pass_id.empty() ? row.null() : row.text(entry.pass_id);
  row.plain(now);
  row.text(self);
  if (updated_at) row.plain(now);
  row.end_row();
}

// Copies all rows, some at a time.
template <class Rows, class Put>
Result<void> copy_rows(PgConnection& connection, const std::string& table, std::span<const std::string_view> columns,
                       const Rows& rows, const Put& put) {
  auto next = std::begin(rows);
  return connection.copy(table, columns, [&](std::string& text) {
    CopyText out(text);
    while (next != std::end(rows) && text.size() < kChunkBytes) put(out, *next++);
  });
}

}  // namespace

bool PgCopy::possible(const PgSchema& schema) {
  return std::ranges::all_of(std::array{"runs", "run_events"}, [&](std::string_view name) {
    const PgTable& table = schema.tables.find(name)->second;
    return table.kind == 'r' && !table.row_security && PgBatch::new_id(schema, name).empty();
  });
}

PgCopy::PgCopy(const PgSchema& schema)
    : runs_(schema.table("runs")),
      events_(schema.table("run_events")),
      fills_updated_at_(PgBatch::has_updated_at(schema, "run_events")) {
  const auto zoned = [&](std::string_view table, std::string_view column) {
    return schema.column(table, column).base == "timestamptz";
  };
  zoned_ = zoned("runs", "inserted_at") && zoned("runs", "updated_at") && zoned("runs", "last_event_at") &&
           zoned("run_events", "inserted_at") && (!fills_updated_at_ || zoned("run_events", "updated_at"));
}

Result<void> PgCopy::write(PgConnection& connection, const RecorderSelf& self, const BatchWrite& batch) const {
  std::string now(kNow);
  if (!zoned_) {
    const auto read = connection.exec(kNowWithoutZone);
    if (!read) return read.error();
    now = (*read)[0][0].c_str();
  }
  std::vector<const Run*> inserts;
  for (const RunChange& change : batch.runs) {
    if (change.insert) inserts.push_back(&change.after);
  }
  // By run_id, so that daemons that meet in the same rows lock them in the same order.
  std::ranges::sort(inserts, {}, [](const Run* run) -> const std::string& { return run->run_id; });
  if (!inserts.empty()) {
    const bool all = PgBatch::fills_optional_columns(batch);
    const auto columns = all ? std::span<const std::string_view>(kRunColumns) : kPlainRunColumns;
    const auto copied = copy_rows(connection, runs_, columns, inserts,
                                  [&](CopyText& out, const Run* run) { put_run(out, *run, now, all); });
    if (!copied) return copied.error();
  }
  if (batch.history.empty()) return {};
  std::vector<std::string_view> columns(kEventColumns.begin(), kEventColumns.end());
  if (fills_updated_at_) columns.push_back("updated_at");
  return copy_rows(connection, events_, columns, batch.history, [&](CopyText& out, const HistoryEntry& entry) {
    put_entry(out, entry, self.id, now, fills_updated_at_);
  });
}

}  // namespace run_recorder
