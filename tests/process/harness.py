"""Runs the real programs for the tests: a daemon in a folder of its own, clients for its two sockets, private PostgreSQL
clusters, and both databases behind one interface.

Nothing here is a stand-in: what the tests see is what a user would see. Nothing sleeps for a fixed time either; wait_until()
looks for the condition itself, with a deadline that only a hang reaches. The folder with the programs comes from the
environment variable RUN_RECORDER_BIN.
"""

import http.client
import json
import os
import pwd
import re
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import unittest
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

BIN = Path(os.environ.get("RUN_RECORDER_BIN", Path(__file__).resolve().parents[2] / "build" / "bin"))
DAEMON = BIN / "run-recorderd"
TOOL = BIN / "run-recorder"
POSTGRES_BIN = Path("/usr/lib/postgresql/15/bin")
SANITIZER = os.environ.get("RUN_RECORDER_SANITIZER", "")
DEADLINE_S = 240 if SANITIZER else 90


def wait_until(condition, what, deadline_s=DEADLINE_S):
    """Returns the first truthy value of condition(); fails naming `what` where none comes before the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline_s} s in vain for {what}")
        time.sleep(0.01)


def load_json(text):
    """JSON with its numbers exact."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def same_json(a, b):
    """Equal as JSON values: 1 and 1.0 are, 1 and true are not."""
    if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
        return a is b
    if isinstance(a, (int, float, Decimal)) and isinstance(b, (int, float, Decimal)):
        return Decimal(str(a)) == Decimal(str(b))
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_json(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same_json(x, y) for x, y in zip(a, b))
    return a == b


def parse_time(text):
    """An RFC 3339 time as an aware datetime; None stays None."""
    if text is None:
        return None
    text = text.strip().replace(" ", "T").replace("Z", "+00:00").replace("z", "+00:00")
    return datetime.fromisoformat(text).astimezone(timezone.utc)


def temporary_folder():
    """A short path (socket paths are limited to 107 bytes) that other users may pass through."""
    path = Path(tempfile.mkdtemp(prefix="rr-"))
    path.chmod(0o755)
    return path


