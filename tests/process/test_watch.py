"""The daemon watches the worker processes of the events it accepted: how many, and with how many descriptors."""

import resource
import subprocess
import sys

import pytest

from harness import DAEMON, wait_until

# Children that only sleep: it prints their pids, and ends with its standard input, they with it.
CHILDREN = """
import os, signal, sys
pids = []
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    pids.append(pid)
print(*pids, flush=True)
sys.stdin.read()
for pid in pids:
    os.kill(pid, signal.SIGKILL)
for pid in pids:
    os.waitpid(pid, 0)
"""


@pytest.fixture
def children(at_end):
    """children(count) gives their parent and their pids."""
    def make(count):
        maker = subprocess.Popen([sys.executable, "-c", CHILDREN, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 text=True)
        at_end(maker.wait)
        at_end(maker.stdout.close)
        at_end(maker.stdin.close)
        pids = [int(pid) for pid in maker.stdout.readline().split()]
        assert len(pids) == count
        return maker, pids
    return make


def watched(server):
    return server.status()["processes"]["watched"]


def test_each_living_worker_is_watched_once_until_it_ends(servers, children):
    server = servers().start()
    maker, pids = children(200)
    wait_until(lambda: server.status()["connections"]["open"] == 0, "the first looks at the socket to be over")
    before = server.open_files()
    events = [{"type": "run_started", "run_id": f"r{pid}", "worker_pid": pid} for pid in pids]
    server.send(*events)
    server.send(*[{"type": "note", "run_id": f"r{pid}", "worker_pid": pid} for pid in pids])
    wait_until(lambda: watched(server) == len(pids), "all to be watched")
    wait_until(lambda: server.status()["connections"]["open"] == 0, "the senders to be gone")
    # Two for each of 64 remembered ones, and what a pass and the database need.
    assert server.open_files() - before <= len(pids) + 2 * 64 + 10
    assert server.status()["processes"]["unwatched"] == 0
    maker.stdin.close()
    maker.wait()
    wait_until(lambda: watched(server) == 0, "nobody to be watched any more")


def test_a_low_limit_of_files_leaves_most_of_it_to_connections(servers, children):
    server = servers({"limits": {"connections": 100}})
    server.write_config()
    with open(server.log_path, "ab") as log:
        server.process = subprocess.Popen([str(DAEMON), "--config", str(server.config_path)], stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log, env=server.environment(),
                                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (640, 640)))
    server.wait_ready()
    status = server.status()
    assert status["connections"]["limit"] == 100
    assert status["processes"]["limit"] >= 640 // 16
    assert status["processes"]["limit"] < 640 - 432 - 100
    _, pids = children(status["processes"]["limit"] + 3)
    server.send(*[{"type": "run_started", "run_id": f"r{pid}", "worker_pid": pid} for pid in pids])
    wait_until(lambda: server.status()["processes"]["unwatched"] == 3, "three that there was no room for")
    server.wait_for_log("too many processes to watch")


def test_the_soft_limit_of_files_is_raised_for_watched_processes(servers):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = servers()
    server.write_config()
    with open(server.log_path, "ab") as log:
        server.process = subprocess.Popen([str(DAEMON), "--config", str(server.config_path)], stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log, env=server.environment(),
                                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE,
                                                                                (min(soft, 1024), hard)))
    server.wait_ready()
    if hard == resource.RLIM_INFINITY or hard >= 16384:
        assert server.status()["processes"]["limit"] == 10240
        assert server.status()["connections"]["limit"] == 1024
    else:
        assert server.status()["processes"]["limit"] < 10240
