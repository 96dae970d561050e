#include "server/acceptance.h"

#include <fmt/format.h>

#include <utility>

namespace run_recorder {
namespace {

using Reason = Acceptance::Reason;
using State = Acceptance::State;

std::string free_in_words(const SpoolRoom& room) {
  return fmt::format("{} free under {}", room.free_bytes ? size_in_words(*room.free_bytes) : std::string("unknown"),
                     room.path.string());
}

std::string backlog_in_words(const Acceptance& acceptance, std::uint64_t limit, std::string_view share) {
  const SpoolRoom& room = acceptance.room;
  return fmt::format("{} of {} ({}[spool] max_bytes) wait in {}{}{}", size_in_words(room.pending_bytes),
                     size_in_words(limit), share, room.path.string(), acceptance.backlog.empty() ? "" : ", ",
                     acceptance.backlog);
}

}  // namespace

std::string_view to_string(State state) {
  switch (state) {
    case State::kAccepting:
      return "accepting";
    case State::kLifecycleOnly:
      return "lifecycle_only";
    case State::kRefusing:
      return "refusing";
  }
  return {};
}

std::string_view to_string(Reason reason) {
  switch (reason) {
    case Reason::kNone:
      return {};
    case Reason::kMaxBytes:
      return "max_bytes";
    case Reason::kMinFree:
      return "min_free";
    case Reason::kDiskFull:
      return "disk_full";
    case Reason::kFailed:
      return "spool_failed";
  }
  return {};
}

std::string_view limit_of(Reason reason) {
  switch (reason) {
    case Reason::kMaxBytes:
      return "[spool] max_bytes";
    case Reason::kMinFree:
      return "[spool] min_free";
    case Reason::kNone:
    case Reason::kDiskFull:
    case Reason::kFailed:
      break;
  }
  return {};
}

std::string disk_in_words(const SpoolRoom& room) {
  return fmt::format("{}, [spool] min_free is {}", free_in_words(room), size_in_words(room.min_free));
}

std::string in_words(const Acceptance& acceptance) {
  switch (acceptance.reason) {
    case Reason::kNone:
      break;
    case Reason::kMaxBytes:
      if (acceptance.state == State::kLifecycleOnly) {
        return "the spool is full but for lifecycle events: " +
               backlog_in_words(acceptance, acceptance.room.allowed_bytes, "nine tenths of ");
      }
      return "the spool is full: " + backlog_in_words(acceptance, acceptance.room.max_bytes, "");
    case Reason::kMinFree:
      return "too little disk: " + disk_in_words(acceptance.room);
    case Reason::kDiskFull:
      return fmt::format("the disk is full: {}; {}", acceptance.failure, free_in_words(acceptance.room));
    case Reason::kFailed:
      return "the spool failed: " + acceptance.failure;
  }
  return {};
}

std::string_view limit_of_kept(const SpoolRoom& room) {
  if (room.releasable_bytes == 0) return {};
  if (room.free_bytes && *room.free_bytes <= room.min_free) return limit_of(Reason::kMinFree);
  return room.pending_bytes + room.releasable_bytes > room.max_bytes ? limit_of(Reason::kMaxBytes)
                                                                     : std::string_view();
}

// The worst first: what keeps all events out, and of that what ends least by itself.
Acceptance acceptance_of(SpoolRoom room, std::string_view append_failure) {
  Acceptance made;
  if (!room.failure.empty() || !append_failure.empty()) {
    made.state = State::kRefusing;
    made.reason = Reason::kFailed;
    made.failure = room.failure.empty() ? std::string(append_failure) : room.failure;
  } else if (!room.disk_has_room) {
    made.state = State::kRefusing;
    made.reason = Reason::kMinFree;
  } else if (!room.disk_error.empty()) {
    made.state = State::kRefusing;
    made.reason = Reason::kDiskFull;
    made.failure = room.disk_error;
  } else if (!room.has_room) {
    made.state = room.has_privileged_room ? State::kLifecycleOnly : State::kRefusing;
    made.reason = Reason::kMaxBytes;
  }
  made.room = std::move(room);
  return made;
}

}  // namespace run_recorder
