// Files with a password that others than the daemon may read.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

#include "base/account.h"
#include "config/config.h"

namespace run_recorder {
namespace {

constexpr mode_t kForOthers = S_IROTH | S_IWOTH;
constexpr mode_t kForGroup = S_IRGRP | S_IWGRP;
constexpr std::string_view kDaemonUser = "run-recorder";  // of the package

// Who but the owner a group lets in, in words; empty where that is nobody: it is root's, or a user's own one (of the
// same name) without other members.
std::string others_in(gid_t gid) {
  if (gid == 0) return {};
  std::optional<Group> group = group_with(gid);
  if (!group) return fmt::format("the members of the group {}", gid);
  const bool of_one_user = first_group_of(group->name) == gid;
  if (!of_one_user) return fmt::format("the members of the group {}", group->name);
  std::erase(group->members, group->name);
  std::erase(group->members, "root");
  if (group->members.empty()) return {};
  return fmt::format("members of the group {} ({})", group->name, fmt::join(group->members, ", "));
}

// Empty where it is not exposed, or is not there: that is said elsewhere.
std::optional<ExposedFile> look_at(const std::string& path, std::string_view what) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  std::string who;
  if ((status.st_mode & kForGroup) != 0) who = others_in(status.st_gid);
  if ((status.st_mode & kForOthers) != 0) who = "any user of this host";
  if (who.empty()) return std::nullopt;
  // The package's daemon is not root, and would not be able to read it any more.
  const bool to_be_given = status.st_uid == 0 && find_user(std::string(kDaemonUser));
  return ExposedFile{
      fmt::format("{} holds {} and has mode {:04o}: {} may read it", path, what, status.st_mode & 07777U, who),
      to_be_given ? fmt::format("chown {0} {1} && chmod 0600 {1}", kDaemonUser, path)
                  : fmt::format("chmod 0600 {}", path)};
}

}  // namespace

std::vector<ExposedFile> exposed_files(const Config& config) {
  std::vector<ExposedFile> exposed;
  const auto add = [&exposed](std::optional<ExposedFile> file) {
    if (file) exposed.push_back(std::move(*file));
  };
  if (config.file_holds_password) add(look_at(config.file, "a password in a URL"));
  if (!config.database.password_file.empty()) add(look_at(config.database.password_file, "the database's password"));
  return exposed;
}

}  // namespace run_recorder
