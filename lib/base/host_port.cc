#include "base/host_port.h"

#include <arpa/inet.h>

#include "base/number.h"

namespace run_recorder {
namespace {

Error invalid(const char* why) {
  return Error{ErrorKind::kInvalid, why};
}

}  // namespace

Result<HostPort> parse_host_port(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return invalid("it has no port");
  const std::string_view host = text.substr(0, colon);
  const auto port = parse_number<std::uint16_t>(text.substr(colon + 1));
  if (!port || port == 0) return invalid("its port is not a number from 1 to 65535");
  HostPort parsed{"127.0.0.1", *port};
  if (host == "localhost") return parsed;
  const bool bracketed = host.starts_with('[') && host.ends_with(']') && host.size() > 2;
  if (!bracketed && host.find_first_of(":[]") != std::string_view::npos) {
    return invalid("an IPv6 address needs brackets");
  }
  parsed.address = bracketed ? host.substr(1, host.size() - 2) : host;
  unsigned char bytes[sizeof(in6_addr)];
  const bool numeric = inet_pton(bracketed ? AF_INET6 : AF_INET, parsed.address.c_str(), bytes) == 1;
  if (!numeric) return invalid("its host is not an address");
  return parsed;
}

}  // namespace run_recorder
