#include "cli/command_line.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <clocale>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <optional>

#include "base/nearest_name.h"
#include "base/url.h"
#include "cli/argument_walk.h"
#include "cli/command.h"
#include "cli/completion.h"
#include "cli/terminal.h"

namespace run_recorder {
namespace {

constexpr const char* kHint = "\nRun with --help for what is allowed.";

// The parser never sees the command that exec runs.
class Formatter : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App* app, std::string name) const override {
    if (!wraps_command(*app)) return CLI::Formatter::make_usage(app, std::move(name));
    return fmt::format("Usage: run-recorder {} [OPTIONS] [--] COMMAND [ARGUMENT...]\n", app->get_name());
  }
};

// chosen becomes the handler of the command that is named.
void declare(CLI::App& parent, const Command& command, Handler& chosen) {
  CLI::App* app = parent.add_subcommand(command.name, command.help);
  for (const Command& each : command.commands) declare(*app, each, chosen);
  // What is declared before has the footer of the tool.
  if (*command.more != '\0') app->footer(command.more);
  if (command.declare == nullptr) {
    app->require_subcommand(1);
  } else {
    app->callback([&chosen, handler = command.declare(Flags(*app))] { chosen = handler; });
  }
}

// What --help and --version ask for is answered whatever else is wrong.
bool asks_for_help(const ArgumentWalk& walk) {
  return std::ranges::any_of(walk.arguments, [](const Argument& argument) {
    return argument.name == "--help" || argument.name == "-h" || argument.name == "--version";
  });
}

// A command of the tool, or of a command that has some, as spool does.
std::optional<std::string> problem_of_commands(const ArgumentWalk& walk, bool one_is_needed) {
  const std::vector<std::string> names = command_names(*walk.app);
  if (names.empty()) return std::nullopt;
  const std::string before = command_words(*walk.app);
  const auto unknown = std::ranges::find_if(walk.arguments, [&](const Argument& argument) {
    return argument.kind == Argument::Kind::kOperand && argument.app == walk.app;
  });
  const std::string space = before.empty() ? "" : " ";
  if (unknown != walk.arguments.end()) {
    const std::string nearest = nearest_name(unknown->name, names);
    return fmt::format("unknown command {}{}{}{}", before, space, argument_for_message(unknown->name),
                       nearest.empty() ? "" : fmt::format("; did you mean {}{}{}?", before, space, nearest));
  }
  if (!one_is_needed) return std::nullopt;
  if (before.empty()) return "a command is needed";
  return fmt::format("{} needs one of: {}", before, fmt::join(names, ", "));
}

std::optional<std::string> problem_of_flags(const ArgumentWalk& walk) {
  std::vector<const CLI::Option*> seen;
  for (const Argument& argument : walk.arguments) {
    if (argument.kind != Argument::Kind::kFlag) continue;
    if (argument.is_unknown_flag()) {
      return "unknown argument " + argument_for_message(argument.name) +
             did_you_mean(argument.name, known_flags(*argument.app));
    }
    if (argument.option == nullptr) continue;  // take_config_flags() judges those of the configuration
    if (!argument.takes_value && argument.has_inline_value) return argument.name + ": takes no value";
    if (argument.takes_value && !argument.has_value) return argument.name + ": a value is missing";
    const bool once = argument.takes_value && argument.option->get_items_expected_max() == 1;
    if (once && std::ranges::count(seen, argument.option) > 0) return argument.name + ": given twice";
    seen.push_back(argument.option);
  }
  return std::nullopt;
}

// Mistakes that the parser has no good words for.
std::optional<std::string> problem_of(const ArgumentWalk& walk) {
  const bool help = asks_for_help(walk);
  // What a flag that is not known may have as its value is no command.
  const std::optional<std::string> of_flags = help ? std::nullopt : problem_of_flags(walk);
  if (of_flags) return of_flags;
  return problem_of_commands(walk, !help);
}

// Before any flag is read: times of day are what the zone makes of them. A command that is run gets the zone it would
// have had.
void take_zone(const ArgumentWalk& walk) {
  const auto is_utc = [](const Argument& argument) { return argument.name == "--utc"; };
  if (walk.wraps || std::ranges::none_of(walk.arguments, is_utc)) return;
  ::setenv("TZ", "UTC0", 1);
  ::tzset();
}

// False, with the exit status set: there is nothing to run, and why is said.
bool parse(CLI::App& app, std::vector<std::string> arguments, int& status) {
  const std::vector<std::string> given = arguments;
  status = kExitUsage;
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::Success& success) {
    app.exit(success);
    status = kExitDone;
    return false;
  } catch (const CLI::ExtrasError&) {
    const std::vector<std::string> unknown = app.remaining(true);
    complain("unknown argument " + (unknown.empty() ? "" : argument_for_message(unknown.front())) + kHint);
    return false;
  } catch (const CLI::ParseError& error) {
    complain(without_arguments_passwords(error.what(), given) + kHint);
    return false;
  }
  return true;
}

void declare_tool(CLI::App& app, Invocation& invocation, Handler& chosen) {
  app.set_version_flag("--version", "run-recorder " RR_VERSION);
  app.formatter(std::make_shared<Formatter>());
  app.require_subcommand(1);
  app.fallthrough();
  app.add_option("--socket", invocation.socket, "The daemon's event socket")->type_name("PATH");
  app.add_option("--control", invocation.control, "The daemon's control socket")->type_name("PATH");
  app.add_flag_callback(
      "--utc", [] {}, "Times of day in UTC, instead of the local time zone; --json has UTC always");
  app.add_flag("--json", invocation.json, "Print the daemon's JSON objects, one a line, instead of tables");
  app.footer(
      "--config FILE and --section-key VALUE work as with run-recorderd. Exit status: 0 done, 2 usage, 78 "
      "configuration, 69 the daemon (or its database) is away, 1 anything else.");
  for (const Command* command : commands()) declare(app, *command, chosen);
}

}  // namespace

int run_command_line(std::vector<std::string> arguments) {
#ifndef RR_STATIC_TOOL  // the host's locales may be another glibc's
  // For the widths of characters; words and numbers stay as they are everywhere.
  std::setlocale(LC_CTYPE, "C.UTF-8");
#endif
  Invocation invocation;
  invocation.environment = environment_of(environ);
  CLI::App app("Send events to run-recorderd, wrap commands, query runs, start a reconciliation.", "run-recorder");
  Handler chosen;
  declare_tool(app, invocation, chosen);
  if (is_completion(arguments)) return complete(app, invocation, std::move(arguments));

  ArgumentWalk walk = walk_arguments(app, arguments);
  if (const std::optional<std::string> problem = problem_of(walk)) {
    complain(*problem + kHint);
    return kExitUsage;
  }
  take_zone(walk);
  arguments.resize(walk.own_words);
  invocation.command = std::move(walk.wrapped);
  auto flags = take_config_flags(arguments);
  if (!flags) throw StartError(kExitUsage, flags.error().message);
  invocation.config_flags = std::move(*flags);
  int status = kExitUsage;
  if (!parse(app, std::move(arguments), status)) return status;
  return chosen ? chosen(invocation) : kExitUsage;
}

}  // namespace run_recorder
