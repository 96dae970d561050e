// The way in: see move.h.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/json_writer.h"
#include "control/difference.h"
#include "control/move.h"
#include "control/row_from_json.h"
#include "control/row_json.h"

namespace run_recorder {
namespace {

using LineOutcome = ImportReport::Outcome;

constexpr std::size_t kMaxDepth = 600;  // what an event may nest, and its envelopes
// Of one transaction: more make it no faster, and others wait for it.
constexpr std::size_t kRunsOfTransaction = 1'000;
constexpr std::size_t kBytesOfTransaction = std::size_t{4} << 20;

std::string_view member_of(std::string_view object, std::string_view name) {
  for (const JsonMember& member : json_members(object)) {
    if (member.key == name) return member.value;
  }
  return "null";
}

Error refused(std::string message) {
  return Error{ErrorKind::kInvalid, std::move(message)};
}

// in: the first difference, in words; may be empty.
Error differs(std::string_view in = {}) {
  constexpr std::string_view kDiffers = "exists already and differs";
  return Error{ErrorKind::kConflict, fmt::format("{}{}{}", kDiffers, in.empty() ? "" : ": ", in)};
}

// As JSON without the entries' ids, which each database gives by itself. Empty: they are the same.
std::string difference_of(const StoredEvent& imported, StoredEvent here) {
  here.id = imported.id;
  const std::string difference = first_difference(event_json(imported), event_json(here));
  return difference.empty() ? "" : fmt::format("event {}: {}", imported.entry.seq, difference);
}

// How many of the entries are there already; kConflict where one is and differs.
Result<std::size_t> count_stored(Store& store, std::string_view run_id, std::span<const StoredEvent> events) {
  std::size_t stored = 0;
  while (stored < events.size()) {
    const std::int64_t before = events[stored].entry.seq - 1;
    const auto page = store.list_events(run_id, events.size() - stored, std::to_string(before));
    if (!page) return page.error();
    for (const StoredEvent& event : page->events) {
      if (const auto difference = difference_of(events[stored], event); !difference.empty()) {
        return differs(difference);
      }
      ++stored;
    }
    if (page->next.empty()) break;
  }
  return stored;
}

Result<LineOutcome> keep_part(Store& store, const std::string& run_id, std::span<const StoredEvent> events) {
  const auto stored = count_stored(store, run_id, events);
  if (!stored) return stored.error();
  if (*stored == events.size()) return LineOutcome::kKept;
  const auto kept = store.insert_history(run_id, events.subspan(*stored));
  if (!kept) return kept.error().kind == ErrorKind::kConflict ? differs() : kept.error();
  return LineOutcome::kKept;
}

// A run whose row, or a part of whose history, is there.
Result<LineOutcome> compare_run(Store& store, const Run& run, std::span<const StoredEvent> events) {
  const auto there = store.find_run(run.run_id);
  if (!there) return there.error();
  if (there->has_value()) {
    const std::string difference = first_difference(run_json(run, true), run_json(**there, true));
    if (!difference.empty()) return differs(difference);
    const auto stored = count_stored(store, run.run_id, events);
    if (!stored) return stored.error();
    if (*stored == events.size()) return LineOutcome::kPresent;
    return differs(fmt::format("of the history's {} events that came {} are here", events.size(), *stored));
  }
  // The rest of its history is there, from its other parts or from an import that was interrupted.
  if (const auto kept = keep_part(store, run.run_id, events); !kept) return kept.error();
  const auto added = store.insert_row(run);
  if (!added) return added.error();
  return *added ? Result<LineOutcome>(LineOutcome::kImported) : differs();
}

Result<MovedRun> read_whole_run(std::string_view line, std::string& run_id) {
  MovedRun moved;
  const auto read = read_row(member_of(line, "run"), moved.run);
  run_id = moved.run.run_id;
  if (!read) return read.error();
  if (member_of(line, "more") == "true") {
    return refused("more: only run-recorder import assembles a run in parts");
  }
  auto events = read_events(member_of(line, "events"), moved.run.run_id);
  if (!events) return events.error();
  const std::int64_t last = events->empty() ? 0 : events->back().entry.seq;
  if (last != moved.run.last_seq) {
    return refused(fmt::format("last_seq: must be {}, the seq of its last event", last));
  }
  moved.history = std::move(*events);
  return moved;
}

// Its history begins with its first entry.
bool is_whole(const MovedRun& moved) {
  return moved.history.empty() || moved.history.front().entry.seq == 1;
}

Result<LineOutcome> take_part(Store& store, std::string_view line, std::string& run_id) {
  HistoryPart part;
  const auto read = read_row(line, part);
  run_id = part.run_id;
  if (!read) return read.error();
  if (part.withdrawn) {
    if (const auto removed = store.remove_history(run_id); !removed) return removed.error();
    return LineOutcome::kKept;
  }
  const auto events = read_events(member_of(line, "events"), run_id);
  if (!events) return events.error();
  return keep_part(store, run_id, *events);
}

// added: whether it was new, or how many of it were.
template <class Added>
Result<LineOutcome> outcome_of(const Result<Added>& added) {
  if (!added) return added.error();
  return *added > 0 ? LineOutcome::kImported : LineOutcome::kPresent;
}

Result<LineOutcome> take_pruned(Store& store, std::string_view list) {
  const auto runs = read_pruned(list);
  if (!runs) return runs.error();
  return outcome_of(store.insert_pruned(*runs));
}

Result<LineOutcome> take_reconciliation(Store& store, std::string_view object) {
  ReconciliationRow row;
  if (const auto read = read_row(object, row); !read) return read.error();
  return outcome_of(store.insert_reconciliation(row));
}

Result<LineOutcome> take_dead_letter(Store& store, std::string_view object, std::string& run_id) {
  DeadLetter letter;
  const auto read = read_row(object, letter);
  run_id = letter.run_id;
  if (!read) return read.error();
  return outcome_of(store.insert_dead_letter(letter));
}

// Of what a recorder goes on from; its host and times may be others by now.
JsonText checkpoint_json(const RecorderRow& row) {
  RecorderRow progress;
  progress.checkpoint = row.checkpoint;
  return recorder_json(progress);
}

// Nothing: it is known as it is.
Result<void> compare_recorder(Store& store, const RecorderRow& row) {
  std::string before = row.self.id;
  before.pop_back();  // sorts before it, and no other recorder's id lies between
  const auto some = store.list_recorders(before, 100);
  if (!some) return some.error();
  const auto found = std::ranges::find(*some, row.self.id, [](const RecorderRow& one) { return one.self.id; });
  if (found == some->end()) return differs();
  const std::string difference = first_difference(checkpoint_json(row), checkpoint_json(*found));
  return difference.empty() ? Result<void>() : differs(difference);
}

Result<LineOutcome> take_recorder(Store& store, std::string_view object) {
  RecorderRow row;
  if (const auto read = read_row(object, row); !read) return read.error();
  auto outcome = outcome_of(store.insert_recorder(row));
  if (outcome && *outcome == LineOutcome::kPresent) {
    if (const auto same = compare_recorder(store, row); !same) outcome = same.error();
  }
  if (outcome) return outcome;
  Error named = outcome.error();
  named.message = fmt::format("recorder {}: {}", row.self.id, named.message);
  return named;
}

Result<LineOutcome> take_head(std::string_view head) {
  if (json_type(head) != JsonType::kObject) return refused("export: must be an object");
  const std::string_view format = member_of(head, "format");
  const auto number = json_type(format) == JsonType::kNumber ? json_integer(format) : std::nullopt;
  if (number && *number >= 1 && *number <= kExportFormat) return LineOutcome::kPassed;
  const std::string_view version = member_of(head, "version");
  return refused(
      fmt::format("export.format: must be 1 to {}, is {}: version {} wrote it, this daemon is {}; import it "
                  "with a daemon that is at least as new",
                  kExportFormat, format,
                  json_type(version) == JsonType::kString ? json_string_value(version) : "unknown", RR_VERSION));
}

// Whether the next line may fare better: it was this one that was refused.
bool is_refusal(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kInvalid:
    case ErrorKind::kNotFound:
    case ErrorKind::kConflict:
    case ErrorKind::kData:
    case ErrorKind::kDenied:
      return true;
    case ErrorKind::kFull:
    case ErrorKind::kUnavailable:
    case ErrorKind::kRefused:
    case ErrorKind::kInDoubt:
    case ErrorKind::kCorrupt:
    case ErrorKind::kIo:
    case ErrorKind::kInternal:
      break;
  }
  return false;
}

// A line that is no run to be taken whole.
Result<LineOutcome> take_other(Store& store, std::string_view text, const JsonMember& member,
                               ImportReport::Line& line) {
  if (member.key == "run_id") return line.kind = "run", take_part(store, text, line.run_id);
  if (member.key == "pruned") return line.kind = "pruned", take_pruned(store, member.value);
  if (member.key == "reconciliation") {
    return line.kind = "reconciliation", take_reconciliation(store, member.value);
  }
  if (member.key == "dead_letter") {
    return line.kind = "dead_letter", take_dead_letter(store, member.value, line.run_id);
  }
  if (member.key == "recorder") return line.kind = "recorder", take_recorder(store, member.value);
  if (member.key == "export") return take_head(member.value);
  return LineOutcome::kPassed;  // end
}

constexpr std::string_view kMembers[] = {"run",         "run_id",   "pruned", "reconciliation",
                                         "dead_letter", "recorder", "export", "end"};

// Takes line after line. Whole runs wait for others, so that many are one transaction; whatever else comes waits for
// them. A transaction that is refused is tried again as two halves, down to the run that is the reason.
class LineImporter {
 public:
  explicit LineImporter(Store& store) : store_(store) {}

