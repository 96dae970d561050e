// What the table of keys tells people, and what a reload may change.
#include <set>

#include "config/config_table.h"

namespace run_recorder {

std::string config_help() {
  std::string help =
      "  --config FILE\n      The configuration file, instead of /etc/run-recorder/run-recorder.toml.\n";
  const auto add = [&help](const ConfigKey& key) {
    help += "  " + key.flag() + " VALUE\n      " + std::string(key.doc) + "\n      Must be " + key.allowed() +
            ". Default: " + key.default_text() + "\n";
  };
  for (const ConfigKey& key : config_keys()) add(key);
  help += "\n  The same for further queues, NAME being what events call them:\n";
  for (const ConfigKey& key : named_section_keys()) add(key);
  return help;
}

namespace {

std::set<std::string> names_in_either(const NamedSections& sections, const Config& before, const Config& after) {
  std::set<std::string> names;
  for (const Config* config : {&before, &after}) {
    for (std::string& name : sections.names(*config)) names.insert(std::move(name));
  }
  return names;
}

void add_named_sections(const NamedSections& sections, const Config& before, const Config& after,
                        ConfigDifference& difference) {
  for (const std::string& name : names_in_either(sections, before, after)) {
    const Config old = with_section(before, sections, name);
    const Config now = with_section(after, sections, name);
    for (const ConfigEntry& entry : sections.entries()) {
      if (value_text(old, entry) == value_text(now, entry)) continue;
      (entry.key.reloadable ? difference.reloadable : difference.need_restart)
          .push_back(sections.full_name(name, entry.key.name));
    }
  }
}

}  // namespace

ConfigDifference diff_config(const Config& before, const Config& after) {
  ConfigDifference difference;
  for (const ConfigEntry& entry : config_entries()) {
    bool changed = value_text(before, entry) != value_text(after, entry);
    // The file's name may be the same while its content is not.
    const bool secret = entry.key.section == "database" && entry.key.name == "password_file";
    changed = changed || (secret && before.database.password != after.database.password);
    if (!changed) continue;
    (entry.key.reloadable ? difference.reloadable : difference.need_restart).push_back(entry.key.full_name());
  }
  for (const NamedSections* sections : named_sections()) add_named_sections(*sections, before, after, difference);
  return difference;
}

Config with_reloadable(const Config& before, const Config& after) {
  Config merged = before;
  Config source = after;
  for (const ConfigEntry& entry : config_entries()) {
    if (!entry.key.reloadable) continue;
    std::visit([&](const auto& slot) { slot.member(merged) = slot.member(source); }, entry.slot);
  }
  merged.expect.named = after.expect.named;  // all of their keys are reloadable
  merged.file = after.file;
  merged.notes = after.notes;
  merged.warnings = after.warnings;
  merged.file_holds_password = after.file_holds_password;
  return merged;
}

}  // namespace run_recorder
