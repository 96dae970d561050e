#include "config/config.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/account.h"
#include "base/ascii.h"
#include "base/file.h"
#include "base/json_text.h"
#include "base/url.h"
#include "base/utf8.h"
#include "config/config_table.h"
#include "run/names.h"

namespace run_recorder {
namespace {

constexpr std::size_t kLargestFile = 1 << 20;
constexpr std::size_t kLargestPassword = 4096;
constexpr std::string_view kVariablePrefix = "RUN_RECORDER_";
constexpr std::string_view kFileVariable = "RUN_RECORDER_CONFIG";
// Set by `run-recorder exec` for its child, which may well start the tool again.
constexpr std::string_view kRunVariable = "RUN_RECORDER_RUN_ID";
constexpr std::string_view kFileFlag = "--config";
constexpr std::string_view kAdminGroup = "run-recorder-admin";
constexpr std::string_view kQueueVariables = "RUN_RECORDER_QUEUES_";
constexpr std::string_view kQueueFlags = "--queues-";
constexpr std::size_t kMostQueues = 16;
constexpr std::string_view kPasswordCredential = "database-password";

// Whether a name of the environment has the form of what Kubernetes gives every container for each service of its
// namespace (its documentation, "Service: environment variables", and Docker's links): X_SERVICE_HOST,
// X_SERVICE_PORT, X_SERVICE_PORT_NAME, X_PORT and X_PORT_9090_TCP…, where X is the service's name.
bool is_service_link(std::string_view name) {
  const auto is_word = [](std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](char c) { return is_upper(c) || is_digit(c) || c == '_'; });
  };
  if (!is_word(name)) return false;
  if (name.ends_with("_SERVICE_HOST") || name.ends_with("_PORT")) return true;
  if (name.find("_SERVICE_PORT_") != std::string_view::npos) return true;
  for (std::size_t at = name.find("_PORT_"); at != std::string_view::npos; at = name.find("_PORT_", at + 1)) {
    const std::string_view rest = name.substr(at + std::string_view("_PORT_").size());
    const std::size_t digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
    if (digits > 0 && digits < rest.size() && rest[digits] == '_') return true;
  }
  return false;
}

struct QueueKeyName {
  const ConfigEntry* entry;
  std::string queue;
};
// "--queues-mailers-url" is the url of "mailers".
std::optional<QueueKeyName> split_queue_name(const std::string& name, std::string_view begin,
                                             std::string (ConfigKey::*form)() const) {
  if (!name.starts_with(begin)) return std::nullopt;
  for (const ConfigEntry& entry : queue_entries()) {
    const std::string whole = (entry.key.*form)();  // with NAME in it
    const std::string end = whole.substr(begin.size() + std::string_view("NAME").size());
    if (name.size() <= begin.size() + end.size() || !name.ends_with(end)) continue;
    return QueueKeyName{&entry, name.substr(begin.size(), name.size() - begin.size() - end.size())};
  }
  return std::nullopt;
}

// Gathers the settings of all sources, weakest first, and every mistake in them.
class Loader {
 public:
  explicit Loader(const ConfigSources& sources) : sources_(sources) {}

  LoadedConfig load() {
    read_file_settings();
    read_environment();
    read_flags();
    fill_paths();
    settle_control();
    settle_events();
    settle_queues();
    if (!sources_.for_tool) {
      read_password();
      check_names();
    }
    if (!problems_.all.empty()) return problems_;
    return std::move(config_);
  }

 private:
  void report(std::string where, std::string key, std::string message) {
    problems_.all.push_back({std::move(where), std::move(key), std::move(message)});
  }

  // A key of [queues.NAME]: its members are those of Config::queue, so the queue is put there meanwhile.
  void set(const ConfigEntry& entry, const RawValue& value, const std::string& where, const std::string& queue) {
    const std::string key = queue_key_name(queue, entry.key.name);
    name_queue(queue, where);
    given_[key] = where;
    Config::Queue& member = config_.queues[queue];
    std::swap(config_.queue, member);
    if (const std::optional<std::string> problem = assign(config_, entry, value)) report(where, key, *problem);
    std::swap(config_.queue, member);
  }

