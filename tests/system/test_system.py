"""The package on a machine with a real systemd as process 1: installed, run, killed, frozen, reloaded, upgraded under load,
gone back, removed and purged. Run by `./dev system` only: it needs root, and a root folder with systemd in it."""

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import unittest
from pathlib import Path

from machine import architecture, CONTROL, DEADLINE_S, ENVIRONMENT, FOLDER, Machine, only_child, wait_until

SOURCE = Path(__file__).resolve().parents[2]
OLD, NEW = sorted(path.name.split("_")[1] for path in (FOLDER / "packages").glob("*.deb"))
UNPRIVILEGED = "nobody"
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
LIBC.ptrace.restype = ctypes.c_long
PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000  # ptrace(2), waitpid(2)


def measured(what, value):
    print(f"\n    measured: {what}: {value}", file=sys.stderr, flush=True)


class SystemTest(unittest.TestCase):
    def setUp(self):
        self.machine = Machine()
        self.addCleanup(self.machine.stop)
        self.addCleanup(self.show_log_of_failure)
        self.machine.boot()

    def show_log_of_failure(self):
        outcome = self._outcome
        failed = any(error for _, error in getattr(outcome, "errors", [])) or \
            (getattr(outcome, "result", None) and any(test is self for test, _ in
                                                      outcome.result.errors + outcome.result.failures))
        if failed and self.machine.leader:
            print(self.machine.run("journalctl", "--no-pager", "-n", "60", check=False).stdout, file=sys.stderr)

    def main_pid(self):
        """As it is seen inside."""
        return int(self.machine.property("MainPID"))

    def host_pid(self):
        """As it is seen from here."""
        inside = self.main_pid()
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text()
                same = os.readlink(status.parent / "ns/pid") == os.readlink(f"/proc/{self.machine.leader}/ns/pid")
            except OSError:
                continue
            if same and int(re.search(r"^NSpid:.*?(\d+)$", text, re.MULTILINE)[1]) == inside:
                return int(status.parent.name)
        raise AssertionError(f"process {inside} is not there")

    def wait_active(self, but_not=0):
        """Until the service is up, as another process than but_not; its pid inside."""
        def look():
            values = self.machine.run("systemctl", "show", "-p", "MainPID,ActiveState", "run-recorder").stdout
            pid = int(re.search(r"MainPID=(\d+)", values)[1])
            return pid if "ActiveState=active" in values and pid not in (0, but_not) else None
        return wait_until("the service is active", look)

    def events_of(self, path="/var/lib/run-recorder/run-recorder.db"):
        """What the history has: (run, event id) in order."""
        rows = self.machine.output("sqlite3", "-readonly", path,
                                   "SELECT run_id, event_id FROM council_ex_run_events ORDER BY run_id, seq")
        return [tuple(row.split("|")) for row in rows.splitlines()]


