// Builds the indexes that migrations left to be built beside the writers, in PostgreSQL; elsewhere there are none. It
// may wait for hours: an index that is built concurrently waits for every older transaction. run() is for one thread,
// abandon() for any.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "store/store.h"

namespace run_recorder {

class PgConnection;

class IndexBuild {
 public:
  explicit IndexBuild(StoreOptions options);
  ~IndexBuild();
  IndexBuild(const IndexBuild&) = delete;
  IndexBuild& operator=(const IndexBuild&) = delete;

  struct Outcome {
    bool all_valid = false;             // false: another daemon builds, or this call took too long: try again later
    std::vector<std::string> recorded;  // names of the migrations that are complete with this
  };
  // Errors: kRefused (entries of the history contradict each other; the message names them and what to do),
  // kUnavailable.
  Result<Outcome> run();
  // Ends run() soon. What the server is building it goes on building.
  void abandon();

 private:
  class Work;
  const StoreOptions options_;
  Mutex mutex_;
  std::vector<PgConnection*> under_way_ GUARDED_BY(mutex_);
  bool abandoned_ GUARDED_BY(mutex_) = false;
};

}  // namespace run_recorder
