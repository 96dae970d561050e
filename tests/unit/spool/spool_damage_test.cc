// What open() and read() make of folders that a loss of power, a bad disk or a stray hand left behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "spool/format.h"
#include "spool/inspect.h"
#include "spool/spool.h"
#include "spool_fixture.h"

namespace run_recorder {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// A segment of three groups, as it was at some moments, and the marks of these moments.
struct Written {
  SpoolOptions options;
  std::string name;                  // of the segment
  std::vector<std::string> segment;  // after each group, without what was preallocated
  std::vector<std::string> mark;     // after each group
  std::vector<std::uint64_t> last;   // after each group

  fs::path segment_path() const { return options.path / name; }
};

// One opening, one segment.
Written write_one_segment(const fs::path& path, const std::vector<std::uint64_t>& counts) {
  Written written;
  written.options = options_for(path);
  const Opened opened = open_spool(written.options);
  for (const std::uint64_t count : counts) {
    append_group(*opened.spool, count);
    written.name = segment_files(path).back().filename().string();
    std::string bytes = bytes_of(written.segment_path());
    bytes.resize(bytes.find_last_not_of('\0') + 1);
    written.segment.push_back(bytes);
    written.mark.push_back(bytes_of(path / "synced"));
    written.last.push_back(opened.spool->usage().last_seq);
  }
  return written;
}

// Opens, and checks what must hold whatever happened: all that is read is what was written, in order; the next record
// gets a new number and is read; opening once more finds nothing new to cut.
struct Outcome {
  SpoolOpening opening;
  Reading reading;
  std::uint64_t next_seq = 0;
};

Outcome recover(const SpoolOptions& options) {
  Outcome outcome;
  {
    Opened opened = open_spool(options);
    if (!opened.spool) return outcome;
    outcome.opening = opened.opening;
    outcome.reading = read_from(*opened.spool, 1);
    outcome.next_seq = append_one(*opened.spool);
    const Reading behind = read_from(*opened.spool, outcome.next_seq);
    EXPECT_THAT(behind.seqs, ElementsAre(outcome.next_seq));
    EXPECT_THAT(behind.damage, IsEmpty());
  }
  const Opened again = open_spool(options);
  EXPECT_EQ(again.opening.torn_bytes, 0U);
  EXPECT_EQ(again.opening.damaged_records, 0U);
  std::vector<std::uint64_t> all = outcome.reading.seqs;
  all.push_back(outcome.next_seq);
  EXPECT_EQ(read_from(*again.spool, 1).seqs, all);
  return outcome;
}

TEST(SpoolTail, IsCutWhereverItIsTorn) {
  const QuickFolder folder;
  const Written written = write_one_segment(folder.path() / "spool", {3, 5, 4});
  copy_folder(written.options.path, folder.path() / "origin");
  const std::string& before = written.segment[1];
  const std::string& whole = written.segment[2];
  for (const bool preallocated : {false, true}) {
    for (std::size_t cut = before.size(); cut <= whole.size(); ++cut) {
      SCOPED_TRACE(cut);
      copy_folder(folder.path() / "origin", written.options.path);
      write_bytes(written.segment_path(), whole.substr(0, cut) + std::string(preallocated ? 5000 : 0, '\0'));
      write_bytes(written.options.path / "synced", written.mark[1]);
      const Outcome outcome = recover(written.options);
      EXPECT_EQ(outcome.opening.damaged_records, 0U);
      EXPECT_THAT(outcome.reading.damage, IsEmpty());
      EXPECT_EQ(outcome.reading.seqs, range(1, outcome.reading.seqs.size()));
      EXPECT_GE(outcome.reading.seqs.size(), written.last[1]);
      EXPECT_EQ(outcome.reading.seqs.size() == written.last[2], cut == whole.size());
      EXPECT_EQ(outcome.next_seq, outcome.reading.seqs.size() + 1);
      EXPECT_EQ(outcome.opening.torn_bytes > 0, !outcome.opening.set_aside.empty());
      EXPECT_LE(outcome.opening.torn_bytes, cut - before.size());
    }
  }
}

TEST(SpoolTail, IsCutWhicheverSectorsWereLost) {
  const QuickFolder folder;
  const Written written = write_one_segment(folder.path() / "spool", {3, 40});
  copy_folder(written.options.path, folder.path() / "origin");
  const std::string& before = written.segment[0];
  const std::string& whole = written.segment[1];
  constexpr std::size_t kSector = 512;
  const std::size_t sectors = whole.size() / kSector + 1;
  ASSERT_GE(sectors, 4U);
  for (std::size_t lost = 1; lost < (1U << std::min<std::size_t>(sectors, 6)); ++lost) {
    SCOPED_TRACE(lost);
    std::string bytes = whole;
    for (std::size_t at = before.size(); at < bytes.size(); ++at) {
      if ((lost >> (at / kSector) & 1) != 0) bytes[at] = '\0';
    }
    copy_folder(folder.path() / "origin", written.options.path);
    write_bytes(written.segment_path(), bytes);
    write_bytes(written.options.path / "synced", written.mark[0]);
    const Outcome outcome = recover(written.options);
    EXPECT_EQ(outcome.opening.damaged_records, 0U);
    EXPECT_EQ(outcome.reading.seqs, range(1, outcome.reading.seqs.size()));
    EXPECT_GE(outcome.reading.seqs.size(), written.last[0]);
    EXPECT_EQ(outcome.next_seq, outcome.reading.seqs.size() + 1);
  }
}

TEST(SpoolTail, TornBytesAreKeptBeside) {
  const QuickFolder folder;
  const Written written = write_one_segment(folder.path() / "spool", {2, 2});
  const std::string torn = written.segment[1].substr(written.segment[0].size(), 30);
  write_bytes(written.segment_path(), written.segment[0] + torn);
  write_bytes(written.options.path / "synced", written.mark[0]);
  const Opened opened = open_spool(written.options);
  EXPECT_EQ(opened.opening.torn_bytes, 30U);
  EXPECT_THAT(opened.opening.set_aside, ElementsAre(HasSubstr(written.name + ".torn")));
  EXPECT_EQ(bytes_of(written.options.path / (written.name + ".torn")), torn);
  EXPECT_EQ(bytes_of(written.segment_path()), written.segment[0]);
}

TEST(SpoolTail, LossOfAcknowledgedRecordsIsDamage) {
  const QuickFolder folder;
  const Written written = write_one_segment(folder.path() / "spool", {3, 5, 4});
  copy_folder(written.options.path, folder.path() / "origin");
  const std::string& whole = written.segment[2];
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    SCOPED_TRACE(cut);
    copy_folder(folder.path() / "origin", written.options.path);
    write_bytes(written.segment_path(), whole.substr(0, cut));
    const Outcome outcome = recover(written.options);
    EXPECT_EQ(outcome.opening.torn_bytes, 0U);
    EXPECT_EQ(outcome.reading.seqs, range(1, outcome.reading.seqs.size()));
    EXPECT_FALSE(outcome.opening.set_aside.empty());
    EXPECT_EQ(outcome.next_seq, 13U);
    // A file with records says how many are lost; one without any is set aside, and its successor begins behind it.
    if (!outcome.reading.seqs.empty()) {
      EXPECT_EQ(outcome.opening.damaged_records, 12 - outcome.reading.seqs.size());
    }
  }
}

