#include "recorder/batch_reader.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "protocol/protocol.h"
#include "recorder_fixture.h"
#include "support/temp_folder.h"

namespace run_recorder::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class BatchReaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SpoolOptions options;
    options.path = folder_.path() / "spool";
    options.min_free = 0;
    options.sync = [](int) { return 0; };
    SpoolOpening opening;
    auto opened = Spool::open(options, opening);
    ASSERT_TRUE(opened) << opened.error().message;
    spool_ = std::move(*opened);
    reader_ = std::make_unique<BatchReader>(*spool_, 1'000'000, 1'000'000);
  }

  std::uint64_t append_record(const std::string& body) {
    const Spool::Entry entry{body, true};
    return spool_->append({&entry, 1}).value().first_seq;
  }
  std::uint64_t append(const std::string& run_id) { return append_record(record_of(run_id)); }
  static std::string record_of(const std::string& run_id) { return envelope_of(line_of("run_started", run_id)); }
  static SpooledEvent event_of(std::uint64_t seq, const std::string& run_id) {
    return {seq, decode_record(record_of(run_id)).value(), record_of(run_id).size()};
  }
  // Everything behind `from`.
  Batch read(std::uint64_t from, std::size_t max_events = 100) {
    return reader_->read({0, from, spool_->usage().last_seq}, max_events, "me");
  }
  static std::vector<std::string> runs_of(const std::vector<SpooledEvent>& events) {
    std::vector<std::string> runs;
    for (const SpooledEvent& event : events) runs.push_back(event.event.run_id);
    return runs;
  }

  TempFolder folder_;
  std::unique_ptr<Spool> spool_;
  std::unique_ptr<BatchReader> reader_;
};

TEST_F(BatchReaderTest, GivesNothingWhereNothingWaits) {
  EXPECT_TRUE(read(0).empty());
  append("a");
  EXPECT_TRUE(read(1).empty());
}

TEST_F(BatchReaderTest, ReadsFromTheSpoolWhatItWasNotTold) {
  append("a");
  append("b");
  const Batch batch = read(0);
  EXPECT_EQ(batch.from, 0U);
  EXPECT_EQ(batch.to, 2U);
  EXPECT_THAT(runs_of(batch.events), ElementsAre("a", "b"));
}

TEST_F(BatchReaderTest, TakesFreshEventsAsTheyAre) {
  append("a");
  append("b");
  reader_->add([] {
    std::vector<SpooledEvent> fresh;
    fresh.push_back(event_of(1, "fresh-a"));
    return fresh;
  }());
  EXPECT_THAT(runs_of(read(0).events), ElementsAre("fresh-a")) << "not read from the spool";
  EXPECT_THAT(runs_of(read(1).events), ElementsAre("b"));
  EXPECT_THAT(runs_of(read(0).events), ElementsAre("a", "b")) << "a second time the spool has them";
}

TEST_F(BatchReaderTest, KeepsToThePartAndToTheNumberOfEvents) {
  for (const char* run_id : {"a", "b", "c", "d"}) append(run_id);
  EXPECT_THAT(runs_of(read(0, 3).events), ElementsAre("a", "b", "c"));
  EXPECT_THAT(runs_of(reader_->read({0, 1, 3}, 100, "me").events), ElementsAre("b", "c"));
}

TEST_F(BatchReaderTest, GivesARecordThatIsNoEventByItself) {
  append("a");
  append_record("malformed");
  append("b");
  const Batch before = read(0);
  EXPECT_THAT(runs_of(before.events), ElementsAre("a"));
  EXPECT_EQ(before.to, 1U);
  const Batch batch = read(1);
  EXPECT_THAT(batch.events, IsEmpty());
  EXPECT_EQ(batch.to, 2U);
  ASSERT_THAT(batch.unreadable, SizeIs(1));
  EXPECT_EQ(batch.unreadable.front().record, "malformed");
  EXPECT_EQ(batch.unreadable.front().recorder, "me");
  EXPECT_THAT(batch.unreadable.front().reason, HasSubstr("event 2 of this recorder cannot be read"));
  EXPECT_THAT(runs_of(read(2).events), ElementsAre("b"));
}

// As where a segment is gone: the part begins before the oldest record.
TEST_F(BatchReaderTest, GivesMissingRecordsAsDeadLettersABoundedNumberAtOnce) {
  const Batch batch = reader_->read({0, 0, 5'000}, 100, "me");
  EXPECT_THAT(batch.events, IsEmpty());
  EXPECT_EQ(batch.to, 1'000U);
  ASSERT_THAT(batch.unreadable, SizeIs(1'000));
  EXPECT_EQ(batch.unreadable.front().record, "");
  EXPECT_THAT(batch.unreadable.back().reason, HasSubstr("event 1000 of this recorder"));
  EXPECT_THAT(reader_->read({0, 4'990, 5'000}, 100, "me").unreadable, SizeIs(10));
}

TEST_F(BatchReaderTest, ReadsEventsBehindOneAndTheRecordOfOne) {
  append("a");
  append_record("malformed");
  append("b");
  EXPECT_THAT(runs_of(reader_->read_behind(1)), ElementsAre("b"));
  EXPECT_THAT(reader_->read_behind(3), IsEmpty());
  EXPECT_EQ(reader_->record_of(event_of(3, "b")), record_of("b"));
  EXPECT_EQ(reader_->record_of(event_of(4, "b")), "");
}

}  // namespace
}  // namespace run_recorder::testing
