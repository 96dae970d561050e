#include "net/listener.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "net/access.h"
#include "server_fixture.h"

namespace run_recorder {
namespace {

namespace fs = std::filesystem;

struct stat status_of(const fs::path& path) {
  struct stat status {};
  EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
  return status;
}

// The exit status and the sentence with which it is refused; 0 when it is not.
std::pair<int, std::string> refusal_at(const fs::path& path, const std::string& group = {}) {
  try {
    Listener::at(path, 0660, group);
    return {0, ""};
  } catch (const StartError& error) {
    return {error.exit_status(), error.what()};
  }
}

class ListenerTest : public ::testing::Test {
 protected:
  void TearDown() override { ::umask(umask_); }
  TemporaryFolder folder;
  const fs::path path = folder.path() / "events.sock";
  const mode_t umask_ = [] {
    const mode_t mask = ::umask(022);
    ::umask(mask);
    return mask;
  }();
};

TEST_F(ListenerTest, ModeIsTheConfiguredOneWhateverTheUmask) {
  for (const mode_t mask : {0U, 022U, 077U, 0777U}) {
    ::umask(mask);
    const Listener listener = Listener::at(path, 0660, "");
    EXPECT_EQ(status_of(path).st_mode & 07777U, 0660U) << mask;
    const Client client(path);
  }
  ::umask(0);
  const Listener listener = Listener::at(path, 0600, "");
  EXPECT_EQ(status_of(path).st_mode & 07777U, 0600U);
}

TEST_F(ListenerTest, GroupMayBeANameOrANumber) {
  const gid_t own = ::getegid();
  const struct group* entry = ::getgrgid(own);
  ASSERT_NE(entry, nullptr);
  for (const std::string& group : {std::string(entry->gr_name), std::to_string(own)}) {
    const Listener listener = Listener::at(path, 0660, group);
    EXPECT_EQ(status_of(path).st_gid, own);
  }
  if (::geteuid() == 0) {
    const Listener listener = Listener::at(path, 0660, "12345");
    EXPECT_EQ(status_of(path).st_gid, 12345U);
  }
}

TEST_F(ListenerTest, UnknownGroupIsAMistakeOfTheConfiguration) {
  const auto [exit_status, sentence] = refusal_at(path, "no-such-group");
  EXPECT_EQ(exit_status, kExitNotThere);
  EXPECT_NE(sentence.find("no-such-group"), std::string::npos);
  EXPECT_FALSE(fs::exists(fs::symlink_status(path)));
}

TEST_F(ListenerTest, MissingFoldersAreMadeForEverybodyToEnter) {
  ::umask(077);
  const Listener listener = Listener::at(folder.path() / "a" / "b" / "events.sock", 0660, "");
  EXPECT_EQ(status_of(folder.path() / "a").st_mode & 07777U, 0755U);
  EXPECT_EQ(status_of(folder.path() / "a" / "b").st_mode & 07777U, 0755U);
}

TEST_F(ListenerTest, SocketThatNobodyListensOnIsReplaced) {
  {
    const Listener killed = Listener::at(path, 0660, "");
    fs::rename(path, folder.path() / "kept");
  }
  fs::rename(folder.path() / "kept", path);  // as after kill -9: the file is there, nobody listens
  ASSERT_TRUE(fs::is_socket(path));
  EXPECT_THROW(Client{path}, std::runtime_error);
  const Listener listener = Listener::at(path, 0660, "");
  const Client client(path);
}

TEST_F(ListenerTest, SocketOfALiveListenerIsLeftAlone) {
  const Listener live = Listener::at(path, 0660, "");
  const auto [exit_status, sentence] = refusal_at(path);
  EXPECT_EQ(exit_status, kExitNotThere);
  EXPECT_NE(sentence.find("another process listens there"), std::string::npos) << sentence;
  const Client client(path);
}

// Everybody who may read the folder can lock it.
TEST_F(ListenerTest, ALockOnTheFolderDoesNotKeepItFromStarting) {
  const UniqueFd other(::open(folder.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
  const Listener listener = Listener::at(path, 0660, "");
  EXPECT_TRUE(fs::is_socket(path));
}

TEST_F(ListenerTest, RegularFileIsLeftAlone) {
  std::ofstream(path) << "precious";
  const auto [exit_status, sentence] = refusal_at(path);
  EXPECT_EQ(exit_status, kExitNotThere);
  EXPECT_NE(sentence.find("no socket"), std::string::npos) << sentence;
  EXPECT_EQ(fs::file_size(path), 8U);
}

TEST_F(ListenerTest, SymbolicLinkIsNotFollowed) {
  const fs::path target = folder.path() / "target";
  for (const bool dangling : {true, false}) {
    if (!dangling) {
      std::ofstream(target) << "precious";
    }
    fs::create_symlink(target, path);
    const auto [exit_status, sentence] = refusal_at(path);
    EXPECT_EQ(exit_status, kExitNotThere);
    EXPECT_NE(sentence.find("symbolic link"), std::string::npos) << sentence;
    EXPECT_TRUE(fs::is_symlink(path));
    EXPECT_EQ(fs::exists(target), !dangling);
    fs::remove(path);
  }
}

TEST_F(ListenerTest, LinkToALiveSocketIsNotFollowedEither) {
  const Listener live = Listener::at(folder.path() / "other.sock", 0660, "");
  fs::create_symlink(folder.path() / "other.sock", path);
  EXPECT_EQ(refusal_at(path).first, kExitNotThere);
}

TEST_F(ListenerTest, PathThatIsTooLongForASocketIsAMistakeOfTheConfiguration) {
  const auto [exit_status, sentence] = refusal_at(folder.path() / std::string(120, 'x'));
  EXPECT_EQ(exit_status, kExitConfiguration);
  EXPECT_NE(sentence.find("107"), std::string::npos) << sentence;
}

TEST_F(ListenerTest, FolderThatIsAFileIsRefused) {
  std::ofstream(folder.path() / "file") << "x";
  EXPECT_EQ(refusal_at(folder.path() / "file" / "events.sock").first, kExitNotThere);
}

TEST_F(ListenerTest, RemovesItsFileButNotTheOneOfAnother) {
  {
    Listener listener = Listener::at(path, 0660, "");
    listener.remove_file();
    EXPECT_FALSE(fs::exists(path));
    const Listener another = Listener::at(path, 0660, "");
    listener.remove_file();
    EXPECT_TRUE(fs::exists(path));
  }
  Listener first = Listener::at(path, 0660, "");
  fs::remove(path);
  const Listener second = Listener::at(path, 0660, "");
  first.remove_file();
  EXPECT_TRUE(fs::exists(path));
}

TEST_F(ListenerTest, InheritedSocketMustListenAndItsFileStays) {
  Listener outer = Listener::at(path, 0660, "");
  {
    Listener inherited = Listener::inherited(::dup(outer.fd()));
    EXPECT_GE(inherited.fd(), 0);
    inherited.remove_file();
  }
  EXPECT_TRUE(fs::exists(path));
  const UniqueFd silent(::socket(AF_UNIX, SOCK_STREAM, 0));
  const UniqueFd file(::open("/dev/null", O_RDONLY));
  EXPECT_THROW(Listener::inherited(silent.get()), StartError);
  EXPECT_THROW(Listener::inherited(file.get()), StartError);
}

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

TEST(Peer, IsWhoeverConnectedWithAllGroups) {
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
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
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

  TemporaryFolder folder_;
  const std::string path_ = (folder_.path() / "socket").string();
  UniqueFd listener_;
  pid_t peer_ = -1;
};

TEST_F(WaitingPeer, ThatHasEndedButIsNotReapedIsItself) {
  const Sender sender = accepted();
  EXPECT_EQ(sender.identity, identify(peer_));
  EXPECT_EQ(look_at(sender.identity), ProcessEvidence::kGone);
  EXPECT_EQ(sender.own_pid, peer_);
  ::waitpid(peer_, nullptr, 0);
}

TEST_F(WaitingPeer, ThatHasEndedIsNotALaterProcessWithItsPid) {
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
    EXPECT_EQ(look_at(sender.identity), ProcessEvidence::kGone);
  } else {
    GTEST_SKIP() << "this kernel has no SO_PEERPIDFD: the later process is taken for the peer";
  }
}

}  // namespace
}  // namespace run_recorder
