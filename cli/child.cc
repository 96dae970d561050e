#include "cli/child.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace run_recorder {
namespace {

constexpr int kNotFoundStatus = 127;
constexpr int kNotExecutableStatus = 126;

struct Pipe {
  UniqueFd reading;
  UniqueFd writing;
};

Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return system_error_of("pipe");
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

[[noreturn]] void become(const std::vector<std::string>& command,
                         const std::vector<std::pair<std::string, std::string>>& environment, int stderr_fd,
                         int error_fd, const SignalRelay& signals) {
  for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  if (stderr_fd >= 0) ::dup2(stderr_fd, STDERR_FILENO);
  signals.restore_in_child();
  ::execvp(arguments[0], arguments.data());
  const int error = errno;
  (void)!::write(error_fd, &error, sizeof(error));
  ::_exit(error == ENOENT || error == ENOTDIR ? kNotFoundStatus : kNotExecutableStatus);
}

}  // namespace

Result<Child> Child::start(const std::vector<std::string>& command,
                           const std::vector<std::pair<std::string, std::string>>& environment, bool capture_stderr,
                           const SignalRelay& signals) {
  Result<Pipe> start_error = make_pipe();
  if (!start_error) return start_error.error();
  Pipe stderr_pipe;
  if (capture_stderr) {
    Result<Pipe> made = make_pipe();
    if (!made) return made.error();
    stderr_pipe = std::move(*made);
  }
  const pid_t pid = ::fork();
  if (pid < 0) return system_error_of("fork");
  if (pid == 0) become(command, environment, stderr_pipe.writing.get(), start_error->writing.get(), signals);

  Child child;
  child.pid_ = pid;
  child.start_error_ = std::move(start_error->reading);
  child.stderr_pipe_ = std::move(stderr_pipe.reading);
  if (child.stderr_pipe_) ::fcntl(child.stderr_pipe_.get(), F_SETFL, O_NONBLOCK);
  return child;
}

// It is our child and not waited for yet, so the pid is still its own.
void Child::send(int signal) const {
  ::kill(pid_, signal);
}

Child::Change Child::look() {
  Change change;
  int status = 0;
  while (::waitpid(pid_, &status, WNOHANG | WUNTRACED) == pid_) {
    if (WIFSTOPPED(status)) {
      change.stopped_by = WSTOPSIG(status);
      continue;
    }
    Ending ending;
    if (WIFSIGNALED(status)) {
      ending.signal = WTERMSIG(status);
      ending.core_dumped = WCOREDUMP(status);
    } else {
      ending.exit_status = WEXITSTATUS(status);
    }
    // The writing end closed at exec, or when the child ended: this never blocks.
    int error = 0;
    if (::read(start_error_.get(), &error, sizeof(error)) == static_cast<ssize_t>(sizeof(error))) {
      ending.start_error = error;
    }
    change.ended = ending;
    break;
  }
  return change;
}

}  // namespace run_recorder
