#include "control/http_server.h"

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <future>
#include <optional>
#include <set>
#include <thread>
#include <tuple>

#include "base/host_port.h"
#include "base/liveness.h"
#include "base/log.h"
#include "base/mutex.h"
#include "net/access.h"
#include "net/coroutine.h"
#include "net/listener.h"
#include "net/refusal_guard.h"

namespace run_recorder {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

constexpr std::size_t kHandlerThreads = 3;
constexpr std::size_t kControlConnections = 128;
constexpr std::size_t kMetricsConnections = 32;
constexpr std::size_t kLingering = 8;          // of those refused, at each listener, that are given time to read why
constexpr std::chrono::seconds kLinger{1};     // so long
constexpr std::size_t kThrownAway = 16 << 10;  // of what they send
constexpr std::uint32_t kHeaderBytes = 16 << 10;
constexpr std::uint64_t kBodyBytes = 64 << 10;
constexpr std::chrono::seconds kReadTimeout{30};
constexpr std::chrono::seconds kAcceptPause{1};
constexpr std::chrono::seconds kListenPause{5};  // until an address that could not be had is tried again
constexpr std::chrono::minutes kReadTime{3};     // several calls to the database, each to its deadline

using Response = http::response<http::string_body>;

Response to_response(ApiAnswer answer, unsigned version, bool keep_alive) {
  Response response{static_cast<http::status>(answer.status), version};
  response.set(http::field::server, "run-recorder/" RR_VERSION);
  response.set(http::field::content_type, answer.content_type);
  response.set(http::field::cache_control, "no-store");
  for (const auto& [name, value] : answer.headers) response.set(name, value);
  response.body() = std::move(answer.body);
  response.keep_alive(keep_alive);
  response.prepare_payload();
  return response;
}

}  // namespace

// When the reads under way began. Thread-safe.
class ReadsUnderWay {
 public:
  using Clock = std::chrono::steady_clock;
  class Read {
   public:
    explicit Read(ReadsUnderWay& all) : all_(all), began_(Clock::now()) {
      const MutexLock lock(all_.mutex_);
      all_.began_.insert(began_);
    }
    Read(const Read&) = delete;
    Read& operator=(const Read&) = delete;
    ~Read() {
      const MutexLock lock(all_.mutex_);
      all_.began_.erase(all_.began_.find(began_));
    }

   private:
    ReadsUnderWay& all_;
    const Clock::time_point began_;
  };
  bool one_is_stuck() const {
    const MutexLock lock(mutex_);
    return !began_.empty() && Clock::now() - *began_.begin() > kReadTime;
  }

 private:
  mutable Mutex mutex_;
  std::multiset<Clock::time_point> began_ GUARDED_BY(mutex_);
};

// One listening socket: how many of its connections are open, and what became of one too many. The I/O thread's, but
// for counters(); it outlives the sessions, which end with the I/O context.
class Gate {
 public:
  Gate(std::size_t limit, std::string full, std::string room_again)
      : limit_(limit), crowded_(LogLevel::kWarning, std::move(full), std::move(room_again)) {}

  // Whether one more comes in; it is counted either way.
  bool enter() {
    const auto now = RefusalGuard::Clock::now();
    if (open_ < limit_) {
      ++open_;
      crowded_.clear_when_over(now);
      return true;
    }
    ++refused_;
    crowded_.report(fmt::format("{} are open, the limit", limit_), now);
    return false;
  }
  void leave() { --open_; }

  bool linger() { return lingering_ < kLingering && ++lingering_ > 0; }
  void end_lingering() { --lingering_; }

  ListenerCounters counters() const { return {open_, limit_, refused_}; }

 private:
  const std::size_t limit_;
  RefusalGuard crowded_;
  std::size_t lingering_ = 0;
  std::atomic<std::size_t> open_ = 0;
  std::atomic<std::uint64_t> refused_ = 0;
};

struct HttpServer::Impl {
  Impl(HttpOptions http_options, Answer answer, Traits of_target)
      : options(std::move(http_options)), api(std::move(answer)), traits(std::move(of_target)) {}

  template <class Protocol>
  asio::awaitable<void> accept_all(asio::basic_socket_acceptor<Protocol>& acceptor, Gate& gate);
  template <class Protocol>
  asio::awaitable<void> serve(asio::basic_stream_socket<Protocol> socket, Gate& gate);
  template <class Protocol>
  asio::awaitable<void> turn_away(asio::basic_stream_socket<Protocol> socket, Gate& gate);
  // Takes the request's body.
  asio::awaitable<ApiAnswer> answer(http::request<http::string_body>& request, std::optional<uid_t> user,
                                    bool metrics_only);
  // Tries until the address can be had.
  asio::awaitable<void> serve_metrics(asio::ip::tcp::endpoint endpoint);
  bool listen_tcp(const asio::ip::tcp::endpoint& endpoint);

