// The sending end of the event socket against a peer that the test plays, by a clock that it sets: what is kept, sent
// again, and in which order.
#include "cli/event_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "support/temp_folder.h"

namespace run_recorder {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Tags = std::vector<std::uint64_t>;

class EventClientTest : public ::testing::Test {
 protected:
  void listen() {
    listener_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    ASSERT_EQ(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    ASSERT_EQ(::listen(listener_.get(), 8), 0);
  }
  // The client's next connection is taken.
  void accept() {
    peer_ = UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    ASSERT_TRUE(peer_);
  }
  // What has come over it.
  std::string received() {
    char buffer[4096];
    const ssize_t got = ::recv(peer_.get(), buffer, sizeof(buffer), 0);
    return got > 0 ? std::string(buffer, static_cast<std::size_t>(got)) : std::string();
  }
  void answer(std::string_view lines) {
    ASSERT_EQ(::send(peer_.get(), lines.data(), lines.size(), MSG_NOSIGNAL), static_cast<ssize_t>(lines.size()));
  }
  void refuse(int line, std::string_view code) {
    answer(R"({"error":{"line":)" + std::to_string(line) + R"(,"code":")" + std::string(code) +
           R"(","message":"words"}})" + "\n");
  }
  std::vector<EventClient::Settled> work() { return client_.work(now_); }
  Tags settled() {
    Tags tags;
    for (const auto& one : work()) tags.push_back(one.tag);
    return tags;
  }
  Tags waiting() const {
    Tags tags;
    for (const auto& one : client_.waiting()) tags.push_back(one.tag);
    return tags;
  }

  TempFolder folder_;
  const std::string path_ = folder_.file("events.sock");
  UniqueFd listener_;
  UniqueFd peer_;
  EventClient client_{{.path = path_}};
  EventClient::Clock::time_point now_{1h};
};

TEST_F(EventClientTest, KeepsALineUntilItIsAcknowledged) {
  listen();
  client_.add(7, "a");
  client_.add(8, "b");
  EXPECT_THAT(settled(), IsEmpty());
  accept();
  EXPECT_EQ(received(), "a\nb\n");
  EXPECT_THAT(waiting(), ElementsAre(7, 8));
  EXPECT_EQ(client_.waiting_bytes(), 2U);
  answer("{\"acked\":1}\n");
  EXPECT_THAT(settled(), ElementsAre(7));
  answer("{\"acked\"");
  EXPECT_THAT(settled(), IsEmpty()) << "half an answer";
  answer(":2}\n");
  EXPECT_THAT(settled(), ElementsAre(8));
  EXPECT_EQ(client_.waiting_lines(), 0U);
  EXPECT_EQ(client_.waiting_bytes(), 0U);
}

TEST_F(EventClientTest, SendsWhatIsNotSettledAgainOverTheNextConnection) {
  listen();
  for (const std::uint64_t tag : {1U, 2U, 3U}) client_.add(tag, "line " + std::to_string(tag));
  work();
  accept();
  answer("{\"acked\":1}\n");
  peer_.reset();
  EXPECT_THAT(settled(), ElementsAre(1));
  EXPECT_FALSE(client_.connected());
  EXPECT_THAT(client_.problem(), HasSubstr("broke"));
  EXPECT_THAT(settled(), IsEmpty());
  EXPECT_FALSE(client_.connected()) << "not before the pause is over";
  now_ = client_.wake_at().value();
  work();
  accept();
  EXPECT_EQ(received(), "line 2\nline 3\n");
  answer("{\"acked\":2}\n");
  EXPECT_THAT(settled(), ElementsAre(2, 3)) << "lines are counted anew on each connection";
}

TEST_F(EventClientTest, ReportsARefusalWithItsLineInOrder) {
  listen();
  for (const std::uint64_t tag : {1U, 2U, 3U}) client_.add(tag, "x");
  work();
  accept();
  refuse(2, "invalid_event");
  answer("{\"acked\":3}\n");
  const auto all = work();
  ASSERT_EQ(all.size(), 3U);
  EXPECT_FALSE(all[0].refusal);
  ASSERT_TRUE(all[1].refusal);
  EXPECT_EQ(to_string(*all[1].refusal), "invalid_event: words");
  EXPECT_FALSE(all[2].refusal);
}

