// A load for the event socket: many connections from one process, each with a window of lines not acknowledged yet,
// all answers read. Prints one JSON object: how many events were acknowledged, how long it took, and the time from
// handing a line to the kernel to reading its acknowledgement.
//
//   bench_load SOCKET --connections N --runs N [--first N] [--in-flight N] [--others N] [--window N] [--payload
//   BYTES]
//     [--rate EVENTS_PER_S] [--tick SECONDS] [--starts-only] [--beats] [--ids] [--hold RUNS] [--leave]
//
// --runs are those of all connections, --in-flight and --hold those of one. With --hold it says "held" when so many
// runs of each connection have begun and all was acknowledged, stays connected, and goes on when a line comes on its
// standard input (or its end); the time it tells begins there. With --leave it ends when the last run has begun.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kNever = std::numeric_limits<std::size_t>::max();

struct Options {
  std::string socket;
  std::size_t connections = 16;
  std::size_t runs = 50'000;
  std::size_t first = 0;
  std::size_t in_flight = 50;  // runs of one connection between their start and their end
  std::size_t others = 0;      // other events of one run in ten, spread evenly between its start and its end
  std::size_t window = 256;    // lines of one connection not acknowledged yet
  std::size_t payload = 280;
  double rate = 0;  // events per second of all connections; 0: as fast as they are taken
  double tick = 0;  // seconds: those of so long are sent together; 0: each when it is due
  bool starts_only = false;
  bool beats = false;  // one heartbeat of each run and nothing else
  bool ids = false;
  std::size_t hold = kNever;
  bool leave = false;
};

Options parse(int argc, char** argv) {
  Options options;
  if (argc < 2) throw std::invalid_argument("usage: bench_load SOCKET [options]");
  options.socket = argv[1];
  std::map<std::string, std::size_t*> numbers{
      {"--connections", &options.connections}, {"--runs", &options.runs},     {"--first", &options.first},
      {"--in-flight", &options.in_flight},     {"--others", &options.others}, {"--window", &options.window},
      {"--payload", &options.payload},         {"--hold", &options.hold}};
  for (int i = 2; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--starts-only") {
      options.starts_only = true;
    } else if (name == "--beats") {
      options.starts_only = options.beats = true;
    } else if (name == "--ids") {
      options.ids = true;
    } else if (name == "--leave") {
      options.leave = true;
    } else if (i + 1 < argc && name == "--tick") {
      options.tick = std::atof(argv[++i]);
    } else if (i + 1 < argc && name == "--rate") {
      options.rate = std::atof(argv[++i]);
    } else if (i + 1 < argc && numbers.contains(name)) {
      *numbers[name] = static_cast<std::size_t>(std::atoll(argv[++i]));
    } else {
      throw std::invalid_argument("unknown option " + name);
    }
  }
  return options;
}

// The lines of one connection, step by step. In step i run i - in_flight ends, run i starts, and those other events
// come that are due when so many runs have begun: the k-th of a run's N when k / (N + 1) of in_flight have begun
// after it.
class Script {
 public:
  Script(const Options& options, std::size_t from, std::size_t to)
      : options_(options),
        from_(from),
        runs_(to - from),
        steps_(options.starts_only || options.leave || runs_ == 0 ? runs_ : runs_ + options.in_flight),
        text_(options.payload, 'x') {}

  bool done() const { return due_.empty() && step_ == steps_; }
  bool at_hold() const { return done() || (due_.empty() && step_ >= options_.hold); }

  std::string next() {
    while (due_.empty()) make_step(step_++);
    std::string line = std::move(due_.front());
    due_.pop_front();
    return line;
  }

 private:
  static constexpr std::size_t kEveryTenth = 10;

  void make_step(std::size_t step) {
    if (options_.beats) return due_.push_back(heartbeat(from_ + step));
    if (!options_.starts_only && step >= options_.in_flight)
      due_.push_back(completed(from_ + step - options_.in_flight));
    if (step < runs_) due_.push_back(started(from_ + step));
    for (std::size_t k = 1; k <= options_.others && !options_.starts_only; ++k) {
      const std::size_t later = k * options_.in_flight / (options_.others + 1);
      if (step < later || step - later >= runs_ || (step - later) % kEveryTenth != 0) continue;
      due_.push_back(reported(from_ + step - later, k));
    }
  }

