#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <utility>

#include "base/account_entries.h"

namespace run_recorder {
namespace {

constexpr std::size_t kFirstLine = 1024;
constexpr std::size_t kLongestLine = 1 << 20;

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, FileCloser>;

// Calls visit(entry) for each entry until it returns true. next is fgetpwent_r(3) or its like: where a line is longer
// than the buffer it stays before that line. A longer line than the longest ends it.
template <class Entry, class Next, class Visit>
void visit_entries(const std::string& path, const Next& next, const Visit& visit) {
  const File file(std::fopen(path.c_str(), "re"));
  if (!file) return;
  std::vector<char> buffer(kFirstLine);
  while (true) {
    Entry entry{};
    Entry* found = nullptr;
    const int error_number = next(file.get(), &entry, buffer.data(), buffer.size(), &found);
    if (error_number == ERANGE && buffer.size() < kLongestLine) {
      buffer.resize(buffer.size() * 2);
    } else if (error_number != 0 || found == nullptr || visit(entry)) {
      return;
    }
  }
}

template <class Matches>
std::optional<UserEntry> first_user(const std::string& path, const Matches& matches) {
  std::optional<UserEntry> first;
  visit_entries<passwd>(path, fgetpwent_r, [&](const passwd& entry) {
    if (matches(entry)) first = UserEntry(entry);
    return first.has_value();
  });
  return first;
}

template <class Matches>
std::optional<GroupEntry> first_group(const std::string& path, const Matches& matches) {
  std::optional<GroupEntry> first;
  visit_entries<group>(path, fgetgrent_r, [&](const group& entry) {
    if (matches(entry)) first = GroupEntry(entry);
    return first.has_value();
  });
  return first;
}

}  // namespace

AccountsInFiles::AccountsInFiles(std::string users, std::string groups)
    : users_(std::move(users)), groups_(std::move(groups)) {}

std::optional<UserEntry> AccountsInFiles::user_named(const std::string& name) const {
  return first_user(users_, [&](const passwd& entry) { return entry.pw_name == name; });
}

std::optional<UserEntry> AccountsInFiles::user_with(uid_t uid) const {
  return first_user(users_, [&](const passwd& entry) { return entry.pw_uid == uid; });
}

std::optional<GroupEntry> AccountsInFiles::group_named(const std::string& name) const {
  return first_group(groups_, [&](const group& entry) { return entry.gr_name == name; });
}

std::optional<GroupEntry> AccountsInFiles::group_with(gid_t gid) const {
  return first_group(groups_, [&](const group& entry) { return entry.gr_gid == gid; });
}

std::vector<gid_t> AccountsInFiles::groups_of(const UserEntry& user) const {
  std::vector<gid_t> groups{user.gid};
  visit_entries<group>(groups_, fgetgrent_r, [&](const group& entry) {
    const GroupEntry one(entry);
    if (one.gid != user.gid && std::ranges::count(one.members, user.name) > 0) groups.push_back(one.gid);
    return false;
  });
  return groups;
}

}  // namespace run_recorder
