// Builds the database's missing indexes beside a recorder that works already, again and again until all are valid. A
// thread of its own while something is missing; begin() is for one thread, error() for any.
#pragma once

#include <string>
#include <thread>

#include "base/mutex.h"
#include "store/index_build.h"
#include "store/store.h"

namespace run_recorder {

class IndexBuilding {
 public:
  explicit IndexBuilding(StoreOptions options);
  // Does not wait for what the server is building.
  ~IndexBuilding();
  IndexBuilding(const IndexBuilding&) = delete;
  IndexBuilding& operator=(const IndexBuilding&) = delete;

  // Begins, where it is not under way already.
  void begin();
  // Why the last try failed; empty where it did not.
  std::string error() const;

 private:
  void run();

  IndexBuild build_;
  std::thread thread_;
  mutable Mutex mutex_;
  Condition wake_;
  bool under_way_ GUARDED_BY(mutex_) = false;
  bool ending_ GUARDED_BY(mutex_) = false;
  std::string error_ GUARDED_BY(mutex_);
};

}  // namespace run_recorder
