// HttpServer on any bytes, over a real socket, in pieces: it answers with whole HTTP responses and closes, whatever
// comes; what it takes for a request has a target that is decoded or refused; and what is decoded is the same when it
// is encoded and decoded again.
#include "control/http_server.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <cstdlib>

#include "base/file.h"
#include "require.h"

namespace run_recorder {
namespace {

std::string encoded(std::string_view text) {
  std::string out;
  for (const char c : text) out += fmt::format("%{:02x}", static_cast<unsigned char>(c));
  return out;
}

ApiAnswer answer(const ApiRequest& request) {
  ApiAnswer answer;
  const auto target = parse_target(request.target);
  if (!target) {
    require(target.error().kind == ErrorKind::kInvalid && !target.error().message.empty(), "a refusal has a reason");
    answer.status = 400;
    return answer;
  }
  require(!target->path.empty(), "a path has a part");
  std::string again;
  for (const std::string& part : target->path) again += "/" + encoded(part);
  char before = '?';
  for (const auto& [name, value] : target->query) {
    again += before + encoded(name) + "=" + encoded(value);
    before = '&';
  }
  const auto parsed = parse_target(again);
  require(parsed && parsed->path == target->path, "the path is the same");
  if (!target->query.empty()) require(parsed->query == target->query, "the query is the same");
  answer.body = "{}\n";
  return answer;
}

TargetTraits traits(std::string_view target) {
  return {.from_memory = target == "/healthz", .on_metrics = false, .large_body = target == "/v1/import"};
}

// One server for all inputs.
class Server {
 public:
  Server() {
    char folder[] = "/tmp/rr-http-fuzz-XXXXXX";
    require(mkdtemp(folder) != nullptr, "a folder can be made");
    folder_ = folder;
    path_ = folder_ + "/s";
    HttpOptions options;
    options.path = path_;
    server_ = std::make_unique<HttpServer>(options, answer, traits);
    server_->start();
  }
  ~Server() {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }
  UniqueFd connect() const {
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    require(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0, "it accepts");
    const timeval longest{20, 0};
    setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof longest);
    return socket;
  }

 private:
  std::string folder_, path_;
  std::unique_ptr<HttpServer> server_;
};

std::string answers_to(int socket, std::string_view bytes, unsigned random) {
  while (!bytes.empty()) {
    random = random * 1'103'515'245U + 12'345U;
    const std::size_t piece = std::min<std::size_t>((random >> 16) % 700 + 1, bytes.size());
    const ssize_t sent = ::send(socket, bytes.data(), piece, MSG_NOSIGNAL);
    if (sent <= 0) break;  // it has closed: what it said can still be read
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  ::shutdown(socket, SHUT_WR);
  std::string answers;
  char buffer[4096];
  while (true) {
    const ssize_t got = ::recv(socket, buffer, sizeof buffer, 0);
    require(got >= 0 || errno == ECONNRESET, "it closes in the end");
    if (got <= 0) return answers;
    answers.append(buffer, static_cast<std::size_t>(got));
  }
}

void run(std::string_view data) {
  static const Server server;
  if (data.empty()) return;
  const UniqueFd socket = server.connect();
  const std::string answers = answers_to(socket.get(), data.substr(1), static_cast<unsigned char>(data[0]));
  if (!answers.empty()) require(answers.starts_with("HTTP/1."), "an answer is HTTP");
}

}  // namespace
}  // namespace run_recorder

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  run_recorder::run({reinterpret_cast<const char*>(data), size});
  return 0;
}
