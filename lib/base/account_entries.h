// Where account.h looks users and groups up. Programs ask NSS, which may load shared libraries; the static tool
// cannot, and reads the two files, as NSS does where nothing else is configured. May block; thread-safe.
#pragma once

#include <grp.h>
#include <pwd.h>

#include <optional>
#include <string>
#include <vector>

namespace run_recorder {

struct UserEntry {
  explicit UserEntry(const passwd& entry);

  std::string name, home;
  uid_t uid;
  gid_t gid;
};

struct GroupEntry {
  explicit GroupEntry(const group& entry);

  std::string name;
  gid_t gid;
  std::vector<std::string> members;
};

class AccountsByNss {
 public:
  std::optional<UserEntry> user_named(const std::string& name) const;
  std::optional<UserEntry> user_with(uid_t uid) const;
  std::optional<GroupEntry> group_named(const std::string& name) const;
  std::optional<GroupEntry> group_with(gid_t gid) const;
  std::vector<gid_t> groups_of(const UserEntry& user) const;  // its first group, too
};

// A file that is not there has no entries.
class AccountsInFiles {
 public:
  explicit AccountsInFiles(std::string users = "/etc/passwd", std::string groups = "/etc/group");

  std::optional<UserEntry> user_named(const std::string& name) const;
  std::optional<UserEntry> user_with(uid_t uid) const;
  std::optional<GroupEntry> group_named(const std::string& name) const;
  std::optional<GroupEntry> group_with(gid_t gid) const;
  std::vector<gid_t> groups_of(const UserEntry& user) const;  // its first group, too

 private:
  std::string users_, groups_;
};

}  // namespace run_recorder
