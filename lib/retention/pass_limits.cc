#include "retention/pass_limits.h"

namespace run_recorder {

bool PassLimits::goes(const AgedPass& pass) {
  if (longest_.count() > 0 && pass.age >= longest_) return true;
  return pass.marked ? !has_room(marked_, kMarked, pass.bytes)
                     : !has_room(others_[pass.trigger], kOthers, pass.bytes);
}

// The newest one stays whatever it weighs.
bool PassLimits::has_room(Kept& kept, const Limit& limit, std::uint64_t bytes) {
  if (kept.passes == limit.passes) return false;
  if (kept.passes > 0 && kept.bytes + bytes > limit.bytes) {
    kept.passes = limit.passes;  // none behind it, either
    return false;
  }
  ++kept.passes;
  kept.bytes += bytes;
  return true;
}

}  // namespace run_recorder
