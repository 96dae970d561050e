"""Retention: finished runs go when their time is over, chains together, beside live ingestion, and do not come back."""

import json
import os
import pwd
import signal
import threading

from databases import on_both, on_postgres
from harness import TOOL, Terminal, wait_until


def started(servers, retention=None, **config):
    server = servers({"retention": {"interval": "0s", **(retention or {})},
                      "reconcile": {"interval": "0s", "grace": "1h"}, **config})
    return server.start()


def age(server, days, where="true"):
    """Makes rows look as if all about them had happened days ago."""
    past = (f"now() - interval '{days} days'" if server.database.kind == "postgresql"
            else f"strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '-{days} days')")
    server.database.execute(f"UPDATE council_ex_runs SET inserted_at = {past}, updated_at = {past}, "
                            f"last_event_at = {past} WHERE {where};")


def run_of(run_id, council="demo", end="run_completed", **started):
    events = [{"type": "run_started", "run_id": run_id, "id": f"{run_id}-s", "council": council, **started}]
    if end:
        events.append({"type": end, "run_id": run_id, "id": f"{run_id}-e"})
    return events


def prune(server, *flags, status=0):
    done = server.tool("prune", "--json", *flags)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def on_terminal(server, at_end, *flags):
    terminal = Terminal(str(TOOL), "--control", str(server.control_path), "prune", *flags)
    at_end(os.close, terminal.fd)
    return terminal


def ids(server):
    return sorted(server.database.runs())


@on_both
def test_only_what_is_finished_and_old_goes_and_dry_run_only_counts(servers):
    server = started(servers, {"keep": "30d"})
    server.send(*run_of("old"), *run_of("young"), *run_of("active", end=None))
    server.wait_applied()
    age(server, 40, "run_id <> 'young'")
    assert prune(server, "--dry-run") == {"dry_run": True, "examined": 2, "runs": 1, "events": 2, "kept": 0, "nothing_due": False}
    assert ids(server) == ["active", "old", "young"]
    assert prune(server)["runs"] == 1
    assert ids(server) == ["active", "young"]
    assert sorted(server.database.events()) == ["active", "young"]
    assert prune(server)["runs"] == 0
    assert "run_recorder_pruned_runs_total 1\n" in server.control.get("/metrics").text


def test_where_no_time_is_over_ever_there_is_no_next_page(servers):
    server = started(servers)
    answer = server.control.ok("POST", "/v1/prune?limit=10&cursor=x")
    assert (answer["nothing_due"], answer["next"]) == (True, None)


@on_both
def test_times_by_status_and_council(servers):
    server = started(servers, {"keep": "10d", "failed": "0s"}, **{"retention.councils": {'"My.Nightly"': "1d", "audit": "0s"}})
    server.send(*run_of("done"), *run_of("failed", end="run_failed"),
                *run_of("nightly", council="My.Nightly", end="run_failed"), *run_of("audit", council="audit"))
    server.wait_applied()
    age(server, 5)
    assert prune(server)["runs"] == 1
    assert ids(server) == ["audit", "done", "failed"]
    age(server, 20)
    assert prune(server)["runs"] == 1
    assert ids(server) == ["audit", "failed"]
    assert prune(server, "--older-than", "1d", "--status", "failed")["runs"] == 1
    assert ids(server) == ["audit"]
    assert prune(server, "--older-than", "1d", "--council", "other")["runs"] == 0


@on_both
def test_a_name_may_have_wildcards(servers):
    server = started(servers)
    server.send(*run_of("a", council="nightly-a"), *run_of("b", council="nightly-b"), *run_of("c", council="hourly"))
    server.wait_applied()
    age(server, 5)
    assert prune(server, "--older-than", "1d", "--name", "night?y", "--dry-run")["runs"] == 0
    assert prune(server, "--older-than", "1d", "--name", "nightly-*", "--dry-run")["runs"] == 2
    assert prune(server, "--older-than", "1d", "--name", "*-?")["runs"] == 2
    assert ids(server) == ["c"]
    server.wait_for_log(r'removed finished runs on request .*council_glob=\*-\?')


@on_both
def test_who_asked_and_what_went_is_in_the_log(servers):
    server = started(servers, {"keep": "10d", "failed": "0s"})
    server.send(*run_of("done"), *run_of("failed", end="run_failed"))
    server.wait_applied()
    age(server, 20)
    prune(server, "--dry-run")
    assert "on request" not in server.log()
    user = pwd.getpwuid(os.getuid()).pw_name
    prune(server)
    server.wait_for_log(f'removed finished runs on request runs=1 events=2 user={user} policy="keep=10d failed=0s"')
    prune(server, "--older-than", "1d", "--status", "failed,stuck", "--council", "demo")
    server.wait_for_log(f'runs=1 events=2 user={user} policy="older_than=1d status=failed,stuck council=demo"')


def test_at_a_terminal_it_asks_first(servers, at_end):
    server = started(servers)
    server.send(*run_of("first"), *run_of("second"))
    server.wait_applied()
    age(server, 20)
    for answer in (b"n\n", b"\n", b"\x04"):
        terminal = on_terminal(server, at_end, "--older-than", "10d")
        terminal.read_until(b"remove 2 finished runs with 4 events, older than 10d? [y/N]")
        terminal.write(answer)
        terminal.read_until(b"nothing was removed")
        assert terminal.wait() == 1
    assert ids(server) == ["first", "second"]
    terminal = on_terminal(server, at_end, "--older-than", "10d")
    terminal.read_until(b"[y/N]")
    terminal.write(b"y\n")
    terminal.read_until(b"2 runs removed")
    assert terminal.wait() == 0
    assert ids(server) == []


