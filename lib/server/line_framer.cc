#include "server/line_framer.h"

namespace run_recorder {
namespace {

// Each growth copies the line: it is not worth less.
constexpr std::size_t kSmallestGrowth = 4 << 10;

}  // namespace

std::size_t LineFramer::room(std::size_t line_bytes, std::size_t wanted) const {
  if (skipping_) {
    return wanted;
  }
  const std::size_t own = std::max(capacity_, partial_bytes_);
  const std::size_t growth = share_.room();
  if (std::max(own, share_.bytes() + growth) >= line_bytes) {
    return wanted;  // what comes beyond that is too large, and not kept
  }
  const std::size_t reachable = growth < kSmallestGrowth ? own : std::max(own, share_.bytes() + growth);
  return std::min(wanted, reachable > size_ ? reachable - size_ : 0);
}

bool LineFramer::append(std::string_view piece, std::size_t line_bytes) {
  if (size_ + piece.size() > capacity_ && !reserve(size_ + piece.size(), line_bytes)) {
    return false;
  }
  if (!piece.empty()) {
    std::memcpy(data_.get() + size_, piece.data(), piece.size());
    size_ += piece.size();
  }
  return true;
}

// Doubles where it may, so that a long line is copied only a few times.
bool LineFramer::reserve(std::size_t bytes, std::size_t line_bytes) {
  constexpr std::size_t kSmallest = 256;
  std::size_t capacity = std::max({bytes, std::min(2 * capacity_, line_bytes), kSmallest});
  if (bytes <= partial_bytes_) {
    capacity = std::min(capacity, partial_bytes_);
  } else {
    const std::size_t reachable = share_.bytes() + share_.room();
    if (bytes > reachable) {
      return false;
    }
    capacity = std::min(capacity, reachable);
    share_.grow(capacity, std::max(line_bytes, capacity));
  }
  auto data = std::make_unique_for_overwrite<char[]>(capacity);
  if (size_ > 0) {
    std::memcpy(data.get(), data_.get(), size_);
  }
  data_ = std::move(data);
  capacity_ = capacity;
  return true;
}

void LineFramer::drop() {
  data_.reset();
  size_ = 0;
  capacity_ = 0;
  share_.release();
}

}  // namespace run_recorder
