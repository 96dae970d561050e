// Users and groups by name or number, as the configuration names them. The static tool knows those of /etc/passwd and
// /etc/group alone. May block (NSS); thread-safe.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace run_recorder {

struct User {
  std::string name;
  gid_t group = 0;   // the first one
  std::string home;  // as its entry has it
};
// Empty where the host has no name for it.
std::optional<User> user_with(uid_t uid);
// A name of the host's database, or a number. Empty where there is no such name.
std::optional<uid_t> find_user(const std::string& name_or_number);
std::optional<gid_t> find_group(const std::string& name_or_number);
struct Group {
  std::string name;
  std::vector<std::string> members;  // as the group's entry lists them: not those whose first group it is
};
std::optional<Group> group_with(gid_t gid);
// The group that a user has first; empty where there is no such user.
std::optional<gid_t> first_group_of(const std::string& user);
// "alice", or the number where it has no name.
std::string user_name(uid_t uid);
std::string group_name(gid_t gid);
// All groups of a user, by the host's database; empty where it has no such user.
std::vector<gid_t> groups_of(uid_t uid);

}  // namespace run_recorder
