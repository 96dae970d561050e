#include "server/answers.h"

#include <gtest/gtest.h>

namespace run_recorder {
namespace {

const Refusal kBad{RefusalCode::kInvalidJson, "bad"};

std::string error(std::uint64_t line) {
  return format_refusal(line, kBad);
}

std::string take_all(Answers& answers) {
  std::string all;
  while (!answers.unsent().empty()) {
    const std::string next(answers.unsent());
    all += next;
    answers.sent(next.size());
  }
  return all;
}

TEST(Answers, AcknowledgementsAreMergedIntoTheLatest) {
  Answers answers;
  answers.settle(1);
  answers.settle(5);
  EXPECT_EQ(take_all(answers), "{\"acked\":5}\n");
  EXPECT_TRUE(answers.all_sent());
  answers.settle(5);
  EXPECT_EQ(take_all(answers), "");
}

TEST(Answers, ErrorWaitsForTheLinesBeforeItAndComesBeforeItsAcknowledgement) {
  Answers answers;
  answers.refuse(3, kBad);
  answers.settle(1);
  EXPECT_EQ(take_all(answers), "{\"acked\":1}\n");
  answers.settle(4);
  EXPECT_EQ(take_all(answers), error(3) + "{\"acked\":4}\n");
  EXPECT_EQ(answers.held_bytes(), 0U);
}

TEST(Answers, ErrorFoundLaterForAnEarlierLineTakesItsPlace) {
  Answers answers;
  answers.refuse(2, kBad);
  answers.refuse(5, kBad);
  answers.refuse(3, kBad);
  answers.refuse(1, kBad);
  answers.settle(5);
  EXPECT_EQ(take_all(answers), error(1) + error(2) + error(3) + error(5) + "{\"acked\":5}\n");
}

TEST(Answers, PartlySentAcknowledgementIsFinishedBeforeAnythingElse) {
  Answers answers;
  answers.settle(7);
  const std::string ack(answers.unsent());
  answers.sent(4);
  answers.refuse(9, kBad);
  answers.settle(8);
  answers.settle(10);
  EXPECT_EQ(take_all(answers), ack.substr(4) + error(9) + "{\"acked\":10}\n");
}

TEST(Answers, OneByteAtATimeGivesTheSameAnswers) {
  Answers answers;
  std::string sent;
  for (std::uint64_t line = 1; line <= 50; ++line) {
    if (line % 3 == 0) {
      answers.refuse(line, kBad);
    }
    answers.settle(line);
    for (int count = 0; count < 7 && !answers.unsent().empty(); ++count) {
      sent += answers.unsent().substr(0, 1);
      answers.sent(1);
    }
  }
  sent += take_all(answers);
  std::uint64_t last = 0;
  std::size_t errors = 0;
  for (std::size_t at = 0; at < sent.size();) {
    const std::size_t end = sent.find('\n', at);
    ASSERT_NE(end, std::string::npos);
    const std::string answer = sent.substr(at, end - at);
    const bool is_ack = answer.starts_with("{\"acked\":");
    const std::uint64_t line = std::stoull(answer.substr(answer.find_first_of("0123456789")));
    EXPECT_TRUE(is_ack ? line >= last : line > last) << answer;
    last = line;
    errors += is_ack ? 0 : 1;
    at = end + 1;
  }
  EXPECT_EQ(errors, 16U);
  EXPECT_EQ(last, 50U);
}

TEST(Answers, AcknowledgementIsNotStarvedByErrorsThatKeepComing) {
  Answers answers;
  answers.settle(1);
  std::string sent;
  for (std::uint64_t line = 2; line < 100; ++line) {
    answers.refuse(line, kBad);
    answers.settle(line);
    sent += answers.unsent().substr(0, 30);
    answers.sent(30);
  }
  const std::size_t first = sent.find("{\"acked\":");
  ASSERT_NE(first, std::string::npos);
  EXPECT_NE(sent.find("{\"acked\":", first + 1), std::string::npos);
}

TEST(Answers, DiscardDropsEveryAnswer) {
  Answers answers;
  answers.refuse(1, kBad);
  answers.refuse(3, kBad);
  answers.settle(2);
  answers.discard();
  EXPECT_TRUE(answers.all_sent());
  EXPECT_EQ(answers.unsent_bytes() + answers.held_bytes(), 0U);
}

}  // namespace
}  // namespace run_recorder
