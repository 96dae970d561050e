// read_callers() of caller.h: the part that looks at /proc.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "base/file.h"
#include "cli/caller.h"
#include "cli/signal_sets.h"
#include "process/host.h"

namespace run_recorder {
namespace {

constexpr std::size_t kMaxCallers = 64;
constexpr std::size_t kMaxCommandLineBytes = std::size_t{8} << 20;  // Linux allows 6 MiB

std::vector<std::string> split_arguments(std::string_view command_line) {
  std::vector<std::string> arguments;
  while (!command_line.empty()) {
    const std::size_t end = std::min(command_line.find('\0'), command_line.size());
    arguments.emplace_back(command_line.substr(0, end));
    command_line.remove_prefix(std::min(end + 1, command_line.size()));
  }
  return arguments;
}

// Empty where it has ended or may not be seen.
std::optional<Caller> read_caller(pid_t pid) {
  const std::string entry = fmt::format("/proc/{}/", pid);
  const Result<std::string> command_line = read_file(entry + "cmdline", kMaxCommandLineBytes);
  Result<std::string> name = read_file(entry + "comm", 64);
  const Result<std::string> status = read_file(entry + "status", kMaxStatusBytes);
  if (!command_line || !name || !status) return std::nullopt;
  while (name->ends_with('\n')) name->pop_back();
  const SignalSets signals = parse_signal_sets(*status).value_or(SignalSets());
  std::error_code hidden;
  const std::filesystem::path executable = std::filesystem::read_symlink(entry + "exe", hidden);
  return Caller{.pid = pid,
                .arguments = split_arguments(*command_line),
                .name = *name,
                .executable = hidden ? std::string() : executable.string(),
                .ignores_sigint = SignalSets::has(signals.ignored, SIGINT),
                .ignores_sigquit = SignalSets::has(signals.ignored, SIGQUIT)};
}

bool proc_is_ours() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self", error) == std::to_string(::getpid()) && !error;
}

}  // namespace

std::vector<Caller> read_callers() {
  std::vector<Caller> callers;
  if (!proc_is_ours()) return callers;
  pid_t pid = ::getppid();  // 0: it is in another PID namespace
  while (pid > 0 && callers.size() < kMaxCallers) {
    std::optional<Caller> caller = read_caller(pid);
    const Result<process::Stat> stat = process::read_stat(pid);
    if (!caller || !stat) break;
    callers.push_back(std::move(*caller));
    pid = stat->parent;
  }
  return callers;
}

}  // namespace run_recorder
