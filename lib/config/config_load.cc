// Reads the settings of all sources, weakest first, and every mistake in them.
#include <algorithm>
#include <set>

#include "base/ascii.h"
#include "base/file.h"
#include "base/nearest_name.h"
#include "base/url.h"
#include "config/config_draft.h"
#include "run/names.h"

namespace run_recorder {
namespace {

constexpr std::size_t kLargestFile = 1 << 20;
constexpr std::string_view kVariablePrefix = "RUN_RECORDER_";
constexpr std::string_view kFileVariable = "RUN_RECORDER_CONFIG";
// Set by `run-recorder exec` for its child, which may well start the tool again.
constexpr std::string_view kRunVariable = "RUN_RECORDER_RUN_ID";
constexpr std::string_view kFileFlag = "--config";
constexpr std::string_view kFileFlagPlace = "flag --config";

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

// The file to read, and who named it: empty for nobody.
std::pair<std::string, std::string> chosen_file(const ConfigSources& sources) {
  for (auto flag = sources.flags.rbegin(); flag != sources.flags.rend(); ++flag) {
    if (flag->first == kFileFlag) return {flag->second, std::string(kFileFlagPlace)};
  }
  const auto variable = sources.environment.find(std::string(kFileVariable));
  if (variable != sources.environment.end() && !variable->second.empty()) {
    return {variable->second, "environment " + std::string(kFileVariable)};
  }
  return {sources.default_file, ""};
}

struct SectionKeyName {
  const NamedSections* sections;
  const ConfigEntry* entry;
  std::string section;
};
// "--queues-mailers-url" is the url of "mailers".
std::optional<SectionKeyName> split_name(const NamedSections& sections, const std::string& name,
                                         const std::string& begin, std::string (ConfigKey::*form)() const) {
  if (!name.starts_with(begin)) return std::nullopt;
  for (const ConfigEntry& entry : sections.entries()) {
    const std::string whole = (entry.key.*form)();  // with NAME in it
    const std::string end = whole.substr(begin.size() + std::string_view("NAME").size());
    if (name.size() <= begin.size() + end.size() || !name.ends_with(end)) continue;
    return SectionKeyName{&sections, &entry, name.substr(begin.size(), name.size() - begin.size() - end.size())};
  }
  return std::nullopt;
}

std::optional<SectionKeyName> split_flag(const std::string& name) {
  for (const NamedSections* sections : named_sections()) {
    if (auto found = split_name(*sections, name, sections->flags(), &ConfigKey::flag)) return found;
  }
  return std::nullopt;
}

std::optional<SectionKeyName> split_variable(const std::string& name) {
  for (const NamedSections* sections : named_sections()) {
    if (auto found = split_name(*sections, name, sections->variables(), &ConfigKey::variable)) return found;
  }
  return std::nullopt;
}

// Gathers the settings of all sources, weakest first, and every mistake in them.
class Loader {
 public:
  explicit Loader(const ConfigSources& sources) : draft_{sources} {}

  LoadedConfig load() {
    read_file_settings();
    read_environment();
    read_flags();
    settle(draft_);
    pass_over_needless();
    if (!draft_.problems.all.empty()) return draft_.problems;
    return std::move(draft_.config);
  }

 private:
  void pass_over_needless() {
    if (!draft_.sources.needed_keys) return;
    ConfigProblems needed;
    for (ConfigProblem& problem : draft_.problems.all) {
      if (is_needed(problem)) {
        needed.all.push_back(std::move(problem));
      } else {
        draft_.config.mistakes.push_back(problem.text());
      }
    }
    draft_.problems = std::move(needed);
  }

  bool is_needed(const ConfigProblem& problem) const {
    if (problem.where.starts_with("flag ")) return true;
    // It is about the file as a whole, and so about each of its keys; whoever names a file means what is in it.
    const auto [file, named_by] = chosen_file(draft_.sources);
    if (problem.key.empty() && named_by == kFileFlagPlace && problem.where.starts_with(file)) return true;
    return std::ranges::count(*draft_.sources.needed_keys, problem.key) > 0;
  }

