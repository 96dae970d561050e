#include "cli/completion.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <map>

#include "base/ascii.h"
#include "cli/argument_walk.h"
#include "cli/run_view.h"
#include "cli/terminal.h"
#include "run/status.h"

namespace run_recorder {
namespace {

constexpr std::string_view kAsked = "--complete";
constexpr std::chrono::seconds kCompletionPatience{1};
constexpr std::uint64_t kAskedRuns = 500;
constexpr std::uint64_t kAskedOthers = 100;

struct Candidate {
  std::string word;
  std::string meaning = {};
};
using Candidates = std::vector<Candidate>;

Candidates of_words(const std::vector<std::string>& words) {
  Candidates all;
  for (const std::string& word : words) all.push_back({word});
  return all;
}

// The daemon as it is configured, whatever else is wrong.
ControlClient client_of(const Invocation& invocation) {
  const LoadedConfig config = invocation.load_for(kControlPathKey);
  return ControlClient(invocation.control_path(config ? *config : Config()), kCompletionPatience);
}

// The values of a member in what the daemon lists, each once, in the daemon's order. meaning: another member, or "".
Candidates asked(const Invocation& invocation, const std::string& route, std::string_view list, std::uint64_t limit,
                 std::string_view key, std::string_view meaning) {
  Candidates all;
  const Result<Listed> listed =
      list_pages(client_of(invocation), Target(route), list, limit, [&](const std::vector<std::string_view>& items) {
        for (const std::string_view item : items) {
          const JsonObject object(item);
          const std::string word = object.text(key);
          const bool known = std::ranges::any_of(all, [&](const Candidate& one) { return one.word == word; });
          if (!word.empty() && !known) all.push_back({word, meaning.empty() ? "" : object.text(meaning)});
        }
      });
  return listed ? all : Candidates();
}

Candidates runs(const Invocation& invocation, std::string_view key, std::string_view meaning = {}) {
  return asked(invocation, "/v1/runs", "runs", kAskedRuns, key, meaning);
}

Candidates queues(const Invocation& invocation) {
  Candidates all = runs(invocation, "queue");
  const LoadedConfig config = invocation.load_for(kControlPathKey);
  if (!config) return all;
  const auto configured = config->configured_queues();
  for (const auto& queue : configured) {
    if (std::ranges::none_of(all, [&](const Candidate& one) { return one.word == queue.first; })) {
      all.push_back({queue.first});
    }
  }
  return all;
}

Candidates processes() {
  Candidates all;
  std::error_code problem;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", problem)) {
    const std::string name = entry.path().filename().string();
    if (std::ranges::all_of(name, is_digit)) all.push_back({name});
  }
  return all;
}

Candidates statuses() {
  Candidates all;
  for (const std::string_view status : {"queued", "running", "completed", "failed", "cancelled", "stuck"}) {
    all.push_back({std::string(status)});
  }
  return all;
}

Candidates types() {
  return of_words({"run_queued", "run_started", "run_heartbeat", "run_completed", "run_failed", "run_lost"});
}

// Each also for the highest first.
Candidates sortings() {
  std::vector<std::string> names = run_field_names();
  for (const std::string& name : run_field_names()) names.push_back("-" + name);
  return of_words(names);
}

// One of the lines with which the shell completes by itself.
Candidates by_shell(std::string what) {
  return {{"", std::move(what)}};
}

using ValueSource = Candidates (*)(const Invocation&);
// By flag; all others have no words to offer.
const std::map<std::string, ValueSource, std::less<>>& flag_values() {
  static const std::map<std::string, ValueSource, std::less<>> values = {
      {"--council", [](const Invocation& by) { return runs(by, "council"); }},
      {"--name", [](const Invocation& by) { return runs(by, "council"); }},
      {"--queue", queues},
      {"--status", [](const Invocation&) { return statuses(); }},
      {"--type", [](const Invocation&) { return types(); }},
      {"--host", [](const Invocation& by) { return runs(by, "host"); }},
      {"--unit", [](const Invocation& by) { return runs(by, "unit"); }},
      {"--user", [](const Invocation& by) { return runs(by, "os_user"); }},
      {"--job", [](const Invocation& by) { return runs(by, "job_id"); }},
      {"--oban-job-id", [](const Invocation& by) { return runs(by, "oban_job_id"); }},
      {"--run-id", [](const Invocation& by) { return runs(by, "run_id", "council"); }},
      {"--parent", [](const Invocation& by) { return runs(by, "run_id", "council"); }},
      {"--parent-attempt-run-id", [](const Invocation& by) { return runs(by, "run_id", "council"); }},
      {"--pass",
       [](const Invocation& by) {
         return asked(by, "/v1/reconciliations", "reconciliations", kAskedOthers, "pass_id", "trigger");
       }},
      {"--undo",
       [](const Invocation& by) {
         return asked(by, "/v1/reconciliations", "reconciliations", kAskedOthers, "pass_id", "trigger");
       }},
      {"--by",
       [](const Invocation&) {
         return of_words({"started", "recorded"});
       }},
      {"--columns", [](const Invocation&) { return of_words(run_field_names()); }},
      {"--sort", [](const Invocation&) { return sortings(); }},
      {"--worker-pid", [](const Invocation&) { return processes(); }},
      {"--socket-allow-users", [](const Invocation&) { return by_shell("users"); }},
      {"--socket-allow-groups", [](const Invocation&) { return by_shell("groups"); }},
      {"--socket-group", [](const Invocation&) { return by_shell("groups"); }},
      {"--control-group", [](const Invocation&) { return by_shell("groups"); }},
      {"--spool-path", [](const Invocation&) { return by_shell("folders"); }},
      {"--log-dir", [](const Invocation&) { return by_shell("folders"); }},
      {"--config", [](const Invocation&) { return by_shell("files"); }},
      {"--socket", [](const Invocation&) { return by_shell("files"); }},
      {"--control", [](const Invocation&) { return by_shell("files"); }},
      {"--socket-path", [](const Invocation&) { return by_shell("files"); }},
      {"--control-path", [](const Invocation&) { return by_shell("files"); }},
      {"--database-password-file", [](const Invocation&) { return by_shell("files"); }}};
  return values;
}

Candidates values_of(const Invocation& invocation, const std::string& flag) {
  if (const auto known = flag_values().find(flag); known != flag_values().end()) return known->second(invocation);
  for (const ConfigKey& key : config_keys()) {
    if (key.flag() == flag) return of_words(key.choices());
  }
  return {};
}

// Of commands that take some.
Candidates operands_of(const CLI::App& app, const Invocation& invocation) {
  const std::string command = command_words(app);
  for (const std::string_view one : {"show", "events", "chain", "explain", "logs"}) {
    if (command == one) return runs(invocation, "run_id", "council");
  }
  if (command == "admin restore") return by_shell("files");
  if (command.starts_with("dead-letters ") && command != "dead-letters list") {
    return asked(invocation, "/v1/dead-letters", "dead_letters", kAskedOthers, "id", "run_id");
  }
  return {};
}

Candidates commands_in(const CLI::App& app) {
  Candidates all;
  for (const CLI::App* one : app.get_subcommands([](const CLI::App*) { return true; })) {
    all.push_back({one->get_name(), one->get_description()});
  }
  return all;
}

Candidates flags_at(const CLI::App& app) {
  Candidates all;
  for (const std::string& flag : known_flags(app)) {
    std::string meaning;
    for (const CLI::App* one = &app; one != nullptr && meaning.empty(); one = one->get_parent()) {
      if (const CLI::Option* option = one->get_option_no_throw(flag)) meaning = option->get_description();
    }
    for (const ConfigKey& key : config_keys()) {
      if (meaning.empty() && key.flag() == flag) meaning = key.doc;
    }
    all.push_back({flag, meaning});
  }
  return all;
}

// The commands behind `help`.
Candidates help_words(const CLI::App& root, const ArgumentWalk& walk) {
  const CLI::App* app = &root;
  for (const Argument& argument : walk.arguments) {
    if (argument.kind != Argument::Kind::kOperand) continue;
    app = find_command(*app, argument.name);
    if (app == nullptr) return {};
  }
  return commands_in(*app);
}

// Of a list by comma the part that is being typed: what stands before it stays, and is not offered again.
Candidates in_list(const Candidates& values, const std::string& typed) {
  const std::size_t comma = typed.rfind(',');
  if (comma == std::string::npos) return values;
  const std::string before = typed.substr(0, comma + 1);
  Candidates all;
  for (const Candidate& one : values) {
    if (("," + before).find("," + one.word + ",") == std::string::npos)
      all.push_back({before + one.word, one.meaning});
  }
  return all;
}

// Printed for shells, line by line. What begins with a dash is offered to whoever has typed one.
void offer(const Candidates& candidates, const std::string& typed) {
  std::string lines;
  const auto line = [](std::string text) {
    std::ranges::replace_if(text, is_control, ' ');
    return text;
  };
  for (const Candidate& one : candidates) {
    const bool is_word = std::ranges::none_of(one.word, is_control) && (!typed.empty() || !one.word.starts_with('-'));
    if (is_word && (one.word.empty() || one.word.starts_with(typed))) {
      lines += one.word + "\t" + line(one.meaning) + "\n";
    }
  }
  print(lines);
}

}  // namespace

