// Programs that a test needs beside itself: started as another user where that is asked for, ended by their own id,
// and ended by the kernel where the test dies first. Start them from a thread that lives as long as they should.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace run_recorder::testing {

class ChildProcess {
 public:
  struct Options {
    std::string user;      // where the test runs as root; empty: the same user
    std::string output;    // a file that stdout and stderr are appended to; empty: thrown away
    int death_signal = 9;  // what the kernel sends it when the test ends
  };
  ChildProcess(const std::vector<std::string>& command, const Options& options);
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess();  // kills it

  pid_t pid() const { return pid_; }
  bool running();
  // Sends a signal, and waits until it has ended.
  int stop(int signal);
  int wait();

 private:
  pid_t pid_ = -1;
  int status_ = 0;
};

// Runs a program to its end; throws with its output where the exit status is not 0.
void run_command(const std::vector<std::string>& command, const std::string& user);
// Whether tests have to run servers as another user, as those that refuse root ask for.
bool running_as_root();
// All descendants of a process, itself first.
std::vector<pid_t> family_of(pid_t root);

// A folder under the temporary one, owned by user where the test runs as root; removed with its content.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& user = {});
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace run_recorder::testing
