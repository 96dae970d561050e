#include "support/child_process.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace run_recorder::testing {
namespace {

const passwd* account_of(const std::string& user) {
  const passwd* account = ::getpwnam(user.c_str());
  if (!account) throw std::runtime_error("no such user: " + user);
  return account;
}

// In the child, between fork and exec.
[[noreturn]] void become(const std::vector<char*>& arguments, const passwd* account,
                         const ChildProcess::Options& options, pid_t parent) {
  const char* output = options.output.empty() ? "/dev/null" : options.output.c_str();
  const int out = ::open(output, O_WRONLY | O_CREAT | O_APPEND, 0666);
  const int in = ::open("/dev/null", O_RDONLY);
  ::dup2(in, 0);
  ::dup2(out, 1);
  ::dup2(out, 2);
  if (account && (::setgroups(0, nullptr) != 0 || ::setgid(account->pw_gid) != 0 || ::setuid(account->pw_uid) != 0)) {
    ::_exit(126);
  }
  // After setuid, which would clear it.
  ::prctl(PR_SET_PDEATHSIG, options.death_signal);
  if (::getppid() != parent) ::_exit(126);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execvp(arguments[0], arguments.data());
  ::_exit(127);
}

}  // namespace

bool running_as_root() {
  return ::geteuid() == 0;
}

ChildProcess::ChildProcess(const std::vector<std::string>& command, const Options& options) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const passwd* account = running_as_root() && !options.user.empty() ? account_of(options.user) : nullptr;
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw std::runtime_error("fork failed");
  if (pid_ == 0) become(arguments, account, options, parent);
}

ChildProcess::~ChildProcess() {
  if (pid_ > 0) stop(SIGKILL);
}

bool ChildProcess::running() {
  if (pid_ <= 0) return false;
  if (::waitpid(pid_, &status_, WNOHANG) == 0) return true;
  pid_ = -1;
  return false;
}

int ChildProcess::stop(int signal) {
  if (pid_ > 0) ::kill(pid_, signal);
  return wait();
}

int ChildProcess::wait() {
  if (pid_ > 0) {
    while (::waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
  }
  return status_;
}

void run_command(const std::vector<std::string>& command, const std::string& user) {
  const TemporaryFolder folder(user);
  ChildProcess::Options options;
  options.user = user;
  options.output = folder.path() + "/output";
  const int status = ChildProcess(command, options).wait();
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  std::ostringstream output;
  output << std::ifstream(options.output).rdbuf();
  throw std::runtime_error(command.front() + " failed: " + output.str());
}

std::vector<pid_t> family_of(pid_t root) {
  std::vector<pid_t> family{root};
  for (std::size_t next = 0; next < family.size(); ++next) {
    const std::string pid = std::to_string(family[next]);
    std::ifstream children("/proc/" + pid + "/task/" + pid + "/children");
    for (pid_t child = 0; children >> child;) family.push_back(child);
  }
  return family;
}

TemporaryFolder::TemporaryFolder(const std::string& user) {
  std::string name = std::filesystem::temp_directory_path() / "rr-XXXXXX";
  if (!::mkdtemp(name.data())) throw std::runtime_error("cannot make a temporary folder");
  path_ = name;
  if (running_as_root() && !user.empty()) {
    const passwd* account = account_of(user);
    if (::chown(path_.c_str(), account->pw_uid, account->pw_gid) != 0) throw std::runtime_error("chown failed");
  }
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace run_recorder::testing
