// `admin move`: everything in the service's database goes to another one. Two daemons run for the time of it, on
// sockets that no worker knows: one on the old database with the service's spool, one on the new database with a
// spool of its own, which goes with it. Between them export and import do the work.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/account.h"
#include "base/file.h"
#include "base/url.h"
#include "cli/admin_actions.h"
#include "cli/admin_daemon.h"
#include "cli/child.h"
#include "cli/control_client.h"
#include "cli/json_object.h"
#include "cli/terminal.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

constexpr std::chrono::seconds kTimeToBeUp{60};
constexpr std::chrono::seconds kTimeAway{10};  // once it says so
constexpr std::chrono::milliseconds kLookEvery{100};
constexpr std::size_t kMostOfLog = 2'000;

[[noreturn]] void stop_move(const std::string& why, int status = kExitOther) {
  throw StartError(status, why);
}

// Of a program that ended: what the contract names goes on, a signal's number does not.
int status_to_pass_on(int status) {
  return status == kExitConfiguration || status == kExitNotThere ? status : kExitOther;
}

void heed_interrupt() {
  if (was_interrupted()) stop_move("interrupted");
}

// A service sees its own /tmp.
std::string temporary_folder_of(const AdministeredDaemon& daemon) {
  if (!daemon.is_service()) {
    const char* const named = std::getenv("TMPDIR");
    if (named != nullptr && *named == '/') return named;
  }
  return ::geteuid() == 0 ? "/run" : "/tmp";
}

