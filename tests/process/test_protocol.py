"""The line protocol over the real socket: every error code, every limit, bytes split anywhere."""

import json
import os
import signal
import socket
import subprocess

import pytest

from databases import on_both, on_postgres
from harness import Gone, as_root, wait_until
from oracle import Oracle

ONE_LINE = '{"type":"run_started","run_id":"r"}\n'


def started(run_id, **fields):
    return {"type": "run_started", "run_id": run_id, "council": "demo", **fields}


@pytest.fixture
def server(servers):
    return servers({"limits": {"line_bytes": "64KiB", "depth": 8}}).start()


def refused(server, line, code):
    with server.client() as client:
        client.send(line, started("after"))
        assert client.codes() == {1: code}, line[:200]
        return client.refusals[1]["message"]


def check_as_the_model_says(server, events):
    """The rows, the history and the totals of the ledger after these events."""
    server.send(*events)
    server.wait_applied()
    oracle = Oracle().apply_all(events)
    oracle.check(server.database)
    status = server.check_ledger()
    assert {name: status[name] for name in oracle.totals()} == oracle.totals()


def test_malformed_lines_are_invalid_json(server):
    for line in (b"{", b"nonsense", b'{"type":"a","run_id":"r"} x', b'{"type":"a","run_id":"\xff"}',
                 b'{"type":"a","run_id":"\xc0\xaf"}', b'{"type":"a","run_id":"\xed\xa0\x80"}',
                 b'{"type":"a","run_id":"\\ud800"}', b'{"type":"a","run_id":"r","n":1e309}',
                 b'{"type":"a","run_id":"r","n":9e308}', b'{"type":"a","run_id":"r","payload":{"n":[-9e308]}}',
                 b'{"type":"a","run_id":"r","usage":{"n":1e999}}', b'{"type":"a","run_id":"r","n":2' + b"0" * 308 + b"}",
                 b'{"type":"a","run_id":"r","n":' + b"1" * 1001 + b"}",
                 b'{"type":"a","type":"b","run_id":"r"}', b'{"type":"a","run_id":"r","payload":{"x":1,"x":1}}',
                 b'{"type":"a","run_id":"r","n":01}', b"'", b'{"type":"a","run_id":"a\tb"}'):
        refused(server, line, "invalid_json")


def test_valid_json_that_is_no_event_is_invalid_event_and_names_the_field(server):
    cases = [
        (b"[]", ""), (b"17", ""), (b"{}", "type"), (b'{"type":"run_started"}', "run_id"),
        ({"type": "Run", "run_id": "r"}, "type"), ({"type": "x" * 65, "run_id": "r"}, "type"),
        ({"type": 5, "run_id": "r"}, "type"), ({"type": "a", "run_id": ""}, "run_id"),
        ({"type": "a", "run_id": "x" * 256}, "run_id"), ({"type": "a", "run_id": "r", "id": ""}, "id"),
        ({"type": "a", "run_id": "r", "id": "x" * 65}, "id"), ({"type": "a", "run_id": "r", "id": None}, "id"),
        ({"type": "a", "run_id": "r", "at": "2026-01-02T03:04:05"}, "at"),
        ({"type": "a", "run_id": "r", "at": "0000-01-02T03:04:05Z"}, "at"),
        ({"type": "a", "run_id": "r", "at": "2026-02-30T03:04:05Z"}, "at"),
        ({"type": "a", "run_id": "r", "worker_pid": 0}, "worker_pid"),
        ({"type": "a", "run_id": "r", "worker_pid": 2**31}, "worker_pid"),
        ({"type": "a", "run_id": "r", "payload": []}, "payload"),
        ({"type": "a", "run_id": "r", "payload": {"x": 1}, "x": 2}, "x"),
        (started("r", attempt=0), "attempt"), (started("r", attempt=2**31), "attempt"),
        (started("r", attempt=None), "attempt"), (started("r", attempt=1.5), "attempt"),
        (started("r", oban_job_id=0), "oban_job_id"), (started("r", oban_job_id=2**63), "oban_job_id"),
        (started("r", parent_attempt_run_id=""), "parent_attempt_run_id"),
        ({"type": "run_started", "run_id": "r", "council": ""}, "council"),
        ({"type": "run_started", "run_id": "r", "council": "x" * 256}, "council"),
        ({"type": "run_failed", "run_id": "r", "errors": {}}, "errors"),
        ({"type": "run_failed", "run_id": "r", "errors": [5]}, "errors"),
        ({"type": "run_failed", "run_id": "r", "errors": None}, "errors"),
        (started("r", queue=""), "queue"), (started("r", queue="x" * 65), "queue"), (started("r", queue=None), "queue"),
        (started("r", job_id=""), "job_id"), (started("r", job_id="x" * 256), "job_id"), (started("r", job_id=1.5), "job_id"),
        (started("r", job_id="8", oban_job_id=7), "job_id"), (started("r", expires_in=0), "expires_in"),
        (started("r", expires_in=2_678_401), "expires_in"),
        ({"type": "run_heartbeat", "run_id": "r", "expires_in": "30"}, "expires_in"),
        ({"type": "run_completed", "run_id": "r", "job_state": None}, "job_state"),
        ({"type": "run_failed", "run_id": "r", "job_state": 5}, "job_state"),
        ({"type": "run_lost", "run_id": "r", "message": None}, "message"), (started("r", usage=[]), "usage"),
        ({"type": "note", "run_id": "r", "usage": {"n": "1"}}, "usage"), (started("r", progress={"total": 1}), "progress"),
        ({"type": "run_heartbeat", "run_id": "r", "progress": {"done": 1, "unit": 2}}, "progress"),
        ({"type": "run_stuck", "run_id": "r"}, "type"), ({"type": "run_revived", "run_id": "r"}, "type"),
        (b'{"type":"a","run_id":"r","payload":{"x":"\\u0000"}}', ""),
    ]
    for event, field in cases:
        line = event if isinstance(event, bytes) else json.dumps(event).encode()
        assert field in refused(server, line, "invalid_event"), line[:200]


