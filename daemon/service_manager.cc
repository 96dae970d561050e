#include "service_manager.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <deque>

#include "base/file.h"
#include "base/mutex.h"
#include "base/result.h"

namespace run_recorder {
namespace {

// Where it is to be told; empty: nobody asks. As sd_notify(3) reads it, of whose addresses AF_VSOCK is left out.
std::optional<sockaddr_un> notify_address(socklen_t& bytes) {
  const char* text = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t length = text == nullptr ? 0 : std::strlen(text);
  if (length < 2 || length >= sizeof(address.sun_path) || (text[0] != '/' && text[0] != '@')) return std::nullopt;
  std::memcpy(address.sun_path, text, length);
  if (text[0] == '@') address.sun_path[0] = '\0';  // an abstract one
  bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length + (text[0] == '/' ? 1 : 0));
  return address;
}

// sd_notify(3) would wait for a manager that does not read. False: there is no room for it now.
bool send_now(const std::string& message) {
  socklen_t bytes = 0;
  const auto address = notify_address(bytes);
  if (!address) return true;
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const ssize_t sent = ::sendto(socket.get(), message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                                reinterpret_cast<const sockaddr*>(&*address), bytes);
  return sent >= 0 || (errno != EAGAIN && errno != ENOBUFS);
}

// What must arrive is kept until the manager has room for it; the others (a watchdog's beat, a sentence) have a
// successor.
class Undelivered {
 public:
  void tell(const std::string& message, bool must_arrive) {
    const MutexLock lock(mutex_);
    send_kept();
    if (kept_.empty() && send_now(message)) return;
    if (must_arrive && kept_.size() < kMost) kept_.push_back(message);
  }
  void tell_again() {
    const MutexLock lock(mutex_);
    send_kept();
  }

 private:
  static constexpr std::size_t kMost = 16;
  void send_kept() REQUIRES(mutex_) {
    while (!kept_.empty() && send_now(kept_.front())) kept_.pop_front();
  }

  Mutex mutex_;
  std::deque<std::string> kept_ GUARDED_BY(mutex_);
};
Undelivered undelivered;

void notify(const std::string& message, bool must_arrive = false) {
  undelivered.tell(message, must_arrive);
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
  notify("READY=1\nSTATUS=" + one_line(status), true);
}
void notify_status(const std::string& status) {
  notify("STATUS=" + one_line(status));
}

void notify_reloading() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const long long monotonic_us = static_cast<long long>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1'000;
  notify(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", monotonic_us), true);
}

void notify_stopping(const std::string& status) {
  notify("STOPPING=1\nSTATUS=" + one_line(status), true);
}

void notify_extend_timeout(std::chrono::microseconds time) {
  notify(fmt::format("EXTEND_TIMEOUT_USEC={}", time.count()));
}

void notify_again() {
  undelivered.tell_again();
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
    throw StartError(kExitNotThere, "the service manager passed more than one socket: must be the event socket only");
  return SD_LISTEN_FDS_START;
}

}  // namespace run_recorder
