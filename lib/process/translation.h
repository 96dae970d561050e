// Which process a pid means that was said in another PID namespace (pid_namespaces(7)): by NSpid in /proc/PID/status,
// and by comparing namespaces through /proc/PID/ns/pid, for which the daemon needs CAP_SYS_PTRACE where the processes
// are not its own user's. Thread-safe.
#pragma once

#include <cstdint>

#include "process/identity.h"

namespace run_recorder::process {

struct Translation {
  enum class Kind {
    kFound,    // pid, as this process sees it
    kAbsent,   // there is no such process in the sender's namespace, whose inode is pid_namespace
    kNothing,  // nothing can be said: something on the way could not be seen
  };
  Kind kind = Kind::kNothing;
  std::int32_t pid = 0;
  std::uint64_t pid_namespace = 0;
};

// worker_pid as sender_pid sees it; sender_pid as this process sees it. Cheap where the sender shares this process's
// namespace, or is the worker itself or its descendant; else, with may_search, all of /proc is looked through.
Translation translate(std::int32_t sender_pid, std::int32_t worker_pid, bool may_search = true);
ProcessIdentity identify(const Translation& translation);

}  // namespace run_recorder::process