  std::string id(char kind, std::size_t run) const {
    return options_.ids ? ",\"id\":\"" + std::string(1, kind) + std::to_string(run) + "\"" : std::string();
  }
  static std::string heartbeat(std::size_t run) {
    return "{\"type\":\"run_heartbeat\",\"run_id\":\"bench-" + std::to_string(run) + "\"}\n";
  }
  std::string started(std::size_t run) const {
    return "{\"type\":\"run_started\",\"run_id\":\"bench-" + std::to_string(run) + "\"" + id('s', run) +
           ",\"council\":\"bench\",\"attempt\":1,\"input\":{\"prompt\":\"" + text_ +
           "\",\"n\":" + std::to_string(run) + "}}\n";
  }
  std::string completed(std::size_t run) const {
    return "{\"type\":\"run_completed\",\"run_id\":\"bench-" + std::to_string(run) + "\"" + id('c', run) +
           ",\"result\":{\"answer\":\"" + text_ + "\",\"score\":0.75}}\n";
  }

  std::string reported(std::size_t run, std::size_t number) const {
    return "{\"type\":\"progress_report\",\"run_id\":\"bench-" + std::to_string(run) + "\"" +
           id(static_cast<char>('A' + number % 26), run) + ",\"payload\":{\"stage\":\"" + text_.substr(0, 60) +
           "\",\"done\":" + std::to_string(number) + ",\"total\":20}}\n";
  }

  const Options& options_;
  const std::size_t from_, runs_, steps_;
  std::size_t step_ = 0;
  std::deque<std::string> due_;  // of the steps made so far
  std::string text_;
};

struct Connection {
  int fd = -1;
  Script script;
  std::string out;  // handed to the kernel up to `written`
  std::size_t written = 0;
  std::string in;
  std::uint64_t sent = 0, acked = 0;
  std::deque<std::pair<std::uint64_t, Clock::time_point>> stamps;  // line, when it was sent
  std::size_t allowed = 0;                                         // lines it may have sent by now, at a given rate
  bool watched_for_room = false;
};

int connect_to(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw std::runtime_error("the path is too long");
  std::memcpy(address.sun_path, path.c_str(), path.size());
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw std::runtime_error("connect " + path + ": " + std::strerror(errno));
  }
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  return fd;
}

class Load {
 public:
  explicit Load(const Options& options) : options_(options), epoll_(epoll_create1(0)) {
    const std::size_t share = options.runs / options.connections;
    for (std::size_t i = 0; i < options.connections; ++i) {
      const std::size_t from = options.first + i * share;
      const std::size_t to = i + 1 == options.connections ? options.first + options.runs : from + share;
      connections_.push_back(
          Connection{connect_to(options.socket), Script(options, from, to), {}, 0, {}, 0, 0, {}, 0, false});
    }
    for (std::size_t i = 0; i < connections_.size(); ++i) {
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.u64 = i;
      epoll_ctl(epoll_, EPOLL_CTL_ADD, connections_[i].fd, &event);
    }
  }

