// What a worker sees: lines and their answers.
#include "server/server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <numeric>
#include <set>
#include <thread>

#include "process/identity.h"
#include "server/descriptors.h"
#include "server_fixture.h"

namespace run_recorder {
namespace {

using Answers = std::vector<std::string>;

TEST_F(ServerTest, AcknowledgedEventIsInTheSpoolAndWithTheRecorder) {
  start();
  Client client = connect();
  client.send("{\"type\":\"run_started\",\"run_id\":\"r1\",\"council\":\"demo\",\"id\":\"e1\"}\n");
  EXPECT_EQ(client.answer(), "{\"acked\":1}");

  const auto events = accepted();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].seq, 1U);
  EXPECT_GT(events[0].bytes, 0U);
  const Event& event = events[0].event;
  EXPECT_EQ(event.kind, EventKind::kStarted);
  EXPECT_EQ(event.run_id, "r1");
  EXPECT_EQ(event.received_at, now);
  EXPECT_EQ(event.peer_uid, ::geteuid());
  EXPECT_EQ(event.peer_pid, ::getpid());
  EXPECT_EQ(event.sender_process, identify(::getpid()));

  const auto records = spooled();
  ASSERT_EQ(records.size(), 1U);
  const Event again = decode_record(records[0].body).value();
  EXPECT_EQ(again.id, "e1");
  EXPECT_EQ(again.connection, event.connection);
  EXPECT_EQ(again.received_at, now);
  EXPECT_EQ(again.sender_process, event.sender_process);
  EXPECT_EQ(decode_envelope(records[0].body).value().line,
            "{\"type\":\"run_started\",\"run_id\":\"r1\",\"council\":\"demo\",\"id\":\"e1\"}");
}

TEST_F(ServerTest, WorkerProcessIsIdentifiedWhenItsEventIsReceived) {
  start();
  Client client = connect();
  client.send(fmt::format("{{\"type\":\"note\",\"run_id\":\"r\",\"worker_pid\":{}}}\n", ::getpid()));
  EXPECT_EQ(client.answer(), "{\"acked\":1}");
  EXPECT_EQ(accepted()[0].event.worker_process, identify(::getpid()));
  EXPECT_EQ(check_process(accepted()[0].event.worker_process), ProcessEvidence::kAlive);
}

TEST_F(ServerTest, BytesMayBeSplitAnywhere) {
  start();
  const std::string text = "{\"type\":\"note\",\"run_id\":\"é\"}\n{\n\n{\"type\":\"note\",\"run_id\":\"b\"}\n";
  for (std::size_t split = 1; split < text.size(); ++split) {
    Client client = connect();
    client.send(text.substr(0, split));
    // The server has read the first part when a later connection of its has been answered.
    Client other = connect();
    other.send(note("other"));
    ASSERT_EQ(other.answer(), "{\"acked\":1}");
    client.send(text.substr(split));
    const Answers answers = client.answers_until(4);
    ASSERT_EQ(std::count_if(answers.begin(), answers.end(),
                            [](const auto& a) { return a.starts_with(error_start(2, "invalid_json")); }),
              1);
    ASSERT_EQ(answers.back(), "{\"acked\":4}");
  }
}

TEST_F(ServerTest, BytesMayComeOneAtATime) {
  start();
  Client client = connect();
  for (const char byte : started("slow")) {
    client.send(std::string_view(&byte, 1));
  }
  EXPECT_EQ(client.answer(), "{\"acked\":1}");
  EXPECT_EQ(accepted()[0].event.run_id, "slow");
}

TEST_F(ServerTest, ManyEventsInOneWriteAreSettledInOrder) {
  start();
  Client client = connect();
  std::string text;
  for (int number = 0; number < 200; ++number) {
    text += note(std::to_string(number));
  }
  client.send(text);
  client.answers_until(200);
  const auto events = accepted();
  ASSERT_EQ(events.size(), 200U);
  for (std::size_t number = 0; number < events.size(); ++number) {
    EXPECT_EQ(events[number].seq, number + 1);
    EXPECT_EQ(events[number].event.run_id, std::to_string(number));
  }
}

TEST_F(ServerTest, EachRefusalNamesItsLineAndTheConnectionGoesOn) {
  options.limits.line_bytes = 1000;
  options.limits.depth = 4;
  start();
  Client client = connect();
  client.send("\n  \r\n" + note("a") + "{\n[]\n" + std::string(1001, 'x') + "\n" +
              "{\"type\":\"note\",\"run_id\":\"r\",\"x\":[[[[]]]]}\n" + note("b"));
  client.finish_sending();
  Answers answers = client.answers_until_end();
  EXPECT_EQ(answers.back(), "{\"acked\":8}");
  std::erase_if(answers, [](const auto& answer) { return acked(answer) > 0; });
  ASSERT_EQ(answers.size(), 4U);
  EXPECT_TRUE(answers[0].starts_with(error_start(4, "invalid_json"))) << answers[0];
  EXPECT_TRUE(answers[1].starts_with(error_start(5, "invalid_event"))) << answers[1];
  EXPECT_TRUE(answers[2].starts_with(error_start(6, "too_large"))) << answers[2];
  EXPECT_TRUE(answers[3].starts_with(error_start(7, "too_deep"))) << answers[3];
  EXPECT_EQ(accepted_count(), 2U);
  EXPECT_EQ(counters().lines, 8U);
  EXPECT_EQ(counters().accepted, 2U);
  EXPECT_EQ(refused(RefusalCode::kInvalidJson), 1U);
  EXPECT_EQ(refused(RefusalCode::kTooLarge), 1U);
}

