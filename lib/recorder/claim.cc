#include "recorder/claim.h"

namespace run_recorder {

Claim Claimant::judge(const Holder& holder, bool own, std::chrono::steady_clock::time_point now) {
  if (own) return Claim::kTakeOver;
  if (!first_) first_ = Sighting{holder.incarnation, holder.last_seen, now};
  if (first_->incarnation != holder.incarnation || first_->last_seen != holder.last_seen) return Claim::kRenew;
  // By either clock: the database's may have been set back.
  const bool silent = holder.seen_ago >= patience_ || now - first_->at >= patience_;
  return silent ? Claim::kTakeOver : Claim::kWait;
}

}  // namespace run_recorder
