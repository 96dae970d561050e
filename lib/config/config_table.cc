#include "config/config_table.h"

#include <algorithm>
#include <utility>

#include "base/ascii.h"

namespace run_recorder {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

constexpr std::uint64_t kKiB = 1ULL << 10;
constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr milliseconds kShortest{1};

constexpr std::size_t kMostQueues = 16;
constexpr std::size_t kMostExpectations = 1'000;

constexpr bool kReloadable = true;
constexpr bool kRestart = false;

constexpr std::string_view kClockSkew =
    "The largest clock difference between who claims a job and who reports its run.";

// In the order of contract section 7. Every key is here and in queue_table() and nowhere else.
const std::vector<ConfigEntry>& table() {
  static const std::vector<ConfigEntry> entries = {
      {{"database", "url", "Where the rows are kept.", kRestart, R"("sqlite:/var/lib/run-recorder/run-recorder.db")"},
       TextSlot{[](Config& c) -> std::string& { return c.database.url; }, kUrlRule}},
      {{"database", "table_prefix", "The prefix of the tables' names.", kRestart},
       TextSlot{[](Config& c) -> std::string& { return c.database.table_prefix; }, kPrefixRule}},
      {{"database", "migrate", "Create and update the tables at start; false only verifies them.", kRestart},
       BoolSlot{[](Config& c) -> bool& { return c.database.migrate; }}},
      {{"database", "password_file", "A file that holds the password for a libpq URI.", kRestart},
       TextSlot{[](Config& c) -> std::string& { return c.database.password_file; }, kOptionalPathRule}},

      {{"socket", "path", "The socket workers send their events to.", kRestart, R"("/run/run-recorder/events.sock")"},
       TextSlot{[](Config& c) -> std::string& { return c.socket.path; }, kSocketPathRule}},
      {{"socket", "mode", "The event socket's permissions.", kRestart},
       ModeSlot{[](Config& c) -> mode_t& { return c.socket.mode; }}},
      {{"socket", "group", "The event socket's group.", kRestart},
       TextSlot{[](Config& c) -> std::string& { return c.socket.group; }, kGroupRule}},
      {{"socket", "allow_users",
        "Only these users, and members of allow_groups, may send; both empty: whoever can open the socket.",
        kReloadable},
       ListSlot{[](Config& c) -> std::vector<std::string>& { return c.socket.allow_users; }, kUsersRule}},
      {{"socket", "allow_groups",
        "Only members of these groups, and allow_users, may send; both empty: whoever can open the socket.",
        kReloadable},
       ListSlot{[](Config& c) -> std::vector<std::string>& { return c.socket.allow_groups; }, kGroupsRule}},

      {{"control", "path", "The socket of the command-line tool, speaking HTTP.", kRestart,
        R"("/run/run-recorder/control.sock")"},
       TextSlot{[](Config& c) -> std::string& { return c.control.path; }, kSocketPathRule}},
      {{"control", "mode",
        "The control socket's permissions; 0600 where no group is given and there is no group run-recorder-admin.",
        kRestart},
       ModeSlot{[](Config& c) -> mode_t& { return c.control.mode; }}},
      {{"control", "group", "The control socket's group; by default run-recorder-admin where it exists.", kRestart,
        R"("run-recorder-admin")"},
       TextSlot{[](Config& c) -> std::string& { return c.control.group; }, kGroupRule}},

      {{"spool", "path", "The folder of events that are not applied yet.", kRestart,
        R"("/var/lib/run-recorder/spool")"},
       TextSlot{[](Config& c) -> std::string& { return c.spool.path; }, kPathRule}},
      {{"spool", "max_bytes", "How much may wait to be applied; the last tenth only for the four lifecycle types.",
        kReloadable},
       SizeSlot{[](Config& c) -> std::uint64_t& { return c.spool.max_bytes; }, 64 * kKiB, kLargestSize}},
      {{"spool", "min_free", "How much of the file system stays free.", kReloadable},
       SizeSlot{[](Config& c) -> std::uint64_t& { return c.spool.min_free; }, 0, kLargestSize}},
      {{"spool", "keep", "How long applied events are kept, for a database that forgets commits.", kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.spool.keep; }}},

      {{"limits", "line_bytes", "The most bytes of an event's line.", kReloadable},
       SizeSlot{[](Config& c) -> std::uint64_t& { return c.limits.line_bytes; }, kKiB, 64 * kMiB}},
      {{"limits", "depth", "How deep arrays and objects of an event may nest.", kReloadable},
       CountSlot{[](Config& c) -> std::uint64_t& { return c.limits.depth; }, 2, 512}},
      {{"limits", "connections", "How many senders may be connected.", kReloadable},
       CountSlot{[](Config& c) -> std::uint64_t& { return c.limits.connections; }, 1, 100'000}},

      {{"events", "exclude", "Event types that the history leaves out; not together with include.", kReloadable},
       ListSlot{[](Config& c) -> std::vector<std::string>& { return c.events.exclude; }, kEventTypesRule}},
      {{"events", "include",
        "The only types, besides the four lifecycle types, that the history keeps; empty: all but those of exclude.",
        kReloadable},
       ListSlot{[](Config& c) -> std::vector<std::string>& { return c.events.include; }, kEventTypesRule}},

      {{"reconcile", "grace", "A run whose last event is younger is not examined.", kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.reconcile.grace; }}},
      {{"reconcile", "interval", "The time between passes; 0s: only at boot and when asked.", kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.reconcile.interval; }}},
      {{"reconcile", "silent_after", "A run without evidence is stuck after this long without an event.",
        kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.reconcile.silent_after; }, kShortest}},
      {{"reconcile", "recorder_timeout",
        "Another recorder not seen for this long is gone, and its runs are judged here.", kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.reconcile.recorder_timeout; }, kShortest}},
      {{"reconcile", "max_stuck", "A pass that would mark more runs stops and marks none; 0: no such limit.",
        kReloadable},
       CountSlot{[](Config& c) -> std::uint64_t& { return c.reconcile.max_stuck; }, 0, 1'000'000'000}},
      {{"reconcile", "log_rows", "How many marked runs a pass logs one by one; of the rest, counts.", kReloadable},
       CountSlot{[](Config& c) -> std::uint64_t& { return c.reconcile.log_rows; }, 0, 1'000'000}},

      {{"reconcile.queue", "kind", "The job queue that is asked whether a job lives.", kRestart},
       QueueKindSlot{[](Config& c) -> QueueKind& { return c.queue.kind; }}},
      {{"reconcile.queue", "url", "Where the queue's table is.", kRestart},
       TextSlot{[](Config& c) -> std::string& { return c.queue.url; }, kQueueUrlRule}},
      {{"reconcile.queue", "schema", "The schema of the queue's table: Oban's prefix.", kRestart},
       TextSlot{[](Config& c) -> std::string& { return c.queue.schema; }, kSchemaRule}},
      {{"reconcile.queue", "table", "The queue's table.", kRestart},
       TextSlot{[](Config& c) -> std::string& { return c.queue.table; }, kTableRule}},
      {{"reconcile.queue", "clock_skew", kClockSkew, kRestart},
       DurationSlot{[](Config& c) -> milliseconds& { return c.queue.clock_skew; }, kNoTime, hours(24)}},

      {{"retention", "keep", "How long a finished run is kept with its history; 0s: for ever.", kReloadable},
       KeptSlot{[](Config& c) -> milliseconds& { return c.retention.keep; }}},
      {{"retention", "completed", "How long a completed run is kept; empty: as keep says.", kReloadable},
       OptionalDurationSlot{[](Config& c) -> std::optional<milliseconds>& { return c.retention.completed; }}},
      {{"retention", "failed", "How long a failed run is kept; empty: as keep says.", kReloadable},
       OptionalDurationSlot{[](Config& c) -> std::optional<milliseconds>& { return c.retention.failed; }}},
      {{"retention", "cancelled", "How long a cancelled run is kept; empty: as keep says.", kReloadable},
       OptionalDurationSlot{[](Config& c) -> std::optional<milliseconds>& { return c.retention.cancelled; }}},
      {{"retention", "stuck", "How long a stuck run is kept; empty: as keep says.", kReloadable},
       OptionalDurationSlot{[](Config& c) -> std::optional<milliseconds>& { return c.retention.stuck; }}},
      {{"retention", "councils", "How long the finished runs of these councils are kept, however they ended.",
        kReloadable},
       DurationsSlot{[](Config& c) -> NamedDurations& { return c.retention.councils; }}},
      {{"retention", "passes", "How long the reports of reconciliation's passes are kept; 0s: for ever.",
        kReloadable},
       KeptSlot{[](Config& c) -> milliseconds& { return c.retention.passes; }}},
      {{"retention", "recorders", "After how long without a sign of them recorders are forgotten; 0s: never.",
        kReloadable},
       KeptSlot{[](Config& c) -> milliseconds& { return c.retention.recorders; }, hours(24 * 30)}},
      {{"retention", "interval", "The time between removals; 0s: of runs only when asked.", kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.retention.interval; }}},

      {{"expect", "learn",
        "A run of more than four times what nearly all of its council's runs took is a finding as well.",
        kReloadable},
       BoolSlot{[](Config& c) -> bool& { return c.expect.learn; }}},

      {{"log", "level", "The least important messages to log.", kReloadable},
       LevelSlot{[](Config& c) -> LogLevel& { return c.log.level; }}},
      {{"log", "format", "The format of lines on stderr; the journal gets fields.", kReloadable},
       FormatSlot{[](Config& c) -> LogFormat& { return c.log.format; }}},

      {{"daemon", "shutdown_timeout", "How long a stop may take to apply what was accepted.", kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.daemon.shutdown_timeout; }}},
      {{"daemon", "host",
        "The host's name in the rows of runs whose events name none; empty: the system's host name.", kRestart},
       TextSlot{[](Config& c) -> std::string& { return c.daemon.host; }, kHostRule}},

      {{"metrics", "listen", "Serve the metrics over TCP too; they are always on the control socket.", kRestart},
       TextSlot{[](Config& c) -> std::string& { return c.metrics.listen; }, kListenRule}},
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
      if (entry.key.name == "kind") some.back().key.shown_default = "none, required";
    }
    return some;
  }();
  return entries;
}

