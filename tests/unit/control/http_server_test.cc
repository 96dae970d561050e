// The control API as a client sees it: bytes over a real UNIX socket.
#include "control/http_server.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "control_fixture.h"

namespace run_recorder::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A client that writes and reads bytes, and gives up a read only when the test has failed anyway.
class Client {
 public:
  explicit Client(const std::string& path) : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    connected_ = ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    const timeval longest{60, 0};
    setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof longest);
  }
  bool connected() const { return connected_; }
  void send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;  // the server has hung up: what it said can still be read
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  void end() const { shutdown(socket_.get(), SHUT_WR); }
  // One answer by its Content-Length; what is there where the connection ends before that.
  std::string answer() {
    while (true) {
      const std::size_t head = buffer_.find("\r\n\r\n");
      if (head != std::string::npos) {
        const std::size_t field = buffer_.find("Content-Length: ");
        const std::size_t length = field < head ? std::stoul(buffer_.substr(field + 16)) : 0;
        const std::size_t whole = head + 4 + (without_body_ ? 0 : length);
        if (buffer_.size() >= whole) {
          std::string answer = buffer_.substr(0, whole);
          buffer_.erase(0, whole);
          return answer;
        }
      }
      if (!more()) return std::exchange(buffer_, {});
    }
  }
  bool ended() {
    while (more()) {
    }
    return buffer_.empty();
  }
  void expect_no_bodies() { without_body_ = true; }

 private:
  bool more() {
    char bytes[4096];
    const ssize_t got = recv(socket_.get(), bytes, sizeof bytes, 0);
    if (got <= 0) return false;
    buffer_.append(bytes, static_cast<std::size_t>(got));
    return true;
  }

  UniqueFd socket_;
  bool connected_ = false;
  bool without_body_ = false;
  std::string buffer_;
};

class ControlHttp : public ControlFixture {
 protected:
  void SetUp() override {
    ControlFixture::SetUp();
    HttpOptions options;
    options.path = folder_.path() / "control.sock";
    options.mode = 0660;
    server_ = std::make_unique<HttpServer>(options, api(), traits_of);
    server_->start();
  }
  void TearDown() override {
    server_.reset();
    ControlFixture::TearDown();
  }
  HttpServer::Answer api() {
    return [this](const ApiRequest& request) { return api_->answer(request); };
  }
  std::string path() const { return folder_.file("control.sock"); }
  static std::string request(const std::string& method, const std::string& target, const std::string& more = {}) {
    return fmt::format("{} {} HTTP/1.1\r\nHost: x\r\n{}\r\n", method, target, more);
  }

  std::unique_ptr<HttpServer> server_;
};

TEST_P(ControlHttp, AnswersARequest) {
  Client client(path());
  client.send(request("GET", "/healthz"));
  const std::string answer = client.answer();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: application/json\r\n"));
  EXPECT_THAT(answer, HasSubstr("{\"status\":\"ok\"}\n"));
}

TEST_P(ControlHttp, KeepsTheConnectionForMoreRequests) {
  append({line_of("run_started", "r")});
  Client client(path());
  for (int i = 0; i < 5; ++i) {
    client.send(request("GET", "/v1/runs/r"));
    EXPECT_THAT(client.answer(), HasSubstr("\"run_id\":\"r\""));
    client.send(request("GET", "/metrics"));
    EXPECT_THAT(client.answer(), HasSubstr("run_recorder_up 1"));
  }
}

TEST_P(ControlHttp, AnswersPipelinedRequestsInTheirOrder) {
  Client client(path());
  client.send(request("GET", "/v1/runs/none") + request("GET", "/healthz") + request("GET", "/v1/runs"));
  EXPECT_THAT(client.answer(), StartsWith("HTTP/1.1 404 Not Found"));
  EXPECT_THAT(client.answer(), HasSubstr("ok"));
  EXPECT_THAT(client.answer(), HasSubstr("\"runs\":[]"));
}

