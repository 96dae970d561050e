#include "base/account.h"

#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>

#include "base/account_entries.h"
#include "base/number.h"

namespace run_recorder {
namespace {

#ifdef RR_STATIC_TOOL
using Accounts = AccountsInFiles;
#else
using Accounts = AccountsByNss;
#endif

std::optional<std::uint32_t> parse_id(std::string_view text) {
  const auto number = parse_number<std::uint32_t>(text);
  // The highest number means "no id" to chown(2).
  return number == std::numeric_limits<std::uint32_t>::max() ? std::nullopt : number;
}

}  // namespace

UserEntry::UserEntry(const passwd& entry)
    : name(entry.pw_name), home(entry.pw_dir == nullptr ? "" : entry.pw_dir), uid(entry.pw_uid), gid(entry.pw_gid) {}

GroupEntry::GroupEntry(const group& entry) : name(entry.gr_name), gid(entry.gr_gid) {
  for (char** member = entry.gr_mem; *member != nullptr; ++member) members.emplace_back(*member);
}

std::optional<uid_t> find_user(const std::string& name_or_number) {
  const auto user = Accounts().user_named(name_or_number);
  return user ? user->uid : parse_id(name_or_number);
}

std::optional<gid_t> find_group(const std::string& name_or_number) {
  const auto group = Accounts().group_named(name_or_number);
  return group ? group->gid : parse_id(name_or_number);
}

std::optional<Group> group_with(gid_t gid) {
  auto group = Accounts().group_with(gid);
  if (!group) return std::nullopt;
  return Group{std::move(group->name), std::move(group->members)};
}

std::optional<gid_t> first_group_of(const std::string& user) {
  const auto entry = Accounts().user_named(user);
  return entry ? std::optional(entry->gid) : std::nullopt;
}

std::optional<User> user_with(uid_t uid) {
  auto user = Accounts().user_with(uid);
  if (!user) return std::nullopt;
  return User{std::move(user->name), user->gid, std::move(user->home)};
}

std::string user_name(uid_t uid) {
  const auto user = Accounts().user_with(uid);
  return user ? user->name : std::to_string(uid);
}

std::string group_name(gid_t gid) {
  const auto group = group_with(gid);
  return group ? group->name : std::to_string(gid);
}

std::vector<gid_t> groups_of(uid_t uid) {
  const auto user = Accounts().user_with(uid);
  return user ? Accounts().groups_of(*user) : std::vector<gid_t>();
}

}  // namespace run_recorder