// Which record stands at a byte of the segment, 0 where none does.
std::uint64_t record_at(const std::vector<std::uint64_t>& counts, std::size_t offset) {
  std::uint64_t seq = 0;
  std::size_t at = spool_format::kSegmentHeaderBytes;
  for (const std::uint64_t count : counts) {
    at += spool_format::kGroupHeaderBytes;
    if (offset < at) return 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      at += spool_format::kRecordHeaderBytes + body_of(++seq).size();
      if (offset < at) return seq;
    }
  }
  return 0;
}

TEST(SpoolDamage, AFlippedBitCostsAtMostItsRecordAndIsReported) {
  const QuickFolder folder;
  const std::vector<std::uint64_t> counts = {3, 5, 4};
  const Written written = write_one_segment(folder.path() / "spool", counts);
  copy_folder(written.options.path, folder.path() / "origin");
  const std::string& whole = written.segment[2];
  for (const bool is_last : {true, false}) {
    for (std::size_t at = 0; at < whole.size(); ++at) {
      SCOPED_TRACE(at);
      copy_folder(folder.path() / "origin", written.options.path);
      if (!is_last) append_group(*open_spool(written.options).spool, 2);
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << at % 8));
      write_bytes(written.segment_path(), bytes);
      const Result<SpoolReport> report = inspect_spool(written.options.path, InspectionDepth::kRecords);
      const Outcome outcome = recover(written.options);
      std::vector<std::uint64_t> wanted = range(1, is_last ? 12 : 14);
      const std::uint64_t hit = record_at(counts, at);
      std::erase(wanted, hit);
      EXPECT_EQ(outcome.reading.seqs, wanted);
      EXPECT_EQ(outcome.opening.torn_bytes, 0U);
      EXPECT_EQ(outcome.opening.damaged_records, is_last && hit > 0 ? 1U : 0U);
      const std::string said = joined(outcome.opening.set_aside) + joined(outcome.reading.damage);
      EXPECT_THAT(said, HasSubstr(written.name));
      if (hit > 0) {
        EXPECT_THAT(said, HasSubstr("record " + std::to_string(hit)));
      }
      // The inspector sees the same without changing anything.
      ASSERT_TRUE(report);
      EXPECT_FALSE(report->is_sound());
      EXPECT_EQ(report->lost_records, hit > 0 ? 1U : 0U);
      EXPECT_EQ(report->records, wanted.size());
    }
  }
}

