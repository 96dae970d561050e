#include "cli/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <clocale>
#include <cstdlib>
#include <ctime>
#include <memory>

#include "base/url.h"
#include "cli/command.h"
#include "cli/terminal.h"

namespace run_recorder {
namespace {

constexpr const char* kHint = "\nRun with --help for what is allowed.";

bool wraps_command(std::string_view name) {
  return std::ranges::any_of(commands(),
                             [&](const Command* command) { return command->wraps_command && command->name == name; });
}

// The parser never sees what stands behind "--".
class Formatter : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App* app, std::string name) const override {
    if (!wraps_command(app->get_name())) return CLI::Formatter::make_usage(app, std::move(name));
    return fmt::format("Usage: run-recorder {} [OPTIONS] -- COMMAND [ARGUMENT...]\n", app->get_name());
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

// Everything behind the first "--" of a command that wraps one is that command, whatever it looks like.
std::vector<std::string> take_command(std::vector<std::string>& arguments) {
  const auto dashes = std::find(arguments.begin(), arguments.end(), "--");
  if (dashes == arguments.end() || std::none_of(arguments.begin(), dashes, wraps_command)) return {};
  std::vector<std::string> command(dashes + 1, arguments.end());
  arguments.erase(dashes, arguments.end());
  return command;
}

// Why no command was found among the arguments: what follows a flag that is not known may be its value.
std::string missing_command(const CLI::App& app, const std::vector<std::string>& given) {
  for (auto one = given.begin(); one != given.end(); ++one) {
    if (!one->starts_with('-')) return "unknown command " + argument_for_message(*one);
    const std::size_t equals = one->find('=');
    const CLI::Option* const option = app.get_option_no_throw(one->substr(0, equals));
    if (option == nullptr) return "unknown argument " + argument_for_message(*one);
    const bool takes_next = equals == std::string::npos && option->get_items_expected_min() > 0;
    if (takes_next && std::next(one) != given.end()) ++one;
  }
  return "a command is needed";
}

// Of a command that takes one of its own, as spool does.
std::string missing_action(const CLI::App& command, const CLI::RequiredError& error) {
  const auto actions = command.get_subcommands([](const CLI::App*) { return true; });
  if (actions.empty() || !command.get_subcommands().empty()) return error.what();
  std::string names;
  for (const CLI::App* action : actions) names += (names.empty() ? "" : ", ") + action->get_name();
  return fmt::format("{} needs one of: {}", command.get_name(), names);
}

// Before any flag is read: times of day are what the zone makes of them. A command that is run gets the zone it would
// have had.
void take_zone(const std::vector<std::string>& arguments) {
  const auto command = std::ranges::find_if(arguments, [](const std::string& name) {
    return std::ranges::any_of(commands(), [&](const Command* each) { return each->name == name; });
  });
  const bool wraps = command != arguments.end() && wraps_command(*command);
  if (wraps || std::ranges::count(arguments, "--utc") == 0) return;
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
  } catch (const CLI::RequiredError& error) {
    complain((app.get_subcommands().empty() ? missing_command(app, given)
                                            : missing_action(*app.get_subcommands().back(), error)) +
             kHint);
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

}  // namespace

int run_command_line(std::vector<std::string> arguments) {
  // For the widths of characters; words and numbers stay as they are everywhere.
  std::setlocale(LC_CTYPE, "C.UTF-8");
  Invocation invocation;
  invocation.environment = environment_of(environ);
  invocation.command = take_command(arguments);
  take_zone(arguments);
  auto flags = take_config_flags(arguments);
  if (!flags) throw StartError(kExitUsage, flags.error().message);
  invocation.config_flags = std::move(*flags);

  CLI::App app("Send events to run-recorderd, wrap commands, query runs, start a reconciliation.", "run-recorder");
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
  Handler chosen;
  for (const Command* command : commands()) declare(app, *command, chosen);
  int status = kExitUsage;
  if (!parse(app, std::move(arguments), status)) return status;
  return chosen ? chosen(invocation) : kExitUsage;
}

}  // namespace run_recorder
