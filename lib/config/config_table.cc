#include "config/config_table.h"

#include <algorithm>

#include "base/ascii.h"
#include "config/config_checks.h"

namespace run_recorder {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

constexpr std::uint64_t kKiB = 1ULL << 10;
constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr std::uint64_t kPiB = 1ULL << 50;
constexpr milliseconds kLongest = hours(24 * 3'650);
constexpr milliseconds kLongestSkew = hours(24);
constexpr milliseconds kNone{0};
constexpr milliseconds kShortest{1};

constexpr bool kReloadable = true;
constexpr bool kRestart = false;

// What is allowed, where several keys say the same.
constexpr std::string_view kUrls = "sqlite:PATH, or a libpq URI as postgresql://user@host:5432/database";
constexpr std::string_view kSocketPath = "a path of 1 to 107 bytes";
constexpr std::string_view kFilePath = "a path";
constexpr std::string_view kMode = "an octal mode from \"0000\" to \"0777\", such as \"0660\"";
constexpr std::string_view kGroup = "the name or number of a group, or empty for the daemon's own";
constexpr std::string_view kTypes = "a list of event types ([a-z][a-z0-9_.]*, up to 64 bytes)";
constexpr std::string_view kDuration =
    "a duration from \"0s\" on, such as \"500ms\", \"30s\", \"5m\", \"24h\" or \"7d\"";
constexpr std::string_view kPositiveDuration =
    "a duration above \"0s\", such as \"500ms\", \"30s\", \"5m\", \"24h\" or \"7d\"";

constexpr std::string_view kKept = "a duration such as \"90d\", or \"0s\" for ever";
constexpr std::string_view kKeptOrNone = "a duration such as \"90d\", \"0s\" for ever, or empty for that of keep";

constexpr std::string_view kKinds = "\"none\" or \"oban\"";
constexpr std::string_view kQueueUrl = "sqlite:PATH, a libpq URI, or empty for the database's";
constexpr std::string_view kSchema = "a name of up to 63 bytes without dots, or empty for that of table";
constexpr std::string_view kTable = "TABLE or SCHEMA.TABLE, each of 1 to 63 bytes";
constexpr std::string_view kClockSkew =
    "How far the clocks may differ of who claims a job and of who says that its run started.";

// In the order of contract section 7. Every key is here and in queue_table() and nowhere else.
const std::vector<ConfigEntry>& table() {
  static const std::vector<ConfigEntry> entries = {
      {{"database", "url", kUrls, "Where the rows are kept.", kRestart,
        R"("sqlite:/var/lib/run-recorder/run-recorder.db")"},
       TextSlot{[](Config& c) -> std::string& { return c.database.url; }, check_url}},
      {{"database", "table_prefix", "up to 30 letters a to z, digits and _, no digit first; may be empty",
        "What the tables' names begin with.", kRestart},
       TextSlot{[](Config& c) -> std::string& { return c.database.table_prefix; }, check_prefix}},
      {{"database", "migrate", "true or false", "Create and update the tables at start; false only verifies them.",
        kRestart},
       BoolSlot{[](Config& c) -> bool& { return c.database.migrate; }}},
      {{"database", "password_file", "a path, or empty for none", "A file that holds the password for a libpq URI.",
        kRestart},
       TextSlot{[](Config& c) -> std::string& { return c.database.password_file; }, check_optional_path}},

      {{"socket", "path", kSocketPath, "The socket workers send their events to.", kRestart,
        R"("/run/run-recorder/events.sock")"},
       TextSlot{[](Config& c) -> std::string& { return c.socket.path; }, check_socket_path}},
      {{"socket", "mode", kMode, "The event socket's permissions.", kRestart},
       ModeSlot{[](Config& c) -> mode_t& { return c.socket.mode; }}},
      {{"socket", "group", kGroup, "The event socket's group.", kRestart},
       TextSlot{[](Config& c) -> std::string& { return c.socket.group; }, check_optional_account}},
      {{"socket", "allow_users", "a list of users' names or numbers",
        "Only these users, and members of allow_groups, may send; both empty: whoever can open the socket.",
        kReloadable},
       ListSlot{[](Config& c) -> std::vector<std::string>& { return c.socket.allow_users; }, check_account}},
      {{"socket", "allow_groups", "a list of groups' names or numbers",
        "Only members of these groups, and allow_users, may send; both empty: whoever can open the socket.",
        kReloadable},
       ListSlot{[](Config& c) -> std::vector<std::string>& { return c.socket.allow_groups; }, check_account}},

      {{"control", "path", kSocketPath, "The socket of the command-line tool, speaking HTTP.", kRestart,
        R"("/run/run-recorder/control.sock")"},
       TextSlot{[](Config& c) -> std::string& { return c.control.path; }, check_socket_path}},
      {{"control", "mode", kMode,
        "The control socket's permissions; 0600 where no group is given and there is no group run-recorder-admin.",
        kRestart},
       ModeSlot{[](Config& c) -> mode_t& { return c.control.mode; }}},
      {{"control", "group", kGroup, "The control socket's group; by default run-recorder-admin where it exists.",
        kRestart, R"("run-recorder-admin")"},
       TextSlot{[](Config& c) -> std::string& { return c.control.group; }, check_optional_account}},

      {{"spool", "path", kFilePath, "The folder events lie in until they are applied.", kRestart,
        R"("/var/lib/run-recorder/spool")"},
       TextSlot{[](Config& c) -> std::string& { return c.spool.path; }, check_path}},
      {{"spool", "max_bytes", "a size from \"64KiB\" on, such as \"1GiB\"",
        "How much may wait to be applied; the last tenth only for the four lifecycle types.", kReloadable},
       SizeSlot{[](Config& c) -> std::uint64_t& { return c.spool.max_bytes; }, 64 * kKiB, kPiB}},
      {{"spool", "min_free", "a size, such as \"256MiB\"", "How much of the file system is left free.", kReloadable},
       SizeSlot{[](Config& c) -> std::uint64_t& { return c.spool.min_free; }, 0, kPiB}},
      {{"spool", "keep", kDuration, "How long applied events are kept, for a database that forgets commits.",
        kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.spool.keep; }, kNone, kLongest}},

      {{"limits", "line_bytes", "a size from \"1KiB\" to \"64MiB\"", "The longest line of an event.", kReloadable},
       SizeSlot{[](Config& c) -> std::uint64_t& { return c.limits.line_bytes; }, kKiB, 64 * kMiB}},
      {{"limits", "depth", "between 2 and 512", "How deep arrays and objects of an event may nest.", kReloadable},
       CountSlot{[](Config& c) -> std::uint64_t& { return c.limits.depth; }, 2, 512}},
      {{"limits", "connections", "between 1 and 100000", "How many senders may be connected.", kReloadable},
       CountSlot{[](Config& c) -> std::uint64_t& { return c.limits.connections; }, 1, 100'000}},

      {{"events", "exclude", kTypes, "Types the history leaves out; not together with include.", kReloadable},
       ListSlot{[](Config& c) -> std::vector<std::string>& { return c.events.exclude; }, check_event_type}},
      {{"events", "include", kTypes, "The only other types the history keeps; empty: all but those of exclude.",
        kReloadable},
       ListSlot{[](Config& c) -> std::vector<std::string>& { return c.events.include; }, check_event_type}},

      {{"reconcile", "grace", kDuration, "A run whose last event is younger is not examined.", kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.reconcile.grace; }, kNone, kLongest}},
      {{"reconcile", "interval", kDuration, "The time between passes; 0s: only at boot and when asked.", kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.reconcile.interval; }, kNone, kLongest}},
      {{"reconcile", "silent_after", kPositiveDuration,
        "A run nobody vouches for is stuck after this long without an event.", kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.reconcile.silent_after; }, kShortest, kLongest}},
      {{"reconcile", "recorder_timeout", kPositiveDuration,
        "Another recorder not seen for this long is gone, and its runs are judged here.", kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.reconcile.recorder_timeout; }, kShortest, kLongest}},
      {{"reconcile", "max_stuck", "between 0 and 1000000000",
        "A pass that would mark more runs stops and marks none; 0: no such limit.", kReloadable},
       CountSlot{[](Config& c) -> std::uint64_t& { return c.reconcile.max_stuck; }, 0, 1'000'000'000}},
      {{"reconcile", "log_rows", "between 0 and 1000000",
        "How many marked runs a pass logs one by one; of the rest, counts.", kReloadable},
       CountSlot{[](Config& c) -> std::uint64_t& { return c.reconcile.log_rows; }, 0, 1'000'000}},

      {{"reconcile.queue", "kind", kKinds, "The job queue that is asked whether a job lives.", kRestart},
       QueueKindSlot{[](Config& c) -> QueueKind& { return c.queue.kind; }}},
      {{"reconcile.queue", "url", kQueueUrl, "Where the queue's table is.", kRestart},
       TextSlot{[](Config& c) -> std::string& { return c.queue.url; }, check_optional_url}},
      {{"reconcile.queue", "schema", kSchema, "The schema of the queue's table: Oban's prefix.", kRestart},
       TextSlot{[](Config& c) -> std::string& { return c.queue.schema; }, check_schema}},
      {{"reconcile.queue", "table", kTable, "The queue's table.", kRestart},
       TextSlot{[](Config& c) -> std::string& { return c.queue.table; }, check_table}},
      {{"reconcile.queue", "clock_skew", "a duration from \"0s\" up to \"24h\", such as \"10s\"", kClockSkew,
        kRestart},
       DurationSlot{[](Config& c) -> milliseconds& { return c.queue.clock_skew; }, kNone, kLongestSkew}},

      {{"retention", "keep", kKept, "How long a finished run is kept with its history; 0s: for ever.", kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.retention.keep; }, kNone, kLongest}},
      {{"retention", "completed", kKeptOrNone, "How long a completed run is kept; empty: as keep says.", kReloadable},
       OptionalDurationSlot{[](Config& c) -> std::optional<milliseconds>& { return c.retention.completed; },
                            kLongest}},
      {{"retention", "failed", kKeptOrNone, "How long a failed run is kept; empty: as keep says.", kReloadable},
       OptionalDurationSlot{[](Config& c) -> std::optional<milliseconds>& { return c.retention.failed; }, kLongest}},
      {{"retention", "cancelled", kKeptOrNone, "How long a cancelled run is kept; empty: as keep says.", kReloadable},
       OptionalDurationSlot{[](Config& c) -> std::optional<milliseconds>& { return c.retention.cancelled; },
                            kLongest}},
      {{"retention", "stuck", kKeptOrNone, "How long a stuck run is kept; empty: as keep says.", kReloadable},
       OptionalDurationSlot{[](Config& c) -> std::optional<milliseconds>& { return c.retention.stuck; }, kLongest}},
      {{"retention", "councils", "NAME=DURATION, several by comma; in the file a section of them",
        "How long the finished runs of these councils are kept, however they ended.", kReloadable},
       DurationsSlot{[](Config& c) -> NamedDurations& { return c.retention.councils; }, kLongest}},
      {{"retention", "interval", kDuration, "The time between looks for runs to remove; 0s: only when asked.",
        kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.retention.interval; }, kNone, kLongest}},

