// `run-recorder spool status`, `list`, `records` and `verify`: what lies in the spool's folder, read beside a live
// daemon or without one; nothing is changed. Each returns the exit status: 69 where there is no spool.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "base/json_text.h"
#include "base/json_writer.h"
#include "cli/command.h"
#include "cli/event_line.h"
#include "cli/json_object.h"
#include "cli/table.h"
#include "cli/terminal.h"
#include "cli/text.h"
#include "protocol/protocol.h"
#include "spool/inspect.h"

namespace run_recorder {
namespace {

constexpr std::size_t kPageRows = 500;

std::string segment_json(const SegmentReport& segment) {
  EventLine line;
  line.text("name", segment.name).text("incarnation", segment.incarnation);
  line.number("first_seq", segment.first_seq);
  line.number("last_seq", segment.last_seq);
  line.number("records", segment.records);
  line.number("file_bytes", segment.file_bytes);
  return line.json("problems", json_list(segment.problems)).str();
}

// What is not applied yet, as the daemon noted last: exact once it has ended in order, else a little too high.
std::uint64_t waiting_in(const SpoolReport& report) {
  const std::string_view hint = report.hint.starts_with('{') ? std::string_view(report.hint) : "{}";
  const JsonObject positions = JsonObject(hint).object("positions");
  std::uint64_t waiting = 0;
  for (std::size_t i = 0; i < report.incarnations.size(); ++i) {
    const Incarnation& one = report.incarnations[i];
    const bool newest = i + 1 == report.incarnations.size();
    const std::uint64_t first = std::max(one.first_seq, report.first_seq);
    const std::uint64_t last = newest ? report.last_seq : report.incarnations[i + 1].first_seq - 1;
    const auto applied = positions.count(one.id);
    const std::uint64_t next = std::max(first, applied + 1);
    if (last >= next) waiting += last - next + 1;
  }
  return waiting;
}

std::string incarnation_json(const Incarnation& one) {
  return EventLine().text("id", one.id).number("first_seq", one.first_seq).str();
}

std::string report_json(const SpoolReport& report) {
  EventLine line;
  line.text("id", report.id).json("holder_pid", report.holder ? std::to_string(*report.holder) : "null");
  line.json("acknowledged", report.acknowledged ? std::to_string(*report.acknowledged) : "null");
  line.number("first_seq", report.first_seq);
  line.number("last_seq", report.last_seq);
  line.number("records", report.records);
  line.number("waiting", waiting_in(report));
  line.number("file_bytes", report.file_bytes);
  line.number("lost_records", report.lost_records);
  line.json("incarnations", json_array(report.incarnations, incarnation_json));
  line.json("segments", json_array(report.segments, segment_json));
  line.json("set_aside", json_list(report.set_aside)).json("problems", json_list(report.problems));
  return line.flag("sound", report.is_sound()).str();
}

int fail_to_inspect(const Error& error) {
  complain(error.message);
  // The folder is made by the daemon's first start.
  return error.kind == ErrorKind::kNotFound ? kExitNotThere : exit_status_of(error.kind);
}

std::string report_for_people(const std::string& path, const SpoolReport& report, const Terminal& terminal) {
  Facts facts(terminal);
  facts.add("spool", path, Colour::kBold);
  facts.add("recorder", report.id);
  facts.add("held by", report.holder ? fmt::format("process {}", *report.holder) : "nobody");
  facts.add("records", report.records == 0 ? "none"
                                           : fmt::format("{}, number {} to {}", with_separators(report.records),
                                                         report.first_seq, report.last_seq));
  facts.add("waiting", report.holder ? fmt::format("at most {}", with_separators(waiting_in(report)))
                                     : with_separators(waiting_in(report)));
  if (report.acknowledged) facts.add("acknowledged", fmt::format("at least to number {}", *report.acknowledged));
  facts.add("size",
            fmt::format("{} in {}", size_in_words(report.file_bytes), count_of(report.segments.size(), "segment")));
  if (report.lost_records > 0) facts.add("lost records", with_separators(report.lost_records), Colour::kRed);
  for (const std::string& name : report.set_aside) facts.add("set aside", name, Colour::kYellow);
  for (const std::string& problem : report.problems) facts.add("problem", problem, Colour::kRed);
  for (const SegmentReport& segment : report.segments) {
    for (const std::string& problem : segment.problems) facts.add(segment.name, problem, Colour::kRed);
  }
  return facts.render();
}

struct RecordView {
  std::optional<Timestamp> received_at;
  std::string peer;
  std::string line;  // what the sender sent; empty where the record cannot be read
  std::string problem;
};

RecordView view_record(std::string_view body) {
  const Result<Envelope> envelope = decode_envelope(body);
  RecordView view;
  if (!envelope) {
    view.problem = envelope.error().message;
    return view;
  }
  view.received_at = envelope->received_at;
  view.line = envelope->line;
  if (envelope->peer_pid) view.peer = std::to_string(*envelope->peer_pid);
  return view;
}

std::string record_json(std::uint64_t seq, const RecordView& view) {
  EventLine line;
  line.number("seq", seq);
  if (view.received_at) line.text("received_at", format_rfc3339(*view.received_at));
  if (!view.peer.empty()) line.json("peer_pid", view.peer);
  if (view.problem.empty()) {
    line.json("event", view.line);
  } else {
    line.text("problem", view.problem);
  }
  return line.str() + "\n";
}

std::vector<Cell> record_cells(std::uint64_t seq, const RecordView& view, Timestamp now) {
  const JsonObject event(view.line);
  return {{std::to_string(seq)},
          {view.received_at ? age_in_words(*view.received_at, now) : ""},
          {view.peer},
          {event.text("run_id")},
          {event.text("type")},
          {view.problem.empty() ? view.line : view.problem, view.problem.empty() ? Colour::kDim : Colour::kRed}};
}

int show_spool(const std::string& path, bool json) {
  const Result<SpoolReport> report = inspect_spool(path, InspectionDepth::kHeaders);
  if (!report) return fail_to_inspect(report.error());
  if (json) {
    print_json(report_json(*report) + "\n");
  } else {
    print(report_for_people(path, *report, terminal_of(1)));
  }
  return kExitDone;
}

int list_spool(const std::string& path, bool json) {
  const Result<SpoolReport> report = inspect_spool(path, InspectionDepth::kHeaders);
  if (!report) return fail_to_inspect(report.error());
  Table table({{.title = "SEGMENT"},
               {.title = "FROM", .right = true},
               {.title = "TO", .right = true},
               {.title = "RECORDS", .right = true},
               {.title = "SIZE", .right = true},
               {.title = "PROBLEMS", .shrinks_to = 20}},
              terminal_of(1));
  std::string lines;
  for (const SegmentReport& segment : report->segments) {
    std::string problems;
    for (const std::string& problem : segment.problems) problems += (problems.empty() ? "" : "; ") + problem;
    lines += segment_json(segment) + "\n";
    table.add({{segment.name},
               {std::to_string(segment.first_seq)},
               {segment.records == 0 ? "-" : std::to_string(segment.last_seq)},
               {with_separators(segment.records)},
               {size_in_words(segment.file_bytes)},
               {problems, Colour::kRed}});
  }
  if (json) {
    print_json(lines);
  } else {
    print(table.render());
  }
  return kExitDone;
}

int list_spool_records(const std::string& path, std::uint64_t from_seq, std::uint64_t limit, bool json) {
  Table table({{.title = "NUMBER", .right = true},
               {.title = "RECEIVED"},
               {.title = "FROM PID", .right = true, .optional = 1},
               {.title = "RUN"},
               {.title = "TYPE", .shrinks_to = 14},
               {.title = "EVENT", .shrinks_to = 20, .optional = 1}},
              terminal_of(1));
  const Timestamp now = now_utc();
  std::string lines;
  std::uint64_t shown = 0;
  const auto flush = [&] {
    if (json) {
      print_json(lines);
    } else {
      print(table.render());
    }
    lines.clear();
  };
  const Result<void> visited = visit_spool(path, from_seq, [&](std::uint64_t seq, std::string_view body) {
    if (shown == limit) return false;
    const RecordView view = view_record(body);
    if (json) {
      lines += record_json(seq, view);
    } else {
      table.add(record_cells(seq, view, now));
    }
    if (++shown % kPageRows == 0) flush();
    return true;
  });
  if (!visited) return fail_to_inspect(visited.error());
  if (!lines.empty() || !table.empty()) flush();
  return kExitDone;
}

int verify_spool(const std::string& path, bool json) {
  const Result<SpoolReport> report = inspect_spool(path, InspectionDepth::kRecords);
  if (!report) return fail_to_inspect(report.error());
  const bool sound = report->is_sound();
  if (json) {
    print_json(report_json(*report) + "\n");
  } else {
    const Terminal terminal = terminal_of(1);
    print(report_for_people(path, *report, terminal) +
          (sound ? coloured("every record is whole", Colour::kGreen, terminal)
                 : coloured("damaged: see above", Colour::kRed, terminal)) +
          "\n");
  }
  return sound ? kExitDone : kExitOther;
}

bool names_spool(const Invocation& invocation) {
  return invocation.environment.contains("RUN_RECORDER_SPOOL_PATH") ||
         std::ranges::any_of(invocation.config_flags, [](const auto& flag) { return flag.first == "--spool-path"; });
}

// The one that is named here, else the running daemon's own, else the configured one. A difference is said.
std::string spool_path(const Invocation& invocation) {
  const Config config = invocation.configuration(kSpoolPathKey);
  if (names_spool(invocation)) return config.spool.path;
  const ControlClient client(invocation.control_path(config), kShortPatience);
  const Result<ControlAnswer> status = client.get("/v1/status");
  const std::string path = status ? JsonObject(status->body).object("spool").text("path") : std::string();
  if (path.empty() || path == config.spool.path) return config.spool.path;
  complain(fmt::format("this is the spool of the running daemon, {}", path));
  return path;
}

template <int (*show)(const std::string&, bool)>
Handler declare_view(Flags) {
  return [](const Invocation& invocation) { return show(spool_path(invocation), invocation.json); };
}

Handler declare_records(Flags flags) {
  struct Values {
    std::uint64_t from_seq = 1, limit = 100;
  };
  const auto values = std::make_shared<Values>();
  flags.number("--from", values->from_seq, "Begin with the event of this number");
  flags.limit(values->limit, "events");
  return [values](const Invocation& invocation) {
    return list_spool_records(spool_path(invocation), values->from_seq, values->limit, invocation.json);
  };
}

constexpr Command kSpoolCommands[] = {
    {"status", "Show what is in the spool", declare_view<show_spool>},
    {"list", "List the spool's segments", declare_view<list_spool>},
    {"records", "Show the events in the spool, applied or not", declare_records},
    {"verify", "Check every record; exit 1 if one is damaged", declare_view<verify_spool>}};

}  // namespace

extern const Command kSpoolCommand = {
    "spool", "Inspect the spool's folder, with or without a running daemon", nullptr,
    "It is the running daemon's spool, or the configured one. --spool-path names another folder.", kSpoolCommands};

}  // namespace run_recorder