TEST_F(ServerTest, BlankAndRefusedLinesAreAcknowledgedWithoutTheSpool) {
  start();
  spool->shut();
  Client client = connect();
  client.send("\n\nbad\n");
  const Answers answers = client.answers_until(3);
  EXPECT_TRUE(answers[answers.size() - 2].starts_with(error_start(3, "invalid_json")));
  EXPECT_EQ(answers.back(), "{\"acked\":3}");
  spool->open();
}

TEST_F(ServerTest, ErrorWaitsForTheLinesBeforeItAndNoAcknowledgementOvertakesTheSpool) {
  start();
  spool->shut();
  Client client = connect();
  client.send(note("a") + "bad\n");
  spool->wait_for_append();
  client.send(note("b") + "worse\n\n");
  Client other = connect();
  other.send("bad\n");
  EXPECT_TRUE(other.answer().starts_with(error_start(1, "invalid_json")));  // so the server has had its look
  EXPECT_FALSE(client.has_answer());
  spool->open();
  Answers answers = client.answers_until(5);
  EXPECT_EQ(answers.back(), "{\"acked\":5}");
  std::erase_if(answers, [](const auto& answer) { return acked(answer) > 0; });
  ASSERT_EQ(answers.size(), 2U);
  EXPECT_TRUE(answers[0].starts_with(error_start(2, "invalid_json")));
  EXPECT_TRUE(answers[1].starts_with(error_start(4, "invalid_json")));
}

TEST_F(ServerTest, OneSyncServesAllThatWait) {
  start();
  spool->shut();
  Client first = connect();
  first.send(note("first"));
  spool->wait_for_append();
  std::vector<Client> clients;
  for (int number = 0; number < 20; ++number) {
    clients.push_back(connect());
    clients.back().send(note(std::to_string(number)));
  }
  ASSERT_TRUE(eventually([this] { return counters().lines == 21; }));
  spool->open();
  for (Client& client : clients) {
    EXPECT_EQ(client.answer(), "{\"acked\":1}");
  }
  EXPECT_EQ(spool->appends(), 2U);
  EXPECT_EQ(spool->largest_append(), 20U);
}

TEST_F(ServerTest, SessionsCommitLittleThemselvesAndLeaveTheRestToTheWriter) {
  start();
  Client client = connect();
  client.send(note("little"));
  EXPECT_EQ(client.answer(), "{\"acked\":1}");
  EXPECT_EQ(spool->last_thread(), "sessions");
  spool->shut();
  client.send(note("held"));
  spool->wait_for_append();
  client.send(note("behind it"));
  ASSERT_TRUE(eventually([this] { return counters().lines == 3; }));
  spool->open();
  EXPECT_EQ(client.answers_until(3).back(), "{\"acked\":3}");
  EXPECT_EQ(spool->last_thread(), "spool-writer");
  client.send(note("little again"));
  EXPECT_EQ(client.answer(), "{\"acked\":4}");
  EXPECT_EQ(spool->last_thread(), "sessions");
}

TEST_F(ServerTest, SessionsAreServedEachTimeTheDiskHangs) {
  start();
  Client client = connect();
  for (std::uint64_t round = 1; round <= 3; ++round) {
    spool->shut();
    client.send(note("held"));
    spool->wait_for_append();
    Client other = connect();
    other.send("bad\n" + note("behind it"));
    EXPECT_TRUE(other.answer().starts_with(error_start(1, "invalid_json")));
    EXPECT_TRUE(server->responds(kPatience));
    EXPECT_FALSE(client.has_answer());
    spool->open();
    EXPECT_EQ(client.answer(), fmt::format("{{\"acked\":{}}}", round));
    EXPECT_EQ(other.answers_until(2).back(), "{\"acked\":2}");
  }
  EXPECT_EQ(accepted_count(), 6U);
}

TEST_F(ServerTest, LastLineNeedsNoNewline) {
  start();
  Client client = connect();
  client.send(note("a") + "{\"type\":\"note\",\"run_id\":\"last\"}");
  client.finish_sending();
  EXPECT_EQ(client.answers_until_end().back(), "{\"acked\":2}");
  EXPECT_EQ(accepted().back().event.run_id, "last");
}

TEST_F(ServerTest, HalfALineAtTheEndIsALineThatIsRefused) {
  start();
  Client client = connect();
  client.send(note("a") + "{\"type\":\"no");
  client.finish_sending();
  const Answers answers = client.answers_until_end();
  EXPECT_EQ(answers.back(), "{\"acked\":2}");
  EXPECT_TRUE(answers[answers.size() - 2].starts_with(error_start(2, "invalid_json")));
}