      {{"log", "level", "\"debug\", \"info\", \"warning\" or \"error\"", "The least important messages to log.",
        kReloadable},
       LevelSlot{[](Config& c) -> LogLevel& { return c.log.level; }}},
      {{"log", "format", "\"text\" or \"json\"", "How lines on stderr look; the journal gets fields of its own.",
        kReloadable},
       FormatSlot{[](Config& c) -> LogFormat& { return c.log.format; }}},

      {{"daemon", "shutdown_timeout", kDuration, "How long a stop may go on applying what was accepted.",
        kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.daemon.shutdown_timeout; }, kNone, kLongest}},

      {{"metrics", "listen", "IPV4:PORT, [IPV6]:PORT or localhost:PORT, or empty for none",
        "Serve the metrics over TCP too; they are always on the control socket.", kRestart},
       TextSlot{[](Config& c) -> std::string& { return c.metrics.listen; }, check_listen}},
  };
  return entries;
}

const std::vector<ConfigEntry>& queue_table() {
  static const std::vector<ConfigEntry> entries = [] {
    std::vector<ConfigEntry> some;
    for (const ConfigEntry& entry : table()) {
      if (entry.key.section != "reconcile.queue") continue;
      some.push_back(entry);
      some.back().key.section = "queues.NAME";
      if (entry.key.name == "kind") some.back().key.shown_default = "none: it must be given";
    }
    return some;
  }();
  return entries;
}

