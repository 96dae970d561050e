#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/url.h"
#include "cli/admin_actions.h"
#include "cli/admin_daemon.h"
#include "cli/terminal.h"

namespace run_recorder {
namespace {

// A file that SQLite has not finished: its newest rows are in the -wal beside it.
void refuse_unfinished(const std::string& file) {
  struct stat wal {};
  if (::stat((file + "-wal").c_str(), &wal) != 0 || wal.st_size == 0) return;
  throw StartError(kExitOther, fmt::format("{0} is no finished copy: a part of it is in {0}-wal; make one with "
                                           "sqlite3 {0} \".backup COPY\"",
                                           file));
}

}  // namespace

int restore_installation(const Invocation& invocation, const std::string& file) {
  const AdministeredDaemon daemon(invocation, "restore " + file);
  if (database_kind(daemon.config().database.url) != DatabaseKind::kSqlite) {
    throw StartError(kExitOther,
                     "the database is PostgreSQL: restore it with its own means (pg_restore), the daemon may go on "
                     "running; what is missing there it applies again from its spool");
  }
  refuse_unfinished(file);
  auto copy = open_file(file, O_RDONLY);
  if (!copy) throw StartError(kExitOther, copy.error().message);
  catch_interrupts();
  const AdministeredDaemon::Running ran = daemon.stop();
  DaemonCall call = daemon.call({"--restore"});
  call.program.input = copy->get();
  const int status = daemon.run(call);
  daemon.start(ran);
  if (ran.any()) {
    print(status == kExitDone ? "the service runs again\n" : "the service runs again, as before\n");
  }
  return status;
}

}  // namespace run_recorder
