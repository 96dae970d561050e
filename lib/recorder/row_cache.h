// The rows the recorder wrote last, so that a run's next event needs no look into the database first. A guess, not a
// truth: every write is guarded by last_seq, and a write that meets another row than expected loads and decides
// again. Their texts are not kept: rows of any size have a place. For one thread.
#pragma once

#include <cstddef>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>

#include "run/run.h"

namespace run_recorder {

class RowCache {
 public:
  explicit RowCache(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  const Run* find(std::string_view run_id) const;
  void put(Run run);
  void erase(std::string_view run_id);
  void clear();

 private:
  struct Entry {
    Run run;
    std::size_t bytes = 0;
  };
  std::size_t max_bytes_;
  std::size_t bytes_ = 0;
  std::list<Entry> entries_;  // oldest first; the keys of index_ point into it
  std::unordered_map<std::string_view, std::list<Entry>::iterator> index_;
};

}  // namespace run_recorder