def test_too_deep_wins_over_malformed(server):
    deep = b"[" * 8
    refused(server, b'{"type":"a","run_id":"r","payload":{"x":' + deep, "too_deep")
    refused(server, b'{"type":"a","run_id":"r","x":' + b"[" * 8 + b"]" * 8 + b"}", "too_deep")
    with server.client() as client:
        client.send(b'{"type":"a","run_id":"deep","x":' + b"[" * 7 + b"]" * 7 + b"}")
        assert client.codes() == {}


def test_a_line_that_is_too_large_is_skipped_to_its_end(server):
    with server.client() as client:
        client.queue(started("before"))
        client.queue({"type": "note", "run_id": "large", "payload": {"x": "y" * 300_000}})
        client.queue(started("after"))
        client.settle()
        assert client.codes() == {2: "too_large"}
    server.wait_applied()
    assert sorted(server.database.runs()) == ["after", "before"]


@on_both
def test_optional_nulls_unknown_types_and_foreign_fields_are_accepted(server):
    events = [started("n", input=None), {"type": "run_completed", "run_id": "n", "result": None},
              {"type": "some.thing_2", "run_id": "m", "extra": [1, 2.50], "payload": {"a": {"b": None}}},
              {"type": "run_completed", "run_id": "o", "council": 17, "errors": "not for this type"},
              {"type": "run_failed", "run_id": "p", "errors": []}, {"type": "run_failed", "run_id": "q"}]
    server.send(*events)
    server.wait_applied()
    Oracle().apply_all(events).check(server.database)


@on_both
def test_numbers_keep_their_exact_value(server):
    line = b'{"type":"note","run_id":"n","payload":{"a":0.10000000000000000001,"b":123456789012345678901234567890,"c":1e300}}'
    server.send(line)
    server.wait_applied()
    payload = server.database.events()["n"][0]["payload"]
    assert [str(payload["a"]), str(payload["b"])] == ["0.10000000000000000001", "123456789012345678901234567890"]


def test_answers_come_in_line_order_and_blank_lines_count(server):
    with server.client() as client:
        client.queue_bytes(b"\n  \r\n")
        client.queue(started("a"))
        client.queue_bytes(b"\n")
        client.queue(b"{", started("b"), b"[]")
        client.queue_bytes(b"\n")
        client.settle()
        assert client.codes() == {5: "invalid_json", 7: "invalid_event"}
        assert client.acked == 8


def test_the_last_line_needs_no_newline_and_a_half_closed_client_gets_all_answers(server):
    with server.client() as client:
        client.queue(*[started(f"r{number}") for number in range(500)])
        client.queue(b"broken")
        client.queue_bytes(json.dumps(started("last")).encode())
        client.finish()
        assert client.codes() == {501: "invalid_json"}
        assert client.acked == 502
    server.wait_applied()
    assert "last" in server.database.runs()


