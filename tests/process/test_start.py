"""Starting, stopping and configuring: exit codes, who holds what, all mistakes at once, reload."""

import json
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import threading
import unittest
from pathlib import Path

from harness import DAEMON, DEADLINE_S, OnPostgres, OnSqlite, ProcessTest, SqliteDatabase, StandingPipe, temporary_folder, wait_until


class Configuration(OnSqlite, ProcessTest):
    def test_all_mistakes_are_named_at_once_and_exit_78(self):
        server = self.daemon()
        server.write_config(text='[socket]\npath = 17\n[spool]\nmax_bytes = "much"\nkeeep = "1h"\n[nonsense]\nx = 1\n'
                                 '[reconcile]\ngrace = "30"\n[events]\nexclude = ["a"]\ninclude = ["b"]\n')
        for arguments in ((), ("--check",)):
            done = server.run(*arguments)
            self.assertEqual(done.returncode, 78, done.stderr)
            for words in ("path", "max_bytes", "keeep", "nonsense", "grace", "include", "config.toml:2", "config.toml:9"):
                self.assertIn(words, done.stderr)
        self.assertFalse(server.spool_path.exists())

    def test_a_file_that_is_not_toml_or_not_there_is_an_error(self):
        server = self.daemon()
        server.write_config(text="[socket\n")
        self.assertEqual(server.run("--check").returncode, 78)
        server.config_path.unlink()
        done = subprocess.run([str(DAEMON), "--config", str(server.config_path)], capture_output=True, text=True, timeout=60,
                              env=server.environment(), check=False)
        self.assertEqual(done.returncode, 78, done.stderr)
        self.assertIn(str(server.config_path), done.stderr)

    def test_unknown_flags_are_usage_and_unknown_variables_configuration(self):
        server = self.daemon()
        self.assertEqual(server.run("--nonsense").returncode, 2)
        self.assertEqual(server.run("positional").returncode, 2)
        done = server.run("--check", env={"RUN_RECORDER_NONSENSE": "1"})
        self.assertEqual(done.returncode, 78)
        self.assertIn("RUN_RECORDER_NONSENSE", done.stderr)

    def test_variables_of_kubernetes_services_keep_nothing_from_starting_or_sending(self):
        links = {"RUN_RECORDER_SERVICE_HOST": "10.96.0.7", "RUN_RECORDER_SERVICE_PORT": "9090",
                 "RUN_RECORDER_SERVICE_PORT_METRICS": "9090", "RUN_RECORDER_PORT": "tcp://10.96.0.7:9090",
                 "RUN_RECORDER_PORT_9090_TCP": "tcp://10.96.0.7:9090", "RUN_RECORDER_PORT_9090_TCP_PROTO": "tcp",
                 "RUN_RECORDER_PORT_9090_TCP_PORT": "9090", "RUN_RECORDER_PORT_9090_TCP_ADDR": "10.96.0.7",
                 "RUN_RECORDER_METRICS_SERVICE_HOST": "10.96.0.8"}
        server = self.daemon_with_database(env=links).start()
        self.assertEqual(len([line for line in server.log_lines("warning") if "Kubernetes" in line]), 1, server.log())
        checked = server.run("--check")
        self.assertEqual((checked.returncode, checked.stderr), (0, ""))
        self.assertRegex(checked.stdout, r"warning +environment RUN_RECORDER_METRICS_SERVICE_HOST and 8 more: ignored")
        server.tool("emit", "--type", "run_started", "--run-id", "r1")
        self.assertIn("r1", server.tool("list", "--json").stdout)

    def test_the_tool_names_an_unknown_variable_and_sends_anyway(self):
        server = self.daemon_with_database().start()
        unknown = {"RUN_RECORDER_SOCKET_PAHT": "/x", "RUN_RECORDER_PORT": "tcp://10.96.0.7:9090"}
        done = server.tool("emit", "--type", "run_started", "--run-id", "r1", env=unknown)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr.count("RUN_RECORDER_SOCKET_PAHT"), 1, done.stderr)
        self.assertIn("RUN_RECORDER_SOCKET_PATH?", done.stderr)
        self.assertEqual(done.stderr.count("\n"), 2, done.stderr)
        self.assertEqual(server.run("--check", env=unknown).returncode, 78)

    def test_a_name_that_the_host_does_not_know_is_69_and_a_mistake_beside_it_78(self):
        server = self.daemon_with_database({"socket": {"group": "no-such-group-here"}})
        for arguments in ((), ("--check",)):
            done = server.run(*arguments, env={"NOTIFY_SOCKET": ""})
            self.assertEqual(done.returncode, 69, done.stderr)
            self.assertIn("no-such-group-here", done.stderr)
        self.assertEqual(server.run("--limits-depth", "1").returncode, 78)

    def test_a_name_that_the_host_comes_to_know_is_waited_for_under_a_service_manager(self):
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.settimeout(DEADLINE_S)
        server = self.daemon_with_database({"socket": {"allow_users": ["root", "no-such-user-here"]}})
        server.env["NOTIFY_SOCKET"] = str(server.folder / "notify.sock")
        manager.bind(server.env["NOTIFY_SOCKET"])
        server.write_config()
        server.spawn()
        said = ""
        while "no-such-user-here" not in said:
            said = manager.recv(4096).decode()
        self.assertIn("STATUS=waiting", said)
        # The directory service comes up: here, the name becomes one that the host knows.
        server.config["socket"]["allow_users"] = ["root", "nobody"]
        new = server.folder / "new.toml"
        new.write_text(server.config_path.read_text().replace("no-such-user-here", "nobody"))
        new.replace(server.config_path)
        self.assertIn("no-such-user-here", server.log())
        manager.settimeout(1)

        def ready():
            if not server.alive():  # it waited too long for this machine: the manager starts it again
                self.assertEqual(server.wait(), 69, server.log())
                server.spawn()
            try:
                return "READY=1" in manager.recv(4096).decode()
            except TimeoutError:
                return False
        wait_until(ready, "READY=1")
        server.wait_ready()

    def test_flags_win_over_environment_over_file(self):
        server = self.daemon()
        server.env["RUN_RECORDER_SOCKET_PATH"] = str(server.folder / "from-environment.sock")
        server.write_config()
        server.spawn("--socket-path", str(server.folder / "from-flag.sock"))
        server.socket_path = server.folder / "from-flag.sock"
        server.wait_ready()
        server.stop()
        server.spawn()
        server.socket_path = server.folder / "from-environment.sock"
        server.wait_ready()

    def test_without_any_configuration_it_runs_on_sqlite_in_the_usual_folders(self):
        base = temporary_folder()
        server = self.daemon(folder=base)
        for name in ("run", "state"):
            (base / name).mkdir()
        env = {**server.environment(), "RUNTIME_DIRECTORY": str(base / "run"), "STATE_DIRECTORY": str(base / "state")}
        with open(server.log_path, "ab") as log:
            server.process = subprocess.Popen([str(DAEMON)], env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        server.socket_path, server.control_path = base / "run" / "events.sock", base / "run" / "control.sock"
        server.control.path = server.control_path
        server.wait_ready()
        server.send({"type": "run_started", "run_id": "r1"})
        server.wait_applied()
        self.assertIn("r1", SqliteDatabase(base / "state" / "run-recorder.db").runs())
        self.assertTrue((base / "state" / "spool").is_dir())
        self.assertEqual(stat.S_IMODE(server.socket_path.stat().st_mode), 0o660)
        self.assertIn(stat.S_IMODE(server.control_path.stat().st_mode), (0o600, 0o660))

    def test_check_accepts_what_is_good_and_changes_nothing(self):
        server = self.daemon_with_database()
        server.start()
        server.stop()
        done = server.run("--check")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_check_works_beside_a_running_daemon(self):
        server = self.daemon_with_database().start()
        server.send({"type": "run_started", "run_id": "a"})
        done = server.run("--check")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        server.send({"type": "run_completed", "run_id": "a"})

    def test_check_exits_69_while_the_database_is_away(self):
        server = self.daemon(f"postgresql://postgres@/x?host={temporary_folder()}")
        done = server.run("--check")
        self.assertEqual(done.returncode, 69, done.stdout + done.stderr)
        self.assertIn("database", done.stdout + done.stderr)

    def test_print_shows_the_migrations_and_touches_nothing(self):
        server = self.daemon_with_database()
        done = server.run("--migrate", "--print")
        self.assertEqual(done.returncode, 0, done.stderr)
        for table in ("runs", "run_events", "reconciliations", "recorders"):
            self.assertIn(f"council_ex_{table}", done.stdout)
        self.assertFalse(server.sqlite_path.exists())

    def test_migrate_alone_makes_the_tables(self):
        server = self.daemon_with_database()
        for _ in range(2):
            done = server.run("--migrate")
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(server.database.runs(), {})
        self.assertFalse(server.socket_path.exists())

    def test_a_good_reload_takes_effect_and_a_bad_one_changes_nothing(self):
        server = self.daemon_with_database().start()
        server.config["events"] = {"exclude": ["noise"]}
        server.config["spool"]["path"] = str(server.folder / "another-spool")
        server.write_config()
        mark = len(server.log())
        server.signal(signal.SIGHUP)
        server.wait_for_log(r"(?i)spool\.path", after=mark)  # needs a restart
        server.send({"type": "noise", "run_id": "a"}, {"type": "note", "run_id": "a"})
        server.wait_applied()
        self.assertEqual([entry["type"] for entry in server.database.events()["a"]], ["note"])
        server.write_config(text='[events]\nexclude = ["note"]\n[nonsense]\nx = 1\n')
        mark = len(server.log())
        server.signal(signal.SIGHUP)
        server.wait_for_log("nonsense", after=mark)
        server.send({"type": "noise", "run_id": "a"}, {"type": "note", "run_id": "a"})
        server.wait_applied()
        self.assertEqual([entry["type"] for entry in server.database.events()["a"]], ["note", "note"])

    def test_sigint_stops_as_sigterm_does_and_the_sockets_are_gone(self):
        server = self.daemon_with_database().start()
        server.signal(signal.SIGINT)
        self.assertEqual(server.wait(), 0)
        self.assertFalse(server.socket_path.exists())
        self.assertFalse(server.control_path.exists())


class StandardStreams(OnSqlite, ProcessTest):
    def spawn_closed(self, server):
        server.write_config()
        server.process = subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", str(DAEMON), "--config",
                                           str(server.config_path)], env=server.environment())
        return server.wait_ready()

    def test_closed_standard_streams_are_not_reused_for_files(self):
        server = self.daemon_with_database({"log": {"level": "debug"}})
        for _ in range(2):
            self.spawn_closed(server)
            self.assertEqual([os.readlink(f"/proc/{server.process.pid}/fd/{fd}") for fd in (0, 1, 2)], ["/dev/null"] * 3)
            server.send({"type": "run_started", "run_id": "r1"})
            server.wait_applied()
            server.stop()
        for file in [path for path in server.folder.rglob("*") if path.is_file() and path != server.config_path]:
            self.assertNotIn(b"accepts events", file.read_bytes(), f"a line of the log in {file}")
        self.assertEqual(server.tool("spool", "verify", "--spool-path", server.spool_path).returncode, 0)

    @unittest.skipIf(os.getuid() != 0, "needs root, to make a PID namespace")
    def test_as_process_1_the_daemon_leaves_no_zombies(self):
        server = self.daemon_with_database()
        server.write_config()
        # A child of the shell that becomes the daemon, as an orphan would become one.
        os.mkfifo(server.folder / "go")
        script = f"(read line <{server.folder}/go) & exec {DAEMON} --config {server.config_path} 2>>{server.log_path}"
        server.process = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script],
                                          env=server.environment(), stdin=subprocess.DEVNULL)
        server.wait_ready()
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        daemon = int(children.read_text())

        def children_of_daemon():
            return [pid for thread in Path(f"/proc/{daemon}/task").iterdir() for pid in (thread / "children").read_text().split()]
        self.assertEqual(len(children_of_daemon()), 1)
        with open(server.folder / "go", "w", encoding="utf-8"):
            pass
        wait_until(lambda: not children_of_daemon(), "it to be reaped")


