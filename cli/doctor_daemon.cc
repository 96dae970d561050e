#include "cli/doctor_daemon.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "base/account.h"
#include "base/file.h"
#include "base/socket_path.h"
#include "cli/json_object.h"
#include "cli/terminal.h"
#include "cli/text.h"

namespace run_recorder {
namespace {

constexpr std::int64_t kLargestClockDifferenceMs = 2'000;

std::string own_name() {
  return user_name(::geteuid());
}

bool in_group(gid_t group) {
  std::vector<gid_t> groups(static_cast<std::size_t>(std::max(::getgroups(0, nullptr), 0)));
  const int count = ::getgroups(static_cast<int>(groups.size()), groups.data());
  groups.resize(static_cast<std::size_t>(std::max(count, 0)));
  return ::getegid() == group || std::ranges::count(groups, group) > 0;
}

// What keeps this user from a socket that is there.
std::string advice_for_denied(const struct stat& status) {
  const std::string group = group_name(status.st_gid);
  const std::vector<gid_t> listed = groups_of(::geteuid());
  if (std::ranges::count(listed, status.st_gid) > 0 && !in_group(status.st_gid)) {
    return fmt::format("{} is in the group {}, but this login began before: log in again", own_name(), group);
  }
  if ((status.st_mode & 0060) == 0060) {
    return fmt::format("become a member: usermod -aG {} {}, then log in again", group, own_name());
  }
  return fmt::format("its mode {:04o} lets only {} in: set mode and group in the configuration",
                     status.st_mode & 0777U, user_name(status.st_uid));
}

void check_ledger(DoctorReport& report, const JsonObject& status) {
  if (const std::uint64_t letters = status.count("dead_letters"); letters > 0) {
    report.wrong("dead letters", count_of(letters, "event") + " the database refuses",
                 "run-recorder dead-letters list says why; retry them when that is repaired, or delete them");
  } else {
    report.fine("dead letters", "none");
  }
  if (const std::uint64_t forgotten = status.count("forgotten"); forgotten > 0) {
    report.wrong("history", count_of(forgotten, "event") + " forgotten by the database and no longer in the spool",
                 "rows of that time are incomplete; raise [spool] keep above what a failover or a restore goes back");
  }
}

void check_indexes(DoctorReport& report, const JsonObject& database) {
  const JsonObject wait = database.object("waiting_for");
  if (wait.members().empty()) return;
  const std::string error = wait.text("error");
  const std::string holder = wait.text("held_up_by");
  report.wrong("indexes",
               fmt::format("{} missing since {}, event ids are {}", wait.text("indexes"), wait.text("since"),
                           wait.text("event_ids")),
               !error.empty()    ? error
               : !holder.empty() ? "they wait for " + holder + ": let it end, or end it"
                                 : "they are being built; nothing is lost meanwhile");
}

// A first connection to the database that is under way is waited for a little.
Result<ControlAnswer> settled_status(const ControlClient& client) {
  constexpr std::chrono::seconds kPatience{10};
  constexpr std::chrono::milliseconds kPause{100};
  const auto give_up = std::chrono::steady_clock::now() + kPatience;
  while (true) {
    Result<ControlAnswer> answer = client.get("/v1/status");
    const bool connecting = answer && JsonObject(answer->body).object("database").text("state") == "connecting";
    if (!connecting || std::chrono::steady_clock::now() > give_up) return answer;
    pause_while_read(kPause);
  }
}

// Nobody is told of such a run for as long as silent_after.
void check_last_pass(DoctorReport& report, const JsonObject& last) {
  const std::uint64_t gone = last.object("reasons").count("sender_gone");
  if (gone == 0) return;
  report.warning("senders gone",
                 fmt::format("{} of the last pass live by the queue's word alone: who sent their events is gone",
                             count_of(gone, "run")),
                 "a queue may call a job of a killed node executing for ever: send worker_pid, or expires_in and "
                 "run_heartbeat; run-recorder explain RUN shows what is known of one");
}

}  // namespace

bool check_socket(DoctorReport& report, const std::string& check, const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    const Error error = system_error_of(path);
    const bool denied = error.kind == ErrorKind::kDenied;
    report.wrong(check, error.message,
                 denied ? "this user may not pass through a folder on the way there: look at their modes"
                        : "the daemon is not running, or its socket is elsewhere: systemctl start run-recorder, or "
                          "name the path in the configuration");
    return false;
  }
  if (!S_ISSOCK(status.st_mode)) {
    report.wrong(check, path + " is no socket", "something else lies there: move it away, then restart the daemon");
    return false;
  }
  const auto address = socket_address(path);
  if (!address) {
    report.wrong(check, fmt::format("{} is longer than {} bytes", path, kMaxSocketPathBytes),
                 "configure a shorter path");
    return false;
  }
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) {
    const int problem = errno;
    report.wrong(check, fmt::format("connect to {}: {}", path, errno_words(problem)),
                 problem == EACCES || problem == EPERM ? advice_for_denied(status)
                                                       : "nobody listens: systemctl start run-recorder, then look at "
                                                         "journalctl -u run-recorder");
    return false;
  }
  report.fine(check,
              fmt::format("{}, mode {:04o}, group {}", path, status.st_mode & 0777U, group_name(status.st_gid)));
  return true;
}

