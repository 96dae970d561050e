#include "database/sqlite.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <thread>
#include <utility>
#include <vector>

#include "base/json_search.h"
#include "base/mutex.h"
#include "base/uuid.h"
#include "database/process_deadline.h"

namespace run_recorder {

namespace {

// A long statement looks at the clock this often, in SQLite's own instructions: every few hundred microseconds.
constexpr int kProgressInstructions = 20'000;
// Of a new file. Batches change many neighbours: twice SQLite's own size costs a tenth less time, and a single
// event's commit, which writes some ten pages, still far less than its sync.
constexpr int kPageBytes = 8'192;
// Pages the WAL may hold before they are copied into the database: larger means that a page that many batches change
// is copied and synced once, smaller means a smaller file.
constexpr int kWalPages = 8'000;
constexpr int kWalFileBytes = 64 << 20;
// Every connection has a cache of its own, and the daemon has several.
constexpr int kCacheKiB = 1'024;
constexpr int kLargeCacheKiB = 4'096;
// The daemon's own tables hold what jobs were given and returned: the owner writes, the group may read.
constexpr mode_t kFileMode = 0640;

constexpr std::string_view kGeneralError = "HY000";  // the SQLSTATE for it

bool is_permission(int error_number) {
  return error_number == EACCES || error_number == EPERM;
}

Error file_error(ErrorKind kind, const std::string& path, std::string_view what) {
  return Error{kind, fmt::format("SQLite file {}: {}", path, what)};
}

Error file_errno(const std::string& path, int error_number) {
  return file_error(is_permission(error_number) ? ErrorKind::kRefused : ErrorKind::kUnavailable, path,
                    errno_words(error_number));
}

// Makes the file, empty, where there is none. An existing one is not even opened: closing a descriptor of it would
// drop the locks that other connections of this process hold.
Result<void> create_file(const std::string& path) {
  if (const auto folder = check_sqlite_folder(path); !folder) return folder;
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, kFileMode);
  if (fd >= 0) {
    ::close(fd);
    return {};
  }
  if (errno == EEXIST) return {};
  return file_errno(path, errno);
}

// What can be said without SQLite: its own message for all of this is "unable to open database file".
Result<void> check_is_file(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) {
      return file_error(ErrorKind::kRefused, path, "no such file");
    }
    return file_errno(path, errno);
  }
  if (!S_ISREG(status.st_mode)) return file_error(ErrorKind::kRefused, path, "not a regular file");
  return {};
}

// run_recorder_time(text): the time in our own form, NULL where it is none.
void normal_time(sqlite3_context* context, int, sqlite3_value** arguments) {
  const auto* text = reinterpret_cast<const char*>(sqlite3_value_text(arguments[0]));
  if (!text) return;
  const std::string_view given(text, static_cast<std::size_t>(sqlite3_value_bytes(arguments[0])));
  constexpr std::size_t kNormalSize = 27;
  if (given.size() == kNormalSize && given[10] == 'T' && given.back() == 'Z') {
    sqlite3_result_value(context, arguments[0]);
  } else if (const auto time = parse_sqlite_time(given)) {
    const std::string normal = format_rfc3339(*time);
    sqlite3_result_text(context, normal.data(), static_cast<int>(normal.size()), SQLITE_TRANSIENT);
  }
}

// run_recorder_strings_hold(json, text): 1 where a string of the JSON holds the text, as json_search.h has it.
void strings_hold(sqlite3_context* context, int, sqlite3_value** arguments) {
  const auto text_of = [](sqlite3_value* value) {
    const auto* text = reinterpret_cast<const char*>(sqlite3_value_text(value));
    return text ? std::string_view(text, static_cast<std::size_t>(sqlite3_value_bytes(value))) : std::string_view();
  };
  sqlite3_result_int(context, json_strings_hold(text_of(arguments[0]), text_of(arguments[1])) ? 1 : 0);
}

