#include "support/private_postgres.h"

#include <libpq-fe.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

namespace run_recorder::testing {
namespace {

constexpr const char* kUser = "postgres";
constexpr std::chrono::seconds kStartTimeout{60};

// The folder of the newest PostgreSQL of the machine; empty where there is none.
std::string programs() {
  std::string found;
  std::error_code ignored;
  int newest = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/usr/lib/postgresql", ignored)) {
    const int version = std::atoi(entry.path().filename().c_str());
    if (version <= newest || !std::filesystem::exists(entry.path() / "bin/initdb")) continue;
    newest = version;
    found = entry.path() / "bin/";
  }
  return found;
}

// Asks again and again until the server takes connections; its death ends the wait.
void wait_for(const std::string& url, ChildProcess& server, const std::string& log) {
  const auto end = std::chrono::steady_clock::now() + kStartTimeout;
  while (PQping(url.c_str()) != PQPING_OK) {
    if (!server.running() || std::chrono::steady_clock::now() > end) {
      std::string words;
      std::ifstream file(log);
      for (std::string line; std::getline(file, line);) words += line + '\n';
      throw std::runtime_error("the server did not start: " + words);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

// Not a zombie that nobody has waited for yet either.
bool alive(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  if (!std::getline(stat, text)) return false;
  const std::size_t name_end = text.rfind(')');
  return name_end != std::string::npos && text.substr(name_end + 2, 1) != "Z";
}

}  // namespace

bool PrivatePostgres::installed() {
  return !programs().empty();
}

PrivatePostgres& PrivatePostgres::shared() {
  static PrivatePostgres postgres;
  return postgres;
}

PrivatePostgres::PrivatePostgres(const Options& options) : folder_(kUser), settings_(options.settings) {
  if (!options.fsync) {
    settings_.insert(settings_.begin(), {"fsync=off", "full_page_writes=off"});
  }
  run_command({programs() + "initdb", "-D", folder() + "/data", "-U", kUser, "-A", "trust", "-E", "UTF8",
               "--locale=C.UTF-8", "--no-sync"},
              kUser);
  start();
}

PrivatePostgres::~PrivatePostgres() {
  if (!server_) return;
  thaw();
  server_->stop(SIGQUIT);
}

void PrivatePostgres::start() {
  std::vector<std::string> command{programs() + "postgres", "-D", folder() + "/data", "-k", folder(), "-p",
                                   std::to_string(kPort),   "-c", "listen_addresses="};
  for (const std::string& setting : settings_) {
    command.emplace_back("-c");
    command.push_back(setting);
  }
  ChildProcess::Options options;
  options.user = kUser;
  options.output = folder() + "/log";
  options.death_signal = SIGQUIT;
  server_ = std::make_unique<ChildProcess>(command, options);
  wait_for(url(kUser), *server_, options.output);
}

void PrivatePostgres::stop() {
  if (server_) server_->stop(SIGINT);
  server_.reset();
}

void PrivatePostgres::stop_at_once() {
  if (server_) server_->stop(SIGQUIT);
  server_.reset();
}

void PrivatePostgres::kill() {
  if (!server_) return;
  const std::vector<pid_t> family = family_of(server_->pid());
  // The postmaster first, or it would restart the others.
  server_->stop(SIGKILL);
  for (const pid_t pid : family) ::kill(pid, SIGKILL);
  for (const pid_t pid : family) {
    while (alive(pid)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  server_.reset();
  std::filesystem::remove(folder() + "/data/postmaster.pid");
}

void PrivatePostgres::freeze() {
  for (const pid_t pid : family_of(server_->pid())) ::kill(pid, SIGSTOP);
}

void PrivatePostgres::thaw() {
  for (const pid_t pid : family_of(server_->pid())) ::kill(pid, SIGCONT);
}

std::string PrivatePostgres::url(const std::string& database, const std::string& user) const {
  return "postgresql:///" + database + "?host=" + folder() + "&port=" + std::to_string(kPort) + "&user=" + user;
}

std::string PrivatePostgres::database_of(const std::string& url) {
  const std::size_t begin = url.find("///") + 3;
  return url.substr(begin, url.find('?') - begin);
}

std::string PrivatePostgres::create_database(const std::string& options) {
  const std::string name = "test_" + std::to_string(++databases_);
  query(kUser, "CREATE DATABASE " + name + " " + options);
  return url(name);
}

void PrivatePostgres::drop_database(const std::string& dropped) {
  query(kUser, "DROP DATABASE " + database_of(dropped) + " WITH (FORCE)");
}

std::string PrivatePostgres::query(const std::string& database_or_url, const std::string& sql) const {
  const bool is_url = database_or_url.find("://") != std::string::npos;
  const std::unique_ptr<PGconn, void (*)(PGconn*)> connection(
      PQconnectdb((is_url ? database_or_url : url(database_or_url)).c_str()), PQfinish);
  if (PQstatus(connection.get()) != CONNECTION_OK) throw std::runtime_error(PQerrorMessage(connection.get()));
  PQsetNoticeProcessor(
      connection.get(), [](void*, const char*) {}, nullptr);
  const std::unique_ptr<PGresult, void (*)(PGresult*)> result(PQexec(connection.get(), sql.c_str()), PQclear);
  const ExecStatusType status = PQresultStatus(result.get());
  if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
    throw std::runtime_error(PQerrorMessage(connection.get()));
  }
  std::string text;
  for (int row = 0; row < PQntuples(result.get()); ++row) {
    if (row > 0) text += '\n';
    text += PQgetvalue(result.get(), row, 0);
  }
  return text;
}

bool PrivatePgbouncer::installed() {
  return ::access("/usr/sbin/pgbouncer", X_OK) == 0;
}

PrivatePgbouncer::PrivatePgbouncer(const PrivatePostgres& postgres) : folder_(kUser) {
  const std::string settings = folder_.path() + "/pgbouncer.ini";
  std::ofstream(folder_.path() + "/users") << "\"postgres\" \"\"\n";
  std::ofstream(settings) << "[databases]\n* = host=" << postgres.folder() << " port=" << PrivatePostgres::kPort
                          << "\n[pgbouncer]\nlisten_addr=\nlisten_port=6432\nunix_socket_dir=" << folder_.path()
                          << "\nauth_type=trust\nauth_file=" << folder_.path()
                          << "/users\npool_mode=transaction\nmax_client_conn=100\ndefault_pool_size=3\n";
  ChildProcess::Options options;
  options.user = kUser;
  options.output = folder_.path() + "/log";
  server_ = std::make_unique<ChildProcess>(std::vector<std::string>{"/usr/sbin/pgbouncer", settings}, options);
  wait_for(url(kUser), *server_, options.output);
}

std::string PrivatePgbouncer::url(const std::string& database) const {
  return "postgresql:///" + database + "?host=" + folder_.path() + "&port=6432&user=postgres";
}

}  // namespace run_recorder::testing

// Read by LeakSanitizer. libpqxx 6.4 forgets the result of a statement whose connection broke under it, in
// functions some of which have no name.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libpqxx-6.4.so\n";
}

// Read by ThreadSanitizer. libpqxx 6.4 looks encodings up in a table that the first caller fills, behind a guard
// which ThreadSanitizer cannot see, because the library is not compiled with it.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return "race:libpqxx-6.4.so\n";
}