SeenDaemon check_daemon(DoctorReport& report, const Context& context) {
  const Result<ControlAnswer> answer = settled_status(context.client);
  if (!answer) {
    report.wrong("daemon", answer.error().message,
                 answer.error().kind == ErrorKind::kDenied ? "ask as root or as a member of that group"
                                                           : "look at journalctl -u run-recorder");
    return {};
  }
  const JsonObject status(answer->body);
  report.fine("daemon",
              fmt::format("{}, pid {}: {}", status.text("version"), status.text("pid"), status.text("status")));
  const JsonObject spool = status.object("spool");
  if (spool.is_true("failed")) {
    report.wrong("accepting", spool.text("failure"), "look at the disk under the spool, then restart the daemon");
  } else if (const std::string refused = status.object("accepting").text("message"); !refused.empty()) {
    report.wrong("accepting", refused,
                 "bring the database back, or raise [spool] max_bytes, or free the disk under the spool");
  } else {
    report.fine("accepting", "events are accepted");
  }
  check_ledger(report, status);
  check_last_pass(report, status.object("reconciliation").object("last"));
  const JsonObject database = status.object("database");
  SeenDaemon seen{true, database.text("state") == "up", spool.text("path"), database.text("url")};
  if (seen.database_up) {
    report.fine("database", fmt::format("{}, used by the daemon", seen.database_url));
    check_indexes(report, database);
  } else {
    const std::string error = database.text("error");
    report.wrong("database",
                 fmt::format("{}, says the daemon: {}{}{}", seen.database_url, database.text("state"),
                             error.empty() ? "" : ": ", error),
                 std::string(kDatabaseAdvice));
  }
  return seen;
}

void check_clock(DoctorReport& report, const Context& context, const SeenDaemon& daemon) {
  const auto leave_out = [&report](const std::string& why) {
    report.warning("clock", "not compared with the database's: " + why, "look again once the database is up");
  };
  if (!daemon.answers) return leave_out("no daemon answers");
  if (!daemon.database_up) return leave_out("the daemon's database is not up");
  const Result<ControlAnswer> answer = context.client.get("/v1/clock");
  if (!answer) return leave_out(answer.error().message);
  const JsonObject clock(answer->body);
  const std::int64_t difference = clock.integer("difference_ms").value_or(0);
  const std::string words = duration_in_words(std::chrono::milliseconds(difference < 0 ? -difference : difference));
  if (difference > kLargestClockDifferenceMs || difference < -kLargestClockDifferenceMs) {
    report.wrong(
        "clock", fmt::format("this host is {} {} the database", words, difference > 0 ? "ahead of" : "behind"),
        "let both keep their time by NTP (timedatectl); times of events are the hosts', ages the database's");
  } else {
    report.fine("clock", "within 2 s of the database's");
  }
}

}  // namespace run_recorder
