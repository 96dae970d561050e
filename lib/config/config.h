// The configuration (contract section 7): one table of keys drives the file, the environment, the flags, the
// messages, --help and what a reload may change. A Config is a plain value; loading reads files and the host's users
// and groups, and is thread-safe.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "config/policies.h"
#include "run/job.h"
#include "run/names.h"

namespace run_recorder {

enum class QueueKind { kNone, kOban };
std::string_view to_string(QueueKind kind);

// Members are initialised with their defaults. Paths that depend on the environment are empty until load_config fills
// them.
struct Config {
  struct Database {
    std::string url;  // sqlite:PATH or a libpq URI; default sqlite:<state folder>/run-recorder.db
    std::string table_prefix{kDefaultTablePrefix};
    bool migrate = true;
    std::string password_file;
    std::string password;    // no key: the content of password_file
    bool url_given = false;  // no key: url was configured
    // The url as the driver gets it, the password of password_file included. Never log it.
    std::string connection_url() const;
  } database;

  struct Socket {
    std::string path;  // default <runtime folder>/events.sock
    mode_t mode = 0660;
    std::string group;                     // name or number; empty: the process's own
    std::vector<std::string> allow_users;  // names or numbers; both lists empty: whoever can open the socket may send
    std::vector<std::string> allow_groups;
    bool path_given = false;  // no key: path was configured
  } socket;

  struct Control {
    std::string path;         // default <runtime folder>/control.sock
    mode_t mode = 0660;       // default 0600 where no group is given and there is no group run-recorder-admin
    std::string group;        // default run-recorder-admin where it exists; empty: the process's own
    bool path_given = false;  // no key: path was configured
  } control;

  struct Spool {
    std::string path;  // default <state folder>/spool
    std::uint64_t max_bytes = 1ULL << 30;
    std::uint64_t min_free = 256ULL << 20;
    std::chrono::milliseconds keep{3'600'000};
  } spool;

  SocketLimits limits;

  // At most one of them is not empty.
  struct Events {
    std::vector<std::string> exclude = {"member_token"};
    std::vector<std::string> include;
  } events;

  ReconcilePolicy reconcile;

  struct Queue {
    QueueKind kind = QueueKind::kNone;
    std::string url;                      // empty: the database
    std::string schema;                   // of the table; empty: as table says
    std::string table{kDefaultJobTable};  // name or schema.name
    std::chrono::milliseconds clock_skew = kDefaultClockSkew;
    std::string full_table() const;
  };
  Queue queue;  // [reconcile.queue], the queue named kDefaultQueue; not together with [queues.default]
  std::map<std::string, Queue> queues;  // [queues.NAME], by name
  // The queues that are to be asked, by name: those of a kind other than none.
  std::map<std::string, Queue> configured_queues() const;
  // A queue's url as the driver gets it; never log it.
  std::string connection_url_of(const Queue& queue) const;
  // The same to be shown, without a password.
  std::string shown_url_of(const Queue& queue) const;

  RetentionPolicy retention;

  ExpectPolicy expect;
  Expectation expectation;  // no key: where one of expect.named is while its keys are read

  struct Log {
    LogLevel level = LogLevel::kInfo;
    LogFormat format = LogFormat::kText;
  } log;

  struct Daemon {
    std::chrono::milliseconds shutdown_timeout{10'000};
    std::string host;  // this host's name in the rows; empty: as the system has it
  } daemon;

  struct Metrics {
    std::string listen;  // host:port; empty: only the control socket
  } metrics;

  // Not keys.
  std::string file;                   // the file that was read; empty: none
  bool file_unread = false;           // there is one, and nothing of it is known: ConfigSources::needed_keys
  bool file_holds_password = false;   // in a url
  std::vector<std::string> notes;     // worth a line in the log: a file that may not be read, skipped
  std::vector<std::string> warnings;  // the same: variables of the environment that were passed over
  // Why the sockets have no default path here, where that is no mistake (ConfigSources::without_sockets); else empty.
  std::string no_socket_paths;
  // Where the service's password for the database may be, which this user may not read; empty: it is known, or there
  // is none.
  std::string password_out_of_reach;
  std::vector<std::string> mistakes;  // of keys that the tool does not need; they have their defaults