def test_bytes_may_arrive_one_at_a_time(server):
    line = json.dumps(started("slow", input={"text": "é✓"})).encode() + b"\n"
    with server.client() as client:
        for position in range(len(line)):
            client.queue_bytes(line[position:position + 1])
            client.flush()
        client.settle()
        assert client.codes() == {}
    server.wait_applied()
    assert server.database.runs()["slow"]["input"] == {"text": "é✓"}


def test_a_client_that_disconnects_within_a_line_harms_no_other(server):
    for _ in range(20):
        with server.client() as client:
            client.queue(started("whole"))
            client.queue_bytes(b'{"type":"run_st')
            client.flush()
    server.send(started("next"))
    server.wait_applied()
    assert sorted(server.database.runs()) == ["next", "whole"]


def test_a_client_that_never_reads_is_not_blocked_and_blocks_no_other(server, at_end):
    silent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    at_end(silent.close)
    silent.connect(str(server.socket_path))
    silent.settimeout(60)
    for number in range(20_000):
        silent.sendall(json.dumps({"type": "note", "run_id": "silent", "n": number}).encode() + b"\n")
    server.send(started("other"))
    status = server.wait_applied()
    assert status["accepted"] >= 20_001


def test_a_client_that_does_not_read_its_errors_is_closed(server, at_end):
    unread = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    at_end(unread.close)
    unread.connect(str(server.socket_path))
    unread.settimeout(60)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(200_000):
            unread.sendall(b"{\n")
    server.send(started("other"))


def test_by_hand_with_socat(server):
    done = subprocess.run(["socat", "-t5", "-", f"UNIX-CONNECT:{server.socket_path}"], text=True, check=True,
                          input='{"type":"run_started","run_id":"r1","council":"demo"}\n', capture_output=True)
    assert done.stdout == '{"acked":1}\n'


@on_both
def test_every_effect_is_in_the_history(server):
    events = [
        {"type": "run_queued", "run_id": "a", "council": "c", "id": "1"}, started("a", attempt=2, id="2"),
        {"type": "note", "run_id": "a", "id": "3"}, {"type": "note", "run_id": "a", "id": "3"},
        started("a", attempt=3), {"type": "member_token", "run_id": "a"},
        {"type": "run_completed", "run_id": "a", "result": 1}, {"type": "run_completed", "run_id": "a", "result": 1.0},
        {"type": "run_completed", "run_id": "a", "result": 2}, {"type": "run_failed", "run_id": "a", "errors": ["x"]},
        {"type": "run_queued", "run_id": "a", "oban_job_id": 7}, started("a"), {"type": "note", "run_id": "a"},
        {"type": "run_failed", "run_id": "b", "errors": [{"kind": "cancelled"}]}, {"type": "run_queued", "run_id": "b"},
    ]
    check_as_the_model_says(server, events)


@on_both
def test_jobs_heartbeats_findings_usage_and_progress(server):
    job = {"queue": "mail", "job_id": "a-7"}
    events = [
        started("a", id="1", expires_in=600, usage={"tokens": 10, "usd": 0.1}, **job),
        {"type": "run_heartbeat", "run_id": "a"}, {"type": "run_heartbeat", "run_id": "a", "expires_in": 900},
        {"type": "run_heartbeat", "run_id": "a", "id": "2", "usage": {"usd": 0.2}},
        {"type": "run_heartbeat", "run_id": "a", "id": "2", "usage": {"usd": 0.2}},
        {"type": "run_heartbeat", "run_id": "a", "progress": {"done": 3, "total": 9, "unit": "pages", "x": 1}},
        {"type": "note", "run_id": "a", "usage": {"tokens": 5}, "payload": {"n": 1e-320}},
        {"type": "run_lost", "run_id": "a", "message": "its process is gone"}, {"type": "run_lost", "run_id": "a"},
        {"type": "run_completed", "run_id": "a", "result": 1, "job_state": "completed"},
        {"type": "run_heartbeat", "run_id": "a"}, {"type": "run_lost", "run_id": "a"},
        {"type": "run_heartbeat", "run_id": "b", "id": "1"}, {"type": "run_lost", "run_id": "c", "id": "1"},
        {"type": "run_heartbeat", "run_id": "c"}, {"type": "run_queued", "run_id": "d", "job_id": 7},
        {"type": "run_lost", "run_id": "d", "at": "2026-01-02T03:04:05Z"}, started("e", oban_job_id=8),
    ]
    check_as_the_model_says(server, events)
    error = server.control.run("d").get("run", server.control.run("d"))["error"]
    assert (error["kind"], error["reason"]) == ("stuck", "reported_lost")


