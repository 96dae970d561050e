// Writes JSON as text: for hot paths, where a library's tree costs too much, and for JSON columns, which come out
// digit by digit as they are stored. One thread at a time.
#pragma once

#include <concepts>
#include <optional>
#include <string>
#include <string_view>

#include "base/json_text.h"
#include "base/time.h"

namespace run_recorder {

// One object, member after member, in their order.
class JsonWriter {
 public:
  // The value is valid JSON. Names must not be repeated; that is not checked.
  void raw(std::string_view name, std::string_view value) {
    begin(name);
    text_ += value;
  }
  void text(std::string_view name, std::string_view value) {
    begin(name);
    append_json_string(text_, value);
  }
  void maybe_text(std::string_view name, const std::optional<std::string>& value) {
    value ? text(name, *value) : null(name);
  }
  void text_or_null(std::string_view name, std::string_view value) { value.empty() ? null(name) : text(name, value); }
  void json(std::string_view name, const std::optional<JsonText>& value) { raw(name, value ? *value : "null"); }
  void time(std::string_view name, Timestamp value) { text(name, format_rfc3339(value)); }
  void time(std::string_view name, const std::optional<Timestamp>& value) { value ? time(name, *value) : null(name); }
  void flag(std::string_view name, bool value) { raw(name, value ? "true" : "false"); }
  void number(std::string_view name, std::integral auto value) { raw(name, std::to_string(value)); }
  template <std::integral T>
  void number(std::string_view name, const std::optional<T>& value) {
    value ? number(name, *value) : null(name);
  }
  void null(std::string_view name) { raw(name, "null"); }

  // The object as it is now; of one without members {}.
  JsonText object() const& { return text_.empty() ? "{}" : text_ + '}'; }
  JsonText object() && {
    if (text_.empty()) text_ = "{";
    return std::move(text_ += '}');
  }

 private:
  void begin(std::string_view name) {
    text_ += text_.empty() ? '{' : ',';
    append_json_string(text_, name);
    text_ += ':';
  }

  std::string text_;
};

// An array of what element gives, as JSON, for each.
template <class Range, class Element>
JsonText json_array(const Range& range, Element element) {
  JsonText array = "[";
  for (const auto& each : range) {
    if (array.size() > 1) array += ',';
    array += element(each);
  }
  return array += ']';
}

// An array of strings.
template <class Texts>
JsonText json_list(const Texts& texts) {
  return json_array(texts, json_string);
}

}  // namespace run_recorder
