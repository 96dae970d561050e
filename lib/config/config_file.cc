// The configuration file: TOML to a flat list of settings, each with its line. toml++ ends here.
#include <toml++/toml.h>

#include <algorithm>

#include "base/nearest_name.h"
#include "config/config_table.h"

namespace run_recorder {
namespace {

RawValue raw_value(const toml::node& node) {
  using Kind = RawValue::Kind;
  RawValue value;
  if (const auto* text = node.as_string()) {
    value.kind = Kind::kString;
    value.text = text->get();
  } else if (const auto* number = node.as_integer()) {
    value.kind = Kind::kInteger;
    value.number = number->get();
    value.octal = (number->flags() & toml::value_flags::format_as_octal) != toml::value_flags::none;
  } else if (const auto* truth = node.as_boolean()) {
    value.kind = Kind::kBoolean;
    value.number = truth->get() ? 1 : 0;
  } else if (const auto* array = node.as_array()) {
    value.kind = Kind::kList;
    for (const toml::node& item : *array) value.items.push_back(raw_value(item));
  } else {
    value.kind = Kind::kOther;
    value.text = node.is_table()            ? "a section"
                 : node.is_floating_point() ? "a number with a fraction"
                                            : "a date or time";
  }
  return value;
}

// Walks the sections; names the keys nobody knows.
class Walker {
 public:
  Walker(const std::string& path, FileContent& content) : path_(path), content_(content) {
    for (const ConfigEntry& entry : config_entries()) {
      keys_.push_back(entry.key.full_name());
      const std::string section(entry.key.section);
      if (std::find(sections_.begin(), sections_.end(), section) == sections_.end()) sections_.push_back(section);
      if (section == "reconcile.queue" && entry.key.name == "kind") named_ = sections_.size();
    }
    // After the section that they are a part of.
    for (const NamedSections* sections : named_sections()) {
      const auto whole = std::ranges::find(sections_, sections->name);
      sections_.insert(whole == sections_.end() ? sections_.begin() + static_cast<std::ptrdiff_t>(named_) : whole + 1,
                       std::string(sections->key_section));
    }
  }

  void walk(const toml::table& table, const std::string& section) {
    for (const auto& [key, node] : table) {
      const std::string name = section.empty() ? std::string(key.str()) : section + "." + std::string(key.str());
      visit(name, key.source().begin.line, node);
    }
  }

 private:
  void visit(const std::string& name, std::size_t line, const toml::node& node) {
    if (const ConfigEntry* entry = find_entry(name)) {
      if (std::holds_alternative<DurationsSlot>(entry->slot) && node.is_table()) {
        take_names(*entry, *node.as_table(), line);
        return;
      }
      content_.settings.push_back({entry, raw_value(node), line});
      return;
    }
    for (const NamedSections* sections : named_sections()) {
      if (name == sections->name) return take_sections(*sections, node, line);
    }
    const bool known = std::find(sections_.begin(), sections_.end(), name) != sections_.end();
    if (known && node.is_table()) {
      walk(*node.as_table(), name);
    } else if (known) {
      report(line, name, "this is a section: write [" + name + "] on a line of its own and its keys below");
    } else if (node.is_table() || node.is_array_of_tables()) {
      report(line, name, "unknown section" + suggestion(name, sections_));
    } else {
      report(line, name, "unknown key" + suggestion(name, keys_));
    }
  }

  void take_sections(const NamedSections& sections, const toml::node& node, std::size_t line) {
    const std::string form =
        std::string(sections.one) + " has a section of its own, as " + std::string(sections.example);
    const bool has_keys = std::ranges::find(sections_, sections.name) != sections_.end();
    if (!node.is_table()) return report(line, std::string(sections.name), form);
    for (const auto& [key, section] : *node.as_table()) {
      const std::string name(key.str());
      const std::size_t at = key.source().begin.line;
      if (!section.is_table() && has_keys) {
        visit(std::string(sections.name) + "." + name, at, section);
      } else if (!section.is_table()) {
        report(at, sections.full_name(name, ""), form);
      } else {
        take_section(sections, name, *section.as_table(), at);
      }
    }
  }

