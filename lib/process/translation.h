// Which process a pid means that was said in another PID namespace (pid_namespaces(7)), by what everybody may read:
// NSpid and PPid in /proc/PID/status. Which namespace a process is in is told by its ancestors, for a child is in its
// parent's namespace or in one below: the topmost ancestor that is as deep in namespaces as the one asked for stands
// for the namespace, and where that is its process 1, for the whole of it. One that was entered from outside (docker
// exec, nsenter) has a parent outside; then /proc/PID/ns/pid tells, which can be read where the process is the
// daemon's own user's, or with CAP_SYS_PTRACE. What neither tells is not guessed: two containers both have a
// process 7. Thread-safe.
#pragma once

#include <cstdint>

#include "process/identity.h"

namespace run_recorder::process {

struct Translation {
  enum class Kind {
    kFound,    // pid, as this process sees it
    kAbsent,   // there is no such process in the sender's namespace; its inode is pid_namespace, 0 where not known
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
