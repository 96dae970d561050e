// Points in time as the project uses them: UTC, microseconds, years 0001 to 9999. Pure but for now_utc(),
// thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace run_recorder {

using Timestamp = std::chrono::sys_time<std::chrono::microseconds>;

// The wall clock as a parameter, so that tests can set it.
using WallClock = std::function<Timestamp()>;
Timestamp now_utc();

// RFC 3339 with an offset ("2026-01-02T03:04:05.678+01:00", also "Z", lower case t and z, a space for T). Digits
// after the sixth of the fraction are cut; second 60 is read as the first moment of the next minute. Empty where the
// text is no such time, has no offset, or lies outside of 0001-01-01T00:00:00Z … 9999-12-31T23:59:59.999999Z.
std::optional<Timestamp> parse_rfc3339(std::string_view text);

// "2026-01-02T02:04:05.678000Z": always 27 characters, so that text order is time order.
std::string format_rfc3339(Timestamp time);

// "350ms", "30s", "5m", "24h", "7d", "1w", also sums ("1h30m"); "0s". Empty where the unit is missing, the value is
// negative, or longer than kLongestDuration: that much can be added to or taken from any present time without
// overflow.
inline constexpr std::chrono::days kLongestDuration{36'500};
std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);
// The shortest exact form: 90s -> "1m30s".
std::string format_duration(std::chrono::milliseconds duration);

// "512B", "64KiB", "16MiB", "1GiB", "2TiB". Empty where the unit is missing or the value does not fit.
std::optional<std::uint64_t> parse_size(std::string_view text);
std::string format_size(std::uint64_t bytes);
// For people, to a tenth: "512 B", "1.5 KiB", "1 GiB".
std::string size_in_words(std::uint64_t bytes);

}  // namespace run_recorder
