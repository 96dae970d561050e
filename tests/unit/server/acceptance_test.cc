// Whether events are accepted and why not: in words, as a state, and what the log says of it.
#include "server/acceptance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/acceptance_watch.h"
#include "server_fixture.h"

namespace run_recorder {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

using Reason = Acceptance::Reason;
using State = Acceptance::State;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

SpoolRoom roomy() {
  SpoolRoom room;
  room.path = "/spool";
  room.max_bytes = 100 * kMiB;
  room.allowed_bytes = 90 * kMiB;
  room.min_free = 256 * kMiB;
  room.free_bytes = 1'000 * kMiB;
  return room;
}

TEST(Acceptance, WhatIsKeptGivesWayToALimit) {
  SpoolRoom room = roomy();
  room.pending_bytes = 40 * kMiB;
  room.releasable_bytes = 60 * kMiB;
  EXPECT_EQ(limit_of_kept(room), "");
  room.max_bytes = 99 * kMiB;
  EXPECT_EQ(limit_of_kept(room), "[spool] max_bytes");
  room.min_free = 1'000 * kMiB;
  EXPECT_EQ(limit_of_kept(room), "[spool] min_free");
  room.releasable_bytes = 0;
  EXPECT_EQ(limit_of_kept(room), "") << "nothing is kept";
}

TEST(AcceptanceOf, EverythingIsAcceptedWhereThereIsRoom) {
  const Acceptance made = acceptance_of(roomy(), "");
  EXPECT_EQ(made.state, State::kAccepting);
  EXPECT_EQ(made.reason, Reason::kNone);
  EXPECT_EQ(in_words(made), "");
  EXPECT_EQ(limit_of(made.reason), "");
}

TEST(AcceptanceOf, OnlyTheLifecycleIsAcceptedInTheLastTenth) {
  SpoolRoom room = roomy();
  room.pending_bytes = 90 * kMiB;
  room.has_room = false;
  Acceptance made = acceptance_of(room, "");
  EXPECT_EQ(made.state, State::kLifecycleOnly);
  EXPECT_EQ(made.reason, Reason::kMaxBytes);
  made.backlog = "the database is away";
  EXPECT_EQ(in_words(made),
            "the spool is full but for lifecycle events: 90 MiB of 90 MiB (nine tenths of [spool] max_bytes) wait in "
            "/spool, the database is away");
}

TEST(AcceptanceOf, NothingIsAcceptedAtMaxBytes) {
  SpoolRoom room = roomy();
  room.pending_bytes = 100 * kMiB;
  room.has_room = room.has_privileged_room = false;
  const Acceptance made = acceptance_of(room, "");
  EXPECT_EQ(made.state, State::kRefusing);
  EXPECT_EQ(limit_of(made.reason), "[spool] max_bytes");
  EXPECT_EQ(in_words(made), "the spool is full: 100 MiB of 100 MiB ([spool] max_bytes) wait in /spool");
}

TEST(AcceptanceOf, TooLittleDiskIsNamedAsSuchThoughTheSpoolIsFullToo) {
  SpoolRoom room = roomy();
  room.free_bytes = 180 * kMiB;
  room.disk_has_room = room.has_room = false;
  const Acceptance made = acceptance_of(room, "");
  EXPECT_EQ(made.state, State::kRefusing);
  EXPECT_EQ(to_string(made.reason), "min_free");
  EXPECT_EQ(in_words(made), "too little disk: 180 MiB free under /spool, [spool] min_free is 256 MiB");
}

TEST(AcceptanceOf, ADiskThatTakesNothingIsFullWhateverItSaysIsFree) {
  SpoolRoom room = roomy();
  room.disk_error = "/spool/1.seg: Disk quota exceeded";
  const Acceptance made = acceptance_of(room, "");
  EXPECT_EQ(to_string(made.reason), "disk_full");
  EXPECT_THAT(in_words(made), AllOf(HasSubstr("quota"), HasSubstr("1000 MiB free under /spool")));
}

TEST(AcceptanceOf, AFailedSpoolIsTheWorst) {
  SpoolRoom room = roomy();
  room.disk_has_room = false;
  EXPECT_EQ(in_words(acceptance_of(room, "no descriptor left")), "the spool failed: no descriptor left");
  room.failure = "the folder is gone";
  const Acceptance made = acceptance_of(room, "no descriptor left");
  EXPECT_EQ(made.reason, Reason::kFailed);
  EXPECT_EQ(in_words(made), "the spool failed: the folder is gone");
}

// A real spool, whose room is what its limits leave.
class AcceptanceWatchTest : public ::testing::Test {
 protected:
  AcceptanceWatchTest() {
    SpoolOptions options;
    options.path = folder_.path() / "spool";
    options.min_free = 0;
    SpoolOpening opening;
    spool_ = Spool::open(options, opening).value();
    watch_ = std::make_unique<AcceptanceWatch>(*spool_, counters_, [] { return std::string("nobody reads"); });
  }
  void set_min_free(std::uint64_t bytes) { spool_->set_limits(64 * kMiB, bytes, 0ms); }
  std::uint64_t free_bytes() { return spool_->room().free_bytes.value(); }
  // What it logs when it looks so long after the start.
  std::string logged_after(std::chrono::milliseconds time) {
    ::testing::internal::CaptureStderr();
    seen_ = watch_->look(start_ + time);
    return ::testing::internal::GetCapturedStderr();
  }

