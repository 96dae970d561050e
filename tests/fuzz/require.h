// What the fuzz programs say when something does not hold: end here, so that libFuzzer keeps the input.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace run_recorder {

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

}  // namespace run_recorder
