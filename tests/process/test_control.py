"""The control socket as a script sees it: HTTP as such, what is away, what waits, a pass under way."""

import http.client
import json
import socket
import subprocess
import threading
import unittest

from harness import DEADLINE_S, OnPostgres, OnSqlite, parse_time, ProcessTest, wait_until


class Http(OnSqlite, ProcessTest):
    def test_head_is_get_without_the_body(self):
        server = self.daemon_with_database().start()
        server.send({"type": "run_started", "run_id": "r1"})
        for target in ("/healthz", "/metrics", "/v1/status", "/v1/runs", "/v1/runs/r1"):
            answer = server.control.request("HEAD", target)
            self.assertEqual((answer.status, answer.text), (200, ""), target)
            self.assertGreater(int(answer.headers["Content-Length"]), 10, target)
        self.assertEqual(server.control.request("HEAD", "/v1/runs/none").status, 404)

    def test_parameters_that_nothing_takes_are_refused(self):
        server = self.daemon_with_database().start()
        server.send({"type": "run_started", "run_id": "r1"})
        for target in ("/v1/runs?foo=1", "/v1/runs/r1?foo=1", "/v1/runs/r1/chain?status=running", "/v1/runs/r1/explain?x",
                       "/v1/runs/r1/events?status=running", "/v1/reconciliations?pass=x", "/v1/dead-letters?x=1"):
            answer = server.control.get(target)
            self.assertEqual((answer.status, answer.json["error"]["code"]), (400, "invalid"), target)

    def test_events_are_counted_by_type_and_outcome(self):
        server = self.daemon_with_database({"events": {"exclude": ["noise"]}}).start()
        server.send({"type": "run_started", "run_id": "r1"}, {"type": "noise", "run_id": "r1"}, {"type": "noise", "run_id": "r1"})
        served = server.control.get("/metrics").text
        self.assertIn('run_recorder_received_events_total{type="run_started",outcome="accepted"} 1\n', served)
        self.assertIn('run_recorder_received_events_total{type="noise",outcome="excluded"} 2\n', served)


def start_with_metrics(server):
    """On a port that nobody uses; somebody may take it just before the daemon does."""
    for _ in range(50):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server.config["metrics"] = {"listen": f"127.0.0.1:{port}"}
        server.write_config()
        server.spawn()
        if wait_until(lambda: server.process.poll() or server._accepts(server.socket_path), "the daemon") != 69:
            server.wait_ready()
            return port
    raise AssertionError("no port is free")


class Listeners(OnSqlite, ProcessTest):
    LIMIT = 32

    @staticmethod
    def scrape(port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().status
        finally:
            connection.close()

    def test_a_full_metrics_listener_does_not_block_the_control_socket(self):
        server = self.daemon_with_database()
        port = start_with_metrics(server)
        mark = len(server.log())
        held = []
        for _ in range(self.LIMIT):
            held.append(socket.create_connection(("127.0.0.1", port), DEADLINE_S))
            self.addCleanup(held[-1].close)
        for _ in range(100):
            with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as over:
                answer = b"".join(iter(lambda: over.recv(65536), b"")).decode()
            head, _, body = answer.partition("\r\n\r\n")
            self.assertTrue(head.startswith("HTTP/1.1 503 "), answer)
            self.assertEqual(json.loads(body)["error"]["code"], "unavailable")
        # With 128 of them the control socket answered nobody any more.
        listeners = server.status()["listeners"]
        self.assertEqual(listeners["metrics"], {"open": self.LIMIT, "limit": self.LIMIT, "refused": 100})
        self.assertEqual(listeners["control"]["refused"], 0)
        self.assertIn('run_recorder_http_connections_refused_total{listener="metrics"} 100\n', server.control.get("/metrics").text)
        server.send({"type": "run_started", "run_id": "r1"})
        self.assertEqual(server.control.run("r1")["status"], "running")
        self.assertEqual(len(server.wait_for_log(r"too many connections to \[metrics\] listen", after=mark)), 1)
        for connection in held:
            connection.close()
        wait_until(lambda: self.scrape(port) == 200, "room for a scrape")


class Readiness(OnSqlite, ProcessTest):
    def test_a_full_file_system_is_reported(self):
        server = self.daemon_with_database({"spool": {"min_free": "1000TiB"}}).start()
        answer = server.control.get("/readyz")
        self.assertEqual(answer.status, 503)
        self.assertIn("min_free", answer.json["error"]["message"])
        self.assertEqual(server.control.get("/healthz").status, 200)
        with server.client() as client:
            client.send({"type": "run_started", "run_id": "r1"})
            self.assertEqual(client.codes(), {1: "spool_full"})
        self.assertEqual(server.restart().status()["accepted"], 0)


class OldestWaiting(ProcessTest):
    def test_the_oldest_event_that_waits_has_an_age_also_after_a_restart(self):
        server = self.daemon("postgresql://nobody@127.0.0.1:1/none").start()
        server.send({"type": "run_started", "run_id": "r1"})
        first = wait_until(lambda: parse_time(server.status()["spool"]["oldest_at"]), "its time")
        server.restart()
        started = parse_time(server.status()["started_at"])
        server.send({"type": "run_completed", "run_id": "r1"})

        def oldest():
            time = parse_time(server.status()["spool"]["oldest_at"])
            return time if time and time < started else None
        self.assertLess(abs((wait_until(oldest, "the time of the first event") - first).total_seconds()), 5)
        served = server.control.get("/metrics").text
        age = float(served.partition("\nrun_recorder_spool_oldest_age_seconds ")[2].partition("\n")[0])
        self.assertGreater(age, 0)
        self.assertIn("the oldest from", server.tool("status").stdout)

    def test_nothing_that_waits_has_no_age(self):
        server = self.daemon().start()
        self.assertIsNone(server.status()["spool"]["oldest_at"])
        self.assertIn("\nrun_recorder_spool_oldest_age_seconds 0\n", server.control.get("/metrics").text)


class PassProgress(OnPostgres, ProcessTest):
    def test_the_progress_of_a_pass_is_in_the_status(self):
        server = self.daemon_with_database({"reconcile": {"grace": "0s"}}).start()
        wait_until(lambda: server.status()["reconciliation"]["boot_done"], "the boot pass")
        self.assertIsNone(server.status()["reconciliation"]["under_way"])
        # Only a pass that was asked for marks it: nothing shows that it lives, nor that it is gone.
        server.tool("emit", "--type", "run_started", "--run-id", "r1", "--no-worker-pid")
        server.wait_applied()
        # A lock that somebody else holds keeps the pass from marking.
        with subprocess.Popen(["psql", "-X", "-A", "-t", "-q", "-d", server.database.url], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as holder:
            holder.stdin.write("BEGIN;\nSELECT 1 FROM council_ex_runs FOR UPDATE;\n")
            holder.stdin.flush()
            wait_until(lambda: holder.stdout.readline().strip() == "1", "the lock")
            made = []
            asking = threading.Thread(target=lambda: made.append(server.control.reconcile(unvouched=True)))
            asking.start()
            under_way = wait_until(lambda: server.status()["reconciliation"]["under_way"], "the pass")
            self.assertEqual((under_way["examined"], under_way["marked"]), (0, 0))
            self.assertEqual(server.control.post("/v1/reconcile").status, 409)
            holder.stdin.write("ROLLBACK;\n")
            holder.stdin.close()
        asking.join()
        self.assertEqual((made[0]["pass_id"], made[0]["marked"]), (under_way["pass_id"], 1))
        self.assertIsNone(server.status()["reconciliation"]["under_way"])


if __name__ == "__main__":
    unittest.main()
