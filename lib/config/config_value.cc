// Values of keys: from what was found to a Config.
#include <algorithm>

#include "base/ascii.h"
#include "base/json_text.h"
#include "base/number.h"
#include "base/time.h"
#include "config/config_table.h"
#include "run/names.h"

namespace run_recorder {
namespace {

using Kind = RawValue::Kind;

constexpr std::size_t kShownBytes = 60;
constexpr std::string_view kHidden = "(hidden, it may hold a password)";
constexpr std::string_view kNameProblem = "the name of a council must be 1 to 255 bytes";
static_assert(kMaxNameBytes == 255);

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// The value in quotes, or what it is in parentheses.
std::string found(const RawValue& value) {
  switch (value.kind) {
    case Kind::kPlain:
    case Kind::kString:
      return shown(value.text);
    case Kind::kInteger:
      return json_string(std::to_string(value.number));
    case Kind::kBoolean:
      return value.number == 1 ? "\"true\"" : "\"false\"";
    case Kind::kList:
      return "(a list)";
    case Kind::kTable:
      return value.names.empty() ? "(a section)"
                                 : found(value.items.front()) + " of " + json_string(value.names.front());
    case Kind::kOther:
      return "(" + value.text + ")";
  }
  return {};
}

// Reads text of a flag, a variable or a TOML string; the file's other types are no text.
const std::string* text_of(const RawValue& value) {
  return value.kind == Kind::kPlain || value.kind == Kind::kString ? &value.text : nullptr;
}

std::optional<std::uint64_t> count_of(const RawValue& value) {
  if (value.kind == Kind::kInteger && value.number >= 0) return static_cast<std::uint64_t>(value.number);
  return value.kind == Kind::kPlain ? parse_number<std::uint64_t>(value.text) : std::nullopt;
}

// 30, "30" or -1: what lacks a unit where one is needed.
bool is_whole_number(const RawValue& value) {
  const std::string* text = text_of(value);
  return value.kind == Kind::kInteger || (text != nullptr && parse_number<std::int64_t>(*text));
}

// "0660", "660" and 0o660 are meant in octal; a plain 660 in the file would be decimal, and is refused.
std::optional<mode_t> mode_of(const RawValue& value) {
  constexpr mode_t kHighest = 0777;
  if (value.kind == Kind::kInteger) {
    if (!value.octal || value.number < 0 || value.number > kHighest) return std::nullopt;
    return static_cast<mode_t>(value.number);
  }
  const std::string* text = text_of(value);
  if (text == nullptr) return std::nullopt;
  const std::string_view digits = text->starts_with("0o") ? std::string_view(*text).substr(2) : *text;
  const auto mode = parse_number<mode_t>(digits, 8);
  if (!mode || digits.size() < 3 || digits.size() > 4 || *mode > kHighest) return std::nullopt;
  return mode;
}

std::optional<std::vector<std::string>> list_of(const RawValue& value) {
  std::vector<std::string> items;
  if (value.kind == Kind::kList) {
    for (const RawValue& item : value.items) {
      if (item.kind != Kind::kString) return std::nullopt;
      items.push_back(item.text);
    }
    return items;
  }
  if (value.kind != Kind::kPlain) return std::nullopt;
  std::string_view rest = value.text;
  while (!trimmed(rest).empty()) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    items.emplace_back(trimmed(rest.substr(0, comma)));
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  return items;
}

// Each puts a value into its member; the answer is the problem: "" is a wrong type or value with nothing to add.
struct Assigner {
  Config& config;
  const RawValue& value;
  using Problem = std::optional<std::string>;

  Problem operator()(const TextSlot& slot) const {
    const std::string* text = text_of(value);
    if (text == nullptr) return "";
    if (Problem problem = slot.rule.check(*text)) return problem;
    slot.member(config) = *text;
    return std::nullopt;
  }

  Problem operator()(const ListSlot& slot) const {
    std::optional<std::vector<std::string>> items = list_of(value);
    if (!items) return value.kind == Kind::kList ? "elements must be strings" : "";
    for (const std::string& item : *items) {
      if (Problem problem = slot.rule.check(item))
        return problem->empty() ? shown(item) : shown(item) + " is " + *problem;
    }
    slot.member(config) = std::move(*items);
    return std::nullopt;
  }

  Problem operator()(const BoolSlot& slot) const {
    const bool plain = value.kind == Kind::kPlain && (value.text == "true" || value.text == "false");
    if (!plain && value.kind != Kind::kBoolean) return "";
    slot.member(config) = plain ? value.text == "true" : value.number == 1;
    return std::nullopt;
  }

  Problem operator()(const CountSlot& slot) const {
    const std::optional<std::uint64_t> count = count_of(value);
    if (!count || *count < slot.lowest || *count > slot.highest) return "";
    slot.member(config) = *count;
    return std::nullopt;
  }

  Problem operator()(const SizeSlot& slot) const {
    const std::string* text = text_of(value);
    const std::optional<std::uint64_t> size = text == nullptr ? std::nullopt : parse_size(*text);
    if (!size) return is_whole_number(value) ? "needs a unit" : "";
    if (*size < slot.lowest || *size > slot.highest) return "";
    slot.member(config) = *size;
    return std::nullopt;
  }

