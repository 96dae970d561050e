// Other programs that the tool runs for purposes of its own, such as systemctl and run-recorderd: to their end, or
// beside it; they are ended where the tool ends before them. (The command that `exec` wraps is a Child.) One thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace run_recorder {

struct ProgramCall {
  std::vector<std::string> words;  // the program, looked for in PATH, and its arguments
  std::vector<std::pair<std::string, std::string>> environment = {};  // in addition to ours
  // Descriptors; -1: ours.
  int input = -1;
  int output = -1;
  int errors = -1;

  // As a person would type it, without what may be a password.
  std::string text() const;
};

// One that was started, and is waited for: its end is too.
class Program {
 public:
  static Result<Program> start(const ProgramCall& call);
  Program(Program&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  Program& operator=(Program&&) = delete;
  ~Program();  // ends it (SIGTERM) where nobody waited for it

  void send(int signal) const;
  bool has_ended();
  // Its exit status as a shell says it: 128 and the signal where one ended it, 127 where there is no such program.
  int wait();

 private:
  explicit Program(pid_t pid) : pid_(pid) {}
  pid_t pid_ = -1;  // -1: it was waited for
  int status_ = 0;
};

struct ProgramOutput {
  int status = 0;
  std::string text;  // of standard output and standard error
};
// To its end, with what it wrote.
Result<ProgramOutput> output_of(ProgramCall call);
// The same with what it wrote to standard output only; its standard error is ours.
Result<ProgramOutput> answer_of(ProgramCall call);
// To its end, before the eyes of whoever looks at ours.
Result<int> run_program(const ProgramCall& call);

// run-recorderd: the one beside this program, else as PATH has it.
std::string daemon_program();
// The settings of these flags as environment variables: as flags, their passwords would be seen in the process list.
std::vector<std::pair<std::string, std::string>> as_environment(
    const std::vector<std::pair<std::string, std::string>>& config_flags);

}  // namespace run_recorder
