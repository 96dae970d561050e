// A log whose reader stands still, one that cannot be written, and what is said of the lines that are lost.
#include "base/log_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <thread>

namespace run_recorder {
namespace {

using testing::ElementsAre;

constexpr std::chrono::seconds kPatience{60};  // longer than anything takes
constexpr std::chrono::milliseconds kNone{0};

// What the queue writes to; the queue's thread may outlive the test's end of it, so it is shared.
class Reader {
 public:
  bool take(const LogQueue::Line& line) {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return reads_; });
    if (!broken_) lines_.push_back(line.text);
    return !broken_;
  }
  void block() {
    set([this] { reads_ = false; });
  }
  void read() {
    set([this] { reads_ = true; });
  }
  void fail_writes() {
    set([this] { broken_ = true; });
  }
  void repair() {
    set([this] { broken_ = false; });
  }
  void wait_for_a_write(int nth) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [&] { return waiting_ >= nth; }));
  }
  std::vector<std::string> lines() const {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  template <class Change>
  void set(const Change& change) {
    const std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool reads_ = true;
  bool broken_ = false;
  int waiting_ = 0;
  std::vector<std::string> lines_;
};

class LogQueueTest : public ::testing::Test {
 protected:
  std::unique_ptr<LogQueue> make(LogQueue::Bounds bounds) const {
    return std::make_unique<LogQueue>([reader = reader_](const LogQueue::Line& line) { return reader->take(line); },
                                      [](std::uint64_t count) {
                                        return LogQueue::Line{"lost " + std::to_string(count), {}};
                                      },
                                      bounds);
  }
  void TearDown() override { reader_->read(); }  // so that no thread is left

  const std::shared_ptr<Reader> reader_ = std::make_shared<Reader>();
};

TEST_F(LogQueueTest, PushReturnsOnceTheLineIsWritten) {
  const auto queue = make({1 << 20, kPatience});
  for (int i = 0; i < 100; ++i) {
    queue->push({std::to_string(i), {}});
    ASSERT_EQ(reader_->lines().size(), static_cast<std::size_t>(i) + 1);
    EXPECT_EQ(reader_->lines().back(), std::to_string(i));
  }
  EXPECT_EQ(queue->dropped(), 0U);
  EXPECT_EQ(queue->behind_for(), kNone);
  EXPECT_TRUE(queue->finish(kPatience));
}

TEST_F(LogQueueTest, CallersDoNotWaitForABlockedReaderAndDropsAreReported) {
  reader_->block();
  constexpr int kLines = 10'000;
  // Whoever waited for each of them would need half an hour.
  const auto queue = make({4 << 10, std::chrono::milliseconds{200}});
  for (int i = 0; i < kLines; ++i) queue->push({"line", {}});
  while (queue->behind_for() == kNone) std::this_thread::yield();  // it is, for less than a millisecond at first
  const std::uint64_t dropped = queue->dropped();
  EXPECT_GT(dropped, 0U);
  EXPECT_LT(dropped, static_cast<std::uint64_t>(kLines));
  reader_->read();
  ASSERT_TRUE(queue->flush(kPatience));
  queue->push({"after", {}});
  ASSERT_TRUE(queue->finish(kPatience));
  const auto lines = reader_->lines();
  ASSERT_EQ(lines.size(), kLines - dropped + 2);
  EXPECT_EQ(lines[lines.size() - 3], "line");
  EXPECT_EQ(lines[lines.size() - 2], "lost " + std::to_string(dropped)) << "where they would have stood";
  EXPECT_EQ(lines.back(), "after");
}

TEST_F(LogQueueTest, ALineAboveTheLimitIsWrittenWhenTheQueueIsEmpty) {
  const auto queue = make({64, kPatience});
  queue->push({std::string(10'000, 'x'), {}});
  EXPECT_EQ(reader_->lines().size(), 1U);
  EXPECT_EQ(queue->dropped(), 0U);
}

TEST_F(LogQueueTest, WriteFailuresAreCountedAndReportedWithTheNextLine) {
  const auto queue = make({1 << 20, kPatience});
  reader_->fail_writes();
  for (int i = 0; i < 3; ++i) queue->push({"lost", {}});
  EXPECT_EQ(queue->dropped(), 3U);
  reader_->repair();
  queue->push({"written", {}});
  EXPECT_THAT(reader_->lines(), ElementsAre("lost 3", "written"));
  EXPECT_EQ(queue->dropped(), 3U);
}

TEST_F(LogQueueTest, FinishEndsThoughTheReaderBlocks) {
  reader_->block();
  const auto queue = make({1 << 20, kNone});
  queue->push({"one", {}});
  queue->push({"two", {}});
  reader_->wait_for_a_write(1);
  EXPECT_FALSE(queue->finish(std::chrono::milliseconds{10}));
  queue->push({"late", {}});
  EXPECT_EQ(queue->dropped(), 1U);
}

TEST_F(LogQueueTest, FinishWritesWhatIsQueued) {
  reader_->block();
  const auto queue = make({1 << 20, kNone});
  for (const char* text : {"one", "two", "three"}) queue->push({text, {}});
  reader_->read();
  EXPECT_TRUE(queue->finish(kPatience));
  EXPECT_THAT(reader_->lines(), ElementsAre("one", "two", "three"));
}

}  // namespace
}  // namespace run_recorder
