// What the commands about one run share. One thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "cli/command.h"
#include "cli/json_object.h"
#include "cli/terminal.h"

namespace run_recorder {

// "/v1/runs/ID", with what follows: "/events".
std::string run_path(const std::string& run_id, std::string_view what = "");

// Asks about a run, which may be named by the beginning of its id, and prints the answer, as JSON where that is
// wanted, else in words. what: as in run_path(). Returns the exit status.
int print_answer(const Context& context, const std::string& run_id, std::string_view what,
                 std::string (*in_words)(const JsonObject& answer, const Terminal& terminal));

// Of a command that takes nothing but a run.
template <int (*show)(const Context&, const std::string&)>
Handler declare_about_run(Flags flags) {
  const auto run_id = std::make_shared<std::string>();
  flags.operand("RUN", *run_id, "The run's id, or its beginning");
  return [run_id](const Invocation& invocation) { return show(invocation.context(), *run_id); };
}

}  // namespace run_recorder