class Package(SystemTest):
    def test_installs_runs_and_leaves_nothing_when_purged(self):
        machine = self.machine
        before = set(self.files())
        machine.install(OLD)
        pid = self.wait_active()
        self.assertEqual(machine.property("ActiveState", "run-recorder.socket"), "active")
        self.assertEqual(machine.output("systemctl", "is-enabled", "run-recorder.socket", "run-recorder.service"),
                         "enabled\nenabled")
        self.assertEqual(machine.output("stat", "-c", "%U:%G %a", "/run/run-recorder/events.sock"),
                         "run-recorder:run-recorder 660")
        self.assertEqual(machine.output("stat", "-c", "%U:%G %a", CONTROL), "run-recorder:run-recorder-admin 660")
        self.assertEqual(machine.output("stat", "-c", "%U %a", "/var/lib/run-recorder"), "run-recorder 700")
        self.assertEqual(machine.output("ps", "-o", "user:20=", "-p", str(pid)), "run-recorder")

        self.assertEqual(machine.output("systemd-analyze", "verify", "/lib/systemd/system/run-recorder.service",
                                        "/lib/systemd/system/run-recorder.socket"), "")
        verified = machine.run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
                               "/lib/systemd/system/run-recorder.service")
        self.assertEqual(verified.stderr, "")
        security = machine.run("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager",
                               "/lib/systemd/system/run-recorder.service").stdout
        measured("security score", re.search(r"exposure level.*?: ([\d.]+)", security)[1])
        measured("package, bytes", (FOLDER / "packages" / f"run-recorder_{OLD}_{architecture()}.deb").stat().st_size)

        for section, page in (("8", "run-recorderd"), ("1", "run-recorder"), ("5", "run-recorder.toml"),
                              ("7", "run-recorder-protocol")):
            path = f"/usr/share/man/man{section}/{page}.{section}.gz"
            self.assertTrue((machine.root / path.lstrip("/")).exists(), page)
            rendered = machine.run("man", "--warnings", "-l", path)
            self.assertEqual(rendered.stderr, "", page)
            self.assertIn("SEE ALSO", rendered.stdout)
        completed = machine.run("bash", "-c", "source /usr/share/bash-completion/completions/run-recorder; COMP_WORDS=(run-recorder ex); "
                                "COMP_CWORD=1; _run_recorder; echo \"${COMPREPLY[*]}\"")
        self.assertEqual((set(completed.stdout.split()), completed.stderr), ({"exec", "explain", "export"}, ""))

        machine.run("dpkg", "--remove", "run-recorder")
        self.assertEqual(machine.property("ActiveState"), "inactive")
        self.assertTrue((machine.root / "etc/run-recorder/run-recorder.toml").exists())
        self.assertTrue((machine.root / "var/lib/run-recorder/run-recorder.db").exists())
        machine.run("dpkg", "--purge", "run-recorder")
        left = {path for path in set(self.files()) - before if "run-recorder" in path}
        self.assertEqual(left, set())

    def files(self):
        return self.machine.output("find", "/", "-xdev", "-path", "/proc", "-prune", "-o", "-path", "/packages", "-prune", "-o",
                                   "-path", "/var/log", "-prune", "-o", "-path", "/var/cache/man", "-prune", "-o",
                                   "-print").splitlines() + \
            self.machine.output("find", "/run", "-path", "/run/systemd", "-prune", "-o", "-print").splitlines()

    def test_groups_say_who_may_send_and_who_may_look(self):
        machine = self.machine
        machine.install(OLD)
        self.wait_active()
        emit = ("run-recorder", "emit", "--type", "run_started", "--run-id", "a", "--council", "demo")
        self.assertEqual(machine.run(*emit, user=UNPRIVILEGED, check=False).returncode, 1)
        machine.run("useradd", "--groups", "run-recorder", "worker")
        machine.run("useradd", "--groups", "run-recorder-admin", "watcher")
        machine.run(*emit, user="worker")
        self.assertNotEqual(machine.run("run-recorder", "list", user="worker", check=False).returncode, 0)
        self.assertIn("demo", machine.output("run-recorder", "list", user="watcher"))

    def test_a_purge_keeps_events_that_were_never_applied(self):
        machine = self.machine
        machine.install(OLD)
        self.wait_active()
        machine.send({"type": "run_started", "run_id": "applied", "council": "demo"})
        machine.wait_applied()
        configuration = machine.root / "etc/run-recorder/run-recorder.toml"
        shipped = configuration.read_text()
        configuration.write_text('[database]\nurl = "postgresql://nobody@127.0.0.1:1/none"\n')
        machine.run("systemctl", "restart", "run-recorder")
        machine.send({"type": "run_started", "run_id": "waits", "council": "demo", "id": "e1"})
        machine.run("dpkg", "--remove", "run-recorder")
        purged = machine.run("dpkg", "--purge", "run-recorder")
        self.assertIn("is kept", purged.stderr)
        self.assertTrue((machine.root / "var/lib/run-recorder/spool").exists())
        self.assertFalse(configuration.exists())

        machine.install(OLD)
        self.assertEqual(configuration.read_text(), shipped)
        self.wait_active()
        machine.wait_applied()
        self.assertIn(("waits", "e1"), self.events_of())
        machine.run("dpkg", "--purge", "run-recorder")
        self.assertFalse((machine.root / "var/lib/run-recorder").exists())

    def test_a_changed_configuration_survives_an_upgrade(self):
        machine = self.machine
        machine.install(OLD)
        self.wait_active()
        configuration = machine.root / "etc/run-recorder/run-recorder.toml"
        configuration.write_text('[reconcile]\ninterval = "7m"\n')
        machine.install(NEW)
        self.assertEqual(configuration.read_text(), '[reconcile]\ninterval = "7m"\n')

    def test_a_unit_that_was_disabled_stays_so(self):
        machine = self.machine
        machine.install(OLD)
        machine.run("systemctl", "disable", "--now", "run-recorder.service", "run-recorder.socket")
        machine.install(NEW)
        self.assertEqual(machine.property("ActiveState"), "inactive")
        self.assertEqual(machine.property("UnitFileState"), "disabled")


class Load(threading.Thread):
    """A worker that sends events one by one, over a connection of its own for each or one for all, and sends again what was
    not acknowledged when its connection ends. Being refused is a failure."""

    def __init__(self, machine, number, keeps_connection):
        super().__init__()
        self.machine, self.number, self.keeps_connection = machine, number, keeps_connection
        self.stopping = threading.Event()
        self.sent = []
        self.resent = 0
        self.longest_s = 0.0
        self.failure = None

    def run(self):
        connection = None
        try:
            while not self.stopping.is_set():
                event = {"type": "step", "run_id": f"w{self.number}-{len(self.sent) // 50}", "id": f"e{len(self.sent)}"}
                began = time.monotonic()
                while True:
                    if connection is None:
                        connection = self.machine.connect()
                        lines = 0
                    if self.deliver(connection, event, lines + 1):
                        lines += 1
                        break
                    self.resent += 1
                    connection.close()
                    connection = None
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                self.sent.append((event["run_id"], event["id"]))
                if not self.keeps_connection:
                    connection.close()
                    connection = None
        except Exception as error:  # noqa: BLE001: handed to the test
            self.failure = error
        finally:
            if connection:
                connection.close()

    @staticmethod
    def deliver(connection, event, line):
        """Whether it was acknowledged. False: the connection ended first."""
        try:
            connection.sendall((json.dumps(event) + "\n").encode())
            answers = b""
            while f'"acked":{line}}}'.encode() not in answers:
                part = connection.recv(4096)
                if not part:
                    return False
                answers += part
                if b'"error"' in answers:
                    raise AssertionError(f"refused: {answers!r}")
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False


