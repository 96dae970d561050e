#include "cli/admin_daemon.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <map>

#include "base/account.h"
#include "base/file.h"
#include "base/url.h"
#include "cli/child.h"
#include "cli/terminal.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

constexpr std::string_view kServiceUnit = "run-recorder.service";
constexpr std::string_view kSocketUnit = "run-recorder.socket";

// What the daemon's user is and may, and where it sees what: a process that sees another boot, folder or /tmp than
// the service is not the same recorder. What only keeps a daemon that serves from harm is left out.
constexpr const char* kCopiedProperties[] = {"User",
                                             "Group",
                                             "SupplementaryGroups",
                                             "StateDirectory",
                                             "StateDirectoryMode",
                                             "UMask",
                                             "PrivateDevices",
                                             "PrivateMounts",
                                             "PrivateNetwork",
                                             "PrivateTmp",
                                             "ProtectControlGroups",
                                             "ProtectHome",
                                             "ProtectKernelTunables",
                                             "ProtectSystem",
                                             "ReadWritePaths"};

// ---- what systemctl(1) prints

// Its values by name; one may come several times.
using Properties = std::multimap<std::string, std::string, std::less<>>;

std::string value_named(const Properties& properties, std::string_view name) {
  const auto at = properties.find(name);
  return at == properties.end() ? std::string() : at->second;
}

bool is_octal(char c) {
  return c >= '0' && c <= '7';
}

// Words as systemd quotes them (shell_maybe_quote): plain, or in double quotes with backslashes.
std::vector<std::string> quoted_words(std::string_view text) {
  constexpr std::string_view kLetters = "abfnrtv";
  constexpr std::string_view kControls = "\a\b\f\n\r\t\v";
  std::vector<std::string> words;
  bool in_word = false;
  bool in_quotes = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == ' ' && !in_quotes) {
      in_word = false;
      continue;
    }
    if (!in_word) words.emplace_back();
    in_word = true;
    if (c == '"') {
      in_quotes = !in_quotes;
    } else if (c == '\\' && i + 3 < text.size() && std::all_of(&text[i + 1], &text[i + 1] + 3, is_octal)) {
      words.back() += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else if (c == '\\' && i + 1 < text.size()) {
      const std::size_t control = kLetters.find(text[++i]);
      words.back() += control == std::string_view::npos ? text[i] : kControls[control];
    } else {
      words.back() += c;
    }
  }
  return words;
}

// "{ path=/usr/bin/x ; argv[]=/usr/bin/x --flag ; ignore_errors=no ; …"
std::vector<std::string> command_words(std::string_view exec) {
  constexpr std::string_view kBegin = "argv[]=";
  const std::size_t begin = exec.find(kBegin);
  if (begin == std::string_view::npos) return {};
  exec.remove_prefix(begin + kBegin.size());
  return lines_of(exec.substr(0, exec.find(" ; ")), ' ');
}

// "/etc/default/x (ignore_errors=yes)", as the unit file has it: "-/etc/default/x".
std::string environment_file(const std::string& shown) {
  constexpr std::string_view kIgnored = " (ignore_errors=yes)";
  const std::string path = shown.substr(0, shown.rfind(" ("));
  return (shown.ends_with(kIgnored) ? "-" : "") + path;
}

[[noreturn]] void give_up(const std::string& what, const std::string& why) {
  throw StartError(kExitOther, what + ": " + why);
}

// Throws where it fails.
std::string systemctl(std::vector<std::string> words) {
  words.insert(words.begin(), "systemctl");
  const ProgramCall call{std::move(words)};
  const auto output = output_of(call);
  if (!output) give_up(call.text(), output.error().message);
  if (output->status != 0) {
    give_up(call.text(), fmt::format("exit status {}: {}", output->status,
                                     output->text.empty() ? "it says nothing" : output->text));
  }
  return output->text;
}

Properties properties_of(std::string_view unit, const std::string& names) {
  Properties properties;
  for (const std::string& line : lines_of(systemctl({"show", "--property=" + names, std::string(unit)}))) {
    const std::size_t equals = line.find('=');
    if (equals == std::string::npos) continue;
    properties.emplace(line.substr(0, equals), line.substr(equals + 1));
  }
  return properties;
}

// As its files have them, for systemctl show cannot print them (systemd 252). An empty value takes back those before.
std::vector<std::string> credentials_of(std::string_view unit) {
  std::vector<std::string> credentials;
  for (const std::string& line : lines_of(systemctl({"cat", std::string(unit)}))) {
    for (const std::string_view name : {"LoadCredential=", "LoadCredentialEncrypted="}) {
      if (!line.starts_with(name)) continue;
      if (line.size() == name.size()) {
        std::erase_if(credentials, [&](const std::string& one) { return one.starts_with(name); });
      } else {
        credentials.push_back(line);
      }
    }
  }
  return credentials;
}

bool is_loaded(std::string_view unit) {
  return value_named(properties_of(unit, "LoadState"), "LoadState") == "loaded";
}

