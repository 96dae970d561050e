"""A real daemon for the tests, in a folder of its own. The folder with the programs is RUN_RECORDER_BIN."""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

DEADLINE_S = 120
BIN = os.environ.get("RUN_RECORDER_BIN", "")
# Debian's redis-tools has the server too, under the name of one of its tools.
REDIS = shutil.which("redis-server") or shutil.which("redis-check-rdb")


def wait_until(condition, what):
    """The first truthy value of condition(); only a hang reaches the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {DEADLINE_S} s in vain for {what}")
        time.sleep(0.01)
    return value


class _Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=DEADLINE_S)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


@unittest.skipUnless(BIN, "RUN_RECORDER_BIN names no folder with run-recorderd")
class WithDaemon(unittest.TestCase):
    """Each test has a daemon, self.socket, and unsent files of its own."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="rr-py-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.socket = self.folder / "events.sock"
        environment = {"RUNTIME_DIRECTORY": str(self.folder), "STATE_DIRECTORY": str(self.folder), "XDG_STATE_HOME": str(self.folder),
                       "RUN_RECORDER_SOCKET_PATH": str(self.socket)}
        self.environment = {**os.environ, **environment, "RUN_RECORDER_RECONCILE_GRACE": "1s", "RUN_RECORDER_SPOOL_MIN_FREE": "1KiB"}
        self.log = open(self.folder / "log.txt", "wb")
        self.addCleanup(self.log.close)
        self.daemon = subprocess.Popen([f"{BIN}/run-recorderd"], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                       env={name: value for name, value in self.environment.items() if name != "RUN_RECORDER_BIN"})
        self.addCleanup(self.end_daemon)
        wait_until(self.is_ready, "the daemon")

    def is_ready(self):
        if self.daemon.poll() is not None:
            raise AssertionError((self.folder / "log.txt").read_text())
        try:
            return self.get("/v1/runs")[0] == 200
        except OSError:
            return False

    def end_daemon(self):
        self.daemon.send_signal(signal.SIGCONT)
        self.daemon.kill()
        self.daemon.wait()

    def get(self, target):
        connection = _Connection(str(self.folder / "control.sock"))
        try:
            connection.request("GET", target)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def row(self, run_id):
        status, row = self.get(f"/v1/runs/{run_id}")
        return row if status == 200 else {}

    def events(self, run_id):
        return self.get(f"/v1/runs/{run_id}/events?limit=1000")[1]["events"]

    def wait_for(self, run_id, status):
        try:
            return wait_until(lambda: (row := self.row(run_id)).get("status") == status and row, "it")
        except AssertionError as late:
            raise AssertionError(f"{run_id} is not {status}: {self.row(run_id)}") from late

    def start_redis(self):
        """A redis of this test's; its socket."""
        path = self.folder / "redis.sock"
        server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(self.folder)],
                                  executable=REDIS, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)

        def answers():
            if server.poll() is not None:
                raise AssertionError((self.folder / "log.txt").read_text())
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(str(path))
                    connection.sendall(b"PING\r\n")
                    return connection.recv(100).startswith(b"+PONG")
            except OSError:
                return False
        wait_until(answers, "redis")
        return path