class Restarts(SystemTest):
    def start_load(self):
        workers = [Load(self.machine, number, number % 2 == 0) for number in range(8)]
        for worker in workers:
            worker.start()
        self.addCleanup(lambda: [worker.stopping.set() for worker in workers])
        return workers

    def wait_for_more(self, workers, more=100):
        before = [len(worker.sent) for worker in workers]
        wait_until("every worker gets on", lambda: any(worker.failure for worker in workers) or all(
            len(worker.sent) >= count + more for worker, count in zip(workers, before)))

    def finish_load(self, workers):
        """Nothing was refused, nothing lost, nothing twice; how many events there were."""
        for worker in workers:
            worker.stopping.set()
        for worker in workers:
            worker.join(DEADLINE_S)
            if worker.failure:
                raise worker.failure
        self.machine.wait_applied()
        expected = sorted(event for worker in workers for event in worker.sent)
        # Without an id are the daemon's own: on a slow machine a run can be older than the grace when a daemon starts.
        recorded = sorted((run, event) for run, event in self.events_of() if run.startswith("w") and event)
        self.assertEqual(len(recorded), len(set(recorded)))
        self.assertEqual(recorded, expected)
        status = self.machine.status()
        self.assertEqual(status["accepted"], status["applied"] + status["duplicate"] + status["waiting"] +
                         status["dead_letters"] + status["dead_letters_removed"])
        return len(expected)

    def test_from_start_to_ready(self):
        machine = self.machine
        machine.install(OLD)
        self.wait_active()
        times = []
        for _ in range(5):
            machine.run("systemctl", "stop", "run-recorder.service")
            began = time.monotonic()
            machine.run("systemctl", "start", "run-recorder.service")
            self.assertEqual(machine.property("ActiveState"), "active")
            times.append(time.monotonic() - began)
            machine.send({"type": "run_started", "run_id": "a"})
        measured("systemctl start to ready, 5 times, ms", " ".join(f"{1000 * one:.0f}" for one in times))
        sentence = machine.property("StatusText")
        self.assertRegex(sentence, r"^ingesting; \d+ in spool; ")

    def test_the_socket_too_is_stopped_and_started_as_often_as_somebody_likes(self):
        machine = self.machine
        machine.install(OLD)
        for _ in range(10):
            machine.run("systemctl", "stop", "run-recorder.socket", "run-recorder.service")
            machine.run("systemctl", "start", "run-recorder.socket", "run-recorder.service")
        machine.send({"type": "run_started", "run_id": "a"})

    def test_kill_9_under_load_loses_nothing(self):
        machine = self.machine
        machine.install(OLD)
        pid = self.wait_active()
        workers = self.start_load()
        times = []
        for _ in range(5):
            self.wait_for_more(workers)
            began = time.monotonic()
            machine.run("kill", "-9", str(pid))
            pid = self.wait_active(but_not=pid)
            times.append(time.monotonic() - began)
        self.wait_for_more(workers)
        events = self.finish_load(workers)
        self.assertEqual(machine.property("NRestarts"), "5")
        measured("kill -9 to ready under load, 5 times, ms", " ".join(f"{1000 * one:.0f}" for one in times))
        measured("events in the kill -9 test", f"{events}, resent {sum(worker.resent for worker in workers)}, longest wait "
                 f"{max(worker.longest_s for worker in workers):.2f} s")

    def test_upgrade_and_downgrade_under_load_refuse_and_lose_nothing(self):
        machine = self.machine
        machine.install(OLD)
        pid = self.wait_active()
        workers = self.start_load()
        for version in (NEW, OLD, NEW):
            self.wait_for_more(workers)
            machine.install(version)
            pid = self.wait_active(but_not=pid)
            self.assertEqual(machine.output("dpkg-query", "-W", "-f", "${Version}", "run-recorder"), version)
            self.wait_for_more(workers)
        events = self.finish_load(workers)
        measured("events in the upgrade test (up, down, up)", f"{events}, none refused or lost, resent "
                 f"{sum(worker.resent for worker in workers)}, longest wait "
                 f"{max(worker.longest_s for worker in workers):.2f} s")

    def test_the_socket_takes_events_while_the_service_is_down(self):
        machine = self.machine
        machine.install(OLD)
        self.wait_active()
        machine.run("systemctl", "stop", "run-recorder.service")
        machine.send({"type": "run_started", "run_id": "woke-it", "id": "e"})
        self.wait_active()
        machine.wait_applied()
        self.assertIn(("woke-it", "e"), self.events_of())

    def test_a_host_that_restarts_has_the_service_up(self):
        machine = self.machine
        machine.install(OLD)
        self.assertEqual(machine.output("systemctl", "list-dependencies", "--plain", "sockets.target").count(
            "run-recorder.socket"), 1)
        self.assertEqual(machine.output("systemctl", "list-dependencies", "--plain", "multi-user.target").count(
            "run-recorder.service"), 1)


