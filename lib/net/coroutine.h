// What every coroutine of ours waits and ends with.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>

namespace run_recorder {

// co_await what(kAwait) gives (error_code, results...): an operation that fails throws nothing.
inline constexpr auto kAwait = boost::asio::as_tuple(boost::asio::use_awaitable);

// For co_spawn: a coroutine that throws is a broken invariant and ends the process.
inline void rethrow(const std::exception_ptr& exception) {
  if (exception) std::rethrow_exception(exception);
}

}  // namespace run_recorder
