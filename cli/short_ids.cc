#include "cli/short_ids.h"

#include <algorithm>
#include <iterator>

namespace run_recorder {
namespace {

constexpr std::size_t kRoomForWholeIds = 160;
constexpr std::size_t kFewest = 8;
// Of a UUID that begins with the time the whole time, in milliseconds: its first eight digits are the same for a
// minute.
constexpr std::size_t kTimeOrderedFewest = 13;
constexpr std::size_t kUuid = 36;
constexpr std::size_t kVersionAt = 14;
constexpr std::size_t kRemembered = 1'000;

bool is_uuid(std::string_view id) {
  if (id.size() != kUuid) return false;
  for (std::size_t i = 0; i < kUuid; ++i) {
    const bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;
    const char c = id[i];
    const bool digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    if (hyphen ? c != '-' : !digit) return false;
  }
  return true;
}

std::size_t alike(std::string_view a, std::string_view b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

ShortIds::ShortIds(const Terminal& terminal)
    : shortens_(terminal.columns > 0 && terminal.columns < kRoomForWholeIds) {}

void ShortIds::include(std::string_view id) {
  if (!shortens_ || !is_uuid(id)) return;
  if (ids_.size() >= kRemembered) ids_.clear();
  const auto [at, is_new] = ids_.emplace(id);
  if (!is_new) return;
  if (at != ids_.begin()) length_ = std::max(length_, alike(*std::prev(at), id) + 1);
  if (std::next(at) != ids_.end()) length_ = std::max(length_, alike(*std::next(at), id) + 1);
}

std::string ShortIds::of(std::string_view id) const {
  if (!shortens_ || !is_uuid(id)) return std::string(id);
  std::size_t length = std::max(length_, id[kVersionAt] == '7' ? kTimeOrderedFewest : kFewest);
  if (id[length - 1] == '-') ++length;
  return std::string(id.substr(0, length));
}

}  // namespace run_recorder
