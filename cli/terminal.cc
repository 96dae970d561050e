#include "cli/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>

#include "base/file.h"
#include "base/url.h"
#include "base/utf8.h"

namespace run_recorder {
namespace {

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

std::string_view escape_of(Colour colour) {
  switch (colour) {
    case Colour::kNone:
      return "";
    case Colour::kDim:
      return "\033[2m";
    case Colour::kBold:
      return "\033[1m";
    case Colour::kRed:
      return "\033[31m";
    case Colour::kGreen:
      return "\033[32m";
    case Colour::kYellow:
      return "\033[33m";
    case Colour::kBlue:
      return "\033[34m";
    case Colour::kMagenta:
      return "\033[35m";
    case Colour::kCyan:
      return "\033[36m";
  }
  return "";
}

}  // namespace

Terminal terminal_of(int fd) {
  Terminal terminal;
  terminal.is_terminal = ::isatty(fd) == 1;
  if (!terminal.is_terminal) return terminal;
  const char* kind = std::getenv("TERM");
  terminal.colour = !is_set("NO_COLOR") && kind != nullptr && std::string_view(kind) != "dumb";
  winsize size{};
  terminal.columns = ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
  return terminal;
}

std::string coloured(std::string_view text, Colour colour, const Terminal& terminal) {
  if (!terminal.colour || colour == Colour::kNone) return std::string(text);
  return std::string(escape_of(colour)).append(text).append("\033[0m");
}

void print(std::string_view text) {
  const Result<void> written = write_all(STDOUT_FILENO, text);
  if (!written) throw StartError(kExitOther, "standard output: " + written.error().message);
}

void print_json(std::string_view lines) {
  if (::isatty(STDOUT_FILENO) == 1) {
    print(printable_json(lines));
  } else {
    print(lines);
  }
}

void pause_while_read(std::chrono::milliseconds time) {
  // Closed from the beginning: open_standard_streams() has opened it for reading only.
  const bool closed = (::fcntl(STDOUT_FILENO, F_GETFL) & O_ACCMODE) == O_RDONLY;
  constexpr std::int64_t kLongestPollMs = std::int64_t{24} * 3'600'000;  // an int holds 24 days of them
  pollfd output{STDOUT_FILENO, 0, 0};
  if (!closed && ::poll(&output, 1, static_cast<int>(std::min<std::int64_t>(time.count(), kLongestPollMs))) <= 0)
    return;
  ::raise(SIGPIPE);
  throw StartError(kExitOther, "standard output: nobody reads it");
}

std::string complaint(std::string_view text) {
  std::string line = "run-recorder: ";
  const std::string hidden = hide_passwords(text);
  for (std::string_view rest = hidden;;) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    line.append(printable(rest.substr(0, end))).append("\n");
    if (end == rest.size()) break;
    rest.remove_prefix(end + 1);
  }
  return line;
}

void complain(std::string_view text) {
  // Where standard error is gone too there is nobody left to tell.
  (void)write_all(STDERR_FILENO, complaint(text));
}

int exit_status_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUnavailable:
      return kExitNotThere;
    case ErrorKind::kInvalid:
    case ErrorKind::kNotFound:
    case ErrorKind::kConflict:
    case ErrorKind::kFull:
    case ErrorKind::kDenied:
    case ErrorKind::kData:
    case ErrorKind::kRefused:
    case ErrorKind::kInDoubt:
    case ErrorKind::kCorrupt:
    case ErrorKind::kIo:
    case ErrorKind::kInternal:
      return kExitOther;
  }
  return kExitOther;
}

int fail(const Error& error) {
  complain(error.message);
  return exit_status_of(error.kind);
}

}  // namespace run_recorder
