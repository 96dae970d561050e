#include "net/access.h"

#include <linux/sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/socket_path.h"
#include "gtest/gtest.h"
#include "support/temp_folder.h"

namespace run_recorder {
namespace {

TEST(AccessList, EmptyListsLetEverybodyIn) {
  EXPECT_TRUE(AccessList().allows(Peer{}));
  EXPECT_TRUE(AccessList::resolve({}, {})->allows(Peer{1000, 17, {1000}}));
}

TEST(AccessList, UserOrAnyOfTheGroupsMustMatchAndRootIsNoException) {
  const AccessList list = *AccessList::resolve({"1000"}, {"2000", "root"});
  EXPECT_TRUE(list.allows(Peer{1000, 1, {5}}));
  EXPECT_TRUE(list.allows(Peer{1, 1, {5, 6, 2000}}));
  EXPECT_TRUE(list.allows(Peer{1, 1, {0}}));
  EXPECT_FALSE(list.allows(Peer{0, 1, {5}}));
  EXPECT_FALSE(list.allows(Peer{2000, 1, {1000}}));
  EXPECT_FALSE(list.allows(Peer{}));
}

TEST(AccessList, UnknownNamesAreNamed) {
  for (const auto& list :
       {AccessList::resolve({"nobody-of-that-name"}, {}), AccessList::resolve({}, {"nobody-of-that-name"}),
        AccessList::resolve({"-1"}, {}), AccessList::resolve({"4294967296"}, {})}) {
    ASSERT_FALSE(list);
    EXPECT_EQ(list.error().kind, ErrorKind::kInvalid);
  }
  EXPECT_NE(AccessList::resolve({"nobody-of-that-name"}, {}).error().message.find("nobody-of-that-name"),
            std::string::npos);
}

TEST(Peer, HasUserPidAndAllGroups) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  const UniqueFd near(ends[0]);
  const UniqueFd far(ends[1]);
  const Peer peer = peer_of(near.get());
  EXPECT_EQ(peer.uid, ::geteuid());
  EXPECT_EQ(peer.pid, ::getpid());
  std::vector<gid_t> groups(static_cast<std::size_t>(::getgroups(0, nullptr)));
  groups.resize(static_cast<std::size_t>(::getgroups(static_cast<int>(groups.size()), groups.data())));
  groups.insert(groups.begin(), ::getegid());
  EXPECT_EQ(peer.groups, groups);
}

class WaitingPeer : public testing::Test {
 protected:
  void SetUp() override {
    const sockaddr_un address = socket_address(path_).value();
    listener_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto* const name = reinterpret_cast<const sockaddr*>(&address);
    ASSERT_EQ(::bind(listener_.get(), name, sizeof address), 0);
    ASSERT_EQ(::listen(listener_.get(), 8), 0);
    peer_ = ::fork();
    if (peer_ == 0) {
      const int end = ::socket(AF_UNIX, SOCK_STREAM, 0);
      ::_exit(::connect(end, name, sizeof address) == 0 && ::send(end, "x\n", 2, 0) == 2 ? 0 : 1);
    }
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(peer_), &info, WEXITED | WNOWAIT);
    ASSERT_EQ(info.si_status, 0);
  }
  Sender accepted() {
    const UniqueFd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const Peer peer = peer_of(connection.get());
    EXPECT_EQ(peer.pid, peer_);
    return sender_of(connection.get(), peer);
  }

  TempFolder folder_;
  const std::string path_ = (folder_.path() / "socket").string();
  UniqueFd listener_;
  pid_t peer_ = -1;
};

TEST_F(WaitingPeer, IsIdentifiedAsAZombie) {
  const Sender sender = accepted();
  EXPECT_EQ(sender.identity, identify(peer_));
  EXPECT_EQ(check_process(sender.identity), ProcessEvidence::kGone);
  EXPECT_EQ(sender.own_pid, peer_);
  ::waitpid(peer_, nullptr, 0);
}

TEST_F(WaitingPeer, IsNotALaterProcessWithItsPid) {
  ::waitpid(peer_, nullptr, 0);
  clone_args args{};
  args.exit_signal = SIGCHLD;
  args.set_tid = reinterpret_cast<std::uint64_t>(&peer_);
  args.set_tid_size = 1;
  const long later = ::syscall(SYS_clone3, &args, sizeof args);
  if (later == 0) {
    while (true) ::pause();
  }
  UniqueFd pidfd;
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd near(ends[0]);
  const UniqueFd far(ends[1]);
  int fd = -1;
  socklen_t bytes = sizeof fd;
  const bool has_pidfds = ::getsockopt(near.get(), SOL_SOCKET, 77, &fd, &bytes) == 0;  // SO_PEERPIDFD
  pidfd.reset(fd);
  const Sender sender = accepted();
  if (later > 0) {
    ::kill(peer_, SIGKILL);
    ::waitpid(peer_, nullptr, 0);
  }
  if (later < 0 || has_pidfds) {
    EXPECT_TRUE(sender.identity.ends_with(":absent")) << sender.identity;
    EXPECT_EQ(check_process(sender.identity), ProcessEvidence::kGone);
  } else {
    GTEST_SKIP() << "this kernel has no SO_PEERPIDFD: the later process is taken for the peer";
  }
}

}  // namespace
}  // namespace run_recorder