TEST(SpoolDamage, IsSetAsideAndReportedOnce) {
  const QuickFolder folder;
  Written written = write_one_segment(folder.path() / "spool", {3, 5});
  append_group(*open_spool(written.options).spool, 2);
  std::string bytes = written.segment[1];
  bytes[bytes.size() / 2] ^= 4;
  write_bytes(written.segment_path(), bytes);
  const Opened opened = open_spool(written.options);
  EXPECT_THAT(opened.opening.set_aside, IsEmpty());
  const Reading first = read_from(*opened.spool, 1);
  EXPECT_THAT(first.damage, ElementsAre(HasSubstr("set-aside/" + written.name)));
  EXPECT_THAT(read_from(*opened.spool, 1).damage, IsEmpty());
  EXPECT_EQ(std::distance(fs::directory_iterator(written.options.path / "set-aside"), {}), 1);
  // Who reads from behind it is not bothered.
  EXPECT_THAT(read_from(*open_spool(options_for(written.options.path / "none")).spool, 1).damage, IsEmpty());
}

// Several small segments, the spool closed.
SpoolOptions write_segments(const fs::path& path, std::size_t segments) {
  SpoolOptions options = options_for(path);
  options.segment_bytes = 1;
  const Opened opened = open_spool(options);
  while (opened.spool->usage().segments < segments) append_group(*opened.spool, 100);
  append_group(*opened.spool, 1);
  return options;
}

std::uint64_t first_of(const fs::path& segment) {
  return *spool_format::parse_segment_name(segment.filename().string());
}

TEST(SpoolDamage, ALostPageCostsItsRecordsOnly) {
  const QuickFolder folder;
  const SpoolOptions options = write_segments(folder.path() / "spool", 3);
  const fs::path victim = segment_files(options.path)[1];
  std::string bytes = bytes_of(victim);
  bytes.replace(8192, 4096, std::string(4096, '\0'));
  write_bytes(victim, bytes);
  const Outcome outcome = recover(options);
  const std::uint64_t lost = outcome.next_seq - 1 - outcome.reading.seqs.size();
  EXPECT_GT(lost, 20U);
  EXPECT_LT(lost, 120U);
  EXPECT_THAT(outcome.reading.damage, SizeIs(1));
  EXPECT_EQ(inspect_spool(options.path, InspectionDepth::kRecords)->lost_records, lost);
}

