// How many events a batch may have, as the transactions that failed for their time or with their connection tell: a
// server that ends long transactions (transaction_timeout) would end the same batch for ever. Pure; for one thread.
#pragma once

#include <algorithm>
#include <cstddef>

namespace run_recorder {

class BatchLimit {
 public:
  explicit BatchLimit(std::size_t most) : most_(std::max<std::size_t>(most, 1)), limit_(most_) {}

  std::size_t events() const { return limit_; }

  // A transaction of so many was lost: half of it is next.
  void failed(std::size_t events) {
    limit_ = std::clamp<std::size_t>(std::min(events, limit_) / 2, 1, most_);
    // What fails again and again once it has grown is tried ever more seldom.
    if (passed_ > 0) wanted_ = std::min(wanted_ * 4, kSeldom);
    passed_ = 0;
    counted_ = 0;
  }

  // One was committed. Twice as many are tried after some that used what there was; few events tell nothing.
  void succeeded(std::size_t events) {
    if (events * 2 <= limit_) return;
    if (limit_ == most_) {
      passed_ = 0;
      wanted_ = kSoon;
      return;
    }
    ++passed_;
    if (++counted_ < wanted_) return;
    counted_ = 0;
    limit_ = limit_ > most_ / 2 ? most_ : limit_ * 2;
  }

 private:
  static constexpr std::size_t kSoon = 4;
  static constexpr std::size_t kSeldom = 1'024;
  const std::size_t most_;
  std::size_t limit_;
  std::size_t wanted_ = kSoon;  // so many in a row before it grows
  std::size_t counted_ = 0;     // of them
  std::size_t passed_ = 0;      // since the last failure, until one of all was committed
};

}  // namespace run_recorder
