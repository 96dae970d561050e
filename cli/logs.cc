// `run-recorder logs`: what a run of `exec --log-dir` wrote to its standard streams.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/utf8.h"
#include "cli/about_run.h"
#include "cli/command.h"
#include "cli/json_object.h"
#include "cli/own_place.h"
#include "cli/run_log.h"
#include "cli/terminal.h"
#include "cli/whole_id.h"

namespace run_recorder {
namespace {

constexpr std::size_t kShownBytes = std::size_t{64} << 10;
constexpr std::chrono::milliseconds kFollowInterval{200};
// The start comes first; an id that is used again starts again.
constexpr std::uint64_t kLookedAt = 1'000;
constexpr std::size_t kNamedLogs = 5;

struct LogsOptions {
  std::string run_id;
  std::optional<std::string> folder;
  bool follow = false;
};

// Where a run's log is, by its history.
struct KnownLog {
  std::string run_id, path, host, user;  // host and user: as far as they are known
};

Result<KnownLog> ask_for_log(const ControlClient& client, const std::string& run_id) {
  const Result<ControlAnswer> answer =
      ask_by_id(client, Ids::kRuns, run_id, [&](const std::string& id) { return client.get(run_path(id)); });
  if (!answer) return answer.error();
  const JsonObject run(answer->body);
  KnownLog known{.run_id = run.text("run_id"), .path = {}, .host = run.text("host"), .user = run.text("os_user")};
  const auto take = [&](const std::vector<std::string_view>& items) {
    for (const std::string_view item : items) {
      const JsonObject event(item);
      if (event.text("type") != "run_started") continue;
      // As another sender may call something else, too.
      const std::string path = event.object("payload").text("log");
      if (path.starts_with('/')) known.path = path;
    }
  };
  const Result<Listed> listed =
      list_pages(client, Target(run_path(known.run_id, "/events")), "events", kLookedAt, take);
  if (!listed) return listed.error();
  if (known.path.empty()) {
    return Error{ErrorKind::kNotFound,
                 fmt::format("run {} has no log; exec writes one with --log-dir", known.run_id)};
  }
  return known;
}

// Says where it is when it is not here.
Result<UniqueFd> open_known(const KnownLog& known) {
  Result<UniqueFd> fd = open_log(known.path);
  if (fd) return fd;
  const std::optional<std::string> here = own_host_name();
  if (fd.error().kind == ErrorKind::kNotFound && !known.host.empty() && here && known.host != *here) {
    return Error{ErrorKind::kNotFound,
                 fmt::format("the log of run {} is on host {}: {}", known.run_id, known.host, known.path)};
  }
  if (fd.error().kind == ErrorKind::kNotFound) {
    return Error{ErrorKind::kNotFound,
                 fmt::format("{}; it was removed, or the run was in a container", fd.error().message)};
  }
  if (fd.error().kind == ErrorKind::kDenied && !known.user.empty()) {
    return Error{ErrorKind::kDenied, fmt::format("{}; it is user {}'s", fd.error().message, known.user)};
  }
  return fd;
}

Result<UniqueFd> open_in_folder(const std::string& folder, const std::string& run_id) {
  const Result<std::vector<FoundLog>> found = find_logs(folder, run_id);
  if (!found) return found.error();
  if (found->empty()) {
    return Error{ErrorKind::kNotFound, fmt::format("no log of a run {} is in {}", run_id, folder)};
  }
  if (found->size() == 1) return open_log(found->front().path);
  std::vector<std::string> names;
  for (const FoundLog& one : *found) {
    if (names.size() < kNamedLogs) names.push_back(one.name);
  }
  return Error{ErrorKind::kConflict,
               fmt::format("the logs of {} runs in {} begin with {}: {}{}", found->size(), folder, run_id,
                           fmt::join(names, ", "), names.size() < found->size() ? ", ..." : "")};
}

// How much of the text is whole characters: what is read may end inside of one.
std::size_t whole_characters(std::string_view text) {
  constexpr std::size_t kLongestSequence = 4;
  for (std::size_t back = 1; back <= std::min(text.size(), kLongestSequence - 1); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if (byte < 0x80) break;
    if (byte < 0xC0) continue;
    const std::size_t length = byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : kLongestSequence;
    return length > back ? text.size() - back : text.size();
  }
  return text.size();
}

// For a terminal, which another user's job must not command: line feeds and tabs stay.
std::string for_terminal(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of("\n\t"), text.size());
    std::string_view part = text.substr(0, end);
    if (end < text.size() && text[end] == '\n' && part.ends_with('\r')) part.remove_suffix(1);
    shown += printable(part);
    if (end < text.size()) shown += text[end];
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return shown;
}

class Printer {
 public:
  explicit Printer(UniqueFd log) : log_(std::move(log)), escapes_(::isatty(STDOUT_FILENO) == 1) {}

  // All there is now.
  Result<void> print_rest() {
    std::string piece(kShownBytes, '\0');
    while (true) {
      const Result<std::size_t> got = read_at(log_.get(), piece.data(), piece.size(), static_cast<off_t>(read_));
      if (!got) return got.error();
      if (*got == 0) return {};
      read_ += *got;
      show(std::string_view(piece).substr(0, *got));
    }
  }

  // Also what comes, until its writer has finished.
  Result<void> follow() {
    while (true) {
      const bool goes_on = is_being_written(log_.get());
      if (const Result<void> printed = print_rest(); !printed) return printed;
      if (!goes_on) return {};
      pause_while_read(kFollowInterval);
    }
  }

  void finish() {
    if (!held_.empty()) print(for_terminal(held_));
  }

 private:
  void show(std::string_view bytes) {
    if (!escapes_) return print(bytes);
    held_ += bytes;
    const std::size_t whole = whole_characters(held_);
    print(for_terminal(std::string_view(held_).substr(0, whole)));
    held_.erase(0, whole);
  }

  UniqueFd log_;
  bool escapes_;
  std::uint64_t read_ = 0;
  std::string held_;  // the beginning of a character
};

int show_log(const LogsOptions& options, const Invocation& invocation) {
  const auto open = [&]() -> Result<UniqueFd> {
    if (options.folder) return open_in_folder(*options.folder, options.run_id);
    const Result<KnownLog> known = ask_for_log(invocation.context().client, options.run_id);
    return known ? open_known(*known) : Result<UniqueFd>(known.error());
  };
  Result<UniqueFd> log = open();
  if (!log) return fail(log.error());
  Printer printer(std::move(*log));
  const Result<void> printed = options.follow ? printer.follow() : printer.print_rest();
  printer.finish();
  return printed ? kExitDone : fail(printed.error());
}

Handler declare_logs(Flags flags) {
  const auto options = std::make_shared<LogsOptions>();
  flags.operand("RUN", options->run_id, "The run's id, or its beginning");
  flags.on("--follow,-f", options->follow, "Go on until the run ends");
  flags.text("--log-dir", options->folder, "Look in this folder, without asking the daemon", "DIR");
  return [options](const Invocation& invocation) { return show_log(*options, invocation); };
}

}  // namespace

extern const Command kLogsCommand = {
    "logs", "Show what a run of exec --log-dir wrote to its standard output and standard error", declare_logs};

}  // namespace run_recorder
