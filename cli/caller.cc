#include "cli/caller.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>
#include <utility>

namespace run_recorder {
namespace {

using namespace std::string_view_literals;

// All of them sorted, for a binary search.
constexpr std::array kShells{"ash"sv,  "bash"sv, "csh"sv,  "dash"sv,  "fish"sv, "ksh"sv,  "ksh93"sv, "lksh"sv,
                             "mksh"sv, "oksh"sv, "posh"sv, "rbash"sv, "sh"sv,   "tcsh"sv, "yash"sv,  "zsh"sv};
// They run a command and end with it, or before it. run-recorder is exec; erl_child_setup starts the commands of a
// BEAM.
constexpr std::array kRunners{"bwrap"sv,
                              "catatonit"sv,
                              "chpst"sv,
                              "chroot"sv,
                              "chrt"sv,
                              "dbus-run-session"sv,
                              "doas"sv,
                              "dumb-init"sv,
                              "entr"sv,
                              "env"sv,
                              "erl_child_setup"sv,
                              "faketime"sv,
                              "find"sv,
                              "firejail"sv,
                              "flock"sv,
                              "gosu"sv,
                              "ionice"sv,
                              "logsave"sv,
                              "ltrace"sv,
                              "nice"sv,
                              "nohup"sv,
                              "npm"sv,
                              "npx"sv,
                              "nsenter"sv,
                              "numactl"sv,
                              "perf"sv,
                              "pkexec"sv,
                              "pnpm"sv,
                              "proot"sv,
                              "run-parts"sv,
                              "run-recorder"sv,
                              "run0"sv,
                              "runuser"sv,
                              "s6-setuidgid"sv,
                              "script"sv,
                              "setarch"sv,
                              "setpriv"sv,
                              "setsid"sv,
                              "setuidgid"sv,
                              "softlimit"sv,
                              "start-stop-daemon"sv,
                              "stdbuf"sv,
                              "strace"sv,
                              "su"sv,
                              "su-exec"sv,
                              "sudo"sv,
                              "systemd-inhibit"sv,
                              "taskset"sv,
                              "time"sv,
                              "timeout"sv,
                              "tini"sv,
                              "unshare"sv,
                              "uv"sv,
                              "uvx"sv,
                              "watch"sv,
                              "xargs"sv,
                              "yarn"sv};
// The same, written in an interpreter's language: only the name of the executed file tells.
constexpr std::array kRunnersWithInterpreter{"chronic"sv,  "fakeroot"sv, "fakeroot-sysv"sv, "fakeroot-tcp"sv,
                                             "parallel"sv, "sem"sv,      "unbuffer"sv};
constexpr std::array kEnds{"dropbear"sv, "init"sv, "sshd"sv, "sshd-session"sv, "systemd"sv};
constexpr std::array kCrons{"anacron"sv, "atd"sv, "cron"sv, "crond"sv, "fcron"sv};

static_assert(std::ranges::is_sorted(kShells) && std::ranges::is_sorted(kRunners) &&
              std::ranges::is_sorted(kRunnersWithInterpreter) && std::ranges::is_sorted(kCrons) &&
              std::ranges::is_sorted(kEnds));

template <class Names>
bool is_one_of(const Names& names, std::string_view name) {
  return std::ranges::binary_search(names, name);
}

std::string_view file_name(std::string_view path) {
  return path.substr(path.rfind('/') + 1);
}

// What the program calls itself, which busybox takes for the program: "bash" of "-bash", "sh" of "busybox sh".
struct Program {
  std::string_view name;
  std::span<const std::string> arguments;  // behind the name
};

Program program_of(const Caller& caller) {
  std::span<const std::string> words(caller.arguments);
  if (words.empty()) return {caller.name, {}};
  std::string_view name = file_name(words[0]);
  if (name == "busybox" && words.size() > 1) {
    words = words.subspan(1);
    name = words[0];
  }
  if (name.starts_with('-')) name.remove_prefix(1);  // a login shell
  name = name.substr(0, name.find(' '));  // some write all they want ps to show into one word: "npm run job"
  return {name, words.subspan(1)};
}

bool is_shell(const Caller& caller) {
  return is_one_of(kShells, program_of(caller).name);
}

bool takes_value(std::string_view option) {
  return option == "--rcfile" || option == "--init-file" ||
         (!option.starts_with("--") && (option.back() == 'o' || option.back() == 'O'));
}

// `sh -c …`, also as one of several letters (-lc, -euo pipefail -c); and what Erlang's os:cmd starts.
bool is_given_one_command(std::span<const std::string> arguments) {
  if (arguments.size() > 1 && arguments[0] == "-s" && arguments[1] == "unix:cmd") return true;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view option = arguments[i];
    if (option.size() < 2 || option == "--" || (option[0] != '-' && option[0] != '+')) return false;
    if (option == "--command" || option.starts_with("--command=")) return true;
    const bool letters = option[0] == '-' && option[1] != '-';
    if (letters && option.find('c') != std::string_view::npos) return true;
    if (takes_value(option)) ++i;
  }
  return false;
}

bool runs_one_command(const Caller& caller) {
  const Program program = program_of(caller);
  if (is_one_of(kShells, program.name) && is_given_one_command(program.arguments)) return true;
  return is_one_of(kRunners, program.name) || is_one_of(kRunnersWithInterpreter, caller.name);
}

// It has executed nothing since its parent forked it.
bool is_fork_of_shell(const Caller& caller, const Caller& parent) {
  return is_shell(caller) && !caller.arguments.empty() && caller.arguments == parent.arguments &&
         caller.executable == parent.executable;
}

// What a script starts with "&" ignores both signals, a function of bash only SIGQUIT; any other fork of a shell
// ignores what the script was told to ignore when it began. bash itself ignores SIGQUIT, but not its forks.
bool is_in_background(const Caller& fork, const Caller& shell) {
  return fork.ignores_sigquit && !shell.ignores_sigint;
}

bool is_cron(const Caller& caller) {
  std::string name(program_of(caller).name);  // the process of one job calls itself CRON in Debian
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return is_one_of(kCrons, name) || is_one_of(kCrons, caller.name);
}

// Behind it nobody is this command's caller: who adopts orphans, and the server of a session from elsewhere.
bool ends_callers(const Caller& caller) {
  return caller.pid <= 1 || is_one_of(kEnds, caller.name);
}

}  // namespace

std::optional<pid_t> lasting_caller(std::span<const Caller> callers) {
  std::optional<pid_t> may_end_first;
  bool in_background = false;
  bool in_shell = false;
  for (std::size_t i = 0; i < callers.size() && !ends_callers(callers[i]); ++i) {
    const Caller& caller = callers[i];
    const Caller* parent = i + 1 < callers.size() ? &callers[i + 1] : nullptr;
    // Its process of one job lives as long as the job's shell, or as the one command of the job: this one.
    if (is_cron(caller) && parent != nullptr && is_cron(*parent) && !in_shell) break;
    in_shell = in_shell || is_shell(caller);
    if (runs_one_command(caller)) continue;
    if (parent != nullptr && is_fork_of_shell(caller, *parent)) {
      in_background = in_background || is_in_background(caller, *parent);
      continue;
    }
    if (!std::exchange(in_background, false)) return caller.pid;
    if (!may_end_first) may_end_first = caller.pid;
  }
  return may_end_first;
}

}  // namespace run_recorder
