"""Acknowledged means durable: restarts, kill -9 under load, a database that comes and goes, signals under load. Each test
ends with the independent model over every row and every entry of the history, and with the ledger."""

import resource
import signal

import pytest

from databases import on_both, on_postgres
from harness import SANITIZER, Gone, wait_until
from load import EVENTS_PER_SENDER, SENDERS, Sender, all_done, pump_until
from oracle import DEFAULT_EXCLUDED, Oracle, accepted_prefix
from workload import stream


def load(at_end, server, seed):
    senders = [Sender(server, stream(seed, EVENTS_PER_SENDER, f"s{number}")) for number in range(SENDERS)]
    for sender in senders:
        at_end(sender.close)
        sender.connect()
    return senders


def check_everything(server, senders):
    """All of it was accepted and applied, exactly once."""
    server.wait_applied()
    oracle = Oracle()
    for sender in senders:
        assert sender.done
        oracle.apply_all(sender.events)
    oracle.check(server.database)
    status = server.check_ledger()
    assert status["applied"] == oracle.totals()["applied"]
    assert status["duplicate"] >= oracle.totals()["duplicate"]
    assert status["dead_letters"] == 0
    return oracle


@on_both
def test_restart_keeps_rows_ledger_and_identity(servers):
    server = servers().start()
    first = [{"type": "run_started", "run_id": "a", "id": "1"}, {"type": "run_started", "run_id": "b"}]
    server.send(*first)
    server.wait_applied()
    before = server.status()
    server.restart()
    second = [{"type": "run_completed", "run_id": "a", "result": 1}, {"type": "run_started", "run_id": "a", "id": "1"}]
    server.send(*second)
    server.wait_applied()
    after = server.check_ledger()
    assert (after["accepted"], after["applied"], after["duplicate"]) == (before["accepted"] + 2, 3, 1)
    oracle = Oracle().apply_all(first + second[:1])
    assert server.database.runs()["a"]["status"] == "completed"
    recorders = server.database.rows("SELECT * FROM council_ex_recorders")
    assert len(recorders) == 1
    assert oracle.runs["a"].status == "completed"


@on_both
def test_kill_9_under_load_loses_nothing_and_applies_nothing_twice(servers, at_end):
    server = servers().start()
    senders = load(at_end, server, 1)
    total = EVENTS_PER_SENDER * SENDERS
    for share in (0.15, 0.4, 0.6):
        pump_until(senders, lambda: sum(sender.settled for sender in senders) > share * total)
        server.kill()
        drain_answers(senders)
        server.start()
        for sender in senders:
            sender.connect()
    # The last time nobody resends: what was acknowledged is there, and of the rest an unbroken beginning.
    pump_until(senders, lambda: sum(sender.settled for sender in senders) > 0.85 * total)
    server.kill()
    drain_answers(senders)
    server.start()
    server.wait_applied()
    histories = server.database.events()
    oracle = Oracle()
    acknowledged = found = 0
    for sender in senders:
        mine = {event["run_id"] for event in sender.events}
        ids = {entry["event_id"] for run_id in mine for entry in histories.get(run_id, [])}
        count = accepted_prefix(sender.sent(), sender.settled, ids, DEFAULT_EXCLUDED)
        oracle.apply_all(sender.events[:count])
        acknowledged += sender.settled
        found += count
    # A run of which only excluded or no events came has no row.
    oracle.runs = {run_id: run for run_id, run in oracle.runs.items() if run.history}
    oracle.check(server.database)
    status = server.check_ledger()
    assert status["applied"] == oracle.totals()["applied"]
    assert acknowledged >= 0.85 * total
    print(f"kill -9 x 4 on {server.database.kind}: {acknowledged} events acknowledged, {found} found, 0 lost, 0 twice")


def drain_answers(senders):
    """What the daemon had answered before it died counts."""
    for sender in senders:
        try:
            while not sender.done:
                sender.step()
        except Gone:
            pass


