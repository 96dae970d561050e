// How many of the connections one user and one process can take, and who still finds room then.
#include "server/shares.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace run_recorder {
namespace {

using testing::HasSubstr;

Peer peer(uid_t uid, pid_t pid) {
  return {uid, pid, {}};
}

// As many as it gets.
std::size_t fill(ConnectionShares& shares, const Peer& who) {
  std::size_t count = 0;
  for (; shares.has_room_for(who); ++count) shares.add(who);
  return count;
}

TEST(ConnectionShares, AProcessAtTheLimitLeavesRoomForOtherProcessesAndUsers) {
  ConnectionShares shares;
  shares.set_limit(1'024);
  EXPECT_EQ(fill(shares, peer(1, 10)), 1'024U);
  EXPECT_EQ(fill(shares, peer(1, 11)), 22U) << "of 64: while it has fewer than half of the rest";
  EXPECT_EQ(fill(shares, peer(2, 20)), 36U) << "of 106";
  EXPECT_FALSE(shares.has_room_for(peer(1, 10)));
  EXPECT_TRUE(shares.has_room_for(peer(1, 12)));
  EXPECT_TRUE(shares.has_room_for(peer(3, 30)));
}

TEST(ConnectionShares, AUserWithAnyNumberOfProcessesLeavesRoomForOtherUsers) {
  ConnectionShares shares;
  shares.set_limit(1'024);
  std::size_t held = 0;
  for (pid_t pid = 1; pid < 10'000; ++pid) held += fill(shares, peer(1, pid));
  EXPECT_EQ(held, 1'024U + 64U);
  for (uid_t user = 2; user < 10; ++user) {
    EXPECT_TRUE(shares.has_room_for(peer(user, 1))) << user;
    fill(shares, peer(user, 1));
  }
}

TEST(ConnectionShares, TheReserveBoundsAllConnections) {
  ConnectionShares shares;
  shares.set_limit(5);
  EXPECT_EQ(ConnectionShares::reserve_of(5), 2U);
  std::size_t held = 0;
  for (uid_t user = 1; user < 100; ++user) held += fill(shares, peer(user, static_cast<pid_t>(user)));
  EXPECT_EQ(held, 7U);
}

TEST(ConnectionShares, OneProcessMayHoldTheConfiguredLimit) {
  for (const std::size_t limit : {1U, 2U, 5U, 16U, 17U, 1'024U, 100'000U}) {
    ConnectionShares shares;
    shares.set_limit(limit);
    EXPECT_EQ(fill(shares, peer(1, 1)), limit);
  }
}

TEST(ConnectionShares, AClosedConnectionMakesRoom) {
  ConnectionShares shares;
  shares.set_limit(4);
  fill(shares, peer(1, 1));
  EXPECT_FALSE(shares.has_room_for(peer(1, 1)));
  shares.remove(peer(1, 1));
  EXPECT_TRUE(shares.has_room_for(peer(1, 1)));
  for (int left = 3; left > 0; --left) shares.remove(peer(1, 1));
  EXPECT_EQ(fill(shares, peer(2, 2)), 4U);
}

TEST(ConnectionShares, ALoweredLimitHoldsForNewConnections) {
  ConnectionShares shares;
  shares.set_limit(100);
  fill(shares, peer(1, 1));
  shares.set_limit(10);
  EXPECT_FALSE(shares.has_room_for(peer(2, 2)));
}

TEST(ConnectionShares, PeersWithoutAPidOrAUserAreJudgedByWhatIsKnown) {
  ConnectionShares shares;
  shares.set_limit(160);
  const Peer hidden{1, std::nullopt, {}};
  const Peer unknown{std::nullopt, std::nullopt, {}};
  EXPECT_EQ(fill(shares, hidden), 160U);
  EXPECT_TRUE(shares.has_room_for(peer(1, 1)));
  EXPECT_TRUE(shares.has_room_for(unknown));
  shares.add(unknown);
  shares.remove(unknown);
  shares.remove(hidden);
}

TEST(ConnectionShares, RefusalsNameTheLargestHolders) {
  ConnectionShares shares;
  shares.set_limit(8);
  shares.add(peer(7, 70));
  fill(shares, peer(33, 1234));
  EXPECT_EQ(shares.largest_holders(), "8 are open, 7 of them of user 33, 7 of its process 1234");
  EXPECT_THAT(shares.refusal(peer(33, 1234)),
              HasSubstr("8 connections are open, 7 of them of user 33 and 7 of this process"));
  EXPECT_THAT(shares.refusal(peer(33, 1234)), HasSubstr("[limits] connections"));
}

}  // namespace
}  // namespace run_recorder
