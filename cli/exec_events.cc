#include "cli/exec_events.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/ascii.h"
#include "base/json_writer.h"
#include "base/utf8.h"
#include "cli/event_line.h"
#include "cli/json_object.h"
#include "cli/text.h"
#include "run/names.h"

namespace run_recorder {
namespace {

const char* error_kind_of(const AttemptEnd& end) {
  if (end.timed_out_after) return "timeout";
  if (end.output_error != 0) return "output";
  return end.ending.signal != 0 ? "signal" : "exit";
}

std::string error_of(const AttemptEnd& end) {
  EventLine error;
  const Ending& ending = end.ending;
  if (was_cancelled(end)) {
    error.text("kind", "cancelled");
    error.text("message",
               fmt::format("asked to stop by {}, {}", signal_name(end.asked_to_stop_by), ending_in_words(end)));
  } else {
    error.text("kind", error_kind_of(end));
    error.text("message", ending.start_error != 0 ? end.command + " " + ending_in_words(end) : ending_in_words(end));
  }
  if (end.timed_out_after) error.number("timeout_ms", end.timed_out_after->count());
  if (ending.signal != 0) {
    error.text("signal", signal_name(ending.signal)).number("signal_number", ending.signal);
  } else {
    error.number("exit_status", ending.exit_status);
  }
  error.number("duration_ms", end.duration.count());
  error.json("stderr_tail", json_list(end.stderr_tail));
  return error.str();
}

// As it is, where a shell gives it no meaning of its own; else in quotes.
std::string shell_word(std::string_view word) {
  const auto is_plain = [](char c) {
    return is_letter(c) || is_digit(c) || std::string_view("%+,-./:=@_").find(c) != std::string_view::npos;
  };
  if (!word.empty() && std::ranges::all_of(word, is_plain)) return std::string(word);
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

}  // namespace

std::string started_line(const AttemptStart& start) {
  EventLine line;
  line.text("type", "run_started").text("run_id", start.run_id).text("id", start.event_id);
  line.text("at", format_rfc3339(start.at)).text("council", start.council);
  if (start.attempt) line.number("attempt", *start.attempt);
  if (start.parent_attempt_run_id) line.text("parent_attempt_run_id", *start.parent_attempt_run_id);
  if (start.oban_job_id) line.number("oban_job_id", *start.oban_job_id);
  if (start.queue) line.text("queue", *start.queue);
  if (start.job_id) line.text("job_id", *start.job_id);
  if (start.worker_pid) line.number("worker_pid", *start.worker_pid);
  if (start.unit) line.text("unit", *start.unit);
  if (start.user) line.text("user", *start.user);
  if (start.cwd) line.text("cwd", *start.cwd);
  line.text("command", start.command_text);
  if (start.log && valid_utf8(*start.log)) line.text("log", *start.log);
  return line.json("input", start.input).str();
}

std::string kept_line(const std::string& line, const std::optional<std::string>& host) {
  if (!host || JsonObject(line).text("type") != "run_started") return line;
  std::string added = EventLine().text("host", *host).str();
  added.back() = ',';
  return added + line.substr(1);
}

std::string ended_line(const AttemptEnd& end) {
  const bool completed = succeeded(end);
  EventLine line;
  line.text("type", completed ? "run_completed" : "run_failed").text("run_id", end.run_id).text("id", end.event_id);
  line.text("at", format_rfc3339(end.at));
  if (completed) {
    line.json("result", EventLine().number("exit_status", 0).number("duration_ms", end.duration.count()).str());
  } else {
    line.json("errors", "[" + error_of(end) + "]");
  }
  return line.str();
}

bool was_cancelled(const AttemptEnd& end) {
  if (end.asked_to_stop_by == 0 || end.timed_out_after || end.output_error != 0) return false;
  if (end.ending.succeeded() || end.ending.start_error != 0) return false;
  return end.asked_to_stop_by != SIGHUP || end.ending.signal == SIGHUP;
}

bool succeeded(const AttemptEnd& end) {
  return end.ending.succeeded() && !end.timed_out_after && end.output_error == 0;
}

bool worth_retrying(const AttemptEnd& end) {
  if (succeeded(end) || end.ending.start_error != 0 || was_cancelled(end)) return false;
  return !end.timed_out_after || end.asked_to_stop_by == 0;
}

std::string ending_in_words(const AttemptEnd& end) {
  const Ending& ending = end.ending;
  if (end.timed_out_after) return "did not end within " + format_duration(*end.timed_out_after);
  if (end.output_error != 0) return "could not write its standard output: " + errno_words(end.output_error);
  if (ending.start_error != 0) return "could not be run: " + errno_words(ending.start_error);
  if (ending.signal == 0) return fmt::format("exited with status {}", ending.exit_status);
  return fmt::format("was killed by {}{}", signal_name(ending.signal), ending.core_dumped ? " (core dumped)" : "");
}

std::string command_input(const std::vector<std::string>& command, bool with_arguments) {
  EventLine input;
  if (!with_arguments) return input.text("command", council_of(command.front())).str();
  std::vector<std::string> arguments;
  for (std::size_t i = 1; i < command.size(); ++i) arguments.push_back(replace_invalid_utf8(command[i]));
  return input.text("command", replace_invalid_utf8(command.front())).json("args", json_list(arguments)).str();
}

std::string command_text(const std::vector<std::string>& command, bool with_arguments) {
  constexpr std::string_view kCut = "…";
  std::string text = replace_invalid_utf8(command.front());
  if (with_arguments) text = shell_word(text);
  for (std::size_t i = 1; with_arguments && i < command.size(); ++i) {
    text += " " + shell_word(replace_invalid_utf8(command[i]));
  }
  if (text.size() <= kMaxCommandBytes) return text;
  return fmt::format("{}{}", utf8_prefix(text, kMaxCommandBytes - kCut.size()), kCut);
}

std::string council_of(const std::string& command) {
  std::string_view name = command;
  while (name.size() > 1 && name.back() == '/') name.remove_suffix(1);
  if (const std::size_t slash = name.rfind('/'); slash != std::string_view::npos && name.size() > 1) {
    name.remove_prefix(slash + 1);
  }
  const std::string valid = replace_invalid_utf8(name);
  return valid.empty() ? "command" : std::string(utf8_prefix(valid, kMaxNameBytes));
}

}  // namespace run_recorder