  void set_in(const NamedSections& sections, const std::string& section, const ConfigEntry& entry,
              const RawValue& value, const std::string& where) {
    const std::string key = sections.full_name(section, entry.key.name);
    name_section(sections, section, where);
    draft_.places[key] = where;
    sections.exchange(draft_.config, section);
    if (const std::optional<std::string> problem = assign(draft_.config, entry, value))
      draft_.report(where, key, *problem);
    sections.exchange(draft_.config, section);
  }

  void name_section(const NamedSections& sections, const std::string& section, const std::string& where) {
    if (!sections.add(draft_.config, section)) return;
    draft_.places[sections.full_name(section, "")] = where;
    if (section.empty() || section.size() > kMaxShortNameBytes) {
      draft_.report(where, sections.full_name(section, ""),
                    "invalid name: must be 1 to " + std::to_string(kMaxShortNameBytes) + " bytes, has " +
                        std::to_string(section.size()));
    }
  }

  void set(const ConfigEntry& entry, const RawValue& value, const std::string& where) {
    const std::string key = entry.key.full_name();
    draft_.places[key] = where;  // also where it is wrong: it was meant to be given
    if (const std::optional<std::string> problem = assign(draft_.config, entry, value))
      draft_.report(where, key, *problem);
  }

  void read_file_settings() {
    const auto [path, named_by] = chosen_file(draft_.sources);
    const Result<std::string> text = read_file(path, kLargestFile);
    if (!text) {
      const bool denied = text.error().kind == ErrorKind::kDenied;
      if (named_by.empty() && text.error().kind == ErrorKind::kNotFound) return;
      if (denied && draft_.sources.for_tool && named_by != kFileFlagPlace) {
        draft_.config.notes.push_back("cannot read the configuration, using defaults: " + text.error().message);
        return;
      }
      draft_.report(named_by.empty() ? path : named_by, "", text.error().message);
      draft_.config.file_unread = true;
      return;
    }
    draft_.config.file = path;
    take_file(read_config_text(path, *text));
  }

  void take_file(FileContent content) {
    std::vector<FileProblem> all = std::move(content.problems);
    draft_.config.file_unread =
        std::ranges::any_of(all, [](const FileProblem& one) { return one.problem.key.empty(); });
    for (const FileSetting& setting : content.settings) {
      const std::string at = draft_.config.file + ":" + std::to_string(setting.line);
      draft_.config.file_holds_password = draft_.config.file_holds_password || holds_password(setting);
      if (setting.entry == nullptr) {
        name_section(*setting.sections, setting.section, at);
      } else if (setting.sections != nullptr) {
        set_in(*setting.sections, setting.section, *setting.entry, setting.value, at);
      } else {
        set(*setting.entry, setting.value, at);
      }
      for (ConfigProblem& problem : draft_.problems.all) all.push_back({setting.line, std::move(problem)});
      draft_.problems.all.clear();
    }
    std::stable_sort(all.begin(), all.end(),
                     [](const FileProblem& a, const FileProblem& b) { return a.line < b.line; });
    for (FileProblem& one : all) draft_.problems.all.push_back(std::move(one.problem));
  }

  static bool holds_password(const FileSetting& setting) {
    return setting.entry != nullptr && setting.entry->key.name == "url" &&
           setting.value.kind == RawValue::Kind::kString && has_password(setting.value.text);
  }

