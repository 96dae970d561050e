#include "cli/move.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "cli/event_line.h"
#include "cli/line_reader.h"
#include "cli/progress.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

constexpr std::size_t kLongestLine = 255 << 20;  // what the daemon takes in one request
constexpr std::size_t kBytesAtOnce = 512 << 10;
constexpr int kRunsAtOnce = 200;

struct Sum {
  std::uint64_t added = 0, same = 0, left = 0;
};

// Runs on their way to the daemon, several in one request.
class Importer {
 public:
  explicit Importer(const Looking& looking) : looking_(looking) {}

  Result<void> add(std::string_view line) {
    runs_ += runs_.empty() ? "" : ",";
    runs_ += line;
    if (++count_ < kRunsAtOnce && runs_.size() < kBytesAtOnce) return {};
    return send();
  }

  Result<void> send() {
    if (count_ == 0) return {};
    const Result<ControlAnswer> answer = looking_.client.post("/v1/import", "{\"runs\":[" + runs_ + "]}");
    runs_.clear();
    count_ = 0;
    if (!answer) return answer.error();
    const JsonObject report(answer->body);
    sum_.added += static_cast<std::uint64_t>(report.integer("added").value_or(0));
    sum_.same += static_cast<std::uint64_t>(report.integer("same").value_or(0));
    for (const std::string_view item : report.elements("left")) {
      const JsonObject one(item);
      ++sum_.left;
      progress_.clear();
      complain(fmt::format("run {}: {}", printable(one.text("run_id")), printable(one.text("reason"))));
    }
    progress_.show(
        fmt::format("{} imported, {} were there", count_of(sum_.added, "run"), with_separators(sum_.same)));
    return {};
  }

  const Sum& sum() const { return sum_; }
  void finish_progress() { progress_.clear(); }

 private:
  const Looking& looking_;
  std::string runs_;
  int count_ = 0;
  Sum sum_;
  Progress progress_;
};

// Every line up to the end of standard input; what is wrong with a line names it.
Result<void> read_lines(Importer& importer) {
  LineReader reader(STDIN_FILENO, kLongestLine);
  while (!reader.ended()) {
    const auto line = reader.next();
    if (!line) {
      if (const auto read = reader.read(); !read) return read.error();
      continue;
    }
    if (line->too_long) {
      return Error{ErrorKind::kInvalid, fmt::format("line {} is longer than a request may be", line->number)};
    }
    if (line->text.find_first_not_of(" \t\r") == std::string::npos) continue;
    const JsonScan scan = scan_json(line->text, 600);
    if (scan.problem != JsonProblem::kNone || scan.type != JsonType::kObject) {
      return Error{ErrorKind::kInvalid, fmt::format("line {} is no JSON object{}{}", line->number,
                                                    scan.message.empty() ? "" : ": ", scan.message)};
    }
    if (const auto added = importer.add(line->text); !added) return added;
  }
  return importer.send();
}

}  // namespace

int export_runs(const Looking& looking) {
  Progress progress;
  std::uint64_t runs = 0;
  const Result<Listed> listed =
      list_pages(looking.client, Target("/v1/export"), "runs", UINT64_MAX, [&](const auto& items) {
        print_json_lines(items);
        runs += items.size();
        progress.show(count_of(runs, "run") + " exported");
      });
  progress.clear();
  if (!listed) return fail(listed.error());
  hint_pending(listed->pending);
  return kExitDone;
}

int import_runs_from_input(const Looking& looking) {
  Importer importer(looking);
  const Result<void> done = read_lines(importer);
  importer.finish_progress();
  const Sum& sum = importer.sum();
  if (looking.json) {
    EventLine line;
    line.number("added", static_cast<std::int64_t>(sum.added)).number("same", static_cast<std::int64_t>(sum.same));
    print_json(line.number("left", static_cast<std::int64_t>(sum.left)).str() + "\n");
  } else {
    print(fmt::format("{} imported; {} there already, {} left out\n", count_of(sum.added, "run"),
                      with_separators(sum.same), with_separators(sum.left)));
  }
  if (!done) return fail(done.error());
  return sum.left == 0 ? kExitDone : kExitOther;
}

}  // namespace run_recorder
