// What the figures stand against: a sync of 4 KiB on the same disk, one transaction per event on PostgreSQL over
// several connections, and the same rows by one plain SQLite connection in batches. Each prints one JSON object.
//
//   bench_baselines sync FOLDER [COUNT]
//   bench_baselines transactions URI PREFIX CONNECTIONS RUNS
//   bench_baselines sqlite FILE PREFIX RUNS BATCH
#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <pqxx/pqxx>

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begun) {
  return std::chrono::duration<double>(Clock::now() - begun).count();
}

std::string run_id(std::size_t run) {
  return "base-" + std::to_string(run);
}
std::string started_payload(std::size_t run) {
  return "{\"council\":\"bench\",\"attempt\":1,\"input\":{\"prompt\":\"" + std::string(280, 'x') +
         "\",\"n\":" + std::to_string(run) + "}}";
}
std::string input_of(std::size_t run) {
  return "{\"prompt\":\"" + std::string(280, 'x') + "\",\"n\":" + std::to_string(run) + "}";
}
std::string result_text() {
  return "{\"answer\":\"" + std::string(280, 'x') + "\",\"score\":0.75}";
}
std::string completed_payload() {
  return "{\"result\":" + result_text() + "}";
}

int sync_probe(const std::string& folder, std::size_t count) {
  const std::string path = folder + "/bench-sync";
  const int fd = open(path.c_str(), O_CREAT | O_RDWR | O_TRUNC, 0600);
  if (fd < 0) throw std::runtime_error("open " + path);
  const std::string block(4096, 'x');
  for (int i = 0; i < 256; ++i) {
    if (pwrite(fd, block.data(), block.size(), i * 4096) < 0) throw std::runtime_error("write");
  }
  fsync(fd);
  std::vector<double> times_us;
  for (std::size_t i = 0; i < count; ++i) {
    const auto begun = Clock::now();
    if (pwrite(fd, block.data(), block.size(), static_cast<off_t>(i % 256) * 4096) < 0)
      throw std::runtime_error("write");
    fdatasync(fd);
    times_us.push_back(seconds_since(begun) * 1e6);
  }
  close(fd);
  unlink(path.c_str());
  std::sort(times_us.begin(), times_us.end());
  std::printf("{\"p50_us\":%.1f,\"p99_us\":%.1f}\n", times_us[times_us.size() / 2],
              times_us[times_us.size() * 99 / 100]);
  return 0;
}

void one_connection(const std::string& uri, const std::string& prefix, std::atomic<std::size_t>& next,
                    std::size_t runs) {
  pqxx::connection connection(uri);
  connection.prepare(
      "start",
      "INSERT INTO " + prefix +
          "runs (run_id, council, status, attempt, input, started_at, "
          "inserted_at, updated_at, last_seq) VALUES ($1, 'bench', 'running', 1, $2::jsonb, now(), now(), now(), 1)");
  connection.prepare("end", "UPDATE " + prefix +
                                "runs SET status = 'completed', result = $2::jsonb, finalized_at = now(), "
                                "updated_at = now(), last_seq = 2 WHERE run_id = $1 AND status = 'running'");
  connection.prepare("event", "INSERT INTO " + prefix +
                                  "run_events (run_id, seq, type, payload, inserted_at) "
                                  "VALUES ($1, $2, $3, $4::jsonb, now())");
  while (true) {
    const std::size_t run = next.fetch_add(1);
    if (run >= runs) return;
    {
      pqxx::work work(connection);
      work.exec_prepared0("start", run_id(run), input_of(run));
      work.exec_prepared0("event", run_id(run), 1, "run_started", started_payload(run));
      work.commit();
    }
    pqxx::work work(connection);
    work.exec_prepared0("end", run_id(run), result_text());
    work.exec_prepared0("event", run_id(run), 2, "run_completed", completed_payload());
    work.commit();
  }
}

int transactions(const std::string& uri, const std::string& prefix, std::size_t connections, std::size_t runs) {
  std::atomic<std::size_t> next{0};
  const auto begun = Clock::now();
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < connections; ++i) {
    threads.emplace_back([&] { one_connection(uri, prefix, next, runs); });
  }
  for (std::thread& thread : threads) thread.join();
  const double seconds = seconds_since(begun);
  std::printf("{\"events\":%zu,\"seconds\":%.6f,\"events_per_s\":%.1f}\n", 2 * runs, seconds,
              static_cast<double>(2 * runs) / seconds);
  return 0;
}