TEST_F(ServerTest, AConnectionWithoutLinesEndsWithoutAnswers) {
  start();
  Client client = connect();
  client.finish_sending();
  EXPECT_TRUE(client.answers_until_end().empty());
}

TEST_F(ServerTest, EndInTheMiddleOfALineThatIsTooLargeCountsItOnce) {
  options.limits.line_bytes = 100;
  start();
  Client client = connect();
  client.send(std::string(5000, 'x'));
  client.finish_sending();
  const Answers answers = client.answers_until_end();
  EXPECT_TRUE(answers[0].starts_with(error_start(1, "too_large")));
  EXPECT_EQ(answers.back(), "{\"acked\":1}");
  EXPECT_EQ(counters().lines, 1U);
}

TEST_F(ServerTest, HalfClosedClientGetsAllAnswersBeforeTheEnd) {
  start();
  Client client = connect();
  std::string text;
  for (int number = 1; number <= 5000; ++number) {
    text += number % 50 == 0 ? "bad\n" : note(std::to_string(number));
  }
  client.send(text);
  client.finish_sending();
  const Answers answers = client.answers_until_end();
  EXPECT_EQ(answers.back(), "{\"acked\":5000}");
  EXPECT_EQ(std::count_if(answers.begin(), answers.end(), [](const auto& answer) { return acked(answer) == 0; }),
            100);
  std::uint64_t settled = 0;
  for (const std::string& answer : answers) {
    if (acked(answer) > 0) {
      settled = acked(answer);
    } else {
      EXPECT_GT(std::stoull(answer.substr(answer.find_first_of("0123456789"))), settled);
    }
  }
}

TEST_F(ServerTest, LinesSentBeforeAClientClosedAreAccepted) {
  start();
  for (int number = 0; number < 50; ++number) {
    Client client = connect();
    client.send(note("whole") + "bad\n" + note("whole") + "{\"type\":\"no");
  }
  EXPECT_TRUE(eventually([this] { return accepted_count() == 100 && counters().connections_open == 0; }));
  EXPECT_EQ(counters().lines, 200U);
  EXPECT_EQ(refused(RefusalCode::kInvalidJson), 100U);
}

