"""Runs the real programs for the tests: a daemon in a folder of its own, clients for its two sockets, private PostgreSQL
clusters, and both databases behind one interface.

Nothing here is a stand-in: what the tests see is what a user would see. Nothing sleeps for a fixed time either; wait_until()
looks for the condition itself, with a deadline that only a hang reaches. The folder with the programs comes from the
environment variable RUN_RECORDER_BIN.
"""

import atexit
import fcntl
import http.client
import json
import os
import pty
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
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

BIN = Path(os.environ.get("RUN_RECORDER_BIN", Path(__file__).resolve().parents[2] / "build" / "bin"))
DAEMON = BIN / "run-recorderd"
TOOL = BIN / "run-recorder"
# The newest there is.
POSTGRES_BIN = max(Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda path: int(path.parent.name),
                   default=Path("/usr/lib/postgresql/15/bin"))
SANITIZER = os.environ.get("RUN_RECORDER_SANITIZER", "")
STATIC = os.environ.get("RUN_RECORDER_STATIC") == "yes"  # the tool is the static one
# What `exec` keeps of events that it could not send goes here, and not to whoever runs the tests.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="rr-state-")
# Removed at the end of the tests, or of the process where it is no test.
TEMPORARY_FOLDERS = [Path(os.environ["XDG_STATE_HOME"])]
DEADLINE_S = 240  # that only a hang reaches, also where many times more runs than the processors can take

# A command of exec that says each of its SIGTERMs. SIGPWR comes behind all of them, as exec passes signals on in their order: then it
# ends. The bytes are written by the very handlers: those of the interpreter may wait for the next signal.
ASKED_TO_STOP = """
import os, signal
reading, writing = os.pipe()
os.set_blocking(writing, False)
signal.set_wakeup_fd(writing)
for each in (signal.SIGTERM, signal.SIGPWR):
    signal.signal(each, lambda *_: None)
os.write(1, b"ready\\n")
told = b""
while signal.SIGPWR not in told:
    told = os.read(reading, 100)
    os.write(1, b"asked\\n" * told.count(signal.SIGTERM))
"""


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
    """An RFC 3339 time as an aware datetime, what is finer than a microsecond cut; a leap second is the moment after it. None
    stays None."""
    if text is None:
        return None
    parts = re.fullmatch(r"(\S+)[ Tt](\d\d:\d\d):(\d\d)(\.\d+)?([Zz]|[+-]\d\d(?::?\d\d)?)", text.strip())
    day, minute, second, fraction, offset = parts.groups()
    leap = second == "60"
    fraction = "" if leap else (fraction or "")[:7].ljust(7, "0") if fraction else ""
    time_of_day = f"{minute}:{'59' if leap else second}{fraction}{'+00:00' if offset in 'Zz' else offset}"
    moment = datetime.fromisoformat(f"{day}T{time_of_day}").astimezone(timezone.utc)
    return moment + timedelta(seconds=1) if leap else moment


def temporary_folder():
    """A short path (socket paths are limited to 107 bytes) that other users may pass through."""
    path = Path(tempfile.mkdtemp(prefix="rr-"))
    path.chmod(0o755)
    TEMPORARY_FOLDERS.append(path)
    return path


@atexit.register
def remove_temporary_folders():
    while TEMPORARY_FOLDERS:
        shutil.rmtree(TEMPORARY_FOLDERS.pop(), ignore_errors=True)


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


class StandingPipe:
    """A pipe for a daemon's standard error whose reader stands still: it is full, nothing more goes in until read()."""

    def __init__(self):
        self._read, self.write = os.pipe()
        os.set_blocking(self._read, False)
        fcntl.fcntl(self.write, fcntl.F_SETPIPE_SZ, 4096)
        self.text = ""

    def fill(self):
        """With empty lines. Through a file of its own: whoever shares the other one wants to wait."""
        filler = os.open(f"/proc/self/fd/{self.write}", os.O_WRONLY | os.O_NONBLOCK)
        try:
            while True:
                os.write(filler, b"\n")
        except BlockingIOError:
            return self
        finally:
            os.close(filler)

    def read(self):
        """What has come; all of it is in text."""
        try:
            while data := os.read(self._read, 65536):
                self.text += data.decode()
        except BlockingIOError:
            pass
        return self.text

    def close(self):
        os.close(self._read)
        os.close(self.write)


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
        """The report of a pass. One that is under way, as the boot pass of any daemon on that database, is waited for."""
        def answered():
            answer = self.post("/v1/reconcile", options)
            return None if answer.status == 409 else answer
        answer = wait_until(answered, "the reconciliation that is under way to end")
        assert answer.status == 200, f"reconcile {options}: {answer}"
        return answer.json