  TempFolder folder_;
  Counters counters_;
  std::unique_ptr<Spool> spool_;
  std::unique_ptr<AcceptanceWatch> watch_;
  const AcceptanceWatch::Clock::time_point start_ = AcceptanceWatch::Clock::now();
  Acceptance seen_;
};

constexpr std::uint64_t kNeverFree = std::uint64_t{1} << 50;

TEST_F(AcceptanceWatchTest, SaysOnceThatTheDiskIsFullBeforeAnyEventIsRefusedAndTheEndOnceItLasts) {
  EXPECT_EQ(logged_after(0s), "");
  EXPECT_EQ(seen_.state, State::kAccepting);
  set_min_free(kNeverFree);
  const std::string full = logged_after(1s);
  EXPECT_THAT(full, HasSubstr(" error the disk under the spool is full, all events are refused"));
  EXPECT_THAT(full, AllOf(HasSubstr("limit=\"[spool] min_free\""), HasSubstr("path=" + spool_->room().path.string()),
                          HasSubstr("free_bytes="), HasSubstr("min_free=1125899906842624")));
  EXPECT_THAT(full, HasSubstr(" warning the disk under the spool runs low: "));
  EXPECT_EQ(seen_.state, State::kRefusing);
  EXPECT_TRUE(seen_.disk_low);
  const Timestamp since = seen_.since;
  EXPECT_EQ(logged_after(2s), "");
  EXPECT_EQ(seen_.since, since);
  set_min_free(0);
  EXPECT_THAT(logged_after(3s), Not(HasSubstr("the spool has room again")));
  EXPECT_EQ(seen_.state, State::kAccepting);
  EXPECT_FALSE(seen_.disk_low);
  set_min_free(kNeverFree);
  EXPECT_THAT(logged_after(4s), Not(HasSubstr("error"))) << "it comes and goes";
  set_min_free(0);
  logged_after(5s);
  EXPECT_EQ(logged_after(8'900ms), "");
  EXPECT_THAT(logged_after(9s), HasSubstr(" info the spool has room again"));
  EXPECT_EQ(logged_after(20s), "");
}

TEST_F(AcceptanceWatchTest, WarnsOnceWhileTheDiskRunsLowThoughEventsAreAccepted) {
  set_min_free(free_bytes() / 4 * 3);
  EXPECT_THAT(logged_after(0s), HasSubstr(" warning the disk under the spool runs low: "));
  EXPECT_EQ(seen_.state, State::kAccepting);
  EXPECT_TRUE(seen_.disk_low);
  EXPECT_EQ(logged_after(1s), "");
  set_min_free(free_bytes() / 5 * 2 + free_bytes() / 20);
  EXPECT_EQ(logged_after(2s), "") << "neither low nor surely not";
  set_min_free(free_bytes() / 8);
  EXPECT_THAT(logged_after(3s), HasSubstr(" info the disk under the spool is no longer low"));
  EXPECT_FALSE(seen_.disk_low);
}

TEST_F(AcceptanceWatchTest, SaysWhichEventsAreRefusedWhenTheSpoolIsFull) {
  spool_->set_limits(64 << 10, 0, 0ms);
  const std::string body(1'000, 'x');
  const auto append_until_full = [&](bool privileged) {
    const Spool::Entry entry{body, privileged};
    while (spool_->append({&entry, 1})->admissions.at(0) == Spool::Admission::kAccepted) {
    }
  };
  append_until_full(false);
  EXPECT_THAT(logged_after(0s),
              AllOf(HasSubstr(" error the spool is full, only events of the four lifecycle types are accepted"),
                    HasSubstr("limit=\"[spool] max_bytes\""), HasSubstr("max_bytes=65536"),
                    HasSubstr("allowed_bytes=58983"), HasSubstr("cause=\"nobody reads\"")));
  EXPECT_EQ(seen_.state, State::kLifecycleOnly);
  append_until_full(true);
  EXPECT_THAT(logged_after(1s), HasSubstr(" error the spool is full, all events are refused"));
  EXPECT_EQ(seen_.state, State::kRefusing);
  EXPECT_THAT(in_words(seen_), HasSubstr(", nobody reads"));
  spool_->release(spool_->usage().last_seq);
  EXPECT_EQ(logged_after(2s), "");
  EXPECT_EQ(seen_.state, State::kAccepting);
  EXPECT_THAT(logged_after(6s), HasSubstr(" info the spool has room again"));
}

}  // namespace
}  // namespace run_recorder
