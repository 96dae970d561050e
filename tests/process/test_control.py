"""The control socket as a script sees it: HTTP as such, what is away, what waits, a pass under way."""

import http.client
import json
import socket
import subprocess
import threading

from databases import on_postgres
from harness import DEADLINE_S, parse_time, wait_until

LIMIT = 32  # connections to [metrics] listen


def test_head_is_get_without_the_body(servers):
    server = servers().start()
    server.send({"type": "run_started", "run_id": "r1"})
    for target in ("/healthz", "/metrics", "/v1/status", "/v1/runs", "/v1/runs/r1"):
        answer = server.control.request("HEAD", target)
        assert (answer.status, answer.text) == (200, ""), target
        assert int(answer.headers["Content-Length"]) > 10, target
    assert server.control.request("HEAD", "/v1/runs/none").status == 404


def test_parameters_that_nothing_takes_are_refused(servers):
    server = servers().start()
    server.send({"type": "run_started", "run_id": "r1"})
    for target in ("/v1/runs?foo=1", "/v1/runs/r1?foo=1", "/v1/runs/r1/chain?status=running", "/v1/runs/r1/explain?x",
                   "/v1/runs/r1/events?status=running", "/v1/reconciliations?pass=x", "/v1/dead-letters?x=1"):
        answer = server.control.get(target)
        assert (answer.status, answer.json["error"]["code"]) == (400, "invalid"), target


def test_events_are_counted_by_type_and_outcome(servers):
    server = servers({"events": {"exclude": ["noise"]}}).start()
    server.send({"type": "run_started", "run_id": "r1"}, {"type": "noise", "run_id": "r1"}, {"type": "noise", "run_id": "r1"})
    served = server.control.get("/metrics").text
    assert 'run_recorder_received_events_total{type="run_started",outcome="accepted"} 1\n' in served
    assert 'run_recorder_received_events_total{type="noise",outcome="excluded"} 2\n' in served


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


def scrape(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_full_metrics_listener_does_not_block_the_control_socket(servers, at_end):
    server = servers()
    port = start_with_metrics(server)
    mark = len(server.log())
    held = []
    for _ in range(LIMIT):
        held.append(socket.create_connection(("127.0.0.1", port), DEADLINE_S))
        at_end(held[-1].close)
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as over:
            answer = b"".join(iter(lambda: over.recv(65536), b"")).decode()
        head, _, body = answer.partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 503 "), answer
        assert json.loads(body)["error"]["code"] == "unavailable"
    # With 128 of them the control socket answered nobody any more.
    listeners = server.status()["listeners"]
    assert listeners["metrics"] == {"open": LIMIT, "limit": LIMIT, "refused": 100}
    assert listeners["control"]["refused"] == 0
    assert 'run_recorder_http_connections_refused_total{listener="metrics"} 100\n' in server.control.get("/metrics").text
    server.send({"type": "run_started", "run_id": "r1"})
    assert server.control.run("r1")["status"] == "running"
    assert len(server.wait_for_log(r"too many connections to \[metrics\] listen", after=mark)) == 1
    for connection in held:
        connection.close()
    wait_until(lambda: scrape(port) == 200, "room for a scrape")


def test_a_full_file_system_is_reported(servers):
    server = servers({"spool": {"min_free": "1000TiB"}}).start()
    answer = server.control.get("/readyz")
    assert answer.status == 503
    assert "min_free" in answer.json["error"]["message"]
    assert server.control.get("/healthz").status == 200
    with server.client() as client:
        client.send({"type": "run_started", "run_id": "r1"})
        assert client.codes() == {1: "spool_full"}
    assert server.restart().status()["accepted"] == 0


def test_the_oldest_event_that_waits_has_an_age_also_after_a_restart(daemons):
    server = daemons("postgresql://nobody@127.0.0.1:1/none").start()
    server.send({"type": "run_started", "run_id": "r1"})
    first = wait_until(lambda: parse_time(server.status()["spool"]["oldest_at"]), "its time")
    server.restart()
    started = parse_time(server.status()["started_at"])
    server.send({"type": "run_completed", "run_id": "r1"})

    def oldest():
        time = parse_time(server.status()["spool"]["oldest_at"])
        return time if time and time < started else None
    assert abs((wait_until(oldest, "the time of the first event") - first).total_seconds()) < 5
    served = server.control.get("/metrics").text
    age = float(served.partition("\nrun_recorder_spool_oldest_age_seconds ")[2].partition("\n")[0])
    assert age > 0
    assert "the oldest from" in server.tool("status").stdout


def test_nothing_that_waits_has_no_age(daemons):
    server = daemons().start()
    assert server.status()["spool"]["oldest_at"] is None
    assert "\nrun_recorder_spool_oldest_age_seconds 0\n" in server.control.get("/metrics").text


@on_postgres
def test_the_progress_of_a_pass_is_in_the_status(servers):
    server = servers({"reconcile": {"grace": "0s"}}).start()
    wait_until(lambda: server.status()["reconciliation"]["boot_done"], "the boot pass")
    assert server.status()["reconciliation"]["under_way"] is None
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
        assert (under_way["examined"], under_way["marked"]) == (0, 0)
        assert server.control.post("/v1/reconcile").status == 409
        holder.stdin.write("ROLLBACK;\n")
        holder.stdin.close()
    asking.join()
    assert (made[0]["pass_id"], made[0]["marked"]) == (under_way["pass_id"], 1)
    assert server.status()["reconciliation"]["under_way"] is None