TEST_F(EventClientTest, RetriesTemporaryRefusalsInOrder) {
  listen();
  client_.add(1, "a");
  client_.add(2, "b");
  work();
  accept();
  EXPECT_EQ(received(), "a\nb\n");
  refuse(1, "spool_full");
  answer("{\"acked\":2}\n");
  EXPECT_THAT(settled(), ElementsAre(2));
  client_.add(3, "c");
  EXPECT_THAT(waiting(), ElementsAre(1, 3));
  EXPECT_EQ(client_.waiting()[0].refusal.value().code, "spool_full");
  work();
  EXPECT_EQ(received(), "");
  const auto due = client_.wake_at();
  ASSERT_TRUE(due);
  EXPECT_GT(*due, now_);
  now_ = *due;
  work();
  EXPECT_EQ(received(), "a\nc\n");
  answer("{\"acked\":4}\n");
  EXPECT_THAT(settled(), ElementsAre(1, 3));
}

TEST_F(EventClientTest, SettlesEveryRefusalWhereItIsToldTo) {
  client_ = EventClient({.path = path_, .retry_refused = false});
  listen();
  client_.add(1, "a");
  work();
  accept();
  refuse(1, "spool_full");
  answer("{\"acked\":1}\n");
  const auto all = work();
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].refusal.value().code, "spool_full");
}

TEST_F(EventClientTest, GivesUpWhereThisUserMayNotSend) {
  listen();
  client_.add(1, "a");
  work();
  accept();
  refuse(0, "not_permitted");
  EXPECT_THAT(settled(), IsEmpty());
  EXPECT_TRUE(client_.forbidden());
  EXPECT_THAT(client_.problem(), HasSubstr("not_permitted: words"));
  EXPECT_FALSE(client_.wake_at());
}

TEST_F(EventClientTest, ReconnectsAfterARefusedConnection) {
  listen();
  client_.add(1, "a");
  work();
  accept();
  refuse(0, "unavailable");
  work();
  EXPECT_FALSE(client_.forbidden());
  now_ = client_.wake_at().value();
  work();
  EXPECT_TRUE(client_.connected());
}

TEST_F(EventClientTest, TakesOnlyOurProtocolForAnAnswer) {
  listen();
  client_.add(1, "a");
  work();
  accept();
  answer("HTTP/1.1 400 Bad Request\n");
  EXPECT_THAT(settled(), IsEmpty());
  EXPECT_FALSE(client_.connected());
  EXPECT_THAT(client_.problem(), HasSubstr("is not run-recorderd"));
  EXPECT_THAT(waiting(), ElementsAre(1));
}

TEST_F(EventClientTest, BacksOffUntilHurried) {
  client_.add(1, "a");
  std::vector<std::chrono::milliseconds> pauses;
  for (int attempt = 0; attempt < 8; ++attempt) {
    work();
    EXPECT_TRUE(client_.away());
    const auto due = client_.wake_at().value();
    pauses.push_back(std::chrono::duration_cast<std::chrono::milliseconds>(due - now_));
    now_ = due;
  }
  EXPECT_THAT(pauses, ElementsAre(50ms, 100ms, 200ms, 400ms, 800ms, 1600ms, 2000ms, 2000ms));
  work();
  client_.hurry(60ms);
  EXPECT_LE(client_.wake_at().value(), now_);
  for (const auto pause : {50ms, 60ms, 60ms}) {
    work();
    EXPECT_EQ(client_.wake_at().value(), now_ + pause);
    now_ += pause;
  }
}

TEST_F(EventClientTest, IsIdleWithoutLines) {
  EXPECT_FALSE(client_.wake_at());
  work();
  EXPECT_FALSE(client_.connected()) << "nothing to send, nobody to connect to";
}

}  // namespace
}  // namespace run_recorder
