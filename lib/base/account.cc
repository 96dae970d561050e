#include "base/account.h"

#include <grp.h>
#include <pwd.h>

#include <cerrno>
#include <cstdint>
#include <limits>
#include <string_view>

#include "base/number.h"

namespace run_recorder {
namespace {

constexpr std::size_t kFirstBuffer = 1024;
constexpr std::size_t kLargestBuffer = 1 << 20;

// Repeats a reentrant look-up with a growing buffer while it says ERANGE; true where it found an entry.
template <class Entry, class LookUp>
bool look_up(Entry& entry, std::vector<char>& buffer, const LookUp& call) {
  for (buffer.resize(kFirstBuffer); buffer.size() <= kLargestBuffer; buffer.resize(buffer.size() * 2)) {
    Entry* found = nullptr;
    const int error_number = call(&entry, buffer.data(), buffer.size(), &found);
    if (error_number == EINTR) continue;
    if (error_number != ERANGE) return error_number == 0 && found != nullptr;
  }
  return false;
}

std::optional<std::uint32_t> parse_id(std::string_view text) {
  const auto number = parse_number<std::uint32_t>(text);
  // The highest number means "no id" to chown(2).
  return number == std::numeric_limits<std::uint32_t>::max() ? std::nullopt : number;
}

}  // namespace

std::optional<uid_t> find_user(const std::string& name_or_number) {
  passwd entry{};
  std::vector<char> buffer;
  const auto by_name = [&](passwd* to, char* bytes, std::size_t size, passwd** found) {
    return getpwnam_r(name_or_number.c_str(), to, bytes, size, found);
  };
  if (look_up(entry, buffer, by_name)) return entry.pw_uid;
  return parse_id(name_or_number);
}

std::optional<gid_t> find_group(const std::string& name_or_number) {
  group entry{};
  std::vector<char> buffer;
  const auto by_name = [&](group* to, char* bytes, std::size_t size, group** found) {
    return getgrnam_r(name_or_number.c_str(), to, bytes, size, found);
  };
  if (look_up(entry, buffer, by_name)) return entry.gr_gid;
  return parse_id(name_or_number);
}

std::optional<Group> group_with(gid_t gid) {
  group entry{};
  std::vector<char> buffer;
  const auto by_id = [&](group* to, char* bytes, std::size_t size, group** found) {
    return getgrgid_r(gid, to, bytes, size, found);
  };
  if (!look_up(entry, buffer, by_id)) return std::nullopt;
  Group found{entry.gr_name, {}};
  for (char** member = entry.gr_mem; *member != nullptr; ++member) found.members.emplace_back(*member);
  return found;
}

std::optional<gid_t> first_group_of(const std::string& user) {
  passwd entry{};
  std::vector<char> buffer;
  const auto by_name = [&](passwd* to, char* bytes, std::size_t size, passwd** found) {
    return getpwnam_r(user.c_str(), to, bytes, size, found);
  };
  return look_up(entry, buffer, by_name) ? std::optional(entry.pw_gid) : std::nullopt;
}

std::optional<User> user_with(uid_t uid) {
  passwd entry{};
  std::vector<char> buffer;
  const auto by_id = [&](passwd* to, char* bytes, std::size_t size, passwd** found) {
    return getpwuid_r(uid, to, bytes, size, found);
  };
  if (!look_up(entry, buffer, by_id)) return std::nullopt;
  return User{entry.pw_name, entry.pw_gid, entry.pw_dir == nullptr ? std::string() : entry.pw_dir};
}

std::string user_name(uid_t uid) {
  const auto user = user_with(uid);
  return user ? user->name : std::to_string(uid);
}

std::string group_name(gid_t gid) {
  const auto group = group_with(gid);
  return group ? group->name : std::to_string(gid);
}

std::vector<gid_t> groups_of(uid_t uid) {
  const auto user = user_with(uid);
  if (!user) return {};
  std::vector<gid_t> groups(32);
  int count = static_cast<int>(groups.size());
  if (getgrouplist(user->name.c_str(), user->group, groups.data(), &count) < 0) {
    groups.resize(static_cast<std::size_t>(count));
    if (getgrouplist(user->name.c_str(), user->group, groups.data(), &count) < 0) return {user->group};
  }
  groups.resize(static_cast<std::size_t>(count));
  return groups;
}

}  // namespace run_recorder
