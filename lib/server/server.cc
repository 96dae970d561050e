#include "server/server.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <functional>
#include <future>
#include <optional>
#include <thread>
#include <utility>

#include "base/liveness.h"
#include "base/log.h"
#include "base/number.h"
#include "net/listener.h"
#include "server/acceptance_watch.h"
#include "server/acceptor.h"
#include "server/counters.h"
#include "server/descriptors.h"
#include "server/open_connections.h"
#include "server/read_barrier.h"
#include "server/session.h"
#include "server/session_context.h"
#include "server/spool_writer.h"

namespace run_recorder {
namespace {

namespace asio = boost::asio;

constexpr std::size_t kIncarnationDigits = 8;
constexpr std::chrono::milliseconds kLookWhetherStopped{100};
constexpr std::size_t kRound = 64;  // of what the sessions have to do, before what they brought is committed

// A call of settle_pending() that waits for its ReadBarrier.
struct BarrierWait {
  std::optional<ReadBarrier> barrier;
  std::atomic<bool> abandoned = false;
  std::promise<bool> settled;
};

void settle(const Submissions& group) {
  for (const auto& submission : group) {
    submission->session->settle(*submission);
  }
}

}  // namespace

struct EventServer::Impl {
  Impl(ServerOptions the_options, Spool& the_spool, WallClock clock, OnAccepted on_accepted);

  void admit(Session::Socket&& socket, const Peer& peer);
  void run_sessions();
  void apply(const ServerLimits& limits, const AccessList& access);
  void stop(std::chrono::milliseconds within);
  void begin_wait(const std::shared_ptr<BarrierWait>& wait);
  void answer_passed_barriers();
  template <class Work>
  void on_sessions_thread(Work what) {
    asio::post(context.io, std::move(what));
  }

