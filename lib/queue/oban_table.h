// Oban's table of jobs in one database, over one connection (contract section 9). For the adapter's own files:
// oban_queue.cc opens one, asks it, and throws it away after any error. It only reads. Blocking; for one thread at a
// time.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/time.h"
#include "queue/queue.h"

namespace run_recorder {

// A row of the table. Times that are infinite or no times at all are left out.
struct ObanJob {
  std::string state;
  std::optional<std::int64_t> attempt;
  std::optional<Timestamp> inserted_at;
  std::optional<Timestamp> attempted_at;  // the node's clock
  std::optional<std::chrono::milliseconds> changed_ago;
};

// What the row says of the execution that is asked for. Attempt numbers come back (from 2.24 a snooze takes the
// attempt back, and the next claim has the number again), and ids do where a table was made anew: the time of the
// claim, and that of the insertion, decide then.
JobAnswer oban_answer(const JobAsked& asked, const ObanJob& job, std::chrono::milliseconds clock_skew);

// How far a standby has come.
struct ObanReplay {
  // Whatever was committed on the primary before this, by its clock, is there; empty: nothing is known.
  std::optional<Timestamp> until;
  Timestamp now{};  // the standby's clock
};

// What one query brought.
struct ObanSnapshot {
  std::unordered_map<std::int64_t, ObanJob> jobs;
  std::string may_hide;              // why jobs may be there that are not shown; empty: all are
  std::optional<ObanReplay> replay;  // empty: this is no standby
};

// The same from all that a query brought, where `id` is asked.job_id as a number. What a reader cannot know, because
// rows may be hidden from it or have not come yet, is kCannotTell: the claim precedes the run's start, so an answer
// holds once the start was replayed.
JobAnswer oban_answer(const JobAsked& asked, std::int64_t id, const ObanSnapshot& snapshot,
                      std::chrono::milliseconds clock_skew);
// Whether such a standby says anything of now.
bool is_current(const ObanReplay& replay);
std::string words_for(const ObanReplay& replay);

class ObanTable {
 public:
  virtual ~ObanTable() = default;
  // The jobs that are there; within the deadline. Without ids it still proves that the table can be read.
  virtual Result<ObanSnapshot> read(std::span<const std::int64_t> job_ids) = 0;
};

// Errors: quoted_table()'s, and the connection's.
Result<std::unique_ptr<ObanTable>> open_oban_in_postgres(const QueueOptions& options);
Result<std::unique_ptr<ObanTable>> open_oban_in_sqlite(const QueueOptions& options);

// "schema.table" or "table" with each part quoted for SQL. kInvalid where a part is empty or there are more.
Result<std::string> quoted_table(std::string_view table);

// Since the time an error entry says ("at"), where it is a time and no later than tomorrow: anything may stand there.
// Never negative.
std::optional<std::chrono::milliseconds> error_age(std::string_view at, Timestamp now);
// The shorter of two ages.
std::optional<std::chrono::milliseconds> latest(std::optional<std::chrono::milliseconds> a,
                                                std::optional<std::chrono::milliseconds> b);

}  // namespace run_recorder
