// EventServer::settle_pending: what was sent before the call is durable and with the recorder when it returns.
#include <fmt/format.h>

#include <atomic>
#include <thread>

#include "server_fixture.h"

namespace run_recorder {
namespace {

using namespace std::chrono_literals;

TEST_F(ServerTest, SettlesLinesInSocketsAndInTheListenQueue) {
  start();
  constexpr std::size_t kClients = 60;
  for (int round = 0; round < 10; ++round) {
    std::vector<Client> clients;
    for (std::size_t i = 0; i < kClients; ++i) {
      clients.push_back(connect());
      clients.back().send(started(fmt::format("r{}", i)) + note("n"));
    }
    const std::size_t before = kClients * 2 * static_cast<std::size_t>(round);
    ASSERT_TRUE(server->settle_pending(kPatience));
    ASSERT_EQ(accepted_count(), before + kClients * 2);
  }
}

TEST_F(ServerTest, SettlesTheUnterminatedLastLineOfAClosedPeer) {
  start();
  for (std::size_t round = 1; round <= 20; ++round) {
    Client client = connect();
    const std::string line = started("r");
    client.send(line.substr(0, line.size() - 1));
    client.close();
    ASSERT_TRUE(server->settle_pending(kPatience));
    ASSERT_EQ(accepted_count(), round);
  }
}

TEST_F(ServerTest, SettlesOnlyDurableLines) {
  start();
  Client client = connect();
  spool->shut();
  client.send(note("r"));
  EXPECT_FALSE(server->settle_pending(30ms));
  spool->open();
  EXPECT_TRUE(server->settle_pending(kPatience));
  EXPECT_EQ(accepted_count(), 1U);
}

TEST_F(ServerTest, SettlesLinesThatTheSpoolRefused) {
  start();
  Client client = connect();
  spool->fail_with(Error{ErrorKind::kUnavailable, "no disk"});
  client.send(note("r"));
  EXPECT_TRUE(server->settle_pending(kPatience));
  EXPECT_EQ(accepted_count(), 0U);
  EXPECT_FALSE(counters().spool_failure.empty());
}

TEST_F(ServerTest, SettlesALineWhileAnotherClientKeepsSending) {
  start();
  Client quiet = connect();
  Client loud = connect();
  std::atomic<bool> done = false;
  std::thread flood([&] {
    const std::string lines = note("loud") + note("loud") + note("loud");
    while (!done && loud.send(lines)) {
    }
  });
  quiet.send(started("quiet"));
  EXPECT_TRUE(server->settle_pending(kPatience));
  std::size_t heard = 0;
  for (const Accepted& one : accepted()) heard += one.event.run_id == "quiet" ? 1 : 0;
  EXPECT_EQ(heard, 1U);
  done = true;
  flood.join();
}

TEST_F(ServerTest, SettlesWithoutWaitingForTheRestOfALine) {
  start();
  Client client = connect();
  client.send(R"({"type":"no)");
  EXPECT_TRUE(server->settle_pending(kPatience));
  EXPECT_EQ(accepted_count(), 0U);
}

TEST_F(ServerTest, SettlesNothingOnceStopped) {
  start();
  stop();
  EXPECT_FALSE(server->settle_pending(kPatience));
}

}  // namespace
}  // namespace run_recorder