  void name_queue(const std::string& queue, const std::string& where) {
    if (!config_.queues.try_emplace(queue).second) return;
    given_[queue_key_name(queue, "")] = where;
    if (queue.empty() || queue.size() > kMaxShortNameBytes) {
      report(where, queue_key_name(queue, ""),
             "invalid name: must be 1 to 64 bytes, has " + std::to_string(queue.size()));
    }
  }

  void set(const ConfigEntry& entry, const RawValue& value, const std::string& where) {
    const std::string key = entry.key.full_name();
    given_[key] = where;  // also where it is wrong: it was meant to be given
    if (const std::optional<std::string> problem = assign(config_, entry, value)) report(where, key, *problem);
  }

  bool given(const std::string& key) const { return given_.contains(key); }
  std::string where(const std::string& key) const {
    const auto at = given_.find(key);
    return at == given_.end() ? "defaults" : at->second;
  }

  // The file to read, and who named it: empty for nobody.
  std::pair<std::string, std::string> chosen_file() const {
    for (auto flag = sources_.flags.rbegin(); flag != sources_.flags.rend(); ++flag) {
      if (flag->first == kFileFlag) return {flag->second, "flag --config"};
    }
    const auto variable = sources_.environment.find(std::string(kFileVariable));
    if (variable != sources_.environment.end() && !variable->second.empty()) {
      return {variable->second, "environment " + std::string(kFileVariable)};
    }
    return {sources_.default_file, ""};
  }

  void read_file_settings() {
    const auto [path, named_by] = chosen_file();
    const Result<std::string> text = read_file(path, kLargestFile);
    if (!text) {
      const bool denied = text.error().kind == ErrorKind::kDenied;
      if (named_by.empty() && text.error().kind == ErrorKind::kNotFound) return;
      if (denied && sources_.for_tool && named_by != "flag --config") {
        config_.notes.push_back("cannot read the configuration, using defaults: " + text.error().message);
        return;
      }
      report(named_by.empty() ? path : named_by, "", text.error().message);
      return;
    }
    config_.file = path;
    take_file(read_config_text(path, *text));
  }

  void take_file(FileContent content) {
    std::vector<FileProblem> all = std::move(content.problems);
    for (const FileSetting& setting : content.settings) {
      const std::string at = config_.file + ":" + std::to_string(setting.line);
      config_.file_holds_password = config_.file_holds_password || holds_password(setting);
      if (setting.entry == nullptr) {
        name_queue(*setting.queue, at);
      } else if (setting.queue) {
        set(*setting.entry, setting.value, at, *setting.queue);
      } else {
        set(*setting.entry, setting.value, at);
      }
      for (ConfigProblem& problem : problems_.all) all.push_back({setting.line, std::move(problem)});
      problems_.all.clear();
    }
    std::stable_sort(all.begin(), all.end(),
                     [](const FileProblem& a, const FileProblem& b) { return a.line < b.line; });
    for (FileProblem& one : all) problems_.all.push_back(std::move(one.problem));
  }

  static bool holds_password(const FileSetting& setting) {
    return setting.entry != nullptr && setting.entry->key.name == "url" &&
           setting.value.kind == RawValue::Kind::kString && has_password(setting.value.text);
  }

  void read_environment() {
    std::vector<std::string> links;
    for (const auto& [name, text] : sources_.environment) {
      if (!name.starts_with(kVariablePrefix) || name == kFileVariable || name == kRunVariable) continue;
      if (const ConfigEntry* entry = entry_named(name, &ConfigKey::variable)) {
        set(*entry, {RawValue::Kind::kPlain, text}, "environment " + name);
      } else if (is_service_link(name)) {
        links.push_back(name);
      } else if (const auto of_queue = split_queue_name(name, kQueueVariables, &ConfigKey::variable)) {
        set(*of_queue->entry, {RawValue::Kind::kPlain, text}, "environment " + name,
            queue_in_capitals(of_queue->queue));
      } else {
        take_unknown_variable(name);
      }
    }
    if (links.empty()) return;
    const std::string others = links.size() == 1 ? "" : " and " + std::to_string(links.size() - 1) + " more";
    config_.warnings.push_back("environment " + links.front() + others +
                               ": ignored, it has the form of a Kubernetes service's variable");
  }