def test_excluded_heartbeats_and_findings_have_no_effect(servers):
    server = servers({"events": {"exclude": ["run_heartbeat", "run_lost"]}}).start()
    server.send({"type": "run_heartbeat", "run_id": "a"}, {"type": "run_lost", "run_id": "b"}, started("c"))
    server.wait_applied()
    assert list(server.database.runs()) == ["c"]
    assert server.status()["excluded"] == 2


@on_postgres
def test_times_are_utc_whatever_the_database_is_set_to(server):
    server.database.execute(f"ALTER DATABASE {server.database.name} SET TimeZone = 'Asia/Kolkata';"
                            f"ALTER DATABASE {server.database.name} SET DateStyle = 'German'")
    server.env["TZ"] = "America/Caracas"
    server.restart()
    events = [started("t", at="2026-01-02T03:04:05.678+01:00"), started("old", at="0001-01-01T00:00:00Z"),
              {"type": "run_completed", "run_id": "t", "at": "9999-12-31T23:59:59.999999Z"}]
    server.send(*events)
    server.wait_applied()
    row = server.control.run("t")
    row = row.get("run", row)
    assert row["started_at"] == "2026-01-02T02:04:05.678000Z"
    assert row["finalized_at"] == "9999-12-31T23:59:59.999999Z"


# ---- who is admitted


def test_one_connection_too_many_is_refused_and_closed(servers, at_end):
    server = servers({"limits": {"connections": 5}}).start()
    clients = []

    def until_refused():
        client = server.client()
        at_end(client.close)
        clients.append(client)
        try:
            client.send(started(f"r{len(clients)}"))
        except Gone:
            return client
        return None
    refused = wait_until(until_refused, "a connection to be refused")
    assert refused.codes() == {0: "unavailable"}
    assert len(clients) <= 7
    clients[0].close()

    def again():
        with server.client() as client:
            try:
                return client.send(started("again"))
            except Gone:
                return None
    wait_until(again, "room for a connection")


def answer_to(server, user=None):
    """What another process gets, of another user too."""
    account = {"user": user, "extra_groups": []} if user else {}
    return subprocess.run(["socat", "-t60", "-", f"UNIX-CONNECT:{server.socket_path}"], input=ONE_LINE,
                          capture_output=True, text=True, check=False, **account).stdout


def fill(at_end, server):
    """Takes all the connections that one process gets; returns the refusal of the next."""
    wait_until(lambda: server.status()["connections"]["open"] == 0, "the first look at the socket to be over")
    for number in range(10 * server.config["limits"]["connections"]):
        client = server.client()
        at_end(client.close)
        try:
            client.send({"type": "note", "run_id": f"held-{number}"})
        except Gone:
            return client.refusals[0]
    pytest.fail("one process gets as many connections as it wants")


def test_a_process_that_takes_all_connections_leaves_room_for_others(servers, at_end):
    server = servers({"limits": {"connections": 32}, "socket": {"mode": "0666"}}).start()
    mark = len(server.log())
    refusal = fill(at_end, server)
    assert refusal["code"] == "unavailable"
    assert "[limits] connections" in refusal["message"]
    assert answer_to(server) == '{"acked":1}\n'
    if as_root():
        assert answer_to(server, "nobody") == '{"acked":1}\n'
    status = server.status()["connections"]
    assert (status["limit"], status["reserve"], status["over_limit"]) == (32, 4, 1)
    said = server.wait_for_log(rf"too many connections.*: 32 are open, 32 of them of user {os.getuid()}, 32 of its process "
                               rf"{os.getpid()}", after=mark)
    assert len(said) == 1


