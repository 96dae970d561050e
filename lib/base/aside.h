// A call beside the one that asks for it.
#pragma once

#include <future>
#include <system_error>
#include <utility>

namespace run_recorder {

// Runs call on a thread of its own; where none is to be had, on the one that waits for its outcome.
template <class Call>
auto run_aside(Call call) {
  try {
    return std::async(std::launch::async, call);
  } catch (const std::system_error&) {
    return std::async(std::launch::deferred, std::move(call));
  }
}

}  // namespace run_recorder
