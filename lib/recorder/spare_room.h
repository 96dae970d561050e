// The room that vectors of a batch had, for those of the next ones: large ones, asked for anew with every batch,
// would be mapped by the system page by page each time, which costs more than what is done with them. For one thread.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace run_recorder {

template <class Value>
class SpareRoom {
 public:
  // Empty, with room where some is left.
  std::vector<Value> take() {
    if (spare_.empty()) return {};
    std::vector<Value> room = std::move(spare_.back());
    spare_.pop_back();
    return room;
  }
  void give(std::vector<Value>&& used) {
    used.clear();
    if (spare_.size() < kKept && used.capacity() > 0) spare_.push_back(std::move(used));
  }
  void release() { spare_.clear(); }

 private:
  static constexpr std::size_t kKept = 2;  // a batch is decided while another one is committed
  std::vector<std::vector<Value>> spare_;
};

}  // namespace run_recorder
