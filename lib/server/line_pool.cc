#include "server/line_pool.h"

#include <cassert>

namespace run_recorder {

std::size_t LinePool::room_for(const Share& share) const {
  const std::size_t free = bytes_ > used_ ? bytes_ - used_ : 0;
  if (by_age_.empty() || by_age_.front() == &share) {
    return free;
  }
  const Share& oldest = *by_age_.front();
  const std::size_t promised = oldest.limit_ > oldest.bytes_ ? oldest.limit_ - oldest.bytes_ : 0;
  return free > promised ? free - promised : 0;
}

void LinePool::grow(Share& share, std::size_t bytes, std::size_t limit) {
  assert(bytes >= share.bytes_ && bytes - share.bytes_ <= room_for(share));
  if (share.bytes_ == 0) {
    share.place_ = by_age_.insert(by_age_.end(), &share);
  }
  used_ += bytes - share.bytes_;
  share.bytes_ = bytes;
  share.limit_ = limit;
}

void LinePool::release(Share& share) {
  if (share.bytes_ == 0) {
    return;
  }
  by_age_.erase(share.place_);
  used_ -= share.bytes_;
  share.bytes_ = 0;
  ++releases_;
}

}  // namespace run_recorder