TEST(SpoolDamage, ATruncatedOlderSegmentLosesItsEndOnly) {
  const QuickFolder folder;
  const SpoolOptions options = write_segments(folder.path() / "spool", 3);
  const std::vector<fs::path> files = segment_files(options.path);
  fs::resize_file(files[0], 30'000);
  const Outcome outcome = recover(options);
  const std::uint64_t second = first_of(files[1]);
  ASSERT_THAT(outcome.reading.seqs, Contains(second));
  EXPECT_EQ(outcome.reading.seqs.front(), 1U);
  const auto at_second = std::find(outcome.reading.seqs.begin(), outcome.reading.seqs.end(), second);
  const std::uint64_t before = *std::prev(at_second);
  EXPECT_LT(before, second - 1);
  EXPECT_THAT(joined(outcome.reading.damage),
              HasSubstr("records " + std::to_string(before + 1) + " to " + std::to_string(second - 1)));
  EXPECT_EQ(outcome.reading.seqs.back(), outcome.next_seq - 1);
}

TEST(SpoolDamage, AMissingAndAnEmptySegmentAreSaid) {
  for (const bool empty : {false, true}) {
    const QuickFolder folder;
    const SpoolOptions options = write_segments(folder.path() / "spool", 4);
    const std::vector<fs::path> files = segment_files(options.path);
    if (empty) fs::resize_file(files[1], 0);
    if (!empty) fs::remove(files[1]);
    const Outcome outcome = recover(options);
    std::vector<std::uint64_t> wanted = range(1, first_of(files[1]) - 1);
    for (const std::uint64_t seq : range(first_of(files[2]), outcome.next_seq - 1)) wanted.push_back(seq);
    EXPECT_EQ(outcome.reading.seqs, wanted);
    EXPECT_THAT(outcome.reading.damage, ElementsAre(HasSubstr(std::to_string(first_of(files[1])) + " to " +
                                                              std::to_string(first_of(files[2]) - 1))));
    if (empty) {
      EXPECT_THAT(joined(outcome.opening.set_aside), HasSubstr(".empty"));
    }
  }
}

TEST(SpoolDamage, AnEmptyLastSegmentKeepsTheNumbers) {
  const QuickFolder folder;
  const SpoolOptions options = write_segments(folder.path() / "spool", 3);
  const fs::path last = segment_files(options.path).back();
  fs::resize_file(last, 0);
  fs::remove(options.path / "synced");
  const Outcome outcome = recover(options);
  EXPECT_EQ(outcome.reading.seqs, range(1, first_of(last) - 1));
  EXPECT_EQ(outcome.next_seq, first_of(last));
  EXPECT_THAT(outcome.opening.set_aside, ElementsAre(HasSubstr(".empty")));
}

TEST(SpoolDamage, AStrayFileWithAHugeNumberCostsNoNumbers) {
  for (const std::string& content : {std::string(), std::string("short"), std::string(500, 'x')}) {
    const QuickFolder folder;
    const SpoolOptions options = write_segments(folder.path() / "spool", 2);
    const std::string stray = spool_format::segment_name(1'000'000'000'000'000'000);
    write_bytes(options.path / stray, content);
    const Result<SpoolReport> report = inspect_spool(options.path, InspectionDepth::kRecords);
    ASSERT_TRUE(report);
    EXPECT_EQ(report->lost_records, 0U);
    EXPECT_THAT(joined(report->problems), HasSubstr(stray));
    const Outcome outcome = recover(options);
    EXPECT_EQ(outcome.reading.seqs, range(1, outcome.next_seq - 1));
    EXPECT_EQ(outcome.opening.damaged_records, 0U);
    EXPECT_THAT(joined(outcome.opening.set_aside), HasSubstr(stray));
    EXPECT_LT(outcome.next_seq, 1'000'000U);
  }
}

TEST(SpoolDamage, ForeignFilesAreNamedAndNeverRead) {
  const QuickFolder folder;
  const SpoolOptions options = write_segments(folder.path() / "spool", 2);
  const SpoolOptions other = options_for(folder.path() / "other");
  append_group(*open_spool(other).spool, 3);
  const std::vector<fs::path> files = segment_files(options.path);
  fs::copy_file(other.path / spool_format::segment_name(1), options.path / spool_format::segment_name(5));
  fs::copy_file(files[0], options.path / spool_format::segment_name(7));
  write_bytes(options.path / "notes.txt", "mine");
  write_bytes(options.path / spool_format::segment_name(9), std::string(500, 'x'));
  write_bytes(options.path / spool_format::segment_name(11), "short");
  fs::create_directory(options.path / spool_format::segment_name(13));
  fs::create_symlink(files[0], options.path / spool_format::segment_name(15));
  const Outcome outcome = recover(options);
  EXPECT_EQ(outcome.reading.seqs, range(1, outcome.next_seq - 1));
  EXPECT_THAT(outcome.reading.damage, IsEmpty());
  const std::string said = joined(outcome.opening.set_aside);
  EXPECT_THAT(said, HasSubstr("notes.txt"));
  EXPECT_THAT(said, HasSubstr("5.seg.foreign"));
  EXPECT_THAT(said, HasSubstr("7.seg.misnamed"));
  EXPECT_THAT(said, HasSubstr("9.seg.damaged"));
  EXPECT_THAT(said, HasSubstr("11.seg.short"));
  EXPECT_THAT(said, HasSubstr("13.seg.foreign"));
  EXPECT_THAT(said, HasSubstr("15.seg.foreign"));
  EXPECT_EQ(bytes_of(options.path / "notes.txt"), "mine");
}

TEST(SpoolDamage, ALostIdentityIsTakenFromTheSegments) {
  for (const bool damaged : {false, true}) {
    const QuickFolder folder;
    const SpoolOptions options = options_for(folder.path());
    std::string id;
    {
      const Opened opened = open_spool(options);
      append_group(*opened.spool, 3);
      id = opened.spool->id();
    }
    if (damaged) write_bytes(options.path / "identity", "nonsense");
    if (!damaged) fs::remove(options.path / "identity");
    const Opened opened = open_spool(options);
    EXPECT_EQ(opened.spool->id(), id);
    EXPECT_FALSE(opened.opening.created);
    EXPECT_THAT(joined(opened.opening.set_aside), HasSubstr("identity"));
    EXPECT_EQ(read_from(*opened.spool, 1).seqs, range(1, 3));
  }
}

TEST(SpoolDamage, AnUnreadableIdentityWithoutSegmentsIsRefused) {
  const QuickFolder folder;
  write_bytes(folder.path() / "identity", "nonsense");
  SpoolOpening ignored;
  const auto spool = Spool::open(options_for(folder.path()), ignored);
  ASSERT_FALSE(spool);
  EXPECT_EQ(spool.error().kind, ErrorKind::kInvalid);
}

TEST(SpoolDamage, SegmentsThatAreAllGoneAreSaidAndNumbersGoOn) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path());
  append_group(*open_spool(options).spool, 9);
  for (const fs::path& file : segment_files(options.path)) fs::remove(file);
  const Opened opened = open_spool(options);
  EXPECT_THAT(opened.opening.set_aside, ElementsAre(HasSubstr("up to 9")));
  EXPECT_EQ(opened.spool->usage().last_seq, 9U);
  EXPECT_EQ(append_group(*opened.spool, 1), 10U);
}

