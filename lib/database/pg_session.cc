#include "database/pg_session.h"

#include <fcntl.h>
#include <libpq-fe.h>
#include <unistd.h>

#include <memory>
#include <vector>

#if PQXX_VERSION_MAJOR < 7
#include <pqxx/tablewriter>
#endif

namespace run_recorder {

PgSession::~PgSession() {
  work_.reset();
  if (watched_socket >= 0) ::close(watched_socket);
}

pqxx::result PgSession::exec(const std::string& statements) {
  return work_->exec(statements);
}

// libpqxx's own class for COPY, stream_to, takes no ready text in either version: it puts each row together from its
// fields, in 6.4 in time that grows with the square of their number.
#if PQXX_VERSION_MAJOR < 7

PgSession::PgSession(const std::string& options) : connection_(options) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  connection_.inhibit_reactivation(true);
#pragma GCC diagnostic pop
  watched_socket = ::fcntl(connection_.sock(), F_DUPFD_CLOEXEC, 0);
  work_.emplace(connection_);
}

pqxx::result PgSession::exec(const std::string& statement, std::span<const char* const> texts,
                             std::span<const std::string_view> binaries) {
  std::vector<pqxx::binarystring> copies;
  copies.reserve(binaries.size());
  for (const std::string_view bytes : binaries) copies.emplace_back(bytes.data(), bytes.size());
  return work_->exec_params(statement, pqxx::prepare::make_dynamic_params(texts.begin(), texts.end()),
                            pqxx::prepare::make_dynamic_params(copies.begin(), copies.end()));
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
void PgSession::copy(const std::string& table, std::span<const std::string_view> columns,
                     const std::function<void(std::string& rows)>& next) {
  const std::vector<std::string> names(columns.begin(), columns.end());
  pqxx::tablewriter writer(*work_, table, names.begin(), names.end());
  for (std::string rows; next(rows), !rows.empty(); rows.clear()) writer.write_raw_line(rows);
  writer.complete();
}
#pragma GCC diagnostic pop

void PgSession::disconnect() {
  work_.reset();
  connection_.disconnect();
}

#else  // libpqxx 7: COPY goes to libpq, which is why the connection is made there

namespace {

struct ResultClear {
  void operator()(PGresult* result) const { PQclear(result); }
};
using RawResult = std::unique_ptr<PGresult, ResultClear>;

void throw_unless(bool works, pg_conn* connection, const PGresult* result, const std::string& statement) {
  if (works) return;
  const char* const words = PQerrorMessage(connection);
  const std::string message = words != nullptr ? words : "";
  if (PQstatus(connection) != CONNECTION_OK) throw pqxx::broken_connection(message);
  const char* const code = result != nullptr ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : nullptr;
  throw pqxx::sql_error(message, statement, code);
}

pg_conn* connected(const std::string& options) {
  pg_conn* const raw = PQconnectdb(options.c_str());
  if (raw != nullptr && PQstatus(raw) == CONNECTION_OK) return raw;
  const std::string message = raw != nullptr ? PQerrorMessage(raw) : "out of memory";
  PQfinish(raw);
  throw pqxx::broken_connection(message);
}

}  // namespace

PgSession::PgSession(const std::string& options)
    : raw_(connected(options)), connection_(pqxx::connection::seize_raw_connection(raw_)) {
  watched_socket = ::fcntl(connection_.sock(), F_DUPFD_CLOEXEC, 0);
  work_.emplace(connection_);
}

pqxx::result PgSession::exec(const std::string& statement, std::span<const char* const> texts,
                             std::span<const std::string_view> binaries) {
  pqxx::params list;
  list.reserve(texts.size() + binaries.size());
  for (const char* const param : texts) {
    if (param != nullptr) {
      list.append(pqxx::zview(param));
    } else {
      list.append();
    }
  }
  for (const std::string_view bytes : binaries) {
    list.append(std::basic_string_view<std::byte>(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()));
  }
  return work_->exec(statement, list);
}

void PgSession::copy(const std::string& table, std::span<const std::string_view> columns,
                     const std::function<void(std::string& rows)>& next) {
  std::string names;
  for (const std::string_view column : columns) names += (names.empty() ? "" : ", ") + std::string(column);
  const std::string statement = "COPY " + table + " (" + names + ") FROM STDIN";
  RawResult result(PQexec(raw_, statement.c_str()));
  throw_unless(PQresultStatus(result.get()) == PGRES_COPY_IN, raw_, result.get(), statement);
  for (std::string rows; next(rows), !rows.empty(); rows.clear()) {
    throw_unless(PQputCopyData(raw_, rows.data(), static_cast<int>(rows.size())) == 1, raw_, nullptr, statement);
  }
  throw_unless(PQputCopyEnd(raw_, nullptr) == 1, raw_, nullptr, statement);
  result.reset(PQgetResult(raw_));
  const bool works = PQresultStatus(result.get()) == PGRES_COMMAND_OK;
  // Read to its end, or the next statement is refused.
  while (const RawResult rest{PQgetResult(raw_)}) {
  }
  throw_unless(works, raw_, result.get(), statement);
}

void PgSession::disconnect() {
  work_.reset();
  connection_.close();
}

#endif

}  // namespace run_recorder