// run_recorder_uuid(): a new one as text; run_recorder_uuid_bytes(): a new one as its 16 bytes.
void new_uuid(sqlite3_context* context, int, sqlite3_value**) {
  const std::string uuid = random_uuid();
  sqlite3_result_text(context, uuid.data(), static_cast<int>(uuid.size()), SQLITE_TRANSIENT);
}
void new_uuid_bytes(sqlite3_context* context, int, sqlite3_value**) {
  std::string digits = random_uuid();
  std::erase(digits, '-');
  std::array<unsigned char, 16> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::from_chars(digits.data() + 2 * i, digits.data() + 2 * i + 2, bytes[i], 16);
  }
  sqlite3_result_blob(context, bytes.data(), static_cast<int>(bytes.size()), SQLITE_TRANSIENT);
}

}  // namespace

ErrorKind kind_of_sqlite_code(int code) {
  switch (code & 0xff) {
    case SQLITE_CONSTRAINT:
    case SQLITE_TOOBIG:
    case SQLITE_MISMATCH:
      return ErrorKind::kData;
    default:
      return ErrorKind::kUnavailable;
  }
}

Result<void> check_sqlite_folder(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  std::error_code problem;
  if (folder.empty() || std::filesystem::exists(folder, problem) || problem) return {};
  return file_error(
      ErrorKind::kUnavailable, path,
      fmt::format("there is no folder {0}: correct the path, mount it, or make it (mkdir -p -m 0700 {0}, "
                  "as the daemon's user)",
                  folder));
}

std::optional<Timestamp> parse_sqlite_time(std::string_view text) {
  if (auto time = parse_rfc3339(text)) return time;
  return parse_rfc3339(std::string(text) + "Z");
}

// ---- statements

void SqliteStatement::bind(int index, std::nullopt_t) {
  const int code = sqlite3_bind_null(handle_.get(), index);
  if (code != SQLITE_OK) bind_error_ = code;
}

void SqliteStatement::bind(int index, std::string_view text) {
  // A null pointer would bind NULL.
  const char* bytes = text.data() ? text.data() : "";
  const int code = sqlite3_bind_text64(handle_.get(), index, bytes, text.size(), SQLITE_STATIC, SQLITE_UTF8);
  if (code != SQLITE_OK) bind_error_ = code;
}

void SqliteStatement::bind(int index, SqliteBlob blob) {
  const char* bytes = blob.bytes.data() ? blob.bytes.data() : "";
  const int code = sqlite3_bind_blob64(handle_.get(), index, bytes, blob.bytes.size(), SQLITE_STATIC);
  if (code != SQLITE_OK) bind_error_ = code;
}

void SqliteStatement::bind(int index, std::int64_t number) {
  const int code = sqlite3_bind_int64(handle_.get(), index, number);
  if (code != SQLITE_OK) bind_error_ = code;
}

void SqliteStatement::bind(int index, Timestamp time) {
  const std::string text = format_rfc3339(time);
  const int code = sqlite3_bind_text64(handle_.get(), index, text.data(), text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
  if (code != SQLITE_OK) bind_error_ = code;
}

Result<bool> SqliteStatement::step() {
  if (bind_error_ != SQLITE_OK) {
    return Error{kind_of_sqlite_code(bind_error_), fmt::format("SQLite: {}", sqlite3_errstr(bind_error_))};
  }
  const int code = sqlite3_step(handle_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return connection_->error("SQLite");
}

Result<std::int64_t> SqliteStatement::finish() {
  const auto stepped = step();
  Result<std::int64_t> changed = std::int64_t{0};
  if (!stepped) {
    changed = stepped.error();
  } else if (*stepped) {
    changed = Error{ErrorKind::kInternal, "SQLite: a statement that should only write returned a row"};
  } else {
    changed = std::int64_t{sqlite3_changes(connection_->handle_.get())};  // changes64 is younger than 3.35
  }
  reset();
  return changed;
}

void SqliteStatement::reset() {
  sqlite3_reset(handle_.get());
}

bool SqliteRows::is_null(int column) const {
  return sqlite3_column_type(statement_.handle_.get(), column) == SQLITE_NULL;
}

std::string_view SqliteRows::text(int column) const {
  // The text before its length: asking for the text may convert it.
  const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_.handle_.get(), column));
  if (!bytes) return {};
  return {bytes, static_cast<std::size_t>(sqlite3_column_bytes(statement_.handle_.get(), column))};
}

std::int64_t SqliteRows::integer(int column) const {
  return sqlite3_column_int64(statement_.handle_.get(), column);
}

