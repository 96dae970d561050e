// A call on a thread of its own.
#pragma once

#include <future>
#include <system_error>
#include <utility>

namespace run_recorder {

// The future of call(), which runs at once; where no thread is left, it runs when the future is waited for. What
// call refers to must outlive the future; exceptions come out of get().
template <class Call>
auto run_async(Call call) {
  try {
    return std::async(std::launch::async, call);
  } catch (const std::system_error&) {
    return std::async(std::launch::deferred, std::move(call));
  }
}

}  // namespace run_recorder
