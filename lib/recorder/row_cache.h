// The rows the recorder wrote last, so that a run's next event needs no look into the database first: the newest of
// them but for their texts, and of older ones that are under way what OpenRuns remembers. A guess, not a truth: every
// write is guarded by last_seq, and a write that meets another row than expected loads and decides again. For one
// thread.
#pragma once

#include <cstddef>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>

#include "recorder/open_runs.h"
#include "run/run.h"

namespace run_recorder {

class RowCache {
 public:
  RowCache(std::size_t max_bytes, std::size_t max_open_runs) : max_bytes_(max_bytes), open_(max_open_runs) {}

  const Run* find(std::string_view run_id) const;
  // Of a run that find() does not know.
  std::optional<OpenRuns::OpenRun> find_open(std::string_view run_id) const { return open_.find(run_id); }
  void put(const Run& run);
  // What it says beside its version may be old.
  void outdate(std::string_view run_id);
  void erase(std::string_view run_id);
  void clear();

 private:
  struct Entry {
    Run run;
    std::size_t bytes = 0;
  };
  void erase_whole(std::string_view run_id);

  std::size_t max_bytes_;
  std::size_t bytes_ = 0;
  std::list<Entry> entries_;  // oldest first; the keys of index_ point into it
  std::unordered_map<std::string_view, std::list<Entry>::iterator> index_;
  OpenRuns open_;  // may also have older versions of what is in entries_
};

}  // namespace run_recorder
