// HOST:PORT of a TCP listener: IPV4:PORT, [IPV6]:PORT or localhost:PORT, as [metrics] listen takes it. Names are not
// looked up: that may block, and give another address each time. Pure, thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace run_recorder {

inline constexpr std::string_view kHostPortForms = "IPV4:PORT, [IPV6]:PORT or localhost:PORT";

struct HostPort {
  std::string address;     // numeric; 127.0.0.1 for localhost
  std::uint16_t port = 0;  // 1 to 65535
};

// kInvalid says what is wrong, in words that follow a colon.
Result<HostPort> parse_host_port(std::string_view text);

}  // namespace run_recorder
