"""The control socket as a script sees it: HTTP as such, what is away, what waits, a pass under way."""

import http.client
import json
import re
import socket
import subprocess
import threading

import pytest

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
    """On a port that nobody uses; where somebody takes it just before the daemon does, that waits for it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server.config["metrics"] = {"listen": f"127.0.0.1:{port}"}
    server.start()
    wait_until(lambda: server.status()["metrics"]["state"] == "listening", "the metrics to be served")
    return port


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


@pytest.mark.parametrize("taken", (True, False), ids=("taken", "not-there"))
def test_metrics_that_cannot_be_served_keep_nobody_from_recording(servers, at_end, taken):
    """The address is another program's, or no address of this host (TEST-NET-1)."""
    server = servers()
    other = socket.socket()
    at_end(other.close)
    other.bind(("127.0.0.1", 0))
    other.listen()
    address = f"127.0.0.1:{other.getsockname()[1]}" if taken else "192.0.2.1:9464"
    server.config["metrics"] = {"listen": address}
    server.start()
    server.send({"type": "run_started", "run_id": "r1"})
    server.wait_applied()
    metrics = server.status()["metrics"]
    assert (metrics["listen"], metrics["state"]) == (address, "not_listening")
    assert address in metrics["error"]
    shown = server.tool("status")
    assert shown.returncode == 0, "events are accepted"
    assert re.search(rf"metrics +not served: .*{re.escape(address)}", shown.stdout), shown.stdout
    assert "\nrun_recorder_metrics_listening 0\n" in server.control.get("/metrics").text
    assert len(server.wait_for_log(rf" error metrics are not served: .*{re.escape(address)}")) == 1
    if not taken:
        return
    other.close()
    wait_until(lambda: server.status()["metrics"]["state"] == "listening", "it to be tried again")
    assert scrape(int(address.rpartition(":")[2])) == 200
    assert "\nrun_recorder_metrics_listening 1\n" in server.control.get("/metrics").text
    server.wait_for_log("metrics are served again")


def test_a_metrics_address_that_is_none_is_a_mistake_of_the_configuration(servers):
    server = servers({"metrics": {"listen": "nowhere"}})
    done = server.run()
    assert done.returncode == 78
    assert "metrics.listen" in done.stderr


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
