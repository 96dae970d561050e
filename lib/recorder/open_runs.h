// The runs under way that the recorder wrote, in 12 bytes each, so that an event of one of half a million needs no
// look into the database first: what deciding their next event takes of a plain running row. A guess, as RowCache's:
// a run is found by 44 bits of a hash, and every write made from it is guarded by last_seq and by the row still being
// a running one. For one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "run/run.h"

namespace run_recorder {

class OpenRuns {
 public:
  explicit OpenRuns(std::size_t max_runs) : max_runs_(max_runs) {}

  struct OpenRun {
    std::string_view council;  // until the next put()
    Timestamp started_at{};    // to a hundredth of a second
    std::int64_t last_seq = 0;
    bool has_job = false;
  };
  std::optional<OpenRun> find(std::string_view run_id) const;
  // Remembers the row, or forgets it where it is none that can be: running, started, never stuck, nothing of an
  // outcome. Where there is no room another run is forgotten.
  void put(const Run& row);
  void erase(std::string_view run_id);
  void clear();
  std::size_t size() const { return size_; }

 private:
  struct Entry {
    std::uint32_t tag = 0;  // of the run's id, never 0; 0: an empty place
    std::uint32_t started = 0;
    std::uint16_t last_seq = 0;
    std::uint16_t council_and_job = 0;  // the council's place, behind whether it has a job

    std::size_t council() const { return council_and_job >> 1U; }
    bool has_job() const { return (council_and_job & 1U) != 0; }
  };
  static_assert(sizeof(Entry) == 12);
  // Open addressing with linear probing. Many small tables, so that growing needs room for one of them only.
  struct Shard {
    std::vector<Entry> entries;
    std::size_t size = 0;

    std::size_t home(std::uint32_t tag) const { return (std::uint64_t{tag} * entries.size()) >> 32U; }
    // Where the tag is, or the empty place where it would be. Only where there is one.
    std::size_t place(std::uint32_t tag) const;
    const Entry* find(std::uint32_t tag) const;
    void grow();
    void erase(std::size_t at);
  };
  struct Council {
    std::string name;
    std::size_t runs = 0;
  };
  static constexpr std::size_t kShards = 4'096;
  static constexpr std::size_t kCouncils = 4'096;

  struct Key {
    std::size_t shard;
    std::uint32_t tag;
  };
  static Key key_of(std::string_view run_id);
  // Counts one more run of it. Empty: there is no room for its name.
  std::optional<std::size_t> hold_council(const std::string& name);
  std::optional<std::uint32_t> started_units(Timestamp started_at);
  void let_go(std::size_t council) { --councils_[council].runs; }

  const std::size_t max_runs_;
  std::size_t size_ = 0;
  std::optional<Timestamp> origin_;  // what starts are counted from
  std::array<Shard, kShards> shards_;
  std::vector<Council> councils_;
  std::unordered_map<std::string, std::size_t> council_places_;
};

}  // namespace run_recorder