bool is_active(std::string_view unit) {
  const std::string state = value_named(properties_of(unit, "ActiveState"), "ActiveState");
  return state == "active" || state == "activating" || state == "reloading";
}

bool machine_runs_systemd() {
  struct stat status {};
  return ::stat("/run/systemd/system", &status) == 0 && S_ISDIR(status.st_mode);  // as sd_booted(3)
}

volatile std::sig_atomic_t interrupted_by = 0;

void note_interrupt(int signal) {
  interrupted_by = signal;
}

void set_setting(Settings& settings, const std::string& name, const std::string& value) {
  std::erase_if(settings, [&](const auto& one) { return one.first == name; });
  settings.emplace_back(name, value);
}

}  // namespace

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = note_interrupt;
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before {};
    // What was told to be ignored (nohup) stays so.
    if (::sigaction(signal, nullptr, &before) == 0 && before.sa_handler != SIG_IGN) {
      ::sigaction(signal, &action, nullptr);
    }
  }
}

bool was_interrupted() {
  return interrupted_by != 0;
}

AdministeredDaemon::AdministeredDaemon(const Invocation& invocation, const std::string& action)
    : config_flags_(invocation.config_flags), environment_(invocation.environment) {
  if (::geteuid() == 0) {
    // Whoever names another configuration means another daemon.
    const bool of_machine = config_flags_.empty() && !environment_.contains("RUN_RECORDER_CONFIG");
    if (of_machine && machine_runs_systemd()) service_ = find_service();
    return;
  }
  ConfigSources sources{config_flags_, environment_, ::geteuid()};
  sources.without_sockets = true;
  const LoadedConfig own = load_config(sources);
  struct stat spool {};
  const bool owns = own && ::stat(own->spool.path.c_str(), &spool) == 0 && spool.st_uid == ::geteuid();
  if (!owns) {
    // sudo hands on no variables of ours.
    std::string command = "sudo run-recorder admin " + action;
    for (const auto& [flag, value] : config_flags_) command += fmt::format(" {} {}", flag, hide_passwords(value));
    const auto named = environment_.find("RUN_RECORDER_CONFIG");
    const bool given = std::ranges::any_of(config_flags_, [](const auto& one) { return one.first == "--config"; });
    if (named != environment_.end() && !given) command += " --config " + named->second;
    const bool there = own && ::stat(own->spool.path.c_str(), &spool) == 0;
    throw StartError(kExitOther, there ? fmt::format("the spool {} is {}'s: run as that user, or as root: {}",
                                                     own->spool.path, user_name(spool.st_uid), command)
                                       : fmt::format("this user has no daemon here: run as root: {}", command));
  }
}

std::optional<AdministeredDaemon::Service> AdministeredDaemon::find_service() {
  if (!is_loaded(kServiceUnit)) return std::nullopt;
  std::string names = "Environment,EnvironmentFiles,ExecStart";
  for (const char* name : kCopiedProperties) names += fmt::format(",{}", name);
  const Properties all = properties_of(kServiceUnit, names);
  Service service;
  service.user = value_named(all, "User");
  for (const char* name : kCopiedProperties) {
    const std::string value = value_named(all, name);
    if (!value.empty()) service.properties.push_back(fmt::format("{}={}", name, value));
  }
  const auto each = [&all](std::string_view name, const auto& take) {
    for (auto [at, end] = all.equal_range(name); at != end; ++at) {
      if (!at->second.empty()) take(at->second);
    }
  };
  each("EnvironmentFiles",
       [&](const std::string& value) { service.properties.push_back("EnvironmentFile=" + environment_file(value)); });
  for (const std::string& credential : credentials_of(kServiceUnit)) service.properties.push_back(credential);
  for (const std::string& word : quoted_words(value_named(all, "Environment"))) {
    const std::size_t equals = std::min(word.find('='), word.size());
    service.environment.emplace_back(word.substr(0, equals), word.substr(std::min(equals + 1, word.size())));
  }
  service.program = command_words(value_named(all, "ExecStart"));
  if (service.program.empty()) give_up(std::string(kServiceUnit), "it has no ExecStart=");
  auto flags = take_config_flags(service.program);
  if (!flags) give_up(fmt::format("ExecStart= of {}", kServiceUnit), flags.error().message);
  service.flags = std::move(*flags);
  return service;
}

std::optional<uid_t> AdministeredDaemon::user() const {
  if (service_) return service_->user.empty() ? std::nullopt : find_user(service_->user);
  const auto owner = owner_of_spool(config().spool.path);
  return owner && *owner != 0 ? owner : std::nullopt;
}

// As systemd makes it, files and credential included.
Environment AdministeredDaemon::services_environment() const {
  const DaemonCall call = in_unit(service_->environment, service_->properties, {"/usr/bin/env", "-0"});
  const auto answer = answer_of(call.program);
  if (!answer) give_up(call.program.text(), answer.error().message);
  if (answer->status != 0) give_up(call.program.text(), fmt::format("exit status {}", answer->status));
  Environment environment;
  for (const std::string& line : lines_of(answer->text, '\0')) {
    const std::size_t equals = std::min(line.find('='), line.size());
    environment.emplace(line.substr(0, equals), line.substr(std::min(equals + 1, line.size())));
  }
  // It went with that unit.
  environment.erase("CREDENTIALS_DIRECTORY");
  return environment;
}

