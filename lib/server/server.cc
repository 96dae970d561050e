#include "server/server.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <charconv>
#include <condition_variable>
#include <functional>
#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_set>
#include <utility>

#include "base/liveness.h"
#include "base/log.h"
#include "net/listener.h"
#include "server/counters.h"
#include "server/door.h"
#include "server/read_barrier.h"
#include "server/session.h"
#include "server/spool_writer.h"

namespace run_recorder {
namespace {

namespace asio = boost::asio;

// Descriptors for everything but connections: two for each of 64 remembered processes, 128 connections of the control
// socket, 32 of [metrics] listen, 8 that each of them refused and 64 refused peers that linger, some for databases,
// the spool and the rest (21 of an idle daemon on SQLite).
constexpr std::size_t kOtherDescriptors = 432;
constexpr std::size_t kIncarnationDigits = 8;
constexpr std::chrono::milliseconds kLookWhetherStopped{100};
constexpr std::size_t kRound = 64;  // of what the sessions have to do, before what they brought is committed

// As many of the wanted connections as the limit of open files allows, raised as far as the system lets us; `taken`
// of them are for something else.
std::size_t connections_possible(std::size_t wanted, std::size_t taken) {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) {
    return wanted;
  }
  const rlim_t needed = EventServer::descriptors_for(wanted) + taken;
  if (files.rlim_cur < needed && files.rlim_cur < files.rlim_max) {
    const rlimit raised{std::min(needed, files.rlim_max), files.rlim_max};
    if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) {
      files = raised;
    }
  }
  if (files.rlim_cur >= needed) {
    return wanted;
  }
  const std::size_t free = files.rlim_cur - std::min<std::size_t>(taken, files.rlim_cur);
  const std::size_t others = std::min<std::size_t>(kOtherDescriptors, free / 2);
  std::size_t possible = std::max<std::size_t>(free - others, 1);
  possible -= std::min(ConnectionShares::reserve_of(possible), possible - 1);
  possible = std::min(possible, wanted);
  log_warning("fewer connections than configured: the limit of open files is too low (LimitNOFILE=, ulimit -n)",
              {{"CONFIGURED", wanted}, {"POSSIBLE", possible}, {"LIMIT_NOFILE", files.rlim_cur}});
  return possible;
}

// The numbers of open connections, for any thread.
class OpenConnections {
 public:
  void add(std::uint64_t number) {
    const std::lock_guard lock(mutex_);
    numbers_.insert(number);
  }
  void remove(std::uint64_t number) {
    const std::lock_guard lock(mutex_);
    numbers_.erase(number);
    changed_.notify_all();
  }
  bool contains(std::uint64_t number) const {
    const std::lock_guard lock(mutex_);
    return numbers_.contains(number);
  }
  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return numbers_.size();
  }
  void wait_until_none(std::chrono::milliseconds within) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, within, [this] { return numbers_.empty(); });
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_set<std::uint64_t> numbers_;  // guarded by mutex_
};

// Somebody who waits for a ReadBarrier.
struct Hearing {
  std::optional<ReadBarrier> barrier;
  std::atomic<bool> given_up = false;
  std::promise<bool> heard;
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
  void begin_hearing(const std::shared_ptr<Hearing>& hearing);
  void look_at_barriers();
  template <class Work>
  void on_sessions_thread(Work what) {
    asio::post(context.io, std::move(what));
  }

  const ServerOptions options;
  Spool& spool;
  Counters counters;
  OpenConnections open;
  SessionContext context;
  SpoolWriter writer;
  std::optional<Listener> listener;
  std::unique_ptr<Door> door;
  std::vector<std::shared_ptr<Hearing>> hearings;  // of the sessions' thread
  std::uint64_t last_number = 0;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work;
  std::thread sessions_thread;
  std::atomic<bool> running = false;
};

EventServer::Impl::Impl(ServerOptions the_options, Spool& the_spool, WallClock clock, OnAccepted on_accepted)
    : options(std::move(the_options)),
      spool(the_spool),
      context(options.bounds, std::move(clock), counters),
      writer(spool, counters, std::move(on_accepted),
             {[](Submissions&& group) { settle(group); },
              [this](std::function<void()> what) { on_sessions_thread(std::move(what)); },
              [this] { context.io.run_one(); }},
             options.bounds) {
  context.writer = &writer;
  context.connection_prefix = spool.incarnations().back().id.substr(0, kIncarnationDigits) + "-";
  context.on_closed = [this](std::uint64_t number) {
    const auto session = context.sessions.find(number);
    const std::shared_ptr<Session> ended = session->second;
    door->left(ended->peer());
    context.sessions.erase(session);
    open.remove(number);
    if (options.on_connection_end && running) options.on_connection_end(ended->sender_process(), ended->connection());
  };
  context.on_sent_away = [this](UniqueFd connection, const Refusal& why) {
    door->refuse(std::move(connection), why);
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
    look_at_barriers();
  }
}

void EventServer::Impl::begin_hearing(const std::shared_ptr<Hearing>& hearing) {
  if (!door->accept_waiting()) {
    hearing->heard.set_value(false);
    return;
  }
  hearing->barrier.emplace(context);
  hearings.push_back(hearing);
}

void EventServer::Impl::look_at_barriers() {
  std::erase_if(hearings, [](const std::shared_ptr<Hearing>& hearing) {
    if (hearing->given_up) return true;
    if (!hearing->barrier->passed()) return false;
    hearing->heard.set_value(true);
    return true;
  });
}

void EventServer::Impl::apply(const ServerLimits& limits, const AccessList& access) {
  const std::size_t connections = connections_possible(limits.connections, options.other_descriptors);
  context.limits = limits;
  context.pool.resize(std::max(options.bounds.pool_bytes, limits.line_bytes));
  context.wake_all();
  door->set_rules(access, connections);
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
    door->close();
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

std::size_t EventServer::descriptors_for(std::size_t connections) {
  return connections + ConnectionShares::reserve_of(connections) + kOtherDescriptors;
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
  impl_->door = std::make_unique<Door>(
      impl_->context, impl_->listener->release(),
      [this](Session::Socket&& socket, const Peer& peer) { impl_->admit(std::move(socket), peer); });
  impl_->apply(options.limits, *access);
  impl_->work.emplace(impl_->context.io.get_executor());
  impl_->door->open();
  impl_->writer.start();
  impl_->sessions_thread = std::thread([this] { impl_->run_sessions(); });
  impl_->running = true;
}

void EventServer::stop(std::chrono::milliseconds within) {
  impl_->stop(within);
}

bool EventServer::connection_open(std::string_view connection) const {
  const std::string& prefix = impl_->context.connection_prefix;
  if (!connection.starts_with(prefix)) {
    return false;
  }
  connection.remove_prefix(prefix.size());
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(connection.data(), connection.data() + connection.size(), number);
  return error == std::errc() && end == connection.data() + connection.size() && impl_->open.contains(number);
}

bool EventServer::hear_all(std::chrono::milliseconds within) {
  if (!impl_->running) {
    return false;
  }
  const auto hearing = std::make_shared<Hearing>();
  auto heard = hearing->heard.get_future();
  impl_->on_sessions_thread([impl = impl_.get(), hearing] { impl->begin_hearing(hearing); });
  const auto until = std::chrono::steady_clock::now() + within;
  while (heard.wait_for(std::min<std::chrono::steady_clock::duration>(within, kLookWhetherStopped)) !=
         std::future_status::ready) {
    if (!impl_->running || std::chrono::steady_clock::now() >= until) {
      hearing->given_up = true;
      return false;
    }
  }
  return heard.get();
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