class Sqlite {
 public:
  explicit Sqlite(const std::string& file) {
    if (sqlite3_open(file.c_str(), &db_) != SQLITE_OK) throw std::runtime_error("open " + file);
    run("PRAGMA journal_mode=WAL");
    run("PRAGMA synchronous=FULL");
  }
  ~Sqlite() { sqlite3_close(db_); }
  Sqlite(const Sqlite&) = delete;
  Sqlite& operator=(const Sqlite&) = delete;

  void run(const std::string& sql) {
    if (sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK)
      throw std::runtime_error(sqlite3_errmsg(db_));
  }
  sqlite3_stmt* prepare(const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(db_, sql.c_str(), -1, &statement, nullptr) != SQLITE_OK) {
      throw std::runtime_error(sqlite3_errmsg(db_));
    }
    return statement;
  }
  void step(sqlite3_stmt* statement, const std::vector<std::string>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      sqlite3_bind_text(statement, static_cast<int>(i + 1), values[i].data(), static_cast<int>(values[i].size()),
                        SQLITE_TRANSIENT);
    }
    if (sqlite3_step(statement) != SQLITE_DONE) throw std::runtime_error(sqlite3_errmsg(db_));
    sqlite3_reset(statement);
  }

 private:
  sqlite3* db_ = nullptr;
};

int sqlite_batches(const std::string& file, const std::string& prefix, std::size_t runs, std::size_t batch) {
  Sqlite db(file);
  const std::string now = "2026-01-02T02:04:05.678000Z";
  sqlite3_stmt* start =
      db.prepare("INSERT INTO " + prefix +
                 "runs (run_id, council, status, attempt, input, started_at, inserted_at, updated_at, council_given, "
                 "attempt_given, recorder, sender_process, connection, last_seq, last_event_at) VALUES (?1, 'bench', "
                 "'running', 1, ?2, ?3, ?3, ?3, 1, 1, 'f00dfeedf00dfeedf00dfeedf00dfeed', "
                 "'0123456789abcdef:0123456789abcdef:4026531836:12345:678901', '01234567-12', 1, ?3)");
  sqlite3_stmt* end = db.prepare("UPDATE " + prefix +
                                 "runs SET status = 'completed', result = ?2, finalized_at = ?3, "
                                 "updated_at = ?3, last_event_at = ?3, last_seq = 2 "
                                 "WHERE run_id = ?1 AND status = 'running'");
  sqlite3_stmt* event = db.prepare("INSERT INTO " + prefix +
                                   "run_events (run_id, seq, type, payload, inserted_at, received_at, recorder, "
                                   "peer_uid, peer_pid, effect) VALUES (?1, ?2, ?3, ?4, ?5, ?5, "
                                   "'f00dfeedf00dfeedf00dfeedf00dfeed', 0, 12345, 'applied')");
  // The same order as the load's: starts run ahead of the ends by some hundred runs.
  constexpr std::size_t kAhead = 800;
  const auto begun = Clock::now();
  std::size_t in_batch = 0;
  std::size_t ended = 0;
  const auto count = [&] {
    if (++in_batch < batch) return;
    db.run("COMMIT");
    db.run("BEGIN IMMEDIATE");
    in_batch = 0;
  };
  db.run("BEGIN IMMEDIATE");
  for (std::size_t run = 0; run < runs + kAhead; ++run) {
    if (run < runs) {
      db.step(start, {run_id(run), input_of(run), now});
      db.step(event, {run_id(run), "1", "run_started", started_payload(run), now});
      count();
    }
    if (run >= kAhead && ended < runs) {
      db.step(end, {run_id(ended), result_text(), now});
      db.step(event, {run_id(ended), "2", "run_completed", completed_payload(), now});
      ++ended;
      count();
    }
  }
  db.run("COMMIT");
  const double seconds = seconds_since(begun);
  for (sqlite3_stmt* statement : {start, end, event}) sqlite3_finalize(statement);
  std::printf("{\"events\":%zu,\"seconds\":%.6f,\"events_per_s\":%.1f}\n", 2 * runs, seconds,
              static_cast<double>(2 * runs) / seconds);
  return 0;
}

std::size_t number(const char* text) {
  return static_cast<std::size_t>(std::strtoull(text, nullptr, 10));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "sync" && argc >= 3) return sync_probe(argv[2], argc > 3 ? number(argv[3]) : 1'000);
    if (what == "transactions" && argc == 6) return transactions(argv[2], argv[3], number(argv[4]), number(argv[5]));
    if (what == "sqlite" && argc == 6) return sqlite_batches(argv[2], argv[3], number(argv[4]), number(argv[5]));
    std::fprintf(stderr, "usage: see the head of baselines.cc\n");
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_baselines: %s\n", error.what());
    return 1;
  }
}