TEST_P(ControlHttp, ReadsARequestThatComesByteByByte) {
  Client client(path());
  const std::string body = R"({"dry_run":true})";
  const std::string whole =
      request("POST", "/v1/reconcile", fmt::format("Content-Length: {}\r\n", body.size())) + body;
  for (const char byte : whole) client.send({&byte, 1});
  EXPECT_THAT(client.answer(), HasSubstr("\"dry_run\":true"));
}

TEST_P(ControlHttp, ReadsAChunkedBody) {
  Client client(path());
  client.send(request("POST", "/v1/reconcile", "Transfer-Encoding: chunked\r\n") +
              "8\r\n{\"dry_ru\r\n8\r\nn\":true}\r\n0\r\n\r\n");
  EXPECT_THAT(client.answer(), HasSubstr("\"dry_run\":true"));
}

TEST_P(ControlHttp, ClosesWhenAskedTo) {
  Client client(path());
  client.send(request("GET", "/healthz", "Connection: close\r\n"));
  EXPECT_THAT(client.answer(), HasSubstr("200 OK"));
  EXPECT_TRUE(client.ended());
  Client old(path());
  old.send("GET /healthz HTTP/1.0\r\n\r\n");
  EXPECT_THAT(old.answer(), HasSubstr("200 OK"));
  EXPECT_TRUE(old.ended());
}

TEST_P(ControlHttp, AnswersAClientThatEndedItsHalf) {
  Client client(path());
  client.send(request("GET", "/v1/runs"));
  client.end();
  EXPECT_THAT(client.answer(), HasSubstr("\"runs\":[]"));
  EXPECT_TRUE(client.ended());
}

TEST_P(ControlHttp, SaysWhichMethodIsAllowed) {
  Client client(path());
  client.send(request("DELETE", "/v1/runs"));
  const std::string answer = client.answer();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(answer, HasSubstr("Allow: GET\r\n"));
}

TEST_P(ControlHttp, SendsNoBodyToHead) {
  Client client(path());
  client.expect_no_bodies();
  client.send(request("HEAD", "/healthz") + request("HEAD", "/v1/runs"));
  EXPECT_THAT(client.answer(), Not(HasSubstr("{")));
  EXPECT_THAT(client.answer(), Not(HasSubstr("{"))) << "the second answer begins where the first one's head ended";
}

TEST_P(ControlHttp, AnswersBrokenHttpAndCloses) {
  for (const std::string& bytes :
       {std::string("hello\r\n\r\n"), std::string("GET / HTTP/9.9\r\n\r\n"), std::string("GET\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nno colon\r\n\r\n"), std::string("\0\1\2\3\r\n\r\n", 8),
        std::string("POST /v1/reconcile HTTP/1.1\r\nContent-Length: -5\r\n\r\n"),
        std::string("POST /v1/reconcile HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")}) {
    Client client(path());
    client.send(bytes);
    const std::string answer = client.answer();
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 400 Bad Request")) << bytes;
    EXPECT_THAT(answer, HasSubstr("{\"error\":{\"code\":\"invalid\"")) << bytes;
    EXPECT_TRUE(client.ended());
  }
}

