#include "recorder/failure.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace run_recorder {
namespace {

constexpr std::string_view kLockNotAvailable = "55P03";
constexpr std::string_view kQueryCanceled = "57014";  // a statement_timeout among others

// Connections, states of a transaction (its own time limits among them), collisions.
constexpr std::array<std::string_view, 3> kOfTheMoment{"08", "25", "40"};
// Insufficient resources, an operator's intervention, errors of the system, of the configuration.
constexpr std::array<std::string_view, 4> kOfTheDatabase{"53", "57", "58", "F0"};

FailureCause cause_of_sqlstate(std::string_view sqlstate) {
  const auto in = [group = sqlstate.substr(0, 2)](const auto& groups) {
    return std::find(groups.begin(), groups.end(), group) != groups.end();
  };
  if (sqlstate == kReadOnlyState) return FailureCause::kDatabase;
  if (sqlstate.empty() || sqlstate == kLockNotAvailable || sqlstate == kQueryCanceled) return FailureCause::kMoment;
  // A session that was ended: while it was idle, or by an operator (57P01), who may be a trigger. Memory and limits
  // of the configuration (53200, 53400) may be exceeded by one event alone.
  for (const std::string_view known : {"57P05", "57P01", "53200", "53400"}) {
    if (sqlstate == known) return FailureCause::kMoment;
  }
  if (in(kOfTheMoment)) return FailureCause::kMoment;
  return in(kOfTheDatabase) ? FailureCause::kDatabase : FailureCause::kContent;
}

}  // namespace

FailureCause cause_of(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kData:
    case ErrorKind::kInternal:
      return FailureCause::kContent;
    case ErrorKind::kInDoubt:
      return FailureCause::kMoment;
    case ErrorKind::kUnavailable:
      return cause_of_sqlstate(error.sqlstate);
    case ErrorKind::kInvalid:
    case ErrorKind::kNotFound:
    case ErrorKind::kConflict:
    case ErrorKind::kFull:
    case ErrorKind::kDenied:
    case ErrorKind::kRefused:
    case ErrorKind::kCorrupt:
    case ErrorKind::kIo:
      return FailureCause::kDatabase;
  }
  return FailureCause::kDatabase;
}

void Suspect::failed(std::uint64_t seq, const Refused& refused, Clock::time_point now, bool last) {
  if (seq != seq_) {
    seq_ = seq;
    tries_ = 0;
    since_ = now;
    convicted_ = false;
  }
  ++tries_;
  refused_ = refused;
  convicted_ = convicted_ || last;
}

bool Suspect::is_due(std::uint64_t seq, Clock::time_point now) const {
  return seq == seq_ && tries_ >= policy_.tries && now - since_ >= policy_.time;
}

}  // namespace run_recorder
