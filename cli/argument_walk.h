// The words of a command line as the parser will read them: which is a flag, a value, a command, an operand, and
// where the command begins that `exec` runs. For mistakes in our own words, and for completion. Pure; one thread.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace run_recorder {

struct Argument {
  enum class Kind { kFlag, kCommand, kOperand };
  Kind kind = Kind::kOperand;
  std::string name;                     // of a flag without its "=…"; else the word
  const CLI::App* app = nullptr;        // the command that it belongs to; a command itself
  const CLI::Option* option = nullptr;  // of a flag; null where it is not known, or of the configuration
  bool of_configuration = false;        // a flag as run-recorderd has them
  bool takes_value = false;
  bool has_inline_value = false;  // "--flag=…"
  bool has_value = false;         // either way
  std::string value = {};

  bool is_unknown_flag() const { return kind == Kind::kFlag && option == nullptr && !of_configuration; }
};

struct ArgumentWalk {
  std::vector<Argument> arguments;
  const CLI::App* app = nullptr;  // the innermost command
  // Where the words of the command begin that is wrapped, without "--"; empty: there is none, or no command wraps
  // one.
  std::vector<std::string> wrapped;
  std::size_t own_words = 0;  // so many words stand before them and "--"
  bool wraps = false;         // such a command was named
};
// app: the tool, with all its commands declared.
ArgumentWalk walk_arguments(const CLI::App& app, const std::vector<std::string>& words);

// The flags that can stand at this place: the command's, those of all commands, the configuration's.
std::vector<std::string> known_flags(const CLI::App& app);
// exec is such a command.
bool wraps_command(const CLI::App& app);
const CLI::App* find_command(const CLI::App& app, const std::string& name);
std::vector<std::string> command_names(const CLI::App& app);
// "dead-letters retry"; empty: the tool itself.
std::string command_words(const CLI::App& app);

}  // namespace run_recorder