class FrozenThread:
    """A daemon on the machine, with a notify socket of its own, one of whose threads a debugger has stopped."""

    def __init__(self, machine, name):
        self.machine, self.name = machine, name

    def __enter__(self):
        inside = f"/root/frozen-{self.name}"
        self.folder = self.machine.root / inside.lstrip("/")
        self.folder.mkdir()
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(self.folder / "notify"))
        self.notify.setblocking(False)
        environment = {**ENVIRONMENT, "RUNTIME_DIRECTORY": inside, "STATE_DIRECTORY": inside, "NOTIFY_SOCKET": f"{inside}/notify",
                       "WATCHDOG_USEC": "30000000", "RUN_RECORDER_CONFIG": "/dev/null"}
        with open(self.folder / "log", "wb") as log:
            self.entered = self.machine.start("run-recorderd", env=environment, stdout=log, stderr=log)
        wait_until("a heartbeat", lambda: "WATCHDOG=1" in self.drain())
        self.pid = only_child(self.entered.pid)
        self.thread = next(int(task.name) for task in Path(f"/proc/{self.pid}/task").iterdir()
                           if (task / "comm").read_text().strip() == self.name)
        # Of the whole process only this one stops.
        self.ptrace(PTRACE_SEIZE)
        self.ptrace(PTRACE_INTERRUPT)
        wait_until("the thread is stopped", lambda: "t (tracing stop)" in Path(
            f"/proc/{self.pid}/task/{self.thread}/status").read_text())
        return self

    def ptrace(self, request):
        if LIBC.ptrace(request, self.thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), f"ptrace {request}")

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.thread, WALL)  # of a thread the one who traces it has to take leave
        self.entered.wait()
        self.notify.close()

    def log(self):
        return (self.folder / "log").read_text()

    def drain(self):
        heard = ""
        while True:
            try:
                heard += self.notify.recv(4096).decode() + "\n"
            except BlockingIOError:
                return heard