TEST_P(ControlHttp, RefusesABodyThatIsTooLarge) {
  Client client(path());
  client.send(request("POST", "/v1/reconcile", "Content-Length: 65537\r\n"));
  EXPECT_THAT(client.answer(), StartsWith("HTTP/1.1 413"));
  EXPECT_TRUE(client.ended());
  Client whole(path());
  whole.send(request("POST", "/v1/reconcile", "Content-Length: 4000000\r\n") + std::string(4'000'000, ' '));
  EXPECT_THAT(whole.answer(), StartsWith("HTTP/1.1 413"));
  Client allowed(path());
  allowed.send(request("POST", "/v1/reconcile", "Content-Length: 65536\r\n") + std::string(65'536, ' '));
  EXPECT_THAT(allowed.answer(), StartsWith("HTTP/1.1 200"));
}

TEST_P(ControlHttp, RefusesAHeadThatIsTooLarge) {
  Client client(path());
  client.send(request("GET", "/healthz", "X: " + std::string(20'000, 'x') + "\r\n"));
  EXPECT_THAT(client.answer(), StartsWith("HTTP/1.1 431"));
}

TEST_P(ControlHttp, ServesOthersWhileClientsHangInTheMiddle) {
  std::vector<std::unique_ptr<Client>> hanging;
  for (int i = 0; i < 50; ++i) {
    hanging.push_back(std::make_unique<Client>(path()));
    hanging.back()->send("GET /v1/ru");
  }
  Client client(path());
  client.send(request("GET", "/v1/runs"));
  EXPECT_THAT(client.answer(), HasSubstr("\"runs\":[]"));
}

TEST_P(ControlHttp, RefusesConnectionsBeyondItsLimit) {
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 128; ++i) {
    clients.push_back(std::make_unique<Client>(path()));
    clients.back()->send(request("GET", "/healthz"));
    ASSERT_THAT(clients.back()->answer(), HasSubstr("200 OK"));
  }
  Client over(path());
  const std::string refused = over.answer();
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(refused, HasSubstr("Retry-After: 1\r\n"));
  EXPECT_THAT(refused, HasSubstr("{\"error\":{\"code\":\"unavailable\",\"message\":\"128 connections are open"));
  EXPECT_TRUE(over.ended());
  EXPECT_EQ(server_->counters().control.open, 128U);
  EXPECT_EQ(server_->counters().control.refused, 1U);
  EXPECT_EQ(server_->counters().metrics.limit, 0U) << "there is no such listener";
  clients.clear();
  EXPECT_TRUE(eventually([&] {
    Client later(path());
    later.send(request("GET", "/healthz"));
    return later.answer().starts_with("HTTP/1.1 200");
  }));
}

TEST_P(ControlHttp, MakesItsSocketWithTheModeThatIsSetAndRemovesIt) {
  struct stat status {};
  ASSERT_EQ(stat(path().c_str(), &status), 0);
  EXPECT_TRUE(S_ISSOCK(status.st_mode));
  EXPECT_EQ(status.st_mode & 0777, 0660U);
  server_->stop();
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_P(ControlHttp, DoesNotStartWhereAnotherServes) {
  HttpOptions options;
  options.path = path();
  HttpServer second(options, api(), traits_of);
  try {
    second.start();
    FAIL() << "it started";
  } catch (const StartError& error) {
    EXPECT_EQ(error.exit_status(), kExitNotThere);
    EXPECT_THAT(error.what(), HasSubstr("control.sock"));
  }
  Client client(path());
  client.send(request("GET", "/healthz"));
  EXPECT_THAT(client.answer(), HasSubstr("200 OK")) << "the first one still serves";
}

TEST_P(ControlHttp, EndsConnectionsWhenItStops) {
  Client idle(path());
  idle.send(request("GET", "/healthz"));
  ASSERT_THAT(idle.answer(), HasSubstr("200 OK"));
  Client half(path());
  half.send("GET /hea");
  server_->stop();
  server_.reset();
  EXPECT_TRUE(idle.ended());
  EXPECT_FALSE(Client(path()).connected());
}

TEST_P(ControlHttp, RefusesAnInvalidMetricsAddress) {
  HttpOptions options;
  options.path = folder_.path() / "second.sock";
  for (const char* bad : {"nowhere", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "example.org:80", ":9090"}) {
    options.metrics_listen = bad;
    HttpServer wrong(options, api(), traits_of);
    try {
      wrong.start();
      ADD_FAILURE() << bad;
    } catch (const StartError& error) {
      EXPECT_EQ(error.exit_status(), kExitConfiguration) << bad;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Control, ControlHttp, ::testing::Values(DatabaseKind::kSqlite), name_of);

}  // namespace
}  // namespace run_recorder::testing
