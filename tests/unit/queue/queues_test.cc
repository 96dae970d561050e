// Several queues asked as one: who is asked, and that none spoils or holds up another's answers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "queue/queues.h"

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Kind = JobAnswer::Kind;

std::chrono::steady_clock::time_point now_of_the_test;

// Says "executing" of every job, or fails as a queue that is away: at once, or slowly.
class ScriptedQueue final : public JobQueue {
 public:
  struct Script {
    bool away = false;
    std::chrono::milliseconds takes{0};
    std::vector<std::string> asked = {};  // ids, of all calls
  };
  explicit ScriptedQueue(Script& script) : script_(script) {}

  std::vector<JobAnswer> look_up(std::span<const JobAsked> jobs) override {
    now_of_the_test += script_.takes;
    std::vector<JobAnswer> answers;
    for (const JobAsked& job : jobs) {
      script_.asked.push_back(job.job_id);
      if (script_.away) {
        answers.push_back({.detail = "away", .unreachable = true});
      } else {
        answers.push_back({.kind = Kind::kWorking, .state = "executing", .detail = "job " + job.job_id});
      }
    }
    return answers;
  }
  Result<void> check() override { return {}; }

 private:
  Script& script_;
};

NamedQueue named(std::string name, ScriptedQueue::Script& script) {
  return {std::move(name), std::make_unique<ScriptedQueue>(script)};
}
template <class... Queues>
std::unique_ptr<JobQueue> together(Queues... queues) {
  NamedQueues all;
  (all.push_back(std::move(queues)), ...);
  return make_queues(std::move(all), [] { return now_of_the_test; });
}

TEST(Queues, AreAskedByNameAndAnswerInOrder) {
  ScriptedQueue::Script main, mail;
  const auto queues = together(named("default", main), named("mail", mail));
  const std::vector<JobAsked> jobs = {{.queue = "mail", .job_id = "1"},
                                      {.queue = "", .job_id = "2"},
                                      {.queue = "default", .job_id = "3"},
                                      {.queue = "mail", .job_id = "4"},
                                      {.queue = "gone", .job_id = "5"}};
  const auto answers = queues->look_up(jobs);
  ASSERT_EQ(answers.size(), 5U);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(answers[i].kind, Kind::kWorking);
    EXPECT_EQ(answers[i].detail, "job " + jobs[i].job_id);
  }
  EXPECT_EQ(answers[4].kind, Kind::kCannotTell);
  EXPECT_THAT(answers[4].detail, HasSubstr("no queue \"gone\" is configured"));
  EXPECT_THAT(main.asked, ElementsAre("2", "3"));
  EXPECT_THAT(mail.asked, ElementsAre("1", "4"));
}

TEST(Queues, AJobWithoutAQueueIsOfTheOnlyOne) {
  ScriptedQueue::Script mail, web;
  const JobAsked nameless{.job_id = "1"};
  EXPECT_EQ(together(named("mail", mail))->look_up({&nameless, 1}).at(0).kind, Kind::kWorking);
  const auto answer = together(named("mail", mail), named("web", web))->look_up({&nameless, 1}).at(0);
  EXPECT_EQ(answer.kind, Kind::kCannotTell);
  EXPECT_THAT(answer.detail, HasSubstr("none of the configured ones is named default"));
  EXPECT_THAT(web.asked, IsEmpty());
  // A job of a queue that is not configured is not looked for in the only one that is.
  const JobAsked other{.queue = "default", .job_id = "1"};
  EXPECT_EQ(together(named("mail", mail))->look_up({&other, 1}).at(0).kind, Kind::kCannotTell);
  EXPECT_FALSE(make_queues({}));
}

TEST(Queues, AnswerWhileAnotherIsAway) {
  ScriptedQueue::Script main, mail{.away = true};
  const auto queues = together(named("mail", mail), named("default", main));
  const std::vector<JobAsked> jobs = {{.queue = "mail", .job_id = "1"}, {.job_id = "2"}};
  const auto answers = queues->look_up(jobs);
  EXPECT_TRUE(answers.at(0).unreachable);
  EXPECT_EQ(answers.at(1).kind, Kind::kWorking);
  // What fails at once is asked again: it costs nothing, and may have come back.
  mail.away = false;
  EXPECT_EQ(queues->look_up(jobs).at(0).kind, Kind::kWorking);
}

TEST(Queues, OneThatFailsSlowlyIsLeftAloneForAWhile) {
  ScriptedQueue::Script main, mail{.away = true, .takes = 5s};
  const auto queues = together(named("mail", mail), named("default", main));
  const std::vector<JobAsked> jobs = {{.queue = "mail", .job_id = "1"}, {.job_id = "2"}};
  static_cast<void>(queues->look_up(jobs));
  const auto answers = queues->look_up(jobs);
  EXPECT_TRUE(answers.at(0).unreachable);
  EXPECT_EQ(answers.at(0).detail, "away");
  EXPECT_EQ(answers.at(1).kind, Kind::kWorking);
  EXPECT_THAT(mail.asked, ElementsAre("1")) << "it was not asked again";
  EXPECT_THAT(main.asked, ElementsAre("2", "2"));
  now_of_the_test += 1min;
  mail.away = false;
  EXPECT_EQ(queues->look_up(jobs).at(0).kind, Kind::kWorking);
}

}  // namespace
}  // namespace run_recorder::testing