class Supervision(SystemTest):
    @staticmethod
    def all_of(connection):
        """What comes until the connection ends, also where it is cut."""
        answers = b""
        try:
            while part := connection.recv(4096):
                answers += part
        except ConnectionResetError:
            pass
        return answers

    def watch_closely(self):
        self.machine.write("/etc/systemd/system/run-recorder.service.d/watch.conf", "[Service]\nWatchdogSec=4s\n")
        self.machine.run("systemctl", "daemon-reload")

    def test_a_frozen_daemon_is_replaced(self):
        machine = self.machine
        self.watch_closely()
        machine.install(OLD)
        pid = self.wait_active()
        machine.send({"type": "run_started", "run_id": "before", "id": "e"})
        machine.run("kill", "-STOP", str(pid))
        began = time.monotonic()
        self.wait_active(but_not=pid)
        measured("frozen to replaced and ready, watchdog 4 s", f"{time.monotonic() - began:.1f} s")
        self.assertTrue([entry for entry in machine.journal("_PID=1") if "Watchdog timeout" in str(entry.get("MESSAGE"))])
        machine.send({"type": "run_started", "run_id": "after", "id": "e"})
        machine.wait_applied()
        self.assertEqual([run for run, _ in self.events_of()], ["after", "before"])

    def test_a_single_frozen_thread_stops_the_heartbeat(self):
        """Whichever it is. Each of these daemons has one thread stopped by a debugger, and says which."""
        self.machine.install(OLD)
        notified = {}
        with contextlib.ExitStack() as stack:
            for name in ("sessions", "spool-writer", "recorder", "reconciler", "pruner", "control", "signals"):
                notified[name] = stack.enter_context(FrozenThread(self.machine, name))
            for name, daemon in notified.items():
                # Who does not read the notify socket would stop the daemon himself.
                wait_until(f"{name} is missed", lambda: [one.drain() for one in notified.values()] and
                           f"the watchdog is not notified: {name}" in daemon.log(), 400)
            # Ten seconds hold ten heartbeats of a daemon that is well.
            heard = {name: "" for name in notified}
            end = time.monotonic() + 10
            while time.monotonic() < end:
                for name, daemon in notified.items():
                    heard[name] += daemon.drain()
                time.sleep(0.1)
            self.assertEqual([name for name, text in heard.items() if "WATCHDOG=1" in text], [])

    def test_a_reload_takes_over_what_is_right_and_refuses_what_is_not(self):
        machine = self.machine
        machine.install(OLD)
        pid = self.wait_active()
        configuration = machine.root / "etc/run-recorder/run-recorder.toml"
        configuration.write_text('[reconcile]\ninterval = "7m"\n')
        machine.run("systemctl", "reload", "run-recorder")
        wait_until("it says so", lambda: [e for e in machine.journal("CHANGED=reconcile.interval")])
        configuration.write_text('[reconcile]\ninterval = "soon"\n')
        self.assertNotEqual(machine.run("systemctl", "reload", "run-recorder", check=False).returncode, 0)
        refused = wait_until("it says why", lambda: [e for e in machine.journal("-u", "run-recorder")
                                                     if "run-recorder.toml:2" in str(e["MESSAGE"])])
        self.assertEqual(refused[0]["PRIORITY"], "3")
        self.assertEqual([e for e in machine.journal("-u", "run-recorder") if "PROBLEM" in e], [], "the daemon was not asked")
        machine.run("systemctl", "kill", "--kill-who=main", "--signal=HUP", "run-recorder")
        refused = wait_until("the daemon refuses it", lambda: [e for e in machine.journal("-u", "run-recorder") if "PROBLEM" in e])
        self.assertIn("run-recorder.toml:2", refused[0]["PROBLEM"])
        self.assertEqual(refused[0]["PRIORITY"], "3")
        wait_until("its state to say so", lambda: "reload refused: " in machine.property("StatusText"))
        configuration.write_text('[reconcile]\ninterval = "8m"\n')
        machine.run("systemctl", "reload", "run-recorder")
        wait_until("that to end", lambda: "reload refused" not in machine.property("StatusText"))
        self.assertEqual(self.wait_active(), pid)

    def test_a_wrong_configuration_ends_it_with_78_and_its_mending_starts_it(self):
        machine = self.machine
        machine.install(OLD)
        self.wait_active()
        configuration = machine.root / "etc/run-recorder/run-recorder.toml"
        configuration.write_text('[reconcile]\ninterval = "soon"\n')
        machine.run("systemctl", "restart", "run-recorder", check=False)
        wait_until("it has failed", lambda: machine.property("ActiveState") == "failed")
        self.assertEqual(machine.property("ExecMainStatus"), "78")
        mistake = [entry for entry in machine.journal("-u", "run-recorder") if "invalid value \"soon\"" in str(entry["MESSAGE"])]
        self.assertEqual({entry["PRIORITY"] for entry in mistake}, {"3"})
        # Who sends now is not left waiting: the socket tries the daemon a few times and then closes.
        with machine.connect() as connection:
            connection.sendall(b'{"type":"run_started","run_id":"a"}\n')
            self.assertEqual(self.all_of(connection), b"")
        wait_until("the socket has given up", lambda: machine.property("ActiveState", "run-recorder.socket") == "failed")
        with self.assertRaises(OSError):
            machine.connect()
        configuration.write_text("")
        machine.run("systemctl", "restart", "run-recorder")
        machine.send({"type": "run_started", "run_id": "b", "id": "e"})
        machine.wait_applied()
        self.assertIn(("b", "e"), self.events_of())


class Journal(SystemTest):
    def test_a_run_that_was_marked_is_found_by_its_id(self):
        machine = self.machine
        machine.install(OLD)
        self.wait_active()
        machine.write("/etc/run-recorder/run-recorder.toml", '[reconcile]\ngrace = "1s"\n')
        machine.run("systemctl", "restart", "run-recorder")
        self.wait_active()
        machine.run("run-recorder", "emit", "--type", "run_started", "--run-id", "orphan-7", "--council", "Demo.Import",
                    "--no-worker-pid")
        wait_until("it is marked", lambda: machine.run("run-recorder", "reconcile", "--unvouched", check=False) and
                   machine.journal("RUN_ID=orphan-7"))
        entry = machine.journal("RUN_ID=orphan-7")[0]
        self.assertEqual((entry["COUNCIL"], entry["REASON"], entry["PRIORITY"]), ("Demo.Import", "no_live_worker", "4"))
        self.assertEqual(entry["_SYSTEMD_UNIT"], "run-recorder.service")
        self.assertEqual(entry["SYSLOG_IDENTIFIER"], "run-recorderd")
        summaries = machine.journal(f"PASS_ID={entry['PASS_ID']}")
        self.assertTrue([one for one in summaries if one["MESSAGE"].startswith("reconciliation finished: ")])
        self.assertEqual([e["MESSAGE"] for e in machine.journal("COUNCIL=Demo.Import")], [entry["MESSAGE"]])

    def test_events_are_not_logged(self):
        machine = self.machine
        machine.install(OLD)
        self.wait_active()
        before = len(machine.journal("-u", "run-recorder"))
        machine.send(*[{"type": "run_started", "run_id": f"r{i}"} for i in range(1000)])
        machine.wait_applied()
        self.assertLess(len(machine.journal("-u", "run-recorder")) - before, 5)