  void read_environment() {
    std::vector<std::string> links;
    for (const auto& [name, text] : draft_.sources.environment) {
      if (!name.starts_with(kVariablePrefix) || name == kFileVariable || name == kRunVariable) continue;
      if (const ConfigEntry* entry = entry_named(name, &ConfigKey::variable)) {
        set(*entry, {RawValue::Kind::kPlain, text}, "environment " + name);
      } else if (is_service_link(name)) {
        links.push_back(name);
      } else if (const auto found = split_variable(name)) {
        set_in(*found->sections, section_in_capitals(*found->sections, found->section), *found->entry,
               {RawValue::Kind::kPlain, text}, "environment " + name);
      } else {
        take_unknown_variable(name);
      }
    }
    if (links.empty()) return;
    const std::string others = links.size() == 1 ? "" : " and " + std::to_string(links.size() - 1) + " more";
    draft_.config.warnings.push_back("environment " + links.front() + others +
                                     ": ignored, it has the form of a Kubernetes service's variable");
  }

  void take_unknown_variable(const std::string& name) {
    const std::string where = "environment " + name_for_message(name);
    const std::string message = "unknown variable" + nearest(name, &ConfigKey::variable, kFileVariable);
    if (draft_.sources.for_tool) {
      draft_.config.warnings.push_back(ConfigProblem{where, "", message + "; ignored"}.text());
    } else {
      draft_.report(where, "", message);
    }
  }

  void read_flags() {
    for (const auto& [name, text] : draft_.sources.flags) {
      if (name == kFileFlag) continue;
      const ConfigEntry* entry = entry_named(name, &ConfigKey::flag);
      if (const auto found = split_flag(name)) {
        set_in(*found->sections, found->section, *found->entry, {RawValue::Kind::kPlain, text}, "flag " + name);
      } else if (entry == nullptr) {
        draft_.report("flag " + name_for_message(name), "",
                      "unknown flag" + nearest(name, &ConfigKey::flag, kFileFlag));
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

  // The section that a variable means: of those that the file names the one whose name looks so in capitals, else the
  // name in lower case.
  std::string section_in_capitals(const NamedSections& sections, const std::string& capitals) const {
    for (const std::string& name : sections.names(draft_.config)) {
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
    for (const ConfigKey& key : named_section_keys()) known.push_back((key.*form)());
    const std::string name_near = nearest_name(name, known);
    return name_near.empty() ? "; there is one for each key, such as " + known[1]
                             : "; did you mean " + name_near + "?";
  }

  ConfigDraft draft_;
};

}  // namespace

std::string chosen_config_file(const ConfigSources& sources) {
  return chosen_file(sources).first;
}

LoadedConfig load_config(const ConfigSources& sources) {
  return Loader(sources).load();
}

bool is_config_flag(const std::string& name) {
  static const std::set<std::string> known = [] {
    std::set<std::string> names = {std::string(kFileFlag)};
    for (const ConfigKey& key : config_keys()) names.insert(key.flag());
    return names;
  }();
  return known.contains(name) || split_flag(name).has_value();
}

Result<std::vector<std::pair<std::string, std::string>>> take_config_flags(std::vector<std::string>& arguments) {
  std::vector<std::pair<std::string, std::string>> flags;
  std::vector<std::string> rest;
  std::size_t at = 0;
  for (; at < arguments.size() && arguments[at] != "--"; ++at) {
    const std::string& argument = arguments[at];
    const std::size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    if (!is_config_flag(name)) {
      rest.push_back(argument);
      continue;
    }
    if (std::ranges::any_of(flags, [&](const auto& flag) { return flag.first == name; })) {
      return Error{ErrorKind::kInvalid, name + ": given twice"};
    }
    if (equals != std::string::npos) {
      flags.emplace_back(name, argument.substr(equals + 1));
    } else if (at + 1 < arguments.size() && arguments[at + 1] != "--") {
      flags.emplace_back(name, arguments[++at]);
    } else {
      return Error{ErrorKind::kInvalid, name + ": a value is missing"};
    }
  }
  rest.insert(rest.end(), arguments.begin() + static_cast<std::ptrdiff_t>(at), arguments.end());
  arguments = std::move(rest);
  return flags;
}

}  // namespace run_recorder
