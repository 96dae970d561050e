#include "spool/inspect.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "spool/folder.h"
#include "spool/format.h"
#include "spool/recovery.h"
#include "spool/segment_reader.h"

namespace run_recorder {
namespace {

namespace fs = std::filesystem;
using namespace spool_format;

// One segment, opened for reading as far as it is complete.
struct Opened {
  std::unique_ptr<SegmentReader> reader;  // none where there is nothing to read
  std::optional<SegmentHeader> header;
  std::uint64_t file_bytes = 0;
};

// The folder at one moment.
struct Inspection {
  fs::path folder;
  spool_folder::Listing listing;
  std::optional<int> holder;
  std::optional<std::uint64_t> acknowledged;

  bool is_last(std::size_t index) const { return index + 1 == listing.segments.size(); }
  // What the segment may hold. While a process writes to the last one, what is not acknowledged yet is left out.
  std::uint64_t last_seq_of(std::size_t index) const {
    if (!is_last(index)) return listing.segments[index + 1] - 1;
    return holder && acknowledged ? *acknowledged : UINT64_MAX;
  }
};

std::string first_bytes(const fs::path& path) {
  std::string bytes(kSegmentHeaderBytes, '\0');
  const Result<UniqueFd> file = open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  const Result<std::size_t> got = file ? read_at(file->get(), bytes.data(), bytes.size(), 0) : file.error();
  bytes.resize(got ? *got : 0);
  return bytes;
}

// Files with a segment's name and no header, whose number cannot be this spool's, as the daemon's start sees them.
void leave_out_strays(Inspection& inspection) {
  std::uint64_t known = inspection.acknowledged.value_or(0);
  std::vector<std::uint64_t> segments;
  for (const std::uint64_t first_seq : inspection.listing.segments) {
    const bool plausible = spool_folder::is_plausible(first_seq, known) ||
                           parse_segment_header(first_bytes(inspection.folder / segment_name(first_seq))).has_value();
    if (plausible) {
      segments.push_back(first_seq);
      known = std::max(known, first_seq - 1);
    } else {
      inspection.listing.unknown.push_back(segment_name(first_seq));
    }
  }
  inspection.listing.segments = std::move(segments);
}

Result<Inspection> begin_inspection(const fs::path& folder) {
  Inspection found;
  found.folder = folder;
  found.holder = spool_folder::holder(folder);
  const std::optional<Mark> mark = spool_folder::read_mark(folder);  // before the segments: it only grows
  if (mark) found.acknowledged = mark->seq;
  Result<spool_folder::Listing> listing = spool_folder::list(folder);
  if (!listing) return listing.error();
  found.listing = std::move(*listing);
  leave_out_strays(found);
  return found;
}

Result<Opened> open_at(const Inspection& inspection, std::size_t index) {
  const std::uint64_t first_seq = inspection.listing.segments[index];
  const std::string name = segment_name(first_seq);
  Result<UniqueFd> file = open_file(inspection.folder / name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file) return file.error();
  Opened opened;
  struct stat status {};
  if (fstat(file->get(), &status) != 0) return system_error_of("stat " + name);
  opened.file_bytes = static_cast<std::uint64_t>(status.st_size);
  std::string bytes(kSegmentHeaderBytes, '\0');
  const Result<std::size_t> got = read_at(file->get(), bytes.data(), bytes.size(), 0);
  if (!got) return got.error();
  bytes.resize(*got);
  opened.header = parse_segment_header(bytes);
  if (opened.header && opened.header->version > kVersion) {
    return Error{ErrorKind::kInvalid,
                 fmt::format("the segment {} {}", name, spool_folder::newer_version_words(opened.header->version))};
  }
  SegmentReader::Extent extent{first_seq, inspection.last_seq_of(index), opened.file_bytes, std::nullopt};
  if (opened.header) extent.incarnation = opened.header->incarnation;
  opened.reader = std::make_unique<SegmentReader>(std::move(*file), extent);
  return opened;
}

void add_damage(const Inspection& inspection, std::size_t index, const DamagedRange& range, SegmentReport& report,
                std::uint64_t& lost) {
  std::uint64_t missing = range.lost;
  if (range.to_end && !inspection.is_last(index)) return;  // reported as missing up to the next segment
  if (range.to_end && range.first_lost > inspection.acknowledged.value_or(0)) {
    report.problems.push_back(
        fmt::format("bytes from {} on were never acknowledged; the daemon cuts them when it starts", range.from));
    return;
  }
  if (range.to_end) missing = *inspection.acknowledged - range.first_lost + 1;
  lost += missing;
  report.problems.push_back(
      missing == 0 ? fmt::format("bytes {} to {} are damaged, no record is lost", range.from, range.to - 1)
                   : fmt::format("bytes {} to {} are damaged, {} lost", range.from, range.to - 1,
                                 record_words(range.first_lost, missing)));
}

// Reads and counts all records, and reports what is wrong.
Result<void> read_all(const Inspection& inspection, std::size_t index, SegmentReader& reader, SegmentReport& report,
                      std::uint64_t& lost) {
  bool damaged_end = false;
  while (true) {
    const Result<SegmentReader::Step> step = reader.next();
    if (!step) return step.error();
    if (*step == SegmentReader::Step::kEnd) break;
    if (*step == SegmentReader::Step::kDamage) {
      add_damage(inspection, index, reader.damage(), report, lost);
      damaged_end = reader.damage().to_end;
      continue;
    }
    ++report.records;
    report.body_bytes += reader.body().size();
    report.last_seq = reader.seq();
  }
  if (report.incarnation.empty() && reader.incarnation()) report.incarnation = to_hex(*reader.incarnation());
  const std::uint64_t expected_last =
      inspection.is_last(index) ? inspection.acknowledged.value_or(0) : inspection.last_seq_of(index);
  const bool reported = damaged_end && inspection.is_last(index);
  if (report.last_seq < expected_last && !reported) {
    lost += expected_last - report.last_seq;
    report.problems.push_back(
        fmt::format("it is truncated: {} lost", record_words(report.last_seq + 1, expected_last - report.last_seq)));
  }
  return {};
}

Result<SegmentReport> report_segment(const Inspection& inspection, std::size_t index, InspectionDepth depth,
                                     const std::optional<Id>& recorder, std::uint64_t& lost) {
  SegmentReport report;
  report.first_seq = inspection.listing.segments[index];
  report.last_seq = report.first_seq - 1;
  report.name = segment_name(report.first_seq);
  Result<Opened> opened = open_at(inspection, index);
  if (!opened) return opened.error();
  report.file_bytes = opened->file_bytes;
  if (!opened->header) report.problems.push_back(opened->file_bytes == 0 ? "it is empty" : "its header is damaged");
  if (opened->header) report.incarnation = to_hex(opened->header->incarnation);
  if (opened->header && recorder && opened->header->recorder != *recorder) {
    report.problems.push_back("it belongs to the recorder " + to_hex(opened->header->recorder));
    return report;
  }
  if (depth == InspectionDepth::kHeaders && !inspection.is_last(index)) {
    report.last_seq = inspection.last_seq_of(index);
    report.records = report.last_seq - report.first_seq + 1;
    return report;
  }
  const Result<void> read = read_all(inspection, index, *opened->reader, report, lost);
  if (!read) return read.error();
  return report;
}

void add_segment(SpoolReport& report, SegmentReport segment) {
  report.file_bytes += segment.file_bytes;
  report.records += segment.records;
  if (segment.records > 0) {
    if (report.first_seq == 0) report.first_seq = segment.first_seq;
    report.last_seq = segment.last_seq;
    if (report.incarnations.empty() || report.incarnations.back().id != segment.incarnation) {
      report.incarnations.push_back({segment.incarnation, segment.first_seq});
    }
  }
  report.segments.push_back(std::move(segment));
}

void add_set_aside(const fs::path& folder, SpoolReport& report) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().extension() == ".torn") report.set_aside.push_back(entry.path().filename());
  }
  for (const auto& entry : fs::directory_iterator(folder / spool_folder::kSetAside, ignored)) {
    report.set_aside.push_back(fmt::format("{}/{}", spool_folder::kSetAside, entry.path().filename().string()));
  }
  std::sort(report.set_aside.begin(), report.set_aside.end());
}

}  // namespace

