// Expected failures are values: Result<T> holds a T or an Error. Start-up failures are exceptions (StartError
// below), caught once in main. Thread-safe as far as T is.
#pragma once

#include <boost/system/result.hpp>
#include <stdexcept>
#include <string>
#include <utility>

namespace run_recorder {

// What a caller can do about a failure; the words are in Error::message.
enum class ErrorKind {
  kInvalid,      // the input is wrong, trying again cannot help
  kNotFound,     // what was asked for does not exist
  kConflict,     // it exists, but not in the state that was asked for; or somebody else uses it
  kFull,         // no room now
  kUnavailable,  // the other side is unreachable, slow or refusing; a retry can help
  kDenied,       // not permitted
  kData,         // the database refuses this very data (SQLSTATE class 22, 23, P0)
  kRefused,      // the database refuses this daemon: newer, foreign, lacks a column, wrong encoding
  kInDoubt,      // a COMMIT was sent and its outcome is not known
  kCorrupt,      // stored bytes are not what was written
  kIo,           // the operating system reported an error
  kInternal,     // a broken invariant that could be survived
};

struct Error {
  ErrorKind kind = ErrorKind::kInternal;
  std::string message;        // a sentence: what, where, and what instead
  std::string sqlstate = {};  // five characters where a database said it, else empty
};

// Thrown by Result<T>::value() when it holds an Error; also by start-up code.
class ErrorException : public std::runtime_error {
 public:
  explicit ErrorException(Error error) : std::runtime_error(error.message), error_(std::move(error)) {}
  const Error& error() const { return error_; }

 private:
  Error error_;
};

[[noreturn]] inline void throw_exception_from_error(const Error& error, const boost::source_location&) {
  throw ErrorException(error);
}

template <class T>
using Result = boost::system::result<T, Error>;

// Start-up failure that ends the process with an exit status of contract section 7 (2, 69, 78 or 1).
class StartError : public std::runtime_error {
 public:
  StartError(int exit_status, const std::string& message) : std::runtime_error(message), exit_status_(exit_status) {}
  int exit_status() const { return exit_status_; }

 private:
  int exit_status_;
};

inline constexpr int kExitDone = 0;
inline constexpr int kExitOther = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitNotThere = 69;
inline constexpr int kExitConfiguration = 78;

}  // namespace run_recorder