std::vector<ConfigKey> keys_of(std::span<const ConfigEntry> entries) {
  std::vector<ConfigKey> keys;
  for (const ConfigEntry& entry : entries) keys.push_back(entry.key);
  return keys;
}

// Levenshtein's distance.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({changed, row[j] + 1, row[j - 1] + 1}));
    }
  }
  return row[b.size()];
}

}  // namespace

std::span<const ConfigEntry> config_entries() {
  return table();
}

const ConfigEntry* find_entry(std::string_view full_name) {
  for (const ConfigEntry& entry : table()) {
    if (entry.key.full_name() == full_name) return &entry;
  }
  return nullptr;
}

std::span<const ConfigEntry> queue_entries() {
  return queue_table();
}

const ConfigEntry* find_queue_entry(std::string_view name) {
  for (const ConfigEntry& entry : queue_table()) {
    if (entry.key.name == name) return &entry;
  }
  return nullptr;
}

Config with_queue(const Config& config, const std::string& name) {
  Config copy = config;
  const auto queue = config.queues.find(name);
  copy.queue = queue == config.queues.end() ? Config::Queue() : queue->second;
  return copy;
}

std::string queue_key_name(std::string_view queue, std::string_view key) {
  const bool bare = !queue.empty() && std::all_of(queue.begin(), queue.end(), [](char c) {
    return is_letter(c) || is_digit(c) || c == '_' || c == '-';
  });
  std::string name = "queues." + (bare ? std::string(queue) : shown(queue));
  return key.empty() ? name : name + "." + std::string(key);
}