TEST(SpoolDamage, ABodyThatImitatesRecordsIsNotTakenForOne) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path());
  std::string imitation;
  spool_format::append_group_header(imitation, {spool_format::random_id(), 2, 100, 3});
  const std::uint32_t salt = spool_format::record_salt(spool_format::random_id());
  for (std::uint64_t seq = 1; seq < 5; ++seq) spool_format::append_record(imitation, salt, seq, "forged");
  {
    const Opened opened = open_spool(options);
    const std::vector<Spool::Entry> entries = {{imitation, true}, {"second", true}};
    ASSERT_TRUE(opened.spool->append(entries));
  }
  const fs::path file = segment_files(options.path).front();
  std::string bytes = bytes_of(file);
  bytes[bytes.find("forged")] = 'F';  // the first record is damaged now, and its body is looked through
  write_bytes(file, bytes);
  const Opened opened = open_spool(options);
  std::vector<std::string> damage;
  const auto records = opened.spool->read(1, 10, 1 << 20, damage);
  ASSERT_TRUE(records);
  ASSERT_EQ(records->size(), 1U);
  EXPECT_EQ(records->front().seq, 2U);
  EXPECT_EQ(records->front().body, "second");
  EXPECT_EQ(opened.opening.damaged_records, 1U);
}

}  // namespace
}  // namespace run_recorder
