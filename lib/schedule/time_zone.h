// A time zone of the IANA database, as this system has it (tzdata). Thread-safe.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"

namespace date {
class time_zone;
}

namespace run_recorder {

class TimeZone {
 public:
  // "Europe/Berlin", "UTC". kInvalid: this system knows no such zone. kIo: it has no database of them, which UTC does
  // not need.
  static Result<TimeZone> find(std::string_view name);

  // A while in which the zone's clock is `offset` ahead of UTC.
  struct Period {
    Timestamp begin;
    Timestamp end;  // the first moment after it
    std::chrono::seconds offset;
  };
  Period period_at(Timestamp time) const;

  std::string name() const;

 private:
  explicit TimeZone(const date::time_zone* zone) : zone_(zone) {}

  const date::time_zone* zone_;  // lives as long as the process; nullptr: UTC
};

}  // namespace run_recorder
