// The path of a UNIX socket as an address. Pure.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstring>
#include <optional>
#include <string_view>

namespace run_recorder {

inline constexpr std::size_t kMaxSocketPathBytes =
    sizeof(sockaddr_un::sun_path) - 1;  // the last one is NUL (unix(7))

// Empty where the path is longer.
inline std::optional<sockaddr_un> socket_address(std::string_view path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() > kMaxSocketPathBytes) return std::nullopt;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

}  // namespace run_recorder
