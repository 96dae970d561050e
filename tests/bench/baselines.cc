// What the figures stand against: a sync of 4 KiB on the same disk, one transaction per event on PostgreSQL over
// several connections, and the same rows by one plain SQLite connection in batches. Each prints one JSON object.
//
//   bench_baselines sync FOLDER [COUNT]
//   bench_baselines transactions URI PREFIX CONNECTIONS RUNS
//   bench_baselines sqlite FILE PREFIX RUNS BATCH IN_FLIGHT OTHERS [runs.COLUMN=LITERAL | run_events.COLUMN=LITERAL]…
//
// The plain connection writes events in the order of bench_load's 16 connections, IN_FLIGHT runs under way in all and
// OTHERS other events in one run of ten; COLUMN=LITERAL are columns that are the same in every row, as the daemon
// fills them.
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
  return "bench-" + std::to_string(run);
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

// A column that is the same in each row of a table, as SQL.
struct Constant {
  std::string column, literal;
};

struct Shape {
  std::size_t runs = 0, batch = 0, in_flight = 0, others = 0;
  std::vector<Constant> of_runs, of_events;
};

std::string other_payload(std::size_t number) {
  return "{\"stage\":\"" + std::string(60, 'x') + "\",\"done\":" + std::to_string(number) + ",\"total\":20}";
}

class Writer {
 public:
  Writer(Sqlite& db, const std::string& prefix, const Shape& shape) : db_(db), batch_(shape.batch) {
    start_ = db.prepare(insert(prefix + "runs", shape.of_runs,
                               {{"run_id", "?1"},
                                {"status", "'running'"},
                                {"input", "?2"},
                                {"started_at", "?3"},
                                {"inserted_at", "?3"},
                                {"updated_at", "?3"},
                                {"last_event_at", "?3"},
                                {"last_seq", "1"}}));
    end_ = db.prepare(
        "UPDATE " + prefix +
        "runs SET status = 'completed', result = ?2, finalized_at = ?3, updated_at = ?3, last_event_at = ?3, "
        "last_seq = ?4 WHERE run_id = ?1 AND status = 'running'");
    other_ = db.prepare(
        "UPDATE " + prefix +
        "runs SET updated_at = ?2, last_event_at = ?2, last_seq = ?3 WHERE run_id = ?1 AND status = 'running'");
    event_ = db.prepare(insert(prefix + "run_events", shape.of_events,
                               {{"run_id", "?1"},
                                {"seq", "?2"},
                                {"type", "?3"},
                                {"payload", "?4"},
                                {"inserted_at", "?5"},
                                {"received_at", "?5"}}));
    db_.run("BEGIN IMMEDIATE");
  }
  ~Writer() {
    for (sqlite3_stmt* statement : {start_, end_, other_, event_}) sqlite3_finalize(statement);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void start(std::size_t run) {
    db_.step(start_, {run_id(run), input_of(run), kNow});
    event(run, "1", "run_started", started_payload(run));
  }
  void end(std::size_t run, std::size_t seq) {
    db_.step(end_, {run_id(run), result_text(), kNow, std::to_string(seq)});
    event(run, std::to_string(seq), "run_completed", completed_payload());
  }
  void other(std::size_t run, std::size_t number) {
    db_.step(other_, {run_id(run), kNow, std::to_string(number + 1)});
    event(run, std::to_string(number + 1), "progress_report", other_payload(number));
  }
  std::size_t finish() {
    db_.run("COMMIT");
    return events_;
  }

 private:
  static constexpr const char* kNow = "2026-01-02T02:04:05.678000Z";

  static std::string insert(const std::string& table, std::vector<Constant> columns,
                            const std::vector<Constant>& own) {
    columns.insert(columns.end(), own.begin(), own.end());
    std::string names, values;
    for (const Constant& column : columns) {
      names += (names.empty() ? "" : ", ") + column.column;
      values += (values.empty() ? "" : ", ") + column.literal;
    }
    return "INSERT INTO " + table + " (" + names + ") VALUES (" + values + ")";
  }
  void event(std::size_t run, const std::string& seq, const std::string& type, const std::string& payload) {
    db_.step(event_, {run_id(run), seq, type, payload, kNow});
    if (++events_ % batch_ != 0) return;
    db_.run("COMMIT");
    db_.run("BEGIN IMMEDIATE");
  }

  Sqlite& db_;
  const std::size_t batch_;
  std::size_t events_ = 0;
  sqlite3_stmt *start_, *end_, *other_, *event_;
};

// As in bench_load's Script, its connections taking turns step by step.
int sqlite_batches(const std::string& file, const std::string& prefix, const Shape& shape) {
  constexpr std::size_t kConnections = 16;
  constexpr std::size_t kEveryTenth = 10;
  Sqlite db(file);
  Writer writer(db, prefix, shape);
  const std::size_t share = shape.runs / kConnections;
  const std::size_t ahead = shape.in_flight / kConnections;
  const auto has_others = [&](std::size_t run) { return shape.others > 0 && run % kEveryTenth == 0; };
  const auto begun = Clock::now();
  for (std::size_t step = 0; step < share + ahead; ++step) {
    for (std::size_t connection = 0; connection < kConnections; ++connection) {
      const std::size_t first = connection * share;
      if (step >= ahead) writer.end(first + step - ahead, has_others(step - ahead) ? shape.others + 2 : 2);
      if (step < share) writer.start(first + step);
      for (std::size_t k = 1; k <= shape.others; ++k) {
        const std::size_t later = k * ahead / (shape.others + 1);
        if (step < later || step - later >= share || !has_others(step - later)) continue;
        writer.other(first + step - later, k);
      }
    }
  }
  const std::size_t events = writer.finish();
  const double seconds = seconds_since(begun);
  std::printf("{\"events\":%zu,\"seconds\":%.6f,\"events_per_s\":%.1f}\n", events, seconds,
              static_cast<double>(events) / seconds);
  return 0;
}

std::size_t number(const char* text) {
  return static_cast<std::size_t>(std::strtoull(text, nullptr, 10));
}

Shape shape_of(int argc, char** argv) {
  Shape shape;
  shape.runs = number(argv[4]);
  shape.batch = number(argv[5]);
  shape.in_flight = number(argv[6]);
  shape.others = number(argv[7]);
  for (int i = 8; i < argc; ++i) {
    const std::string text = argv[i];
    const std::size_t dot = text.find('.');
    const std::size_t equals = text.find('=');
    if (dot == std::string::npos || equals == std::string::npos || dot > equals)
      throw std::runtime_error("not understood: " + text);
    auto& constants = text.substr(0, dot) == "runs" ? shape.of_runs : shape.of_events;
    constants.push_back({text.substr(dot + 1, equals - dot - 1), text.substr(equals + 1)});
  }
  return shape;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "sync" && argc >= 3) return sync_probe(argv[2], argc > 3 ? number(argv[3]) : 1'000);
    if (what == "transactions" && argc == 6) return transactions(argv[2], argv[3], number(argv[4]), number(argv[5]));
    if (what == "sqlite" && argc >= 8) return sqlite_batches(argv[2], argv[3], shape_of(argc, argv));
    std::fprintf(stderr, "usage: see the head of baselines.cc\n");
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_baselines: %s\n", error.what());
    return 1;
  }
}
