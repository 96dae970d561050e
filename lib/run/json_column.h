// A JSON column of a runs row as it is known here. Runs carry up to megabytes of input, result and error, and nearly
// no decision needs them: the recorder loads rows without, knowing only whether there is one. What was not loaded is
// neither absent nor empty, and a Store leaves it as it is. A value.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <utility>

#include "base/json_text.h"

namespace run_recorder {

class JsonColumn {
 public:
  JsonColumn() = default;  // absent: NULL
  JsonColumn(std::nullopt_t) {}
  JsonColumn(JsonText text) : text_(std::move(text)) {}
  JsonColumn(const char* text) : text_(text) {}
  JsonColumn(std::optional<JsonText> text) : text_(std::move(text)) {}
  // The row has one, the database alone knows its text.
  static JsonColumn not_loaded() {
    JsonColumn json;
    json.loaded_ = false;
    return json;
  }

  // Whether the row has one, loaded or not.
  explicit operator bool() const { return text_ || !loaded_; }
  bool has_value() const { return static_cast<bool>(*this); }
  // False: there is one, but its text is not here.
  bool loaded() const { return loaded_; }
  // Empty: absent. Precondition of this and of those below: loaded(), and for those below that it is there.
  const std::optional<JsonText>& text() const {
    assert(loaded_);
    return text_;
  }
  const JsonText& value() const { return text().value(); }
  const JsonText& operator*() const { return value(); }
  const JsonText* operator->() const { return &value(); }

  void reset() { *this = JsonColumn(); }
  // Lets go of the text; whether there is one is still known.
  void unload() {
    if (text_) *this = not_loaded();
  }
  bool operator==(const JsonColumn&) const = default;

 private:
  std::optional<JsonText> text_;
  bool loaded_ = true;
};

}  // namespace run_recorder
