#include "recorder/registration.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/log.h"

namespace run_recorder {

Registration::Registration(Spool& spool, DatabaseHealth& health, std::string host, std::string version,
                           bool sole_writer, std::chrono::milliseconds silence)
    : spool_(spool),
      health_(health),
      sole_writer_(sole_writer),
      claimant_(silence),
      self_{spool.id(), spool.incarnations().back().id, std::move(host), std::move(version), spool.origin()},
      settled_(!spool.may_be_copy()) {}

Result<std::optional<Checkpoint>> Registration::claim(Store& store, std::chrono::steady_clock::time_point now) {
  while (true) {
    auto checkpoint = store.check_in(self_);
    if (!checkpoint) return checkpoint.error();
    if (!checkpoint.value().holder) {
      settle();
      return std::optional(std::move(checkpoint.value()));
    }
    const Holder& holder = *checkpoint.value().holder;
    switch (claimant_.judge(holder, is_own(holder), now)) {
      case Claim::kTakeOver:
        if (const auto taken = store.take_over(self_, holder.incarnation); !taken) return taken.error();
        break;
      case Claim::kWait:
        wait_for(holder);
        return std::optional<Checkpoint>();
      case Claim::kRenew:
        take_new_id(holder);
        break;
    }
  }
}

RecorderSelf Registration::self() const {
  const MutexLock lock(mutex_);
  return self_;
}

bool Registration::wait_settled(std::chrono::milliseconds timeout) {
  MutexLock lock(mutex_);
  return changed_.wait_for(lock, timeout, [this] {
    mutex_.assert_held();
    return settled_;
  });
}

bool Registration::is_own(const Holder& holder) const {
  if (sole_writer_) return true;
  if (spool_.may_be_copy()) return false;
  const auto has_it = [&holder](const std::vector<Incarnation>& own) {
    return std::ranges::find(own, holder.incarnation, &Incarnation::id) != own.end();
  };
  return has_it(spool_.remembered()) ||
         has_it(spool_.incarnations());  // a spool of an earlier release remembers none
}

void Registration::wait_for(const Holder& holder) {
  health_.in_doubt(fmt::format("another incarnation of recorder {} was seen on {} {} s ago", self_.id, holder.host,
                               holder.seen_ago.count() / 1'000));
  health_.backoff().in_doubt();
  const MutexLock lock(mutex_);
  settled_ = false;
}

// Positions stay where they are, under the spool's origin: what this spool and the other one both have is applied by
// whichever comes first, and what only this one has by this one.
void Registration::take_new_id(const Holder& holder) {
  const std::string id = spool_.renew();
  log_warning("another process uses this recorder id: one of the two spools is a copy; taking a new id",
              {{"OLD", self_.id}, {"NEW", id}, {"OTHER_HOST", holder.host}});
  claimant_.reset();
  const MutexLock lock(mutex_);
  self_.id = id;
}

void Registration::settle() {
  spool_.settle();
  claimant_.reset();
  health_.no_longer_in_doubt();
  {
    const MutexLock lock(mutex_);
    settled_ = true;
  }
  changed_.notify_all();
}

}  // namespace run_recorder