// Of one user and nobody else's, and gone when this object is.
class PrivateFolder {
 public:
  // user: empty: of ours. parent: where it is made.
  PrivateFolder(std::optional<uid_t> user, const std::string& parent) {
    std::string name = parent + "/run-recorder-move-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) stop_move(system_error_of("mkdir " + name).message);
    path_ = name;
    if (user && ::chown(path_.c_str(), *user, static_cast<gid_t>(-1)) != 0) {
      stop_move(system_error_of("chown " + path_.string()).message);
    }
  }
  ~PrivateFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  PrivateFolder(const PrivateFolder&) = delete;
  PrivateFolder& operator=(const PrivateFolder&) = delete;
  std::string path() const { return path_; }
  std::string file(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// One of the two daemons; ended when this object goes.
class MovingDaemon {
 public:
  // name: "old" or "new".
  MovingDaemon(const AdministeredDaemon& daemon, const PrivateFolder& folder, const PrivateFolder& ours,
               const std::string& name, DaemonChanges changes)
      : daemon_(daemon), name_(name), log_(ours.file(name + ".log")), control_(folder.file(name + ".sock")) {
    // Neither of the two judges any run meanwhile.
    const Settings apart = {{"--reconcile-interval", "0s"},
                            {"--reconcile-grace", "24h"},
                            {"--socket-path", folder.file(name + "-events.sock")},
                            {"--control-path", control_},
                            {"--metrics-listen", ""}};
    changes.flags.insert(changes.flags.end(), apart.begin(), apart.end());
    changes.folder = folder.path();
    call_ = daemon.call({}, changes);
    auto log = open_file(log_, O_WRONLY | O_CREAT | O_TRUNC);
    if (!log) stop_move(log.error().message);
    call_.program.output = call_.program.errors = log->get();
    auto program = Program::start(call_.program);
    if (!program) stop_move(call_.program.text() + ": " + program.error().message);
    program_.emplace(std::move(*program));
  }
  ~MovingDaemon() { end(); }
  MovingDaemon(const MovingDaemon&) = delete;
  MovingDaemon& operator=(const MovingDaemon&) = delete;

  const std::string& control() const { return control_; }

  // Throws where its database does not come up.
  void wait_until_up() {
    const ControlClient client(control_);
    auto give_up = std::chrono::steady_clock::now() + kTimeToBeUp;
    bool away = false;
    while (true) {
      heed_interrupt();
      if (program_->has_ended()) {
        stop_move(fmt::format("the daemon on the {} database ended at once:\n{}", name_, end_of_log()),
                  status_to_pass_on(program_->wait()));
      }
      std::string error = "it does not answer";
      if (const auto answer = client.get("/v1/status")) {
        const JsonObject database = JsonObject(answer->body).object("database");
        const std::string state = database.text("state");
        if (state == "up") return;
        error = state + ": " + database.text("error");
        if (state == "away" && !std::exchange(away, true)) give_up = std::chrono::steady_clock::now() + kTimeAway;
        if (state == "refused") stop_move(fmt::format("the {} database: {}", name_, error), kExitConfiguration);
      }
      if (std::chrono::steady_clock::now() > give_up) {
        stop_move(fmt::format("the {} database does not come up: {}\n{}", name_, error, end_of_log()), kExitNotThere);
      }
      pause_while_read(kLookEvery);
    }
  }

  void end() {
    if (program_) daemon_.end(call_, *program_);
    program_.reset();
  }

 private:
  std::string end_of_log() const {
    const auto text = read_file(log_, std::size_t{16} * 1024 * 1024);
    return text ? text->substr(text->size() - std::min(text->size(), kMostOfLog)) : text.error().message;
  }

  const AdministeredDaemon& daemon_;
  const std::string name_;
  const std::string log_;
  const std::string control_;
  DaemonCall call_;
  std::optional<Program> program_;
};

std::string own_program() {
  std::error_code problem;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", problem);
  return problem ? std::string("run-recorder") : self.string();
}

// export | import, with their progress before whoever looks.
void copy_rows(const std::string& from, const std::string& to) {
  Result<Pipe> pipe = make_pipe();
  if (!pipe) stop_move(pipe.error().message);
  const ProgramCall reading{{own_program(), "--control", from, "export"}, {}, -1, pipe->writing.get()};
  const ProgramCall writing{{own_program(), "--control", to, "import"}, {}, pipe->reading.get()};
  auto exporter = Program::start(reading);
  if (!exporter) stop_move(reading.text() + ": " + exporter.error().message);
  auto importer = Program::start(writing);
  if (!importer) stop_move(writing.text() + ": " + importer.error().message);
  pipe->writing.reset();
  pipe->reading.reset();
  const int written = importer->wait();
  const int read = exporter->wait();
  heed_interrupt();
  if (read != 0) stop_move(fmt::format("{}: exit status {}", reading.text(), read), status_to_pass_on(read));
  if (written != 0) stop_move(fmt::format("{}: exit status {}", writing.text(), written), status_to_pass_on(written));
}

void move_rows(const AdministeredDaemon& daemon, const std::string& url) {
  const std::string parent = temporary_folder_of(daemon);
  const PrivateFolder folder(daemon.user(), parent);
  const PrivateFolder ours({}, parent);  // what this process writes: in the daemon's folder it could be led elsewhere
  DaemonChanges changes;
  changes.flags = {{"--spool-path", folder.file("spool")}, {"--spool-min-free", "0B"}};
  if (has_password(url)) {
    changes.secrets = {{"--database-url", url}, {"--database-password-file", ""}};
    changes.secrets_file = ours.file("secrets");
  } else {
    changes.flags.emplace_back("--database-url", url);
  }
  MovingDaemon from(daemon, folder, ours, "old", {});
  MovingDaemon to(daemon, folder, ours, "new", changes);
  from.wait_until_up();
  to.wait_until_up();
  copy_rows(from.control(), to.control());
  from.end();
  to.end();
}

// As a line of TOML.
std::string setting_line(const std::string& url) {
  return fmt::format("url = \"{}\"", with_backslashes(redact_url(url), "\"\\"));
}

void say_what_is_next(const AdministeredDaemon& daemon, const Config& config, const std::string& url) {
  const std::string file = config.file.empty() ? ConfigSources().default_file : config.file;
  std::string text = fmt::format(
      "everything is in the new database; the old one is as it was\nnow set in {}:\n"
      "  [database]\n  {}\n",
      file, setting_line(url));
  if (has_password(url)) {
    text +=
        "with its password, or better without, and the password in "
        "/etc/credstore/run-recorder.database-password\n";
  }
  text += daemon.is_service() ? fmt::format("then start the service: {}\n", AdministeredDaemon::start_command())
                              : "then start the daemon\n";
  print(text);
}

}  // namespace

int move_installation(const Invocation& invocation, const std::string& url) {
  if (url.empty()) throw StartError(kExitUsage, "--to is needed: where everything goes, sqlite:PATH or a libpq URI");
  if (const auto problem = problem_of_url(url)) throw StartError(kExitUsage, "--to: " + *problem);
  const AdministeredDaemon daemon(invocation, "move --to " + redact_url(url));
  const Config config = daemon.config();
  if (redact_url(url) == redact_url(config.database.url)) {
    throw StartError(kExitUsage, "--to: that is the database in use: " + redact_url(url));
  }
  catch_interrupts();
  const AdministeredDaemon::Running ran = daemon.stop();
  try {
    const int drained = daemon.run(daemon.call({"--drain"}));
    heed_interrupt();
    if (drained != kExitDone)
      stop_move(fmt::format("run-recorderd --drain: exit status {}", drained), status_to_pass_on(drained));
    move_rows(daemon, url);
  } catch (const StartError& error) {
    complain(error.what());
    daemon.start(ran);
    complain(fmt::format("nothing is lost: the old database is as it was{}; a move may be repeated",
                         ran.any() ? ", and the service runs again with it" : ""));
    return error.exit_status();
  }
  say_what_is_next(daemon, config, url);
  return kExitDone;
}

}  // namespace run_recorder