std::string nearest_name(std::string_view mistyped, std::span<const std::string> known) {
  constexpr std::size_t kLongestName = 100;
  std::string nearest;
  if (mistyped.size() > kLongestName) return nearest;
  std::size_t least = 1 + std::max<std::size_t>(2, mistyped.size() / 4);
  for (const std::string& name : known) {
    const std::size_t steps = distance(mistyped, name);
    if (steps < least) {
      least = steps;
      nearest = name;
    }
  }
  return nearest;
}

std::string ConfigKey::full_name() const {
  return std::string(section) + "." + std::string(name);
}

std::string ConfigKey::flag() const {
  std::string flag = "--" + full_name();
  for (char& c : flag) {
    if (c == '.' || c == '_') c = '-';
  }
  return flag;
}

std::string ConfigKey::variable() const {
  std::string variable = "RUN_RECORDER_" + full_name();
  for (char& c : variable) {
    c = c == '.' ? '_' : to_upper(c);
  }
  return variable;
}

std::string ConfigKey::default_text() const {
  if (!shown_default.empty()) return std::string(shown_default);
  const ConfigEntry* entry = section == "queues.NAME" ? find_queue_entry(name) : find_entry(full_name());
  return value_text(Config{}, *entry);
}

std::span<const ConfigKey> config_keys() {
  static const std::vector<ConfigKey> keys = keys_of(table());
  return keys;
}

std::span<const ConfigKey> queue_keys() {
  static const std::vector<ConfigKey> keys = keys_of(queue_table());
  return keys;
}

}  // namespace run_recorder
