#include "server_fixture.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

namespace run_recorder {

using std::chrono::steady_clock;

bool eventually(const std::function<bool()>& holds) {
  const auto end = steady_clock::now() + kPatience;
  while (!holds()) {
    if (steady_clock::now() > end) {
      return false;
    }
    ::poll(nullptr, 0, 1);
  }
  return true;
}

Client::Client(const std::filesystem::path& path) : Client(path, 0) {}

Client::Client(const std::filesystem::path& path, int receive_buffer)
    : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  if (receive_buffer > 0) {
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
  }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    throw std::runtime_error("cannot connect: " + errno_words(errno));
  }
}

bool Client::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0) {
      return false;
    }
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

std::size_t Client::send_some(std::string_view bytes) {
  const ssize_t count = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  return count > 0 ? static_cast<std::size_t>(count) : 0;
}

void Client::finish_sending() {
  ::shutdown(fd_.get(), SHUT_WR);
}

std::string Client::answer() {
  std::size_t newline = 0;
  while ((newline = unread_.find('\n')) == std::string::npos) {
    pollfd waiting{fd_.get(), POLLIN, 0};
    if (::poll(&waiting, 1, static_cast<int>(std::chrono::milliseconds(kPatience).count())) != 1) {
      ADD_FAILURE() << "no answer came; unread: " << unread_;
      return {};
    }
    char buffer[4096];
    const ssize_t count = ::recv(fd_.get(), buffer, sizeof(buffer), 0);
    if (count <= 0) {
      EXPECT_EQ(unread_, "") << "the last answer is torn";
      return {};
    }
    unread_.append(buffer, static_cast<std::size_t>(count));
  }
  std::string answer = unread_.substr(0, newline);
  unread_.erase(0, newline + 1);
  return answer;
}

std::vector<std::string> Client::answers_until(std::uint64_t line) {
  std::vector<std::string> answers;
  do {
    answers.push_back(answer());
  } while (!answers.back().empty() && acked(answers.back()) < line);
  return answers;
}

std::vector<std::string> Client::answers_until_end() {
  std::vector<std::string> answers;
  for (std::string next = answer(); !next.empty(); next = answer()) {
    answers.push_back(std::move(next));
  }
  return answers;
}

bool Client::has_answer() {
  pollfd waiting{fd_.get(), POLLIN, 0};
  return !unread_.empty() || ::poll(&waiting, 1, 0) == 1;
}

std::uint64_t acked(std::string_view answer) {
  constexpr std::string_view kStart = "{\"acked\":";
  return answer.starts_with(kStart) ? std::stoull(std::string(answer.substr(kStart.size()))) : 0;
}

std::string error_start(std::uint64_t line, std::string_view code) {
  return fmt::format("{{\"error\":{{\"line\":{},\"code\":\"{}\",", line, code);
}

void GatedSpool::shut() {
  const std::lock_guard lock(mutex_);
  shut_ = true;
}

void GatedSpool::open() {
  const std::lock_guard lock(mutex_);
  shut_ = false;
  changed_.notify_all();
}

void GatedSpool::wait_for_append() {
  std::unique_lock lock(mutex_);
  EXPECT_TRUE(changed_.wait_for(lock, kPatience, [this] { return waiting_; }));
}

void GatedSpool::fail_with(std::optional<Error> error) {
  const std::lock_guard lock(mutex_);
  error_ = std::move(error);
}

std::size_t GatedSpool::appends() const {
  const std::lock_guard lock(mutex_);
  return appends_;
}

std::size_t GatedSpool::largest_append() const {
  const std::lock_guard lock(mutex_);
  return largest_;
}

std::string GatedSpool::last_thread() const {
  const std::lock_guard lock(mutex_);
  return last_thread_;
}

Result<Spool::Appended> GatedSpool::append(std::span<const Entry> entries) {
  {
    std::unique_lock lock(mutex_);
    ++appends_;
    largest_ = std::max(largest_, entries.size());
    char name[16] = {};
    ::pthread_getname_np(::pthread_self(), name, sizeof(name));
    last_thread_ = name;
    waiting_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !shut_; });
    waiting_ = false;
    if (error_) {
      return *error_;
    }
  }
  return spool_->append(entries);
}

ServerTest::ServerTest() {
  spool_options.path = folder.path() / "spool";
  spool_options.min_free = 0;
  options.path = folder.path() / "events.sock";
}

ServerTest::~ServerTest() {
  if (spool) {
    spool->open();
  }
  server.reset();  // its threads write into other members
}

void ServerTest::start() {
  if (!spool) {
    SpoolOpening opening;
    spool = std::make_unique<GatedSpool>(Spool::open(spool_options, opening).value());
  }
  server = std::make_unique<EventServer>(
      options, *spool, [this] { return now; },
      [this](std::vector<Accepted>&& events) {
        const std::lock_guard lock(mutex_);
        std::move(events.begin(), events.end(), std::back_inserter(accepted_));
      });
  server->start();
}

std::vector<Accepted> ServerTest::accepted() const {
  const std::lock_guard lock(mutex_);
  return accepted_;
}

std::size_t ServerTest::accepted_count() const {
  const std::lock_guard lock(mutex_);
  return accepted_.size();
}

std::vector<SpoolRecord> ServerTest::spooled() {
  std::vector<SpoolRecord> all;
  std::vector<std::string> damage;
  while (true) {
    auto records = spool->read(all.empty() ? 1 : all.back().seq + 1, 10'000, 64 << 20, damage).value();
    if (records.empty()) {
      break;
    }
    std::move(records.begin(), records.end(), std::back_inserter(all));
  }
  EXPECT_TRUE(damage.empty());
  return all;
}

std::string note(std::string_view run_id) {
  return fmt::format("{{\"type\":\"note\",\"run_id\":\"{}\"}}\n", run_id);
}

std::string started(std::string_view run_id) {
  return fmt::format("{{\"type\":\"run_started\",\"run_id\":\"{}\",\"council\":\"demo\"}}\n", run_id);
}

std::string long_note(std::string_view run_id, std::size_t bytes) {
  const std::string start = fmt::format("{{\"type\":\"note\",\"run_id\":\"{}\",\"payload\":{{\"x\":\"", run_id);
  constexpr std::string_view kEnd = "\"}}";
  return start + std::string(bytes - start.size() - kEnd.size(), 'y') + std::string(kEnd) + "\n";
}

}  // namespace run_recorder
