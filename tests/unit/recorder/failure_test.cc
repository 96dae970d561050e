// Which question an error asks, how small a batch becomes, and when an event is suspected long enough.
#include "recorder/failure.h"

#include <gtest/gtest.h>

#include "recorder/batch_limit.h"
#include "recorder/probe.h"

namespace run_recorder {
namespace {

Error error_of(const char* sqlstate, ErrorKind kind = ErrorKind::kUnavailable) {
  return Error{kind, "words", sqlstate};
}

TEST(FailureCause, OtherCodesAreOfTheContent) {
  for (const char* sqlstate :
       {"54000", "42501", "21000", "44000", "55000", "XX000", "U0001", "0A000", "42P01", "HY000"}) {
    EXPECT_EQ(cause_of(error_of(sqlstate)), FailureCause::kContent) << sqlstate;
  }
  EXPECT_EQ(cause_of(error_of("23505", ErrorKind::kData)), FailureCause::kContent);
  EXPECT_EQ(cause_of(error_of("", ErrorKind::kData)), FailureCause::kContent);
}

TEST(FailureCause, TimeoutsLocksCollisionsAndConnectionsAreTemporary) {
  for (const char* sqlstate :
       {"", "08006", "40001", "40P01", "55P03", "57014", "57P01", "57P05", "25P03", "25P04", "53200", "53400"}) {
    EXPECT_EQ(cause_of(error_of(sqlstate)), FailureCause::kMoment) << sqlstate;
  }
  EXPECT_EQ(cause_of(error_of("XX000", ErrorKind::kInDoubt)), FailureCause::kMoment);
}

TEST(FailureCause, AFullReadOnlyOrEndingServerIsOfTheDatabase) {
  for (const char* sqlstate : {"53100", "53300", "57P02", "57P03", "58030", "25006"}) {
    EXPECT_EQ(cause_of(error_of(sqlstate)), FailureCause::kDatabase) << sqlstate;
  }
  EXPECT_EQ(cause_of(error_of("", ErrorKind::kRefused)), FailureCause::kDatabase);
}

TEST(BatchLimit, HalvesDownToOneAndComesBack) {
  BatchLimit limit(4'000);
  EXPECT_EQ(limit.events(), 4'000U);
  limit.failed(4'000);
  EXPECT_EQ(limit.events(), 2'000U);
  for (int i = 0; i < 20; ++i) limit.failed(limit.events());
  EXPECT_EQ(limit.events(), 1U);
  int batches = 0;
  for (; limit.events() < 4'000 && batches < 1'000; ++batches) limit.succeeded(limit.events());
  EXPECT_EQ(limit.events(), 4'000U);
  EXPECT_LE(batches, 60);
}

TEST(BatchLimit, CountsTheEventsABatchReallyHad) {
  BatchLimit limit(4'000);
  limit.failed(10);
  EXPECT_EQ(limit.events(), 5U);
  for (int i = 0; i < 100; ++i) limit.succeeded(1);
  EXPECT_EQ(limit.events(), 5U) << "small ones tell nothing of larger ones";
}

TEST(BatchLimit, RetriesAFailingSizeLessAndLessOften) {
  BatchLimit limit(4'000);
  int lost = 0;
  for (int i = 0; i < 10'000; ++i) {
    if (limit.events() > 300) {
      limit.failed(limit.events());
      ++lost;
    } else {
      limit.succeeded(limit.events());
    }
  }
  EXPECT_LE(lost, 20);
  EXPECT_LE(limit.events(), 300U);
}

TEST(Suspect, IsDeadLetteredOnlyByATryAlone) {
  const auto start = Suspect::Clock::now();
  Suspect suspect(SuspectPolicy{3, std::chrono::minutes(5)});
  const Refused refused{error_of("57014"), true};
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(suspect.is_due(7, start + std::chrono::minutes(9)));
    suspect.failed(7, refused, start, false);
  }
  EXPECT_FALSE(suspect.is_due(7, start + std::chrono::minutes(4)));
  EXPECT_TRUE(suspect.is_due(7, start + std::chrono::minutes(5)));
  EXPECT_FALSE(suspect.is_due(8, start + std::chrono::minutes(5)));
  EXPECT_FALSE(suspect.is_convicted(7));
  suspect.failed(7, refused, start + std::chrono::minutes(5), true);
  EXPECT_TRUE(suspect.is_convicted(7));
  suspect.failed(8, refused, start + std::chrono::minutes(6), false);
  EXPECT_FALSE(suspect.is_convicted(7));
  EXPECT_FALSE(suspect.is_due(8, start + std::chrono::minutes(20))) << "another one begins anew";
}

TEST(Probe, WritesAndChangesEachColumnOfARunLikeAnother) {
  BatchWrite place;
  place.incarnation = "i";
  place.from = place.to = 7;
  run_recorder::Run like;
  like.council = "theirs";
  like.attempt = 3;
  like.input = R"({"tenant":1})";
  like.result = R"({"ok":true})";
  const auto writes = probe_writes(place, &like, {"recorder"});
  ASSERT_EQ(writes.size(), 2U);
  for (const BatchWrite& write : writes) {
    EXPECT_EQ(write.from, 7U);
    EXPECT_EQ(write.to, 7U);
    ASSERT_EQ(write.runs.size(), 1U);
    EXPECT_EQ(write.history.size(), 1U);
    EXPECT_EQ(write.runs[0].after.council, "theirs");
    EXPECT_EQ(write.runs[0].after.input, like.input);
  }
  EXPECT_TRUE(writes[0].runs[0].insert);
  EXPECT_FALSE(writes[1].runs[0].insert);
  EXPECT_TRUE(writes[1].runs[0].fields_changed);
  EXPECT_TRUE(writes[1].runs[0].outcome_changed);
  EXPECT_EQ(writes[1].runs[0].expected_last_seq, writes[0].runs[0].after.last_seq);
  EXPECT_EQ(writes[1].runs[0].after.status, Status::kCompleted);
  EXPECT_EQ(writes[1].runs[0].after.result, like.result);
  EXPECT_NE(probe_writes(place, nullptr, {"recorder"})[0].runs[0].after.run_id, writes[0].runs[0].after.run_id);
}

}  // namespace
}  // namespace run_recorder
