#include "spool/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "spool_fixture.h"

namespace run_recorder {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(SpoolInspector, SaysWhatIsThereBesideALiveSpool) {
  const QuickFolder folder;
  SpoolOptions options = options_for(folder.path());
  options.segment_bytes = 1;
  append_group(*open_spool(options).spool, 10);
  const Opened opened = open_spool(options);
  while (opened.spool->usage().segments < 4) append_group(*opened.spool, 50);
  for (const InspectionDepth depth : {InspectionDepth::kHeaders, InspectionDepth::kRecords}) {
    const Result<SpoolReport> report = inspect_spool(folder.path(), depth);
    ASSERT_TRUE(report);
    EXPECT_TRUE(report->is_sound());
    EXPECT_EQ(report->id, opened.spool->id());
    EXPECT_EQ(report->holder, getpid());
    EXPECT_EQ(report->first_seq, 1U);
    EXPECT_EQ(report->last_seq, opened.spool->usage().last_seq);
    EXPECT_EQ(report->acknowledged, opened.spool->usage().last_seq);
    EXPECT_EQ(report->records, opened.spool->usage().last_seq);
    EXPECT_EQ(report->segments.size(), 4U);
    EXPECT_EQ(report->incarnations.size(), 2U);
    EXPECT_EQ(report->incarnations.back().id, opened.spool->incarnations().back().id);
    EXPECT_EQ(report->lost_records, 0U);
  }
}

TEST(SpoolInspector, WithoutADaemonNobodyHoldsIt) {
  const QuickFolder folder;
  append_group(*open_spool(options_for(folder.path())).spool, 10);
  const Result<SpoolReport> report = inspect_spool(folder.path(), InspectionDepth::kRecords);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->holder, std::nullopt);
  EXPECT_EQ(report->records, 10U);
  EXPECT_GT(report->segments.front().body_bytes, 100U);
}

TEST(SpoolInspector, AFreshSpoolHoldsNothing) {
  const QuickFolder folder;
  open_spool(options_for(folder.path()));
  const Result<SpoolReport> report = inspect_spool(folder.path(), InspectionDepth::kRecords);
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->is_sound());
  EXPECT_EQ(report->records, 0U);
  EXPECT_EQ(report->first_seq, 1U);
  EXPECT_EQ(report->last_seq, 0U);
  EXPECT_THAT(report->incarnations, IsEmpty());
}

TEST(SpoolInspector, ListsWhatWasSetAside) {
  const QuickFolder folder;
  const SpoolOptions options = options_for(folder.path());
  append_group(*open_spool(options).spool, 10);
  write_bytes(folder.path() / "00000000000000000003.seg", "");
  EXPECT_FALSE(inspect_spool(folder.path(), InspectionDepth::kHeaders)->is_sound());
  open_spool(options);
  const Result<SpoolReport> report = inspect_spool(folder.path(), InspectionDepth::kHeaders);
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->is_sound());
  EXPECT_THAT(report->set_aside, Contains(HasSubstr("set-aside/00000000000000000003.seg.empty")));
}

TEST(SpoolInspector, RefusesWhatIsNoSpool) {
  const QuickFolder folder;
  EXPECT_EQ(inspect_spool(folder.path(), InspectionDepth::kHeaders).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(inspect_spool(folder.path() / "none", InspectionDepth::kHeaders).error().kind, ErrorKind::kNotFound);
}

TEST(SpoolVisit, GivesTheRecordsFromANumberOnUntilToldToStop) {
  const QuickFolder folder;
  SpoolOptions options = options_for(folder.path());
  options.segment_bytes = 1;
  const Opened opened = open_spool(options);
  while (opened.spool->usage().segments < 3) append_group(*opened.spool, 50);
  std::uint64_t next = 500;
  const auto visit = [&](std::uint64_t seq, std::string_view body) {
    EXPECT_EQ(seq, next++);
    EXPECT_EQ(body, body_of(seq));
    return seq < 1200;
  };
  EXPECT_TRUE(visit_spool(folder.path(), 500, visit));
  EXPECT_EQ(next, 1201U);
}

}  // namespace
}  // namespace run_recorder
