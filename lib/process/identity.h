// Who a process is, so that it is recognised later: machine id, boot id, PID namespace, pid and start time
// (proc(5), pid_namespaces(7), pidfd_open(2)). Linux only. Blocking but short system calls; thread-safe unless noted.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/file.h"
#include "process/host.h"

namespace run_recorder {

// What checking a process brought.
enum class ProcessEvidence {
  kNone,  // no process named, or it cannot be seen: no evidence at all
  kAlive,
  kGone,
};

// An identity as text, stored in the rows. "<machine>:<boot>:<namespace>:<pid>:<start>" where pid is as this daemon
// sees it and start is in clock ticks since boot; start "absent" says that no such process existed when the event was
// received. Machine and boot are the first 16 hex digits of their ids. The start is the initial time namespace's
// (time_namespaces(7)), whichever this daemon is in; up to 0.1.0 it was the daemon's own.
using ProcessIdentity = std::string;

// The process with this pid in the daemon's own PID namespace. Empty where it cannot be seen (a hidden /proc entry,
// pid 0). A pid that does not exist (pidfd_open: ESRCH) gives an identity that is "absent".
ProcessIdentity identify(std::int32_t pid);

// Who sent, as found when it connected: by the time an event is read the process may have ended and its pid be
// another's.
struct Sender {
  std::int32_t pid = 0;
  ProcessIdentity identity;  // absent where it had ended by then; empty: nothing is known
  std::int32_t own_pid = 0;  // in its own PID namespace; 0: not known
  bool is_in_our_namespace = false;
};
// pidfd is the process's, or says why there is none (ESRCH: it has ended).
Sender identify_sender(std::int32_t pid, const process::PidfdResult& pidfd);

// worker_pid as seen by sender_pid (a pid of our own namespace): translated through the sender's PID namespace by
// NSpid. Empty where the sender's namespace cannot be seen and nothing can be said.
ProcessIdentity identify_in_namespace_of(std::int32_t sender_pid, std::int32_t worker_pid);

// kGone: another boot of this machine, no such process, another start time, a zombie, or absent when received.
// kNone: empty, another machine, or a process that cannot be seen.
ProcessEvidence check_process(std::string_view identity);
// The same in words, for explain: "process 4711 has ended".
std::string describe(std::string_view identity, ProcessEvidence evidence);

namespace process {
// check_process(), and the process itself where there is one: the descriptor becomes readable when it ends
// (pidfd_open(2)).
struct Opened {
  ProcessEvidence evidence = ProcessEvidence::kNone;
  UniqueFd pidfd;              // kAlive, and kNone where only /proc cannot be seen
  bool no_descriptor = false;  // kNone because this process has too many files open, or the host
};
Opened open_process(std::string_view identity);
}  // namespace process

// Remembers what the pids meant that senders named, made safe against reuse of pids by holding a pidfd for each. For
// one thread.
class IdentityCache {
 public:
  explicit IdentityCache(std::size_t entries = 64);
  ~IdentityCache();
  IdentityCache(const IdentityCache&) = delete;
  IdentityCache& operator=(const IdentityCache&) = delete;
  // worker_pid as the sender sees it; empty as for the function above, and where the sender has ended and its
  // namespace is not this daemon's own.
  ProcessIdentity identify_in_namespace_of(const Sender& sender, std::int32_t worker_pid);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace run_recorder
