// `run-recorder import`: takes in what `export` wrote, from standard input.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "cli/event_line.h"
#include "cli/json_object.h"
#include "cli/line_reader.h"
#include "cli/patience.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

constexpr std::size_t kLongestLine = 255 << 20;
// Of a request, of which a longer line is the only one. Its runs are one transaction.
constexpr std::size_t kBytesAtOnce = std::size_t{2} << 20;
constexpr std::size_t kLinesAtOnce = 1'000;
constexpr std::size_t kPartBytes = 512 << 10;  // of a large run's history
constexpr std::size_t kLargeRun = 1 << 20;     // goes in parts
constexpr std::size_t kImportDepth = 600;

// A line on its way to the daemon.
struct Item {
  std::uint64_t line = 0;
  std::uint64_t run_line = 0;  // where its run began
  std::string text;
};

// A run whose history comes in parts: the row goes with the last of them. Until then nobody sees the run.
struct LargeRun {
  std::uint64_t line = 0;
  std::string run_id;
  std::string row;
  std::string events;  // the part that came last, with its brackets
};

struct ImportSum {
  std::uint64_t imported = 0, present = 0, refused = 0, others = 0;
};

class Importer {
 public:
  explicit Importer(const Context& context) : context_(context) {
    struct stat status {};
    if (::fstat(STDIN_FILENO, &status) == 0 && S_ISREG(status.st_mode))
      size_ = static_cast<std::uint64_t>(status.st_size);
  }

  // Every line up to the end of standard input.
  Result<void> run() {
    // Before anything is read: whether there is a daemon to take it, with its database.
    if (const Result<ControlAnswer> there = context_.client.post("/v1/import", {}); !there) return there.error();
    patience_.note_answer();
    LineReader reader(STDIN_FILENO, kLongestLine);
    while (!reader.ended()) {
      auto line = reader.next();
      if (!line) {
        if (const auto read = reader.read(); !read) return read.error();
        bytes_ = reader.bytes_read();
        continue;
      }
      if (const auto taken = take(*line); !taken) return taken.error();
    }
    return finish();
  }

  const ImportSum& sum() const { return sum_; }
  // An export whose last line never came.
  bool cut_off() const { return begun_ && !ended_; }
  bool read_nothing() const { return !read_; }
  void finish_progress() { progress_.clear(); }
  std::chrono::milliseconds taken() const { return progress_.taken(); }

 private:
  Result<void> take(LineReader::Line& line) {
    if (line.too_long) {
      refuse(line.number, {},
             fmt::format("longer than {}: export it again with this version, which writes large runs "
                         "in parts",
                         size_in_words(kLongestLine)));
      return {};
    }
    if (line.text.find_first_not_of(" \t\r") == std::string::npos) return {};
    const JsonScan scan = scan_json(line.text, kImportDepth);
    const bool readable = scan.problem == JsonProblem::kNone || scan.problem == JsonProblem::kNulEscape;
    if (!readable || scan.type != JsonType::kObject) {
      refuse(line.number, {}, readable ? "not a JSON object" : "not JSON: " + scan.message);
      return {};
    }
    read_ = true;
    const JsonObject object(line.text);
    if (!object.raw("run").empty()) return take_run(line, object);
    if (large_ && !object.raw("run_id").empty()) return take_part(line.number, object);
    if (!object.raw("export").empty()) return take_head(line, object);
    if (!object.raw("end").empty()) ended_ = true;
    if (!object.raw("recorder").empty()) {
      recorders_.push_back({line.number, line.number, std::move(line.text)});
      return {};
    }
    if (!object.raw("end").empty()) return {};
    return add({line.number, line.number, std::move(line.text)});
  }

  // The daemon knows which formats it can read: nothing behind one that it cannot is sent.
  Result<void> take_head(LineReader::Line& line, const JsonObject& object) {
    drop_unfinished();
    if (const auto sent = send(); !sent) return sent;
    begun_ = true;
    runs_about_ += object.object("export").count("runs_about");
    const std::uint64_t refused = sum_.refused;
    if (const auto sent = add({line.number, line.number, std::move(line.text)}); !sent) return sent;
    if (const auto sent = send(); !sent) return sent;
    if (sum_.refused == refused) return {};
    return Error{ErrorKind::kInvalid, "this export cannot be read, and nothing of it is imported"};
  }

