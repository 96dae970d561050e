#include "cli/control_client.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include "base/account.h"
#include "base/file.h"
#include "base/socket_path.h"
#include "cli/interrupt.h"
#include "cli/json_object.h"
#include "cli/progress.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using Stream = beast::basic_stream<asio::local::stream_protocol>;
using ErrorCode = boost::system::error_code;

constexpr std::uint64_t kMaxBodyBytes = 1ULL << 30;
constexpr std::size_t kAnswerDepth = 1'000;
constexpr std::uint64_t kPageItems = 200;

// Whom its permissions let in.
std::string users_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return "the group run-recorder-admin";
  if ((status.st_mode & S_IWGRP) != 0) return "the group " + group_name(status.st_gid);
  return "its owner alone; [control] group lets a group in";
}

Error connect_error(const std::string& path, const ErrorCode& code) {
  switch (code.value()) {
    case ENOENT:
    case ENOTDIR:
      return {ErrorKind::kUnavailable,
              fmt::format("the daemon is away: there is no socket at {} (--control names another)", path)};
    case ECONNREFUSED:
      return {ErrorKind::kUnavailable, fmt::format("the daemon is away: nobody listens on {}", path)};
    case EACCES:
    case EPERM:
      return {ErrorKind::kDenied, fmt::format("permission denied: {} is open to {}", path, users_of(path))};
    default:
      return {ErrorKind::kUnavailable, fmt::format("connect to {}: {}", path, code.message())};
  }
}

ErrorKind kind_of(unsigned status) {
  switch (status) {
    case 400:
    case 413:
    case 422:
      return ErrorKind::kInvalid;
    case 401:
    case 403:
      return ErrorKind::kDenied;
    case 404:
      return ErrorKind::kNotFound;
    case 409:
      return ErrorKind::kConflict;
    case 502:
    case 503:
    case 504:
      return ErrorKind::kUnavailable;
    default:
      return ErrorKind::kInternal;
  }
}

Result<ControlAnswer> read_answer(const http::response<http::string_body>& response, const std::string& path) {
  ControlAnswer answer;
  answer.body = response.body();
  while (!answer.body.empty() && answer.body.back() == '\n') answer.body.pop_back();
  const JsonProblem problem = scan_json(answer.body, kAnswerDepth).problem;
  const bool valid = problem == JsonProblem::kNone || problem == JsonProblem::kNulEscape;
  const unsigned status = response.result_int();
  if (status / 100 != 2) {
    const JsonObject error = valid ? JsonObject(answer.body).object("error") : JsonObject();
    const std::string message = printable(error.text("message"));
    return Error{kind_of(status),
                 message.empty() ? fmt::format("the daemon answered with HTTP status {}", status) : message};
  }
  if (!valid) return Error{ErrorKind::kCorrupt, fmt::format("what answers on {} is not run-recorderd", path)};
  if (const auto header = response.find("X-Run-Recorder-Pending"); header != response.end()) {
    answer.pending = static_cast<std::uint64_t>(json_integer(header->value()).value_or(0));
  }
  return answer;
}

// One request over a connection of its own.
class Exchange {
 public:
  // patience: for each step; without one the answer is waited for as long as the daemon lives.
  Exchange(const std::string& path, std::optional<std::chrono::seconds> patience)
      : path_(path), patience_(patience), stream_(io_) {}

  Result<ControlAnswer> run(http::verb verb, std::string_view target, JsonText body) {
    if (path_.size() > kMaxSocketPathBytes) {
      return Error{ErrorKind::kInvalid,
                   fmt::format("the path of the socket is longer than {} bytes: {}", kMaxSocketPathBytes, path_)};
    }
    ErrorCode code =
        step([&](auto done) { stream_.async_connect(asio::local::stream_protocol::endpoint(path_), done); });
    if (code) return connect_error(path_, code);

    http::request<http::string_body> request(verb, beast::string_view(target.data(), target.size()), 11);
    request.set(http::field::host, "localhost");
    request.set(http::field::user_agent, "run-recorder/" RR_VERSION);
    request.keep_alive(false);
    if (verb == http::verb::post) {
      request.set(http::field::content_type, "application/json");
      request.body() = std::move(body);
    }
    request.prepare_payload();
    code = step([&](auto done) { http::async_write(stream_, request, done); });

    beast::flat_buffer buffer;
    http::response_parser<http::string_body> parser;
    parser.body_limit(kMaxBodyBytes);
    if (!code) code = read(buffer, parser);
    timed_out_ = code == beast::error::timeout;
    if (timed_out_ || (code && is_dead_)) return silent();
    if (code) return Error{ErrorKind::kUnavailable, fmt::format("talk to {}: {}", path_, code.message())};
    return read_answer(parser.get(), path_);
  }

