// How far the spool is applied: a range of records for each incarnation that wrote some, what is planned, done and
// stored of it, and the ledger that belongs to these positions. Pure: neither the spool nor the database is asked.
// Not thread-safe: the recorder guards it by its mutex.
//
// In each range: begin ≤ first ≤ done + 1, done ≤ planned, and what is committed goes no further than last. Only
// adopt() moves positions back; it may also move them beyond last, where a copy of this spool went on writing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spool/spool.h"
#include "store/store.h"

namespace run_recorder {

struct IncarnationRange {
  std::string incarnation;
  std::uint64_t begin = 1;   // its first record, as far as that is known
  std::uint64_t first = 1;   // its first record that is kept; last + 1 where none is
  std::uint64_t last = 0;    // the current one's grows: see SpoolProgress::last_of()
  std::uint64_t done = 0;    // applied up to here, or no longer kept
  std::uint64_t stored = 0;  // the position as the database has it; 0: none
};

// What the segments on disk say of incarnations, and what the spool remembers of those whose segments are gone, in
// order; the current one is the last. Remembered numbers are the true beginnings, also where a segment is missing.
std::vector<Incarnation> known_incarnations(const std::vector<Incarnation>& on_disk, std::vector<Incarnation> known);

class SpoolProgress {
 public:
  // known: see known_incarnations(), not empty. first_kept: the oldest record on disk. newest: gives the newest
  // durable record, never a lower one than before.
  SpoolProgress(const std::vector<Incarnation>& known, std::uint64_t first_kept,
                std::function<std::uint64_t()> newest);

  const std::vector<IncarnationRange>& ranges() const { return ranges_; }
  std::uint64_t last_of(std::size_t range) const;
  // How many records are not applied yet.
  std::uint64_t waiting() const;
  // The lowest sequence number not applied yet; one past the end where all are.
  std::uint64_t next_seq() const;

  const Ledger& ledger() const { return ledger_; }
  void set_ledger(const Ledger& ledger) { ledger_ = ledger; }

  // What comes next behind what is planned. Empty (last ≤ from): nothing.
  struct Part {
    std::size_t range = 0;
    std::uint64_t from = 0;  // planned up to here
    std::uint64_t last = 0;
  };
  Part next_part() const;
  // A write of that range, with its incarnation, the position it moves from and the ledger before it: as they are
  // once what is planned is committed.
  BatchWrite next_write(std::size_t range) const;
  // A commit is under way; at most one is at a time.
  void plan(std::size_t range, const BatchWrite& write);
  // The plan failed, or there is none.
  void abandon() { planned_.reset(); }
  // Up to `to` all is committed, with this ledger; a plan of the same is fulfilled.
  void committed(std::size_t range, std::uint64_t to, const Ledger& ledger);
  // The rest of a range is another spool's to apply.
  void leave_rest(std::size_t range);

  // A write that changes nothing: at the newest position there is, where the ledger belongs.
  BatchWrite place() const;
  bool matches(const Checkpoint& checkpoint) const;
  // Goes to where the database is, also back. Afterwards keep_from() says what the spool still has.
  void adopt(const Checkpoint& checkpoint);
  void keep_from(std::uint64_t first_kept);
  // For the first range whose position lies before records that were applied once and are gone from the disk: the
  // write that counts them as applied, which they were.
  std::optional<BatchWrite> next_forgotten() const;
  // That write is committed. How many events it counted.
  std::uint64_t forgotten(const BatchWrite& write);

  // The hint beside the spool, for when the database is away: positions and ledger, in JSON.
  std::string hint(std::string_view recorder) const;
  // origin: whose hint it is where it does not say. Of another id's hint only the positions count. One that is
  // malformed changes nothing.
  void load_hint(const std::string& text, std::string_view recorder, const std::string& origin);

 private:
  struct Planned {
    std::size_t range = 0;
    std::uint64_t to = 0;
    Ledger ledger;
  };
  std::uint64_t planned_of(std::size_t range) const;
  void check(std::size_t range) const;

  std::function<std::uint64_t()> newest_;
  std::vector<IncarnationRange> ranges_;  // in the order of their records; never empty
  Ledger ledger_;
  std::optional<Planned> planned_;
};

}  // namespace run_recorder