  void take_unknown_variable(const std::string& name) {
    const std::string where = "environment " + name_for_message(name);
    const std::string message = "unknown variable" + nearest(name, &ConfigKey::variable, kFileVariable);
    if (sources_.for_tool) {
      config_.warnings.push_back(ConfigProblem{where, "", message + "; ignored"}.text());
    } else {
      report(where, "", message);
    }
  }

  void read_flags() {
    for (const auto& [name, text] : sources_.flags) {
      if (name == kFileFlag) continue;
      const ConfigEntry* entry = entry_named(name, &ConfigKey::flag);
      if (const auto of_queue = split_queue_name(name, kQueueFlags, &ConfigKey::flag)) {
        set(*of_queue->entry, {RawValue::Kind::kPlain, text}, "flag " + name, of_queue->queue);
      } else if (entry == nullptr) {
        report("flag " + name_for_message(name), "", "unknown flag" + nearest(name, &ConfigKey::flag, kFileFlag));
      } else {
        set(*entry, {RawValue::Kind::kPlain, text}, "flag " + name);
      }
    }
  }

  // By its flag or its variable.
  static const ConfigEntry* entry_named(const std::string& name, std::string (ConfigKey::*form)() const) {
    for (const ConfigEntry& entry : config_entries()) {
      if ((entry.key.*form)() == name) return &entry;
    }
    return nullptr;
  }

  // The queue that a variable means: of those that the file names the one whose name looks so in capitals, else the
  // name in lower case.
  std::string queue_in_capitals(const std::string& capitals) const {
    for (const auto& [name, queue] : config_.queues) {
      if (in_capitals(name) == capitals) return name;
    }
    return to_lower(capitals);
  }

  static std::string in_capitals(std::string name) {
    for (char& c : name) c = is_letter(c) || is_digit(c) ? to_upper(c) : '_';
    return name;
  }

  static std::string name_for_message(const std::string& name) {
    const std::string text = shown(name);
    return text == "\"" + name + "\"" ? name : text;
  }

  static std::string nearest(const std::string& name, std::string (ConfigKey::*form)() const,
                             std::string_view other) {
    std::vector<std::string> known = {std::string(other)};
    for (const ConfigKey& key : config_keys()) known.push_back((key.*form)());
    for (const ConfigKey& key : queue_keys()) known.push_back((key.*form)());
    const std::string name_near = nearest_name(name, known);
    return name_near.empty() ? "; there is one for each key, such as " + known[1]
                             : "; did you mean " + name_near + "?";
  }

  void fill_paths() {
    config_.socket.path_given = given("socket.path");
    config_.control.path_given = given("control.path");
    const DefaultFolders folders = default_folders(sources_.environment, sources_.uid);
    fill_path("socket.path", config_.socket.path, folders.runtime, "", "/events.sock");
    fill_path("control.path", config_.control.path, folders.runtime, "", "/control.sock");
    fill_path("database.url", config_.database.url, folders.state, "sqlite:", "/run-recorder.db");
    fill_path("spool.path", config_.spool.path, folders.state, "", "/spool");
    const bool same = config_.socket.path == config_.control.path;
    if (same && !config_.socket.path.empty()) {
      report(where("control.path"), "control.path", "must differ from socket.path");
    }
  }

  void fill_path(const std::string& key, std::string& member, const std::string& folder, const std::string& before,
                 const std::string& after) {
    if (given(key)) return;
    if (!folder.empty()) {
      member = before + folder + after;
      check_default_path(key);
      return;
    }
    if (sources_.for_tool) return;
    const bool runtime = key == "socket.path" || key == "control.path";
    report("defaults", key,
           std::string("no default: neither ") +
               (runtime ? "$RUNTIME_DIRECTORY nor $XDG_RUNTIME_DIR is"
                        : "$STATE_DIRECTORY, $XDG_STATE_HOME nor $HOME is") +
               " an absolute path; set this key");
  }

