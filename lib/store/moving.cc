#include "store/moving.h"

#include <fmt/format.h>

namespace run_recorder {

Error incomplete_history(std::int64_t last_seq, std::int64_t entries, std::int64_t last) {
  return Error{ErrorKind::kInvalid,
               fmt::format("invalid history: must be the entries 1 to last_seq ({}), has {}, the last with seq {}",
                           last_seq, entries, last)};
}

Error recorder_known(std::string_view recorder) {
  return Error{ErrorKind::kConflict,
               fmt::format("recorder {} is known in this database and has its own dead letters", recorder)};
}

Error letters_missing(std::uint64_t in_ledger, std::uint64_t here) {
  return Error{ErrorKind::kConflict, fmt::format("its ledger counts {} dead letters, {} are here", in_ledger, here)};
}

}  // namespace run_recorder
