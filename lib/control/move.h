// All that is worth keeping on its way from one database to another, as lines of JSON, each of bounded size:
//   {"export":{"format":2,"version":…,"runs_about":…}}  the first line; how many runs there were a while ago, or null
//   {"recorder":{…,"positions":{…}}}                 a recorder's positions: import it when all others are in
//   {"pruned":[{"run_id":…,"pruned_at":…},…]}        ids of removed runs that are remembered
//   {"reconciliation":{…}}, {"dead_letter":{…}}
//   {"run":{…},"events":[…]}                         a run with its history, as the control API shows them
//   {"run":{…},"events":[…],"more":true}             a large one: its first part, then its others:
//   {"run_id":…,"events":[…],"more":true}            ("more" is missing in the last part)
//   {"run_id":…,"withdrawn":true}                    it was removed meanwhile
//   {"end":true}                                     the last line
// Calls block on the store and are for its thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_text.h"
#include "store/store.h"

namespace run_recorder {

inline constexpr std::int64_t kExportFormat = 2;  // what is written; older ones are read too

// A page of these lines, {"lines":[…],"next":CURSOR or null}: at most limit, fewer where they are large.
Result<JsonText> export_page(Store& store, std::size_t limit, std::string_view cursor,
                             std::optional<std::uint64_t> runs_about);

struct ImportReport {
  enum class Outcome {
    kImported,
    kPresent,  // it was there already, as it is
    kKept,     // a part of a large run: the row is made by its last one
    kRefused,
    kPassed,  // a line that holds no row
  };
  struct Line {
    std::uint64_t number = 0;  // from 1, blank ones count
    std::string_view kind;     // run, pruned, reconciliation, dead_letter, recorder; empty where it is none
    std::string run_id;
    Outcome outcome = Outcome::kRefused;
    std::string reason;  // of what was refused
  };
  std::vector<Line> lines;          // in their order; those behind a stop are missing
  std::optional<Error> stopped_by;  // the database went away
  JsonText to_json() const;
};
std::string_view to_string(ImportReport::Outcome outcome);

// Takes lines as export_page gives them. What is there already is never changed. A large run comes in parts by
// {"run_id":…,"events":[…]}, with its row and the last of them as {"run":{…},"events":[…]}. Up to 1,000 runs, or 4
// MiB of them, are one transaction; one that is refused costs only itself. Any other line is a transaction of its
// own.
ImportReport import_lines(Store& store, std::string_view body);

}  // namespace run_recorder