  // A folder of the environment can make a socket's path too long.
  void check_default_path(const std::string& key) {
    if (sources_.for_tool) return;
    const ConfigEntry& entry = *find_entry(key);
    const auto& slot = std::get<TextSlot>(entry.slot);
    const std::string path = slot.member(config_);
    if (const std::optional<std::string> problem = slot.check(path)) {
      report("defaults", key, invalid_value(shown(path), *problem, entry.key));
    }
  }

  void settle_control() {
    if (!given("control.group")) {
      // Only root and a group's own members may give a file to it.
      const auto group = find_group(std::string(kAdminGroup));
      const bool may_give = group && (sources_.uid == 0 || std::ranges::count(groups_of(sources_.uid), *group) > 0);
      config_.control.group = may_give ? kAdminGroup : std::string_view();
    }
    if (!given("control.mode")) config_.control.mode = config_.control.group.empty() ? 0600 : 0660;
  }

  void settle_events() {
    Config::Events& events = config_.events;
    if (events.include.empty()) return;
    if (!given("events.exclude")) events.exclude.clear();  // the default gives way
    if (events.exclude.empty()) return;
    report(where("events.include"), "events.include",
           "conflicts with events.exclude (" + where("events.exclude") + "): set one of them");
  }

  void settle_queues() {
    settle_schema(config_.queue, "reconcile.queue.schema");
    for (const auto& [name, queue] : config_.queues) {
      settle_schema(queue, queue_key_name(name, "schema"));
      const std::string section = queue_key_name(name, "");
      if (given(queue_key_name(name, "kind"))) continue;
      report(where(section), queue_key_name(name, "kind"),
             "missing: must be " + std::string(find_queue_entry("kind")->key.allowed));
    }
    if (config_.queues.size() > kMostQueues) {
      report(where(queue_key_name(config_.queues.rbegin()->first, "")), "queues",
             std::to_string(config_.queues.size()) + " queues: must be at most " + std::to_string(kMostQueues));
    }
    const std::string named = queue_key_name(kDefaultQueue, "");
    for (const ConfigKey& key : config_keys()) {
      if (key.section != "reconcile.queue" || !given(key.full_name()) || !given(named)) continue;
      report(where(key.full_name()), key.full_name(),
             "conflicts with [queues.default] (" + where(named) +
                 "): both configure the queue named default, set one of them");
      break;
    }
  }

  void settle_schema(const Config::Queue& queue, const std::string& key) {
    if (queue.schema.empty() || queue.table.find('.') == std::string::npos) return;
    report(where(key), key, "conflicts with a table that names its schema: set one of them");
  }

  // The file that systemd's LoadCredential= made for us, if it did (systemd.exec(5)); empty: it did not.
  std::string credential_file() const {
    const auto folder = sources_.environment.find("CREDENTIALS_DIRECTORY");
    if (folder == sources_.environment.end() || !folder->second.starts_with('/')) return {};
    const std::string path = folder->second + "/" + std::string(kPasswordCredential);
    std::error_code ignored;
    return std::filesystem::exists(path, ignored) ? path : std::string();
  }

  void read_password() {
    Config::Database& database = config_.database;
    if (database_kind(database.url) != DatabaseKind::kPostgres) return;
    const bool by_itself = !given("database.password_file") && !has_password(database.url);
    if (by_itself) database.password_file = credential_file();
    if (database.password_file.empty()) return;
    const std::string place =
        by_itself ? "credential " + std::string(kPasswordCredential) : where("database.password_file");
    if (has_password(database.url)) {
      report(place, "database.password_file", "conflicts with the password in database.url: set one of them");
      return;
    }
    const Result<std::string> content = read_file(database.password_file, kLargestPassword);
    if (!content) {
      report(place, "database.password_file", content.error().message);
      return;
    }
    database.password = *content;
    if (database.password.ends_with('\n')) database.password.pop_back();
    if (database.password.ends_with('\r')) database.password.pop_back();
    if (database.password.empty() || database.password.find('\0') != std::string::npos) {
      report(place, "database.password_file",
             "invalid file: must hold a password on one line, is empty or has NUL bytes");
    }
  }

  void check_names() {
    check_group("socket.group", config_.socket.group);
    if (given("control.group")) check_group("control.group", config_.control.group);
    for (const std::string& group : config_.socket.allow_groups) check_group("socket.allow_groups", group);
    for (const std::string& user : config_.socket.allow_users) {
      if (user.empty() || find_user(user)) continue;
      report_unknown_name("socket.allow_users", user, "a user of this host");
    }
  }