class Database(SystemTest):
    def set_up_postgresql(self):
        machine = self.machine
        wait_until("PostgreSQL is there", lambda: machine.run("pg_isready", check=False).returncode == 0)
        machine.run("psql", "-v", "ON_ERROR_STOP=1", user="postgres",
                    stdin="CREATE ROLE recorder LOGIN PASSWORD 's3cret word'; CREATE DATABASE app OWNER recorder;")

    def test_a_local_postgresql_with_the_password_as_a_credential(self):
        machine = self.machine
        self.set_up_postgresql()
        machine.write("/etc/credstore/run-recorder.database-password", "s3cret word\n", 0o600)
        machine.write("/etc/run-recorder/run-recorder.toml", '[database]\nurl = "postgresql://recorder@127.0.0.1/app"\n')
        example = (SOURCE / "systemd/examples/local-postgresql.conf").read_text()
        machine.write("/etc/systemd/system/run-recorder.service.d/local-postgresql.conf", example)
        machine.run("dpkg", "--install", "--force-confold", f"/packages/run-recorder_{OLD}_{architecture()}.deb")
        self.wait_active()
        self.assertIn("postgresql.service", machine.property("After").split())
        machine.send({"type": "run_started", "run_id": "a", "id": "1"})
        machine.wait_applied()

        cluster = "postgresql@{}-{}.service".format(*machine.output("pg_lsclusters", "--no-header").split()[:2])
        machine.run("systemctl", "stop", cluster)
        machine.send({"type": "run_completed", "run_id": "a", "id": "2"})
        self.assertEqual(machine.status()["waiting"], 1)
        wait_until("the status says so", lambda: "away" in machine.property("StatusText"))
        machine.run("systemctl", "start", cluster)
        machine.wait_applied()
        rows = machine.output("psql", "-At", "-d", "app", "-c", "SELECT run_id, status FROM council_ex_runs", user="postgres")
        self.assertEqual(rows, "a|completed")
        everything = machine.output("journalctl", "--no-pager", "-o", "export", "-u", "run-recorder")
        self.assertNotIn("s3cret", everything)


