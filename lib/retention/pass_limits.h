// Which reports of passes go: those that are too old, and behind the newest of their kind, of which so many and so
// many bytes stay. Passes that marked a run are one kind, the others are one for each trigger: a request's report is
// not pushed out by those of an interval. Pure; for one thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "store/store.h"

namespace run_recorder {

class PassLimits {
 public:
  struct Limit {
    std::size_t passes;
    std::uint64_t bytes;
  };
  static constexpr Limit kMarked{100'000, 1ULL << 30};
  static constexpr Limit kOthers{1'000, 32ULL << 20};

  // longest: older ones go; 0: none does for its age.
  explicit PassLimits(std::chrono::milliseconds longest) : longest_(longest) {}

  // To be asked once for each pass, from the newest on.
  bool goes(const AgedPass& pass);

 private:
  struct Kept {
    std::size_t passes = 0;
    std::uint64_t bytes = 0;
  };
  bool has_room(Kept& kept, const Limit& limit, std::uint64_t bytes);

  const std::chrono::milliseconds longest_;
  Kept marked_;
  std::map<std::string, Kept, std::less<>> others_;  // by trigger
};

}  // namespace run_recorder