bool SpoolReport::is_sound() const {
  const auto has_problem = [](const SegmentReport& segment) { return !segment.problems.empty(); };
  return problems.empty() && std::none_of(segments.begin(), segments.end(), has_problem);
}

Result<SpoolReport> inspect_spool(const fs::path& folder, InspectionDepth depth) {
  const Result<Inspection> found = begin_inspection(folder);
  if (!found) return found.error();
  if (!found->listing.has_identity && found->listing.segments.empty()) {
    return Error{ErrorKind::kInvalid,
                 fmt::format("{} is not a spool: it has no {}", folder.string(), spool_folder::kIdentity)};
  }
  SpoolReport report;
  report.holder = found->holder;
  report.acknowledged = found->acknowledged;
  report.hint = spool_folder::read_hint(folder).text;
  const Result<std::optional<spool_folder::Identity>> identity = spool_folder::read_identity(folder);
  if (!identity && identity.error().kind != ErrorKind::kCorrupt) return identity.error();
  const bool known = identity && *identity;
  const std::optional<Id> origin = known ? std::optional((*identity)->origin) : std::nullopt;
  if (known) report.id = to_hex((*identity)->recorder);
  if (!known) report.problems.push_back(fmt::format("{} cannot be read", spool_folder::kIdentity));
  for (const std::string& name : found->listing.unknown) {
    report.problems.push_back(name + " is not one of the spool's files");
  }
  for (std::size_t i = 0; i < found->listing.segments.size(); ++i) {
    Result<SegmentReport> segment = report_segment(*found, i, depth, origin, report.lost_records);
    // The daemon deletes segments meanwhile.
    if (!segment && segment.error().kind == ErrorKind::kNotFound) continue;
    if (!segment) return segment.error();
    add_segment(report, std::move(*segment));
  }
  if (report.records == 0) {
    report.last_seq =
        found->listing.segments.empty() ? report.acknowledged.value_or(0) : found->listing.segments.back() - 1;
    report.first_seq = report.last_seq + 1;
  }
  add_set_aside(folder, report);
  return report;
}

Result<void> visit_spool(const fs::path& folder, std::uint64_t from_seq, const RecordVisitor& visit) {
  const Result<Inspection> found = begin_inspection(folder);
  if (!found) return found.error();
  for (std::size_t i = 0; i < found->listing.segments.size(); ++i) {
    if (found->last_seq_of(i) < from_seq) continue;
    const Result<Opened> opened = open_at(*found, i);
    if (!opened && opened.error().kind == ErrorKind::kNotFound) continue;
    if (!opened) return opened.error();
    while (true) {
      const Result<SegmentReader::Step> step = opened->reader->next();
      if (!step) return step.error();
      if (*step == SegmentReader::Step::kEnd) break;
      if (*step != SegmentReader::Step::kRecord || opened->reader->seq() < from_seq) continue;
      if (!visit(opened->reader->seq(), opened->reader->body())) return {};
    }
  }
  return {};
}

}  // namespace run_recorder
