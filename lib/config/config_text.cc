// Values of keys, and what they may be, as text.
#include "base/json_text.h"
#include "base/time.h"
#include "config/config_table.h"

namespace run_recorder {
namespace {

std::string octal(mode_t mode) {
  std::string digits = "0000";
  for (std::size_t i = 0; i < 4; ++i) digits[3 - i] = static_cast<char>('0' + ((mode >> (3 * i)) & 7));
  return digits;
}

std::string list_text(const std::vector<std::string>& items) {
  std::string text = "[";
  for (const std::string& item : items) {
    if (text.size() > 1) text += ", ";
    append_json_string(text, item);
  }
  return text + "]";
}

std::string durations_text(const NamedDurations& times) {
  std::string text = "{";
  for (const auto& [name, time] : times) {
    text += (text.size() > 1 ? ", " : " ") + json_string(name) + " = " + json_string(format_duration(time));
  }
  return text.size() > 1 ? text + " }" : "{}";
}

// Slots give access for writing too; formatting only reads.
struct Formatter {
  Config& config;

  std::string operator()(const TextSlot& slot) const { return json_string(slot.member(config)); }
  std::string operator()(const ListSlot& slot) const { return list_text(slot.member(config)); }
  std::string operator()(const BoolSlot& slot) const { return slot.member(config) ? "true" : "false"; }
  std::string operator()(const CountSlot& slot) const { return std::to_string(slot.member(config)); }
  std::string operator()(const SizeSlot& slot) const { return json_string(format_size(slot.member(config))); }
  std::string operator()(const DurationSlot& slot) const { return json_string(format_duration(slot.member(config))); }
  std::string operator()(const KeptSlot& slot) const { return json_string(format_duration(slot.member(config))); }
  std::string operator()(const OptionalDurationSlot& slot) const {
    const auto& time = slot.member(config);
    return json_string(time ? format_duration(*time) : "");
  }
  std::string operator()(const DurationsSlot& slot) const { return durations_text(slot.member(config)); }
  std::string operator()(const ModeSlot& slot) const { return json_string(octal(slot.member(config))); }
  std::string operator()(const LevelSlot& slot) const { return json_string(to_string(slot.member(config))); }
  std::string operator()(const FormatSlot& slot) const { return json_string(to_string(slot.member(config))); }
  std::string operator()(const QueueKindSlot& slot) const { return json_string(to_string(slot.member(config))); }
};

template <class Enums>
std::string one_of(const Enums& all) {
  std::string text;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i > 0) text += i + 1 == all.size() ? " or " : ", ";
    text += json_string(to_string(all[i]));
  }
  return text;
}

// Members are read for the examples: those of a Config with the defaults.
struct Allowed {
  Config& defaults;

  std::string operator()(const TextSlot& slot) const { return std::string(slot.rule.allowed); }
  std::string operator()(const ListSlot& slot) const { return std::string(slot.rule.allowed); }
  std::string operator()(const BoolSlot&) const { return "true or false"; }
  std::string operator()(const CountSlot& slot) const {
    return "between " + std::to_string(slot.lowest) + " and " + std::to_string(slot.highest);
  }
  std::string operator()(const SizeSlot& slot) const {
    std::string text = "a size";
    if (slot.lowest > 0) text += " from " + json_string(format_size(slot.lowest));
    if (slot.highest < kLargestSize) return text + " to " + json_string(format_size(slot.highest));
    return text + (slot.lowest > 0 ? " on" : "") + ", such as " + json_string(format_size(slot.member(defaults)));
  }
  std::string operator()(const DurationSlot& slot) const {
    if (slot.highest < kLongestTime) {
      return "a duration from \"0s\" up to " + json_string(format_duration(slot.highest)) + ", such as " +
             json_string(format_duration(slot.member(defaults)));
    }
    return std::string(slot.lowest > kNoTime ? "a duration above \"0s\"" : "a duration from \"0s\" on") +
           ", such as \"500ms\", \"30s\", \"5m\", \"24h\" or \"7d\"";
  }
  std::string operator()(const KeptSlot& slot) const {
    if (slot.lowest == kNoTime) return "a duration such as \"90d\", or \"0s\" for ever";
    return "a duration from " + json_string(format_duration(slot.lowest)) + " on, or \"0s\" for ever";
  }
  std::string operator()(const OptionalDurationSlot&) const {
    return "a duration such as \"90d\", \"0s\" for ever, or empty for that of keep";
  }
  std::string operator()(const DurationsSlot&) const {
    return "NAME=DURATION, several by comma; in the file a section of them";
  }
  std::string operator()(const ModeSlot&) const {
    return "an octal mode from \"0000\" to \"0777\", such as \"0660\"";
  }
  std::string operator()(const LevelSlot&) const { return one_of(kLevels); }
  std::string operator()(const FormatSlot&) const { return one_of(kFormats); }
  std::string operator()(const QueueKindSlot&) const { return one_of(kQueueKinds); }
};

template <class Enums>
std::vector<std::string> words_of(const Enums& all) {
  std::vector<std::string> words;
  words.reserve(all.size());
  for (const auto one : all) words.emplace_back(to_string(one));
  return words;
}

struct Choices {
  using Words = std::vector<std::string>;
  template <class Slot>
  Words operator()(const Slot&) const {
    return {};
  }
  Words operator()(const BoolSlot&) const { return {"true", "false"}; }
  Words operator()(const LevelSlot&) const { return words_of(kLevels); }
  Words operator()(const FormatSlot&) const { return words_of(kFormats); }
  Words operator()(const QueueKindSlot&) const { return words_of(kQueueKinds); }
};

}  // namespace

std::string_view to_string(QueueKind kind) {
  switch (kind) {
    case QueueKind::kNone:
      return "none";
    case QueueKind::kOban:
      return "oban";
  }
  return "none";
}

std::string value_text(const Config& config, const ConfigEntry& entry) {
  Config copy = config;
  return std::visit(Formatter{copy}, entry.slot);
}

std::vector<std::string> choices_of(const ConfigEntry& entry) {
  return std::visit(Choices{}, entry.slot);
}

std::string allowed_text(const ConfigEntry& entry) {
  Config defaults;
  return std::visit(Allowed{defaults}, entry.slot);
}

}  // namespace run_recorder
