#include "owner.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/account.h"
#include "base/file.h"
#include "base/url.h"

namespace run_recorder {
namespace {

// Of a user without a name of the host: the group of its number, and no home.
User user_to_become(uid_t user) {
  return user_with(user).value_or(User{.name = {}, .group = static_cast<gid_t>(user), .home = "/"});
}

// The driver of PostgreSQL looks into the home folder, and must not be refused in root's.
void set_environment(const User& entry) {
  ::setenv("HOME", entry.home.c_str(), 1);
  for (const char* name : {"USER", "LOGNAME"}) {
    if (entry.name.empty()) {
      ::unsetenv(name);
    } else {
      ::setenv(name, entry.name.c_str(), 1);
    }
  }
}

bool become(uid_t user, const User& entry) {
  const bool groups =
      entry.name.empty() ? ::setgroups(1, &entry.group) == 0 : ::initgroups(entry.name.c_str(), entry.group) == 0;
  // The kernel forgets with which signal this process is to end after its parent: `admin` asks for that.
  int with_parent = 0;
  ::prctl(PR_GET_PDEATHSIG, &with_parent);
  const bool became = groups && ::setgid(entry.group) == 0 && ::setuid(user) == 0 && ::geteuid() == user;
  ::prctl(PR_SET_PDEATHSIG, with_parent);
  return became;
}

// Under /run the user itself could not make it.
void make_folder_for(const std::string& socket, uid_t user, gid_t group) {
  constexpr mode_t kMode = 0755;
  const auto folder = std::filesystem::absolute(socket).parent_path();
  struct stat status {};
  if (::stat(folder.c_str(), &status) == 0) return;
  const auto made = make_directories(folder, kMode);
  if (!made) throw StartError(kExitNotThere, "cannot create the socket's folder: " + made.error().message);
  // By its descriptor: what the name names may be changed by whoever owns the folder around it.
  const auto opened = open_file(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!opened) throw StartError(kExitNotThere, opened.error().message);
  if (::fchmod(opened->get(), kMode) != 0 || ::fchown(opened->get(), user, group) != 0) {
    throw StartError(kExitNotThere, system_error_of("chown " + folder.string()).message);
  }
}

std::string command_as(const std::string& user, const std::vector<std::string>& arguments) {
  std::string command = fmt::format("runuser -u {} -- run-recorderd", user);
  for (const std::string& argument : arguments) command += " " + hide_passwords(argument);
  return command;
}

}  // namespace

std::optional<uid_t> whom_to_act_as(const Config& config) {
  if (::geteuid() != 0) return std::nullopt;
  const auto owner = owner_of_spool(config.spool.path);
  return owner && *owner != 0 ? owner : std::nullopt;
}

std::string act_as(uid_t user, const Config& config, bool serves, const std::vector<std::string>& arguments) {
  const User entry = user_to_become(user);
  if (serves) {
    for (const std::string& socket : {config.socket.path, config.control.path}) {
      make_folder_for(socket, user, entry.group);
    }
  }
  const std::string name = user_name(user);
  if (!become(user, entry)) {
    throw StartError(kExitNotThere,
                     fmt::format("the spool {} is {}'s, and this process may not become that user ({}): "
                                 "files of root would lie among its own; use {}",
                                 config.spool.path, name, errno_words(errno), command_as(name, arguments)));
  }
  set_environment(entry);
  return fmt::format("acting as {}, whom the spool {} belongs to", name, config.spool.path);
}

void require_usable_files(const Config& config) {
  std::string problems;
  for (const WrongFile& file : wrong_files(config, ::geteuid())) {
    if (!file.keeps_from_starting) continue;
    problems += (problems.empty() ? "" : "; ") + file.found + "; " + file.advice;
  }
  if (!problems.empty()) throw StartError(kExitNotThere, problems);
}

}  // namespace run_recorder
