// The states of jobs whose runs just ended: asked of every queue at once, and none holds up another's answer.
#include "queue/job_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <map>

namespace run_recorder::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using Kind = JobAnswer::Kind;
using State = std::optional<std::string>;

// Patience that only a hang uses up.
constexpr auto kLong = 10min;

// Answers by the job's id. One that is held answers when it is let go.
class ScriptedQueue final : public JobQueue {
 public:
  struct Script {
    std::map<std::string, JobAnswer> jobs = {};
    std::shared_future<void> held = {};
  };
  explicit ScriptedQueue(const Script& script) : script_(script) {}

  std::vector<JobAnswer> look_up(std::span<const JobAsked> jobs) override {
    if (script_.held.valid()) script_.held.wait();
    std::vector<JobAnswer> answers;
    for (const JobAsked& job : jobs) answers.push_back(script_.jobs.at(job.job_id));
    return answers;
  }
  Result<void> check() override { return {}; }

 private:
  const Script script_;
};

NamedQueue named(std::string name, const ScriptedQueue::Script& script) {
  return {std::move(name), std::make_unique<ScriptedQueue>(script)};
}
template <class... Queues>
NamedQueues together(Queues... queues) {
  NamedQueues all;
  (all.push_back(std::move(queues)), ...);
  return all;
}
JobAsked job(std::string id, std::string queue = {}) {
  return {.queue = std::move(queue), .job_id = std::move(id)};
}

TEST(JobProbe, WithoutQueuesHasNoAnswer) {
  JobProbe probe({});
  EXPECT_FALSE(probe.configured());
  EXPECT_THAT(probe.states({job("1"), job("2")}, kLong), ElementsAre(State(), State()));
}

TEST(JobProbe, AnswersInTheOrderOfTheJobsWhateverTheirQueues) {
  JobProbe probe(
      together(named("default", {{{"1", {.kind = Kind::kFinished, .state = "completed"}}}}),
               named("mail", {{{"1", {.kind = Kind::kWorking, .state = "executing"}}, {"2", {.state = "odd"}}}})));
  EXPECT_TRUE(probe.configured());
  EXPECT_THAT(probe.states({job("2", "mail"), job("1"), job("1", "mail")}, kLong),
              ElementsAre(State("odd"), State("completed"), State("executing")));
}

TEST(JobProbe, HasNoStateForAnAbsentJobAnotherExecutionOrAnUnknownQueue) {
  JobProbe probe(together(named("default", {{{"1", {.kind = Kind::kAbsent}},
                                             {"2", {.kind = Kind::kOtherExecution, .state = "executing"}},
                                             {"3", {.kind = Kind::kNotExecuting, .state = "cancelled"}}}}),
                          named("mail", {})));
  EXPECT_THAT(probe.states({job("1"), job("2"), job("3"), job("3", "nowhere")}, kLong),
              ElementsAre(State(), State(), State("cancelled"), State()));
}

TEST(JobProbe, LeavesAQueueThatDoesNotAnswerAloneAndAsksTheOthers) {
  std::promise<void> release;
  {
    JobProbe probe(together(named("slow", {.jobs = {{"1", {.state = "late"}}}, .held = release.get_future().share()}),
                            named("mail", {{{"1", {.state = "executing"}}}})));
    EXPECT_THAT(probe.states({job("1", "slow")}, 0ms), ElementsAre(State()));
    // It is still at that question: nobody waits for it, however patient.
    EXPECT_THAT(probe.states({job("1", "slow"), job("1", "mail")}, kLong), ElementsAre(State(), State("executing")));
    release.set_value();
  }
}

}  // namespace
}  // namespace run_recorder::testing
