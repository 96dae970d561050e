// Times as people write and read them: in local time (TZ), as journalctl has them. Reads the process's time zone, and
// nothing else; one thread. main sets the zone before.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/time.h"

namespace run_recorder {

// What parse_moment() takes, for messages: "must be …".
inline constexpr std::string_view kMoments =
    "a time such as \"2026-01-02 03:04\", 2026-01-02, 03:04, yesterday or 2026-01-02T03:04:05Z, or a duration before "
    "now such as 1h or 1w";

// A day, a day with a time of day, a time of day (today's), now, today, yesterday, tomorrow; a duration before now as
// "2h", "-2h", "2 days ago", "1h 30min", behind it with "+"; RFC 3339 with an offset. A time without an offset is
// local, or UTC where " UTC" follows. What no clock shows, because it was set forward then, is read as mktime(3)
// does.
std::optional<Timestamp> parse_moment(std::string_view text, Timestamp now);

// "2026-01-02 03:04:05 CET"
std::string local_time(Timestamp time);
// For columns: "03:04:05" of the day of now, "01-02 03:04" of its year, else "2025-01-02".
std::string short_local_time(Timestamp time, Timestamp now);
// For programs that read tables: "2026-01-02 03:04:05+01:00"; with milliseconds where they are wanted.
enum class Digits { kSeconds, kMilliseconds };
std::string local_time_with_offset(Timestamp time, Digits digits = Digits::kSeconds);
// "2026-01-02 03:04:05.678"
std::string local_milliseconds(Timestamp time);

}  // namespace run_recorder