@on_both
def test_sigterm_under_load_settles_what_was_read_and_exits_0(servers, at_end):
    server = servers().start()
    senders = load(at_end, server, 2)
    pump_until(senders, lambda: sum(sender.settled for sender in senders) > EVENTS_PER_SENDER)
    server.signal(signal.SIGTERM)
    drain_answers(senders)
    assert server.wait() == 0
    server.start()
    for sender in senders:
        sender.connect()
    pump_until(senders, all_done(senders))
    check_everything(server, senders)


@on_both
def test_an_outage_in_the_middle_of_a_load_is_caught_up(servers, at_end):
    server = servers().start()
    senders = load(at_end, server, 3)
    pump_until(senders, lambda: sum(sender.settled for sender in senders) > EVENTS_PER_SENDER)
    with server.database.away():
        before = server.status()["accepted"]
        pump_until(senders, lambda: server.status()["accepted"] > before + EVENTS_PER_SENDER)
        assert server.check_ledger()["waiting"] > 0
        server.kill()  # the backlog is on disk, and so is the ledger
        drain_answers(senders)
        server.start()
        for sender in senders:
            sender.connect()
        pump_until(senders, all_done(senders))
        assert server.check_ledger()["waiting"] > 0
    check_everything(server, senders)


@on_both
def test_a_read_over_the_control_socket_sees_what_was_acknowledged_before(servers):
    server = servers().start().wait_tables()
    with server.client() as client:
        for number in range(50):
            client.send({"type": "run_started", "run_id": f"r{number}", "council": "c"})
            assert server.control.request("GET", f"/v1/runs/r{number}").status == 200


@on_both
def test_drain_empties_the_spool(servers):
    server = servers().start()
    with server.database.away():
        server.send(*[{"type": "run_started", "run_id": f"r{number}"} for number in range(500)])
        server.kill()
    done = server.run("--drain")
    assert done.returncode == 0, done.stderr
    assert len(server.database.runs()) == 500
    server.start()
    assert server.check_ledger()["applied"] == 500


@on_both
@pytest.mark.skipif(bool(SANITIZER), reason="a sanitizer's memory is its own")
def test_memory_stays_bounded_with_1000_connections_and_a_backlog(servers, at_end):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2500:
        pytest.skip("the limit of open files is too low")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2500), hard))
    server = servers({"limits": {"connections": 1100}}).start()
    clients = []
    for _ in range(1000):
        client = server.client()
        at_end(client.close)
        clients.append(client)
    with server.database.away():
        for batch in range(40):
            senders = clients[batch % 10::10]
            for client in senders:
                client.queue(*[{"type": "note", "run_id": f"r{batch}", "id": f"{id(client)}-{batch}-{number}",
                                "text": "x" * 700} for number in range(20)])
            for client in senders:
                client.settle()
        backlog = server.status()["waiting"]
        assert backlog == 40 * 100 * 20
        idle_kib = server.rss_kib()
    server.wait_applied()
    peak_kib = server.rss_kib("VmHWM")
    print(f"1,000 connections and a backlog of {backlog} events on {server.database.kind}: {idle_kib // 1024} MiB resident,"
          f" {peak_kib // 1024} MiB at most")
    assert peak_kib <= 64 * 1024
    server.check_ledger()


@on_postgres
def test_a_daemon_that_starts_before_its_database_serves_and_catches_up(servers):
    server = servers()
    events = stream(5, 500, "early")
    with server.database.away():
        server.start()
        server.send(*events)
        status = server.check_ledger()
        assert status["waiting"] + status["excluded"] == 500
        assert server.control.get("/v1/runs").status == 503
    server.wait_applied()
    Oracle().apply_all(events).check(server.database)


