// One connection to a SQLite file: the only place that calls SQLite's C interface. Blocking; one thread at a time,
// each thread opens its own. WAL mode, so that readers work beside the one writer, and synchronous=FULL, so that a
// commit survives loss of power.
//
// Every call ends at the connection's deadline (begin_call), whether it waits for another's lock or works: what takes
// longer fails with kUnavailable. Other errors are kind_of_sqlite_code()'s, where no others are named.
#pragma once

#include <sqlite3.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/file.h"
#include "base/result.h"
#include "base/time.h"

namespace run_recorder {

// What an (extended) result code means for the caller: constraints, too large and mismatched values are kData (the
// database refuses this very data), everything else is kUnavailable (it may work later).
ErrorKind kind_of_sqlite_code(int code);

// A time as our columns hold it, 27 characters; also the forms other writers of the same tables use, as ecto_sqlite3:
// without offset (read as UTC), with a space for T, with fewer digits. Empty where it is none.
std::optional<Timestamp> parse_sqlite_time(std::string_view text);

// Bytes that are no text.
struct SqliteBlob {
  std::string_view bytes;
};

class SqliteConnection;
class SqliteRows;

// A prepared statement, made once and used again. Must not outlive its connection.
class SqliteStatement {
 public:
  SqliteStatement(SqliteStatement&&) noexcept = default;
  SqliteStatement& operator=(SqliteStatement&&) noexcept = default;

  // Runs it with these parameters and expects no rows. Returns how many rows it changed.
  template <class... Values>
  Result<std::int64_t> execute(const Values&... values) {
    bind_all(values...);
    return finish();
  }

  // The same with parameters that come one by one: give(bind) calls bind(value) for each, in their order.
  template <class Give>
  Result<std::int64_t> execute_with(const Give& give) {
    bind_error_ = SQLITE_OK;
    int index = 0;
    give([&](const auto& value) { bind(++index, value); });
    return finish();
  }

  // Runs it with these parameters for its rows. The parameters must live as long as the rows are read. One set of
  // rows of a statement at a time.
  template <class... Values>
  SqliteRows rows(const Values&... values);
  SqliteRows rows_for(std::span<const std::string> texts);

 private:
  friend class SqliteConnection;
  friend class SqliteRows;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  SqliteStatement(SqliteConnection& connection, sqlite3_stmt* statement)
      : connection_(&connection), handle_(statement) {}

  template <class... Values>
  void bind_all(const Values&... values) {
    bind_error_ = SQLITE_OK;
    int index = 0;
    (bind(++index, values), ...);
  }
  void bind(int index, std::nullopt_t);
  void bind(int index, std::string_view text);
  void bind(int index, SqliteBlob blob);
  void bind(int index, std::int64_t number);
  void bind(int index, std::int32_t number) { bind(index, std::int64_t{number}); }
  void bind(int index, std::uint32_t number) { bind(index, std::int64_t{number}); }
  void bind(int index, std::uint64_t number) { bind(index, static_cast<std::int64_t>(number)); }
  void bind(int index, bool flag) { bind(index, std::int64_t{flag}); }
  void bind(int index, Timestamp time);
  void bind(int index, const std::string& text) { bind(index, std::string_view(text)); }
  void bind(int index, const char* text) { bind(index, std::string_view(text)); }
  template <class Value>
  void bind(int index, const std::optional<Value>& value) {
    if (value) {
      bind(index, *value);
    } else {
      bind(index, std::nullopt);
    }
  }
  Result<std::int64_t> finish();
  Result<bool> step();
  void reset();

  SqliteConnection* connection_;
  std::unique_ptr<sqlite3_stmt, Finalize> handle_;
  int bind_error_ = SQLITE_OK;
};

// The rows of one execution. The statement can be used again when this object is gone. Columns count from 0; texts
// are valid until the next call of next().
class SqliteRows {
 public:
  SqliteRows(const SqliteRows&) = delete;
  SqliteRows& operator=(const SqliteRows&) = delete;
  ~SqliteRows() { statement_.reset(); }

  // Moves to the next row (at first: the first). False: there is none.
  Result<bool> next() { return statement_.step(); }

  bool is_null(int column) const;
  std::string_view text(int column) const;  // empty for NULL
  std::int64_t integer(int column) const;   // 0 for NULL
  std::optional<std::string> optional_text(int column) const;
  std::optional<std::int64_t> optional_integer(int column) const;
  std::optional<Timestamp> time(int column) const;  // empty for NULL and for what is no time