TEST_F(ServerTest, ClientThatSendsAndGoesWithoutReadingLosesNothing) {
  start();
  {
    Client client = connect();
    for (int number = 0; number < 20'000; ++number) {
      ASSERT_TRUE(client.send(note("gone")));
    }
  }
  EXPECT_TRUE(eventually([this] { return accepted_count() == 20'000; }));
}

TEST_F(ServerTest, ClientThatNeverReadsIsNotBlockedAndItsAcknowledgementsAreMerged) {
  start();
  Client silent = connect();
  for (int number = 0; number < 50'000; ++number) {
    ASSERT_TRUE(silent.send(note("silent")));
  }
  Client other = connect();
  other.send(note("other"));
  EXPECT_EQ(other.answer(), "{\"acked\":1}");
  ASSERT_TRUE(eventually([this] { return accepted_count() == 50'001; }));
  EXPECT_EQ(counters().closed_unread, 0U);
  EXPECT_EQ(silent.answers_until(50'000).back(), "{\"acked\":50000}");
}

TEST_F(ServerTest, ClientThatDoesNotReadItsErrorsIsClosedAndCounted) {
  start();
  Client nonreader = connect();
  while (nonreader.send("{\n{\n{\n{\n{\n{\n{\n{\n")) {
  }
  EXPECT_TRUE(eventually([this] { return counters().closed_unread == 1 && counters().connections_open == 0; }));
  Client other = connect();
  other.send(note("other"));
  EXPECT_EQ(other.answer(), "{\"acked\":1}");
}

TEST_F(ServerTest, ClientThatReadsItsErrorsMayHaveAnyNumberOfThem) {
  options.bounds.unread_grace = kPatience;
  start();
  Client client = connect();
  const std::string text(100'000, '\n');
  std::string bad;
  for (int number = 0; number < 50'000; ++number) {
    bad += "x\n";
  }
  std::size_t sent = 0;
  std::size_t errors = 0;
  while (sent < bad.size()) {
    sent += client.send_some(std::string_view(bad).substr(sent));
    while (client.has_answer()) {
      errors += acked(client.answer()) == 0 ? 1 : 0;
    }
  }
  client.finish_sending();
  for (const std::string& answer : client.answers_until_end()) {
    errors += acked(answer) == 0 ? 1 : 0;
  }
  EXPECT_EQ(errors, 50'000U);
  EXPECT_EQ(counters().closed_unread, 0U);
}

TEST_F(ServerTest, ExcludedTypesAreValidatedAndAcknowledgedInOrderButNotKept) {
  const std::vector<std::string> excluded{"member_token"};
  options.limits.filter = TypeFilter(excluded, {});
  start();
  spool->shut();
  Client client = connect();
  client.send(note("a"));
  spool->wait_for_append();
  client.send("{\"type\":\"member_token\",\"run_id\":\"a\"}\n{\"type\":\"member_token\"}\n");
  ASSERT_TRUE(eventually([this] { return counters().lines == 3; }));
  EXPECT_FALSE(client.has_answer());
  spool->open();
  Answers answers = client.answers_until(3);
  std::erase_if(answers, [](const auto& answer) { return acked(answer) > 0; });
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_TRUE(answers[0].starts_with(error_start(3, "invalid_event")));
  EXPECT_EQ(accepted_count(), 1U);
  EXPECT_EQ(counters().excluded, 1U);
  EXPECT_EQ(counters().types, (std::map<std::string, std::uint64_t, std::less<>>{{"note", 1}}));
}

TEST_F(ServerTest, FullSpoolRefusesEventsButKeepsRoomForTheLifecycle) {
  spool_options.max_bytes = 64 << 10;
  spool_options.segment_bytes = 16 << 10;
  start();
  Client client = connect();
  std::uint64_t line = 0;
  std::string answer;
  do {
    client.send(long_note("n", 1000));
    answer = client.answer();
    ++line;
    ASSERT_LT(line, 200U);
  } while (acked(answer) == line);
  EXPECT_TRUE(answer.starts_with(error_start(line, "spool_full"))) << answer;
  EXPECT_EQ(client.answer(), fmt::format("{{\"acked\":{}}}", line));
  client.send(started("important"));
  EXPECT_EQ(client.answer(), fmt::format("{{\"acked\":{}}}", ++line));
  EXPECT_EQ(refused(RefusalCode::kSpoolFull), 1U);
  const std::uint64_t kept = accepted_count();
  spool->release(kept);
  client.send(long_note("n", 1000));
  EXPECT_EQ(client.answer(), fmt::format("{{\"acked\":{}}}", ++line)) << "it goes on by itself when there is room";
  EXPECT_EQ(accepted().back().seq, kept + 1);
}

TEST_F(ServerTest, LinesOfOneWriteAreRefusedOnceTheSpoolIsFull) {
  spool_options.max_bytes = 64 << 10;
  spool_options.segment_bytes = 16 << 10;
  start();
  Client client = connect();
  std::string text;
  for (int number = 0; number < 100; ++number) {
    text += long_note("n", 1000) + (number % 10 == 0 ? "bad\n" : "");
  }
  client.send(text);
  client.finish_sending();
  const Answers answers = client.answers_until_end();
  EXPECT_EQ(answers.back(), "{\"acked\":110}");
  EXPECT_EQ(refused(RefusalCode::kSpoolFull) + accepted_count(), 100U);
  EXPECT_GT(refused(RefusalCode::kSpoolFull), 0U);
  std::uint64_t last = 0;
  for (const std::string& answer : answers) {
    const std::uint64_t line = std::stoull(answer.substr(answer.find_first_of("0123456789")));
    EXPECT_TRUE(acked(answer) > 0 ? line >= last : line > last) << answer;
    last = line;
  }
}

TEST_F(ServerTest, SpoolThatFailsRefusesEventsAsUnavailable) {
  start();
  Client client = connect();
  spool->fail_with(Error{ErrorKind::kIo, "fdatasync: Input/output error"});
  client.send(note("a") + started("b") + "\n");
  Answers answers = client.answers_until(3);
  EXPECT_TRUE(answers[0].starts_with(error_start(1, "unavailable"))) << answers[0];
  EXPECT_TRUE(answers[1].starts_with(error_start(2, "unavailable"))) << answers[1];
  EXPECT_EQ(answers.back(), "{\"acked\":3}");
  EXPECT_EQ(counters().spool_failure, "fdatasync: Input/output error");
  EXPECT_EQ(accepted_count(), 0U);
  spool->fail_with(std::nullopt);
  client.send(note("c"));
  EXPECT_EQ(client.answer(), "{\"acked\":4}");
  EXPECT_EQ(counters().spool_failure, "");
}

TEST_F(ServerTest, LinesUpToTheLimitAreTakenAndLongerOnesNeedNoMemory) {
  options.limits.line_bytes = 1 << 20;
  start();
  Client client = connect();
  client.send(long_note("long", 1 << 20));
  EXPECT_EQ(client.answer(), "{\"acked\":1}");
  const std::string much(1 << 20, 'x');
  for (int count = 0; count < 64; ++count) {
    ASSERT_TRUE(client.send(much));
    EXPECT_LE(counters().pool_bytes, 2U << 20);
  }
  EXPECT_TRUE(client.answer().starts_with(error_start(2, "too_large")));  // before its end has come
  client.send("\n" + note("after"));
  EXPECT_EQ(client.answers_until(3).back(), "{\"acked\":3}");
  const std::string around = "{\"type\":\"note\",\"run_id\":\"long\",\"payload\":}";
  EXPECT_EQ(accepted()[0].event.payload.size(), (1U << 20) - around.size());
  EXPECT_EQ(accepted_count(), 2U);
}

TEST_F(ServerTest, SilentLongLinesAreEndedAndOthersNeverWaitForThem) {
  options.limits.line_bytes = 64 << 10;
  options.bounds.pool_bytes = 64 << 10;
  options.bounds.stall = std::chrono::seconds(4);  // a busy machine is not silent for so long
  start();
  Client silent = connect();
  silent.send(std::string(40'000, 'x'));
  ASSERT_TRUE(eventually([this] { return counters().pool_bytes >= 40'000; }));
  Client small = connect();
  small.send(note("small"));
  EXPECT_EQ(small.answer(), "{\"acked\":1}") << "short lines need no room";
  Client large = connect();
  large.send(long_note("large", 60'000));
  EXPECT_TRUE(silent.answer().starts_with(error_start(1, "unavailable")));
  EXPECT_EQ(silent.answer(), "{\"acked\":1}");
  EXPECT_EQ(large.answer(), "{\"acked\":1}") << "it has waited for the room of the silent one";
  silent.send(std::string(100'000, 'x') + "\n" + note("after"));
  EXPECT_EQ(silent.answer(), "{\"acked\":2}") << "the rest of the line was skipped";
  EXPECT_TRUE(eventually([this] { return counters().pool_bytes == 0; }));
}

TEST_F(ServerTest, LongLinesThatCompeteForTheRoomAreAllFinished) {
  options.limits.line_bytes = 64 << 10;
  options.bounds.pool_bytes = 128 << 10;
  options.bounds.stall = kPatience;
  start();
  std::vector<Client> clients;
  for (int number = 0; number < 16; ++number) {
    clients.push_back(connect());
  }
  const std::string line = long_note("large", 64 << 10);
  for (std::size_t at = 0; at < line.size(); at += 5000) {
    for (Client& client : clients) {
      ASSERT_TRUE(client.send(std::string_view(line).substr(at, 5000)));
    }
  }
  for (Client& client : clients) {
    EXPECT_EQ(client.answer(), "{\"acked\":1}");
  }
  EXPECT_LE(counters().pool_bytes, 128U << 10);
}

TEST_F(ServerTest, ALineThatWaitsTooLongForRoomIsRefused) {
  options.limits.line_bytes = 64 << 10;
  options.bounds.pool_bytes = 64 << 10;
  options.bounds.stall = std::chrono::seconds(4);  // a busy machine does not keep the hog from moving for so long
  start();
  Client hog = connect();
  hog.send(std::string(20'000, 'x'));
  ASSERT_TRUE(eventually([this] { return counters().pool_bytes >= 20'000; }));
  Client waiting = connect();
  waiting.send(std::string(30'000, 'x'));
  waiting.send("\n" + note("after"));
  // The hog moves, a byte for each hundred answers that another one gets, for longer than anybody may wait.
  Client other = connect();
  for (std::uint64_t line = 1; !waiting.has_answer(); ++line) {
    if (line % 100 == 1) {
      ASSERT_EQ(hog.send_some("x"), 1U);
    }
    other.send("\n");
    ASSERT_EQ(acked(other.answer()), line);
    ASSERT_LT(line, 4'000'000U);
  }
  EXPECT_TRUE(waiting.answer().starts_with(error_start(1, "unavailable")));
  EXPECT_EQ(waiting.answers_until(2).back(), "{\"acked\":2}");
}

TEST_F(ServerTest, ReadingPausesWhenTooMuchWaitsForTheDisk) {
  options.bounds.waiting_bytes = 256 << 10;
  options.bounds.session_waiting_bytes = 64 << 10;
  start();
  spool->shut();
  std::vector<Client> clients;
  for (int number = 0; number < 8; ++number) {
    clients.push_back(connect());
  }
  const std::string text = long_note("n", 1000);
  std::vector<std::size_t> sent(clients.size());
  std::size_t taken = 1;
  while (taken > 0) {  // until the kernel takes nothing more, because the server does not read
    taken = 0;
    for (std::size_t number = 0; number < clients.size(); ++number) {
      const std::size_t at = sent[number] % text.size();
      const std::size_t count = clients[number].send_some(std::string_view(text).substr(at));
      sent[number] += count;
      taken += count;
    }
  }
  EXPECT_LE(counters().waiting_bytes, (256U << 10) + (64U << 10));
  spool->open();
  std::uint64_t events = 0;
  for (std::size_t number = 0; number < clients.size(); ++number) {
    ASSERT_TRUE(clients[number].send(std::string_view(text).substr(sent[number] % text.size())));
    const std::uint64_t lines = sent[number] / text.size() + 1;
    EXPECT_EQ(clients[number].answers_until(lines).back(), fmt::format("{{\"acked\":{}}}", lines));
    events += lines;
  }
  EXPECT_EQ(accepted_count(), events);
  EXPECT_TRUE(eventually([this] { return counters().waiting_bytes == 0; }));
}

TEST_F(ServerTest, EachCommitOfAFloodTakesLinesOfOtherSessions) {
  options.bounds.commit_bytes = 16 << 10;  // each of the flood's submissions has more
  options.bounds.session_waiting_bytes = 4 << 20;
  start();
  spool->shut();
  Client flood = connect();
  std::string text;
  for (int number = 0; number < 1000; ++number) {
    text += long_note("flood", 1000);
  }
  flood.send(text);
  ASSERT_TRUE(eventually([this] { return counters().lines == 1000; }));
  Client other = connect();
  other.send(note("other"));
  ASSERT_TRUE(eventually([this] { return counters().lines == 1001; }));
  spool->open();
  EXPECT_EQ(other.answer(), "{\"acked\":1}");
  EXPECT_EQ(flood.answers_until(1000).back(), "{\"acked\":1000}");
  const auto events = accepted();
  const auto place =
      std::find_if(events.begin(), events.end(), [](const Accepted& event) { return event.event.run_id == "other"; });
  EXPECT_LT(place - events.begin(), 500);
  for (std::size_t number = 0; number < events.size(); ++number) {
    EXPECT_EQ(events[number].seq, number + 1);
  }
}

TEST_F(ServerTest, UsersWithoutPermissionAreToldAndClosed) {
  options.limits.allow_users = {"54321"};
  start();
  Client client = connect();
  client.send(note("a"));
  const Answers answers = client.answers_until_end();
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_TRUE(answers[0].starts_with(error_start(0, "forbidden"))) << answers[0];
  EXPECT_EQ(counters().connections_forbidden, 1U);
  EXPECT_EQ(accepted_count(), 0U);
}

TEST_F(ServerTest, WhoMaySendChangesWithTheConfiguration) {
  start();
  ServerLimits limits = options.limits;
  limits.allow_groups = {"54321"};
  ASSERT_TRUE(server->reconfigure(limits));
  ASSERT_TRUE(server->responds(kPatience));  // so it has taken effect
  EXPECT_TRUE(connect().answer().starts_with(error_start(0, "forbidden")));
  limits.allow_users = {std::to_string(::geteuid())};
  ASSERT_TRUE(server->reconfigure(limits));
  ASSERT_TRUE(server->responds(kPatience));  // so it has taken effect
  Client client = connect();
  client.send(note("a"));
  EXPECT_EQ(client.answer(), "{\"acked\":1}");
  limits.allow_users = {"nobody-of-that-name"};
  EXPECT_FALSE(server->reconfigure(limits));
}

TEST_F(ServerTest, WhoMayNoLongerSendIsToldAndClosed) {
  options.limits.allow_users = {std::to_string(::geteuid())};
  start();
  Client client = connect();
  client.send(note("a"));
  EXPECT_EQ(client.answer(), "{\"acked\":1}");
  ServerLimits limits = options.limits;
  limits.allow_users.push_back("54321");
  ASSERT_TRUE(server->reconfigure(limits));
  client.send(note("a"));
  EXPECT_EQ(client.answer(), "{\"acked\":2}") << "it still may";

  spool->shut();
  client.send(note("a"));
  spool->wait_for_append();
  limits.allow_users = {"54321"};
  ASSERT_TRUE(server->reconfigure(limits));
  spool->open();
  const Answers answers = client.answers_until_end();
  ASSERT_EQ(answers.size(), 2U);
  EXPECT_EQ(answers[0], "{\"acked\":3}") << "what was read is settled";
  EXPECT_TRUE(answers[1].starts_with(error_start(0, "forbidden"))) << answers[1];
  EXPECT_TRUE(eventually([this] { return counters().connections_open == 0; }));
  EXPECT_EQ(counters().connections_forbidden, 1U);
  EXPECT_EQ(accepted_count(), 3U);
}

TEST_F(ServerTest, WhoIsInNoGroupThatMaySendAnyMoreIsClosed) {
  options.limits.allow_groups = {std::to_string(::getegid())};
  start();
  Client client = connect();
  client.send(note("a"));
  EXPECT_EQ(client.answer(), "{\"acked\":1}");
  ServerLimits limits = options.limits;
  limits.allow_groups = {"54321"};
  ASSERT_TRUE(server->reconfigure(limits));
  EXPECT_TRUE(client.answer().starts_with(error_start(0, "forbidden")));
  EXPECT_EQ(client.answer(), "");
}

TEST_F(ServerTest, WhoMayNoLongerSendIsClosedAlsoWhereItReadsNothing) {
  options.bounds.linger = std::chrono::milliseconds(50);
  start();
  Client client = connect();
  std::string errors;
  for (int number = 0; number < 300; ++number) {
    errors += "bad\n";
  }
  for (int more = 0; more < 3; ++more) {  // answers that fill the kernel's buffer, and less than would close it
    client.send_some(errors);
    ASSERT_TRUE(eventually([&] { return counters().lines >= 300U * static_cast<std::size_t>(more + 1); }));
  }
  ServerLimits limits = options.limits;
  limits.allow_users = {"54321"};
  ASSERT_TRUE(server->reconfigure(limits));
  EXPECT_TRUE(eventually([this] { return counters().connections_open == 0; }));
}

TEST_F(ServerTest, LimitsThatChangeHoldForOpenConnections) {
  start();
  Client client = connect();
  client.send(note("a"));
  EXPECT_EQ(client.answer(), "{\"acked\":1}");
  ServerLimits limits = options.limits;
  limits.line_bytes = 100;
  const std::vector<std::string> include{"kept"};
  limits.filter = TypeFilter({}, include);
  ASSERT_TRUE(server->reconfigure(limits));
  ASSERT_TRUE(server->responds(kPatience));  // so it has taken effect
  client.send(long_note("a", 101) + note("a"));
  const Answers answers = client.answers_until(3);
  EXPECT_TRUE(answers[0].starts_with(error_start(2, "too_large")));
  EXPECT_TRUE(eventually([this] { return counters().excluded == 1; }));
}

TEST_F(ServerTest, OneConnectionTooManyIsToldAndClosed) {
  options.limits.connections = 2;
  start();
  Client first = connect();
  Client second = connect();
  second.send(note("a"));
  EXPECT_EQ(second.answer(), "{\"acked\":1}");
  Client third = connect();
  const Answers answers = third.answers_until_end();
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_TRUE(answers[0].starts_with(error_start(0, "unavailable"))) << answers[0];
  EXPECT_EQ(counters().connections_over_limit, 1U);
  first.close();
  ASSERT_TRUE(eventually([this] { return counters().connections_open == 1; }));
  Client fourth = connect();
  fourth.send(note("b"));
  EXPECT_EQ(fourth.answer(), "{\"acked\":1}");
}

TEST_F(ServerTest, RefusedPeersThatDoNotLeaveAreBounded) {
  options.limits.allow_users = {"54321"};
  options.bounds.lingering = 2;
  options.bounds.linger = kPatience;
  start();
  std::vector<Client> clients;
  for (int number = 0; number < 20; ++number) {
    clients.push_back(connect());
    EXPECT_TRUE(clients.back().answer().starts_with(error_start(0, "forbidden")));
  }
  stop();  // and they do not hold it up
}

TEST_F(ServerTest, ConnectionsAreKnownWhileTheyAreOpen) {
  start();
  Client client = connect();
  client.send(note("a"));
  EXPECT_EQ(client.answer(), "{\"acked\":1}");
  const std::string connection = accepted()[0].event.connection;
  EXPECT_EQ(connection, spool->incarnations().back().id.substr(0, 8) + "-1");
  EXPECT_TRUE(server->connection_open(connection));
  EXPECT_FALSE(server->connection_open(connection + "1"));
  EXPECT_FALSE(server->connection_open("00000000-1"));
  EXPECT_FALSE(server->connection_open(""));
  EXPECT_FALSE(server->connection_open(connection.substr(0, 9)));
  client.close();
  EXPECT_TRUE(eventually([&] { return !server->connection_open(connection); }));
}

TEST_F(ServerTest, TheEndOfAConnectionIsToldOnceWhatItSentIsAccepted) {
  std::promise<std::pair<std::string, std::string>> ended;
  bool was_open = true;
  std::size_t accepted_by_then = 0;
  options.on_connection_end = [&](const std::string& sender, const std::string& connection) {
    was_open = server->connection_open(connection);
    accepted_by_then = accepted().size();
    ended.set_value({sender, connection});
  };
  start();
  Client client = connect();
  client.send(note("a") + note("b"));
  client.close();
  auto told = ended.get_future();
  ASSERT_EQ(told.wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(told.get(), std::make_pair(identify(::getpid()), accepted()[0].event.connection));
  EXPECT_FALSE(was_open);
  EXPECT_EQ(accepted_by_then, 2U);
  options.on_connection_end = nullptr;
}

TEST_F(ServerTest, DescriptorsOfOtherPartsLowerTheConnectionLimit) {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  options.limits.connections = 1024;
  options.other_descriptors = files.rlim_max - descriptors_for(512);
  start();
  EXPECT_LE(counters().connections_limit, 520U);
  EXPECT_GT(counters().connections_limit, 0U);
}

TEST_F(ServerTest, AThousandConnectionsAreServed) {
  options.limits.connections = 1024;
  start();
  ASSERT_EQ(counters().connections_limit, 1024U);
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = std::min<rlim_t>(files.rlim_max, 4096);
  ::setrlimit(RLIMIT_NOFILE, &files);
  std::vector<Client> clients;
  for (int number = 0; number < 1000; ++number) {
    clients.push_back(connect());
  }
  for (Client& client : clients) {
    client.send(note("a") + note("b"));
  }
  for (Client& client : clients) {
    EXPECT_EQ(client.answers_until(2).back(), "{\"acked\":2}");
  }
  EXPECT_EQ(counters().connections_open, 1000U);
  std::set<std::string> connections;
  for (const Accepted& event : accepted()) {
    connections.insert(event.event.connection);
  }
  EXPECT_EQ(connections.size(), 1000U);
}

TEST_F(ServerTest, KeepsServingWithoutFreeDescriptors) {
  start();
  Client before = connect();
  before.send(note("a"));
  EXPECT_EQ(before.answer(), "{\"acked\":1}");
  Client refused_one = [this] {
    // As many descriptors as there are, and one for the client: none for the server.
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    UniqueFd next(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const rlimit tight{static_cast<rlim_t>(next.get()) + 1, files.rlim_max};
    next.reset();
    ::setrlimit(RLIMIT_NOFILE, &tight);
    Client client = connect();
    const std::string answer = client.answer();
    EXPECT_TRUE(answer.starts_with(error_start(0, "unavailable"))) << answer;
    ::setrlimit(RLIMIT_NOFILE, &files);
    return client;
  }();
  EXPECT_EQ(refused_one.answer(), "");
  before.send(note("b"));
  EXPECT_EQ(before.answer(), "{\"acked\":2}");
  Client after = connect();
  after.send(note("c"));
  EXPECT_EQ(after.answer(), "{\"acked\":1}");
}

TEST_F(ServerTest, FewerConnectionsWhereTheFileLimitIsLower) {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  options.limits.connections = files.rlim_max + 1000;
  start();
  // Two for each of 64 remembered processes, 128 of the control socket, 64 refused peers that linger.
  EXPECT_LE(counters().connections_limit + std::min<rlim_t>(2 * 64 + 128 + 64, files.rlim_max / 2), files.rlim_max);
  EXPECT_GT(counters().connections_limit, 0U);
}

TEST_F(ServerTest, StopSettlesWhatWasReadAndAnswersIt) {
  start();
  spool->shut();
  Client client = connect();
  client.send(note("a") + "bad\n" + note("b") + "{\"type\":\"half");
  spool->wait_for_append();
  std::thread stopping([this] { stop(); });
  EXPECT_TRUE(eventually([this] { return !std::filesystem::exists(options.path); }));
  spool->open();
  const Answers answers = client.answers_until_end();
  stopping.join();
  EXPECT_TRUE(std::any_of(answers.begin(), answers.end(),
                          [](const auto& answer) { return answer.starts_with(error_start(2, "invalid_json")); }));
  EXPECT_EQ(answers.back(), "{\"acked\":3}") << "half a line is not one: more of it could have come";
  EXPECT_EQ(accepted_count(), 2U);
  EXPECT_FALSE(server->responds(std::chrono::milliseconds(1)));
}

TEST_F(ServerTest, StopIsNotHeldUpByClients) {
  options.bounds.linger = std::chrono::milliseconds(50);
  start();
  Client idle = connect();
  Client nonreader = connect();
  for (int number = 0; number < 2000; ++number) {
    nonreader.send_some("x\n");
  }
  Client half = connect();
  half.send(std::string(100'000, 'x'));
  ASSERT_TRUE(eventually([this] { return counters().connections_open == 3; }));
  stop();
  EXPECT_TRUE(idle.answers_until_end().empty());
  EXPECT_EQ(counters().connections_open, 0U);
}

TEST_F(ServerTest, StopUnderLoadAcknowledgesNothingThatIsNotDurable) {
  start();
  std::vector<std::thread> senders;
  std::atomic<std::uint64_t> acknowledged = 0;
  for (int number = 0; number < 4; ++number) {
    senders.emplace_back([&] {
      Client client = connect();
      std::uint64_t settled = 0;
      while (client.send(note("a") + note("b"))) {
        while (client.has_answer()) {
          const std::string answer = client.answer();
          if (answer.empty()) {
            acknowledged += settled;
            return;
          }
          settled = std::max(settled, acked(answer));
        }
      }
      for (std::string answer = client.answer(); !answer.empty(); answer = client.answer()) {
        settled = std::max(settled, acked(answer));
      }
      acknowledged += settled;
    });
  }
  ASSERT_TRUE(eventually([this] { return accepted_count() > 2000; }));
  stop();
  for (std::thread& sender : senders) {
    sender.join();
  }
  EXPECT_EQ(acknowledged, accepted_count());
  EXPECT_EQ(spooled().size(), accepted_count());
}

TEST_F(ServerTest, StoppedServerLeavesThePathToTheNext) {
  start();
  EXPECT_TRUE(server->responds(kPatience));
  EventServer second(options, *spool, now_utc, [](std::vector<Accepted>&&) {});
  EXPECT_THROW(second.start(), StartError);
  stop();
  EXPECT_FALSE(std::filesystem::exists(options.path));
  start();
  Client client = connect();
  client.send(note("a"));
  EXPECT_EQ(client.answer(), "{\"acked\":1}");
}

TEST_F(ServerTest, AnUnknownUserEndsTheStartWithStatus69) {
  options.limits.allow_users = {"nobody-of-that-name"};
  try {
    start();
    FAIL() << "it started";
  } catch (const StartError& error) {
    EXPECT_EQ(error.exit_status(), kExitNotThere);
  }
}

TEST_F(ServerTest, CountersTellHowLongAcknowledgementsTook) {
  start();
  Client client = connect();
  client.send(note("a") + note("b"));
  client.answers_until(2);
  ASSERT_TRUE(eventually([this] {
    const auto& buckets = counters().ack_buckets;
    return std::accumulate(buckets.begin(), buckets.end(), std::uint64_t{0}) == 2;
  }));
  EXPECT_GT(counters().ack_sum.count(), 0);
}

TEST_F(ServerTest, TypesAreCountedUpToABound) {
  start();
  Client client = connect();
  std::string text;
  for (int number = 0; number < 100; ++number) {
    text += fmt::format("{{\"type\":\"type_{}\",\"run_id\":\"r\"}}\n", number);
  }
  client.send(text);
  client.answers_until(100);
  const auto types = counters().types;
  EXPECT_EQ(types.size(), ServerCounters::kTypes + 1);
  EXPECT_EQ(types.find("other")->second, 100 - ServerCounters::kTypes);
}

}  // namespace
}  // namespace run_recorder