LEDGER_PARTS = ("applied", "duplicate", "waiting", "dead_letters", "dead_letters_removed")


def clean_environment(**more):
    """This process's environment without what configures run-recorder, and more."""
    return {**{key: value for key, value in os.environ.items() if not key.startswith("RUN_RECORDER_")}, **more}


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
        self.stderr = None   # a descriptor for standard error; otherwise it goes to log_path
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
        env = clean_environment()
        here = Path(__file__).resolve().parent
        env.setdefault("LSAN_OPTIONS", f"suppressions={here}/leaks_of_libraries.txt:print_suppressions=0")
        env.setdefault("TSAN_OPTIONS", f"suppressions={here}/races_of_libraries.txt:print_suppressions=0")
        env.update(self.env)
        return env

    def spawn(self, *arguments):
        """Starts the program without waiting for anything."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [str(DAEMON), "--config", str(self.config_path), *map(str, arguments)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log if self.stderr is None else self.stderr,
                env=self.environment(), user=self.user,
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
            return all(self._listens(path) for path in (self.socket_path, self.control_path))
        wait_until(ready, "the daemon to accept connections")

    @staticmethod
    def _listens(path):
        """Without a connection, whose end would be one of this process: a pass over its rows follows a grace later."""
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as sockets:
            # num, references, protocol, flags (it accepts), type, state, inode, path
            return any(fields[3] == "00010000" and fields[7] == str(path)
                       for line in sockets if len(fields := line.rstrip("\n").split(maxsplit=7)) == 8)

    def wait_tables(self):
        """Waits until the database's tables are there and current: before, whatever asks for rows is refused."""
        wait_until(lambda: self.control.get("/v1/runs").status == 200, "the tables")
        return self

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

    def accepts_requests(self):
        return self.alive() and self._accepts(self.control_path)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=DEADLINE_S):
        return self.process.wait(timeout)

    def wait_boot_pass(self):
        """Waits until the first boot pass has ended, and no other pass of this daemon is in its way."""
        wait_until(lambda: self.status()["reconciliation"]["boot_done"], "the boot pass")
        return self

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

    def log_lines(self, level, after=0):
        """The lines of this level in the log, which is in its text form, from byte `after` on."""
        return [line for line in self.log()[after:].splitlines() if re.match(rf"\S+ {level} ", line)]

    def check_ledger(self):
        """accepted = applied + duplicate + waiting + dead letters + dead letters removed, in the status and in the metrics."""
        status = self.status()
        total = sum(status[part] for part in LEDGER_PARTS)
        assert status["accepted"] == total, f"the ledger does not add up: {status}\n{self.log()[-6000:]}"
        text = self.control.get("/metrics").text
        shown = {account: int(value) for account, value in re.findall(r'^\w+\{account="(\w+)"\} (\d+)$', text, re.M)}
        assert shown["accepted"] == sum(shown[part] for part in LEDGER_PARTS), \
            f"the metrics do not add up: {shown}\n{self.log()[-6000:]}"
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

    def __init__(self, settings=None, data_from=None):
        """data_from(cluster) fills cluster.data instead of initdb: with a copy, or a base backup."""
        self.folder = temporary_folder()
        self.data = self.folder / "data"
        self.log_path = self.folder / "log.txt"
        self.process = None
        self.databases = 0
        self.settings = {"fsync": "off", "max_connections": 60, "shared_buffers": "32MB", "log_min_messages": "warning",
                         **(settings or {})}
        self.account = {}
        if os.getuid() == 0:
            entry = pwd.getpwnam("postgres")
            self.account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        if data_from:
            data_from(self)
        else:
            self._fill_from(self._fresh_files())

    _fresh = None  # a folder with what initdb makes, once for all clusters of this process

    def _fresh_files(self):
        if not Postgres._fresh:
            folder = temporary_folder()
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            if self.account:
                os.chown(folder, self.account["user"], self.account["group"])
            self.run_tool("initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8",
                          "--locale=C.UTF-8", "--no-sync")
            Postgres._fresh = folder / "data"
        return Postgres._fresh

    def _fill_from(self, copy):
        subprocess.run(["cp", "-a", str(copy), str(self.data)], check=True)
        self.data.chmod(0o700)
        if self.account:
            os.chown(self.data, self.account["user"], self.account["group"])

    @property
    def port(self):
        return int(self.settings.get("port", 5432))

    def run_tool(self, name, *arguments):
        """One of PostgreSQL's own programs, as the user that the server runs as."""
        done = subprocess.run([str(POSTGRES_BIN / name), *map(str, arguments)], capture_output=True, text=True, cwd="/",
                              check=False, **self.account)
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"

    def standby(self, name, settings=None):
        """A new cluster that follows this one over the slot `name`, under which it can be a synchronous standby."""
        return Postgres({**self.settings, **(settings or {})}, data_from=lambda cluster: cluster._base_backup(self, name))

    def _base_backup(self, primary, name):
        self.run_tool("pg_basebackup", "-d",
                      f"host={primary.folder} port={primary.port} user=postgres application_name={name}", "-D", self.data, "-R",
                      "-C", "-S", name, "-X", "stream", "-c", "fast", "--no-sync")

    def follow(self, primary, name):
        """This stopped cluster becomes a standby of that one, as one whose time as a primary is over."""
        shutil.rmtree(self.data)
        self._base_backup(primary, name)
        return self.start()

    def wait_followed(self, state="state = 'streaming'"):
        """Waits for a standby; for a synchronous one with "sync_state = 'sync'"."""
        wait_until(lambda: self.sql("postgres", f"SELECT 1 FROM pg_stat_replication WHERE {state}"), f"a standby with {state}")

    def promote(self):
        self.run_tool("pg_ctl", "promote", "-D", self.data, "-w")

    def back_up(self):
        """A copy of the stopped cluster's files; the caller's to remove."""
        assert self.process is None or self.process.poll() is not None
        copy = temporary_folder()
        subprocess.run(["cp", "-a", f"{self.data}/.", str(copy)], check=True)
        return copy

    def restore(self, copy):
        """The stopped cluster's files become those of the copy."""
        assert self.process is None or self.process.poll() is not None
        shutil.rmtree(self.data)
        self._fill_from(copy)

    def start(self):
        options = {"listen_addresses": "", "unix_socket_directories": str(self.folder), **self.settings}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([str(POSTGRES_BIN / "postgres"), "-D", str(self.data), *arguments],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", **self.account)
        return self.wait_ready()

    def wait_ready(self):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"PostgreSQL ended:\n{self.log_path.read_text()[-3000:]}")
            probe = subprocess.run([str(POSTGRES_BIN / "pg_isready"), "-q", "-h", str(self.folder), "-p", str(self.port), "-U",
                                    "postgres"], check=False)
            return probe.returncode == 0
        wait_until(ready, "PostgreSQL to be ready")
        return self

    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, how=signal.SIGINT):
        """SIGINT: fast, SIGQUIT: immediate."""
        if self.running():
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

    def backends(self, where="true"):
        """The pids of the server's processes that pg_stat_activity names, but for the one that asks."""
        text = self.sql("postgres", f"SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND ({where})")
        return [int(pid) for pid in text.split()]

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

    @contextmanager
    def frozen(self):
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def url(self, database, user="postgres"):
        return f"postgresql://{user}@/{database}?host={quote(str(self.folder), safe='')}&port={self.port}"

    def session(self, database, user="postgres"):
        """psql as a process, for a session that stays open; the caller writes statements to its stdin."""
        return subprocess.Popen(self._psql(database, user), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _psql(self, database, user):
        # Not the one in the PATH, which is a wrapper in Perl and costs more than the query.
        return [str(POSTGRES_BIN / "psql"), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder), "-p",
                str(self.port), "-U", user, "-d", database]

    def sql(self, database, text, user="postgres"):
        try:
            done = subprocess.run(self._psql(database, user), input=text, capture_output=True, text=True, check=False,
                                  timeout=DEADLINE_S)
        except subprocess.TimeoutExpired as expired:
            raise AssertionError(f"the server does not answer: {text[:500]}") from expired
        assert done.returncode == 0, f"{text[:500]}\n{done.stderr}"
        return done.stdout

    def create_database(self, name):
        self.sql("postgres", f'CREATE DATABASE "{name}"')
        return PostgresDatabase(self, name)

    def create_fresh_database(self):
        """One with a name of its own, for a test that drops it."""
        self.databases += 1
        return self.create_database(f"test_{self.databases}")

    def close(self):
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)


