#include "database/pg_connection.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <libpq-fe.h>
#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <vector>

#include "base/time.h"
#include "base/url.h"
#include "database/pg_session.h"
#include "database/pg_watchdog.h"
#include "database/process_deadline.h"

namespace run_recorder {
namespace {

constexpr std::size_t kMaxMessageBytes = 2'000;
constexpr std::chrono::seconds kMinConnectTimeout{2};
constexpr std::string_view kShutDown = "the shutdown deadline has passed";

// The server's message on one line: several lines are joined, white space at the ends is cut, and the length is
// bounded.
std::string one_line(std::string_view message) {
  std::string line;
  for (const char c : message) {
    if (c != '\n') {
      line += c == '\t' ? ' ' : c;
    } else if (!line.empty() && !line.ends_with("; ")) {
      line += "; ";
    }
  }
  while (line.ends_with(' ') || line.ends_with(';')) line.pop_back();
  if (line.size() > kMaxMessageBytes) {
    std::size_t end = kMaxMessageBytes;
    while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xC0U) == 0x80U) --end;
    line.resize(end);
    line += "…";
  }
  return line;
}

// A value in the key=value form of a connection string.
std::string quoted(std::string_view value) {
  std::string text = "'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') text += '\\';
    text += c;
  }
  return text + "'";
}

struct OptionsFree {
  void operator()(PQconninfoOption* options) const { PQconninfoFree(options); }
};

// Why libpq does not take this url, without quoting it: an option that this libpq does not know by its name, which is
// the one thing that problem_of_url() leaves to libpq.
std::string problem_for_libpq(std::string_view url) {
  std::vector<std::string_view> known{"ssl"}, shown;  // ssl=true means sslmode=require, in a URI only
  const std::unique_ptr<PQconninfoOption, OptionsFree> options(PQconninfoParse("", nullptr));
  for (const PQconninfoOption* option = options.get(); option && option->keyword; ++option) {
    known.emplace_back(option->keyword);
    if (std::string_view(option->dispchar) != "D")
      shown.emplace_back(option->keyword);  // D: for those who debug libpq
  }
  for (const std::string_view name : option_names(url)) {
    if (std::ranges::find(known, name) != known.end()) continue;
    return fmt::format("unknown option \"{}\": must be one of {}", name, fmt::join(shown, ", "));
  }
  return "must be postgresql://user:password@host:port/database?options, with special characters written as %XX";
}

// The url as a key=value string with what every connection of ours needs. What the url says about a time limit or a
// name wins; the encoding does not, because all our text is UTF-8.
Result<std::string> connection_string(const PgOptions& options) {
  char* complaint = nullptr;
  const std::unique_ptr<PQconninfoOption, OptionsFree> parsed(PQconninfoParse(options.url.c_str(), &complaint));
  // The complaint may quote any part of the url, a password with an unescaped "@" or "/" included.
  if (complaint) PQfreemem(complaint);
  if (!parsed) {
    return Error{ErrorKind::kInvalid, "invalid database url: " + problem_for_libpq(options.url)};
  }
  const auto timeout = std::max(kMinConnectTimeout, std::chrono::ceil<std::chrono::seconds>(options.connect_timeout));
  std::string text = "fallback_application_name='run-recorder' client_encoding='UTF8'";
  bool timeout_given = false;
  for (const PQconninfoOption* option = parsed.get(); option->keyword; ++option) {
    const std::string_view keyword = option->keyword;
    if (!option->val || keyword == "client_encoding" || keyword == "fallback_application_name") continue;
    if (keyword == "connect_timeout") timeout_given = true;
    text += fmt::format(" {}={}", keyword, quoted(option->val));
  }
  if (!timeout_given) text += fmt::format(" connect_timeout={}", timeout.count());
  return text;
}

std::string_view sqlstate_class(std::string_view sqlstate) {
  return sqlstate.substr(0, 2);
}

// Whether an error that answered COMMIT says for certain that nothing was committed.
bool surely_rolled_back(std::string_view sqlstate) {
  if (sqlstate.empty()) return false;
  const std::string_view group = sqlstate_class(sqlstate);
  return group != "08" && group != "57" && group != "58" && group != "XX";
}

