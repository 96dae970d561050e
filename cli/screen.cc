#include "cli/screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace run_recorder {
namespace {

constexpr std::string_view kEnter = "\033[?1049h\033[?25l\033[2J\033[H";
constexpr std::string_view kLeave = "\033[?25h\033[?1049l";
constexpr std::array kEnding = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

// For the handlers of signals, which may do little: write(2), tcsetattr(3) and raise(3) are among it
// (signal-safety(7)).
volatile std::sig_atomic_t screen_is_entered = 0;
volatile std::sig_atomic_t screen_is_used = 0;
// Readable once the screen must be drawn again; a handler may run between drawing and poll(2).
int redraw_wanted = -1;
bool keys_are_read = false;
termios usual_modes{};

void write_to_terminal(std::string_view text) {
  // Whoever cannot be written to needs no screen either.
  const ssize_t ignored = ::write(STDOUT_FILENO, text.data(), text.size());
  (void)ignored;
}

// In the background the terminal is somebody else's, and touching its modes would stop us.
bool is_in_foreground() {
  return ::tcgetpgrp(STDIN_FILENO) == ::getpgrp();
}

void take_screen() {
  if (keys_are_read) {
    termios modes = usual_modes;
    modes.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    modes.c_cc[VMIN] = 0;
    modes.c_cc[VTIME] = 0;
    ::tcsetattr(STDIN_FILENO, TCSANOW, &modes);
  }
  write_to_terminal(kEnter);
  screen_is_entered = 1;
}

void give_screen_back() {
  if (screen_is_entered == 0) return;
  screen_is_entered = 0;
  write_to_terminal(kLeave);
  if (keys_are_read && is_in_foreground()) ::tcsetattr(STDIN_FILENO, TCSANOW, &usual_modes);
}

// Does what the signal does without a handler.
void raise_as_usual(int signal) {
  struct sigaction usual {};
  struct sigaction ours {};
  usual.sa_handler = SIG_DFL;
  ::sigaction(signal, &usual, &ours);
  sigset_t set;
  sigset_t before;
  sigemptyset(&set);
  sigaddset(&set, signal);
  ::raise(signal);
  ::pthread_sigmask(SIG_UNBLOCK, &set, &before);
  // Only a stop comes back.
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::sigaction(signal, &ours, nullptr);
}

void want_redraw() {
  const std::uint64_t one = 1;
  const ssize_t ignored = ::write(redraw_wanted, &one, sizeof(one));
  (void)ignored;
}

void end_by(int signal) {
  give_screen_back();
  raise_as_usual(signal);
}

void stop_by(int signal) {
  const int before = errno;
  give_screen_back();
  raise_as_usual(signal);
  if (screen_is_used != 0) take_screen();
  want_redraw();
  errno = before;
}

void note_size(int) {
  const int before = errno;
  want_redraw();
  errno = before;
}

// A signal that is ignored, as by nohup, stays so.
void handle(int signal, void (*handler)(int)) {
  struct sigaction before {};
  if (::sigaction(signal, nullptr, &before) != 0 || before.sa_handler == SIG_IGN) return;
  struct sigaction action {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  ::sigaction(signal, &action, nullptr);
}

}  // namespace

void Screen::enter() {
  if (screen_is_used != 0) return;
  keys_are_read = ::isatty(STDIN_FILENO) == 1 && ::tcgetattr(STDIN_FILENO, &usual_modes) == 0;
  if (redraw_wanted < 0) redraw_wanted = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  screen_is_used = 1;
  for (const int signal : kEnding) handle(signal, end_by);
  handle(SIGTSTP, stop_by);
  handle(SIGWINCH, note_size);
  take_screen();
}

void Screen::leave() {
  screen_is_used = 0;
  give_screen_back();
}

std::optional<char> Screen::wait_for_key(std::chrono::milliseconds time) {
  constexpr std::int64_t kLongestPollMs = std::int64_t{24} * 3'600'000;
  pollfd polled[3] = {
      {STDOUT_FILENO, 0, 0}, {keys_are_read ? STDIN_FILENO : -1, POLLIN, 0}, {redraw_wanted, POLLIN, 0}};
  const int ready = ::poll(polled, 3, static_cast<int>(std::min<std::int64_t>(time.count(), kLongestPollMs)));
  if (ready <= 0) return std::nullopt;
  if (polled[0].revents != 0) {
    ::raise(SIGHUP);
    throw StartError(kExitOther, "standard output: the terminal is gone");
  }
  if (polled[2].revents != 0) {
    std::uint64_t times = 0;
    const ssize_t ignored = ::read(redraw_wanted, &times, sizeof(times));
    (void)ignored;
    return std::nullopt;
  }
  char key = 0;
  const ssize_t got = ::read(STDIN_FILENO, &key, 1);
  if (got == 1) return key;
  if (got == 0 || (errno != EINTR && errno != EAGAIN)) keys_are_read = false;
  return std::nullopt;
}

}  // namespace run_recorder
