// A real event server over a real spool in a temporary folder, and clients that speak to it over its socket. Nothing
// here sleeps: a client waits for bytes, everything else for a condition.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "server/server.h"
#include "spool/spool.h"
#include "support/temp_folder.h"

namespace run_recorder {

// Longer than anything takes, sanitizers and a busy machine included.
inline constexpr std::chrono::seconds kPatience{60};

// True as soon as the condition holds; false when patience has run out.
bool eventually(const std::function<bool()>& holds);

// One end of a connection to the server.
class Client {
 public:
  explicit Client(const std::filesystem::path& path);
  Client(const std::filesystem::path& path, int receive_buffer);

  int fd() const { return fd_.get(); }
  // All of it; false when the peer has closed.
  bool send(std::string_view bytes);
  // What the kernel takes now.
  std::size_t send_some(std::string_view bytes);
  void finish_sending();
  void close() { fd_.reset(); }
  // The next answer without its newline; empty at the end of input.
  std::string answer();
  // Answers up to and including the acknowledgement of this line (or a later one).
  std::vector<std::string> answers_until(std::uint64_t line);
  // All answers there are until the server closes.
  std::vector<std::string> answers_until_end();
  // Answers there are now, without waiting; for asserting that there are none.
  bool has_answer();

 private:
  UniqueFd fd_;
  std::string unread_;
};

// The number in {"acked":N}; 0 for other answers.
std::uint64_t acked(std::string_view answer);
// {"error":{"line":N,"code":"C", as the answer begins.
std::string error_start(std::uint64_t line, std::string_view code);

// The spool, with a gate that holds appends back, and an error that they fail with.
class GatedSpool : public Spool {
 public:
  explicit GatedSpool(std::unique_ptr<Spool> spool) : spool_(std::move(spool)) {}

  void shut();
  void open();
  // Until an append waits at the gate.
  void wait_for_append();
  void fail_with(std::optional<Error> error);
  std::size_t appends() const;
  std::size_t largest_append() const;  // in entries
  std::string last_thread() const;     // that appended, by its name

  std::string id() const override { return spool_->id(); }
  const std::string& origin() const override { return spool_->origin(); }
  std::vector<Incarnation> incarnations() const override { return spool_->incarnations(); }
  std::vector<Incarnation> remembered() const override { return spool_->remembered(); }
  bool may_be_copy() const override { return spool_->may_be_copy(); }
  void settle() override { spool_->settle(); }
  std::string renew() override { return spool_->renew(); }
  std::uint64_t shared_before() const override { return spool_->shared_before(); }
  FilesCheck check_files() override { return spool_->check_files(); }
  Result<Appended> append(std::span<const Entry> entries) override;
  Result<std::vector<SpoolRecord>> read(std::uint64_t seq, std::size_t max_records, std::size_t max_bytes,
                                        std::vector<std::string>& damage) override {
    return spool_->read(seq, max_records, max_bytes, damage);
  }
  void release(std::uint64_t seq) override { spool_->release(seq); }
  void delete_expired(Timestamp now) override { spool_->delete_expired(now); }
  std::string hint() const override { return spool_->hint(); }
  void set_hint(std::string_view text) override { spool_->set_hint(text); }
  SpoolUsage usage() const override { return spool_->usage(); }
  SpoolRoom room() const override { return spool_->room(); }
  void set_limits(std::uint64_t max_bytes, std::uint64_t min_free, std::chrono::milliseconds keep) override {
    spool_->set_limits(max_bytes, min_free, keep);
  }

 private:
  std::unique_ptr<Spool> spool_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool shut_ = false;
  bool waiting_ = false;
  std::optional<Error> error_;
  std::size_t appends_ = 0;
  std::size_t largest_ = 0;
  std::string last_thread_;
};

class ServerTest : public ::testing::Test {
 protected:
  ServerTest();
  ~ServerTest() override;

  // Set options (and spool_options) before.
  void start();
  void stop(std::chrono::milliseconds within = kPatience) { server->stop(within); }

  Client connect() { return Client(options.path); }
  std::vector<Accepted> accepted() const;  // a copy of what the recorder was handed so far
  std::size_t accepted_count() const;
  // What a restarted daemon would find.
  std::vector<SpoolRecord> spooled();
  ServerCounters counters() const { return server->counters(); }
  std::uint64_t refused(RefusalCode code) const { return counters().refused[static_cast<std::size_t>(code)]; }

  TempFolder folder;
  SpoolOptions spool_options;
  ServerOptions options;
  std::unique_ptr<GatedSpool> spool;
  std::unique_ptr<EventServer> server;
  Timestamp now{std::chrono::seconds{1'800'000'000}};

 private:
  mutable std::mutex mutex_;
  std::vector<Accepted> accepted_;
};

// A line with its newline.
std::string note(std::string_view run_id);
std::string started(std::string_view run_id);
// A note of exactly that many bytes, its newline not counted.
std::string long_note(std::string_view run_id, std::size_t bytes);

}  // namespace run_recorder