Error unavailable(std::string message) {
  return Error{ErrorKind::kUnavailable, std::move(message)};
}

// Classes 22, 23 and P0: the database refuses this very data. Everything else may work later.
ErrorKind kind_of_sqlstate(std::string_view sqlstate) {
  const std::string_view group = sqlstate_class(sqlstate);
  if (group == "22" || group == "23" || group == "P0") return ErrorKind::kData;
  return ErrorKind::kUnavailable;
}

}  // namespace

Result<std::unique_ptr<PgConnection>> PgConnection::connect(const PgOptions& options) {
  const Result<std::string> text = connection_string(options);
  if (!text) return text.error();
  const auto failed = [&](std::string_view why) {
    return unavailable("cannot connect to the database: " + without_password(one_line(why), options.url));
  };
  if (std::chrono::steady_clock::now() >= process_deadline()) return failed(kShutDown);
  try {
    auto session = std::make_unique<PgSession>(*text);
    if (session->watched_socket < 0) return failed("out of file descriptors");
    return std::unique_ptr<PgConnection>(
        new PgConnection(std::move(session), options, options.reconnects_at_begin ? *text : std::string()));
  } catch (const std::exception& error) {
    return failed(error.what());
  }
}

PgConnection::PgConnection(std::unique_ptr<PgSession> session, const PgOptions& options, std::string reconnect_to)
    : session_(std::move(session)),
      reconnect_to_(std::move(reconnect_to)),
      deadline_ms_(options.deadline),
      server_gives_up_(options.server_gives_up),
      server_version_(session_->server_version()) {}

PgConnection::~PgConnection() {
  // Disconnecting may block as any other call.
  const Deadline deadline(*this);
  session_->disconnect();
}

bool PgConnection::broken() const {
  return !session_->is_open();
}

void PgConnection::abandon() {
  ::shutdown(session_->watched_socket, SHUT_RDWR);
}

PgConnection::Deadline::Deadline(PgConnection& connection)
    : connection_(connection), outermost_(connection.session_->ticket == 0) {
  PgSession& session = *connection_.session_;
  if (!outermost_) return;
  connection_.deadline_at_ = std::chrono::steady_clock::now() + connection_.deadline_ms_;
  session.ticket = PgWatchdog::shared().arm(session.watched_socket, connection_.deadline_ms_);
}

PgConnection::Deadline::~Deadline() {
  if (!outermost_) return;
  PgSession& session = *connection_.session_;
  PgWatchdog::shared().disarm(session.ticket);
  session.ticket = 0;
}

Error PgConnection::lost_or(ErrorKind kind, std::string_view sqlstate, std::string_view message) const {
  std::string words = one_line(message);
  if (broken()) {
    kind = ErrorKind::kUnavailable;
    if (session_->ticket && PgWatchdog::shared().fired(session_->ticket)) {
      const bool ending = std::chrono::steady_clock::now() >= process_deadline();
      words = ending ? std::string(kShutDown)
                     : fmt::format("the database did not answer within {}", format_duration(deadline_ms_));
    } else if (sqlstate.empty()) {
      words = "the connection to the database broke: " + words;
    }
  }
  return Error{kind, std::move(words), std::string(sqlstate)};
}

template <class Call>
auto PgConnection::guarded(Call&& call) -> Result<decltype(call())> {
  const Deadline deadline(*this);
  const auto failed = [this](std::string_view sqlstate, const char* what) {
    session_->transaction_failed = true;
    return lost_or(kind_of_sqlstate(sqlstate), sqlstate, what);
  };
  try {
    return call();
  } catch (const pqxx::insufficient_privilege& error) {
    return failed("42501", error.what());               // the one whose code libpqxx 6.4 leaves out
  } catch (const pqxx::serialization_failure& error) {  // these two are no sql_error in libpqxx 6.4
    return failed("40001", error.what());
  } catch (const pqxx::deadlock_detected& error) {
    return failed("40P01", error.what());
  } catch (const pqxx::sql_error& error) {
    return failed(error.sqlstate(), error.what());
  } catch (const std::exception& error) {
    return failed({}, error.what());
  }
}