Config AdministeredDaemon::config() const {
  ConfigSources sources;
  sources.without_sockets = true;
  sources.flags = service_ ? service_->flags : config_flags_;
  sources.environment = service_ ? services_environment() : environment_;
  sources.uid = ::geteuid();
  if (service_ && !service_->user.empty()) sources.uid = find_user(service_->user).value_or(sources.uid);
  return load_config(sources).value();
}

DaemonCall AdministeredDaemon::in_unit(const Settings& environment, const std::vector<std::string>& properties,
                                       const std::vector<std::string>& command) const {
  static int calls = 0;
  DaemonCall call;
  call.unit = fmt::format("run-recorder-admin-{}-{}.service", ::getpid(), ++calls);
  std::vector<std::string>& words = call.program.words;
  words = {"systemd-run",
           "--quiet",
           "--pipe",
           "--wait",
           "--collect",
           "--service-type=exec",
           "--unit=" + call.unit,
           "--description=run-recorder admin"};
  for (const std::string& property : properties) words.push_back("--property=" + property);
  // The values go by way of systemd-run's own environment, which others cannot read.
  for (const auto& [name, value] : environment) words.push_back("--setenv=" + name);
  call.program.environment = environment;
  words.insert(words.end(), command.begin(), command.end());
  return call;
}

DaemonCall AdministeredDaemon::call(const std::vector<std::string>& arguments, const DaemonChanges& changes) const {
  Settings flags = service_ ? service_->flags : Settings();
  for (const auto& [flag, value] : changes.flags) set_setting(flags, flag, value);
  const Settings secrets = as_environment(changes.secrets);
  for (const auto& [flag, value] : changes.secrets) {
    std::erase_if(flags, [&, name = flag](const auto& one) { return one.first == name; });
  }
  std::vector<std::string> command = service_ ? service_->program : std::vector<std::string>{daemon_program()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  for (const auto& [flag, value] : flags) {
    command.push_back(flag);
    command.push_back(value);
  }
  if (!service_) {
    Settings environment = as_environment(config_flags_);
    for (const auto& [name, value] : secrets) set_setting(environment, name, value);
    return {{command, environment}, {}};
  }
  std::vector<std::string> properties = service_->properties;
  if (!changes.folder.empty()) properties.push_back("ReadWritePaths=" + changes.folder);
  if (!changes.secrets_file.empty()) {
    std::string text;
    for (const auto& [name, value] : secrets) {
      text += fmt::format("{}=\"{}\"\n", name, with_backslashes(value, "\"\\$`"));
    }
    if (const auto written = replace_file_atomically(changes.secrets_file, text, {0600, false}); !written) {
      give_up(changes.secrets_file, written.error().message);
    }
    properties.push_back("EnvironmentFile=" + changes.secrets_file);
  }
  return in_unit(service_->environment, properties, command);
}

int AdministeredDaemon::run(const DaemonCall& call) const {
  const auto status = run_program(call.program);
  if (!status) give_up(call.program.text(), status.error().message);
  // systemd-run goes at once; what it started does not.
  if (was_interrupted() && !call.unit.empty()) (void)output_of({{"systemctl", "stop", call.unit}});
  if (*status == kExitNotFound || *status == kExitNotExecutable) {
    throw StartError(kExitNotThere, call.program.text() + ": there is no such program here");
  }
  constexpr int kBySignal = 128;
  return *status < kBySignal ? *status : kExitOther;
}

void AdministeredDaemon::end(const DaemonCall& call, Program& program) const {
  if (call.unit.empty()) {
    program.send(SIGTERM);
  } else {
    (void)output_of({{"systemctl", "stop", call.unit}});
  }
  program.wait();
}

AdministeredDaemon::Running AdministeredDaemon::stop() const {
  Running running;
  if (!service_) return running;
  std::vector<std::string> words = {"stop"};
  // The socket first: an event would start the service again.
  if (is_loaded(kSocketUnit)) {
    running.socket = is_active(kSocketUnit);
    words.emplace_back(kSocketUnit);
  }
  running.service = is_active(kServiceUnit);
  words.emplace_back(kServiceUnit);
  systemctl(words);
  return running;
}

void AdministeredDaemon::start(Running units) const {
  if (!service_ || !units.any()) return;
  std::vector<std::string> words = {"start"};
  if (units.socket && is_loaded(kSocketUnit)) words.emplace_back(kSocketUnit);
  if (units.service) words.emplace_back(kServiceUnit);
  systemctl(words);
}

std::string AdministeredDaemon::start_command() {
  return fmt::format("systemctl start {} {}", kSocketUnit, kServiceUnit);
}

}  // namespace run_recorder
