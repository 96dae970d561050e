// What open() does before the first record is written: finds the recorder's id and the last durable record, cuts what
// was never acknowledged, and sets aside what is not what was written. Once per open(), with the folder locked.
// Blocking system calls; for one thread at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <utility>
#include <vector>

#include "base/result.h"
#include "spool/folder.h"
#include "spool/format.h"
#include "spool/segment_reader.h"
#include "spool/segment_table.h"
#include "spool/spool.h"

namespace run_recorder {

// Damage that was reported, by segment and byte, so that reading does not report it again.
using ReportedDamage = std::set<std::pair<std::uint64_t, std::uint64_t>>;

struct Recovered {
  spool_folder::Identity identity;
  std::vector<Segment> segments;
  std::uint64_t last_seq = 0;  // of the newest record there is
  std::uint64_t next_seq = 1;  // higher than last_seq + 1 where acknowledged records are lost
  ReportedDamage reported;
};

// Errors: kInvalid (of a newer format version, or nothing there has the recorder's id), and those of folder.h.
Result<Recovered> recover_spool(const std::filesystem::path& folder, SpoolOpening& opening);

// Copies the range into set-aside/; the sentence that reports it.
std::string set_aside_range(const std::filesystem::path& folder, std::uint64_t segment, int fd,
                            const DamagedRange& range);
// "records 5 to 9", "record 5".
std::string record_words(std::uint64_t first, std::uint64_t count);

}  // namespace run_recorder