  Result<void> take_run(LineReader::Line& line, const JsonObject& object) {
    drop_unfinished();
    const bool more = object.is_true("more");
    if (!more && line.text.size() < kLargeRun) return add({line.number, line.number, std::move(line.text)});
    large_ = LargeRun{line.number, object.object("run").text("run_id"), std::string(object.raw("run")), {}};
    return take_events(object, more);
  }

  Result<void> take_part(std::uint64_t line, const JsonObject& object) {
    if (object.text("run_id") != large_->run_id) {
      refuse(line, object.text("run_id"), "run_id: that of the run before it is allowed");
      return {};
    }
    if (object.is_true("withdrawn")) {
      const std::uint64_t run_line = large_->line;
      large_.reset();
      return add({line, run_line, fmt::format(R"({{"run_id":{},"withdrawn":true}})", object.raw("run_id"))});
    }
    return take_events(object, object.is_true("more"));
  }

  // One part, or the several that a long line of an older version makes.
  Result<void> take_events(const JsonObject& object, bool more) {
    std::string part;
    for (const std::string_view element : object.elements("events")) {
      if (part.size() > kPartBytes) {
        if (const auto held = hold(part); !held) return held.error();
        part.clear();
      }
      part += part.empty() ? '[' : ',';
      part += element;
    }
    if (!part.empty()) {
      if (const auto held = hold(part); !held) return held.error();
    }
    if (more) return {};
    const std::string events = large_->events.empty() ? "[]" : large_->events + "]";
    Item item{large_->line, large_->line, fmt::format(R"({{"run":{},"events":{}}})", large_->row, events)};
    large_.reset();
    return add(std::move(item));
  }

  // Keeps the newest part back, for it may be the last.
  Result<void> hold(std::string part) {
    const std::string before = std::exchange(large_->events, std::move(part));
    if (before.empty()) return {};
    return add({large_->line, large_->line,
                fmt::format(R"({{"run_id":{},"events":{}]}})", json_string(large_->run_id), before)});
  }

  void drop_unfinished() {
    if (large_) refuse(large_->line, large_->run_id, "is cut off: the rest of its history is missing");
    large_.reset();
  }

  Result<void> finish() {
    drop_unfinished();
    if (const auto sent = send(); !sent) return sent;
    // A recorder that stands somewhere skips what it has applied: that must all be here.
    if (cut_off()) return {};
    for (Item& recorder : recorders_) {
      if (const auto added = add(std::move(recorder)); !added) return added;
    }
    return send();
  }

  Result<void> add(Item item) {
    if (!items_.empty() && queued_bytes_ + item.text.size() > kBytesAtOnce) {
      if (const auto sent = send(); !sent) return sent;
    }
    queued_bytes_ += item.text.size();
    items_.push_back(std::move(item));
    return items_.size() < kLinesAtOnce && queued_bytes_ < kBytesAtOnce ? Result<void>() : send();
  }

  // Until each of them is settled; what the daemon took before it went away it knows again.
  Result<void> send() {
    std::size_t settled = 0;
    std::size_t at_once = items_.size();
    while (settled < items_.size()) {
      const std::size_t end = std::min(settled + at_once, items_.size());
      std::string body;
      for (std::size_t i = settled; i < end; ++i) body += items_[i].text + "\n";
      const Result<ControlAnswer> answer = context_.client.post("/v1/import", std::move(body));
      const auto told = answer ? JsonObject(answer->body).elements("lines") : std::vector<std::string_view>();
      if (told.empty()) {
        const Error why = answer ? Error{ErrorKind::kUnavailable, "the daemon lost its database"} : answer.error();
        const bool alone = end - settled == 1;
        if (why.kind == ErrorKind::kInvalid && alone) {
          note(items_[settled++], Outcome{"refused", {}, {}, why.message});
        } else if (why.kind != ErrorKind::kInvalid && !patience_.wait(why)) {
          return why;
        }
        // Half of it is done sooner, where it was too much.
        at_once = std::max<std::size_t>((end - settled) / 2, 1);
        continue;
      }
      patience_.note_answer();
      for (const std::string_view one : told) {
        const JsonObject line(one);
        note(items_[settled++], {line.text("outcome"), line.text("kind"), line.text("run_id"), line.text("reason")});
      }
    }
    items_.clear();
    queued_bytes_ = 0;
    show_progress();
    return {};
  }

