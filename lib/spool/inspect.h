// Reads a spool beside the daemon that holds it, or without one. Changes nothing and takes no lock. Blocking system
// calls; thread-safe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "spool/spool.h"

namespace run_recorder {

struct SegmentReport {
  std::string name;
  std::string incarnation;       // empty where it cannot be read
  std::uint64_t first_seq = 0;   // as the name says
  std::uint64_t last_seq = 0;    // first_seq - 1 where it holds none
  std::uint64_t records = 0;     // with kRecords those that were read and are whole, else as the numbers say
  std::uint64_t body_bytes = 0;  // of these; 0 without kRecords
  std::uint64_t file_bytes = 0;
  std::vector<std::string> problems;  // one sentence each
};

struct SpoolReport {
  std::string id;                             // the recorder's
  std::optional<int> holder;                  // the process that has it open
  std::optional<std::uint64_t> acknowledged;  // everything up to here was acknowledged, at least
  std::uint64_t first_seq = 0;                // as in SpoolUsage
  std::uint64_t last_seq = 0;
  std::uint64_t records = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t lost_records = 0;  // numbers that should be there and are not; exact with kRecords only
  std::vector<Incarnation> incarnations;
  std::vector<SegmentReport> segments;
  std::vector<std::string> set_aside;  // names of what was set aside or cut earlier
  std::vector<std::string> problems;   // of the folder; those of segments are with them
  std::string hint;                    // what the daemon noted last
  bool is_sound() const;
};

enum class InspectionDepth {
  kHeaders,  // names, headers and sizes: quick; only the last segment is read
  kRecords,  // every byte of every record
};
// kNotFound where there is no such folder, kInvalid where it is no spool or of a newer format, kDenied, kIo.
Result<SpoolReport> inspect_spool(const std::filesystem::path& folder, InspectionDepth depth);

// Calls visit with each whole record from a number on, in order, until it returns false. What is damaged is left out:
// inspect_spool() names it. Records that the daemon is writing at this moment are left out too.
// Errors as those of inspect_spool().
using RecordVisitor = std::function<bool(std::uint64_t seq, std::string_view body)>;
Result<void> visit_spool(const std::filesystem::path& folder, std::uint64_t from_seq, const RecordVisitor& visit);

}  // namespace run_recorder
