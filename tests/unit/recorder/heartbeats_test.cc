// Which heartbeats write a row, and what is known of those that do not.
#include "recorder/heartbeats.h"

#include <gtest/gtest.h>

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;

const Heartbeats::Clock::time_point kStart = Heartbeats::Clock::time_point{} + 1h;

SpooledEvent event(const std::string& run_id, EventKind kind = EventKind::kHeartbeat) {
  SpooledEvent made;
  made.event.kind = kind;
  made.event.run_id = run_id;
  made.event.sender_process = "sender";
  made.event.connection = "1-1";
  return made;
}

RunChange row(const std::string& run_id, Status status = Status::kRunning) {
  RunChange change;
  change.after.run_id = run_id;
  change.after.status = status;
  change.after.recorder = "me";
  change.after.sender_process = "sender";
  return change;
}

Heartbeats::Taken take(Heartbeats& beats, std::vector<SpooledEvent> events, Heartbeats::Clock::time_point now) {
  return beats.take(events, now);
}

// A run whose first heartbeat wrote its row at kStart.
struct Known : Heartbeats {
  explicit Known(std::size_t max_runs = kMaxRuns) : Heartbeats(kWriteEvery, max_runs) { write("r"); }
  void write(const std::string& run_id) { wrote(std::vector{row(run_id)}, std::vector{run_id}, "me", kStart); }
};

TEST(Heartbeats, WriteARowAtMostOnceInTenSeconds) {
  Known beats;
  EXPECT_EQ(take(beats, {event("r")}, kStart + 9s).kept, 1u);
  const auto due = take(beats, {event("r"), event("r")}, kStart + 10s);
  ASSERT_EQ(due.due.size(), 1u);
  EXPECT_EQ(due.kept, 1u);
  EXPECT_EQ(due.due[0].run_id, "r");
  EXPECT_EQ(due.due[0].sender_process, "sender");
  EXPECT_EQ(due.due[0].connection, "1-1");
  EXPECT_EQ(due.due[0].worker_process, std::nullopt);
  EXPECT_EQ(take(beats, {event("r")}, kStart + 19s).kept, 1u);
  EXPECT_EQ(take(beats, {event("r")}, kStart + 20s).due.size(), 1u);
}

TEST(Heartbeats, OfRunsThatAreNotKnownAreDecidedByThemselves) {
  Known beats;
  std::vector<SpooledEvent> events{event("x"), event("r"), event("y", EventKind::kStarted)};
  EXPECT_EQ(beats.take(events, kStart + 1s).total(), 1u);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].event.run_id, "x");
  EXPECT_EQ(events[1].event.run_id, "y");
}

TEST(Heartbeats, BesideOtherEventsOfTheirRunAreDecidedWithThem) {
  Known beats;
  std::vector<SpooledEvent> events{event("r"), event("r", EventKind::kCompleted), event("r")};
  EXPECT_EQ(beats.take(events, kStart + 1s).total(), 0u);
  EXPECT_EQ(events.size(), 3u);
}

TEST(Heartbeats, ThatSayMoreAreDecidedByThemselves) {
  Known beats;
  SpooledEvent usage = event("r"), progress = event("r");
  usage.event.usage = "{}";
  progress.event.progress = R"({"done":1})";
  EXPECT_EQ(take(beats, {usage, progress}, kStart + 1s).total(), 0u);
}

TEST(Heartbeats, ThatNameAnotherSenderWorkerOrExpiryWriteTheRowAtOnce) {
  Known beats;
  SpooledEvent sender = event("r"), worker = event("r"), expiry = event("r");
  sender.event.sender_process = "another";
  EXPECT_EQ(take(beats, {sender}, kStart + 1s).due.size(), 1u);
  EXPECT_EQ(take(beats, {sender}, kStart + 2s).kept, 1u);
  worker.event = sender.event;
  worker.event.worker_pid = 7;
  worker.event.worker_process = "worker";
  ASSERT_EQ(take(beats, {worker}, kStart + 3s).due.size(), 1u);
  expiry.event = sender.event;
  expiry.event.expires_in = 60;
  EXPECT_EQ(take(beats, {expiry}, kStart + 4s).due.at(0).expires_in, 60);
  EXPECT_EQ(take(beats, {expiry, sender}, kStart + 5s).kept, 2u);
}

TEST(Heartbeats, AreKnownToReconciliation) {
  Known beats;
  EXPECT_FALSE(beats.since("x", kStart - 1s));
  EXPECT_TRUE(beats.since("r", kStart - 1s));
  EXPECT_EQ(take(beats, {event("r")}, kStart + 5s).kept, 1u);
  EXPECT_TRUE(beats.since("r", kStart));
  EXPECT_TRUE(beats.since("r", kStart + 4s));
  EXPECT_EQ(beats.last("r"), kStart + 5s);
  EXPECT_EQ(beats.last("x"), std::nullopt);
  EXPECT_EQ(take(beats, {event("r")}, kStart + 6s).kept, 1u) << "who asks and hears of one leaves the row alone";
}

// Who asks in vain may mark the row: the next heartbeat has to see it.
TEST(Heartbeats, AreDecidedByThemselvesOnceTheRunIsJudged) {
  Known beats;
  EXPECT_FALSE(beats.since("r", kStart));
  EXPECT_EQ(take(beats, {event("r")}, kStart + 1s).total(), 0u);
  EXPECT_TRUE(beats.since("r", kStart)) << "and is known all the same";
  beats.write("r");
  EXPECT_EQ(take(beats, {event("r")}, kStart + 2s).kept, 1u);
}

TEST(Heartbeats, AreDecidedByThemselvesWhereACommitFailed) {
  Known beats;
  beats.doubt();
  EXPECT_EQ(take(beats, {event("r")}, kStart + 1s).total(), 0u);
}

TEST(Heartbeats, OfARunThatEndsOrIsAnothersAreForgotten) {
  Known beats;
  beats.wrote(std::vector{row("r", Status::kCompleted)}, {}, "me", kStart + 1s);
  EXPECT_FALSE(beats.since("r", kStart - 1h));
  beats.write("r");
  RunChange taken = row("r");
  taken.after.recorder = "another";
  beats.wrote(std::vector{taken}, {}, "me", kStart + 1s);
  EXPECT_FALSE(beats.since("r", kStart - 1h));
}

TEST(Heartbeats, BeyondTheCapacityAllWriteTheRow) {
  Known beats(2);
  beats.write("s");
  beats.write("t");
  EXPECT_EQ(take(beats, {event("s"), event("t")}, kStart + 1s).kept, 1u);
  // Room is made by those that are silent and whose rows lack nothing: s is owed the heartbeat just taken.
  beats.wrote(std::vector{row("t")}, std::vector<std::string>{"t"}, "me", kStart + 10min);
  EXPECT_TRUE(beats.since("t", kStart + 9min));
  EXPECT_TRUE(beats.since("s", kStart));
  EXPECT_FALSE(beats.since("r", kStart - 1h));
}

}  // namespace
}  // namespace run_recorder::testing