const std::vector<ConfigEntry>& expectation_table() {
  static const std::vector<ConfigEntry> entries = {
      {{"expect.NAME", "council", "Whose runs are expected: a name, or a pattern.", kReloadable, "none, required"},
       TextSlot{[](Config& c) -> std::string& { return c.expectation.council; }, kPatternRule}},
      {{"expect.NAME", "every", "How long after a start the next one is due; 0s: nothing is.", kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.expectation.every; }}},
      {{"expect.NAME", "cron", "When a start is due; not together with every.", kReloadable},
       TextSlot{[](Config& c) -> std::string& { return c.expectation.cron; }, kCronRule}},
      {{"expect.NAME", "timezone", "On whose clock cron is meant.", kReloadable},
       TextSlot{[](Config& c) -> std::string& { return c.expectation.timezone; }, kTimeZoneRule}},
      {{"expect.NAME", "margin", "How late a start may be.", kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.expectation.margin; }}},
      {{"expect.NAME", "max_duration", "How long a run may last; 0s: as long as it likes.", kReloadable},
       DurationSlot{[](Config& c) -> milliseconds& { return c.expectation.max_duration; }}},
  };
  return entries;
}

std::vector<ConfigKey> keys_of(std::span<const ConfigEntry> entries) {
  std::vector<ConfigKey> keys;
  for (const ConfigEntry& entry : entries) keys.push_back(entry.key);
  return keys;
}