  const HttpOptions options;
  const Answer api;
  const Traits traits;
  ReadsUnderWay reads;
  Gate control_gate{kControlConnections, "too many connections to the control socket, new ones are answered with 503",
                    "the control socket accepts connections again"};
  Gate metrics_gate{kMetricsConnections, "too many connections to [metrics] listen, new ones are answered with 503",
                    "[metrics] listen accepts connections again"};
  asio::io_context io{1};
  asio::thread_pool handlers{kHandlerThreads};
  std::optional<Listener> listener;
  asio::local::stream_protocol::acceptor local{io};
  asio::ip::tcp::acceptor tcp{io};
  bool stopping = false;  // of the I/O thread
  RepeatGuard unserved{LogLevel::kError, "metrics are not served", "metrics are served again"};
  std::thread thread;
};

template <class Protocol>
asio::awaitable<void> HttpServer::Impl::accept_all(asio::basic_socket_acceptor<Protocol>& acceptor, Gate& gate) {
  RepeatGuard exhausted(LogLevel::kError, "HTTP connections cannot be accepted",
                        "HTTP connections are accepted again");
  while (acceptor.is_open()) {
    auto [problem, socket] = co_await acceptor.async_accept(kAwait);
    if (problem == asio::error::operation_aborted) co_return;
    if (problem) {
      // No descriptor left, as a rule: others give theirs back in time.
      exhausted.report(problem.message());
      asio::steady_timer pause(io, kAcceptPause);
      co_await pause.async_wait(kAwait);
      continue;
    }
    exhausted.clear();
    if (gate.enter()) {
      asio::co_spawn(io, serve<Protocol>(std::move(socket), gate), asio::detached);
    } else {
      asio::co_spawn(io, turn_away<Protocol>(std::move(socket), gate), asio::detached);
    }
  }
}

// The answer, the end of our sending, and a moment to read both: closing a TCP connection at once would take them
// away.
template <class Protocol>
asio::awaitable<void> HttpServer::Impl::turn_away(asio::basic_stream_socket<Protocol> socket, Gate& gate) {
  const std::size_t limit = gate.counters().limit;
  ApiAnswer answer = error_answer(503, "unavailable",
                                  fmt::format("{} connections are open here, the limit; try again later", limit));
  answer.headers["Retry-After"] = "1";
  const bool waits = gate.linger();
  const auto gone =
      std::unique_ptr<Gate, void (*)(Gate*)>(waits ? &gate : nullptr, [](Gate* at) { at->end_lingering(); });
  beast::basic_stream<Protocol> stream(std::move(socket));
  stream.expires_after(kLinger);
  const Response response = to_response(std::move(answer), 11, false);
  const auto [failed, written] = co_await http::async_write(stream, response, kAwait);
  boost::system::error_code ignored;
  stream.socket().shutdown(asio::socket_base::shutdown_send, ignored);
  std::array<char, 1024> bytes;
  for (std::size_t thrown_away = 0; waits && !failed && thrown_away < kThrownAway;) {
    const auto [ended, count] = co_await stream.async_read_some(asio::buffer(bytes), kAwait);
    if (ended) break;
    thrown_away += count;
  }
}

template <class Protocol>
asio::awaitable<void> HttpServer::Impl::serve(asio::basic_stream_socket<Protocol> socket, Gate& gate) {
  const bool metrics_only = &gate == &metrics_gate;
  const auto closed = std::unique_ptr<Gate, void (*)(Gate*)>(&gate, [](Gate* at) { at->leave(); });
  const std::optional<uid_t> user = metrics_only ? std::nullopt : peer_of(socket.native_handle()).uid;
  beast::basic_stream<Protocol> stream(std::move(socket));
  beast::flat_buffer buffer(kHeaderBytes + kBodyBytes);
  while (true) {
    http::request_parser<http::string_body> parser;
    parser.header_limit(kHeaderBytes);
    parser.body_limit(options.import_bytes);  // until the header says what it is for
    stream.expires_after(kReadTimeout);
    auto [problem, bytes] = co_await http::async_read_header(stream, buffer, parser, kAwait);
    const bool large = !problem && !metrics_only && traits(parser.get().target()).large_body;
    if (!problem && !large) {
      parser.body_limit(kBodyBytes);
      if (parser.content_length().value_or(0) > kBodyBytes) problem = http::error::body_limit;
    }
    if (!problem) {
      std::tie(problem, bytes) = co_await http::async_read(stream, buffer, parser, kAwait);
    }
    if (problem == http::error::end_of_stream) break;
    std::optional<Response> response;
    if (problem) {
      // Broken HTTP gets an answer; a peer that is gone or too slow does not.
      if (problem.category() != make_error_code(http::error::bad_method).category()) co_return;
      const unsigned status = problem == http::error::body_limit     ? 413U
                              : problem == http::error::header_limit ? 431U
                                                                     : 400U;
      response = to_response(error_answer(status, "invalid", "malformed request: " + problem.message()), 11, false);
    } else {
      stream.expires_never();
      auto& request = parser.get();
      ApiAnswer made = co_await answer(request, user, metrics_only);
      response = to_response(std::move(made), request.version(), request.keep_alive());
      if (request.method() == http::verb::head) response->body().clear();
    }
    const bool keep = response->keep_alive();
    stream.expires_after(kReadTimeout);
    const auto [failed, written] = co_await http::async_write(stream, *response, kAwait);
    if (failed || !keep) break;
  }
  boost::system::error_code ignored;
  stream.socket().shutdown(asio::socket_base::shutdown_send, ignored);
}