  Problem operator()(const DurationSlot& slot) const {
    std::chrono::milliseconds time{0};
    if (Problem problem = time_of(value, time)) return problem;
    if (time < slot.lowest || time > slot.highest) return "";
    slot.member(config) = time;
    return std::nullopt;
  }
  Problem operator()(const KeptSlot& slot) const {
    std::chrono::milliseconds time{0};
    if (Problem problem = time_of(value, time)) return problem;
    if ((time != kNoTime && time < slot.lowest) || time > kLongestTime) return "";
    slot.member(config) = time;
    return std::nullopt;
  }

  Problem operator()(const OptionalDurationSlot& slot) const {
    const std::string* text = text_of(value);
    if (text != nullptr && text->empty()) {
      slot.member(config).reset();
      return std::nullopt;
    }
    std::chrono::milliseconds time{0};
    if (Problem problem = time_of(value, time)) return problem;
    slot.member(config) = time;
    return std::nullopt;
  }

  Problem operator()(const DurationsSlot& slot) const {
    auto& times = slot.member(config);
    if (value.kind == Kind::kTable) {
      for (std::size_t i = 0; i < value.names.size(); ++i) {
        const std::string& name = value.names[i];
        if (value.items[i].kind == Kind::kTable || value.items[i].kind == Kind::kOther) {
          return "a name with dots or spaces needs quotes, as in \"A.B\" = \"30d\"";
        }
        if (!is_name(name)) return std::string(kNameProblem);
        std::chrono::milliseconds time{0};
        if (Problem problem = time_of(value.items[i], time)) return problem;
        times[name] = time;
      }
      return std::nullopt;
    }
    if (value.kind != Kind::kPlain) return "";
    NamedDurations all;
    for (const std::string& item : list_of(value).value_or(std::vector<std::string>())) {
      const std::size_t equals = item.rfind('=');
      const std::string name(trimmed(std::string_view(item).substr(0, equals)));
      if (equals == std::string::npos || name.empty()) return shown(item) + " is not NAME=DURATION";
      if (!is_name(name)) return std::string(kNameProblem);
      std::chrono::milliseconds time{0};
      const RawValue text{Kind::kPlain, std::string(trimmed(std::string_view(item).substr(equals + 1)))};
      if (Problem problem = time_of(text, time)) return shown(item) + ": " + *problem;
      all[name] = time;
    }
    times = std::move(all);
    return std::nullopt;
  }

  static Problem time_of(const RawValue& text_value, std::chrono::milliseconds& time) {
    const std::string* text = text_of(text_value);
    const std::optional<std::chrono::milliseconds> read = text == nullptr ? std::nullopt : parse_duration(*text);
    if (!read) return is_whole_number(text_value) ? "needs a unit" : "";
    if (*read > kLongestTime) return "longer than ten years";
    time = *read;
    return std::nullopt;
  }

  Problem operator()(const ModeSlot& slot) const {
    const std::optional<mode_t> mode = mode_of(value);
    if (!mode) return value.kind == Kind::kInteger && !value.octal ? "a decimal number" : "";
    slot.member(config) = *mode;
    return std::nullopt;
  }

  Problem operator()(const LevelSlot& slot) const { return choose(slot, kLevels); }
  Problem operator()(const FormatSlot& slot) const { return choose(slot, kFormats); }
  Problem operator()(const QueueKindSlot& slot) const { return choose(slot, kQueueKinds); }

  template <class Slot, class Enums>
  Problem choose(const Slot& slot, const Enums& all) const {
    const std::string* text = text_of(value);
    const auto one =
        std::ranges::find_if(all, [&](auto each) { return text != nullptr && to_string(each) == *text; });
    if (one == all.end()) return "";
    slot.member(config) = *one;
    return std::nullopt;
  }
};

bool is_url(const ConfigEntry& entry) {
  return entry.key.name == "url";
}

// A url is shown by its scheme alone: where it is wrong, nobody can tell where in it the password is.
std::string found_url(const RawValue& value) {
  const std::string* text = text_of(value);
  if (text == nullptr) return found(value);
  const std::size_t scheme_end = text->find("://");
  const auto in_scheme = [](char c) { return is_lower(c) || c == '+'; };
  if (text->empty()) return "\"\"";
  if (text->starts_with("sqlite:")) return shown(*text);
  if (scheme_end == std::string::npos || scheme_end > 12 ||
      !std::all_of(text->begin(), text->begin() + static_cast<std::ptrdiff_t>(scheme_end), in_scheme)) {
    return std::string(kHidden);
  }
  return json_string(text->substr(0, scheme_end) + "://***");
}

}  // namespace

std::string shown(std::string_view text) {
  const std::string lower = to_lower(text);
  const bool secret = lower.find("://") != std::string::npos || lower.find("password=") != std::string::npos;
  if (secret) return std::string(kHidden);
  if (text.size() <= kShownBytes) return json_string(text);
  std::size_t end = kShownBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // not within a character
  return json_string(text.substr(0, end)) + "… (" + std::to_string(text.size()) + " bytes)";
}

std::string invalid_value(const std::string& found, const std::string& problem, const ConfigKey& key) {
  return "invalid value " + found + ": " + problem + (problem.empty() ? "" : "; ") + "must be " + key.allowed();
}

std::optional<std::string> assign(Config& config, const ConfigEntry& entry, const RawValue& value) {
  const std::optional<std::string> problem = std::visit(Assigner{config, value}, entry.slot);
  if (!problem) return std::nullopt;
  return invalid_value(is_url(entry) ? found_url(value) : found(value), *problem, entry.key);
}

}  // namespace run_recorder
