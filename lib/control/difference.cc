#include "control/difference.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/json_text.h"
#include "base/utf8.h"

namespace run_recorder {
namespace {

constexpr std::size_t kValueBytes = 60;

std::string shortened(std::string_view value) {
  const std::string_view beginning = utf8_prefix(value, kValueBytes);
  return fmt::format("{}{}", beginning, beginning.size() < value.size() ? "…" : "");
}

}  // namespace

std::string first_difference(std::string_view imported, std::string_view here) {
  std::map<std::string, std::string_view, std::less<>> others;
  for (const JsonMember& member : json_members(here)) others.emplace(member.key, member.value);
  const auto words = [](std::string_view name, std::string_view a, std::string_view b) {
    return fmt::format("{} is {} here and {} in the import", name, shortened(b), shortened(a));
  };
  for (const JsonMember& member : json_members(imported)) {
    const auto found = others.find(member.key);
    const std::string_view other = found == others.end() ? std::string_view("null") : found->second;
    if (!json_equal(member.value, other)) return words(member.key, member.value, other);
    if (found != others.end()) others.erase(found);
  }
  const auto more = std::ranges::find_if(others, [](const auto& one) { return one.second != "null"; });
  return more == others.end() ? "" : words(more->first, "null", more->second);
}

}  // namespace run_recorder
