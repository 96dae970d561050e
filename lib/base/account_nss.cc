#include <cerrno>

#include "base/account_entries.h"

namespace run_recorder {
namespace {

constexpr std::size_t kFirstBuffer = 1024;
constexpr std::size_t kLargestBuffer = 1 << 20;

// Repeats a reentrant look-up with a growing buffer while it says ERANGE.
template <class Found, class Entry, class Key>
std::optional<Found> look_up(int (*call)(Key, Entry*, char*, std::size_t, Entry**), Key key) {
  for (std::vector<char> buffer(kFirstBuffer); buffer.size() <= kLargestBuffer;) {
    Entry entry{};
    Entry* found = nullptr;
    const int error_number = call(key, &entry, buffer.data(), buffer.size(), &found);
    if (error_number == EINTR) continue;
    if (error_number != ERANGE) return found == nullptr ? std::nullopt : std::optional(Found(*found));
    buffer.resize(buffer.size() * 2);
  }
  return std::nullopt;
}

}  // namespace

std::optional<UserEntry> AccountsByNss::user_named(const std::string& name) const {
  return look_up<UserEntry>(getpwnam_r, name.c_str());
}

std::optional<UserEntry> AccountsByNss::user_with(uid_t uid) const {
  return look_up<UserEntry>(getpwuid_r, uid);
}

std::optional<GroupEntry> AccountsByNss::group_named(const std::string& name) const {
  return look_up<GroupEntry>(getgrnam_r, name.c_str());
}

std::optional<GroupEntry> AccountsByNss::group_with(gid_t gid) const {
  return look_up<GroupEntry>(getgrgid_r, gid);
}

std::vector<gid_t> AccountsByNss::groups_of(const UserEntry& user) const {
  std::vector<gid_t> groups(32);
  int count = static_cast<int>(groups.size());
  if (getgrouplist(user.name.c_str(), user.gid, groups.data(), &count) < 0) {
    groups.resize(static_cast<std::size_t>(count));
    if (getgrouplist(user.name.c_str(), user.gid, groups.data(), &count) < 0) return {user.gid};
  }
  groups.resize(static_cast<std::size_t>(count));
  return groups;
}

}  // namespace run_recorder
