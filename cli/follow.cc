#include "cli/follow.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <utility>

#include "cli/run_view.h"
#include "cli/table.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

// Runs still active that fell off the newest page, asked for one by one.
constexpr std::size_t kMaxTracked = 200;

bool is_active(std::string_view status) {
  return status == "running" || status == "queued";
}

struct SeenRun {
  std::string status;
  bool on_page = false;
};

class Follower {
 public:
  Follower(const Context& context, const RunQuery& query) : context_(context), query_(query) {}

  // The rows that are new or changed since the last call, oldest first, as the daemon's texts.
  Result<std::vector<std::string>> changes() {
    std::vector<std::string> changed;
    for (auto& [run_id, run] : seen_) run.on_page = false;
    const auto take = [&](const std::vector<std::string_view>& items) {
      for (const std::string_view item : items) note(item, changed);
    };
    const Result<Listed> listed =
        list_pages(context_.client, query_.target(), "runs", query_.limit, take, kFollowedPages);
    if (!listed) return listed.error();
    if (!std::exchange(has_listed_, true) && !listed->cut_at.empty()) hint_more(*listed, "run");
    std::reverse(changed.begin(), changed.end());
    if (const Result<void> asked = ask_for_missing(changed); !asked) return asked.error();
    return changed;
  }

 private:
  void note(std::string_view item, std::vector<std::string>& changed) {
    const JsonObject run(item);
    const auto [at, inserted] = seen_.try_emplace(run.text("run_id"));
    const std::string status = run.text("status");
    if (inserted || at->second.status != status) changed.emplace_back(item);
    at->second = {status, true};
  }

  // With a filter by status a run that left it is none of ours any more.
  Result<void> ask_for_missing(std::vector<std::string>& changed) {
    std::vector<std::string> active;
    for (auto run = seen_.begin(); run != seen_.end();) {
      const bool keep = run->second.on_page || (query_.statuses.empty() && is_active(run->second.status));
      if (keep && !run->second.on_page && active.size() < kMaxTracked) active.push_back(run->first);
      run = keep ? std::next(run) : seen_.erase(run);
    }
    for (const std::string& run_id : active) {
      const Result<ControlAnswer> answer = context_.client.get("/v1/runs/" + percent_encoded(run_id));
      if (!answer && answer.error().kind == ErrorKind::kUnavailable) return answer.error();
      if (answer) note(answer->body, changed);
    }
    return {};
  }

  const Context& context_;
  const RunQuery& query_;
  std::map<std::string, SeenRun> seen_;
  bool has_listed_ = false;
};

}  // namespace

int follow_runs(const Context& context, const RunQuery& query, std::chrono::milliseconds interval,
                const RunLayout& layout) {
  Follower follower(context, query);
  const Terminal terminal = terminal_of(STDOUT_FILENO);
  RunView view(layout, terminal, now_utc());
  Table table(view.columns(), terminal);
  bool away = false;
  for (bool first = true;; first = false) {
    const Result<std::vector<std::string>> changed = follower.changes();
    if (!changed && (first || changed.error().kind != ErrorKind::kUnavailable)) return fail(changed.error());
    // Said once, not at every try.
    if (!changed && !std::exchange(away, true)) complain(changed.error().message + "; waiting for it");
    if (changed) {
      away = false;
      if (context.json) {
        print_json_lines({changed->begin(), changed->end()});
      } else {
        view.set_now(now_utc());
        for (const std::string& run : *changed) view.include(JsonObject(run));
        for (const std::string& run : *changed) table.add(view.cells(JsonObject(run)));
        if (!table.empty()) print(table.render());
      }
    }
    pause_while_read(interval);
  }
}

}  // namespace run_recorder
