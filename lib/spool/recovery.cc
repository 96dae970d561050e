#include "spool/recovery.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <system_error>

#include "spool/folder.h"

namespace run_recorder {
namespace {

namespace fs = std::filesystem;
using namespace spool_format;

struct OpenSegment {
  UniqueFd file;
  std::uint64_t size = 0;
  std::optional<SegmentHeader> header;
};

Result<OpenSegment> open_segment(const fs::path& folder, std::uint64_t first_seq, int flags) {
  Result<UniqueFd> file = open_file(folder / segment_name(first_seq), flags | O_NOFOLLOW);
  if (!file) return file.error();
  struct stat status {};
  if (fstat(file->get(), &status) != 0) return system_error_of("stat " + segment_name(first_seq));
  std::string bytes(kSegmentHeaderBytes, '\0');
  const Result<std::size_t> got = read_at(file->get(), bytes.data(), bytes.size(), 0);
  if (!got) return got.error();
  bytes.resize(*got);
  return OpenSegment{std::move(*file), static_cast<std::uint64_t>(status.st_size), parse_segment_header(bytes)};
}

std::string words_of(const Result<std::string>& kept) {
  return kept ? "kept as " + *kept : "could not be kept (" + kept.error().message + ")";
}

void set_aside(const fs::path& folder, const std::string& name, std::string_view reason, std::string_view words,
               SpoolOpening& opening) {
  const Result<std::string> target = spool_folder::set_aside_file(folder, name, reason);
  opening.set_aside.push_back(
      target ? fmt::format("{} {}; it is set aside as {}", name, words, *target)
             : fmt::format("{} {}; it could not be set aside: {}", name, words, target.error().message));
}

// The recorder's id from a segment, where the identity file does not have it.
std::optional<Id> recorder_from_segments(const fs::path& folder, const std::vector<std::uint64_t>& segments) {
  for (auto seq = segments.rbegin(); seq != segments.rend(); ++seq) {
    const Result<OpenSegment> segment = open_segment(folder, *seq, O_RDONLY);
    if (segment && segment->header) return segment->header->recorder;
  }
  const std::optional<Mark> mark = spool_folder::read_mark(folder);
  return mark ? std::optional<Id>(mark->recorder) : std::nullopt;
}

Result<spool_folder::Identity> find_identity(const fs::path& folder, const spool_folder::Listing& listing,
                                             SpoolOpening& opening) {
  Result<std::optional<spool_folder::Identity>> identity = spool_folder::read_identity(folder);
  if (identity && *identity) return std::move(**identity);
  if (!identity && identity.error().kind != ErrorKind::kCorrupt) return identity.error();
  std::optional<Id> recorder = recorder_from_segments(folder, listing.segments);
  if (recorder) {
    const std::string_view state = identity ? "is missing" : "is damaged";
    if (!identity) {
      set_aside(folder, std::string(spool_folder::kIdentity), "damaged", "is damaged", opening);
    }
    opening.set_aside.push_back(
        fmt::format("{} {}; rewritten with the id in the segments", spool_folder::kIdentity, state));
  } else if (!identity || !listing.segments.empty()) {
    return Error{
        ErrorKind::kInvalid,
        fmt::format("the spool {} cannot be used: neither its {} nor any segment has the recorder's id; restore that "
                    "file from a copy, or move the folder away",
                    folder.string(), spool_folder::kIdentity)};
  } else {
    recorder = random_id();
    opening.created = true;
  }
  spool_folder::Identity made;
  made.origin = made.recorder = *recorder;
  const Result<void> written = spool_folder::write_identity(folder, made);
  if (!written) return written.error();
  return made;
}

// A segment whose header cannot be read: its incarnation from the first of its groups that can.
Result<std::optional<Segment>> recover_header(const fs::path& folder, std::uint64_t first_seq, OpenSegment& open,
                                              SpoolOpening& opening) {
  const std::string name = segment_name(first_seq);
  Segment segment;
  segment.first_seq = first_seq;
  segment.end = open.size;
  SegmentReader reader(UniqueFd(dup(open.file.get())), {first_seq, UINT64_MAX, open.size, std::nullopt});
  while (!reader.incarnation()) {
    const Result<SegmentReader::Step> step = reader.next();
    if (!step) return step.error();
    if (*step == SegmentReader::Step::kEnd) return std::optional<Segment>();
  }
  segment.incarnation = *reader.incarnation();
  const Result<std::string> kept = spool_folder::keep_bytes(
      folder, open.file.get(), 0, kSegmentHeaderBytes, fmt::format("{}/{}.0.damaged", spool_folder::kSetAside, name));
  opening.set_aside.push_back(
      fmt::format("{}: damaged header, its records are read without it; the bytes are {}", name, words_of(kept)));
  return std::optional<Segment>(segment);
}

// Empty where the file is none of this spool's segments, or nothing can be read from it: it is set aside then. That
// it was begun says that everything before its first record was acknowledged.
Result<std::optional<Segment>> examine(const fs::path& folder, const Id& recorder, std::uint64_t first_seq,
                                       std::uint64_t& acknowledged, SpoolOpening& opening) {
  const std::string name = segment_name(first_seq);
  std::error_code ignored;
  if (!fs::is_regular_file(fs::symlink_status(folder / name, ignored))) {
    set_aside(folder, name, "foreign", "is not a regular file", opening);
    return std::optional<Segment>();
  }
  Result<OpenSegment> open = open_segment(folder, first_seq, O_RDONLY);
  if (!open) return open.error();
  if (open->header && open->header->version > kVersion) {
    return Error{ErrorKind::kInvalid, fmt::format("the segment {} {}", (folder / name).string(),
                                                  spool_folder::newer_version_words(open->header->version))};
  }
  const auto aside = [&](std::string_view reason, const std::string& words) {
    set_aside(folder, name, reason, words, opening);
    return std::optional<Segment>();
  };
  // A name alone is trusted only where its number is plausible: else a stray file would turn all numbers up to its
  // own into lost events.
  const bool plausible = spool_folder::is_plausible(first_seq, acknowledged);
  const std::string_view doubt = plausible ? "" : ", and its number is too high to be this spool's";
  if (!open->header && plausible) acknowledged = std::max(acknowledged, first_seq - 1);
  if (open->size == 0) return aside("empty", fmt::format("is empty{}", doubt));
  if (open->size < kSegmentHeaderBytes) {
    return aside("short", fmt::format("has only {} bytes{}", open->size, doubt));
  }
  if (!open->header && !plausible) return aside("foreign", fmt::format("has no readable header{}", doubt));
  if (!open->header) {
    Result<std::optional<Segment>> recovered = recover_header(folder, first_seq, *open, opening);
    if (recovered && !*recovered) return aside("damaged", "has no readable header and no valid record");
    return recovered;
  }
  if (open->header->recorder != recorder) {
    return aside("foreign", "belongs to the recorder " + to_hex(open->header->recorder));
  }
  if (open->header->first_seq != first_seq) {
    return aside("misnamed", fmt::format("begins with record {}, unlike its name", open->header->first_seq));
  }
  acknowledged = std::max(acknowledged, first_seq - 1);
  Segment segment;
  segment.first_seq = first_seq;
  segment.incarnation = open->header->incarnation;
  segment.end = open->size;
  return std::optional<Segment>(segment);
}

struct Finding {
  DamagedRange range;
  std::uint64_t records_end = 0;  // behind the last valid record before it
};

// What reading all of the last segment found.
struct LastScan {
  std::uint64_t end = kSegmentHeaderBytes;  // behind the last valid record
  std::uint64_t last_seq = 0;
  std::uint64_t last_group = 0;
  std::vector<Finding> findings;
};

Result<LastScan> scan(SegmentReader& reader, std::uint64_t first_seq) {
  LastScan found;
  found.last_seq = first_seq - 1;
  while (true) {
    const Result<SegmentReader::Step> step = reader.next();
    if (!step) return step.error();
    switch (*step) {
      case SegmentReader::Step::kRecord:
        found.end = reader.offset();
        found.last_seq = reader.seq();
        break;
      case SegmentReader::Step::kDamage:
        found.findings.push_back({reader.damage(), found.end});
        break;
      case SegmentReader::Step::kEnd:
        found.last_group = reader.last_group_offset();
        return found;
    }
  }
}

void cut_tail(const fs::path& folder, const std::string& name, int fd, std::uint64_t from, std::uint64_t size,
              SpoolOpening& opening) {
  const Result<std::uint64_t> data_end = end_of_data(fd, from, size);
  const std::uint64_t torn = data_end ? *data_end - from : size - from;
  if (torn > 0) {
    opening.torn_bytes += torn;
    const Result<std::string> kept = spool_folder::keep_bytes(folder, fd, from, from + torn, name + ".torn");
    opening.set_aside.push_back(
        fmt::format("{}: {} bytes from {} on were never acknowledged and are cut; they are {}", name, torn, from,
                    words_of(kept)));
    if (!kept) return;  // they stay where they are; readers stop before them
  }
  if (from < size && ftruncate(fd, static_cast<off_t>(from)) != 0) return;  // readers stop before it anyway
}

// Tells what was torn from what was damaged. A group is written only when the one before it was synced, so whatever
// is wrong before the last group was acknowledged once; and so was all that the mark covers.
Result<void> recover_last(const fs::path& folder, std::uint64_t acknowledged, Segment& segment, SpoolOpening& opening,
                          ReportedDamage& reported) {
  Result<OpenSegment> open = open_segment(folder, segment.first_seq, O_RDWR);
  if (!open) return open.error();
  SegmentReader reader(UniqueFd(dup(open->file.get())),
                       {segment.first_seq, UINT64_MAX, open->size, segment.incarnation});
  const Result<LastScan> found = scan(reader, segment.first_seq);
  if (!found) return found.error();
  segment.end = found->end;
  segment.last_seq = found->last_seq;
  bool damaged_end = false;
  for (const auto& [range, records_end] : found->findings) {
    const bool before_last_group = range.from < found->last_group;
    if (!before_last_group && range.first_lost > acknowledged) {
      segment.end = records_end;
      segment.last_seq = range.first_lost - 1;
      damaged_end = false;
      break;
    }
    opening.set_aside.push_back(set_aside_range(folder, segment.first_seq, open->file.get(), range));
    reported.insert({segment.first_seq, range.from});
    if (!range.to_end) opening.damaged_records += range.lost;
    damaged_end = range.to_end;
  }
  // Where acknowledged records are missing at the end, nothing there is merely torn.
  if (!damaged_end && segment.last_seq >= acknowledged) {
    cut_tail(folder, segment_name(segment.first_seq), open->file.get(), segment.end, open->size, opening);
  }
  // Records that were written but not synced before a kill are read from now on, so they have to stay.
  if (fsync(open->file.get()) != 0) return system_error_of("sync " + segment_name(segment.first_seq));
  return {};
}

// The numbers of the segments before the last, as their successors imply them: what is missing is found on reading.
void number_older(std::vector<Segment>& segments) {
  for (std::size_t i = 0; i + 1 < segments.size(); ++i) segments[i].last_seq = segments[i + 1].first_seq - 1;
}

void name_unknown(const spool_folder::Listing& listing, SpoolOpening& opening) {
  for (const std::string& name : listing.unknown) {
    opening.set_aside.push_back(name + " is not one of the spool's files; it is left where it is");
  }
}

}  // namespace

std::string record_words(std::uint64_t first, std::uint64_t count) {
  if (count == 1) return fmt::format("record {}", first);
  return fmt::format("records {} to {}", first, first + count - 1);
}

std::string set_aside_range(const fs::path& folder, std::uint64_t segment, int fd, const DamagedRange& range) {
  const std::string name = segment_name(segment);
  std::string lost = "no record is among them";
  if (range.lost > 0) lost = record_words(range.first_lost, range.lost) + " cannot be read";
  if (range.from == range.to) return fmt::format("{}: {} at byte {}", name, lost, range.from);
  std::uint64_t to = range.to;
  if (range.to_end) {
    const Result<std::uint64_t> data_end = end_of_data(fd, range.from, range.to);
    if (data_end) to = *data_end;  // without what was preallocated
  }
  const Result<std::string> kept = spool_folder::keep_bytes(
      folder, fd, range.from, to, fmt::format("{}/{}.{}.damaged", spool_folder::kSetAside, name, range.from));
  return fmt::format("{}: bytes {} to {} are damaged, {}; the bytes are {}", name, range.from, to - 1, lost,
                     words_of(kept));
}

namespace {

// A copy is made file by file, and has the mark from later than the segments.
std::string missing_words(const fs::path& folder, const Recovered& recovered, std::uint64_t count) {
  const std::string records = record_words(recovered.last_seq + 1, count);
  const std::optional<spool_folder::Place>& place = recovered.identity.place;
  if (place && spool_folder::is_other_folder(*place, spool_folder::place_of(folder))) {
    return records + " came too late for this copy of a spool; the original has acknowledged them";
  }
  return records + (count == 1 ? " was" : " were") + " acknowledged once and cannot be found any more";
}

}  // namespace

Result<Recovered> recover_spool(const fs::path& folder, SpoolOpening& opening) {
  const Result<spool_folder::Listing> listing = spool_folder::list(folder);
  if (!listing) return listing.error();
  Result<spool_folder::Identity> identity = find_identity(folder, *listing, opening);
  if (!identity) return identity.error();
  name_unknown(*listing, opening);
  Recovered recovered;
  recovered.identity = std::move(*identity);
  const Id& origin = recovered.identity.origin;
  const std::optional<Mark> mark = spool_folder::read_mark(folder);
  std::uint64_t acknowledged = mark && mark->recorder == origin ? mark->seq : 0;
  for (const std::uint64_t first_seq : listing->segments) {
    const Result<std::optional<Segment>> segment = examine(folder, origin, first_seq, acknowledged, opening);
    if (!segment) return segment.error();
    if (*segment) recovered.segments.push_back(**segment);
  }
  number_older(recovered.segments);
  if (!recovered.segments.empty()) {
    Segment& last = recovered.segments.back();
    const Result<void> done = recover_last(folder, acknowledged, last, opening, recovered.reported);
    if (!done) return done.error();
    recovered.last_seq = last.last_seq;
  }
  recovered.next_seq = std::max(recovered.last_seq, acknowledged) + 1;
  const std::uint64_t lost = acknowledged > recovered.last_seq ? acknowledged - recovered.last_seq : 0;
  if (lost > 0 && !recovered.segments.empty()) {
    opening.damaged_records += lost;
    opening.set_aside.push_back(missing_words(folder, recovered, lost));
  } else if (lost > 0) {
    opening.set_aside.push_back(
        fmt::format("no segment is left, but records up to {} were acknowledged", acknowledged));
    recovered.last_seq = acknowledged;
  }
  return recovered;
}

}  // namespace run_recorder
