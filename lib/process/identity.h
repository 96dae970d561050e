// Who a process is, so that it is recognised later: machine id, boot id, PID namespace, pid and start time
// (proc(5), pid_namespaces(7), pidfd_open(2)). Linux only. Blocking but short system calls; thread-safe unless noted.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/file.h"
#include "run/verdict.h"

namespace run_recorder {

// An identity as text, stored in the rows. "<machine>:<boot>:<namespace>:<pid>:<start>" where pid is as this daemon
// sees it and start is in clock ticks since boot; start "absent" says that no such process existed when the event was
// received. Machine and boot are the first 16 hex digits of their ids.
using ProcessIdentity = std::string;

// The process with this pid in the daemon's own PID namespace. Empty where it cannot be seen (a hidden /proc entry,
// pid 0). A pid that does not exist (pidfd_open: ESRCH) gives an identity that is "absent".
ProcessIdentity identify(std::int32_t pid);

// worker_pid as seen by sender_pid (a pid of our own namespace): translated through the sender's PID namespace by
// NSpid. Empty where the sender's namespace cannot be seen and nothing can be said.
ProcessIdentity identify_in_namespace_of(std::int32_t sender_pid, std::int32_t worker_pid);

// kGone: another boot of this machine, no such process, another start time, a zombie, or absent when received.
// kNone: empty, another machine, or a process that cannot be seen.
ProcessEvidence look_at(std::string_view identity);
// The same in words, for explain: "process 4711 has ended".
std::string describe(std::string_view identity, ProcessEvidence evidence);

namespace process {
// look_at(), and the process itself where there is one: the descriptor becomes readable when it ends (pidfd_open(2)).
struct Opened {
  ProcessEvidence evidence = ProcessEvidence::kNone;
  UniqueFd pidfd;              // kAlive, and kNone where only /proc cannot be seen
  bool no_descriptor = false;  // kNone because this process has too many files open, or the host
};
Opened open_process(std::string_view identity);
}  // namespace process

// Caches identify() by pid, made safe against reuse of pids by holding a pidfd for each. For one thread.
class IdentityCache {
 public:
  explicit IdentityCache(std::size_t entries = 64);
  ~IdentityCache();
  IdentityCache(const IdentityCache&) = delete;
  IdentityCache& operator=(const IdentityCache&) = delete;
  ProcessIdentity identify_in_namespace_of(std::int32_t sender_pid, std::int32_t worker_pid);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace run_recorder
