// A JSON object as the daemon sent it, read member by member, each value still as exact text. A view: the text must
// outlive it. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_text.h"
#include "base/time.h"

namespace run_recorder {

class JsonObject {
 public:
  JsonObject() = default;
  // Precondition: text is valid JSON; what is no object has no members.
  explicit JsonObject(std::string_view text);

  const std::vector<JsonMember>& members() const& { return members_; }
  void members() && = delete;  // they would not outlive the loop over them
  // The value's text; empty where there is no such member or it is null.
  std::string_view raw(std::string_view key) const;
  // A string's characters, else the value's text; empty where it is absent or null.
  std::string text(std::string_view key) const;
  std::optional<std::int64_t> integer(std::string_view key) const;
  std::uint64_t count(std::string_view key) const;  // 0 where it is no such number
  std::optional<Timestamp> time(std::string_view key) const;
  bool is_true(std::string_view key) const { return raw(key) == "true"; }
  JsonObject object(std::string_view key) const { return JsonObject(raw(key)); }
  // The elements of an array; none where it is absent or something else.
  std::vector<std::string_view> elements(std::string_view key) const;

 private:
  std::vector<JsonMember> members_;
};

// A string's characters, else the value's text.
std::string json_plain_text(std::string_view value);
// The value over several lines, each but the first indented by that many spaces; control characters stay escaped.
// Precondition: valid JSON.
std::string pretty_json(std::string_view value, std::size_t indent);

}  // namespace run_recorder