 private:
  friend class SqliteStatement;
  explicit SqliteRows(SqliteStatement& statement) : statement_(statement) {}
  SqliteStatement& statement_;
};

template <class... Values>
SqliteRows SqliteStatement::rows(const Values&... values) {
  bind_all(values...);
  return SqliteRows(*this);
}

inline SqliteRows SqliteStatement::rows_for(std::span<const std::string> texts) {
  bind_error_ = SQLITE_OK;
  int index = 0;
  for (const std::string& text : texts) bind(++index, text);
  return SqliteRows(*this);
}

// kUnavailable, with what to do: the folder that the file would be in is not there. It is never made, for it may be
// mistyped, or a mount that is missing.
Result<void> check_sqlite_folder(const std::string& path);

struct SqliteOptions {
  std::string path;
  bool create = false;     // the file, in a folder that is there
  bool read_only = false;  // writes nothing, not even the mode of the journal
  std::chrono::milliseconds deadline{30'000};
};

class SqliteConnection {
 public:
  // Errors: kRefused (no SQLite database, no permission, not there and not to be created), kUnavailable.
  static Result<std::unique_ptr<SqliteConnection>> open(const SqliteOptions& options);
  // An empty database that goes with the connection.
  static Result<std::unique_ptr<SqliteConnection>> open_in_memory();
  SqliteConnection(const SqliteConnection&) = delete;
  SqliteConnection& operator=(const SqliteConnection&) = delete;
  ~SqliteConnection();

  // Starts the clock of the deadline anew. What is called without it shares the last one's.
  void begin_call();

  Result<SqliteStatement> prepare(std::string_view sql);
  // Several statements separated by semicolons, without parameters and without rows.
  Result<void> execute(const std::string& sql);

  // For connections that write batches or judge many rows: keeps more of the indexes' pages in memory. Any number of
  // times.
  void use_large_cache();

  // kUnavailable where the file or its -wal is no longer the one that was opened: what is written to it would be
  // lost. What only a lost -wal holds is copied into the file first, where that is still right to do. Such a
  // connection is to be closed; not inside of a transaction.
  Result<void> check_file();

  Error error(std::string_view operation) const;  // of the last call that failed
  const std::string& path() const { return path_; }

 private:
  friend class SqliteStatement;
  friend class SqliteTransaction;
  struct Close {
    void operator()(sqlite3* handle) const { sqlite3_close_v2(handle); }
  };
  SqliteConnection(const SqliteOptions& options) : path_(options.path), deadline_ms_(options.deadline) {}
  Result<void> set_up(const SqliteOptions& options);
  Result<void> open_handle(const std::string& name, int flags);
  Result<void> use_wal();
  bool past_deadline() const;
  struct WalFile {
    dev_t device;
    ino_t inode;
    bool operator==(const WalFile&) const = default;
  };
  std::optional<WalFile> wal_at_path() const;
  bool lost_wal() const;
  bool rescue_wal();
  static int on_busy(void* connection, int tries);
  static int on_progress(void* connection);

  std::string path_;
  std::chrono::milliseconds deadline_ms_;
  std::chrono::steady_clock::time_point ends_at_{};
  bool large_cache_ = false;
  std::optional<WalFile> wal_;  // the one this connection writes and reads; empty: it has none
  std::unique_ptr<sqlite3, Close> handle_;
};

// BEGIN … COMMIT, rolled back when it goes out of scope without commit().
class SqliteTransaction {
 public:
  enum class Mode {
    kRead,   // sees one state of the database, takes no lock that hinders writers
    kWrite,  // BEGIN IMMEDIATE: waits for the writer's place at once, so that it never fails in the middle
  };
  static Result<SqliteTransaction> begin(SqliteConnection& connection, Mode mode);
  SqliteTransaction(SqliteTransaction&& other) noexcept : connection_(std::exchange(other.connection_, nullptr)) {}
  SqliteTransaction& operator=(SqliteTransaction&&) = delete;
  ~SqliteTransaction();

  // kInDoubt: writing or syncing failed, what a reader finds after a crash is not known. Any other error: nothing was
  // committed.
  Result<void> commit();

 private:
  explicit SqliteTransaction(SqliteConnection& connection) : connection_(&connection) {}
  SqliteConnection* connection_;
};

// The claim of one daemon on a SQLite file, an flock on the file itself: taken before SQLite opens it, and kept for
// the process's life. It must outlive every SqliteConnection of this process to that file, since closing any
// descriptor of a file drops the process's other locks on it (fcntl(2)), SQLite's too. Tools that only read do not
// take it.
class SqliteFileLock {
 public:
  // Creates the file, empty, and its missing parent folders (0700) where they are missing. Errors: kConflict (another
  // holds it, here or in another process), kRefused (no permission), kUnavailable.
  static Result<SqliteFileLock> acquire(const std::string& path);
  SqliteFileLock(SqliteFileLock&&) noexcept = default;
  SqliteFileLock& operator=(SqliteFileLock&&) = delete;
  ~SqliteFileLock();

 private:
  explicit SqliteFileLock(UniqueFd file) : file_(std::move(file)) {}
  UniqueFd file_;
};

}  // namespace run_recorder