std::optional<std::string> SqliteRows::optional_text(int column) const {
  if (is_null(column)) return std::nullopt;
  return std::string(text(column));
}

std::optional<std::int64_t> SqliteRows::optional_integer(int column) const {
  if (is_null(column)) return std::nullopt;
  return integer(column);
}

std::optional<Timestamp> SqliteRows::time(int column) const {
  if (is_null(column)) return std::nullopt;
  return parse_sqlite_time(text(column));
}

// ---- connections

Result<std::unique_ptr<SqliteConnection>> SqliteConnection::open(const SqliteOptions& options) {
  if (options.path.empty()) return Error{ErrorKind::kRefused, "sqlite: a path must follow"};
  if (options.create) {
    if (auto created = create_file(options.path); !created) return created.error();
  }
  if (auto checked = check_is_file(options.path); !checked) return checked.error();
  std::unique_ptr<SqliteConnection> connection(new SqliteConnection(options));
  connection->begin_call();
  if (auto ready = connection->set_up(options); !ready) return ready.error();
  return connection;
}

SqliteConnection::~SqliteConnection() {
  // The last one to close would copy by an index that may be another -wal's.
  if (handle_ && lost_wal()) rescue_wal();
}

Result<std::unique_ptr<SqliteConnection>> SqliteConnection::open_in_memory() {
  std::unique_ptr<SqliteConnection> connection(new SqliteConnection(SqliteOptions{.path = ":memory:"}));
  connection->begin_call();
  if (auto opened = connection->open_handle(":memory:", SQLITE_OPEN_READWRITE); !opened) return opened.error();
  return connection;
}

