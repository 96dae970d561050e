// Where the tool's words go: standard output for what was asked for, standard error for what went wrong. One thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"

namespace run_recorder {

enum class Colour { kNone, kDim, kBold, kRed, kGreen, kYellow, kBlue, kMagenta, kCyan };

struct Terminal {
  bool is_terminal = false;
  bool colour = false;      // a terminal that knows colours, and no NO_COLOR
  std::size_t columns = 0;  // 0: as wide as it takes (no terminal)
};
// Of standard output (1) or standard error (2), now: a window may have been resized.
Terminal terminal_of(int fd);

// The text in that colour, where the terminal has colours.
std::string coloured(std::string_view text, Colour colour, const Terminal& terminal);

// Writes to standard output. Throws StartError (1) where that fails: a full disk must not look like an empty answer.
void print(std::string_view text);
// JSON, one object a line, to standard output; on a terminal it is the same JSON with \uXXXX for what would command
// it.
void print_json(std::string_view lines);
// Waits that long, for what is printed from time to time. Where whoever reads standard output goes meanwhile, this
// process ends as by the next print: by SIGPIPE, or with StartError (1) where that is ignored.
void pause_while_read(std::chrono::milliseconds time);
// "run-recorder: <text>\n", made printable line by line and without the passwords of URLs.
std::string complaint(std::string_view text);
// The same to standard error.
void complain(std::string_view text);

// Says the error and gives the exit status that belongs to it (contract section 7).
int fail(const Error& error);
int exit_status_of(ErrorKind kind);

}  // namespace run_recorder
