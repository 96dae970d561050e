"""Workers in containers, as the packaged daemon sees them: it is an ordinary user, and they are root's. Also a daemon
that is in another time namespace than the one that knew its workers."""

import pwd
import subprocess
import sys
import unittest

from harness import DAEMON, OnSqlite, ProcessTest, as_root, merged, wait_until
from test_reconcile import NOW, check_counts, send_and_exit, started, worker

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


class ContainersTest(OnSqlite, ProcessTest):
    def reconcile(self, server):
        report = server.control.reconcile()
        check_counts(self, report)
        return report

    def container(self, server, run_id):
        inside = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", CONTAINER,
                                   str(server.socket_path), run_id], stdout=subprocess.PIPE, text=True)
        self.addCleanup(inside.stdout.close)
        self.addCleanup(inside.wait)
        self.addCleanup(inside.kill)
        self.assertEqual(inside.stdout.readline(), "sent\n")
        return inside

    def status_of(self, server, run_id):
        return server.database.runs()[run_id]["status"]

    def wait_stuck(self, server, run_id):
        """By a pass that is asked for, or one that the daemon makes by itself."""
        def stuck():
            self.reconcile(server)
            return self.status_of(server, run_id) == "stuck"
        wait_until(stuck, f"{run_id} to be stuck")
        self.assertEqual(server.database.runs()[run_id]["error"]["reason"], "process_gone")

    @unittest.skipUnless(as_root(), "needs to make containers of another user")
    def test_an_ordinary_users_daemon_tells_living_and_killed_containers_apart(self):
        server = self.daemon_with_database(merged(NOW, {"socket": {"mode": "0666"}}), user="nobody")
        server.start().wait_boot_pass()
        status = open(f"/proc/{server.process.pid}/status").read()
        self.assertIn(f"Uid:\t{pwd.getpwnam('nobody').pw_uid}\t", status)
        living, killed = self.container(server, "living"), self.container(server, "killed")
        server.wait_applied()
        rows = server.database.runs()
        self.assertNotEqual(rows["living"]["worker_process"], rows["killed"]["worker_process"])
        report = self.reconcile(server)
        self.assertEqual((report["alive"], report["marked"]), (2, 0), report)
        killed.kill()
        killed.wait()
        self.wait_stuck(server, "killed")
        # Only the worker is evidence of life: the sender has ended.
        server.stop()
        server.start().wait_boot_pass()
        report = self.reconcile(server)
        self.assertEqual((report["alive"], report["marked"]), (1, 0), report)
        self.assertEqual(self.status_of(server, "living"), "running")
        living.kill()
        living.wait()
        self.wait_stuck(server, "living")

    @unittest.skipUnless(as_root(), "needs to make a time namespace")
    def test_a_daemon_in_another_time_namespace_recognises_healthy_workers(self):
        server = self.daemon_with_database(NOW).start().wait_boot_pass()
        process = worker(self)
        send_and_exit(server, started("healthy", worker_pid=process.pid))
        server.wait_applied()
        server.stop()
        with open(server.log_path, "ab") as log:
            server.process = subprocess.Popen(["unshare", "--time", "--boottime", "864000", str(DAEMON), "--config",
                                               str(server.config_path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                              env=server.environment())
        server.wait_ready()
        self.assertIn("boottime", offsets := open(f"/proc/{server.process.pid}/timens_offsets").read())
        self.assertIn("864000", offsets)
        server.wait_boot_pass()
        report = self.reconcile(server)
        self.assertEqual((report["alive"], report["marked"]), (1, 0), report)
        self.assertEqual(self.status_of(server, "healthy"), "running")
        process.end()
        self.wait_stuck(server, "healthy")


if __name__ == "__main__":
    unittest.main()