 private:
  // Runs one asynchronous step to its end; Beast knows deadlines only for those.
  template <class Start>
  ErrorCode step(Start start) {
    stream_.expires_after(patience_.value_or(kAnswerPatience));
    ErrorCode result;
    start([&result](ErrorCode code, auto&&...) { result = code; });
    io_.restart();
    io_.run();
    return result;
  }

  ErrorCode read(beast::flat_buffer& buffer, http::response_parser<http::string_body>& parser) {
    if (patience_) {
      stream_.expires_after(*patience_);
    } else {
      stream_.expires_never();
    }
    ErrorCode result;
    http::async_read(stream_, buffer, parser, [&result](ErrorCode code, std::size_t) { result = code; });
    io_.restart();
    if (patience_.value_or(kAnswerPatience) > kSoonAnswered + kProofOfLife) {
      for (auto wait = kSoonAnswered; !is_dead_; wait = kBetweenProofs) {
        io_.run_for(wait);
        if (io_.stopped()) break;
        is_dead_ = !answers_at_all();
      }
      if (is_dead_) stream_.cancel();
    }
    io_.run();
    return result;
  }

  bool answers_at_all() const {
    Exchange probe(path_, kProofOfLife);
    (void)probe.run(http::verb::get, "/healthz", {});  // one connection too many is an answer, too
    return !probe.timed_out_;
  }

  Error silent() const {
    const auto waited = std::chrono::round<std::chrono::seconds>(Clock::now() - began_);
    return {ErrorKind::kUnavailable,
            fmt::format("the daemon has not answered for {} s{}{}", waited.count(),
                        is_dead_ ? fmt::format(" on {}: its process is stopped or hangs", path_) : std::string(),
                        patience_ ? "" : "; what was asked of it may still be done")};
  }

  using Clock = std::chrono::steady_clock;

  const std::string& path_;
  const std::optional<std::chrono::seconds> patience_;
  const Clock::time_point began_ = Clock::now();
  asio::io_context io_;
  Stream stream_;
  bool timed_out_ = false;
  bool is_dead_ = false;  // it took the connection and nothing more
};

}  // namespace

Result<ControlAnswer> ControlClient::get(std::string_view target) const {
  return Exchange(path_, patience_).run(http::verb::get, target, {});
}

Result<ControlAnswer> ControlClient::post(std::string_view target, JsonText body) const {
  return Exchange(path_, std::nullopt).run(http::verb::post, target, std::move(body));
}

Result<ControlAnswer> ControlClient::remove(std::string_view target) const {
  return Exchange(path_, patience_).run(http::verb::delete_, target, {});
}

Target& Target::add(std::string_view key, std::string_view value) {
  text_ += query_ ? '&' : '?';
  query_ = true;
  text_.append(key).append("=").append(percent_encoded(value));
  return *this;
}

Result<Listed> list_pages(const ControlClient& client, const Target& target, std::string_view name,
                          std::uint64_t limit, const std::function<void(const std::vector<std::string_view>&)>& take,
                          const PagePatience& patience) {
  Listed listed;
  Progress progress;
  std::string cursor;
  std::uint64_t page_items = kPageItems;
  while (listed.items < limit) {
    Target page = target;
    const std::uint64_t wanted = std::min(page_items, limit - listed.items);
    page.add("limit", std::to_string(wanted));
    if (!cursor.empty()) page.add("cursor", cursor);
    const Result<ControlAnswer> answer = client.get(page.str());
    if (!answer) return answer.error();
    if (cursor.empty()) listed.pending = answer->pending;
    const JsonObject object(answer->body);
    listed.truncated = object.is_true("truncated");
    const std::vector<std::string_view> items = object.elements(name);
    if (!items.empty()) progress.clear();
    take(items);
    listed.items += items.size();
    cursor = object.text("next");
    if (cursor.empty()) return listed;
    if (const std::string until = object.text("examined_until"); !until.empty()) {
      if (patience.shows_progress) {
        progress.show(fmt::format("looked back to {}, found {}; ^C ends it", until, listed.items));
      }
      if (listed.items < limit && (Interrupt::came() || progress.taken() > patience.at_most)) {
        listed.cut_at = until;
        break;
      }
      // What fits is rare: the page need not be smaller for it.
      continue;
    }
    // Large items: a page ends by its bytes, and a database that weighs them weighs all that are asked for.
    page_items =
        items.size() < wanted ? std::max<std::uint64_t>(2 * items.size(), 1) : std::min(2 * wanted, kPageItems);
  }
  listed.more = true;
  return listed;
}

}  // namespace run_recorder