class ResourcesInUse(OnSqlite, ProcessTest):
    """A path, a spool or a file that somebody has already."""

    def other(self, server, **sections):
        other = self.daemon()
        for section, keys in sections.items():
            other.config[section].update(keys)
        other.write_config()
        return other

    def test_the_socket_of_a_live_daemon_is_left_alone_with_69(self):
        server = self.daemon_with_database().start()
        for section in ("socket", "control"):
            other = self.other(server, **{section: {"path": server.config[section]["path"]}})
            done = other.run()
            self.assertEqual(done.returncode, 69, done.stderr)
            self.assertIn(str(server.config[section]["path"]), done.stderr)
        server.send({"type": "run_started", "run_id": "a"})

    def test_a_stale_socket_is_replaced(self):
        server = self.daemon_with_database().start()
        server.kill()
        self.assertTrue(stat.S_ISSOCK(server.socket_path.lstat().st_mode))
        server.start()
        server.send({"type": "run_started", "run_id": "a"})

    def test_a_file_or_a_link_at_the_path_is_refused_and_left(self):
        server = self.daemon_with_database()
        server.write_config()
        server.socket_path.write_text("precious")
        done = server.run()
        self.assertIn(done.returncode, (69, 78), done.stderr)
        self.assertIn(str(server.socket_path), done.stderr)
        self.assertEqual(server.socket_path.read_text(), "precious")
        server.socket_path.unlink()
        target = server.folder / "elsewhere.sock"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(target))
        server.socket_path.symlink_to(target)
        done = server.run()
        self.assertIn(done.returncode, (69, 78), done.stderr)
        self.assertTrue(server.socket_path.is_symlink())
        self.assertTrue(target.exists())

    def test_a_spool_that_another_daemon_holds_is_69(self):
        server = self.daemon_with_database().start()
        done = self.other(server, spool={"path": server.config["spool"]["path"]}).run()
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertIn(str(server.spool_path), done.stderr)

    def test_a_sqlite_file_that_another_daemon_holds_is_69(self):
        server = self.daemon_with_database().start()
        done = self.other(server, database={"url": server.database_url}).run()
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertIn("run-recorder.db", done.stderr)

    def test_sockets_have_their_mode_whatever_the_umask(self):
        for umask in (0o000, 0o077):
            server = self.daemon_with_database({"socket": {"mode": "0660"}, "control": {"mode": "0600"}})
            before = os.umask(umask)
            try:
                server.start()
            finally:
                os.umask(before)
            self.assertEqual(stat.S_IMODE(server.socket_path.stat().st_mode), 0o660)
            self.assertEqual(stat.S_IMODE(server.control_path.stat().st_mode), 0o600)


