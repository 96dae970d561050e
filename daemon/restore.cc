// --restore: puts a copy of the SQLite database in the place of the one that is there. The copy comes on standard
// input, so that whoever may read it can hand it to the daemon's user; it is checked whole before anything changes,
// and the database before is kept beside it.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <vector>

#include "actions.h"
#include "base/file.h"
#include "base/time.h"
#include "base/url.h"
#include "database/sqlite.h"
#include "parts.h"
#include "store/store.h"

namespace run_recorder {
namespace {

constexpr std::size_t kCopyBlock = std::size_t{1024} * 1024;
constexpr std::chrono::hours kTimeToCheck{24};
constexpr mode_t kNewMode = 0640;
constexpr const char* kFilesBeside[] = {"-wal", "-shm"};

[[noreturn]] void refuse_restore(const std::string& why) {
  throw StartError(kExitOther, "restore: " + why + "; nothing was changed");
}

// Gone when this object is, unless it was put in its place.
class RestoredCopy {
 public:
  explicit RestoredCopy(std::string path) : path_(std::move(path)) { remove(); }
  ~RestoredCopy() { remove(); }
  RestoredCopy(const RestoredCopy&) = delete;
  RestoredCopy& operator=(const RestoredCopy&) = delete;

  const std::string& path() const { return path_; }

  // Returns how many bytes came.
  std::uint64_t read_from(int input, mode_t mode) const {
    auto file = open_file(path_, O_WRONLY | O_CREAT | O_EXCL, mode);
    if (!file) refuse_restore(file.error().message);
    std::vector<char> block(kCopyBlock);
    std::uint64_t bytes = 0;
    while (true) {
      const ssize_t got = ::read(input, block.data(), block.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) refuse_restore("standard input: " + errno_words(errno));
      if (got == 0) break;
      const auto written = write_all(file->get(), {block.data(), static_cast<std::size_t>(got)});
      if (!written) refuse_restore(path_ + ": " + written.error().message);
      bytes += static_cast<std::uint64_t>(got);
    }
    if (::fchmod(file->get(), mode) != 0 || ::fsync(file->get()) != 0) {
      refuse_restore(system_error_of("sync " + path_).message);
    }
    return bytes;
  }

 private:
  void remove() const {
    ::unlink(path_.c_str());
    for (const char* beside : kFilesBeside) ::unlink((path_ + beside).c_str());
  }
  const std::string path_;
};

// Every page of it, by SQLite itself; and that it is one of ours.
void check_copy(const std::string& path, const std::string& prefix) {
  SqliteOptions options;
  options.path = path;
  options.read_only = true;
  options.deadline = kTimeToCheck;
  auto connection = SqliteConnection::open(options);
  if (!connection) refuse_restore("the copy is no usable database: " + connection.error().message);
  (*connection)->begin_call();
  auto check = (*connection)->prepare("PRAGMA integrity_check(1)");
  if (!check) refuse_restore("the copy is no usable database: " + check.error().message);
  auto answers = check->rows();
  const auto answered = answers.next();
  if (!answered) refuse_restore("the copy is damaged: " + answered.error().message);
  if (*answered && answers.text(0) != "ok") refuse_restore("the copy is damaged: " + std::string(answers.text(0)));
  for (const char* table : {"runs", "run_events", "positions"}) {
    const std::string name = prefix + table;
    auto look = (*connection)->prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?");
    if (!look) refuse_restore("the copy is no usable database: " + look.error().message);
    auto rows = look->rows(name);
    const auto found = rows.next();
    if (!found) refuse_restore("the copy is damaged: " + found.error().message);
    if (!*found) refuse_restore(fmt::format("the copy has no table {}: it is not of this recorder", name));
  }
}

// What lies at the path before, under another name; with what only its -wal holds.
std::string keep_aside(const std::string& path) {
  std::string time = format_rfc3339(now_utc()).substr(0, std::string_view("2026-11-29T13:15:00").size());
  std::erase(time, '-');
  std::erase(time, ':');
  const std::string wanted = fmt::format("{}.before-{}Z", path, time);
  std::string aside = wanted;
  // A second name first: the path always names a database.
  for (int number = 2; ::link(path.c_str(), aside.c_str()) != 0; ++number) {
    if (errno != EEXIST) refuse_restore(system_error_of("link " + aside).message);
    aside = fmt::format("{}-{}", wanted, number);  // another one was restored in the same second
  }
  for (const char* beside : kFilesBeside) {
    if (::rename((path + beside).c_str(), (aside + beside).c_str()) != 0 && errno != ENOENT) {
      const Error error = system_error_of(fmt::format("rename {}{}", path, beside));
      throw StartError(kExitOther,
                       fmt::format("{}; the database is whole, partly under the name {}", error.message, aside));
    }
  }
  return aside;
}

}  // namespace

int restore_database(const Config& config) {
  if (database_kind(config.database.url) != DatabaseKind::kSqlite) {
    refuse_restore(
        "the database is PostgreSQL: restore it with its own means (pg_restore) while the daemon is stopped or "
        "running; what is missing there the daemon applies again from its spool");
  }
  if (::isatty(STDIN_FILENO) != 0) refuse_restore("the copy comes on standard input: run-recorderd --restore < FILE");
  std::error_code ignored;
  // A link to it stays.
  const std::string path = std::filesystem::weakly_canonical(sqlite_path(config.database.url), ignored).string();
  if (path.empty()) refuse_restore(sqlite_path(config.database.url) + ": " + ignored.message());
  struct stat before {};
  const bool there = ::stat(path.c_str(), &before) == 0;
  const RestoredCopy copy(path + ".restoring");
  const std::uint64_t bytes = copy.read_from(STDIN_FILENO, there ? before.st_mode & 0777U : kNewMode);
  check_copy(copy.path(), config.database.table_prefix);
  StoreOptions options = store_options_of(config);
  options.url = "sqlite:" + copy.path();
  const auto fits = migrate(options, true);
  if (!fits && fits.error().kind == ErrorKind::kRefused) refuse_restore("the copy: " + fits.error().message);
  const auto lock = claim_database(config);  // no daemon writes into what is put aside
  const std::string aside = there ? keep_aside(path) : "";
  if (::rename(copy.path().c_str(), path.c_str()) != 0) {
    throw StartError(kExitOther, system_error_of("rename " + copy.path()).message);
  }
  if (const auto synced = sync_name_of(path); !synced) throw StartError(kExitOther, synced.error().message);
  fmt::print("restored {}, {} bytes\n", path, bytes);
  if (!aside.empty()) fmt::print("the database before is kept as {}\n", aside);
  return kExitDone;
}

}  // namespace run_recorder
