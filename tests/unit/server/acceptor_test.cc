// Who is let in at the event socket: real peers at a real socket, without a server behind it.
#include "server/acceptor.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "server_fixture.h"

namespace run_recorder {
namespace {

// So that the next descriptor is one too many.
class NoDescriptorLeft {
 public:
  NoDescriptorLeft() {
    getrlimit(RLIMIT_NOFILE, &before_);
    const UniqueFd next(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const rlimit none{static_cast<rlim_t>(next.get()), before_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoDescriptorLeft() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

class AcceptorTest : public ::testing::Test {
 protected:
  AcceptorTest() {
    acceptor_.set_rules({}, 16);
    acceptor_.start();
  }
  ~AcceptorTest() override {
    acceptor_.stop();
    context_.io.run();  // what was begun ends
  }
  static int listen_at(const std::filesystem::path& path) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
    EXPECT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(fd, 64), 0);
    return fd;
  }
  Client connect() { return Client(path_); }
  static AccessList only_somebody_else() {
    return AccessList::resolve({std::to_string(::geteuid() + 1)}, {}).value();
  }

  TempFolder folder_;
  const std::filesystem::path path_ = folder_.file("events.sock");
  Counters counters_;
  SessionContext context_{{}, now_utc, counters_};
  std::vector<Peer> peers_;
  std::vector<Acceptor::Socket> sockets_;
  Acceptor acceptor_{context_, listen_at(path_), [this](Acceptor::Socket&& socket, const Peer& peer) {
                       sockets_.push_back(std::move(socket));
                       peers_.push_back(peer);
                     }};
};

TEST_F(AcceptorTest, AdmitsAllThatWait) {
  const Client first = connect();
  const Client second = connect();
  EXPECT_TRUE(acceptor_.accept_waiting());
  ASSERT_EQ(peers_.size(), 2U);
  EXPECT_EQ(peers_[0].uid, ::geteuid());
  EXPECT_EQ(peers_[0].pid, ::getpid());
}

TEST_F(AcceptorTest, RefusesForbiddenPeers) {
  acceptor_.set_rules(only_somebody_else(), 16);
  Client client = connect();
  EXPECT_TRUE(acceptor_.accept_waiting());
  EXPECT_TRUE(client.answer().starts_with(error_start(0, "forbidden")));
  EXPECT_EQ(client.answer(), "") << "and nothing more";
  EXPECT_TRUE(peers_.empty());
  EXPECT_EQ(counters_.snapshot().connections_forbidden, 1U);
}

TEST_F(AcceptorTest, RefusesOneTooManyUntilAnotherHasEnded) {
  std::vector<Client> clients;
  while (counters_.snapshot().connections_over_limit == 0 && clients.size() < 100) {
    clients.push_back(connect());
    EXPECT_TRUE(acceptor_.accept_waiting());
  }
  EXPECT_TRUE(clients.back().answer().starts_with(error_start(0, "unavailable")));
  const std::size_t held = peers_.size();
  EXPECT_EQ(held, clients.size() - 1);
  EXPECT_GE(held, 16U);
  acceptor_.closed(peers_.back());
  const Client next = connect();
  EXPECT_TRUE(acceptor_.accept_waiting());
  EXPECT_EQ(peers_.size(), held + 1);
}

TEST_F(AcceptorTest, TellsAPeerThatNoDescriptorIsLeft) {
  Client client = connect();
  {
    const NoDescriptorLeft none;
    EXPECT_FALSE(acceptor_.accept_waiting()) << "whether more of them wait cannot be told";
  }
  EXPECT_TRUE(client.answer().starts_with(error_start(0, "unavailable")));
  EXPECT_EQ(counters_.snapshot().connections_over_limit, 1U);
  const Client next = connect();
  EXPECT_TRUE(acceptor_.accept_waiting());
  EXPECT_EQ(peers_.size(), 1U);
}

TEST_F(AcceptorTest, AcceptsNothingOnceItIsStopped) {
  const Client client = connect();
  acceptor_.stop();
  EXPECT_FALSE(acceptor_.accept_waiting());
  EXPECT_TRUE(peers_.empty());
}

}  // namespace
}  // namespace run_recorder