def toml(config):
    """{"section": {"key": value}} as TOML; dotted section names are sub-tables."""
    def value_text(value):
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, (list, tuple)):
            return "[" + ", ".join(value_text(element) for element in value) + "]"
        if isinstance(value, int):
            return str(value)
        return json.dumps(str(value))
    lines = []
    for section, keys in config.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {value_text(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def merged(base, extra):
    result = {section: dict(keys) for section, keys in base.items()}
    for section, keys in (extra or {}).items():
        result.setdefault(section, {}).update(keys)
    return result


class Gone(Exception):
    """The daemon closed the connection."""


class EventClient:
    """A client of the event socket that keeps its own books: lines sent, lines settled, refusals by line."""

    def __init__(self, path, deadline_s=DEADLINE_S):
        self.deadline_s = deadline_s
        self.sent = 0
        self.acked = 0
        self.refusals = {}
        self.ended = False
        self.out = bytearray()
        self._in = bytearray()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(deadline_s)
        self.socket.connect(str(path))
        self.socket.setblocking(False)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def queue(self, *events):
        """Adds events (objects, or bytes as they are, without newline) to what flush() sends."""
        for event in events:
            line = event if isinstance(event, bytes) else json.dumps(event, default=float).encode()
            self.out += line + b"\n"
            self.sent += 1

    def queue_bytes(self, data):
        """Adds raw bytes, whatever lines they are."""
        self.out += data
        self.sent += data.count(b"\n")

    def pump(self, wait_s=0.0):
        """Moves what can be moved now in both directions. Raises Gone when the other side has ended or broken off."""
        readable, writable, _ = select.select([self.socket], [self.socket] if self.out else [], [], wait_s)
        try:
            if writable:
                del self.out[: self.socket.send(self.out[:262144])]
            if readable:
                data = self.socket.recv(262144)
                if not data:
                    self.ended = True
                    raise Gone("end of answers")
                self._take(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            self.ended = True
            self._take_rest()
            raise Gone(str(error)) from error

    def _take_rest(self):
        try:
            while data := self.socket.recv(262144):
                self._take(data)
        except OSError:
            pass

    def _take(self, data):
        self._in += data
        while (end := self._in.find(b"\n")) >= 0:
            self._answer(json.loads(bytes(self._in[:end])))
            del self._in[: end + 1]

    def _answer(self, answer):
        if "acked" in answer:
            assert answer["acked"] > self.acked, f"acked goes back: {answer} after {self.acked}"
            self.acked = answer["acked"]
        else:
            error = answer["error"]
            assert set(error) >= {"line", "code", "message"}, f"incomplete error: {answer}"
            assert error["line"] == 0 or error["line"] > self.acked, f"refused after it was settled: {answer}"
            self.refusals[error["line"]] = error

    def flush(self):
        end = time.monotonic() + self.deadline_s
        while self.out:
            self.pump(1)
            assert time.monotonic() < end, f"the daemon does not read: {len(self.out)} bytes left"

    def settle(self, line=None):
        """Sends what is queued and waits until every line sent (or up to `line`) is settled."""
        target = self.sent if line is None else line
        end = time.monotonic() + self.deadline_s
        while self.out or self.acked < target:
            self.pump(1)
            assert time.monotonic() < end, f"not settled: {self.acked} of {target}"
        return self

    def send(self, *events):
        """Sends events and waits until all of them are settled."""
        self.queue(*events)
        return self.settle()

    def finish(self):
        """Closes the sending half and reads all the answers to their end."""
        self.flush()
        self.socket.shutdown(socket.SHUT_WR)
        return self.read_to_end()

    def read_to_end(self):
        end = time.monotonic() + self.deadline_s
        try:
            while True:
                self.pump(1)
                assert time.monotonic() < end, "the daemon does not close"
        except Gone:
            return self

    def codes(self):
        return {line: error["code"] for line, error in self.refusals.items()}


class _UnixHttp(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Answer:
    def __init__(self, status, headers, text):
        self.status, self.headers, self.text = status, headers, text

    @property
    def json(self):
        return json.loads(self.text)

    def __repr__(self):
        return f"HTTP {self.status}: {self.text[:2000]}"


class Control:
    """A client of the control socket; one connection a request."""

    def __init__(self, path):
        self.path = path

    def request(self, method, target, body=None, timeout=DEADLINE_S):
        connection = _UnixHttp(self.path, timeout)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, target, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read().decode())
        finally:
            connection.close()

    def get(self, target):
        return self.request("GET", target)

    def post(self, target, body=None):
        return self.request("POST", target, body)

    def delete(self, target):
        return self.request("DELETE", target)

    def ok(self, method, target, body=None):
        answer = self.request(method, target, body)
        assert answer.status == 200, f"{method} {target}: {answer}"
        return answer.json

    def status(self):
        return self.ok("GET", "/v1/status")

    def run(self, run_id):
        return self.ok("GET", f"/v1/runs/{quote(run_id, safe='')}")

    def reconcile(self, **options):
        return self.ok("POST", "/v1/reconcile", options)


LEDGER_PARTS = ("applied", "duplicate", "waiting", "dead_letters", "dead_letters_removed")


class Daemon:
    """One run-recorderd with its folder: configuration, sockets, spool, log. start() and stop() as often as wanted."""

    def __init__(self, database_url=None, config=None, env=None, folder=None, user=None):
        self.folder = Path(folder) if folder else temporary_folder()
        self.socket_path = self.folder / "events.sock"
        self.control_path = self.folder / "control.sock"
        self.spool_path = self.folder / "spool"
        self.sqlite_path = self.folder / "run-recorder.db"
        self.config_path = self.folder / "config.toml"
        self.log_path = self.folder / "log.txt"
        self.database_url = database_url or f"sqlite:{self.sqlite_path}"
        self.env = env or {}
        self.user = user
        self.process = None
        self.config = merged({
            "database": {"url": self.database_url},
            "socket": {"path": self.socket_path},
            "control": {"path": self.control_path},
            "spool": {"path": self.spool_path, "min_free": "1MiB"},
            "reconcile": {"interval": "0s"},
        }, config)
        self.control = Control(self.control_path)
        if user:
            shutil.chown(self.folder, user)

    def write_config(self, config=None, text=None):
        self.config_path.write_text(text if text is not None else toml(config or self.config))

    def environment(self):
        env = {key: value for key, value in os.environ.items() if not key.startswith("RUN_RECORDER_")}
        env.update(self.env)
        return env

    def spawn(self, *arguments):
        """Starts the program without waiting for anything."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [str(DAEMON), "--config", str(self.config_path), *map(str, arguments)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment(), user=self.user,
                group=pwd.getpwnam(self.user).pw_gid if self.user else None,
                extra_groups=[] if self.user else None)
        return self.process

    def start(self, *arguments):
        self.write_config()
        self.spawn(*arguments)
        self.wait_ready()
        return self

    def wait_ready(self):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.log()[-4000:]}")
            return all(self._accepts(path) for path in (self.socket_path, self.control_path))
        wait_until(ready, "the daemon to accept connections")

    @staticmethod
    def _accepts(path):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
                return True
            except OSError:
                return False

    def run(self, *arguments, timeout=DEADLINE_S, env=None):
        """Runs the program to its end, as for --check; returns the CompletedProcess with texts."""
        if not self.config_path.exists():
            self.write_config()
        return subprocess.run([str(DAEMON), "--config", str(self.config_path), *map(str, arguments)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
                              env={**self.environment(), **(env or {})}, check=False)

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=DEADLINE_S):
        return self.process.wait(timeout)

    def stop(self):
        """SIGTERM; returns the exit status."""
        if not self.alive():
            return self.process.returncode if self.process else None
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self):
        if self.alive():
            self.process.kill()
            self.wait()

    def restart(self):
        assert self.stop() == 0, self.log()[-4000:]
        return self.start()

    def log(self):
        try:
            return self.log_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_for_log(self, pattern, count=1, after=0):
        """Waits until the log (from byte `after` on) has `count` matches; returns them."""
        def found():
            matches = list(re.finditer(pattern, self.log()[after:]))
            return matches if len(matches) >= count else None
        return wait_until(found, f"{count} x /{pattern}/ in the log:\n{self.log()[-3000:]}")

    def client(self, **options):
        return EventClient(self.socket_path, **options)

    def send(self, *events):
        """Over a connection of its own, all of them accepted."""
        with self.client() as client:
            client.send(*events)
            assert not client.refusals, client.refusals
            return client

    def status(self):
        return self.control.status()

    def wait_applied(self, deadline_s=DEADLINE_S):
        """Waits until nothing is waiting any more; returns the status then."""
        def applied():
            status = self.status()
            return status if status["waiting"] == 0 else None
        return wait_until(applied, "the backlog to be applied", deadline_s)

    def check_ledger(self):
        status = self.status()
        total = sum(status[part] for part in LEDGER_PARTS)
        assert status["accepted"] == total, f"the ledger does not add up: {status}"
        return status

    def rss_kib(self, field="VmRSS"):
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+) kB", text, re.M).group(1))

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def tool(self, *arguments, input=None, timeout=DEADLINE_S, env=None):
        """Runs run-recorder against this daemon."""
        return subprocess.run(
            [str(TOOL), *map(str, arguments)], input=input, capture_output=True, text=True, timeout=timeout, check=False,
            env={**self.environment(), "RUN_RECORDER_SOCKET_PATH": str(self.socket_path),
                 "RUN_RECORDER_CONTROL_PATH": str(self.control_path), **(env or {})})

    def close(self):
        """Ends it and removes its folder; fails where a sanitizer found something."""
        self.kill()
        log = self.log()
        shutil.rmtree(self.folder, ignore_errors=True)
        if found := re.search(r"(WARNING: ThreadSanitizer|ERROR: \w+Sanitizer|runtime error:)", log):
            raise AssertionError(f"a sanitizer has found something:\n{log[found.start():][:8000]}")


def _children(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split()]
    return found


class Postgres:
    """A private cluster on a UNIX socket in a folder of its own. PostgreSQL refuses to run as root: then it runs as the
    user postgres."""

    def __init__(self, settings=None):
        self.folder = temporary_folder()
        self.data = self.folder / "data"
        self.log_path = self.folder / "log.txt"
        self.process = None
        self.settings = {"fsync": "off", "max_connections": 60, "shared_buffers": "32MB", "log_min_messages": "warning",
                         **(settings or {})}
        self.account = {}
        if os.getuid() == 0:
            entry = pwd.getpwnam("postgres")
            self.account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        subprocess.run([str(POSTGRES_BIN / "initdb"), "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8",
                        "--locale=C.UTF-8", "--no-sync"], check=True, capture_output=True, cwd="/", **self.account)

    def start(self):
        options = {"listen_addresses": "", "unix_socket_directories": str(self.folder), **self.settings}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([str(POSTGRES_BIN / "postgres"), "-D", str(self.data), *arguments],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", **self.account)

        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"PostgreSQL ended:\n{self.log_path.read_text()[-3000:]}")
            probe = subprocess.run([str(POSTGRES_BIN / "pg_isready"), "-q", "-h", str(self.folder), "-U", "postgres"],
                                   check=False)
            return probe.returncode == 0
        wait_until(ready, "PostgreSQL to be ready")
        return self

    def stop(self, how=signal.SIGINT):
        """SIGINT: fast, SIGQUIT: immediate."""
        if self.process and self.process.poll() is None:
            self.thaw()
            self.process.send_signal(how)
            self.process.wait(DEADLINE_S)

    def kill(self):
        """kill -9 of the server with all its processes."""
        children = _children(self.process.pid)
        self.process.kill()
        self.process.wait()
        for child in children:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), "the backends to be gone")

    def _signal_all(self, number):
        for pid in [self.process.pid, *_children(self.process.pid)]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def freeze(self):
        self._signal_all(signal.SIGSTOP)

    def thaw(self):
        self._signal_all(signal.SIGCONT)

    def url(self, database, user="postgres"):
        return f"postgresql://{user}@/{database}?host={quote(str(self.folder), safe='')}"

    def sql(self, database, text, user="postgres"):
        done = subprocess.run(["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder), "-U", user,
                               "-d", database], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text[:500]}\n{done.stderr}"
        return done.stdout

    def create_database(self, name):
        self.sql("postgres", f'CREATE DATABASE "{name}"')
        return PostgresDatabase(self, name)

    def close(self):
        if self.process and self.process.poll() is None:
            self.thaw()
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)


class PostgresDatabase:
    """A database of a cluster, with the interface of SqliteDatabase."""
    kind = "postgresql"

    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name
        self.url = cluster.url(name)

    def execute(self, text, user="postgres"):
        return self.cluster.sql(self.name, text, user)

    def rows(self, query):
        text = self.execute(f"SET TimeZone = 'UTC'; SELECT row_to_json(r) FROM ({query}) AS r;")
        return [load_json(line) for line in text.splitlines() if line]

    def runs(self, prefix="council_ex_"):
        return {row["run_id"]: row for row in self.rows(f"SELECT * FROM {prefix}runs")}

    def events(self, prefix="council_ex_"):
        histories = {}
        for row in self.rows(f"SELECT * FROM {prefix}run_events ORDER BY run_id, seq"):
            histories.setdefault(row["run_id"], []).append(row)
        return histories

    def reports(self, prefix="council_ex_"):
        return {row["pass_id"]: row["report"] for row in self.rows(f"SELECT * FROM {prefix}reconciliations")}


class SqliteDatabase:
    kind = "sqlite"
    JSON_COLUMNS = ("input", "result", "error", "payload", "report")

    def __init__(self, path):
        self.path = path
        self.url = f"sqlite:{path}"

    def _connect(self):
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        connection.row_factory = sqlite3.Row
        return connection

    def execute(self, text):
        connection = self._connect()
        try:
            connection.executescript(text)
        finally:
            connection.close()

    def rows(self, query):
        connection = self._connect()
        try:
            rows = [dict(row) for row in connection.execute(query)]
        finally:
            connection.close()
        for row in rows:
            for column in self.JSON_COLUMNS:
                if isinstance(row.get(column), str):
                    row[column] = load_json(row[column])
        return rows

    runs = PostgresDatabase.runs
    events = PostgresDatabase.events
    reports = PostgresDatabase.reports


class ProcessTest(unittest.TestCase):
    """What the tests share: daemons that are gone at the end, and the log in every failure."""
    longMessage = True

    def setUp(self):
        self.daemons = []

    def daemon(self, *args, **options):
        daemon = Daemon(*args, **options)
        self.daemons.append(daemon)
        self.addCleanup(daemon.close)
        return daemon

    def _callTestMethod(self, method):
        try:
            super()._callTestMethod(method)
        except unittest.SkipTest:
            raise
        except BaseException:
            for daemon in getattr(self, "daemons", []):
                print(f"--- log of the daemon in {daemon.folder}\n{daemon.log()[-6000:]}\n---", flush=True)
            raise


class OnSqlite:
    """Mixin: the daemon's rows are in SQLite."""

    def make_database(self, daemon_folder):
        return SqliteDatabase(daemon_folder / "run-recorder.db")

    def daemon_with_database(self, config=None, **options):
        folder = temporary_folder()
        database = self.make_database(folder)
        daemon = self.daemon(database.url, config=config, folder=folder, **options)
        daemon.database = database
        return daemon


class OnPostgres:
    """Mixin: the rows are in a fresh database of one cluster that the class shares."""
    cluster_settings = {}
    _number = 0

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster = Postgres(cls.cluster_settings).start()
        cls.addClassCleanup(cls.cluster.close)

    def make_database(self, _daemon_folder=None):
        OnPostgres._number += 1
        return self.cluster.create_database(f"test_{OnPostgres._number}")

    daemon_with_database = OnSqlite.daemon_with_database


def as_root():
    return os.getuid() == 0