  void check_group(const std::string& key, const std::string& group) {
    if (group.empty() || find_group(group)) return;
    report_unknown_name(key, group, "a group of this host");
  }

  void report_unknown_name(const std::string& key, const std::string& name, const std::string& allowed) {
    report(where(key), key, "invalid value " + shown(name) + ": must be " + allowed);
    problems_.all.back().unknown_name = true;
  }

  const ConfigSources& sources_;
  Config config_;
  ConfigProblems problems_;
  std::map<std::string, std::string> given_;  // key -> where it was set last
};

}  // namespace

std::string Config::Database::connection_url() const {
  return password.empty() || database_kind(url) != DatabaseKind::kPostgres ? url : with_password(url, password);
}

std::string Config::Queue::full_table() const {
  return schema.empty() ? table : schema + "." + table;
}

std::map<std::string, Config::Queue> Config::configured_queues() const {
  std::map<std::string, Queue> all = queues;
  all.try_emplace(std::string(kDefaultQueue), queue);
  std::erase_if(all, [](const auto& one) { return one.second.kind == QueueKind::kNone; });
  return all;
}

std::string Config::connection_url_of(const Queue& of) const {
  return of.url.empty() ? database.connection_url() : of.url;
}

std::string Config::shown_url_of(const Queue& of) const {
  return redact_url(of.url.empty() ? database.url : of.url);
}

std::string queue_check_name(const Config& config, std::string_view name) {
  const auto queues = config.configured_queues();
  if (queues.size() == 1 && name == kDefaultQueue) return "queue";
  return "queue " + queue_key_name(name, "").substr(std::string_view("queues.").size());
}

Environment environment_of(const char* const* environ_block) {
  Environment environment;
  for (; environ_block != nullptr && *environ_block != nullptr; ++environ_block) {
    const std::string_view line = *environ_block;
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    environment.emplace(line.substr(0, equals), line.substr(equals + 1));
  }
  return environment;
}

std::string ConfigProblem::text() const {
  return printable(hide_passwords(where + ": " + (key.empty() ? "" : key + ": ") + message));
}

std::string ConfigProblems::text() const {
  std::string text;
  for (const ConfigProblem& problem : all) text += (text.empty() ? "" : "\n") + problem.text();
  return text;
}

bool ConfigProblems::only_unknown_names() const {
  return std::ranges::all_of(all, [](const ConfigProblem& problem) { return problem.unknown_name; });
}

int ConfigProblems::exit_status() const {
  return only_unknown_names() ? kExitNotThere : kExitConfiguration;
}

void throw_exception_from_error(const ConfigProblems& problems, const boost::source_location&) {
  throw StartError(problems.exit_status(), problems.text());
}

LoadedConfig load_config(const ConfigSources& sources) {
  return Loader(sources).load();
}

Result<std::vector<std::pair<std::string, std::string>>> take_config_flags(std::vector<std::string>& arguments) {
  std::set<std::string, std::less<>> known = {std::string(kFileFlag)};
  for (const ConfigKey& key : config_keys()) known.insert(key.flag());
  std::vector<std::pair<std::string, std::string>> flags;
  std::vector<std::string> rest;
  std::size_t at = 0;
  for (; at < arguments.size() && arguments[at] != "--"; ++at) {
    const std::string& argument = arguments[at];
    const std::size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    if (!known.contains(name) && !split_queue_name(name, kQueueFlags, &ConfigKey::flag)) {
      rest.push_back(argument);
    } else if (equals != std::string::npos) {
      flags.emplace_back(name, argument.substr(equals + 1));
    } else if (at + 1 < arguments.size() && arguments[at + 1] != "--") {
      flags.emplace_back(name, arguments[++at]);
    } else {
      return Error{ErrorKind::kInvalid, name + " needs a value"};
    }
  }
  rest.insert(rest.end(), arguments.begin() + static_cast<std::ptrdiff_t>(at), arguments.end());
  arguments = std::move(rest);
  return flags;
}

}  // namespace run_recorder
