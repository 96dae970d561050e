// Whose the files of a spool and of a SQLite database are, and whether the daemon's user can work with them.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/account.h"
#include "base/file.h"
#include "base/url.h"
#include "config/config.h"

namespace run_recorder {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kNamedOneByOne = 3;

std::optional<struct stat> status_of_file(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return status;
}

// Whether the daemon's user may read and write it. Of itself a process asks the kernel, which knows of capabilities
// and access lists too; of another user owner and mode tell.
bool can_work_with(const fs::path& path, const struct stat& status, uid_t daemon) {
  const bool folder = S_ISDIR(status.st_mode);
  if (daemon == ::geteuid()) {
    const int wanted = folder ? R_OK | W_OK | X_OK : R_OK | W_OK;
    return ::faccessat(AT_FDCWD, path.c_str(), wanted, AT_EACCESS) == 0 || errno != EACCES;
  }
  if (daemon == 0) return true;
  const mode_t wanted = folder ? 7 : 6;
  const auto allows = [&](unsigned shift) { return ((status.st_mode >> shift) & wanted) == wanted; };
  if (status.st_uid == daemon) return allows(6);
  const std::vector<gid_t> groups = groups_of(daemon);
  return allows(std::ranges::count(groups, status.st_gid) > 0 ? 3 : 0);
}

// For a shell.
std::string quoted(const fs::path& path) {
  const std::string& text = path.native();
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%,";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

struct Wrong {
  fs::path path;
  struct stat status;
  bool unusable;
};

// Of these files the ones that are not as the daemon's user needs them. own: each has to be the daemon's.
std::vector<Wrong> wrong_among(const std::vector<fs::path>& paths, uid_t daemon, bool own) {
  std::vector<Wrong> wrong;
  for (const fs::path& path : paths) {
    const auto status = status_of_file(path);
    if (!status) continue;  // gone meanwhile, or out of sight: that is said elsewhere
    const bool unusable = !can_work_with(path, *status, daemon);
    if (unusable || (own && status->st_uid != daemon)) wrong.push_back({path, *status, unusable});
  }
  return wrong;
}

std::string found_words(const Wrong& wrong, uid_t daemon) {
  return fmt::format("{} belongs to {} and has mode {:04o}{}", wrong.path.string(), user_name(wrong.status.st_uid),
                     wrong.status.st_mode & 07777U,
                     wrong.unusable ? fmt::format(": {} cannot work with it", user_name(daemon)) : "");
}

// The command for several files at once; whole: the folder that holds all of them, empty where there is none.
WrongFile finding_of(const std::vector<Wrong>& all, uid_t daemon, const fs::path& whole) {
  std::string found = found_words(all.front(), daemon);
  if (all.size() > 1) found += fmt::format(", and {} more", all.size() - 1);
  const bool owner = std::ranges::any_of(all, [&](const Wrong& one) { return one.status.st_uid != daemon; });
  const bool in_whole = !whole.empty() && all.size() > kNamedOneByOne;
  std::string targets;
  for (const Wrong& one : all) targets += " " + quoted(one.path);
  if (in_whole) targets = " " + quoted(whole);
  const bool unusable = std::ranges::any_of(all, [](const Wrong& one) { return one.unusable; });
  const std::string command = owner ? fmt::format("chown {}{}:", in_whole ? "-R " : "", user_name(daemon)) + targets
                                    : fmt::format("chmod {}u+rwX", in_whole ? "-R " : "") + targets;
  // A folder around them may be for others too.
  const bool around = whole.empty() && S_ISDIR(all.front().status.st_mode);
  return {found, (around ? "as root, if it is for the daemon alone: " : "as root: ") + command, unusable};
}

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files = {folder};
  std::error_code problem;
  for (fs::recursive_directory_iterator at(folder, fs::directory_options::skip_permission_denied, problem), end;
       !problem && at != end; at.increment(problem)) {
    if (at->path().filename() != "lost+found") files.push_back(at->path());
  }
  std::sort(files.begin() + 1, files.end());
  return files;
}

}  // namespace

std::optional<uid_t> owner_of_spool(const fs::path& folder) {
  auto status = status_of_file(folder);
  if (!status && (errno == ENOENT || errno == ENOTDIR)) status = status_of_file(fs::absolute(folder).parent_path());
  return status ? std::optional(status->st_uid) : std::nullopt;
}

std::vector<WrongFile> wrong_files(const Config& config, uid_t daemon) {
  std::vector<WrongFile> findings;
  // Who is at somebody else's spool is the wrong user, and is not to be given the files. Root's is an accident.
  const auto owner = owner_of_spool(config.spool.path);
  const bool elsewhere = owner && *owner != daemon && *owner != 0 && daemon == ::geteuid();
  const auto add = [&](const std::vector<fs::path>& paths, bool own, const fs::path& whole) {
    const std::vector<Wrong> wrong = wrong_among(paths, daemon, own);
    if (wrong.empty()) return;
    findings.push_back(finding_of(wrong, daemon, whole));
    if (elsewhere) findings.back().advice = fmt::format("run this as {}, or as root", user_name(*owner));
  };
  const fs::path spool = config.spool.path;
  if (status_of_file(spool)) add(files_below(spool), true, spool);
  std::vector<fs::path> folders;
  if (!status_of_file(spool)) folders.push_back(fs::absolute(spool).parent_path());
  if (database_kind(config.database.url) == DatabaseKind::kSqlite) {
    const std::string path = sqlite_path(config.database.url);
    add({path, path + "-wal", path + "-shm"}, false, {});
    // SQLite makes files beside it.
    folders.push_back(fs::absolute(path).parent_path());
  }
  std::sort(folders.begin(), folders.end());
  folders.erase(std::unique(folders.begin(), folders.end()), folders.end());
  add(folders, false, {});
  return findings;
}

}  // namespace run_recorder
