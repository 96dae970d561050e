#include "cli/run_query.h"

#include <fmt/format.h>

#include <set>

#include "base/nearest_name.h"
#include "cli/json_object.h"
#include "cli/whole_id.h"

namespace run_recorder {
namespace {

// So many of the newest runs are asked for their names.
constexpr const char* kNamesAmong = "1000";

// For a parameter that is always a pattern: one without wildcards is meant as it is, as the user DOMAIN\name.
std::string as_pattern(const std::string& text) {
  if (is_pattern(text)) return text;
  std::string pattern;
  for (const char c : text) pattern += c == '\\' ? "\\\\" : std::string(1, c);
  return pattern;
}

void add_name(Target& target, const std::string& name) {
  target.add(is_pattern(name) ? "council_glob" : "council", name);
}

}  // namespace

void RunQuery::declare(Flags& flags) {
  flags.statuses("--status", statuses, Flags::Statuses::kAll,
                 "Only these: queued, running, completed, failed, cancelled, stuck; several by comma");
  flags.text("--council,--name", council, "Only runs of this name; * stands for any characters, ? for one", "NAME");
  flags.text("--host", host, "Only runs on this host; * and ? as in --name", "NAME");
  flags.text("--unit", unit, "Only runs in this systemd unit; * and ? as in --name", "NAME");
  flags.text("--user", user, "Only runs as this user; * and ? as in --name", "NAME");
  flags.text("--job", job, "Only runs of this job, by its id in its queue", "ID");
  flags.text("--queue", queue, "Only runs of this queue's jobs; the queue default includes jobs that name no queue",
             "NAME");
  flags.integer("--oban-job-id", oban_job_id, "The same as --job, for an integer", "N");
  flags.text("--pass", pass, "Only runs that this pass marked stuck", "PASS");
  flags.age("--longer-than", longer_than, "Only runs that took longer than this, or are running for longer");
  flags.text("--error", error, "Only runs whose error has this text, in small or capital letters", "TEXT");
  flags.integer("--exit-code", exit_status, "Only runs of which exec recorded this exit status", "N", 0, 255);
  flags.time("--since", since,
             "Only runs started since then: \"2026-01-02 03:04\", 2026-01-02, 03:04, yesterday, 1h, 1w, or "
             "2026-01-02T03:04:05Z");
  flags.time("--until", until, "Only runs started before then; a time as in --since");
  flags.choice("--by", by, {"started", "recorded"}, "The time of the order, --since and --until");
}

Result<void> RunQuery::complete(const ControlClient& client) {
  if (!pass) return {};
  Result<std::string> whole = whole_id(client, Ids::kPasses, *pass);
  if (whole) {
    pass = std::move(*whole);
  } else if (whole.error().kind != ErrorKind::kNotFound) {
    return whole.error();
  }
  return {};
}

Target RunQuery::target() const {
  Target target("/v1/runs");
  std::string joined;
  for (const std::string& status : statuses) joined += (joined.empty() ? "" : ",") + status;
  if (!joined.empty()) target.add("status", joined);
  if (council) add_name(target, *council);
  if (host) target.add("host", as_pattern(*host));
  if (unit) target.add("unit", as_pattern(*unit));
  if (user) target.add("user", as_pattern(*user));
  if (job) target.add("job", *job);
  if (queue) target.add("queue", *queue);
  if (oban_job_id) target.add("oban_job_id", std::to_string(*oban_job_id));
  if (pass) target.add("pass", *pass);
  if (longer_than) target.add("longer_than", *longer_than);
  if (error) target.add("error", *error);
  if (exit_status) target.add("exit_status", std::to_string(*exit_status));
  if (since) target.add("since", format_rfc3339(*since));
  if (until) target.add("until", format_rfc3339(*until));
  target.add("by", by);
  return target;
}

bool is_pattern(std::string_view name) {
  return name.find_first_of("*?") != std::string_view::npos;
}

std::string nobody_of_that_name(const ControlClient& client, const std::string& name) {
  Target one("/v1/runs");
  add_name(one, name);
  // Of very many runs nobody waits to be told why.
  const auto ignore = [](const std::vector<std::string_view>&) {};
  const Result<Listed> any = list_pages(client, one, "runs", 1, ignore, {.at_most = std::chrono::seconds{2}});
  if (!any || any->items > 0 || !any->cut_at.empty()) return {};
  if (is_pattern(name)) return fmt::format("no recorded run's name fits \"{}\"", name);
  std::set<std::string> names;
  const Result<ControlAnswer> newest = client.get(Target("/v1/runs").add("limit", kNamesAmong).str());
  if (newest) {
    const JsonObject page(newest->body);
    for (const std::string_view run : page.elements("runs")) names.insert(JsonObject(run).text("council"));
  }
  const std::string near = nearest_name(name, std::vector<std::string>(names.begin(), names.end()));
  return fmt::format("no run named \"{}\" is recorded{}", name,
                     near.empty() ? std::string() : fmt::format("; did you mean \"{}\"?", near));
}

}  // namespace run_recorder