const ConfigEntry& entry_of(const ConfigKey& key) {
  for (const NamedSections* sections : named_sections()) {
    if (key.section == sections->key_section) return *sections->find(key.name);
  }
  return *find_entry(key.full_name());
}

bool is_bare_key(std::string_view name) {
  return !name.empty() &&
         std::ranges::all_of(name, [](char c) { return is_letter(c) || is_digit(c) || c == '_' || c == '-'; });
}

template <class Sections>
std::vector<std::string> names_of(const Sections& sections) {
  std::vector<std::string> names;
  names.reserve(sections.size());
  for (const auto& [name, section] : sections) names.push_back(name);
  return names;
}

}  // namespace

const NamedSections kQueueSections = {
    .name = "queues",
    .key_section = "queues.NAME",
    .one = "a queue",
    .example = "[queues.mailers]",
    .most = kMostQueues,
    .entries = []() -> std::span<const ConfigEntry> { return queue_table(); },
    .exchange = [](Config& config, const std::string& name) { std::swap(config.queue, config.queues[name]); },
    .add = [](Config& config, const std::string& name) { return config.queues.try_emplace(name).second; },
    .names = [](const Config& config) { return names_of(config.queues); },
};

const NamedSections kExpectSections = {
    .name = "expect",
    .key_section = "expect.NAME",
    .one = "an expectation",
    .example = "[expect.nightly]",
    .most = kMostExpectations,
    .entries = []() -> std::span<const ConfigEntry> { return expectation_table(); },
    .exchange = [](Config& config,
                   const std::string& name) { std::swap(config.expectation, config.expect.named[name]); },
    .add = [](Config& config, const std::string& name) { return config.expect.named.try_emplace(name).second; },
    .names = [](const Config& config) { return names_of(config.expect.named); },
};

