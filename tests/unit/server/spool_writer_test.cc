// Group commit and the writer's stand-in, on a real spool behind a gate; the sessions are the test's.
#include "server/spool_writer.h"

#include <gmock/gmock.h>
#include <pthread.h>

#include <deque>
#include <future>

#include "server_fixture.h"

namespace run_recorder {
namespace {

using ::testing::ElementsAre;
using ::testing::StartsWith;

std::string thread_name() {
  char name[16] = {};
  pthread_getname_np(pthread_self(), name, sizeof(name));
  return name;
}

class SpoolWriterTest : public ::testing::Test {
 protected:
  SpoolWriterTest() {
    SpoolOptions options;
    options.path = folder_.path() / "spool";
    options.min_free = 0;
    SpoolOpening opening;
    spool_ = std::make_unique<GatedSpool>(std::move(Spool::open(options, opening).value()));
  }
  void make(const ServerBounds& bounds = {}) {
    const auto settle = [this](Submissions&& group) {
      for (auto& submission : group) settled_.push_back(std::move(submission));
    };
    const auto on_accepted = [this](std::vector<Accepted>&& events) {
      std::vector<std::string> runs;
      for (const Accepted& one : events) runs.push_back(one.event.run_id);
      const std::lock_guard lock(mutex_);
      groups_.push_back(std::move(runs));
    };
    acceptance_ = std::make_unique<AcceptanceWatch>(*spool_, counters_, nullptr);
    writer_ = std::make_unique<SpoolWriter>(
        *spool_, counters_, *acceptance_, on_accepted,
        SpoolWriter::Sessions{settle, [this](auto task) { post(std::move(task)); }, [this] { run_one(); }}, bounds);
  }
  // ---- the sessions' side: tasks that one thread at a time runs
  void post(std::function<void()> task) {
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    posted_.notify_one();
  }
  void run_one() {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      posted_.wait(lock, [this] { return !tasks_.empty(); });
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
  void run_until_settled(std::size_t count) {
    while (settled_.size() < count) run_one();
  }

  static std::unique_ptr<Submission> submission(std::uint64_t source, std::string run_id, std::size_t bytes = 100) {
    auto made = std::make_unique<Submission>();
    made->source = source;
    made->bytes = bytes;
    made->items.emplace_back();
    made->items.back().line = 1;
    made->items.back().event.run_id = std::move(run_id);
    made->items.back().body = "body";
    return made;
  }
  std::vector<std::vector<std::string>> groups() {
    const std::lock_guard lock(mutex_);
    return groups_;
  }

  TempFolder folder_;
  std::unique_ptr<GatedSpool> spool_;
  Counters counters_;
  std::unique_ptr<AcceptanceWatch> acceptance_;
  Submissions settled_;
  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<std::function<void()>> tasks_;
  std::vector<std::vector<std::string>> groups_;
  std::unique_ptr<SpoolWriter> writer_;
};

TEST_F(SpoolWriterTest, CommitsASmallGroupOnTheSessionsThread) {
  make();
  writer_->start();
  writer_->submit(submission(1, "a"));
  writer_->submit(submission(2, "b"));
  writer_->commit_small();
  EXPECT_EQ(settled_.size(), 2U);
  EXPECT_EQ(settled_[0]->accepted, 1U);
  EXPECT_THAT(groups(), ElementsAre(ElementsAre("a", "b"))) << "with one sync";
  EXPECT_EQ(spool_->last_thread(), thread_name());
  EXPECT_EQ(counters_.snapshot().accepted, 2U);
}

TEST_F(SpoolWriterTest, CommitsALargeGroupOnItsOwnThread) {
  make();
  writer_->start();
  writer_->submit(submission(1, "a", ServerBounds().small_commit_bytes + 1));
  writer_->commit_small();
  run_until_settled(1);
  EXPECT_EQ(settled_[0]->accepted, 1U);
  EXPECT_EQ(spool_->last_thread(), "spool-writer");
}

TEST_F(SpoolWriterTest, StandsInForTheSessionsWhileTheirDiskDoesNotAnswer) {
  make();
  writer_->start();
  writer_->submit(submission(1, "slow"));
  spool_->shut();
  auto commit = std::async(std::launch::async, [this] { writer_->commit_small(); });
  spool_->wait_for_append();
  std::promise<std::string> ran_on;
  post([this, &ran_on] {
    writer_->submit(submission(2, "meanwhile"));
    ran_on.set_value(thread_name());
  });
  EXPECT_EQ(ran_on.get_future().get(), "spool-writer");
  spool_->open();
  commit.get();
  run_until_settled(2);
  EXPECT_THAT(groups(), ElementsAre(ElementsAre("slow"), ElementsAre("meanwhile")));
}

TEST_F(SpoolWriterTest, TakesAnEqualShareOfEachSessionWhereOneCommitIsTooSmall) {
  ServerBounds bounds;
  bounds.small_commit_bytes = 0;
  bounds.commit_bytes = 1'000;
  make(bounds);
  for (const char* run_id : {"a1", "a2", "a3", "a4", "a5", "a6"}) writer_->submit(submission(1, run_id, 200));
  writer_->submit(submission(2, "b1", 200));
  writer_->start();
  run_until_settled(7);
  EXPECT_THAT(groups(), ElementsAre(ElementsAre("a1", "a2", "b1"), ElementsAre("a3", "a4", "a5", "a6")));
}

TEST_F(SpoolWriterTest, RefusesWhatTheSpoolCannotTake) {
  make();
  writer_->start();
  spool_->fail_with(Error{ErrorKind::kIo, "the disk is gone"});
  writer_->submit(submission(1, "a"));
  writer_->commit_small();
  ASSERT_EQ(settled_.size(), 1U);
  EXPECT_EQ(settled_[0]->accepted, 0U);
  ASSERT_EQ(settled_[0]->refused.size(), 1U);
  EXPECT_EQ(settled_[0]->refused[0].refusal.code, RefusalCode::kUnavailable);
  EXPECT_THAT(counters_.snapshot().spool_failure, StartsWith("the disk is gone"));

  spool_->fail_with(std::nullopt);
  writer_->submit(submission(1, "b"));
  writer_->commit_small();
  EXPECT_EQ(settled_[1]->accepted, 1U);
  EXPECT_EQ(counters_.snapshot().spool_failure, "");
  EXPECT_EQ(counters_.snapshot().refused_by_spool, 1U);
}

TEST_F(SpoolWriterTest, CommitsWhatWaitsBeforeItStops) {
  ServerBounds bounds;
  bounds.small_commit_bytes = 0;
  make(bounds);
  writer_->submit(submission(1, "a"));
  writer_->start();
  writer_->stop(kPatience);
  EXPECT_THAT(groups(), ElementsAre(ElementsAre("a")));
  run_until_settled(1);
}

}  // namespace
}  // namespace run_recorder