bool is_completion(const std::vector<std::string>& arguments) {
  return !arguments.empty() && arguments.front() == kAsked;
}

int complete(const CLI::App& app, Invocation& invocation, std::vector<std::string> arguments) {
  arguments.erase(arguments.begin());
  const std::string typed = arguments.empty() ? std::string() : arguments.back();
  if (!arguments.empty()) arguments.pop_back();
  const ArgumentWalk walk = walk_arguments(app, arguments);
  // The daemon that the words name.
  for (const Argument& argument : walk.arguments) {
    if (argument.name == "--socket") invocation.socket = argument.value;
    if (argument.name == "--control") invocation.control = argument.value;
  }
  std::vector<std::string> own(arguments.begin(), arguments.begin() + static_cast<std::ptrdiff_t>(walk.own_words));
  const Argument* const last = walk.arguments.empty() ? nullptr : &walk.arguments.back();
  const bool wants_value = last != nullptr && last->takes_value && !last->has_value && walk.wrapped.empty() &&
                           walk.own_words == arguments.size();
  if (wants_value) own.pop_back();
  if (auto flags = take_config_flags(own)) invocation.config_flags = std::move(*flags);

  const std::size_t equals = typed.starts_with("--") ? typed.find('=') : std::string::npos;
  if (walk.wraps && walk.own_words < arguments.size()) {
    const std::size_t dashes = arguments[walk.own_words] == "--" ? 1 : 0;
    offer(by_shell(fmt::format("command {}", walk.own_words + dashes)), "");
  } else if (wants_value) {
    offer(in_list(values_of(invocation, last->name), typed), typed);
  } else if (equals != std::string::npos) {
    Candidates values = in_list(values_of(invocation, typed.substr(0, equals)), typed.substr(equals + 1));
    for (Candidate& one : values) {
      if (!one.word.empty()) one.word.insert(0, typed, 0, equals + 1);
    }
    offer(values, typed);
  } else if (typed.starts_with('-')) {
    offer(flags_at(*walk.app), typed);
  } else if (walk.wraps) {
    offer(by_shell(fmt::format("command {}", arguments.size())), "");
  } else if (walk.app->get_name() == "help") {
    offer(help_words(app, walk), typed);
  } else if (const Candidates commands = commands_in(*walk.app); !commands.empty()) {
    offer(commands, typed);
  } else {
    offer(operands_of(*walk.app, invocation), typed);
  }
  return kExitDone;
}

}  // namespace run_recorder