Result<pqxx::result> PgConnection::exec(const std::string& statement, std::span<const PgParam> params) {
  if (session_->in_transaction || !server_gives_up_) return run(statement, params);
  const Deadline deadline(*this);
  auto transaction = PgTransaction::begin(*this);
  if (!transaction) return transaction.error();
  Result<pqxx::result> done = run(statement, params);
  if (!done) return done;
  if (const Result<void> committed = transaction->commit(); !committed) {
    Error error = committed.error();
    if (error.kind == ErrorKind::kInDoubt) error.kind = ErrorKind::kUnavailable;
    return error;
  }
  return done;
}

Result<pqxx::result> PgConnection::run(const std::string& statement, std::span<const PgParam> params) {
  std::vector<const char*> texts;
  std::vector<std::string_view> binaries;
  for (const PgParam& param : params) {
    if (param.is_binary()) {
      binaries.emplace_back(param.bytes().value());
    } else {
      assert(binaries.empty());
      texts.push_back(param.bytes() ? param.bytes()->c_str() : nullptr);
    }
  }
  return guarded([&] { return session_->exec(statement, texts, binaries); });
}

Result<void> PgConnection::copy(const std::string& table, std::span<const std::string_view> columns,
                                const NextRows& next) {
  assert(session_->in_transaction);
  const auto done = guarded([&] {
    session_->copy(table, columns, next);
    return true;
  });
  if (!done) return done.error();
  return {};
}

Result<void> PgConnection::exec_script(const std::string& statements) {
  const Result<pqxx::result> done = guarded([&] { return session_->exec(statements); });
  if (!done) return done.error();
  return {};
}

// In place of a session that the server closed; the calls under way keep their deadline. False: it could not be made,
// or the deadline has passed.
bool PgConnection::reconnect() {
  assert(session_->ticket != 0 && !session_->in_transaction);
  const auto now = std::chrono::steady_clock::now();
  const auto ends_at = std::min(deadline_at_, process_deadline());
  if (reconnect_to_.empty() || now >= ends_at || PgWatchdog::shared().fired(session_->ticket)) return false;
  try {
    auto session = std::make_unique<PgSession>(reconnect_to_);
    if (session->watched_socket < 0) return false;
    PgWatchdog::shared().disarm(session_->ticket);
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline_at_ - now);
    session->ticket = PgWatchdog::shared().arm(session->watched_socket, left);
    session_ = std::move(session);
    server_version_ = session_->server_version();
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

Result<void> PgConnection::begin() {
  const Deadline deadline(*this);
  assert(!session_->in_transaction);
  const bool was_whole = !broken();
  session_->transaction_failed = false;
  // In one round trip. It never ends a COMMIT that waits for a standby: the server's timer is off by then.
  const std::string limit =
      server_gives_up_ ? fmt::format("; SET LOCAL statement_timeout = {}", deadline_ms_.count()) : "";
  const std::string statements = "BEGIN" + limit;
  Result<void> begun = exec_script(statements);
  if (!begun && was_whole && broken() && reconnect()) begun = exec_script(statements);
  if (!begun) return begun;
  session_->in_transaction = true;
  return {};
}

Result<void> PgConnection::commit() {
  assert(session_->in_transaction);
  if (session_->transaction_failed) {
    rollback();
    return Error{ErrorKind::kInternal, "a transaction with a failed statement cannot be committed"};
  }
  const Result<pqxx::result> committed = run("COMMIT");
  session_->in_transaction = false;
  if (committed) return {};
  Error error = committed.error();
  if (broken() || !surely_rolled_back(error.sqlstate)) {
    error.kind = ErrorKind::kInDoubt;
    error.message = "the outcome of a COMMIT is unknown: " + error.message;
  }
  return error;
}

void PgConnection::rollback() {
  session_->in_transaction = false;
  if (broken()) return;
  // Where this fails the connection is broken, and the server rolls back by itself.
  static_cast<void>(run("ROLLBACK"));
}

Result<PgTransaction> PgTransaction::begin(PgConnection& connection) {
  const Result<void> begun = connection.begin();
  if (!begun) return begun.error();
  return PgTransaction(connection);
}

}  // namespace run_recorder
