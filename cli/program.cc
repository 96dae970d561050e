#include "cli/program.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "base/ascii.h"
#include "base/file.h"
#include "base/url.h"
#include "cli/child.h"

namespace run_recorder {
namespace {

void take_descriptor(int from, int to) {
  if (from >= 0) ::dup2(from, to);
}

// As exec(2) would: a signal that comes before it must not end in a handler of ours, which is gone then.
void forget_handlers() {
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action = {};
    if (::sigaction(signal, nullptr, &action) != 0) continue;
    const bool is_handled =
        (action.sa_flags & SA_SIGINFO) != 0 || (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
    if (is_handled) ::signal(signal, SIG_DFL);
  }
}

[[noreturn]] void become_program(const ProgramCall& call, const sigset_t& mask) {
  forget_handlers();
  ::sigprocmask(SIG_SETMASK, &mask, nullptr);
  // Where this process is killed they go too: a daemon that is left behind would hold the spool.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  for (const auto& [name, value] : call.environment) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> arguments;
  arguments.reserve(call.words.size() + 1);
  for (const std::string& word : call.words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  take_descriptor(call.input, STDIN_FILENO);
  take_descriptor(call.output, STDOUT_FILENO);
  take_descriptor(call.errors, STDERR_FILENO);
  ::execvp(arguments[0], arguments.data());
  ::_exit(errno == ENOENT || errno == ENOTDIR ? kExitNotFound : kExitNotExecutable);
}

std::string read_to_end(int fd) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer, static_cast<std::size_t>(got));
  }
}

Result<ProgramOutput> take_output(ProgramCall call, bool errors_too) {
  Result<Pipe> pipe = make_pipe();
  if (!pipe) return pipe.error();
  call.output = pipe->writing.get();
  if (errors_too) call.errors = pipe->writing.get();
  Result<Program> program = Program::start(call);
  if (!program) return program.error();
  pipe->writing.reset();
  ProgramOutput output;
  output.text = read_to_end(pipe->reading.get());
  output.status = program->wait();
  return output;
}

}  // namespace

std::string ProgramCall::text() const {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + hide_passwords(word);
  return text;
}

Result<Program> Program::start(const ProgramCall& call) {
  sigset_t all, mask;
  ::sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, &mask);
  const pid_t pid = ::fork();
  if (pid == 0) become_program(call, mask);
  const int error = errno;
  ::sigprocmask(SIG_SETMASK, &mask, nullptr);
  errno = error;
  if (pid < 0) return system_error_of("fork");
  return Program(pid);
}

Program::~Program() {
  if (pid_ < 0) return;
  send(SIGTERM);
  wait();
}

void Program::send(int signal) const {
  if (pid_ > 0) ::kill(pid_, signal);
}

bool Program::has_ended() {
  if (pid_ < 0) return true;
  if (::waitpid(pid_, &status_, WNOHANG) != pid_) return false;
  pid_ = -1;
  return true;
}

int Program::wait() {
  while (pid_ > 0 && ::waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  constexpr int kBySignal = 128;
  return WIFSIGNALED(status_) ? kBySignal + WTERMSIG(status_) : WEXITSTATUS(status_);
}

Result<ProgramOutput> output_of(ProgramCall call) {
  return take_output(std::move(call), true);
}

Result<ProgramOutput> answer_of(ProgramCall call) {
  return take_output(std::move(call), false);
}

Result<int> run_program(const ProgramCall& call) {
  Result<Program> program = Program::start(call);
  if (!program) return program.error();
  return program->wait();
}

std::string daemon_program() {
  std::error_code problem;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", problem);
  if (!problem) {
    const auto beside = self.parent_path() / "run-recorderd";
    if (::access(beside.c_str(), X_OK) == 0) return beside.string();
  }
  return "run-recorderd";
}

std::vector<std::pair<std::string, std::string>> as_environment(
    const std::vector<std::pair<std::string, std::string>>& config_flags) {
  std::vector<std::pair<std::string, std::string>> variables;
  for (const auto& [flag, value] : config_flags) {
    std::string name = "RUN_RECORDER" + flag.substr(1);  // --database-url: RUN_RECORDER_DATABASE_URL
    for (char& c : name) c = c == '-' ? '_' : to_upper(c);
    variables.emplace_back(name, value);
  }
  return variables;
}

}  // namespace run_recorder
