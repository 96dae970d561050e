// Which process `emit` names as the worker where nobody named one: the nearest of its callers that will still be
// there when the command line that sent the event is over. A process that lives too long only delays a finding; one
// that ends at once makes a false one. One thread.
#pragma once

#include <sys/types.h>

#include <optional>
#include <span>
#include <string>
#include <vector>

namespace run_recorder {

// What /proc tells of one of them.
struct Caller {
  pid_t pid = 0;
  std::vector<std::string> arguments;  // with the program's own name, as it was called
  std::string name;                    // of the executed file, at most 15 bytes (comm)
  std::string executable;              // its path; empty where this user may not see it
  bool ignores_sigint = false;
  bool ignores_sigquit = false;
};

// The process to name, from the parent upwards, up to process 1. Passed over are shells of one command (sh -c), what
// a shell has forked for a subshell or a pipeline, and programs that run one command (timeout, xargs, sudo). Where a
// shell forked the caller to run in the background, its script may end first: then it is who called the script, if
// there is anybody. Nothing for process 1, an orphan, or a command that came over ssh. Pure.
std::optional<pid_t> lasting_caller(std::span<const Caller> callers);

// The callers of this process as far as they can be seen; nothing where /proc shows another PID namespace.
std::vector<Caller> read_callers();

}  // namespace run_recorder
