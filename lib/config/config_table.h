// The one table of configuration keys, with where each lives in a Config; only for config/config*.cc and tests. Pure,
// thread-safe.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/config.h"
#include "config/config_checks.h"

namespace run_recorder {

inline constexpr std::chrono::milliseconds kNoTime{0};
inline constexpr std::chrono::milliseconds kLongestTime = std::chrono::hours(24 * 3'650);
inline constexpr std::uint64_t kLargestSize = 1ULL << 50;  // no limit of ours

// One alternative per type of key: the member, and the values it may have.
struct TextSlot {
  std::string& (*member)(Config&);
  const TextRule& rule;
};
struct ListSlot {
  std::vector<std::string>& (*member)(Config&);
  const TextRule& rule;  // of each element
};
struct BoolSlot {
  bool& (*member)(Config&);
};
struct CountSlot {
  std::uint64_t& (*member)(Config&);
  std::uint64_t lowest, highest;
};
struct SizeSlot {
  std::uint64_t& (*member)(Config&);
  std::uint64_t lowest, highest;
};
struct DurationSlot {
  std::chrono::milliseconds& (*member)(Config&);
  std::chrono::milliseconds lowest = kNoTime, highest = kLongestTime;
};
// How long something is kept: 0 is for ever, else at least so long.
struct KeptSlot {
  std::chrono::milliseconds& (*member)(Config&);
  std::chrono::milliseconds lowest = kNoTime;
};
// The same for one status, or "" for as long as the others.
struct OptionalDurationSlot {
  std::optional<std::chrono::milliseconds>& (*member)(Config&);
};
// A section of names with durations. What the file gives name by name is gathered; a flag or a variable gives all of
// them, as NAME=DURATION by comma.
struct DurationsSlot {
  NamedDurations& (*member)(Config&);
};
struct ModeSlot {
  mode_t& (*member)(Config&);
};
struct LevelSlot {
  LogLevel& (*member)(Config&);
};
struct FormatSlot {
  LogFormat& (*member)(Config&);
};
struct QueueKindSlot {
  QueueKind& (*member)(Config&);
};
inline constexpr std::array kLevels = {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning, LogLevel::kError};
inline constexpr std::array kFormats = {LogFormat::kText, LogFormat::kJson};
inline constexpr std::array kQueueKinds = {QueueKind::kNone, QueueKind::kOban};
using ConfigSlot = std::variant<TextSlot, ListSlot, BoolSlot, CountSlot, SizeSlot, DurationSlot, KeptSlot,
                                OptionalDurationSlot, DurationsSlot, ModeSlot, LevelSlot, FormatSlot, QueueKindSlot>;

struct ConfigEntry {
  ConfigKey key;
  ConfigSlot slot;
};
std::span<const ConfigEntry> config_entries();
// By full name, as "reconcile.queue.url"; nullptr where there is none.
const ConfigEntry* find_entry(std::string_view full_name);

// Sections whose last name is the user's own, as [queues.mailers], all with the same keys. In their entries "NAME"
// stands for it. The entries' members are those of one member of Config: whoever uses them puts the section that is
// meant there first, see exchange and with_section().
struct NamedSections {
  std::string_view name;         // "queues"
  std::string_view key_section;  // "queues.NAME"
  std::string_view one;          // "a queue"
  std::string_view example;      // "[queues.mailers]"
  std::size_t most;
  std::span<const ConfigEntry> (*entries)();
  // The section of that name and the member of Config change places.
  void (*exchange)(Config& config, const std::string& name);
  bool (*add)(Config& config, const std::string& name);  // false: it is there
  std::vector<std::string> (*names)(const Config& config);

  const ConfigEntry* find(std::string_view key) const;
  // "queues.mailers.url", the name quoted where TOML needs it; without a key "queues.mailers".
  std::string full_name(std::string_view section, std::string_view key) const;
  // Where flags and variables of them begin: "--queues-", "RUN_RECORDER_QUEUES_".
  std::string flags() const;
  std::string variables() const;
};
std::span<const NamedSections* const> named_sections();
extern const NamedSections kQueueSections;
extern const NamedSections kExpectSections;
// A copy whose member is the section of that name, or has the defaults where there is none.
Config with_section(const Config& config, const NamedSections& sections, const std::string& name);

// A value as it was found, before it is known to fit.
struct RawValue {
  enum class Kind {
    kPlain,   // from the environment or a flag: text, to be read as the key's type
    kString,  // the rest is from the file
    kInteger,
    kBoolean,
    kList,
    kTable,  // names with items
    kOther,  // nothing a key may be; text says what
  } kind = Kind::kPlain;
  std::string text = {};
  std::int64_t number = 0;  // also 1 for true
  bool octal = false;       // the integer was written as 0o…
  std::vector<RawValue> items = {};
  std::vector<std::string> names = {};  // of a table's items
};

// Puts the value into config, or answers with the message of invalid_value().
std::optional<std::string> assign(Config& config, const ConfigEntry& entry, const RawValue& value);
// The values a key may have, in words.
std::string allowed_text(const ConfigEntry& entry);
// The words it may be, where it is one of a few.
std::vector<std::string> choices_of(const ConfigEntry& entry);
// As in TOML, a password in a url included.
std::string value_text(const Config& config, const ConfigEntry& entry);
// A name or value for a message: quoted, shortened, and "(hidden…)" where it may hold a password.
std::string shown(std::string_view text);
// `invalid value "1000": must be between 2 and 512`. found: as shown(); problem: more about it, may be empty.
std::string invalid_value(const std::string& found, const std::string& problem, const ConfigKey& key);

// The file as a flat list of settings, with what is wrong in it as a whole. Reads the file's TOML, not the keys'
// meaning.
struct FileSetting {
  const ConfigEntry* entry;  // nullptr: the section itself, one of named_sections()
  RawValue value;
  std::size_t line;
  const NamedSections* sections = nullptr;  // to which it belongs, if to any
  std::string section = {};                 // and which one it is
};
struct FileProblem {
  std::size_t line;
  ConfigProblem problem;
};
struct FileContent {
  std::vector<FileSetting> settings;  // as they stand in the file
  std::vector<FileProblem> problems;
};
FileContent read_config_text(const std::string& path, std::string_view text);

// Where the daemon's sockets and files are when nothing is configured; empty where the environment has no such place.
struct DefaultFolders {
  std::string runtime;
  std::string state;
};
// For root, and for the user whom the service's state folder belongs to, they are the service's.
DefaultFolders default_folders(const Environment& environment, uid_t uid, const SystemPlaces& places);

}  // namespace run_recorder
