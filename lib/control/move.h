// Runs on their way from one database to another: a row with its whole history as one JSON object,
// {"run":{…},"events":[…]}, with the members that the control API shows. Calls block on the store.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_text.h"
#include "store/store.h"

namespace run_recorder {

// A page of all runs, oldest first, {"runs":[…],"next":CURSOR or null}: at most limit, fewer where they are large.
Result<JsonText> export_page(Store& store, std::size_t limit, std::string_view cursor);

struct ImportReport {
  std::uint64_t added = 0;
  std::uint64_t same = 0;  // were there already, as they are
  struct Left {
    std::string run_id;
    std::string reason;
  };
  std::vector<Left> left;  // are there already, otherwise; or the database refuses them
  JsonText to_json() const;
};
// Takes {"runs":[…]} as export_page gives it. What is there already is never changed. kInvalid: something is no such
// run, and those before it were taken.
Result<ImportReport> import_runs(Store& store, std::string_view body);

}  // namespace run_recorder
