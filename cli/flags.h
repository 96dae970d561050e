// The flags and operands of one command, as the parser will read them. A value that is named here must live until the
// command has run: a command's handler owns it. The one place, with flags.cc, command_line.cc, argument_walk.cc and
// completion.cc, that knows the parser. Flags keep the order in which they are declared, in --help and in the manual.
// One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"

namespace CLI {
class App;
}

namespace run_recorder {

// As --limit of what is listed; all of it.
constexpr std::uint64_t kNoLimit = UINT64_MAX;

// `invalid value "3x": must be …`, as mistakes in the configuration read.
std::string invalid_value(std::string_view value, std::string_view allowed);

class Flags {
 public:
  // The parser must outlive this; copies are the same flags.
  explicit Flags(CLI::App& app) : app_(&app) {}

  struct Bounds {
    std::uint64_t lowest = 0, highest = 0;
  };
  enum class Default { kHidden, kShown };

  // type is what --help calls the value: "NAME".
  void text(const char* flag, std::string& value, const char* help, const char* type);
  void text(const char* flag, std::optional<std::string>& value, const char* help, const char* type);
  // A number of any sign; the daemon judges what is allowed.
  void integer(const char* flag, std::optional<std::int64_t>& value, const char* help, const char* type);
  void integer(const char* flag, std::optional<std::int64_t>& value, const char* help, const char* type,
               std::int64_t lowest, std::int64_t highest);
  void number(const char* flag, std::uint64_t& value, const char* help);
  void number(const char* flag, std::uint64_t& value, const char* help, Bounds bounds,
              Default shown = Default::kShown);
  // "16MiB"; the default is shown.
  void size(const char* flag, std::uint64_t& value, const char* help, Bounds bounds);
  void on(const char* flag, bool& value, const char* help);
  // Not together with another flag, which is declared already.
  void on_without(const char* flag, bool& value, const char* help, const char* other);
  // "30s", lowest or more; the default is shown.
  void duration(const char* flag, std::chrono::milliseconds& value, const char* help,
                std::chrono::milliseconds lowest = std::chrono::milliseconds(0));
  // Above 0; there is no default.
  void duration(const char* flag, std::optional<std::chrono::milliseconds>& value, const char* help);
  // Between two looks at the daemon.
  void interval(std::chrono::milliseconds& value, const char* help);
  // "90d", above 0; as it was written.
  void age(const char* flag, std::optional<std::string>& value, const char* help);
  // A time as people write it, or a duration before now: see local_time.h.
  void time(const char* flag, std::optional<Timestamp>& value, const char* help);
  // One of these words; the default is shown.
  void choice(const char* flag, std::string& value, const std::vector<std::string>& choices, const char* help);
  // Several by comma.
  enum class Statuses { kAll, kFinished };
  void statuses(const char* flag, std::vector<std::string>& value, Statuses allowed, const char* help);
  // --limit, and --all, which sets limit to kNoLimit. what: "runs".
  void limit(std::uint64_t& limit, const std::string& what);

  // Operands, required: one; or one and more, up to most where it is above 0.
  void operand(const char* name, std::string& value, const char* help);
  void operands(const char* name, std::vector<std::string>& values, const char* help, int most = 0);

  // None, or any number.
  void any_operands(const char* name, std::vector<std::string>& values, const char* help);

  // Once it is parsed: whether that flag was given.
  bool given(const char* flag) const;

 private:
  CLI::App* app_;
};

}  // namespace run_recorder
