#include "cli/sidecar.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <optional>
#include <string>

#include "cli/signal_relay.h"
#include "cli/signal_sets.h"

namespace run_recorder {
namespace {

// How long a request to stop leaves for what is not written yet.
constexpr std::chrono::milliseconds kLastRelayWait{2'000};
// After poll(2) a pipe takes as much without blocking.
constexpr std::size_t kRelayPieceBytes = 4'096;

enum class Order : char { kForget = 'f', kClosePipe = 'c', kDismiss = 'd', kTakeOver = 't' };

// Where the forked process keeps its descriptors.
constexpr int kOrders = STDIN_FILENO;
constexpr int kPipe = STDOUT_FILENO;
constexpr int kStream = STDERR_FILENO;

// A name of its own for ps, and for pkill: a signal to all that are called run-recorder is not one to this group. The
// words of the command line lie in memory one behind the other.
void take_name() {
  constexpr char kName[] = "exec-sidecar";
  ::prctl(PR_SET_NAME, kName);
  const Result<std::string> words = read_file("/proc/self/cmdline", std::size_t{1} << 22);
  if (!words || words->size() <= sizeof(kName)) return;
  std::memset(program_invocation_name, 0, words->size());
  std::memcpy(program_invocation_name, kName, sizeof(kName));
}

// The forked process: never returns to what it was forked from.
class Process {
 public:
  Process(int orders, int pipe, int stream) : has_pipe_(pipe >= 0) {
    keep_only(orders, pipe, stream);
    take_name();
    sigset_t blocked;
    ::sigprocmask(SIG_BLOCK, nullptr, &blocked);
    sigdelset(&blocked, SIGCHLD);
    sigdelset(&blocked, SIGPIPE);
    signals_.reset(::signalfd(-1, &blocked, SFD_NONBLOCK | SFD_CLOEXEC));
  }

  [[noreturn]] void run() {
    const std::string left = wait_for_orders();
    write(left);
    carry_on();
    ::_exit(0);
  }

 private:
  // Whoever waits for the end of our other standard streams, or of a connection to the daemon, shall not wait for
  // this process.
  static void keep_only(int orders, int pipe, int stream) {
    if (stream != kStream) ::dup2(stream, kStream);
    ::dup2(orders, kOrders);
    if (pipe >= 0) {
      ::dup2(pipe, kPipe);
    } else {
      ::dup2(::open("/dev/null", O_RDONLY), kPipe);
    }
    ::close_range(kStream + 1, ~0U, 0);
  }

  // Until exec has ended, or told to take over; what it left unwritten.
  std::string wait_for_orders() {
    while (true) {
      char order = 0;
      const ssize_t got = ::read(kOrders, &order, 1);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return {};
      switch (static_cast<Order>(order)) {
        case Order::kForget:
          (void)take_signals();
          break;
        case Order::kClosePipe:
          close_pipe();
          break;
        case Order::kDismiss:
          ::_exit(0);
        case Order::kTakeOver:
          return read_left();
      }
    }
  }

  static std::string read_left() {
    std::string left;
    char buffer[kRelayPieceBytes];
    while (true) {
      const ssize_t got = ::read(kOrders, buffer, sizeof(buffer));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return left;
      left.append(buffer, static_cast<std::size_t>(got));
    }
  }

  void carry_on() {
    char buffer[kRelayPieceBytes];
    while (has_pipe_) {
      pollfd polled{kPipe, POLLIN, 0};  // exec had made it non-blocking
      ::poll(&polled, 1, -1);
      const ssize_t got = ::read(kPipe, buffer, sizeof(buffer));
      if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (got <= 0) return;
      write(std::string_view(buffer, static_cast<std::size_t>(got)));
    }
  }

  void write(std::string_view bytes) {
    while (!bytes.empty()) {
      wait_until_writable();
      const ssize_t wrote = ::write(kStream, bytes.data(), std::min(kRelayPieceBytes, bytes.size()));
      if (wrote < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (wrote < 0 && errno == EPIPE) ::_exit(0);  // nobody reads it any more
      if (wrote < 0) return;                        // a full disk, a terminal that hung up
      bytes.remove_prefix(static_cast<std::size_t>(wrote));
    }
  }

  // While the command or a process of it can still write, requests to stop are theirs. Then they are ours too.
  void wait_until_writable() {
    bool writers = has_pipe_;
    while (true) {
      const bool ends_soon = stop_requested_ && !writers;
      pollfd all[3] = {
          {kStream, POLLOUT, 0}, {ends_soon ? -1 : signals_.get(), POLLIN, 0}, {writers ? kPipe : -1, 0, 0}};
      const int ready = ::poll(all, 3, ends_soon ? static_cast<int>(kLastRelayWait.count()) : -1);
      if (ready == 0) ::_exit(0);
      if (all[0].revents != 0) return;
      if (all[1].revents != 0) stop_requested_ = take_signals() || stop_requested_;
      if (all[2].revents != 0) writers = false;
    }
  }

  // True where one of them asks to stop.
  bool take_signals() {
    bool stop = false;
    signalfd_siginfo info{};
    while (::read(signals_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
      stop = stop || asks_to_stop(static_cast<int>(info.ssi_signo));
    }
    return stop;
  }

  void close_pipe() {
    if (!std::exchange(has_pipe_, false)) return;
    const UniqueFd null(::open("/dev/null", O_RDONLY));
    ::dup2(null.get(), kPipe);
  }

  bool has_pipe_;
  UniqueFd signals_;
  bool stop_requested_ = false;
};

}  // namespace

Result<Sidecar> Sidecar::start(int pipe, int stream) {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return system_error_of("pipe");
  const UniqueFd reading(fds[0]);
  UniqueFd writing(fds[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return system_error_of("fork");
  if (pid == 0) Process(reading.get(), pipe, stream).run();
  Sidecar sidecar;
  sidecar.orders_ = std::move(writing);
  // Opened while it cannot have been reaped, this never becomes another process's.
  sidecar.status_.reset(::open(fmt::format("/proc/{}/status", pid).c_str(), O_RDONLY | O_CLOEXEC));
  return sidecar;
}

bool Sidecar::has_received(int signal) const {
  if (!status_) return false;
  const std::optional<SignalSets> sets = read_signal_sets(status_.get());
  return sets && SignalSets::has(sets->pending, signal);
}

void Sidecar::order(char order) {
  if (orders_) (void)write_all(orders_.get(), {&order, 1});
}

void Sidecar::forget_signals() {
  order(static_cast<char>(Order::kForget));
}

void Sidecar::close_pipe() {
  order(static_cast<char>(Order::kClosePipe));
}

void Sidecar::dismiss() {
  order(static_cast<char>(Order::kDismiss));
  orders_.reset();
}

void Sidecar::take_over(std::string_view left) {
  order(static_cast<char>(Order::kTakeOver));
  if (orders_) (void)write_all(orders_.get(), left);
  orders_.reset();
}

}  // namespace run_recorder
