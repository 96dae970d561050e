#include "cli/json_object.h"

#include <algorithm>

#include "cli/text.h"

namespace run_recorder {

JsonObject::JsonObject(std::string_view text) {
  if (!text.empty() && json_type(text) == JsonType::kObject) members_ = json_members(text);
}

std::string_view JsonObject::raw(std::string_view key) const {
  for (const JsonMember& member : members_) {
    if (member.key == key) return member.type == JsonType::kNull ? std::string_view() : member.value;
  }
  return {};
}

std::string JsonObject::text(std::string_view key) const {
  return json_plain_text(raw(key));
}

std::optional<std::int64_t> JsonObject::integer(std::string_view key) const {
  const std::string_view value = raw(key);
  if (value.empty() || json_type(value) != JsonType::kNumber) return std::nullopt;
  return json_integer(value);
}

std::uint64_t JsonObject::count(std::string_view key) const {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(integer(key).value_or(0), 0));
}

std::optional<Timestamp> JsonObject::time(std::string_view key) const {
  const std::string value = text(key);
  return value.empty() ? std::nullopt : parse_rfc3339(value);
}

std::vector<std::string_view> JsonObject::elements(std::string_view key) const {
  const std::string_view value = raw(key);
  if (value.empty() || json_type(value) != JsonType::kArray) return {};
  return json_elements(value);
}

std::string json_plain_text(std::string_view value) {
  if (value.empty()) return {};
  return json_type(value) == JsonType::kString ? json_string_value(value) : std::string(value);
}

std::string pretty_json(std::string_view value, std::size_t indent) {
  const JsonType type = json_type(value);
  if (type != JsonType::kObject && type != JsonType::kArray) return printable(value);
  std::string inside;
  const std::string line = "\n" + std::string(indent + 2, ' ');
  const auto separate = [&] { inside += (inside.empty() ? "" : ",") + line; };
  if (type == JsonType::kObject) {
    for (const JsonMember& member : json_members(value)) {
      separate();
      inside += printable(json_string(member.key)) + ": " + pretty_json(member.value, indent + 2);
    }
  } else {
    for (const std::string_view element : json_elements(value)) {
      separate();
      inside += pretty_json(element, indent + 2);
    }
  }
  const char open = type == JsonType::kObject ? '{' : '[';
  const char close = type == JsonType::kObject ? '}' : ']';
  if (inside.empty()) return std::string{open, close};
  return open + inside + "\n" + std::string(indent, ' ') + close;
}

}  // namespace run_recorder