Result<void> SqliteConnection::open_handle(const std::string& name, int flags) {
  sqlite3* handle = nullptr;
  // What SQLite would count of its memory costs it a lock for each piece; nobody asks for it.
  static const int uncounted = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
  static_cast<void>(uncounted);
  // The name is a path, never a URI; one thread at a time uses a connection.
  const int code = sqlite3_open_v2(name.c_str(), &handle, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  handle_.reset(handle);
  if (!handle) return file_error(ErrorKind::kUnavailable, path_, "out of memory");
  if (code != SQLITE_OK) {
    const int error_number = sqlite3_system_errno(handle);
    if (error_number != 0) return file_errno(path_, error_number);
    return error(fmt::format("SQLite file {}", path_));
  }
  sqlite3_busy_handler(handle, on_busy, this);
  sqlite3_progress_handler(handle, kProgressInstructions, on_progress, this);
  sqlite3_create_function_v2(handle, "run_recorder_time", 1, SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS,
                             nullptr, normal_time, nullptr, nullptr, nullptr);
  sqlite3_create_function_v2(handle, "run_recorder_strings_hold", 2,
                             SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, nullptr, strings_hold, nullptr,
                             nullptr, nullptr);
  sqlite3_create_function_v2(handle, "run_recorder_uuid", 0, SQLITE_UTF8, nullptr, new_uuid, nullptr, nullptr,
                             nullptr);
  sqlite3_create_function_v2(handle, "run_recorder_uuid_bytes", 0, SQLITE_UTF8, nullptr, new_uuid_bytes, nullptr,
                             nullptr, nullptr);
  return {};
}

Result<void> SqliteConnection::set_up(const SqliteOptions& options) {
  const int access = options.read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
  if (auto opened = open_handle(path_, access); !opened) return opened.error();
  sqlite3* handle = handle_.get();

  if (!options.read_only && sqlite3_db_readonly(handle, "main") == 1) {
    return file_errno(path_, ::faccessat(AT_FDCWD, path_.c_str(), W_OK, AT_EACCESS) == 0 ? EROFS : errno);
  }
  // The first read of the file itself.
  if (auto looked = execute("PRAGMA schema_version"); !looked) {
    const Error failed = looked.error();
    const int extended = sqlite3_extended_errcode(handle);
    if ((extended & 0xff) == SQLITE_NOTADB) {
      return file_error(ErrorKind::kRefused, path_, "not a SQLite database");
    }
    if (is_permission(sqlite3_system_errno(handle))) return file_errno(path_, sqlite3_system_errno(handle));
    return failed;
  }
  if (options.read_only) {
    wal_ = wal_at_path();
    return {};
  }
  if (auto sized = execute(fmt::format("PRAGMA page_size={}", kPageBytes)); !sized) return sized.error();
  if (auto wal = use_wal(); !wal) return wal.error();
  // The last of them reads, which opens the -wal.
  auto set =
      execute(fmt::format("PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint={}; PRAGMA journal_size_limit={}; "
                          "PRAGMA cache_size=-{}; PRAGMA schema_version",
                          kWalPages, kWalFileBytes, kCacheKiB));
  wal_ = wal_at_path();
  return set;
}

// Changing to WAL needs the file for itself for a moment, and SQLite does not wait for that by itself.
Result<void> SqliteConnection::use_wal() {
  for (const char* sql : {"PRAGMA journal_mode", "PRAGMA journal_mode=WAL"}) {
    while (true) {
      auto statement = prepare(sql);
      if (!statement) return statement.error();
      auto rows = statement->rows();
      const auto row = rows.next();
      if (row && *row && rows.text(0) == "wal") return {};
      if (row) break;
      const int code = sqlite3_errcode(handle_.get()) & 0xff;
      const bool busy = code == SQLITE_BUSY || code == SQLITE_LOCKED;
      if (busy && !past_deadline()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        continue;
      }
      if (is_permission(sqlite3_system_errno(handle_.get()))) {
        return file_error(ErrorKind::kRefused, path_, "no permission to write its -wal and -shm files");
      }
      return row.error();
    }
  }
  return file_error(ErrorKind::kUnavailable, path_, "the file system does not support WAL mode");
}

void SqliteConnection::begin_call() {
  ends_at_ = std::chrono::steady_clock::now() + deadline_ms_;
}

bool SqliteConnection::past_deadline() const {
  return std::chrono::steady_clock::now() >= std::min(ends_at_, process_deadline());
}

int SqliteConnection::on_busy(void* connection, int tries) {
  if (static_cast<SqliteConnection*>(connection)->past_deadline()) return 0;
  std::this_thread::sleep_for(std::chrono::milliseconds(std::min(1 + tries, 20)));
  return 1;
}

int SqliteConnection::on_progress(void* connection) {
  return static_cast<SqliteConnection*>(connection)->past_deadline() ? 1 : 0;
}

Result<SqliteStatement> SqliteConnection::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(handle_.get(), sql.data(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) return error("SQLite");
  return SqliteStatement(*this, statement);
}

Result<void> SqliteConnection::execute(const std::string& sql) {
  if (sqlite3_exec(handle_.get(), sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) return error("SQLite");
  return {};
}

void SqliteConnection::use_large_cache() {
  if (large_cache_) return;
  // Without it everything works, only slower.
  large_cache_ = static_cast<bool>(execute(fmt::format("PRAGMA cache_size=-{}", kLargeCacheKiB)));
}

Result<void> SqliteConnection::check_file() {
  assert(sqlite3_get_autocommit(handle_.get()) != 0);
  int moved = 0;
  sqlite3_file_control(handle_.get(), "main", SQLITE_FCNTL_HAS_MOVED, &moved);
  if (moved != 0) return file_error(ErrorKind::kUnavailable, path_, "it was moved, replaced or deleted");
  if (!lost_wal()) return {};
  return file_error(ErrorKind::kUnavailable, path_,
                    rescue_wal() ? "its -wal was deleted or replaced while it was in use; its content has been "
                                   "copied into the file"
                                 : "its -wal was deleted or replaced while it was in use; commits that only it "
                                   "held are lost");
}

std::optional<SqliteConnection::WalFile> SqliteConnection::wal_at_path() const {
  struct stat status {};
  if (::stat((path_ + "-wal").c_str(), &status) != 0) return std::nullopt;
  return WalFile{status.st_dev, status.st_ino};
}

// SQLite itself deletes it only when the last connection closes, and looks for it by name only when one opens.
bool SqliteConnection::lost_wal() const {
  return wal_ && wal_at_path() != wal_;
}

// All connections of a process share one index of the -wal, and each reads and writes the -wal it opened. As long as
// nothing was written to a new one, the index is the old one's: its pages can be copied into the database, and are no
// longer needed. Afterwards, or where that cannot be, this connection must not copy anything by that index any more.
bool SqliteConnection::rescue_wal() {
  struct stat status {};
  const bool nothing_new = ::stat((path_ + "-wal").c_str(), &status) != 0 || status.st_size == 0;
  bool copied = false;
  if (nothing_new && sqlite3_db_readonly(handle_.get(), "main") == 0) {
    int pages = 0;
    int copied_pages = 0;
    const int code = sqlite3_wal_checkpoint_v2(handle_.get(), "main", SQLITE_CHECKPOINT_FULL, &pages, &copied_pages);
    copied = code == SQLITE_OK && pages == copied_pages;
  }
  sqlite3_db_config(handle_.get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  return copied;
}

Error SqliteConnection::error(std::string_view operation) const {
  const int code = sqlite3_extended_errcode(handle_.get());
  if ((code & 0xff) == SQLITE_INTERRUPT) {
    return Error{ErrorKind::kUnavailable,
                 fmt::format("{}: timed out after {}", operation, format_duration(deadline_ms_))};
  }
  // Its general error is all that SQLite has for what a trigger or an index of somebody else's makes of a row.
  const bool general = (code & 0xff) == SQLITE_ERROR;
  return Error{kind_of_sqlite_code(code), fmt::format("{}: {}", operation, sqlite3_errmsg(handle_.get())),
               general ? std::string(kGeneralError) : std::string()};
}

// ---- transactions

Result<SqliteTransaction> SqliteTransaction::begin(SqliteConnection& connection, Mode mode) {
  if (auto begun = connection.execute(mode == Mode::kWrite ? "BEGIN IMMEDIATE" : "BEGIN"); !begun)
    return begun.error();
  return SqliteTransaction(connection);
}

SqliteTransaction::~SqliteTransaction() {
  if (!connection_) return;
  // After some errors SQLite has rolled back by itself.
  sqlite3* handle = connection_->handle_.get();
  if (sqlite3_get_autocommit(handle) == 0) sqlite3_exec(handle, "ROLLBACK", nullptr, nullptr, nullptr);
}

Result<void> SqliteTransaction::commit() {
  assert(connection_);
  auto committed = connection_->execute("COMMIT");
  if (!committed) {
    Error failed = committed.error();
    if ((sqlite3_extended_errcode(connection_->handle_.get()) & 0xff) == SQLITE_IOERR)
      failed.kind = ErrorKind::kInDoubt;
    return failed;
  }
  connection_ = nullptr;
  return {};
}

// ---- the daemon's claim on a file

namespace {

struct FileIdentity {
  dev_t device;
  ino_t inode;
  bool operator==(const FileIdentity&) const = default;
};

// Of the files this process holds: trying one of them again must not open it (see SqliteFileLock).
Mutex held_mutex;
std::vector<FileIdentity>& held_files() REQUIRES(held_mutex) {
  static std::vector<FileIdentity> files;
  return files;
}

FileIdentity identity_of(const struct stat& status) {
  return {status.st_dev, status.st_ino};
}

}  // namespace

Result<SqliteFileLock> SqliteFileLock::acquire(const std::string& path) {
  if (auto created = create_file(path); !created) return created.error();
  if (auto checked = check_is_file(path); !checked) return checked.error();
  const MutexLock guard(held_mutex);
  const auto in_use = [&path] {
    return file_error(ErrorKind::kConflict, path,
                      "it is in use by another run-recorderd; each needs a file of its own");
  };
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return file_errno(path, errno);
  auto& held = held_files();
  if (std::find(held.begin(), held.end(), identity_of(status)) != held.end()) return in_use();
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!file) return file_errno(path, errno);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    return errno == EWOULDBLOCK ? in_use() : file_errno(path, errno);
  }
  if (::fstat(file.get(), &status) != 0) return file_errno(path, errno);
  held.push_back(identity_of(status));
  return SqliteFileLock(std::move(file));
}

SqliteFileLock::~SqliteFileLock() {
  if (!file_) return;
  const MutexLock guard(held_mutex);
  struct stat status {};
  if (::fstat(file_.get(), &status) == 0) std::erase(held_files(), identity_of(status));
  file_.reset();
}

}  // namespace run_recorder