  struct Outcome {
    std::string word, kind, run_id, reason;
  };
  void note(const Item& item, const Outcome& outcome) {
    if (outcome.word == "kept" || outcome.word == "passed") return;
    if (outcome.word == "refused") {
      // The parts behind one that was refused are too.
      if (refused_run_ == item.run_line) return;
      refused_run_ = item.run_line;
      return refuse(item.line, outcome.run_id, outcome.reason);
    }
    if (outcome.kind != "run") {
      ++sum_.others;
    } else if (outcome.word == "imported") {
      ++sum_.imported;
    } else {
      ++sum_.present;
    }
    tell(item.line, outcome);
  }

  void refuse(std::uint64_t line, const std::string& run_id, const std::string& reason) {
    ++sum_.refused;
    progress_.clear();
    const std::string run = run_id.empty() ? "" : fmt::format("run {}: ", printable(run_id));
    complain(fmt::format("line {}: {}{}", line, run, printable(reason)));
    tell(line, {"refused", {}, run_id, reason});
  }

  void tell(std::uint64_t line, const Outcome& outcome) const {
    if (!context_.json) return;
    EventLine told;
    told.number("line", line).text("outcome", outcome.word);
    if (!outcome.run_id.empty()) told.text("run_id", outcome.run_id);
    if (!outcome.reason.empty()) told.text("reason", outcome.reason);
    print_json(told.str() + "\n");
  }

  void show_progress() {
    progress_.show(fmt::format("{} imported, {} were there, {} read{}", count_of(sum_.imported, "run"),
                               with_separators(sum_.present), size_in_words(bytes_),
                               pace_in_words(sum_.imported + sum_.present, part_done(), progress_.taken())));
  }
  // Of a file by its size, of a pipe by what the export's first line says; 0: unknown.
  double part_done() const {
    const auto ratio = [](std::uint64_t done, std::uint64_t all) {
      return all == 0 ? 0 : static_cast<double>(done) / static_cast<double>(all);
    };
    return size_ > 0 ? ratio(bytes_, size_) : ratio(sum_.imported + sum_.present, runs_about_);
  }

  const Context& context_;
  std::vector<Item> items_;
  std::size_t queued_bytes_ = 0;
  std::optional<LargeRun> large_;
  std::vector<Item> recorders_;  // for the end
  bool read_ = false, begun_ = false, ended_ = false;
  std::uint64_t refused_run_ = 0;
  std::uint64_t bytes_ = 0, size_ = 0;
  std::uint64_t runs_about_ = 0;
  ImportSum sum_;
  Patience patience_;
  Progress progress_;
};

// 1 where a line is refused; it is named, and the others are taken.
int import_from_input(const Context& context) {
  Importer importer(context);
  const Result<void> done = importer.run();
  importer.finish_progress();
  const ImportSum& sum = importer.sum();
  if (context.json) {
    EventLine line;
    line.number("imported", sum.imported).number("present", sum.present);
    line.number("others", sum.others).number("refused", sum.refused);
    print_json(line.str() + "\n");
  } else {
    const std::string others = sum.others > 0 ? fmt::format("; {} of passes, dead letters, removed ids and recorders",
                                                            count_of(sum.others, "line"))
                                              : "";
    print(fmt::format("{} imported; {} there already, {} refused{}; in {}{}\n", count_of(sum.imported, "run"),
                      with_separators(sum.present), with_separators(sum.refused), others,
                      duration_in_words(importer.taken()),
                      pace_in_words(sum.imported + sum.present, 0, importer.taken())));
  }
  if (!done) return fail(done.error());
  if (importer.cut_off()) {
    complain(
        "the export is cut off before its last line: what came is here, but not where the recorders stand; import "
        "the whole of it");
    return kExitOther;
  }
  if (importer.read_nothing() && sum.refused == 0) {
    complain("standard input is empty: did export fail? nothing is imported");
    return kExitOther;
  }
  return sum.refused == 0 ? kExitDone : kExitOther;
}

Handler declare_import(Flags) {
  return [](const Invocation& invocation) { return import_from_input(invocation.context()); };
}

}  // namespace

extern const Command kImportCommand = {
    "import", "Import what export wrote, from standard input", declare_import,
    "Existing rows never change: an import may be repeated, also after an interruption. A line that is refused is "
    "named, all others are imported, and the exit status is 1. --json prints each line's outcome.\n"
    "\n  run-recorder --control /run/old/control.sock export | run-recorder import"};

}  // namespace run_recorder