  LogOptions log_options() const { return {log.level, log.format}; }
};

using Environment = std::map<std::string, std::string>;
Environment environment_of(const char* const* environ_block);

// Where the service of this machine has its things, as the package and its unit say.
struct SystemPlaces {
  std::string runtime = "/run/run-recorder";
  std::string state = "/var/lib/run-recorder";
  // What LoadCredential= of the unit made, and where systemd takes it from (systemd.exec(5)); the first one counts.
  std::vector<std::string> passwords = {
      "/run/credentials/run-recorder.service/database-password", "/etc/credstore/run-recorder.database-password",
      "/run/credstore/run-recorder.database-password", "/usr/lib/credstore/run-recorder.database-password"};
};

// Where settings come from. Flags win over the environment, the environment over the file, the file over defaults.
struct ConfigSources {
  std::vector<std::pair<std::string, std::string>> flags;  // {"--limits-depth", "32"}; {"--config", FILE}
  Environment environment;
  uid_t uid = 0;  // whose defaults: the effective user id
  // Whom root becomes before it makes any file; empty: it stays who it is.
  std::optional<uid_t> acting_as = {};
  // For what serves nobody: sockets without a default path are no mistake then.
  bool without_sockets = false;
  // The command-line tool needs no paths of its own, no password and none of the names; and looks and sends with
  // defaults where it may not read the file (one named by --config must be readable), and whatever else the
  // environment holds: an unknown variable is a warning.
  bool for_tool = false;
  // The full names of the keys that the tool needs now, where a mistake in others must not keep it from its work:
  // such mistakes of the file and the environment are Config::mistakes. A flag, and a file that --config names and
  // that cannot be read or is no TOML, is always needed. Nothing: all keys are.
  std::optional<std::vector<std::string>> needed_keys = std::nullopt;
  std::string default_file = "/etc/run-recorder/run-recorder.toml";  // read where it exists
  SystemPlaces places = {};
};

// One mistake. text() is one line: where, key, what was found, what is allowed. Never holds a password.
struct ConfigProblem {
  // "/etc/run-recorder/run-recorder.toml:12", "environment RUN_RECORDER_LIMITS_DEPTH", "flag --limits-depth"
  std::string where;
  std::string key;      // "limits.depth"; empty where it is about the file as a whole
  std::string message;  // "invalid value \"1000\": must be between 2 and 512"
  // It names a user or a group that this host does not know now: right as soon as the name service does.
  bool unknown_name = false;
  std::string text() const;
};

// All mistakes at once, never empty.
struct ConfigProblems {
  std::vector<ConfigProblem> all;
  std::string text() const;  // one per line
  bool only_unknown_names() const;
  // kExitNotThere where nothing but a name service is missed, which a later start may find; else kExitConfiguration.
  int exit_status() const;
};
// Makes Result-like use possible: value() of a failed load throws StartError with exit_status().
[[noreturn]] void throw_exception_from_error(const ConfigProblems& problems, const boost::source_location&);

// A file with a password that others than the daemon may read; and what to do about it.
struct ExposedFile {
  std::string found;
  std::string advice;
};
// Of the files of this configuration, as their modes and the groups' members are now.
std::vector<ExposedFile> exposed_files(const Config& config);

// How --check begins what it says of a database whose password this user may not read; doctor looks for it.
inline constexpr std::string_view kPasswordOutOfReach = "this user may not read the service's password";

// A file or folder of the spool or of the SQLite database with an owner or a mode that the daemon's user cannot work
// with.
struct WrongFile {
  std::string found;
  std::string advice;               // what repairs it: a command for root, or to be another user
  bool keeps_from_starting = true;  // false: it can be used as it is
};
// Of all that are there, in the order: spool, database, the folders they are in. daemon: whose they should be.
std::vector<WrongFile> wrong_files(const Config& config, uid_t daemon);
// Whose the spool is: the folder's owner or, before there is one, that of the folder it will be made in. Empty where
// neither is there.
std::optional<uid_t> owner_of_spool(const std::filesystem::path& folder);

// The file that is read where it exists, as a flag, the environment or the default names it.
std::string chosen_config_file(const ConfigSources& sources);

using LoadedConfig = boost::system::result<Config, ConfigProblems>;
LoadedConfig load_config(const ConfigSources& sources);

// Takes "--section-key VALUE", "--section-key=VALUE" and "--config FILE" out of arguments (without the program's
// name), up to "--"; what it does not know stays there in order. kInvalid: a value is missing, or a flag is given
// twice.
Result<std::vector<std::pair<std::string, std::string>>> take_config_flags(std::vector<std::string>& arguments);
// Whether that is the name of such a flag: "--config", "--section-key", "--queues-NAME-key". Each takes a value.
bool is_config_flag(const std::string& name);

// Where the command-line tool finds the daemon: as configured, else under $XDG_RUNTIME_DIR where a socket is there,
// else under /run.
std::string client_socket_path(const Config& config, const Environment& environment);
std::string client_control_path(const Config& config, const Environment& environment);

// One key, for --help, the documentation's test and the reload.
struct ConfigKey {
  std::string_view section;  // "reconcile.queue"
  std::string_view name;     // "url"
  std::string_view doc;      // a sentence
  bool reloadable = false;
  std::string_view shown_default = {};  // where the default depends on the host: as it is for root

  std::string full_name() const;  // "reconcile.queue.url"
  std::string flag() const;       // "--reconcile-queue-url"
  std::string variable() const;   // "RUN_RECORDER_RECONCILE_QUEUE_URL"
  std::string allowed() const;    // "between 2 and 512"
  // The words that it may be, where it is one of a few: "true", "false".
  std::vector<std::string> choices() const;
  std::string default_text() const;  // as in TOML: "\"30s\"", "64", "[\"member_token\"]"
};
std::span<const ConfigKey> config_keys();
// The keys of the sections that have names of one's own, as [queues.NAME]; NAME stands for that name in their flags
// and full names, and in their variables for the name in capitals, each character that is no letter and no digit as
// _.
std::span<const ConfigKey> named_section_keys();
// What --check and doctor call a queue's line: "queue" where the only one is the default, else with its name.
std::string queue_check_name(const Config& config, std::string_view name);
// The flags with their meanings and defaults, for --help.
std::string config_help();

// What a reload would change. Keys by their full names, in the table's order.
struct ConfigDifference {
  std::vector<std::string> reloadable;
  std::vector<std::string> need_restart;
};
ConfigDifference diff_config(const Config& before, const Config& after);
// `before` with the reloadable keys of `after`.
Config with_reloadable(const Config& before, const Config& after);

}  // namespace run_recorder
