"""Workers in containers, as the packaged daemon sees them: it is an ordinary user, and they are root's. Also a daemon
that is in another time namespace than the one that knew its workers, and one in a container without the host's PIDs."""

import pwd
import subprocess
import sys

import pytest

from harness import DAEMON, as_root, merged, wait_until
from test_reconcile import NOW, reconcile, send_and_exit, started, verdicts

# Process 1 of a container: starts the worker, and a sender that has ended when it says so. The worker is named by the
# pid that it has there.
CONTAINER = """
import json, os, signal, socket, subprocess, sys
worker = subprocess.Popen(["sleep", "1000"])
assert worker.pid < 100, worker.pid
sender = os.fork()
if sender == 0:
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    s.sendall(json.dumps({"type": "run_started", "run_id": sys.argv[2], "worker_pid": worker.pid}).encode() + b"\\n")
    os._exit(0 if s.recv(100) == b'{"acked":1}\\n' else 1)
assert os.waitpid(sender, 0)[1] == 0
print("sent", flush=True)
signal.pause()
"""


def container(at_end, server, run_id):
    inside = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", CONTAINER,
                               str(server.socket_path), run_id], stdout=subprocess.PIPE, text=True)
    at_end(inside.stdout.close)
    at_end(inside.wait)
    at_end(inside.kill)
    assert inside.stdout.readline() == "sent\n"
    return inside


def status_of(server, run_id):
    return server.database.runs()[run_id]["status"]


def wait_stuck(server, run_id):
    """By a pass that is asked for, or one that the daemon makes by itself."""
    def stuck():
        reconcile(server)
        return status_of(server, run_id) == "stuck"
    wait_until(stuck, f"{run_id} to be stuck")
    assert server.database.runs()[run_id]["error"]["reason"] == "process_gone"


@pytest.mark.skipif(not as_root(), reason="needs to make containers of another user")
def test_an_ordinary_users_daemon_tells_living_and_killed_containers_apart(servers, at_end):
    server = servers(merged(NOW, {"socket": {"mode": "0666"}}), user="nobody")
    server.start().wait_boot_pass()
    status = open(f"/proc/{server.process.pid}/status").read()
    assert f"Uid:\t{pwd.getpwnam('nobody').pw_uid}\t" in status
    living, killed = container(at_end, server, "living"), container(at_end, server, "killed")
    server.wait_applied()
    rows = server.database.runs()
    assert rows["living"]["worker_process"] != rows["killed"]["worker_process"]
    report = reconcile(server)
    assert (report["alive"], report["marked"]) == (2, 0), report
    killed.kill()
    killed.wait()
    wait_stuck(server, "killed")
    # Only the worker is evidence of life: the sender has ended.
    server.stop()
    server.start().wait_boot_pass()
    report = reconcile(server)
    assert (report["alive"], report["marked"]) == (1, 0), report
    assert status_of(server, "living") == "running"
    living.kill()
    living.wait()
    wait_stuck(server, "living")


@pytest.mark.skipif(not as_root(), reason="needs to make a time namespace")
def test_a_daemon_in_another_time_namespace_recognises_healthy_workers(servers, worker):
    server = servers(NOW).start().wait_boot_pass()
    process = worker()
    send_and_exit(server, started("healthy", worker_pid=process.pid))
    server.wait_applied()
    server.stop()
    with open(server.log_path, "ab") as log:
        server.process = subprocess.Popen(["unshare", "--time", "--boottime", "864000", str(DAEMON), "--config",
                                           str(server.config_path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          env=server.environment())
    server.wait_ready()
    offsets = open(f"/proc/{server.process.pid}/timens_offsets").read()
    assert "boottime" in offsets
    assert "864000" in offsets
    server.wait_boot_pass()
    report = reconcile(server)
    assert (report["alive"], report["marked"]) == (1, 0), report
    assert status_of(server, "healthy") == "running"
    process.end()
    wait_stuck(server, "healthy")


@pytest.mark.skipif(not as_root(), reason="needs to make a PID namespace")
def test_a_daemon_without_the_hosts_pids_guesses_nothing_of_broken_connections(servers, worker):
    """As docs/tasks.md says of it."""
    server = servers(NOW)
    server.write_config()
    with open(server.log_path, "ab") as log:
        server.process = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", str(DAEMON), "--config",
                                           str(server.config_path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          env=server.environment())
    server.wait_ready()
    server.wait_boot_pass()
    named, beating = worker(), worker()
    send_and_exit(server, started("named", worker_pid=named.pid), started("beating", worker_pid=beating.pid, expires_in=1))
    server.wait_applied()
    named.end()

    wait_until(lambda: reconcile(server) and status_of(server, "beating") == "stuck", "the heartbeat to expire")
    assert verdicts(reconcile(server)) == {"named": ("unknown", "no_evidence")}
    assert server.database.runs()["beating"]["error"]["reason"] == "heartbeat_expired"
    assert status_of(server, "named") == "running"
