// Percent-encoding (RFC 3986), as URLs of databases and requests to the control API have it. Pure, thread-safe.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace run_recorder {

// Everything but letters, digits and -._~ as %XX.
std::string percent_encode(std::string_view text);
// Empty where two hexadecimal digits do not follow a %, or they are 00.
std::optional<std::string> percent_decode(std::string_view text);

}  // namespace run_recorder
