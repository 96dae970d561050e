// What the sources leave open, and what holds between keys.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/account.h"
#include "base/file.h"
#include "base/url.h"
#include "config/config_draft.h"

namespace run_recorder {
namespace {

constexpr std::string_view kAdminGroup = "run-recorder-admin";
constexpr std::string_view kPasswordCredential = "database-password";
constexpr std::size_t kLargestPassword = 4096;

bool is_socket_path(std::string_view key) {
  return key == "socket.path" || key == "control.path";
}

// A default that does not work.
void report_default(ConfigDraft& draft, const std::string& key, const std::string& message) {
  if (draft.sources.without_sockets && is_socket_path(key)) {
    draft.config.no_socket_paths = key + ": " + message;
  } else {
    draft.report("defaults", key, message);
  }
}

// A folder of the environment can make a socket's path too long.
void check_default_path(ConfigDraft& draft, const std::string& key) {
  if (draft.sources.for_tool) return;
  const ConfigEntry& entry = *find_entry(key);
  const auto& slot = std::get<TextSlot>(entry.slot);
  const std::string path = slot.member(draft.config);
  if (const std::optional<std::string> problem = slot.rule.check(path)) {
    report_default(draft, key, invalid_value(shown(path), *problem, entry.key));
  }
}

void fill_path(ConfigDraft& draft, const std::string& key, std::string& member, const std::string& folder,
               const std::string& before, const std::string& after) {
  if (draft.given(key)) return;
  if (!folder.empty()) {
    member = before + folder + after;
    check_default_path(draft, key);
    return;
  }
  if (draft.sources.for_tool) return;
  report_default(draft, key,
                 std::string("no default: neither ") +
                     (is_socket_path(key) ? "$RUNTIME_DIRECTORY nor $XDG_RUNTIME_DIR is"
                                          : "$STATE_DIRECTORY, $XDG_STATE_HOME nor $HOME is") +
                     " an absolute path; set this key");
}

void fill_paths(ConfigDraft& draft) {
  draft.config.database.url_given = draft.given("database.url");
  draft.config.socket.path_given = draft.given("socket.path");
  draft.config.control.path_given = draft.given("control.path");
  const DefaultFolders folders = default_folders(draft.sources.environment, draft.sources.uid, draft.sources.places);
  fill_path(draft, "socket.path", draft.config.socket.path, folders.runtime, "", "/events.sock");
  fill_path(draft, "control.path", draft.config.control.path, folders.runtime, "", "/control.sock");
  fill_path(draft, "database.url", draft.config.database.url, folders.state, "sqlite:", "/run-recorder.db");
  fill_path(draft, "spool.path", draft.config.spool.path, folders.state, "", "/spool");
  const bool same = draft.config.socket.path == draft.config.control.path;
  if (same && !draft.config.socket.path.empty()) {
    draft.report(draft.where("control.path"), "control.path", "must differ from socket.path");
  }
}

void settle_control(ConfigDraft& draft) {
  if (!draft.given("control.group")) {
    // Only root and a group's own members may give a file to it.
    const auto group = find_group(std::string(kAdminGroup));
    const uid_t uid = draft.sources.acting_as.value_or(draft.sources.uid);
    const bool may_give = group && (uid == 0 || std::ranges::count(groups_of(uid), *group) > 0);
    draft.config.control.group = may_give ? kAdminGroup : std::string_view();
  }
  if (!draft.given("control.mode")) draft.config.control.mode = draft.config.control.group.empty() ? 0600 : 0660;
}

void settle_events(ConfigDraft& draft) {
  Config::Events& events = draft.config.events;
  if (events.include.empty()) return;
  if (!draft.given("events.exclude")) events.exclude.clear();  // the default gives way
  if (events.exclude.empty()) return;
  draft.report(draft.where("events.include"), "events.include",
               "conflicts with events.exclude (" + draft.where("events.exclude") + "): set one of them");
}

void settle_schema(ConfigDraft& draft, const Config::Queue& queue, const std::string& key) {
  if (queue.schema.empty() || queue.table.find('.') == std::string::npos) return;
  draft.report(draft.where(key), key, "conflicts with a table that names its schema: set one of them");
}

void need_key(ConfigDraft& draft, const NamedSections& sections, const std::string& name, std::string_view key) {
  const std::string full_name = sections.full_name(name, key);
  if (draft.given(full_name)) return;
  draft.report(draft.where(sections.full_name(name, "")), full_name,
               "missing: must be " + sections.find(key)->key.allowed());
}

void settle_named_sections(ConfigDraft& draft) {
  for (const NamedSections* sections : named_sections()) {
    const auto names = sections->names(draft.config);
    if (names.size() <= sections->most) continue;
    draft.report(draft.where(sections->full_name(names.back(), "")), std::string(sections->name),
                 fmt::format("{} {}: must be at most {}", names.size(), sections->name, sections->most));
  }
}

void settle_queues(ConfigDraft& draft) {
  settle_schema(draft, draft.config.queue, "reconcile.queue.schema");
  for (const auto& [name, queue] : draft.config.queues) {
    settle_schema(draft, queue, kQueueSections.full_name(name, "schema"));
    need_key(draft, kQueueSections, name, "kind");
  }
  const std::string named = kQueueSections.full_name(kDefaultQueue, "");
  for (const ConfigKey& key : config_keys()) {
    if (key.section != "reconcile.queue" || !draft.given(key.full_name()) || !draft.given(named)) continue;
    draft.report(draft.where(key.full_name()), key.full_name(),
                 "conflicts with [queues.default] (" + draft.where(named) +
                     "): both configure the queue named default, set one of them");
    break;
  }
}

void settle_expectations(ConfigDraft& draft) {
  for (const auto& [name, expectation] : draft.config.expect.named) {
    need_key(draft, kExpectSections, name, "council");
    const std::string cron = kExpectSections.full_name(name, "cron");
    const std::string every = kExpectSections.full_name(name, "every");
    const bool scheduled = !expectation.cron.empty() || draft.given(cron) || expectation.every > kNoTime;
    if (!expectation.cron.empty() && expectation.every > kNoTime) {
      draft.report(draft.where(cron), cron, "conflicts with every (" + draft.where(every) + "): set one of them");
    } else if (!scheduled && expectation.max_duration == kNoTime) {
      draft.report(draft.where(kExpectSections.full_name(name, "")), kExpectSections.full_name(name, ""),
                   "expects nothing: must have every, cron or max_duration");
    }
  }
}

// The file that systemd's LoadCredential= made for us, if it did (systemd.exec(5)); empty: it did not.
std::string credential_file(const ConfigDraft& draft) {
  const auto folder = draft.sources.environment.find("CREDENTIALS_DIRECTORY");
  if (folder == draft.sources.environment.end() || !folder->second.starts_with('/')) return {};
  const std::string path = folder->second + "/" + std::string(kPasswordCredential);
  std::error_code ignored;
  return std::filesystem::exists(path, ignored) ? path : std::string();
}

// Whoever acts for the service by hand has its configuration, and not what systemd gives it: the password is where
// the unit takes it from. Only for the url of that file: it is meant for that server and no other.
std::string password_of_service(ConfigDraft& draft) {
  const bool by_unit = draft.sources.environment.contains("CREDENTIALS_DIRECTORY");
  const std::string& file = draft.config.file;
  const bool services = file == draft.sources.default_file && draft.where("database.url").starts_with(file + ":");
  if (by_unit || !services) return {};
  std::string out_of_reach;
  for (const std::string& path : draft.sources.places.passwords) {
    const Result<UniqueFd> opened = open_file(path, O_RDONLY);
    if (opened) return path;
    if (opened.error().kind == ErrorKind::kDenied && out_of_reach.empty()) out_of_reach = path;
  }
  draft.config.password_out_of_reach = out_of_reach;
  return {};
}

void read_password(ConfigDraft& draft) {
  Config::Database& database = draft.config.database;
  if (database_kind(database.url) != DatabaseKind::kPostgres) return;
  const bool by_itself = !draft.given("database.password_file") && !has_password(database.url);
  if (by_itself) database.password_file = credential_file(draft);
  if (by_itself && database.password_file.empty()) database.password_file = password_of_service(draft);
  if (database.password_file.empty()) return;
  const std::string place =
      by_itself ? "credential " + std::string(kPasswordCredential) : draft.where("database.password_file");
  if (has_password(database.url)) {
    draft.report(place, "database.password_file", "conflicts with the password in database.url: set one of them");
    return;
  }
  const Result<std::string> content = read_file(database.password_file, kLargestPassword);
  if (!content) {
    draft.report(place, "database.password_file", content.error().message);
    return;
  }
  database.password = *content;
  if (database.password.ends_with('\n')) database.password.pop_back();
  if (database.password.ends_with('\r')) database.password.pop_back();
  if (database.password.empty() || database.password.find('\0') != std::string::npos) {
    draft.report(place, "database.password_file",
                 "invalid file: must hold a password on one line, is empty or has NUL bytes");
  }
}

void report_unknown_name(ConfigDraft& draft, const std::string& key, const std::string& name,
                         const std::string& allowed) {
  draft.report(draft.where(key), key, "invalid value " + shown(name) + ": must be " + allowed);
  draft.problems.all.back().unknown_name = true;
}

void check_group(ConfigDraft& draft, const std::string& key, const std::string& group) {
  if (group.empty() || find_group(group)) return;
  report_unknown_name(draft, key, group, "a group of this host");
}

void check_names(ConfigDraft& draft) {
  check_group(draft, "socket.group", draft.config.socket.group);
  if (draft.given("control.group")) check_group(draft, "control.group", draft.config.control.group);
  for (const std::string& group : draft.config.socket.allow_groups) check_group(draft, "socket.allow_groups", group);
  for (const std::string& user : draft.config.socket.allow_users) {
    if (user.empty() || find_user(user)) continue;
    report_unknown_name(draft, "socket.allow_users", user, "a user of this host");
  }
}

}  // namespace

void settle(ConfigDraft& draft) {
  fill_paths(draft);
  settle_control(draft);
  settle_events(draft);
  settle_named_sections(draft);
  settle_queues(draft);
  settle_expectations(draft);
  if (draft.sources.for_tool) return;
  read_password(draft);
  check_names(draft);
}

}  // namespace run_recorder