@pytest.mark.skipif(not as_root(), reason="needs to become other users")
def test_a_user_whose_processes_take_all_connections_leaves_room_for_other_users(servers, at_end):
    server = servers({"limits": {"connections": 16}, "socket": {"mode": "0666"}}).start()
    fill(at_end, server)
    refused = ""
    for _ in range(10):  # each a process of its own that stays
        holder = subprocess.Popen(["socat", "-t60", "-", f"UNIX-CONNECT:{server.socket_path}"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        at_end(holder.communicate)
        holder.stdin.write(ONE_LINE)
        holder.stdin.flush()
        refused = holder.stdout.readline()
        if "unavailable" in refused:
            break
    assert "unavailable" in refused
    assert answer_to(server, "nobody") == '{"acked":1}\n'
    assert answer_to(server, "daemon") == '{"acked":1}\n'


@pytest.mark.parametrize("key, own, other", (("allow_users", os.getuid(), "nobody"), ("allow_groups", os.getgid(), "nogroup")))
def test_a_reload_closes_the_connections_of_those_who_may_no_longer_send(servers, key, own, other):
    server = servers({"socket": {key: [str(own)]}}).start()
    with server.client() as client:
        client.send(started("r"))
        server.config["socket"][key] = [str(own), other]
        server.write_config()
        mark = len(server.log())
        server.signal(signal.SIGHUP)
        server.wait_for_log("reloaded", after=mark)
        client.send({"type": "note", "run_id": "r"})  # it still may
        server.config["socket"][key] = [other]
        server.write_config()
        server.signal(signal.SIGHUP)
        client.read_to_end()
        assert (client.acked, client.codes()) == (2, {0: "forbidden"})
    wait_until(lambda: server.status()["connections"]["open"] == 0, "the connection to be closed")
    assert server.status()["connections"]["forbidden"] == 1


@pytest.mark.skipif(not as_root(), reason="needs to become other users")
def test_a_peer_that_may_not_send_is_forbidden(servers):
    server = servers({"socket": {"allow_users": ["nobody"], "mode": "0666"}}).start()

    def answers_for(user):
        return subprocess.run(["socat", "-t5", "-", f"UNIX-CONNECT:{server.socket_path}"], user=user, extra_groups=[],
                              input='{"type":"run_started","run_id":"r"}\n', capture_output=True, text=True,
                              check=False).stdout
    assert answers_for("nobody") == '{"acked":1}\n'
    error = json.loads(answers_for("daemon"))["error"]
    assert (error["line"], error["code"]) == (0, "forbidden")


def test_a_full_spool_refuses_until_there_is_room(servers, at_end):
    server = servers({"spool": {"max_bytes": "1MiB"}}).start()
    blocker = server.database._connect()
    at_end(blocker.close)
    blocker.execute("BEGIN IMMEDIATE")
    with server.client() as client:
        while "spool_full" not in client.codes().values():
            client.send(*[{"type": "note", "run_id": "n", "x": "y" * 1000} for _ in range(100)])
            assert client.sent < 5000
        client.send(started("lifecycle"))  # the last tenth is for these
        assert client.sent not in client.refusals
        blocker.execute("ROLLBACK")
        server.wait_applied()
        before = client.sent
        client.send(*[{"type": "note", "run_id": "n"} for _ in range(100)])
        assert not [line for line in client.refusals if line > before]
        assert set(client.codes().values()) == {"spool_full"}
        accepted = client.sent - len(client.refusals)
    server.wait_applied()
    assert server.check_ledger()["accepted"] == accepted


def test_half_lines_share_a_bound_and_give_way(servers, at_end):
    """Long lines share 16 MiB; one that holds its share without progress is refused, and its connection goes on."""
    server = servers().start()
    holders = [server.client() for _ in range(20)]  # four more than there is room for
    for holder in holders:
        at_end(holder.close)
        holder.queue_bytes(b'{"type":"note","run_id":"n","x":"' + b"y" * 1_000_000)
        holder.pump(0)
    server.send(started("short"))  # needs no share

    def all_refused():
        for holder in holders:
            holder.pump(0)
        return all(holder.codes() == {1: "unavailable"} for holder in holders)
    wait_until(all_refused, "every half line to be refused, those that waited for room too")
    with server.client() as client:
        client.send({"type": "note", "run_id": "long", "x": "y" * 900_000})
        assert client.codes() == {}
    for number, holder in enumerate(holders):
        holder.queue_bytes(b'"}\n')
        holder.send(started(f"goes-on-{number}"))
        assert (holder.codes(), holder.acked) == ({1: "unavailable"}, 2)
    server.wait_applied()
    assert sorted(server.database.runs()) == sorted(["short", "long", *(f"goes-on-{number}" for number in range(20))])


def test_a_broken_pipe_does_not_end_the_daemon(servers):
    server = servers().start()
    for number in range(50):
        client = server.client()
        client.queue(*[b"{" for _ in range(100)])
        client.flush()
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    os.kill(server.process.pid, signal.SIGPIPE)
    server.send(started("still-there"))
