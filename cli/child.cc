#include "cli/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "cli/signal_sets.h"

namespace run_recorder {
namespace {

bool is_in_path(const std::string& command) {
  const char* path = std::getenv("PATH");
  std::string_view folders = path != nullptr ? path : "";
  while (!folders.empty()) {
    const std::size_t end = std::min(folders.find(':'), folders.size());
    const std::string folder(folders.substr(0, end));
    if (::access(((folder.empty() ? "." : folder) + "/" + command).c_str(), F_OK) == 0) return true;
    folders.remove_prefix(std::min(end + 1, folders.size()));
  }
  return false;
}

// execvp(3) says EACCES also of a command that is nowhere, where it may not look into one folder of PATH.
int start_error_of(const std::string& command, int error) {
  const bool searched = command.find('/') == std::string::npos;
  return error == EACCES && searched && !is_in_path(command) ? ENOENT : error;
}

[[noreturn]] void become(const std::vector<std::string>& command,
                         const std::vector<std::pair<std::string, std::string>>& environment, int stdout_fd,
                         int stderr_fd, int error_fd, const SignalRelay& signals) {
  for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  if (stdout_fd >= 0) ::dup2(stdout_fd, STDOUT_FILENO);
  if (stderr_fd >= 0) ::dup2(stderr_fd, STDERR_FILENO);
  signals.restore_in_child();
  ::execvp(arguments[0], arguments.data());
  const int error = start_error_of(command.front(), errno);
  (void)!::write(error_fd, &error, sizeof(error));
  ::_exit(error == ENOENT || error == ENOTDIR ? kExitNotFound : kExitNotExecutable);
}

}  // namespace

Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return system_error_of("pipe");
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

void reap_children() {
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
}

Result<Child> Child::start(const std::vector<std::string>& command,
                           const std::vector<std::pair<std::string, std::string>>& environment, int stdout_fd,
                           int stderr_fd, const SignalRelay& signals) {
  Result<Pipe> start_error = make_pipe();
  if (!start_error) return start_error.error();
  const pid_t pid = ::fork();
  if (pid < 0) return system_error_of("fork");
  if (pid == 0) become(command, environment, stdout_fd, stderr_fd, start_error->writing.get(), signals);

  Child child;
  child.pid_ = pid;
  child.status_.reset(::open(fmt::format("/proc/{}/status", pid).c_str(), O_RDONLY | O_CLOEXEC));
  child.start_error_ = std::move(start_error->reading);
  return child;
}

// It is our child and not waited for yet, so the pid is still its own.
int Child::send(int signal) const {
  return ::kill(pid_, signal) == 0 ? 0 : errno;
}

bool Child::has_received(int signal, bool witnessed) const {
  if (!witnessed) return false;
  const std::optional<SignalSets> sets = read_signal_sets(status_.get());
  return !sets || !sets->leaves_to_kernel(signal);
}

Child::Change Child::look() {
  Change change;
  int status = 0;
  while (const pid_t pid = ::waitpid(-1, &status, WNOHANG | WUNTRACED)) {
    if (pid < 0) break;
    if (pid != pid_) continue;
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
  }
  return change;
}

}  // namespace run_recorder
