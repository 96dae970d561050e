#include "cli/argument_walk.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "cli/command.h"

namespace run_recorder {
namespace {

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

// Its own flag, or one of all commands.
const CLI::Option* find_flag(const CLI::App* app, const std::string& name) {
  for (; app != nullptr; app = app->get_parent()) {
    if (const CLI::Option* option = app->get_option_no_throw(name)) return option;
  }
  return nullptr;
}

}  // namespace

ArgumentWalk walk_arguments(const CLI::App& app, const std::vector<std::string>& words) {
  ArgumentWalk walk;
  walk.app = &app;
  std::size_t at = 0;
  for (; at < words.size() && words[at] != "--"; ++at) {
    const std::string& word = words[at];
    Argument argument;
    argument.app = walk.app;
    argument.name = word;
    if (word.size() > 1 && word.front() == '-') {
      const std::size_t equals = word.find('=');
      argument.kind = Argument::Kind::kFlag;
      argument.name = word.substr(0, equals);
      argument.option = find_flag(walk.app, argument.name);
      argument.of_configuration = argument.option == nullptr && is_config_flag(argument.name);
      argument.takes_value =
          argument.of_configuration || (argument.option != nullptr && argument.option->get_items_expected_min() > 0);
      argument.has_inline_value = equals != std::string::npos;
      const bool takes_next =
          argument.takes_value && !argument.has_inline_value && at + 1 < words.size() && words[at + 1] != "--";
      argument.has_value = argument.has_inline_value || takes_next;
      if (argument.has_inline_value) argument.value = word.substr(equals + 1);
      if (takes_next) argument.value = words[++at];
    } else if (const CLI::App* command = find_command(*walk.app, word)) {
      argument.kind = Argument::Kind::kCommand;
      argument.app = walk.app = command;
      walk.wraps = wraps_command(*command);
    } else if (walk.wraps) {
      break;
    }
    walk.arguments.push_back(std::move(argument));
  }
  walk.own_words = walk.wraps ? at : words.size();
  if (!walk.wraps || at >= words.size()) return walk;
  const std::size_t begin = words[at] == "--" ? at + 1 : at;
  walk.wrapped.assign(words.begin() + static_cast<std::ptrdiff_t>(begin), words.end());
  return walk;
}

std::vector<std::string> known_flags(const CLI::App& app) {
  std::vector<std::string> flags;
  for (const CLI::App* one = &app; one != nullptr; one = one->get_parent()) {
    for (const CLI::Option* option : one->get_options()) {
      for (const std::string& name : option->get_lnames()) {
        const std::string flag = "--" + name;
        if (std::ranges::count(flags, flag) == 0) flags.push_back(flag);
      }
    }
  }
  flags.emplace_back("--config");
  for (const ConfigKey& key : config_keys()) flags.push_back(key.flag());
  return flags;
}

bool wraps_command(const CLI::App& app) {
  return std::ranges::any_of(
      commands(), [&](const Command* command) { return command->wraps_command && command->name == app.get_name(); });
}

const CLI::App* find_command(const CLI::App& app, const std::string& name) {
  const auto all = commands_of(app);
  const auto found = std::ranges::find_if(all, [&](const CLI::App* one) { return one->get_name() == name; });
  return found == all.end() ? nullptr : *found;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* one : commands_of(app)) names.push_back(one->get_name());
  return names;
}

std::string command_words(const CLI::App& app) {
  if (app.get_parent() == nullptr) return {};
  const std::string before = command_words(*app.get_parent());
  return before.empty() ? app.get_name() : before + " " + app.get_name();
}

}  // namespace run_recorder