  // False: the database went away.
  bool take(std::string_view text, std::uint64_t number) {
    ImportReport::Line line;
    line.number = number;
    const JsonScan scan = scan_json(text, kMaxDepth);
    if (scan.problem != JsonProblem::kNone) return settle(line, refused("not JSON: " + scan.message));
    const auto known = std::ranges::find_if(
        scan.members, [](const JsonMember& member) { return std::ranges::count(kMembers, member.key) > 0; });
    if (known == scan.members.end()) {
      return settle(line, refused("unknown line: must be an object with run, pruned, reconciliation, dead_letter or "
                                  "recorder"));
    }
    if (known->key != "run") {
      if (!write_all()) return false;
      const auto outcome = take_other(store_, text, *known, line);
      return settle(std::move(line), outcome);
    }
    line.kind = "run";
    auto moved = read_whole_run(text, line.run_id);
    if (!moved) return settle(line, moved.error());
    const bool whole = is_whole(*moved);
    // The same run a second time is compared with the first.
    if ((!whole || ids_.contains(line.run_id)) && !write_all()) return false;
    if (!whole) return settle(line, compare_run(store_, moved->run, moved->history));
    ids_.insert(line.run_id);
    runs_.push_back(std::move(*moved));
    waiting_.push_back(report_.lines.size());
    report_.lines.push_back(std::move(line));
    bytes_ += text.size();
    return (runs_.size() < kRunsOfTransaction && bytes_ < kBytesOfTransaction) || write_all();
  }

