#include "base/liveness.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace run_recorder {
namespace {

// The first version of the kernel's struct sched_attr (sched_setattr(2)), which glibc 2.36 does not declare.
struct SchedulingAttributes {
  std::uint32_t size = 48;
  std::uint32_t policy = 0;  // SCHED_OTHER
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime_ns = 0;  // the slice
  std::uint64_t deadline_ns = 0;
  std::uint64_t period_ns = 0;
};
static_assert(sizeof(SchedulingAttributes) == 48);

constexpr std::uint64_t kShortSliceNs = 100'000;  // the shortest that the kernel gives

}  // namespace

void name_this_thread(const char* name) {
  pthread_setname_np(pthread_self(), name);
}

void ask_for_short_slices() {
  SchedulingAttributes attributes;
  constexpr unsigned kNoFlags = 0;
  // The nice value is a part of the call: it stays what it is.
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, kNoFlags) != 0) return;
  attributes.runtime_ns = kShortSliceNs;
  static_cast<void>(syscall(SYS_sched_setattr, 0, &attributes, kNoFlags));
}

}  // namespace run_recorder
