// A connection of libpqxx with what libpqxx 6.4 and 7 do differently behind one face; for PgConnection alone. Throws
// what libpqxx throws. Blocking; one thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <pqxx/pqxx>
#include <span>
#include <string>
#include <string_view>

struct pg_conn;  // libpq's PGconn

namespace run_recorder {

class PgSession {
 public:
  // options: key=value. watched_socket is -1 where no descriptor is left.
  explicit PgSession(const std::string& options);
  PgSession(const PgSession&) = delete;
  PgSession& operator=(const PgSession&) = delete;
  ~PgSession();

  bool is_open() const { return connection_.is_open(); }
  int server_version() const { return connection_.server_version(); }
  // Several statements separated by semicolons.
  pqxx::result exec(const std::string& statements);
  // One statement; a null pointer is NULL. The binary parameters are numbered behind the texts.
  pqxx::result exec(const std::string& statement, std::span<const char* const> texts,
                    std::span<const std::string_view> binaries);
  // See PgConnection::copy.
  void copy(const std::string& table, std::span<const std::string_view> columns,
            const std::function<void(std::string& rows)>& next);
  void disconnect();

  int watched_socket = -1;   // a duplicate of the connection's
  std::uint64_t ticket = 0;  // of the watchdog, while a deadline runs
  bool in_transaction = false;
  bool transaction_failed = false;

 private:
#if PQXX_VERSION_MAJOR >= 7
  pg_conn* raw_ = nullptr;  // connection_ owns it
#endif
  pqxx::connection connection_;
  // Transactions are begun and ended by statements of our own, so that no round trip is hidden.
  std::optional<pqxx::nontransaction> work_;
};

}  // namespace run_recorder
