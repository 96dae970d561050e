// The recorder's side of the PostgreSQL adapter: checking in, loading, and the one transaction of a batch.
#include "store/pg_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/json_writer.h"
#include "store/migrations.h"
#include "store/pg_indexes.h"
#include "store/pg_sequences.h"

namespace run_recorder {
namespace {

// Somebody else moved rows in another order or at the same moment, and nothing was written.
bool is_collision(const Error& error) {
  return error.sqlstate == "40P01" || error.sqlstate == "40001";
}

// Entries of runs that the batch does not write: nothing guards them but their keys.
bool has_history_alone(const BatchWrite& batch) {
  std::set<std::string_view> written;
  for (const RunChange& change : batch.runs) written.insert(change.after.run_id);
  return std::any_of(batch.history.begin(), batch.history.end(),
                     [&](const HistoryEntry& entry) { return !written.contains(entry.run_id); });
}

constexpr std::string_view kUniqueViolation = "23505";

// Of an entry or a dead letter, which their sequence gave out: the server names the key in every language. The next
// one may be free, because a statement that fails moves the sequence all the same.
bool is_taken_id(const Error& error) {
  return error.sqlstate == kUniqueViolation && error.message.find("(id)=(") != std::string::npos;
}
constexpr std::size_t kComparedAtOnce = 200;

// The statement behind COPY.
struct PgPrepared : PreparedWrite {
  explicit PgPrepared(PgCommand made) : command(std::move(made)) {}
  const PgCommand command;
};

}  // namespace

Result<std::unique_ptr<Store>> open_pg_store(const StoreOptions& options) {
  if (auto fits = check_table_prefix(options.table_prefix); !fits) return fits.error();
  PgOptions connecting;
  connecting.url = options.url;
  connecting.connect_timeout = options.connect_timeout;
  connecting.deadline = options.deadline;
  connecting.reconnects_at_begin = true;
  auto connection = PgConnection::connect(connecting);
  if (!connection) return connection.error();
  auto schema = read_pg_schema(**connection, options.table_prefix);
  if (!schema) return schema.error();
  if (auto fits = verify(*schema); !fits) return fits.error();
  return std::unique_ptr<Store>(
      std::make_unique<PgStore>(std::move(*connection), std::move(*schema), options.copy_rows));
}

PgStore::PgStore(std::unique_ptr<PgConnection> connection, PgSchema schema, std::size_t copy_rows)
    : connection_(std::move(connection)),
      schema_(std::move(schema)),
      batch_(schema_),
      copy_(schema_),
      moved_run_(insert_runs_sql(schema_, run_columns(), RowSource::kMoved)),
      moved_history_(insert_history_sql(schema_, RowSource::kMoved)),
      copy_rows_(copy_rows),
      may_copy_(PgCopy::possible(schema_)) {}

Result<Checkpoint> PgStore::check_in(const RecorderSelf& self) {
  const PgConnection::Deadline deadline(*connection_);
  const auto age = connection_->exec("SELECT " + age_select(schema_));
  if (!age) return age.error();
  PgFields newest((*age)[0]);
  const std::int64_t version = newest.integer();
  if (auto young = check_age(version, newest.text()); !young) return young.error();
  const auto ledger = connection_->exec(
      fmt::format("INSERT INTO {} AS w (id, host, version, incarnation) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO "
                  "UPDATE SET host = excluded.host, version = excluded.version, incarnation = excluded.incarnation, "
                  "last_seen = now() WHERE w.incarnation IN ('', excluded.incarnation) "
                  "RETURNING applied, duplicate, dead_letters, dead_letters_removed, conflicts",
                  table("recorders")),
      {self.id, self.host, self.version, self.incarnation});
  if (!ledger) return ledger.error();
  Checkpoint checkpoint;
  if (ledger->empty()) {
    auto holder = holder_of(self.id);
    if (!holder) return holder.error();
    checkpoint.holder = std::move(*holder);
    return checkpoint;
  }
  PgFields fields((*ledger)[0]);
  checkpoint.ledger.applied = fields.count();
  checkpoint.ledger.duplicate = fields.count();
  checkpoint.ledger.dead_letters = fields.count();
  checkpoint.ledger.dead_letters_removed = fields.count();
  checkpoint.ledger.conflicts = fields.count();
  const auto positions =
      connection_->exec(fmt::format("SELECT incarnation, applied FROM {} WHERE recorder = $1", table("positions")),
                        {self.positions_of()});
  if (!positions) return positions.error();
  for (const auto& row : *positions) {
    PgFields position(row);
    std::string incarnation = position.text();
    checkpoint.applied.emplace(std::move(incarnation), position.count());
  }
  auto sequences = advance_pg_sequences(*connection_, schema_);
  if (!sequences) return sequences.error();
  checkpoint.sequences = std::move(sequences->advanced);
  checkpoint.sequences.insert(checkpoint.sequences.end(), sequences->denied.begin(), sequences->denied.end());
  return checkpoint;
}

Result<Holder> PgStore::holder_of(const std::string& id) {
  const auto rows = connection_->exec(
      fmt::format("SELECT incarnation, host, last_seen::text, "
                  "greatest(0, floor(extract(epoch FROM now() - last_seen) * 1000))::bigint FROM {} WHERE id = $1",
                  table("recorders")),
      {id});
  if (!rows) return rows.error();
  if (rows->empty()) return Error{ErrorKind::kUnavailable, "the recorder's row was removed meanwhile"};
  PgFields fields((*rows)[0]);
  Holder holder;
  holder.incarnation = fields.text();
  holder.host = fields.text();
  holder.last_seen = fields.text();
  holder.seen_ago = std::chrono::milliseconds(fields.count());
  return holder;
}

Result<bool> PgStore::take_over(const RecorderSelf& self, std::string_view from) {
  const PgConnection::Deadline deadline(*connection_);
  const auto taken = connection_->exec(
      fmt::format("UPDATE {} SET incarnation = $1::text, last_seen = now() WHERE id = $2::text AND incarnation = "
                  "$3::text RETURNING 1",
                  table("recorders")),
      {self.incarnation, self.id, std::string(from)});
  if (!taken) return taken.error();
  return !taken->empty();
}

Result<IndexState> PgStore::indexes() {
  const PgConnection::Deadline deadline(*connection_);
  const auto found = look_at_indexes(*connection_, schema_.prefix);
  if (!found) return found.error();
  IndexState state;
  state.events_unique = found->events_unique;
  if (found->missing.empty()) return state;
  for (const PgIndex& index : found->missing) {
    state.missing += (state.missing.empty() ? "" : ", ") + index.name;
    state.sql += (state.sql.empty() ? "" : "; ") + sql_by_hand(index);
  }
  auto holders = who_holds_up_indexes(*connection_, schema_.prefix);
  if (!holders) return holders.error();
  state.held_up_by = std::move(*holders);
  return state;
}

Result<std::vector<Run>> PgStore::load(std::span<const std::string> run_ids) {
  if (run_ids.empty()) return std::vector<Run>();
  const auto rows = connection_->exec(fmt::format("SELECT {} FROM {} r WHERE r.run_id = ANY (ARRAY(SELECT "
                                                  "jsonb_array_elements_text($1::jsonb)))",
                                                  run_list(schema_, RunParts::kToDecide), table("runs")),
                                      {json_list(run_ids)});
  if (!rows) return rows.error();
  std::vector<Run> runs;
  runs.reserve(rows->size());
  for (const auto& row : *rows) {
    PgFields fields(row);
    runs.push_back(read_run(fields, RunParts::kToDecide));
  }
  return runs;
}

// Some at a time: the server reads each row's texts whole, and each statement has the deadline for itself.
Result<std::vector<SameOutcome>> PgStore::compare_outcomes(std::span<const SaidOutcome> said) {
  std::vector<SameOutcome> same;
  same.reserve(said.size());
  while (!said.empty()) {
    const auto some = said.first(std::min(said.size(), kComparedAtOnce));
    if (const auto compared = compare_some(some, same); !compared) return compared.error();
    said = said.subspan(some.size());
  }
  return same;
}

Result<void> PgStore::compare_some(std::span<const SaidOutcome> said, std::vector<SameOutcome>& same) {
  JsonRecords records;
  for (std::size_t i = 0; i < said.size(); ++i) {
    records.begin();
    records.number("n", static_cast<std::int64_t>(i));
    records.text("i", said[i].run_id);
    records.json("y", said[i].said.result);
    records.json("k", said[i].said.error);
    records.end();
  }
  const auto rows = connection_->exec(
      fmt::format("SELECT c.n, coalesce(r.result::jsonb = c.y, false), coalesce(r.error::jsonb = c.k, false) "
                  "FROM jsonb_to_recordset($1::jsonb) AS c (n bigint, i {}, y jsonb, k jsonb) JOIN {} r ON "
                  "r.run_id = c.i",
                  schema_.column("runs", "run_id").type, table("runs")),
      {std::move(records).take()});
  if (!rows) {
    if (rows.error().kind != ErrorKind::kData || connection_->broken()) return rows.error();
    // A column of type json may hold what jsonb cannot: no event has said that.
    if (said.size() == 1) {
      same.emplace_back();
      return {};
    }
    for (std::size_t i = 0; i < said.size(); ++i) {
      if (const auto compared = compare_some(said.subspan(i, 1), same); !compared) return compared.error();
    }
    return {};
  }
  const std::size_t first = same.size();
  same.resize(first + said.size());
  for (const auto& row : *rows) {
    PgFields fields(row);
    SameOutcome& outcome = same[first + fields.count()];
    outcome.result = fields.boolean();
    outcome.error = fields.boolean();
  }
  return {};
}

Result<std::vector<std::pair<std::string, std::string>>> PgStore::known_events(
    std::span<const std::pair<std::string, std::string>> ids) {
  std::vector<std::pair<std::string, std::string>> known;
  if (ids.empty()) return known;
  JsonRecords wanted;
  for (const auto& [run_id, event_id] : ids) {
    wanted.begin();
    wanted.text("i", run_id);
    wanted.text("e", event_id);
    wanted.end();
  }
  const auto rows = connection_->exec(
      fmt::format("SELECT DISTINCT c.i, c.e FROM jsonb_to_recordset($1::jsonb) AS c (i {}, e {}) JOIN {} h "
                  "ON h.run_id = c.i AND h.event_id = c.e",
                  schema_.column("run_events", "run_id").type, schema_.column("run_events", "event_id").type,
                  table("run_events")),
      {std::move(wanted).take()});
  if (!rows) return rows.error();
  for (const auto& row : *rows) {
    PgFields fields(row);
    std::string run_id = fields.text();
    known.emplace_back(std::move(run_id), fields.text());
  }
  return known;
}

std::unique_ptr<PreparedWrite> PgStore::prepare(const RecorderSelf& self, const BatchWrite& batch) const {
  if (!by_copy(batch)) return nullptr;
  return std::make_unique<PgPrepared>(batch_.write(self, batch, PgBatch::Inserts::kCopied));
}

Result<Committed> PgStore::commit(const RecorderSelf& self, const BatchWrite& batch, const CommitHow& how) {
  const PgConnection::Deadline deadline(*connection_);
  const Result<Committed> written = write_batch(self, batch, how);
  if (written) return written;
  const Error& error = written.error();
  if (is_collision(error) && !connection_->broken()) return Committed::kCollided;
  if (error.sqlstate == kUniqueViolation && !connection_->broken()) return taken_key(error, self, batch);
  return written;
}

// An id that a sequence gave out a second time is nobody's fault in the batch, and is not taken next time.
Result<Committed> PgStore::taken_key(const Error& error, const RecorderSelf& self, const BatchWrite& batch) {
  const auto sequences = advance_pg_sequences(*connection_, schema_);
  if (!sequences) return sequences.error();
  if (!sequences->advanced.empty()) return Committed::kCollided;
  const bool an_id = is_taken_id(error);
  const auto& why = sequences->denied.empty() ? sequences->unseen : sequences->denied;
  if (an_id && !why.empty()) {
    return Error{ErrorKind::kRefused, fmt::format("{} ({})", fmt::join(why, "; "), error.message)};
  }
  // The statement that failed moved the sequence to the highest id itself.
  if (an_id) return Committed::kCollided;
  return raced_or(error, self, batch);
}

Result<Committed> PgStore::write_batch(const RecorderSelf& self, const BatchWrite& batch, const CommitHow& how) {
  if (may_copy_ && by_copy(batch)) {
    const auto copied = write_batch(self, batch, PgBatch::Inserts::kCopied, how);
    if (!copied) return copied.error();
    if (*copied) return **copied;
    may_copy_ = false;  // until the next connection
  }
  const auto written = write_batch(self, batch, PgBatch::Inserts::kHere, how);
  if (!written) return written.error();
  return written->value();
}

Result<std::optional<Committed>> PgStore::write_batch(const RecorderSelf& self, const BatchWrite& batch,
                                                      PgBatch::Inserts inserts, const CommitHow& how) {
  auto transaction = PgTransaction::begin(*connection_);
  if (!transaction) return transaction.error();
  const auto written = write_rows(self, batch, inserts, how);
  if (!written || *written != Committed::kYes) return written;
  if (auto done = transaction->commit(); !done) return done.error();
  return written;
}

Result<bool> PgStore::write_pieces(const RecorderSelf& self, const BatchWrite& batch, PgBatch::Inserts inserts,
                                   const WritePieces& pieces) {
  return batch_.run_pieces(self, batch, inserts, pieces.rows, [&](const PgBatch::Piece& piece) -> Result<bool> {
    const auto written = connection_->exec(piece.command.sql, piece.command.params);
    if (!written) return written.error();
    pieces.rest();
    return static_cast<std::uint64_t>(written->affected_rows()) == piece.rows;
  });
}

Result<std::optional<Committed>> PgStore::write_rows(const RecorderSelf& self, const BatchWrite& batch,
                                                     PgBatch::Inserts inserts, const CommitHow& how) {
  auto changes = PgBatch::Changes::kHere;
  if (how.pieces) {
    changes = PgBatch::Changes::kInPieces;
    const auto as_expected = write_pieces(self, batch, inserts, *how.pieces);
    if (!as_expected) return as_expected.error();
    if (!*as_expected) return std::optional(Committed::kRaced);
  }
  const bool copies = inserts == PgBatch::Inserts::kCopied;
  if (copies) {
    if (const auto copied = copy_.write(*connection_, self, batch, how.pieces); !copied) return copied.error();
  }
  const auto* const ready = copies && !how.pieces ? dynamic_cast<const PgPrepared*>(how.prepared) : nullptr;
  const PgCommand made = ready ? PgCommand() : batch_.write(self, batch, inserts, changes);
  const PgCommand& command = ready ? ready->command : made;
  const auto written = connection_->exec(command.sql, command.params);
  if (!written) return written.error();
  PgFields fields((*written)[0]);
  PgBatch::Counts counts;
  counts.moved = fields.count();
  counts.updated = fields.count();
  counts.beaten = fields.count();
  counts.retried = fields.count();
  counts.inserted = fields.count();
  counts.history = fields.count();
  counts.pruned = fields.count();
  counts.triggers = fields.count();
  counts.held = fields.count();
  counts.updated += fields.count();
  counts.updated += fields.count();
  const std::int64_t version = fields.integer();
  if (auto young = check_age(version, fields.text()); !young) return young.error();
  const PgBatch::Counts expected = PgBatch::expected(batch, inserts, changes);
  if (counts.triggers > 0) return std::optional<Committed>();
  if (counts.moved != expected.moved || counts.held != expected.held) return std::optional(Committed::kMisplaced);
  return std::optional(counts == expected ? Committed::kYes : Committed::kRaced);
}

Result<Committed> PgStore::rehearse(const RecorderSelf& self, std::span<const BatchWrite> batches) {
  const PgConnection::Deadline deadline(*connection_);
  auto transaction = PgTransaction::begin(*connection_);
  if (!transaction) return transaction.error();
  for (const BatchWrite& batch : batches) {
    const auto written = write_rows(self, batch, PgBatch::Inserts::kHere, {});
    if (!written) return written.error();
    if (*written != Committed::kYes) return written->value();
  }
  if (auto looked = connection_->exec_script("SET CONSTRAINTS ALL IMMEDIATE"); !looked) return looked.error();
  return Committed::kYes;
}

Result<pqxx::result> PgStore::exec_giving_ids(const std::string& statement, std::initializer_list<PgParam> params) {
  const std::span<const PgParam> all(params.begin(), params.size());
  auto done = connection_->exec(statement, all);
  if (done || done.error().sqlstate != kUniqueViolation || connection_->broken()) return done;
  const auto sequences = advance_pg_sequences(*connection_, schema_);
  if (!sequences || (sequences->advanced.empty() && !is_taken_id(done.error()))) return done;
  return connection_->exec(statement, all);
}

// A key was taken. Where rows or history moved since they were read, deciding again helps; otherwise the database
// refuses this very data, and would for ever.
Result<Committed> PgStore::raced_or(const Error& error, const RecorderSelf& self, const BatchWrite& batch) {
  const PgCommand command = batch_.moved(self, batch);
  const auto looked = connection_->exec(command.sql, command.params);
  if (!looked) return looked.error();
  PgFields fields((*looked)[0]);
  const bool placed = fields.boolean();
  const bool moved = fields.boolean();
  if (!placed && !batch.incarnation.empty()) return Committed::kMisplaced;
  if (moved || has_history_alone(batch)) return Committed::kRaced;
  return error;
}

}  // namespace run_recorder