asio::awaitable<ApiAnswer> HttpServer::Impl::answer(http::request<http::string_body>& request,
                                                    std::optional<uid_t> user, bool metrics_only) {
  ApiRequest asked;
  // HEAD is GET without the body; see serve().
  asked.method = request.method() == http::verb::head ? "GET" : std::string(request.method_string());
  asked.target = std::string(request.target());
  asked.body = std::move(request.body());
  asked.user = user;
  const TargetTraits target = traits(asked.target);
  if (metrics_only && !target.on_metrics) {
    co_return error_answer(404, "not_found", "only /metrics, /healthz and /readyz are served here");
  }
  if (target.from_memory) co_return api(asked);
  // What changes something may take its time: the reconciler watches its own passes.
  std::optional<ReadsUnderWay::Read> read;
  if (asked.method == "GET") read.emplace(reads);
  const auto work = [this, &asked]() -> asio::awaitable<ApiAnswer> { co_return api(asked); };
  co_return co_await asio::co_spawn(handlers, work, asio::use_awaitable);
}

namespace {

asio::ip::tcp::endpoint metrics_endpoint(const std::string& listen) {
  const auto wanted = parse_host_port(listen);
  if (!wanted) {
    throw StartError(kExitConfiguration, fmt::format("metrics.listen: invalid value \"{}\": {}; must be {}", listen,
                                                     wanted.error().message, kHostPortForms));
  }
  return {asio::ip::make_address(wanted->address), wanted->port};
}

}  // namespace

bool HttpServer::Impl::listen_tcp(const asio::ip::tcp::endpoint& endpoint) {
  boost::system::error_code problem;
  tcp.open(endpoint.protocol(), problem);
  if (!problem) tcp.set_option(asio::socket_base::reuse_address(true), problem);
  if (!problem) tcp.bind(endpoint, problem);
  if (!problem) tcp.listen(asio::socket_base::max_listen_connections, problem);
  if (!problem) {
    unserved.clear();
    return true;
  }
  boost::system::error_code ignored;
  tcp.close(ignored);
  unserved.report(fmt::format("cannot listen on {}: {}", options.metrics_listen, problem.message()));
  return false;
}

asio::awaitable<void> HttpServer::Impl::serve_metrics(asio::ip::tcp::endpoint endpoint) {
  while (!tcp.is_open()) {
    asio::steady_timer pause(io, kListenPause);
    co_await pause.async_wait(kAwait);
    if (stopping) co_return;
    listen_tcp(endpoint);
  }
  co_await accept_all(tcp, metrics_gate);
}

HttpServer::HttpServer(HttpOptions options, Answer answer, Traits traits)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(answer), std::move(traits))) {}

HttpServer::~HttpServer() {
  stop();
}

void HttpServer::start() {
  Impl& impl = *impl_;
  impl.listener = Listener::at(impl.options.path, impl.options.mode, impl.options.group);
  impl.local.assign(asio::local::stream_protocol(), impl.listener->release());
  asio::co_spawn(impl.io, impl.accept_all(impl.local, impl.control_gate), asio::detached);
  if (!impl.options.metrics_listen.empty()) {
    const asio::ip::tcp::endpoint endpoint = metrics_endpoint(impl.options.metrics_listen);
    impl.listen_tcp(endpoint);  // before anybody can be told that this has started
    asio::co_spawn(impl.io, impl.serve_metrics(endpoint), asio::detached);
  }
  impl.thread = std::thread([&impl] {
    name_this_thread("control");
    impl.io.run();
  });
}

HttpCounters HttpServer::counters() const {
  HttpCounters counters{impl_->control_gate.counters(),
                        impl_->metrics_gate.counters(),
                        {impl_->options.metrics_listen, impl_->unserved.detail()}};
  if (impl_->options.metrics_listen.empty()) counters.metrics = {};
  return counters;
}

bool HttpServer::responds(std::chrono::milliseconds within) const {
  auto answered = std::make_shared<std::promise<void>>();
  auto answer = answered->get_future();
  asio::post(impl_->io, [answered] { answered->set_value(); });
  return answer.wait_for(within) == std::future_status::ready && !impl_->reads.one_is_stuck();
}

void HttpServer::stop() {
  Impl& impl = *impl_;
  if (impl.thread.joinable()) {
    // Handlers under way end first: they hold references into the sessions.
    asio::post(impl.io, [&impl] {
      boost::system::error_code ignored;
      impl.local.close(ignored);
      impl.tcp.close(ignored);
      impl.stopping = true;
    });
    impl.handlers.join();
    impl.io.stop();
    impl.thread.join();
  }
  if (impl.listener) impl.listener->remove_file();
}

}  // namespace run_recorder