class Administration(SystemTest):
    """`run-recorder admin`, run-recorderd by hand and doctor, as root and as the daemon's user without its environment."""

    def owners(self, folder="/var/lib/run-recorder"):
        return set(self.machine.output("find", folder, "-printf", "%u\n").splitlines())

    def record(self, *runs):
        self.machine.send(*[{"type": "run_completed", "run_id": run, "id": "e"} for run in runs])
        self.machine.wait_applied()

    def is_active(self):
        return [self.machine.property("ActiveState", f"run-recorder.{unit}") for unit in ("socket", "service")]

    def findings(self, **options):
        done = self.machine.run("run-recorder", "doctor", "--json", check=False, **options)
        return done.returncode, {line["check"]: line for line in map(json.loads, done.stdout.splitlines())}

    def test_root_drains_and_leaves_nothing_of_its_own(self):
        machine = self.machine
        machine.install(OLD)
        self.wait_active()
        self.record("a")
        drained = machine.run("run-recorder", "admin", "drain")
        self.assertIn("the spool is empty: 1 applied", drained.stdout)
        self.assertIn("to start them: systemctl start run-recorder.socket run-recorder.service", drained.stdout)
        self.assertEqual(self.is_active(), ["inactive", "inactive"])
        # By hand as the README once said, and as the daemon's user without any environment (su, cron).
        by_hand = machine.run("run-recorderd", "--drain")
        self.assertIn("acting as run-recorder", by_hand.stderr)
        as_user = machine.run("env", "-i", "HOME=/var/lib/run-recorder", "run-recorderd", "--drain", user="run-recorder")
        self.assertIn("the spool is empty: 1 applied", as_user.stdout)
        self.assertEqual(self.owners(), {"run-recorder"})
        machine.run("systemctl", "start", "run-recorder.socket", "run-recorder.service")
        self.record("b")
        self.assertIn("the spool is empty", machine.output("run-recorder", "admin", "drain", "--start"))
        self.assertEqual(self.is_active(), ["active", "active"])
        self.record("c")
        self.assertEqual([run for run, _ in self.events_of()], ["a", "b", "c"])
        refused = machine.run("run-recorder", "admin", "drain", user=UNPRIVILEGED, check=False)
        self.assertEqual((refused.returncode, "sudo run-recorder admin drain" in refused.stderr), (1, True))

    def test_a_file_of_root_is_named_by_the_log_and_by_doctor(self):
        machine = self.machine
        machine.install(OLD)
        self.wait_active()
        self.record("a")
        machine.run("systemctl", "stop", "run-recorder.socket", "run-recorder.service")
        segment = machine.output("sh", "-c", "ls /var/lib/run-recorder/spool/*.seg | tail -1")
        machine.run("chown", "root:", segment)
        machine.run("systemctl", "start", "run-recorder.service", check=False)
        command = f"chown run-recorder: {segment}"
        wait_until("the log says what to do", lambda: [entry for entry in machine.journal("-u", "run-recorder")
                                                       if command in str(entry["MESSAGE"])])
        status, findings = self.findings()
        self.assertEqual((status, command in findings["files"]["advice"]), (1, True))
        machine.run("sh", "-c", command)
        self.wait_active()
        self.record("b")

    def test_a_copy_is_restored_with_its_owner_and_the_service_goes_on(self):
        machine = self.machine
        machine.install(OLD)
        self.wait_active()
        self.record("a")
        machine.run("sqlite3", "/var/lib/run-recorder/run-recorder.db", ".backup /root/copy.db")
        machine.run("chmod", "600", "/root/copy.db")
        self.record("b")
        restored = machine.run("run-recorder", "admin", "restore", "/root/copy.db")
        self.assertIn("the service runs again", restored.stdout)
        kept = re.search(r"kept as (\S+)", restored.stdout)[1]
        self.assertEqual([run for run, _ in self.events_of(kept)], ["a", "b"])
        self.assertEqual(self.is_active(), ["active", "active"])
        machine.wait_applied()
        # What the copy lacks comes from the spool.
        self.assertEqual([run for run, _ in self.events_of()], ["a", "b"])
        self.record("c")
        self.assertEqual(self.owners(), {"run-recorder"})
        machine.write("/root/broken.db", "no database")
        refused = machine.run("run-recorder", "admin", "restore", "/root/broken.db", check=False)
        self.assertEqual((refused.returncode, "not a SQLite database" in refused.stderr), (1, True))
        self.assertEqual(self.is_active(), ["active", "active"])
        self.record("d")

    def test_doctor_is_content_with_a_service_that_is_right_whoever_asks(self):
        machine = self.machine
        machine.install(OLD)
        self.wait_active()
        self.record("a")
        machine.run("useradd", "--groups", "run-recorder,run-recorder-admin", "watcher")
        for user in (None, "run-recorder", "watcher"):
            status, findings = self.findings(user=user)
            # A root in memory may have less than [spool] min_free.
            wrong = {check: finding for check, finding in findings.items() if not finding["ok"] and check not in ("disk", "accepting")}
            self.assertEqual(wrong, {}, user)

    def test_a_credential_is_found_by_hand_and_by_the_commands(self):
        machine = self.machine
        Database.set_up_postgresql(self)
        machine.write("/etc/credstore/run-recorder.database-password", "s3cret word\n", 0o600)
        machine.write("/etc/run-recorder/run-recorder.toml", '[database]\nurl = "postgresql://recorder@127.0.0.1/app"\n')
        machine.run("dpkg", "--install", "--force-confold", f"/packages/run-recorder_{OLD}_{architecture()}.deb")
        self.wait_active()
        self.record("a")
        for command in (("run-recorderd", "--check"), ("run-recorder", "admin", "check")):
            checked = machine.run(*command)
            self.assertIn("database       fine: postgresql://recorder@127.0.0.1/app", checked.stdout, command)
        self.assertIn("the schema is at version", machine.output("run-recorder", "admin", "migrate"))
        status, findings = self.findings()
        self.assertTrue(findings["database"]["ok"] and findings["queue"]["ok"], findings)
        # Who may not read it is told that, and not that there is none.
        said = machine.run("run-recorderd", "--check", user=UNPRIVILEGED, check=False).stdout
        self.assertIn("this user may not read the service's password for it (/run/credentials/run-recorder.service/", said)
        # The daemon's own error comes first.
        shut_out = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'recorder'"
        machine.run("psql", "-c", "ALTER ROLE recorder NOLOGIN", "-c", shut_out, user="postgres")
        wait_until("the daemon has noticed", lambda: machine.status()["database"]["state"] != "up")
        status, findings = self.findings()
        self.assertEqual((status, findings["database"]["ok"], findings["clock"]["ok"]), (1, False, True))
        self.assertRegex(findings["database"]["found"], "says the daemon: (away|refused): .*not permitted to log in")
        self.assertIn("not compared", findings["clock"]["found"])
        machine.run("psql", "-c", "ALTER ROLE recorder LOGIN", user="postgres")
        machine.wait_applied()
        self.assertIn("the spool is empty: 1 applied", machine.output("run-recorder", "admin", "drain", "--start"))
        self.assertEqual(self.owners(), {"run-recorder"})

    def test_everything_moves_to_postgresql_with_one_command(self):
        machine = self.machine
        Database.set_up_postgresql(self)
        machine.install(OLD)
        self.wait_active()
        self.record(*[f"r{i}" for i in range(300)])
        before = self.events_of()
        url = "postgresql://recorder:s3cret%20word@127.0.0.1/app"
        failed = machine.run("run-recorder", "admin", "move", "--to", url.replace("app", "nowhere"), check=False)
        self.assertEqual((failed.returncode, 'database "nowhere" does not exist' in failed.stderr), (69, True), failed.stderr)
        self.assertIn("the service runs again with it", failed.stderr)
        self.assertEqual(self.is_active(), ["active", "active"])
        moved = machine.run("run-recorder", "admin", "move", "--to", url)
        self.assertIn('url = "postgresql://recorder:***@127.0.0.1/app"', moved.stdout)
        self.assertEqual(self.is_active(), ["inactive", "inactive"])
        machine.write("/etc/run-recorder/run-recorder.toml", '[database]\nurl = "postgresql://recorder@127.0.0.1/app"\n')
        machine.write("/etc/credstore/run-recorder.database-password", "s3cret word\n", 0o600)
        machine.run("systemctl", "start", "run-recorder.socket", "run-recorder.service")
        self.record("later")
        rows = machine.output("psql", "-At", "-d", "app", "-c",
                              "SELECT run_id, event_id FROM council_ex_run_events ORDER BY run_id COLLATE \"C\"", user="postgres")
        self.assertEqual(sorted(tuple(row.split("|")) for row in rows.splitlines()), sorted([*before, ("later", "e")]))
        self.assertEqual(self.owners(), {"run-recorder"})
        self.assertEqual(machine.output("sh", "-c", "ls -d /run/run-recorder-move* 2>/dev/null || true"), "")
        self.assertNotIn("s3cret", machine.output("journalctl", "--no-pager", "-o", "export"))

    def test_the_services_own_environment_and_command_line_count(self):
        machine = self.machine
        machine.write("/etc/default/run-recorder", 'RUN_RECORDER_DATABASE_TABLE_PREFIX="x_"\n')
        machine.write("/etc/systemd/system/run-recorder.service.d/own.conf",
                      "[Service]\nEnvironment=\"RUN_RECORDER_DATABASE_URL=sqlite:/var/lib/run-recorder/other one.db\"\n"
                      "EnvironmentFile=-/etc/default/run-recorder\nEnvironmentFile=-/etc/default/none\n"
                      "ExecStart=\nExecStart=/usr/bin/run-recorderd --spool-path /var/lib/run-recorder/own\n")
        machine.install(OLD)
        self.wait_active()
        self.record("a")
        checked = machine.output("run-recorder", "admin", "check")
        self.assertIn("fine: sqlite:/var/lib/run-recorder/other one.db, schema", checked)
        self.assertIn("fine: /var/lib/run-recorder/own", checked)
        self.assertIn('CREATE TABLE IF NOT EXISTS "x_runs"', machine.output("run-recorder", "admin", "migrate", "--print"))
        machine.run("sqlite3", "/var/lib/run-recorder/other one.db", ".backup /root/copy.db")
        self.assertIn("restored /var/lib/run-recorder/other one.db", machine.output("run-recorder", "admin", "restore", "/root/copy.db"))
        self.assertIn("the spool is empty: 1 applied", machine.output("run-recorder", "admin", "drain"))
        moved = machine.output("run-recorder", "admin", "move", "--to", "sqlite:/var/lib/run-recorder/new.db")
        self.assertIn('url = "sqlite:/var/lib/run-recorder/new.db"', moved)
        self.assertEqual(machine.output("sqlite3", "/var/lib/run-recorder/new.db", "SELECT run_id FROM x_runs"), "a")
        self.assertEqual(self.owners(), {"run-recorder"})

    def test_packaged_examples_can_be_run(self):
        self.machine.install(OLD)
        self.machine.run("test", "-x", "/usr/share/doc/run-recorder/examples/worker.py")