  void run() {
    begun_ = Clock::now();
    while (true) {
      bool open = false;
      grant();
      if (!held_ && all_at_hold()) hold();
      for (std::size_t i = 0; i < connections_.size(); ++i) {
        pump(connections_[i]);
        watch(i);
        open = open || !connections_[i].script.done() || connections_[i].acked < connections_[i].sent;
      }
      if (!open) break;
      std::array<epoll_event, 64> events{};
      const timespec patience = until_due();
      const int count = epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), &patience, nullptr);
      for (int i = 0; i < count; ++i) {
        if (events[static_cast<std::size_t>(i)].events & EPOLLIN)
          receive(connections_[events[static_cast<std::size_t>(i)].data.u64]);
      }
    }
    ended_ = Clock::now();
  }

  // At a rate, each latency is told.
  void report() const {
    std::uint64_t acked = 0;
    for (const Connection& connection : connections_) acked += connection.acked;
    acked -= acked_before_;
    const double seconds = std::chrono::duration<double>(ended_ - begun_).count();
    std::printf("{\"acked\":%llu,\"errors\":%llu,\"seconds\":%.6f,\"latencies_us\":[",
                static_cast<unsigned long long>(acked), static_cast<unsigned long long>(errors_), seconds);
    const char* separator = "";
    if (options_.rate > 0) {
      for (const double latency : latencies_us_) std::printf("%s%.1f", std::exchange(separator, ","), latency);
    }
    std::printf("]}\n");
  }

 private:
  bool all_at_hold() const {
    return std::ranges::all_of(connections_, [](const Connection& connection) {
      return connection.script.at_hold() && connection.acked == connection.sent;
    });
  }
  void hold() {
    held_ = true;
    std::puts("held");
    std::fflush(stdout);
    for (int c = std::getchar(); c != '\n' && c != EOF;) c = std::getchar();
    for (const Connection& connection : connections_) acked_before_ += connection.acked;
    begun_ = Clock::now();
  }

  // At a rate: lines become due evenly, connection after connection.
  void grant() {
    if (options_.rate <= 0) return;
    double elapsed = std::chrono::duration<double>(Clock::now() - begun_).count();
    if (options_.tick > 0) elapsed = std::floor(elapsed / options_.tick) * options_.tick;
    const auto due = static_cast<std::size_t>(elapsed * options_.rate);
    for (; granted_ < due; ++granted_) ++connections_[granted_ % connections_.size()].allowed;
  }

  timespec until_due() const {
    if (options_.rate <= 0) return {1, 0};
    if (options_.tick > 0) return {0, 5'000'000};
    const std::chrono::duration<double> due(static_cast<double>(granted_ + 1) / options_.rate);
    const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(due - (Clock::now() - begun_)).count();
    return {0, std::clamp<long>(left, 0, 999'999'999)};
  }

  void pump(Connection& connection) {
    while (true) {
      if (connection.written == connection.out.size()) {
        connection.out.clear();
        connection.written = 0;
        const auto now = Clock::now();
        while (!connection.script.done() && (held_ || !connection.script.at_hold()) &&
               connection.sent - connection.acked < options_.window &&
               (options_.rate <= 0 || connection.sent < connection.allowed) && connection.out.size() < 64 << 10) {
          connection.out += connection.script.next();
          connection.stamps.emplace_back(++connection.sent, now);
        }
        if (connection.out.empty()) return;
      }
      const ssize_t count = write(connection.fd, connection.out.data() + connection.written,
                                  connection.out.size() - connection.written);
      if (count < 0) {
        if (errno == EAGAIN) return;
        throw std::runtime_error(std::string("write: ") + std::strerror(errno));
      }
      connection.written += static_cast<std::size_t>(count);
    }
  }

  void watch(std::size_t index) {
    const bool for_room = connections_[index].written < connections_[index].out.size();
    if (for_room == std::exchange(connections_[index].watched_for_room, for_room)) return;
    epoll_event event{};
    event.events = for_room ? EPOLLIN | EPOLLOUT : EPOLLIN;
    event.data.u64 = index;
    epoll_ctl(epoll_, EPOLL_CTL_MOD, connections_[index].fd, &event);
  }

  void receive(Connection& connection) {
    char buffer[16 << 10];
    const ssize_t count = read(connection.fd, buffer, sizeof buffer);
    if (count == 0) throw std::runtime_error("the daemon closed a connection");
    if (count < 0) return;
    connection.in.append(buffer, static_cast<std::size_t>(count));
    std::size_t begin = 0;
    for (std::size_t end; (end = connection.in.find('\n', begin)) != std::string::npos; begin = end + 1) {
      answer(connection, connection.in.substr(begin, end - begin));
    }
    connection.in.erase(0, begin);
  }

  void answer(Connection& connection, const std::string& line) {
    constexpr std::string_view kAcked = "{\"acked\":";
    if (!line.starts_with(kAcked)) {
      ++errors_;
      std::fprintf(stderr, "%s\n", line.c_str());
      return;
    }
    connection.acked = std::strtoull(line.c_str() + kAcked.size(), nullptr, 10);
    const auto now = Clock::now();
    while (!connection.stamps.empty() && connection.stamps.front().first <= connection.acked) {
      latencies_us_.push_back(
          std::chrono::duration<double, std::micro>(now - connection.stamps.front().second).count());
      connection.stamps.pop_front();
    }
  }

  const Options& options_;
  bool held_ = options_.hold == kNever;
  std::uint64_t acked_before_ = 0;  // the hold
  const int epoll_;
  std::vector<Connection> connections_;
  std::size_t granted_ = 0;
  std::vector<double> latencies_us_;
  std::uint64_t errors_ = 0;
  Clock::time_point begun_, ended_;
};

}  // namespace

int main(int argc, char** argv) {
  try {
    const Options options = parse(argc, argv);
    Load load(options);
    load.run();
    load.report();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_load: %s\n", error.what());
    return 1;
  }
}