@on_postgres
def test_an_outage_is_logged_once_when_it_begins_and_once_when_it_ends(servers):
    server = servers({"log": {"format": "json"}}).start()
    server.send({"type": "run_started", "run_id": "a"})
    server.wait_applied()
    mark = len(server.log())
    with server.database.away():
        server.send(*[{"type": "note", "run_id": "a"} for _ in range(10)])
        server.wait_for_log(r'"error"', after=mark)
        wait_until(lambda: server.check_ledger()["waiting"] == 10, "the ledger to show the backlog")
    server.wait_applied()
    errors = [line for line in server.log()[mark:].splitlines() if '"error"' in line]
    assert len(errors) <= 2, errors


@on_postgres
def test_a_frozen_server_is_an_outage_too(servers, cluster):
    server = servers().start()
    server.send({"type": "run_started", "run_id": "a"})
    server.wait_applied()
    with cluster.frozen():
        server.send(*[{"type": "note", "run_id": "a"} for _ in range(100)])
        assert server.check_ledger()["accepted"] == 101
        assert server.control.request("GET", "/healthz").status == 200
    server.wait_applied()
    assert len(server.database.events()["a"]) == 101


@on_postgres
def test_a_frozen_server_does_not_hold_up_the_end(servers, cluster):
    server = servers({"daemon": {"shutdown_timeout": "1s"}}).start()
    server.send({"type": "run_started", "run_id": "a"})
    server.wait_applied()
    with cluster.frozen():
        server.send(*[{"type": "note", "run_id": "a"} for _ in range(100)])
        server.signal(signal.SIGTERM)
        assert server.wait(20) == 0  # a call to the database may take 30 s otherwise
    server.start()
    assert server.wait_applied()["applied"] == 101


@on_postgres
def test_a_second_sigterm_exits_at_once(servers, cluster):
    server = servers({"daemon": {"shutdown_timeout": "1h"}}).start()
    server.send({"type": "run_started", "run_id": "a"})
    server.wait_applied()
    with cluster.frozen():
        server.send(*[{"type": "note", "run_id": "a"} for _ in range(100)])
        server.signal(signal.SIGTERM)
        wait_until(lambda: not server._accepts(server.socket_path), "the daemon to stop accepting")
        assert server.alive()
        server.signal(signal.SIGTERM)
        server.wait()
    server.start()
    assert server.wait_applied()["applied"] == 101


@on_postgres
def test_a_server_that_is_killed_again_and_again_gets_every_event_once(servers, cluster, at_end):
    server = servers().start()
    senders = load(at_end, server, 4)
    for round_number in range(1, 4):
        pump_until(senders, lambda: sum(sender.settled for sender in senders) > round_number * EVENTS_PER_SENDER)
        cluster.kill()
        cluster.start()
    pump_until(senders, all_done(senders))
    check_everything(server, senders)


@on_postgres
def test_one_bad_row_becomes_a_dead_letter_and_costs_its_neighbours_nothing(servers):
    server = servers().start()
    server.wait_tables()
    server.database.execute("ALTER TABLE council_ex_run_events ADD CONSTRAINT poison CHECK (payload->>'poison' IS NULL)")
    events = stream(6, 2_000, "p")
    poison = [{"type": "note", "run_id": events[0]["run_id"], "id": f"poison-{n}", "poison": "yes"} for n in range(3)]
    mixed = events[:500] + poison[:1] + events[500:1_000] + poison[1:] + events[1_000:]
    server.send(*mixed)
    status = server.wait_applied()
    assert status["dead_letters"] == 3
    Oracle().apply_all(events).check(server.database)
    server.check_ledger()
    letters = server.control.ok("GET", "/v1/dead-letters")["dead_letters"]
    assert len(letters) == 3
    server.database.execute("ALTER TABLE council_ex_run_events DROP CONSTRAINT poison")
    assert server.control.post(f"/v1/dead-letters/{letters[0]['id']}/retry").status == 200
    assert server.control.delete(f"/v1/dead-letters/{letters[1]['id']}").status // 100 == 2
    wait_until(lambda: server.check_ledger()["dead_letters"] == 1, "the dead letters to be dealt with")
    assert server.check_ledger()["dead_letters_removed"] == 1