  void take_section(const NamedSections& sections, const std::string& section, const toml::table& table,
                    std::size_t line) {
    content_.settings.push_back({nullptr, RawValue{RawValue::Kind::kTable}, line, &sections, section});
    std::vector<std::string> keys;
    for (const ConfigEntry& entry : sections.entries()) keys.emplace_back(entry.key.name);
    for (const auto& [key, node] : table) {
      const std::string name(key.str());
      const std::size_t at = key.source().begin.line;
      if (const ConfigEntry* entry = sections.find(name)) {
        content_.settings.push_back({entry, raw_value(node), at, &sections, section});
        continue;
      }
      const std::string nearest = nearest_name(name, keys);
      std::string allowed;
      for (const std::string& one : keys) allowed += (allowed.empty() ? "" : ", ") + one;
      report(at, sections.full_name(section, name),
             nearest.empty() ? "unknown key; " + std::string(sections.one) + "'s are " + allowed
                             : "unknown key; did you mean " + nearest + "?");
    }
  }

  // A section whose keys are names of one's own: each is a setting by itself, with its own line.
  void take_names(const ConfigEntry& entry, const toml::table& table, std::size_t line) {
    content_.settings.push_back({&entry, RawValue{RawValue::Kind::kTable}, line});
    for (const auto& [key, node] : table) {
      RawValue value{RawValue::Kind::kTable};
      value.names.emplace_back(key.str());
      value.items.push_back(raw_value(node));
      content_.settings.push_back({&entry, std::move(value), key.source().begin.line});
    }
  }

  std::string suggestion(const std::string& name, const std::vector<std::string>& known) const {
    std::string nearest = nearest_name(name, known);
    // A key without its section, as "url" for "database.url".
    const auto ends_alike = [&](const std::string& one) { return one.ends_with("." + name); };
    const auto alike = std::find_if(known.begin(), known.end(), ends_alike);
    if (nearest.empty() && alike != known.end()) nearest = *alike;
    if (!nearest.empty()) return "; did you mean " + nearest + "?";
    std::string all;
    for (const std::string& section : sections_) all += (all.empty() ? "" : ", ") + section;
    const std::string section = name.substr(0, name.rfind('.'));
    if (name.find('.') == std::string::npos || section == name) return "; the sections are " + all;
    all.clear();
    for (const std::string& key : known) {
      if (key.starts_with(section + ".")) all += (all.empty() ? "" : ", ") + key.substr(section.size() + 1);
    }
    return all.empty() ? "" : "; the keys of [" + section + "] are " + all;
  }

  void report(std::size_t line, const std::string& name, std::string message) {
    const std::string quoted = shown(name);
    const bool plain = quoted == "\"" + name + "\"";
    content_.problems.push_back(
        {line, {path_ + ":" + std::to_string(line), plain ? name : quoted, std::move(message)}});
  }

  const std::string& path_;
  FileContent& content_;
  std::vector<std::string> keys_, sections_;
  std::size_t named_ = 0;  // where sections with names of one's own stand among them
};

// toml++'s own words quote the file, and what they quote may be a password; ours do not.
std::string syntax_problem(const toml::parse_error& error) {
  const std::string column = "column " + std::to_string(error.source().begin.column) + ": ";
  if (error.description().find("redefine") != std::string_view::npos) {
    return column + "duplicate key or section";
  }
  return column +
         "invalid TOML: must be lines such as [section], key = \"text\", key = 12, key = true, key = [\"a\", \"b\"]";
}

}  // namespace

FileContent read_config_text(const std::string& path, std::string_view text) {
  FileContent content;
  try {
    const toml::table table = toml::parse(text, path);
    Walker(path, content).walk(table, "");
  } catch (const toml::parse_error& error) {
    const std::size_t line = error.source().begin.line;
    content.problems.push_back({line, {path + ":" + std::to_string(line), "", syntax_problem(error)}});
  }
  // toml++ sorts by name; people read from the top.
  std::stable_sort(content.settings.begin(), content.settings.end(),
                   [](const FileSetting& a, const FileSetting& b) { return a.line < b.line; });
  return content;
}

}  // namespace run_recorder
