#include "store/pg_copy.h"

#include <fmt/compile.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "base/time.h"
#include "store/columns.h"
#include "store/pg_row_sql.h"

namespace run_recorder {
namespace {

template <class Column>
std::vector<std::string_view> names_of(std::span<const Column> columns) {
  std::vector<std::string_view> names;
  for (const Column& column : columns) {
    if (column.group != ColumnGroup::kDatabase) names.push_back(column.name);
  }
  return names;
}

// What PostgreSQL reads as the transaction's time, in a column with time zone.
constexpr std::string_view kNow = "now";

constexpr std::size_t kChunkBytes = 32'768;

// Appends rows in COPY's text format to a text.
class CopyText {
 public:
  explicit CopyText(std::string& out) : out_(out) {}

  void text(std::string_view value) {
    separate();
    while (true) {
      const auto special =
          std::ranges::find_if(value, [](char c) { return c == '\\' || static_cast<unsigned char>(c) < ' '; });
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
  template <std::integral Number>
  void number(Number value) {
    separate();
    fmt::format_to(std::back_inserter(out_), FMT_COMPILE("{}"), value);
  }
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

// One value as its member's type has it.
struct PutText {
  CopyText& row;
  bool empty_is_null = false;

  void operator()(const std::string& text) const { text.empty() && empty_is_null ? row.null() : row.text(text); }
  void operator()(Status status) const { row.plain(to_string(status)); }
  void operator()(Effect effect) const { row.plain(to_string(effect)); }
  void operator()(bool flag) const { row.plain(flag ? "t" : "f"); }
  void operator()(std::integral auto number) const { row.number(number); }
  void operator()(Timestamp time) const { row.plain(format_rfc3339(time)); }
  void operator()(const JsonColumn& json) const { (*this)(json.text()); }
  template <class Value>
  void operator()(const std::optional<Value>& value) const {
    value ? (*this)(*value) : row.null();
  }
};

void put_run(CopyText& row, const Run& run, std::span<const RunColumn> columns, std::string_view now) {
  for (const RunColumn& column : columns) {
    column.clock() ? row.plain(now) : visit_value(column, run, PutText{row});
  }
  row.end_row();
}

void put_entry(CopyText& row, const HistoryEntry& entry, std::string_view self, std::string_view now,
               bool updated_at) {
  for (const HistoryColumn& column : history_columns()) {
    if (column.clock()) row.plain(now);
    if (column.group == ColumnGroup::kRecorder) row.text(self);
    if (column.group == ColumnGroup::kAlways) visit_value(column, entry, PutText{row, column.nullable});
  }
  if (updated_at) row.plain(now);
  row.end_row();
}

// Copies all rows, some at a time. Of pieces, each is a COPY of its own: the server works on what it has read of one
// when it has a thousand rows or 64 KiB, or at its end.
template <class Rows, class Put>
Result<void> copy_rows(PgConnection& connection, const std::string& table, std::span<const std::string_view> columns,
                       const Rows& rows, const WritePieces* pieces, const Put& put) {
  auto next = std::begin(rows);
  while (next != std::end(rows)) {
    auto left = static_cast<std::size_t>(std::end(rows) - next);
    if (pieces) left = std::min(left, pieces->rows);
    const auto copied = connection.copy(table, columns, [&](std::string& text) {
      CopyText out(text);
      while (left > 0 && text.size() < kChunkBytes) {
        put(out, *next++);
        --left;
      }
      if (pieces) left = 0;
    });
    if (!copied) return copied;
    if (pieces) pieces->rest();
  }
  return {};
}

}  // namespace

bool PgCopy::possible(const PgSchema& schema) {
  return std::ranges::all_of(std::array{"runs", "run_events"}, [&](std::string_view name) {
    const PgTable& table = schema.tables.find(name)->second;
    return table.kind == 'r' && !table.row_security && new_id(schema, name).empty();
  });
}

PgCopy::PgCopy(const PgSchema& schema)
    : runs_(schema.table("runs")),
      events_(schema.table("run_events")),
      fills_updated_at_(has_updated_at(schema, "run_events")) {
  const auto zoned = [&](std::string_view table, std::string_view column) {
    return schema.column(table, column).base == "timestamptz";
  };
  zoned_ = zoned("runs", "inserted_at") && zoned("runs", "updated_at") && zoned("runs", "last_event_at") &&
           zoned("run_events", "inserted_at") && (!fills_updated_at_ || zoned("run_events", "updated_at"));
}

Result<void> PgCopy::write(PgConnection& connection, const RecorderSelf& self, const BatchWrite& batch,
                           const WritePieces* pieces) const {
  std::string now(kNow);
  if (!zoned_) {
    const auto read = connection.exec("SELECT " + utc_text("now()"));
    if (!read) return read.error();
    now = (*read)[0][0].c_str();
  }
  const auto columns_of_runs = fills_optional_columns(batch) ? run_columns() : plain_run_columns();
  const auto copied =
      copy_rows(connection, runs_, names_of(columns_of_runs), changes_of(batch, true), pieces,
                [&](CopyText& out, const RunChange* change) { put_run(out, change->after, columns_of_runs, now); });
  if (!copied) return copied.error();
  auto columns = names_of(history_columns());
  if (fills_updated_at_) columns.push_back("updated_at");
  return copy_rows(
      connection, events_, columns, batch.history, pieces,
      [&](CopyText& out, const HistoryEntry& entry) { put_entry(out, entry, self.id, now, fills_updated_at_); });
}

}  // namespace run_recorder