  // Nothing waits any more. False as above.
  bool write_all() {
    const std::size_t before = waiting_.empty() ? 0 : waiting_.front();
    const auto written = write(0, runs_.size());
    if (!written) {
      // From there on nothing is told: all of it can be sent again.
      report_.lines.resize(before);
      report_.stopped_by = written.error();
    }
    runs_.clear();
    waiting_.clear();
    ids_.clear();
    bytes_ = 0;
    return static_cast<bool>(written);
  }

  ImportReport take_report() && { return std::move(report_); }

 private:
  bool settle(ImportReport::Line line, const Result<LineOutcome>& outcome) {
    if (!tell(line, outcome)) return false;
    report_.lines.push_back(std::move(line));
    return true;
  }

  bool tell(ImportReport::Line& line, const Result<LineOutcome>& outcome) {
    if (!outcome && !is_refusal(outcome.error())) {
      report_.stopped_by = outcome.error();
      return false;
    }
    line.outcome = outcome ? *outcome : LineOutcome::kRefused;
    if (!outcome) line.reason = outcome.error().message;
    return true;
  }

  Result<void> write(std::size_t from, std::size_t to) {
    if (from == to) return {};
    const auto added = store_.insert_whole(std::span(runs_).subspan(from, to - from));
    if (!added && is_refusal(added.error()) && to - from > 1) {
      const std::size_t middle = from + (to - from) / 2;
      if (const auto first = write(from, middle); !first) return first;
      return write(middle, to);
    }
    for (std::size_t i = from; i < to; ++i) {
      const auto outcome = outcome_of_run(i, added, i - from);
      if (!tell(report_.lines[waiting_[i]], outcome)) return outcome.error();
    }
    return {};
  }

  Result<LineOutcome> outcome_of_run(std::size_t i, const Result<std::vector<bool>>& added, std::size_t place) {
    if (!added) return added.error();
    if ((*added)[place]) return LineOutcome::kImported;
    return compare_run(store_, runs_[i].run, runs_[i].history);
  }

  Store& store_;
  ImportReport report_;
  // Each run that waits, where its line is in the report, and their ids.
  std::vector<MovedRun> runs_;
  std::vector<std::size_t> waiting_;
  std::set<std::string, std::less<>> ids_;
  std::size_t bytes_ = 0;
};

}  // namespace

std::string_view to_string(LineOutcome outcome) {
  switch (outcome) {
    case LineOutcome::kImported:
      return "imported";
    case LineOutcome::kPresent:
      return "present";
    case LineOutcome::kKept:
      return "kept";
    case LineOutcome::kRefused:
      return "refused";
    case LineOutcome::kPassed:
      return "passed";
  }
  return "";
}

JsonText ImportReport::to_json() const {
  std::map<LineOutcome, std::uint64_t> counts;
  const JsonText list = json_array(lines, [&](const Line& line) {
    ++counts[line.outcome];
    JsonWriter out;
    out.number("line", line.number);
    out.text_or_null("kind", line.kind);
    out.text_or_null("run_id", line.run_id);
    out.text("outcome", to_string(line.outcome));
    if (line.outcome == LineOutcome::kRefused) out.text("reason", line.reason);
    return std::move(out).object();
  });
  JsonWriter report;
  for (const auto outcome : {LineOutcome::kImported, LineOutcome::kPresent, LineOutcome::kRefused}) {
    report.number(to_string(outcome), counts[outcome]);
  }
  report.raw("lines", list);
  return std::move(report).object();
}

ImportReport import_lines(Store& store, std::string_view body) {
  LineImporter importer(store);
  std::uint64_t number = 0;
  bool going = true;
  while (going && !body.empty()) {
    const std::size_t end = std::min(body.find('\n'), body.size());
    const std::string_view text = body.substr(0, end);
    body.remove_prefix(std::min(end + 1, body.size()));
    ++number;
    if (text.find_first_not_of(" \t\r") != std::string_view::npos) going = importer.take(text, number);
  }
  if (going) importer.write_all();
  return std::move(importer).take_report();
}

}  // namespace run_recorder
