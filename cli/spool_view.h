// `run-recorder spool status`, `list`, `records` and `verify`: what lies in the spool's folder, read beside a live
// daemon or without one; nothing is changed. Each returns the exit status: 69 where there is no spool.
#pragma once

#include <cstdint>
#include <string>

namespace run_recorder {

int show_spool(const std::string& path, bool json);
// Its segments.
int list_spool(const std::string& path, bool json);
// The events in it from a sequence number on, at most limit.
int list_spool_records(const std::string& path, std::uint64_t from_seq, std::uint64_t limit, bool json);
// Reads every byte; 1 where something is damaged or missing.
int verify_spool(const std::string& path, bool json);

}  // namespace run_recorder