def test_yes_and_a_count_are_not_asked_for(servers, at_end):
    server = started(servers)
    server.send(*run_of("r"))
    server.wait_applied()
    age(server, 20)
    for flags, said in ((("--dry-run",), b"1 run would be removed"), (("--yes",), b"1 run removed"), ((), b"0 runs removed")):
        terminal = on_terminal(server, at_end, "--older-than", "10d", *flags)
        terminal.read_until(said)
        assert terminal.wait() == 0
    assert ids(server) == []


@on_both
def test_a_chain_goes_together_whichever_way_it_is_linked(servers):
    server = started(servers, {"keep": "10d"})
    for form in ("root", "before"):
        server.send(*run_of(f"{form}-1", end="run_failed"),
                    *run_of(f"{form}-2", end="run_failed", attempt=2, parent_attempt_run_id=f"{form}-1"),
                    *run_of(f"{form}-3", end=None, attempt=3,
                            parent_attempt_run_id=f"{form}-1" if form == "root" else f"{form}-2"))
    server.wait_applied()
    age(server, 20)
    report = prune(server)
    assert (report["runs"], report["kept"]) == (0, 4)
    server.send({"type": "run_completed", "run_id": "root-3"}, {"type": "run_completed", "run_id": "before-3"})
    server.wait_applied()
    assert prune(server)["runs"] == 0, "the last attempts are young"
    age(server, 20, "run_id <> 'before-3'")
    assert prune(server, "--dry-run")["runs"] == 3
    assert prune(server)["runs"] == 3
    assert ids(server) == ["before-1", "before-2", "before-3"]


@on_both
def test_a_resent_event_does_not_revive_a_removed_run(servers):
    server = started(servers, {"keep": "10d"})
    events = run_of("gone")
    server.send(*events)
    server.wait_applied()
    age(server, 20)
    assert prune(server)["runs"] == 1
    # As it was sent, without ids, out of order, and in one batch with a run that is new.
    server.send(events[0], *run_of("new"), events[1], {"type": "run_completed", "run_id": "gone"},
                {"type": "note", "run_id": "gone"}, {"type": "run_started", "run_id": "gone"})
    status = server.wait_applied()
    assert ids(server) == ["new"]
    assert sorted(server.database.events()) == ["new"]
    assert status["duplicate"] == 5
    server.check_ledger()
    server.restart()
    server.send(events[0])
    assert server.wait_applied()["duplicate"] == 6
    assert ids(server) == ["new"]


@on_both
def test_the_daemon_prunes_at_intervals_and_after_a_reload(servers):
    server = started(servers, {"keep": "0s"})
    server.send(*run_of("old"))
    server.wait_applied()
    age(server, 20)
    said = server.tool("prune")
    assert "for ever" in said.stderr
    assert ids(server) == ["old"]
    server.config["retention"] = {"keep": "10d", "interval": "50ms"}
    server.write_config()
    server.signal(signal.SIGHUP)
    server.wait_for_log("removed finished runs past their retention.*runs=1")
    assert ids(server) == []


@on_both
def test_thousands_go_while_events_come(servers):
    server = started(servers, {"keep": "10d"})
    for first in range(0, 3000, 500):
        server.send(*(event for n in range(first, first + 500) for event in run_of(f"old-{n:05}")))
    server.wait_applied()
    age(server, 20)
    with server.client() as client:
        done = []
        pruning = threading.Thread(target=lambda: done.append(prune(server)))
        pruning.start()
        sent = 0
        while not done:
            client.send(*run_of(f"new-{sent:05}"))
            sent += 1
        pruning.join()
    assert (done[0]["runs"], done[0]["events"], done[0]["kept"]) == (3000, 6000, 0)
    server.wait_applied()
    assert ids(server) == [f"new-{n:05}" for n in range(sent)]
    assert sent > 0
    server.check_ledger()


@on_both
def test_mistakes_are_named(servers):
    server = started(servers)
    server.send(*run_of("r"))
    server.wait_applied()
    for body, word in (({"older_than": "5"}, "older_than"), ({"status": ["running"]}, "status"),
                       ({"dry": True}, "dry_run"), ({"limit": 0}, "limit"), ({"cursor": "x", "older_than": "1d"}, "cursor")):
        answer = server.control.post("/v1/prune", body)
        assert answer.status == 400, answer
        assert word in answer.json["error"]["message"]
    assert server.control.get("/v1/prune").status == 405


@on_postgres
def test_a_role_that_may_not_delete_is_reported(servers, cluster):
    server = started(servers, {"keep": "10d"})
    server.send(*run_of("old"))
    server.wait_applied()
    age(server, 20)
    server.database.execute("CREATE ROLE no_pruner LOGIN; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO "
                            "no_pruner; GRANT DELETE ON council_ex_dead_letters, council_ex_leases, council_ex_pruned TO "
                            "no_pruner;")
    server.config["database"].update(url=cluster.url(server.database.name, "no_pruner"), migrate=False)
    server.restart()
    done = wait_until(lambda: (tried := server.tool("prune")).returncode != 69 and tried, "the database")
    assert done.returncode == 1
    assert "permission denied" in done.stderr
    assert "DELETE" in done.stderr
    assert ids(server) == ["old"]
    server.send(*run_of("goes-on"))
    server.wait_applied()
