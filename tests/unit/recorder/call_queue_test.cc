#include "recorder/call_queue.h"

#include <gtest/gtest.h>

#include <thread>

namespace run_recorder {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

const Error kLate{ErrorKind::kUnavailable, "late"};

TEST(CallQueue, RunsACallOnTheThreadThatTakesIt) {
  std::promise<void> queued;
  CallQueue calls([&] { queued.set_value(); });
  std::thread::id ran_on;
  std::thread thread([&] {
    queued.get_future().wait();
    EXPECT_FALSE(calls.empty());
    for (const auto& call : calls.take()) call();
    EXPECT_TRUE(calls.empty());
  });
  const std::thread::id expected = thread.get_id();
  const auto answer = calls.run<int>(
      [&]() -> Result<int> {
        ran_on = std::this_thread::get_id();
        return 7;
      },
      hours{1}, kLate);
  thread.join();
  EXPECT_EQ(answer.value(), 7);
  EXPECT_EQ(ran_on, expected);
}

TEST(CallQueue, NeverRunsWhatWasAnsweredAsLate) {
  CallQueue calls([] {});
  bool ran = false;
  const auto answer = calls.run<void>(
      [&]() -> Result<void> {
        ran = true;
        return {};
      },
      milliseconds{0}, kLate);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().message, "late");
  for (const auto& call : calls.take()) call();
  EXPECT_FALSE(ran);
}

TEST(CallQueue, WaitsForACallThatHasBegun) {
  std::promise<void> begun;
  std::promise<void> go_on;
  std::thread thread;
  CallQueue* queue = nullptr;
  CallQueue calls([&] {
    thread = std::thread([&] {
      for (const auto& call : queue->take()) call();
    });
    begun.get_future().wait();
    go_on.set_value();  // the caller's patience has ended by the time it looks
  });
  queue = &calls;
  const auto answer = calls.run<int>(
      [&]() -> Result<int> {
        begun.set_value();
        go_on.get_future().wait();
        return 7;
      },
      milliseconds{0}, kLate);
  thread.join();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer.value(), 7);
}

TEST(CallQueue, AnswersAtOnceWhereItIsClosed) {
  CallQueue calls([] {});
  EXPECT_TRUE(calls.close().empty());
  const auto answer = calls.run<int>([]() -> Result<int> { return 7; }, hours{1}, kLate);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kUnavailable);
}

}  // namespace
}  // namespace run_recorder
