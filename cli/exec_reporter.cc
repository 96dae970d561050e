#include "cli/exec_reporter.h"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "base/utf8.h"
#include "cli/exec_events.h"
#include "cli/own_place.h"
#include "cli/signal_relay.h"
#include "cli/terminal.h"

namespace run_recorder {
namespace {

constexpr std::chrono::milliseconds kLongestPause{5'000};
constexpr std::chrono::milliseconds kLongestPauseAtEnd{100};

}  // namespace

ExecReporter::ExecReporter(const EventSocket& socket, const std::string& unsent_folder, StreamRelay& words)
    : client_({.path = socket.path, .retry_refused = true, .longest_pause = kLongestPause}),
      words_(words),
      unsent_(unsent_folder, socket) {}

void ExecReporter::hurry() {
  client_.hurry(kLongestPauseAtEnd);
}

void ExecReporter::send(std::string line) {
  if (sent_ == 0) send_kept();
  ++waiting_;
  client_.add(++sent_, std::move(line));
  work();
}

void ExecReporter::send_kept() {
  for (const std::string& line : unsent_.take()) client_.add(++sent_, line);
  kept_ = sent_;
}

void ExecReporter::work() {
  for (const EventClient::Settled& one : client_.work(EventClient::Clock::now())) {
    if (one.tag <= kept_) {
      settle_kept(one);
      continue;
    }
    --waiting_;
    if (one.refusal) {
      words_.complain("the daemon refused an event of this run: " + printable(to_string(*one.refusal)));
    }
  }
  if (client_.away() || client_.forbidden()) say_away();
}

void ExecReporter::settle_kept(const EventClient::Settled& settled) {
  const auto line = static_cast<std::size_t>(settled.tag - 1);
  if (settled.refusal) {
    words_.complain(set_aside_in_words(unsent_, line, *settled.refusal));
  } else {
    unsent_.acknowledged(line);
  }
  if (unsent_.all_settled()) unsent_.release();
}

void ExecReporter::leave_unsent(int stopped_by) {
  unsent_.release();
  if (waiting_ == 0) return;
  if (!said_) words_.complain(why_unsent(stopped_by) + "; the events not acknowledged, for run-recorder emit:");
  const std::optional<std::string> host = own_host_name();
  std::string lines;
  for (const EventClient::Waiting& one : client_.waiting()) {
    if (one.tag > kept_) lines += kept_line(one.line, host) + "\n";
  }
  // On a terminal it is the same JSON; what the command wrote last is in it.
  words_.write(::isatty(STDERR_FILENO) == 1 ? printable_json(lines) : lines);
  const Result<std::string> file = unsent_.keep(lines);
  words_.complain(file ? fmt::format("they are kept in {}; the next exec or emit that reaches the daemon sends them",
                                     printable(*file))
                       : "they are kept in no file: " + printable(file.error().message));
}

void ExecReporter::say_away() {
  if (std::exchange(said_, true)) return;
  words_.complain(printable(client_.problem()) +
                  "; the command runs all the same, and events that cannot be sent until its "
                  "end are printed here, for run-recorder emit");
}

std::string ExecReporter::why_unsent(int stopped_by) const {
  if (!client_.problem().empty()) return printable(client_.problem());
  for (const EventClient::Waiting& one : client_.waiting()) {
    if (one.refusal) return "the daemon cannot take events now: " + printable(to_string(*one.refusal));
  }
  if (stopped_by == 0) return "the daemon does not answer";
  return fmt::format("asked to stop by {} before the daemon had answered", signal_name(stopped_by));
}

}  // namespace run_recorder
