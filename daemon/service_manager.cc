#include "service_manager.h"

#include <fmt/format.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include <cstdlib>

#include "base/result.h"

namespace run_recorder {
namespace {

void notify(const std::string& message) {
  sd_notify(0, message.c_str());
}

std::string one_line(std::string text) {
  for (char& c : text) {
    if (c == '\n') c = ' ';
  }
  return text;
}

}  // namespace

bool service_manager_listens() {
  const char* socket = std::getenv("NOTIFY_SOCKET");
  return socket != nullptr && *socket != '\0';
}

void notify_ready(const std::string& status) {
  notify("READY=1\nSTATUS=" + one_line(status));
}
void notify_status(const std::string& status) {
  notify("STATUS=" + one_line(status));
}

void notify_reloading() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const long long monotonic_us = static_cast<long long>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1'000;
  notify(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", monotonic_us));
}

void notify_stopping(const std::string& status) {
  notify("STOPPING=1\nSTATUS=" + one_line(status));
}

void notify_extend_timeout(std::chrono::microseconds time) {
  notify(fmt::format("EXTEND_TIMEOUT_USEC={}", time.count()));
}

void notify_watchdog() {
  notify("WATCHDOG=1");
}

std::optional<std::chrono::microseconds> watchdog_period() {
  std::uint64_t period_us = 0;
  if (sd_watchdog_enabled(0, &period_us) <= 0) return std::nullopt;
  return std::chrono::microseconds{period_us};
}

int inherited_socket() {
  const int count = sd_listen_fds(0);
  if (count <= 0) return -1;
  if (count > 1)
    throw StartError(kExitNotThere,
                     "the service manager passed more than one socket; one is allowed: the event socket");
  return SD_LISTEN_FDS_START;
}

}  // namespace run_recorder