class Workers(SystemTest):
    def test_the_examples_record_a_timer_and_stop_workers_first(self):
        machine = self.machine
        machine.install(OLD)
        self.wait_active()
        examples = SOURCE / "systemd/examples"
        machine.write("/usr/local/bin/backup", "#!/bin/sh\necho saving; echo no room left >&2; exit 3\n", 0o755)
        for name in ("nightly-backup.service", "nightly-backup.timer"):
            machine.write(f"/etc/systemd/system/{name}", (examples / name).read_text())
        machine.run("useradd", "worker")
        machine.write("/etc/systemd/system/worker.service",
                      "[Service]\nUser=worker\nExecStart=/usr/bin/sleep infinity\n")
        machine.write("/etc/systemd/system/worker.service.d/run-recorder.conf", (examples / "worker.conf").read_text())
        machine.run("systemctl", "daemon-reload")
        verified = machine.run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
                               *[f"/etc/systemd/system/{name}" for name in
                                 ("nightly-backup.service", "nightly-backup.timer", "worker.service")])
        self.assertEqual(verified.stderr, "")
        machine.run("systemctl", "enable", "--now", "nightly-backup.timer")
        machine.run("systemctl", "start", "nightly-backup.service", check=False)
        machine.wait_applied()
        runs = json.loads(machine.output("run-recorder", "list", "--json", "--council", "nightly-backup"))
        self.assertEqual(runs["status"], "failed")
        run = machine.output("run-recorder", "show", runs["run_id"])
        self.assertIn("no room left", run)
        machine.run("systemctl", "start", "worker.service")
        after = machine.property("After", "worker.service").split()
        self.assertIn("run-recorder.service", after)
        self.assertIn("run-recorder.socket", machine.property("Wants", "worker.service").split())
        group = machine.output("getent", "group", "run-recorder").split(":")[2]
        pid = machine.property("MainPID", "worker.service")
        self.assertIn(group, machine.output("grep", "^Groups:", f"/proc/{pid}/status").split())


if __name__ == "__main__":
    unittest.main()
