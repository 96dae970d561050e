#include "cli/signal_sets.h"

#include <charconv>
#include <string>

#include "base/file.h"

namespace run_recorder {
namespace {

// The set of the line "\nSigBlk:\t0000000000010000".
std::optional<std::uint64_t> set_of(std::string_view status, std::string_view name) {
  const std::size_t line = status.find("\n" + std::string(name) + ":");
  if (line == std::string_view::npos) return std::nullopt;
  const std::size_t begin = status.find_first_of("0123456789abcdef", line + 1 + name.size() + 1);
  if (begin == std::string_view::npos) return std::nullopt;
  std::uint64_t set = 0;
  const auto [end, error] = std::from_chars(status.data() + begin, status.data() + status.size(), set, 16);
  return error == std::errc() ? std::optional(set) : std::nullopt;
}

}  // namespace

std::optional<SignalSets> parse_signal_sets(std::string_view status) {
  const auto pending = set_of(status, "ShdPnd");
  const auto blocked = set_of(status, "SigBlk");
  const auto ignored = set_of(status, "SigIgn");
  const auto caught = set_of(status, "SigCgt");
  if (!pending || !blocked || !ignored || !caught) return std::nullopt;
  return SignalSets{*pending, *blocked, *ignored, *caught};
}

std::optional<SignalSets> read_signal_sets(int status_fd) {
  std::string text(kMaxStatusBytes, '\0');
  const Result<std::size_t> got = read_at(status_fd, text.data(), text.size(), 0);
  if (!got) return std::nullopt;
  return parse_signal_sets(std::string_view(text).substr(0, *got));
}

}  // namespace run_recorder
