// A PostgreSQL cluster of the test's own, on a UNIX socket in a temporary folder, and a PgBouncer before it. Nothing
// is shared with any other server of the machine, and nothing stays. Start them from the main thread.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "support/child_process.h"

namespace run_recorder::testing {

class PrivatePostgres {
 public:
  struct Options {
    bool fsync = false;                 // with it the server is as safe as by default; without it tests are fast
    std::vector<std::string> settings;  // as "max_connections=20"
  };
  PrivatePostgres() : PrivatePostgres(Options()) {}
  explicit PrivatePostgres(const Options& options);
  ~PrivatePostgres();

  // The one cluster for all tests of a process that need nothing special and do it no harm.
  static PrivatePostgres& shared();
  static bool installed();

  // A new database; returns its url. Options: what follows CREATE DATABASE name.
  std::string create_database(const std::string& options = {});
  void drop_database(const std::string& url);
  std::string url(const std::string& database, const std::string& user = "postgres") const;
  static std::string database_of(const std::string& url);

  // Runs statements as the superuser; the first column of the last result's rows, joined by newlines, NULL as "".
  // Throws with the server's words.
  std::string query(const std::string& database_or_url, const std::string& sql) const;

  void start();
  void stop();          // fast: sessions are ended, transactions rolled back
  void stop_at_once();  // immediate: as after a crash
  void kill();          // kill -9 of all its processes
  void freeze();        // SIGSTOP to all its processes
  void thaw();

  const std::string& folder() const { return folder_.path(); }
  static constexpr int kPort = 5432;

 private:
  TemporaryFolder folder_;
  std::vector<std::string> settings_;
  std::unique_ptr<ChildProcess> server_;
  int databases_ = 0;
};

// PgBouncer in transaction mode before a cluster.
class PrivatePgbouncer {
 public:
  explicit PrivatePgbouncer(const PrivatePostgres& postgres);
  static bool installed();
  // The url of a database of the cluster, through the pooler.
  std::string url(const std::string& database) const;

 private:
  TemporaryFolder folder_;
  std::unique_ptr<ChildProcess> server_;
};

}  // namespace run_recorder::testing
