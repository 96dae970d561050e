// One connection to PostgreSQL: the only place that knows libpqxx's exceptions, and the one that makes sure that no
// call outlives its deadline, not even against a frozen server. Blocking; one thread at a time. A connection that
// broke is thrown away; only where the server closed it between two transactions it may be made again by itself, see
// PgOptions.
//
// Made for poolers in transaction mode: no prepared statements, no SET, no LISTEN, no session locks; what a statement
// needs of the session (time zone, date style) it must state itself.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace run_recorder {

class PgSession;

// A statement's parameter, sent as text, or in the server's binary format; NULL where empty.
class PgParam {
 public:
  PgParam(std::nullopt_t) {}
  PgParam(const char* text) : bytes_(text) {}
  PgParam(std::string_view text) : bytes_(text) {}
  PgParam(std::string text) : bytes_(std::move(text)) {}
  template <std::integral Number>
  PgParam(Number number) : bytes_(std::to_string(number)) {}
  PgParam(bool value) : bytes_(value ? "true" : "false") {}
  template <class Value>
  PgParam(const std::optional<Value>& value) {
    if (value) *this = PgParam(*value);
  }
  static PgParam binary(std::string bytes) {
    PgParam param(std::move(bytes));
    param.is_binary_ = true;
    return param;
  }
  const std::optional<std::string>& bytes() const { return bytes_; }
  bool is_binary() const { return is_binary_; }

 private:
  std::optional<std::string> bytes_;
  bool is_binary_ = false;
};

struct PgOptions {
  std::string url;                                   // a libpq URI or its key=value form
  std::chrono::milliseconds connect_timeout{5'000};  // per host; whole seconds, at least 2 (libpq's rule)
  std::chrono::milliseconds deadline{30'000};        // of one call, see Deadline
  // Whether the server gives a statement up at the deadline too. A backend that waits for a lock does not notice that
  // its client has gone: each try while somebody holds it would leave another one, until no connection is left for
  // anybody. It takes a transaction around every statement. False: for what must go on in the server, or cannot be in
  // a transaction.
  bool server_gives_up = true;
  // Whether BEGIN reconnects once, silently, where the server has closed the connection: servers and poolers end
  // idle sessions (idle_session_timeout), and nothing has been done by then. Only for users that keep
  // nothing in the session.
  bool reconnects_at_begin = false;
};

class PgConnection {
 public:
  // Errors: kInvalid (the url is no libpq URI; the message never repeats it), kUnavailable.
  static Result<std::unique_ptr<PgConnection>> connect(const PgOptions& options);
  PgConnection(const PgConnection&) = delete;
  PgConnection& operator=(const PgConnection&) = delete;
  ~PgConnection();

  // One statement. Outside of begin() … commit() it is a transaction of its own; where that breaks off it is
  // kUnavailable, and whether it was committed is not known. Errors: kData (SQLSTATE classes 22, 23 and P0: the
  // database refuses this very data), kUnavailable (it may work later), with the SQLSTATE where the server sent one.
  // Inside of a transaction any error leaves it to be rolled back. Binary parameters come behind all others.
  Result<pqxx::result> exec(const std::string& statement, std::span<const PgParam> params);
  Result<pqxx::result> exec(const std::string& statement, std::initializer_list<PgParam> params = {}) {
    return exec(statement, std::span<const PgParam>(params.begin(), params.size()));
  }
  // Rows into a table by COPY, only inside of a transaction. `next` appends some rows to an empty text, in COPY's
  // text format and each with its newline, and leaves it empty after the last. How many rows the table took is not
  // known: a trigger may drop some. Errors as those of exec().
  using NextRows = std::function<void(std::string& rows)>;
  Result<void> copy(const std::string& table, std::span<const std::string_view> columns, const NextRows& next);
  // Several statements separated by semicolons, without parameters. Errors as those of exec().
  Result<void> exec_script(const std::string& statements);

  // Where the server has closed the connection since the last transaction, see PgOptions::reconnects_at_begin.
  Result<void> begin();
  // kInDoubt: COMMIT was sent and its outcome is not known. Any other error: nothing was committed.
  Result<void> commit();
  // Where the connection broke the server has rolled back by itself, and nothing is sent.
  void rollback();

  // After a break every call fails with kUnavailable.
  bool broken() const;
  int server_version() const { return server_version_; }  // as 150004
  // From any thread: ends the call under way and breaks the connection. The server goes on with what it was given.
  void abandon();

  // All calls while this object lives share one deadline, counted from its construction. Nested ones change nothing.
  // A call without one has the whole deadline for itself.
  class Deadline {
   public:
    explicit Deadline(PgConnection& connection);
    Deadline(const Deadline&) = delete;
    Deadline& operator=(const Deadline&) = delete;
    ~Deadline();

   private:
    PgConnection& connection_;
    bool outermost_;
  };

 private:
  PgConnection(std::unique_ptr<PgSession> session, const PgOptions& options, std::string reconnect_to);
  template <class Call>
  auto guarded(Call&& call) -> Result<decltype(call())>;
  Result<pqxx::result> run(const std::string& statement, std::span<const PgParam> params = {});
  Error lost_or(ErrorKind kind, std::string_view sqlstate, std::string_view message) const;
  bool reconnect();

  std::unique_ptr<PgSession> session_;
  const std::string reconnect_to_;  // empty: it never does
  std::chrono::milliseconds deadline_ms_;
  std::chrono::steady_clock::time_point deadline_at_{};  // of the calls under way
  bool server_gives_up_;
  int server_version_ = 0;
};

// BEGIN … COMMIT, rolled back when it goes out of scope without commit().
class PgTransaction {
 public:
  static Result<PgTransaction> begin(PgConnection& connection);
  PgTransaction(PgTransaction&& other) noexcept : connection_(std::exchange(other.connection_, nullptr)) {}
  PgTransaction& operator=(PgTransaction&&) = delete;
  ~PgTransaction() {
    if (connection_) connection_->rollback();
  }
  Result<void> commit() { return std::exchange(connection_, nullptr)->commit(); }

 private:
  explicit PgTransaction(PgConnection& connection) : connection_(&connection) {}
  PgConnection* connection_;
};

}  // namespace run_recorder