_shared_cluster = None


def shared_cluster():
    """The cluster of this process, running. The databases and roles of its tests have names of their own."""
    global _shared_cluster
    if not _shared_cluster:
        _shared_cluster = Postgres()
        atexit.register(close_shared_cluster)
    if not _shared_cluster.running():
        _shared_cluster.start()
    return _shared_cluster


def close_shared_cluster():
    global _shared_cluster
    if _shared_cluster:
        _shared_cluster.close()
    _shared_cluster = None


def url_of_all(clusters, database, user="postgres"):
    """A libpq URI that names all the clusters and takes the one that can be written to."""
    hosts = ",".join(quote(str(cluster.folder), safe="") for cluster in clusters)
    ports = ",".join(str(cluster.port) for cluster in clusters)
    return f"postgresql://{user}@/{database}?host={hosts}&port={ports}&target_session_attrs=read-write"


class PgBouncer:
    """A PgBouncer in transaction mode before a cluster. move_to() puts another cluster behind it, at its next connection."""
    PROGRAM = Path("/usr/sbin/pgbouncer")

    def __init__(self, cluster, settings=None):
        self.folder = temporary_folder()
        self.account = cluster.account
        self.process = None
        self.settings = {"pool_mode": "transaction", "auth_type": "trust", "auth_file": self.folder / "users",
                         "listen_addr": "", "listen_port": 6432, "unix_socket_dir": self.folder, "max_client_conn": 200,
                         "default_pool_size": 4, "server_round_robin": 1, "server_login_retry": 1,
                         "admin_users": "postgres", **(settings or {})}
        (self.folder / "users").write_text('"postgres" ""\n')
        if self.account:
            os.chown(self.folder, self.account["user"], self.account["group"])
        self._write(cluster)

    def _write(self, cluster):
        lines = ["[databases]", f"* = host={cluster.folder} port={cluster.port}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in self.settings.items()]
        (self.folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")

    def start(self):
        with open(self.folder / "log.txt", "ab") as log:
            self.process = subprocess.Popen([str(self.PROGRAM), str(self.folder / "pgbouncer.ini")], cwd="/",
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.account)
        wait_until(lambda: Daemon._accepts(self.folder / ".s.PGSQL.6432"), "PgBouncer to accept connections")
        return self

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(DEADLINE_S)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def move_to(self, cluster):
        self._write(cluster)
        self.process.send_signal(signal.SIGHUP)

    def url(self, database):
        return f"postgresql://postgres@/{database}?host={quote(str(self.folder), safe='')}&port=6432"

    def close(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class PostgresDatabase:
    """A database of a cluster, with the interface of SqliteDatabase."""
    kind = "postgresql"

    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name
        self.url = cluster.url(name)

    def drop(self):
        """Where the server still runs."""
        if self.cluster.running():
            self.cluster.sql("postgres", f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')

    @contextmanager
    def away(self):
        """Its whole cluster is stopped meanwhile."""
        self.cluster.stop()
        try:
            yield
        finally:
            self.cluster.start()

    def execute(self, text, user="postgres"):
        return self.cluster.sql(self.name, text, user)

    def rows(self, query):
        text = self.execute(f"SET TimeZone = 'UTC'; SELECT row_to_json(r) FROM ({query}) AS r;")
        return [load_json(line) for line in text.split("\n") if line]

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
    JSON_COLUMNS = ("input", "result", "error", "payload", "report", "usage", "progress")

    def __init__(self, path):
        self.path = path
        self.url = f"sqlite:{path}"

    def _connect(self):
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        connection.row_factory = sqlite3.Row
        return connection

    @contextmanager
    def away(self):
        """Somebody else holds the file's write lock meanwhile."""
        blocker = self._connect()
        try:
            blocker.execute("BEGIN IMMEDIATE")
            yield
        finally:
            blocker.close()

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


def as_root():
    return os.getuid() == 0


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *argv):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(argv[0], argv, clean_environment(TERM="dumb"))
        self.output = b""

    def write(self, data):
        os.write(self.fd, data)

    def read_until(self, words):
        end = time.monotonic() + DEADLINE_S
        while words not in self.output:
            assert time.monotonic() < end, f"{words} in {self.output}"
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.output += os.read(self.fd, 65536)
                except OSError:
                    raise AssertionError(f"the terminal closed before {words}: {self.output}") from None
        self.output = self.output.split(words, 1)[1]

    def wait(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