  const ServerOptions options;
  Spool& spool;
  Counters counters;
  OpenConnections open;
  SessionContext context;
  AcceptanceWatch acceptance;
  SpoolWriter writer;
  std::optional<Listener> listener;
  std::unique_ptr<Acceptor> acceptor;
  std::vector<std::shared_ptr<BarrierWait>> waits;  // of the sessions' thread
  std::uint64_t last_number = 0;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work;
  std::thread sessions_thread;
  std::atomic<bool> running = false;
};

EventServer::Impl::Impl(ServerOptions the_options, Spool& the_spool, WallClock clock, OnAccepted on_accepted)
    : options(std::move(the_options)),
      spool(the_spool),
      context(options.bounds, std::move(clock), counters),
      acceptance(spool, counters, options.why_events_wait),
      writer(spool, counters, acceptance, std::move(on_accepted),
             {[](Submissions&& group) { settle(group); },
              [this](std::function<void()> what) { on_sessions_thread(std::move(what)); },
              [this] { context.io.run_one(); }},
             options.bounds) {
  context.writer = &writer;
  context.connection_prefix = spool.incarnations().back().id.substr(0, kIncarnationDigits) + "-";
  context.on_closed = [this](std::uint64_t number) {
    const auto session = context.sessions.find(number);
    const std::shared_ptr<Session> ended = session->second;
    acceptor->closed(ended->peer());
    context.sessions.erase(session);
    open.remove(number);
    if (options.on_connection_end && running) options.on_connection_end(ended->sender_process(), ended->connection());
  };
  context.on_evicted = [this](UniqueFd connection, const Refusal& why) {
    acceptor->refuse(std::move(connection), why);
  };
}

void EventServer::Impl::admit(Session::Socket&& socket, const Peer& peer) {
  const std::uint64_t number = ++last_number;
  auto session = std::make_shared<Session>(context, std::move(socket), number, peer);
  context.sessions.emplace(number, session);
  open.add(number);
  counters.update([](ServerCounters& all) { ++all.connections_total; });
  session->start();
}

// A round is what is ready at the same time; one commit serves all of it. With a bound, because some sessions always
// are.
void EventServer::Impl::run_sessions() {
  name_this_thread("sessions");
  ask_for_short_slices();
  while (context.io.run_one() > 0) {
    for (std::size_t done = 1; done < kRound && context.io.poll_one() > 0; ++done) {
    }
    writer.commit_small();
    answer_passed_barriers();
  }
}

void EventServer::Impl::begin_wait(const std::shared_ptr<BarrierWait>& wait) {
  if (!acceptor->accept_waiting()) {
    wait->settled.set_value(false);
    return;
  }
  wait->barrier.emplace(context);
  waits.push_back(wait);
}

void EventServer::Impl::answer_passed_barriers() {
  std::erase_if(waits, [](const std::shared_ptr<BarrierWait>& wait) {
    if (wait->abandoned) return true;
    if (!wait->barrier->passed()) return false;
    wait->settled.set_value(true);
    return true;
  });
}

void EventServer::Impl::apply(const ServerLimits& limits, const AccessList& access) {
  const std::size_t connections = connections_possible(limits.connections, options.other_descriptors);
  context.limits = limits;
  context.pool.resize(std::max(options.bounds.pool_bytes, limits.line_bytes));
  context.wake_all();
  acceptor->set_rules(access, connections);
  counters.update([connections](ServerCounters& all) {
    all.connections_limit = connections;
    all.connections_reserve = ConnectionShares::reserve_of(connections);
  });
}

void EventServer::Impl::stop(std::chrono::milliseconds within) {
  if (!running.exchange(false)) {
    return;
  }
  listener->remove_file();
  std::promise<void> reading_ended;
  on_sessions_thread([this, &reading_ended] {
    acceptor->stop();
    for (const auto& [number, session] : context.sessions) {
      session->stop_reading();
    }
    reading_ended.set_value();
  });
  reading_ended.get_future().wait();
  writer.stop(within);
  // Everything is settled now, and the answers are with the kernel, except for peers that do not read them.
  open.wait_until_none(std::min(within, options.bounds.linger));
  on_sessions_thread([this] {
    for (const auto& [number, session] : context.sessions) {
      session->close();
    }
    context.stop_watching();
    work.reset();
  });
  sessions_thread.join();
}

EventServer::EventServer(ServerOptions options, Spool& spool, WallClock clock, OnAccepted on_accepted)
    : impl_(std::make_unique<Impl>(std::move(options), spool, std::move(clock), std::move(on_accepted))) {}

EventServer::~EventServer() {
  impl_->stop(std::chrono::milliseconds{0});
}

void EventServer::start() {
  const ServerOptions& options = impl_->options;
  const auto access = AccessList::resolve(options.limits.allow_users, options.limits.allow_groups);
  if (!access) {
    throw StartError(kExitNotThere, access.error().message);  // known a moment ago, when it was configured
  }
  impl_->listener = options.listen_fd >= 0 ? Listener::inherited(options.listen_fd)
                                           : Listener::at(options.path, options.mode, options.group);
  impl_->acceptor = std::make_unique<Acceptor>(
      impl_->context, impl_->listener->release(),
      [this](Session::Socket&& socket, const Peer& peer) { impl_->admit(std::move(socket), peer); });
  impl_->apply(options.limits, *access);
  impl_->work.emplace(impl_->context.io.get_executor());
  impl_->acceptor->start();
  impl_->writer.start();
  impl_->sessions_thread = std::thread([this] { impl_->run_sessions(); });
  impl_->running = true;
}

void EventServer::stop(std::chrono::milliseconds within) {
  impl_->stop(within);
}

Acceptance EventServer::acceptance() {
  return impl_->acceptance.look();
}

bool EventServer::connection_open(std::string_view connection) const {
  const std::string& prefix = impl_->context.connection_prefix;
  if (!connection.starts_with(prefix)) {
    return false;
  }
  connection.remove_prefix(prefix.size());
  const auto number = parse_number<std::uint64_t>(connection);
  return number && impl_->open.contains(*number);
}

bool EventServer::settle_pending(std::chrono::milliseconds within) {
  if (!impl_->running) {
    return false;
  }
  const auto wait = std::make_shared<BarrierWait>();
  auto settled = wait->settled.get_future();
  impl_->on_sessions_thread([impl = impl_.get(), wait] { impl->begin_wait(wait); });
  const auto until = std::chrono::steady_clock::now() + within;
  while (settled.wait_for(std::min<std::chrono::steady_clock::duration>(within, kLookWhetherStopped)) !=
         std::future_status::ready) {
    if (!impl_->running || std::chrono::steady_clock::now() >= until) {
      wait->abandoned = true;
      return false;
    }
  }
  return settled.get();
}

ServerCounters EventServer::counters() const {
  ServerCounters counters = impl_->counters.snapshot();
  counters.connections_open = impl_->open.size();
  return counters;
}

Result<void> EventServer::reconfigure(const ServerLimits& limits) {
  const auto access = AccessList::resolve(limits.allow_users, limits.allow_groups);
  if (!access) {
    return access.error();
  }
  impl_->on_sessions_thread([this, limits, access = *access] { impl_->apply(limits, access); });
  return {};
}

bool EventServer::responds(std::chrono::milliseconds within) const {
  if (!impl_->running) {
    return false;
  }
  auto answered = std::make_shared<std::promise<void>>();
  auto answer = answered->get_future();
  impl_->on_sessions_thread([answered] { answered->set_value(); });
  return answer.wait_for(within) == std::future_status::ready;
}

bool EventServer::writer_stuck() const {
  return impl_->writer.stuck();
}

}  // namespace run_recorder