class DamagedSpool(OnSqlite, ProcessTest):
    """Segments are written ahead with zeros; lib/spool/FORMAT.md says what each kind of damage means."""

    def backlog(self):
        """A daemon that was killed with 100 events in its spool, and the bytes of the segment that has them."""
        server = self.daemon_with_database().start()
        blocker = server.database._connect()
        blocker.execute("BEGIN IMMEDIATE")
        server.send(*[{"type": "run_started", "run_id": f"r{number:03}"} for number in range(100)])
        server.kill()
        blocker.close()
        segment = max(server.spool_path.glob("*.seg"), key=lambda path: len(path.read_bytes().rstrip(b"\0")))
        return server, segment, segment.read_bytes().rstrip(b"\0")

    def test_a_torn_tail_is_cut_counted_and_logged(self):
        server, segment, data = self.backlog()
        with open(segment, "r+b") as file:
            file.seek(len(data))
            file.write(data[64:104] + b"half a record")
        mark = len(server.log())
        server.start()
        server.wait_for_log(r"(?i)torn", after=mark)
        server.wait_applied()
        self.assertEqual(sorted(server.database.runs()), [f"r{number:03}" for number in range(100)])
        self.assertTrue(list(server.spool_path.glob("*.torn")))
        server.check_ledger()

    def test_damage_in_the_middle_is_set_aside_and_never_skipped_silently(self):
        server, segment, data = self.backlog()
        with open(segment, "r+b") as file:
            file.seek(len(data) // 2)
            file.write(bytes([data[len(data) // 2] ^ 0xFF]))
        mark = len(server.log())
        server.start()
        server.wait_for_log(r"(?i)damage", after=mark)
        server.wait_applied()
        found = sorted(server.database.runs())
        self.assertEqual(len(found), 99)
        self.assertEqual((found[0], found[-1]), ("r000", "r099"))
        self.assertTrue(list((server.spool_path / "set-aside").iterdir()))
        server.check_ledger()


class FirstStart:
    """While the tables are made, whoever looks is told so, and never that a table is missing."""

    def check(self, server, release):
        """Looks while somebody holds the migrations up, then lets them go on."""
        passes = []
        asked = threading.Thread(target=lambda: passes.append(server.control.post("/v1/reconcile", {})))
        asked.start()
        answer = server.control.get("/v1/runs")
        listed = server.tool("list")
        self.assertEqual((answer.status, answer.json["error"]["code"]), (503, "unavailable"), answer)
        self.assertEqual((listed.returncode, listed.stdout), (69, ""), listed.stderr)
        if server.status()["database"]["state"] == "connecting":  # so it was before; else it has given up for this time
            for text in (answer.text, listed.stderr):
                self.assertIn("the database is being migrated", text)
        release()
        asked.join(DEADLINE_S)
        self.assertEqual(len(passes), 1)
        self.assertNotRegex(passes[0].text, "no such table|has no tables|does not exist")
        server.send({"type": "run_started", "run_id": "r1"})
        server.wait_applied()
        self.assertIn("r1", server.tool("list", "--json").stdout)


class FirstStartOnSqlite(FirstStart, OnSqlite, ProcessTest):
    def test_is_reported_until_the_tables_exist(self):
        server = self.daemon_with_database()
        other = sqlite3.connect(server.sqlite_path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("BEGIN IMMEDIATE")
        server.start()
        self.check(server, lambda: other.execute("ROLLBACK"))


class FirstStartOnPostgres(FirstStart, OnPostgres, ProcessTest):
    def test_is_reported_until_the_tables_exist(self):
        server = self.daemon_with_database()
        other = self.cluster.session(server.database.name)
        self.addCleanup(other.communicate)
        other.stdin.write("BEGIN; CREATE TABLE council_ex_runs (); SELECT 'held';\n")
        other.stdin.flush()
        self.assertEqual(other.stdout.readline(), "held\n")
        server.start()

        def release():
            other.stdin.write("ROLLBACK;\n")
            other.stdin.flush()
        self.check(server, release)


class LostWal(OnSqlite, ProcessTest):
    """SQLite's -wal holds what was committed last. Deleted under the daemon, it is noticed, and nothing is lost."""

    def setUp(self):
        super().setUp()
        self.server = self.daemon_with_database().start().wait_boot_pass()
        self.wal = Path(f"{self.server.sqlite_path}-wal")

    def send(self, first, last):
        self.server.send(*({"type": "run_started", "run_id": f"r{number:03}"} for number in range(first, last)))

    def check_nothing_is_lost(self, count):
        status = self.server.wait_applied()
        self.assertEqual((status["applied"], status["duplicate"], status["forgotten"]), (count, 0, 0), self.server.log())
        listed = wait_until(lambda: (done := self.server.tool("list", "--json", "--all")).returncode == 0 and done.stdout,
                            "runs to be listed again")
        self.assertEqual(listed.count("\n"), count)
        away = [line for line in self.server.log_lines("error") if "the database is away" in line]
        self.assertEqual(len(away), 1, self.server.log())
        self.assertIn("its -wal was deleted or replaced", away[0])
        self.server.wait_for_log("the database is back")
        self.assertEqual(self.server.stop(), 0)
        self.assertEqual(self.server.database.rows("PRAGMA integrity_check"), [{"integrity_check": "ok"}])
        self.assertEqual(len(self.server.database.runs()), count)
        self.server.start()
        self.assertEqual(self.server.wait_applied()["forgotten"], 0)

    def test_is_noticed_by_the_next_event(self):
        self.send(0, 50)
        self.server.wait_applied()
        self.wal.unlink()
        self.send(50, 100)
        self.check_nothing_is_lost(100)

    def test_is_noticed_by_a_read(self):
        self.send(0, 50)
        self.server.wait_applied()
        self.wal.unlink()
        self.server.control.get("/v1/runs")
        self.server.wait_for_log("its -wal was deleted or replaced")
        self.check_nothing_is_lost(50)

    def test_is_noticed_by_an_idle_daemon(self):
        self.send(0, 50)
        self.server.wait_applied()
        self.wal.unlink()
        self.server.wait_for_log("its -wal was deleted or replaced")
        self.check_nothing_is_lost(50)


class DatabaseRefuses(OnPostgres, ProcessTest):
    """A database that cannot be used counts as away, is said loudly, and --check names the reason with 78."""

    def check_refused(self, server, words):
        done = server.run("--check")
        self.assertEqual(done.returncode, 78, done.stdout + done.stderr)
        self.assertRegex(done.stdout + done.stderr, words)
        server.start()
        server.send({"type": "run_started", "run_id": "a"})
        server.wait_for_log(words)
        self.assertEqual(server.check_ledger()["waiting"], 1)
        self.assertEqual(server.control.get("/v1/runs").status, 503)

    def test_a_runs_table_without_a_needed_column(self):
        server = self.daemon_with_database()
        server.database.execute("CREATE TABLE council_ex_runs (run_id varchar(255) PRIMARY KEY, status varchar(255))")
        self.check_refused(server, "council")

    def test_migrate_false_only_verifies(self):
        server = self.daemon_with_database({"database": {"migrate": False}})
        self.check_refused(server, "(?i)migrat|missing")
        self.assertEqual(server.database.rows("SELECT 1 FROM pg_tables WHERE tablename LIKE 'council%'"), [])
        self.assertEqual(server.run("--migrate").returncode, 0)
        self.assertEqual(server.wait_applied()["applied"], 1)

    def test_a_role_that_may_not_create_tables(self):
        server = self.daemon_with_database()
        self.cluster.sql("postgres", "DROP ROLE IF EXISTS nobody_special; CREATE ROLE nobody_special LOGIN")
        server.config["database"]["url"] = self.cluster.url(server.database.name, "nobody_special")
        self.check_refused(server, "(?i)permission|denied")

    def test_a_wrong_name_of_the_database_keeps_serving(self):
        server = self.daemon(self.cluster.url("not_there")).start()
        server.send({"type": "run_started", "run_id": "a"})
        server.wait_for_log("not_there")
        self.assertEqual(server.check_ledger()["waiting"], 1)

    def test_councilex_s_own_runs_table_is_taken_over(self):
        server = self.daemon_with_database()
        server.database.execute("""
            CREATE TABLE council_ex_runs (
              run_id varchar(255) PRIMARY KEY, council varchar(255) NOT NULL, status varchar(255) NOT NULL, attempt integer,
              parent_attempt_run_id varchar(255), oban_job_id bigint, oban_job_state_at_finalize varchar(255),
              input jsonb, result jsonb, error jsonb, started_at timestamp, finalized_at timestamp,
              inserted_at timestamp NOT NULL, updated_at timestamp NOT NULL);
            INSERT INTO council_ex_runs (run_id, council, status, attempt, started_at, inserted_at, updated_at)
            VALUES ('old', 'Billing', 'running', 1, now() - interval '1 day', now() - interval '1 day', now())""")
        server.env["TZ"] = "Asia/Tokyo"
        server.start()
        server.send({"type": "run_completed", "run_id": "old", "result": {"x": 1}, "at": "2026-05-06T07:08:09+02:00"},
                    {"type": "run_started", "run_id": "new", "council": "C", "at": "2026-05-06T07:08:09+02:00"})
        server.wait_applied()
        rows = server.database.runs()
        self.assertEqual((rows["old"]["status"], rows["old"]["council"]), ("completed", "Billing"))
        self.assertEqual(rows["old"]["finalized_at"], "2026-05-06T05:08:09")
        self.assertEqual(rows["new"]["started_at"], "2026-05-06T05:08:09")
        types = {row["column_name"]: row["data_type"] for row in server.database.rows(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'council_ex_runs'")}
        self.assertEqual(types["started_at"], "timestamp without time zone")

    def test_ten_daemons_start_on_an_empty_database_at_once(self):
        database = self.make_database()
        servers = [self.daemon(database.url) for _ in range(10)]
        for server in servers:
            server.write_config()
            server.spawn()
        for number, server in enumerate(servers):
            server.wait_ready()
            server.send({"type": "run_started", "run_id": f"r{number}"})
        for server in servers:
            server.wait_applied()
        self.assertEqual(len(database.runs()), 10)

    def test_passwords_are_never_shown(self):
        server = self.daemon(self.cluster.url("not_there").replace("postgres@", "postgres:s3cret-word@"))
        server.start()
        server.send({"type": "run_started", "run_id": "a"})
        server.wait_for_log("not_there")
        texts = [server.log(), server.control.get("/v1/status").text,
                 Path(f"/proc/{server.process.pid}/cmdline").read_text(), server.run("--check").stderr]
        for text in texts:
            self.assertNotIn("s3cret-word", text)


class UnreadLog(OnSqlite, ProcessTest):
    """Standard error is a pipe, and its reader stands still."""
    DROPPED = r"log lines were dropped here.* count=(\d+)"

    def start(self, config):
        server = self.daemon_with_database(config)
        pipe = StandingPipe().fill()
        self.addCleanup(pipe.close)
        server.stderr = pipe.write
        return server.start().wait_boot_pass(), pipe

    def test_nothing_waits_for_it_and_lost_lines_are_counted(self):
        server, pipe = self.start({"reconcile": {"grace": "1ms", "interval": "0s", "log_rows": 100_000}})
        lines = "".join(json.dumps({"type": "run_started", "run_id": f"r{number}", "council": "c"}) + "\n"
                        for number in range(2_000))
        server.tool("emit", "--no-worker-pid", input=lines)
        server.wait_applied()
        self.assertEqual(server.control.reconcile(unvouched=True)["marked"], 2_000)  # a line for each
        server.send({"type": "run_started", "run_id": "after"})
        server.wait_applied()
        self.assertEqual(server.control.run("after")["status"], "running")
        self.assertEqual(server.control.reconcile()["marked"], 0)
        server.signal(signal.SIGHUP)
        wait_until(lambda: "the log is not read" in server.status()["status"], "the status to say it")
        dropped = server.status()["log_lines_dropped"]
        self.assertGreater(dropped, 0)
        self.assertIn(f"run_recorder_log_lines_dropped_total {dropped}\n", server.control.get("/metrics").text)

        def said():
            return sum(int(count) for count in re.findall(self.DROPPED, pipe.read()))
        wait_until(lambda: said() == server.status()["log_lines_dropped"], "what was lost to be said")
        self.assertGreater(pipe.text.count("run is stuck"), 0)
        self.assertLess(pipe.text.count("run is stuck"), 2_000)
        wait_until(lambda: "the log is not read" not in server.status()["status"], "the log to be as before")
        self.assertEqual(server.stop(), 0)
        self.assertIn("stopped, everything is applied", pipe.read())

    def test_sigterm_ends_a_drain(self):
        server = self.daemon("postgresql://nobody@127.0.0.1:1/none", {"daemon": {"shutdown_timeout": "60s"}})
        pipe = StandingPipe().fill()
        self.addCleanup(pipe.close)
        server.stderr = pipe.write
        server.write_config()
        server.spawn("--drain")

        def under_way():
            names = set()
            for path in Path(f"/proc/{server.process.pid}/task").glob("*/comm"):
                try:
                    names.add(path.read_text().strip())
                except OSError:
                    pass  # a thread that has ended
            return {"signals", "log", "recorder"} <= names
        wait_until(under_way, "the drain to be under way")
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 69)

    def test_sigterm_ends_it(self):
        server, _ = self.start({})
        server.send({"type": "run_started", "run_id": "r"})
        self.assertEqual(server.stop(), 0)


class Notify(OnSqlite, ProcessTest):
    def test_a_service_manager_that_does_not_read_holds_nothing_up(self):
        server = self.daemon_with_database()
        path = str(server.folder / "notify.sock")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(listener.close)
        listener.bind(path)
        listener.setblocking(False)
        filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(filler.close)
        filler.setblocking(False)
        filled = 0
        try:
            while True:
                filler.sendto(b"FILLER=1", path)
                filled += 1
        except BlockingIOError:
            pass
        server.env["NOTIFY_SOCKET"] = path
        server.start()
        server.send({"type": "run_started", "run_id": "r1"})
        mark = len(server.log())
        server.signal(signal.SIGHUP)
        server.wait_for_log("reloaded", after=mark)
        received = []

        def receives_what_it_missed():
            try:
                received.append(listener.recv(4096).decode())
            except BlockingIOError:
                pass
            return sum("READY=1" in message for message in received) == 2 and any("RELOADING=1" in message for message in received)
        wait_until(receives_what_it_missed, "the messages it had no room for to come again")
        self.assertEqual(received[:filled], ["FILLER=1"] * filled)
        self.assertEqual(server.stop(), 0)

    def test_systemd_is_notified_of_ready_reloading_and_stopping(self):
        server = self.daemon_with_database()
        path = str(server.folder / "notify.sock")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(listener.close)
        listener.bind(path)
        listener.setblocking(False)
        server.env["NOTIFY_SOCKET"] = path
        received = []

        def receives(word):
            def look():
                try:
                    received.append(listener.recv(4096).decode())
                except BlockingIOError:
                    pass
                return any(word in message for message in received)
            wait_until(look, f"{word} on the notify socket, received {received}")
        server.start()
        receives("READY=1")
        received.clear()
        server.signal(signal.SIGHUP)
        receives("RELOADING=1")
        receives("READY=1")
        server.signal(signal.SIGTERM)
        receives("STOPPING=1")
        self.assertEqual(server.wait(), 0)


if __name__ == "__main__":
    unittest.main()