std::span<const NamedSections* const> named_sections() {
  static constexpr std::array kAll = {&kQueueSections, &kExpectSections};
  return kAll;
}

std::span<const ConfigEntry> config_entries() {
  return table();
}

const ConfigEntry* find_entry(std::string_view full_name) {
  for (const ConfigEntry& entry : table()) {
    if (entry.key.full_name() == full_name) return &entry;
  }
  return nullptr;
}

const ConfigEntry* NamedSections::find(std::string_view key) const {
  for (const ConfigEntry& entry : entries()) {
    if (entry.key.name == key) return &entry;
  }
  return nullptr;
}

std::string NamedSections::full_name(std::string_view section, std::string_view key) const {
  const std::string full = std::string(name) + "." + (is_bare_key(section) ? std::string(section) : shown(section));
  return key.empty() ? full : full + "." + std::string(key);
}

std::string NamedSections::flags() const {
  return "--" + std::string(name) + "-";
}

std::string NamedSections::variables() const {
  std::string variable = "RUN_RECORDER_" + std::string(name) + "_";
  for (char& c : variable) c = to_upper(c);
  return variable;
}

Config with_section(const Config& config, const NamedSections& sections, const std::string& name) {
  Config copy = config;
  sections.exchange(copy, name);
  return copy;
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
  return shown_default.empty() ? value_text(Config{}, entry_of(*this)) : std::string(shown_default);
}

std::string ConfigKey::allowed() const {
  return allowed_text(entry_of(*this));
}

std::vector<std::string> ConfigKey::choices() const {
  return choices_of(entry_of(*this));
}

std::span<const ConfigKey> config_keys() {
  static const std::vector<ConfigKey> keys = keys_of(table());
  return keys;
}

std::span<const ConfigKey> named_section_keys() {
  static const std::vector<ConfigKey> keys = [] {
    std::vector<ConfigKey> all;
    for (const NamedSections* sections : named_sections()) {
      for (const ConfigKey& key : keys_of(sections->entries())) all.push_back(key);
    }
    return all;
  }();
  return keys;
}

}  // namespace run_recorder
