"""Reconciliation by processes, senders and time, on both databases: every verdict that needs no queue."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from databases import on_both, on_postgres
from harness import TOOL, as_root, merged, wait_until
from oracle import Oracle

SENDER = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.stdin.buffer.read())
s.shutdown(socket.SHUT_WR)
answers = s.makefile().read()
assert '"error"' not in answers, answers
"""

# The first process of a PID namespace: starts a worker there, and names it by the pid that it has there.
NAMESPACE_WORKER = """
import json, signal, socket, subprocess, sys
worker = subprocess.Popen(["sleep", "1000"])
assert worker.pid < 100, worker.pid
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
event = {"type": "run_started", "run_id": "contained", "worker_pid": worker.pid}
s.sendall(json.dumps(event).encode() + b"\\n")
assert s.recv(100) == b'{"acked":1}\\n'
print("sent", flush=True)
signal.pause()
"""


def send_and_exit(server, *events):
    """A sender that is gone when this returns."""
    lines = "".join(json.dumps(event) + "\n" for event in events)
    subprocess.run([sys.executable, "-c", SENDER, str(server.socket_path)], input=lines, text=True, check=True)


def started(run_id, **fields):
    return {"type": "run_started", "run_id": run_id, "council": "demo", **fields}


def check_counts(report):
    """The counts of a report add up (the contract's section 6)."""
    assert report["examined"] == sum(report[part] for part in ("alive", "stuck", "unknown", "raced", "foreign")), report
    assert sum(report["reasons"].values()) == report["examined"] - report["alive"], report
    if not report.get("truncated"):
        assert len(report["runs"]) == report["examined"] - report["alive"], report
    for name in ("pass_id", "trigger", "dry_run", "stopped", "started_at", "finished_at", "marked", "deferred"):
        assert name in report
    for run in report["runs"]:
        for name in ("run_id", "council", "attempt", "oban_job_id", "age_seconds", "verdict", "reason"):
            assert name in run


def verdicts(report):
    return {run["run_id"]: (run["verdict"], run["reason"]) for run in report["runs"]}


MACHINE_ID = Path("/etc/machine-id")
NOW = {"reconcile": {"grace": "1ms"}}


def reconcile(server, **options):
    report = server.control.reconcile(**options)
    check_counts(report)
    return report


def found(server):
    """The report of the pass that marked something: the one that the end of a process brought, or one asked for here."""
    def marked():
        reconcile(server)
        reports = [report for report in server.database.reports().values() if report and report["marked"]]
        return sorted(reports, key=lambda report: report["started_at"])
    report = wait_until(marked, "a pass that marks something")[-1]
    check_counts(report)
    return report


def start(servers, config=None):
    """A daemon whose boot pass is over, so that what follows is not judged by it."""
    server = servers(merged(NOW, config)).start().wait_boot_pass()
    boot_report(server)
    return server


def boot_report(server):
    return wait_until(lambda: (found := boot_reports(server)) and found[0], "the boot report")


def boot_reports(server):
    try:
        rows = server.database.reports().values()
    except Exception:  # the table is not there yet
        return []
    reports = [report for report in rows if report and report.get("finished_at") and report["trigger"] == "boot"]
    return sorted(reports, key=lambda report: report["started_at"])


@on_both
def test_a_killed_worker_is_found_with_evidence_in_row_log_table_and_list(servers, worker):
    server = start(servers)
    dead, living = worker(), worker()
    events = [started("dead", worker_pid=dead.pid, attempt=2), started("alive", worker_pid=living.pid)]
    server.send(*events)
    server.wait_applied()
    dead.end()
    report = found(server)
    assert report["trigger"] in ("request", "process_end")
    assert (report["dry_run"], report["marked"]) == (False, 1)
    assert verdicts(report) == {"dead": ("stuck", "process_gone")}
    row = server.database.runs()["dead"]
    assert row["status"] == "stuck"
    assert row["finalized_at"] is not None
    assert (row["error"]["kind"], row["error"]["reason"], row["error"]["pass_id"]) == ("stuck", "process_gone", report["pass_id"])
    assert "message" in row["error"]
    oracle = Oracle().apply_all(events)
    oracle.stuck("dead")
    oracle.check(server.database)
    assert server.database.events()["dead"][-1]["payload"]["reason"] == "process_gone"
    server.wait_for_log(r"dead.*process_gone|process_gone.*dead")
    server.wait_for_log(report["pass_id"])
    assert server.database.reports()[report["pass_id"]]["marked"] == 1
    listed = server.control.ok("GET", f"/v1/runs?pass={report['pass_id']}")["runs"]
    assert [run["run_id"] for run in listed] == ["dead"]


@on_both
def test_a_killed_worker_is_found_without_a_requested_pass(servers, worker):
    server = start(servers, {"reconcile": {"grace": "1s", "interval": "0s"}})
    process = worker()
    send_and_exit(server, started("killed", worker_pid=process.pid))
    server.wait_applied()
    process.end()
    row = wait_until(lambda: (row := server.database.runs()["killed"])["status"] == "stuck" and row, "the finding")
    assert row["error"]["reason"] == "process_gone"
    # The report gets its counts when the pass ends, which is after its last mark.
    report = wait_until(lambda: (report := server.database.reports()[row["error"]["pass_id"]])["marked"] and report,
                        "the pass to end")
    assert (report["trigger"], report["marked"]) == ("process_end", 1)


@on_both
def test_a_worker_that_died_while_the_daemon_was_down_is_in_the_boot_report(servers, worker):
    server = start(servers)
    process = worker()
    send_and_exit(server, started("orphan", worker_pid=process.pid), started("unvouched"))
    server.wait_applied()
    server.stop()
    process.end()
    server.start()
    wait_until(lambda: server.database.runs()["orphan"]["status"] == "stuck", "the boot pass")
    rows = server.database.runs()
    assert (rows["orphan"]["error"]["reason"], rows["unvouched"]["error"]["reason"]) == ("process_gone", "no_live_worker")
    reports = wait_until(lambda: [report for report in boot_reports(server) if report["marked"] == 2],
                         "the boot report")
    check_counts(reports[0])


@on_both
def test_a_boot_pass_that_comes_late_judges_what_came_after_the_boot_like_any_other(servers):
    """Another daemon's pass delays it; meanwhile a run begins whose sender goes."""
    server = start(servers)
    send_and_exit(server, started("before"))
    server.wait_applied()
    server.stop()
    server.database.execute("DELETE FROM council_ex_leases; INSERT INTO council_ex_leases (name, holder, expires_at) "
                            "VALUES ('reconcile', 'another', '2999-01-01T00:00:00.000000Z')")
    server.start()
    send_and_exit(server, started("after"))
    server.wait_applied()
    server.database.execute("DELETE FROM council_ex_leases")
    row = wait_until(lambda: (row := server.database.runs()["before"])["status"] == "stuck" and row, "the boot pass")
    assert row["error"]["reason"] == "no_live_worker"
    assert verdicts(reconcile(server)) == {"after": ("unknown", "no_evidence")}
    assert server.database.runs()["after"]["status"] == "running"


@on_both
def test_healthy_commands_are_not_found_by_passes_back_to_back(servers, at_end):
    """They last a little longer than the grace, so that a pass looks at each of them just when it ends."""
    server = start(servers, {"reconcile": {"grace": "3s"}})
    environment = {**server.environment(), "RUN_RECORDER_SOCKET_PATH": str(server.socket_path)}
    commands = []
    for number in range(25):
        command = subprocess.Popen([str(TOOL), "exec", "--council", "demo", "--", "sleep", f"{3.1 + number / 20:.2f}"],
                                   env=environment, stdin=subprocess.DEVNULL)
        at_end(lambda process=command: process.poll() is None and process.kill())
        commands.append(command)
    passes = 0
    while any(command.poll() is None for command in commands):
        answer = server.control.post("/v1/reconcile")
        assert answer.status in (200, 409), answer
        passes += answer.status == 200
    assert {command.wait() for command in commands} == {0}
    server.wait_applied()
    histories = server.database.events()
    assert len(histories) == len(commands)
    assert {tuple(event["type"] for event in history) for history in histories.values()} == {("run_started", "run_completed")}
    print(f"{passes} passes on {server.database.kind}")


@on_both
def test_a_later_event_corrects_a_finding_and_both_stay_visible(servers, worker):
    server = start(servers)
    process = worker()
    send_and_exit(server, started("back", worker_pid=process.pid))
    server.wait_applied()
    process.end()
    assert found(server)["marked"] == 1
    oracle = Oracle().apply_all([started("back", worker_pid=process.pid)])
    oracle.stuck("back")
    late = {"type": "run_completed", "run_id": "back", "result": {"ok": True}}
    server.send(late)
    oracle.apply(late)
    server.wait_applied()
    oracle.check(server.database)
    row = server.database.runs()["back"]
    assert (row["status"], row["error"]) == ("completed", None)


@on_both
def test_what_counts_as_alive(servers):
    server = start(servers)
    assert boot_report(server)["examined"] == 0
    send_and_exit(server, started("nobody"))
    server.send(started("sender-lives"))  # this process
    server.wait_applied()
    report = reconcile(server)
    assert verdicts(report) == {"nobody": ("unknown", "no_evidence")}
    assert (report["alive"], report["marked"]) == (1, 0)
    report = reconcile(server, unvouched=True, dry_run=True)
    assert verdicts(report) == {"nobody": ("stuck", "no_live_worker")}
    assert (report["dry_run"], report["marked"]) == (True, 0)
    assert server.database.runs()["nobody"]["status"] == "running"
    report = reconcile(server, unvouched=True)
    assert report["marked"] == 1
    assert server.database.runs()["nobody"]["error"]["reason"] == "no_live_worker"


@on_both
def test_a_silent_run_becomes_stuck(servers):
    server = start(servers, {"reconcile": {"silent_after": "2ms"}})
    send_and_exit(server, started("silent"))
    server.wait_applied()
    wait_until(lambda: reconcile(server) and server.database.runs()["silent"]["status"] == "stuck", "the finding")
    assert server.database.runs()["silent"]["error"]["reason"] == "silent"


@on_both
def test_within_the_grace_nothing_is_examined_and_a_second_boot_pass_follows(servers, worker):
    server = start(servers, {"reconcile": {"grace": "1h"}})
    process = worker()
    send_and_exit(server, started("fresh", worker_pid=process.pid))
    server.wait_applied()
    process.end()
    report = reconcile(server)
    assert (report["examined"], report["deferred"]) == (0, 1)
    server.stop()
    server.config["reconcile"]["grace"] = "8s"
    now = "strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')" if server.database.kind == "sqlite" else "now()"
    server.database.execute(f"UPDATE council_ex_runs SET last_event_at = {now}")  # only the start has to be quick
    server.start()
    wait_until(lambda: server.database.runs()["fresh"]["status"] == "stuck", "the second boot pass")
    reports = wait_until(lambda: (found := boot_reports(server)) and found[-1]["marked"] == 1 and found, "its report")
    assert [report["deferred"] for report in reports] == [0, 1, 0]
    for report in reports:
        check_counts(report)


@on_both
def test_passes_are_made_at_intervals(servers, worker):
    server = start(servers, {"reconcile": {"interval": "1s"}})
    process = worker()
    send_and_exit(server, started("later", worker_pid=process.pid))
    server.wait_applied()
    process.end()
    wait_until(lambda: server.database.runs()["later"]["status"] == "stuck", "an interval pass")
    wait_until(lambda: any(report and report["trigger"] == "interval" for report in server.database.reports().values()),
               "the report of an interval pass")


@on_both
def test_another_boot_of_this_machine_is_gone_and_another_machine_is_no_evidence(servers, worker):
    server = start(servers)
    process = worker()
    send_and_exit(server, started("rebooted", worker_pid=process.pid), started("elsewhere", worker_pid=process.pid))
    server.wait_applied()
    identity = server.database.runs()["rebooted"]["worker_process"]
    machine, boot, rest = identity.split(":", 2)
    other = "f" * len(boot)
    server.stop()
    server.database.execute(
        f"UPDATE council_ex_runs SET worker_process = '{machine}:{other}:{rest}' WHERE run_id = 'rebooted';"
        f"UPDATE council_ex_runs SET worker_process = '{other}:{other}:{rest}' WHERE run_id = 'elsewhere'")
    server.start()
    wait_until(lambda: server.database.runs()["rebooted"]["status"] == "stuck", "the boot pass")
    rows = server.database.runs()
    # Without a machine id another boot cannot be told from another machine.
    known = MACHINE_ID.exists() and MACHINE_ID.stat().st_size > 1
    rebooted = "process_gone" if known else "no_live_worker"
    assert (rows["rebooted"]["error"]["reason"], rows["elsewhere"]["error"]["reason"]) == (rebooted, "no_live_worker")


@on_both
def test_a_pid_that_never_was_and_one_that_is_reused_are_gone(servers, worker):
    server = start(servers)
    process = worker()
    process.end()
    send_and_exit(server, started("never", worker_pid=process.pid))
    living = worker()
    send_and_exit(server, started("reused", worker_pid=living.pid))
    server.wait_applied()
    identity = server.database.runs()["reused"]["worker_process"]
    server.database.execute(f"UPDATE council_ex_runs SET worker_process = '{identity}0' WHERE run_id = 'reused'")
    reconcile(server)
    both = "SELECT count(*) AS n FROM council_ex_runs WHERE status = 'stuck'"
    wait_until(lambda: server.database.rows(both)[0]["n"] == 2, "both to be found")
    rows = server.database.runs()
    assert {run_id: row["error"]["reason"] for run_id, row in rows.items()} == {"never": "process_gone", "reused": "process_gone"}


@on_both
@pytest.mark.skipif(not as_root(), reason="needs to make a PID namespace")
def test_a_worker_in_another_pid_namespace(servers, at_end):
    server = start(servers)
    inside = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c",
                               NAMESPACE_WORKER, str(server.socket_path)], stdout=subprocess.PIPE, text=True)
    at_end(inside.stdout.close)
    at_end(inside.wait)
    at_end(inside.kill)
    assert inside.stdout.readline() == "sent\n"
    server.wait_applied()
    report = reconcile(server)
    assert (report["alive"], report["marked"]) == (1, 0), report
    inside.kill()
    inside.wait()
    found(server)
    assert server.database.runs()["contained"]["error"]["reason"] == "process_gone"


@on_both
def test_undo_returns_the_rows_of_a_pass_unless_they_moved(servers, worker):
    server = start(servers)
    process = worker()
    events = [started(f"r{number}", worker_pid=process.pid) for number in range(3)]
    send_and_exit(server, *events)
    server.wait_applied()
    server.stop()
    process.end()  # unseen: no pass over an ended worker comes later and finds the rows again
    server.start().wait_boot_pass()
    pass_id = found(server)["pass_id"]
    server.send({"type": "run_completed", "run_id": "r2"})
    server.wait_applied()
    answer = server.control.post(f"/v1/reconciliations/{pass_id}/undo")
    assert answer.status == 200, answer
    rows = server.database.runs()
    assert [rows[run_id]["status"] for run_id in ("r0", "r1", "r2")] == ["running", "running", "completed"]
    for name in ("error", "finalized_at", "oban_job_state_at_finalize"):
        assert rows["r0"][name] is None
    history = server.database.events()["r0"]
    assert [entry["type"] for entry in history] == ["run_started", "run_stuck", "run_revived"]
    assert pass_id in json.dumps(history[-1], default=str)
    assert server.control.post("/v1/reconciliations/00000000-0000-0000-0000-000000000000/undo").status == 404


@on_both
def test_explain_answers_rule_by_rule(servers, worker):
    server = start(servers, {"reconcile": {"grace": "1h"}})
    process = worker()
    send_and_exit(server, started("why", worker_pid=process.pid))
    server.wait_applied()
    process.end()
    answer = server.control.get("/v1/runs/why/explain")
    assert answer.status == 200
    assert "process_gone" in answer.text
    assert str(process.pid) in answer.text
    assert server.database.runs()["why"]["status"] == "running"
    assert server.control.get("/v1/runs/not-there/explain").status == 404


@on_both
def test_the_breaker_stops_a_pass_that_would_mark_more(servers, worker):
    server = start(servers, {"reconcile": {"max_stuck": 2}})
    process = worker()
    send_and_exit(server, *[started(f"r{number}", worker_pid=process.pid) for number in range(3)])
    server.wait_applied()
    process.end()
    report = reconcile(server)
    assert report["stopped"]
    assert report["marked"] == 0
    assert {row["status"] for row in server.database.runs().values()} == {"running"}
    server.wait_for_log("--force")
    report = reconcile(server, force=True)
    assert (report["stopped"], report["marked"]) == (False, 3)


@on_both
def test_a_completion_that_waits_in_the_spool_is_applied_before_anything_is_judged(servers, worker):
    server = start(servers)
    process = worker()
    events = [started("finished", worker_pid=process.pid), {"type": "run_completed", "run_id": "finished", "result": 1}]
    send_and_exit(server, events[0])
    server.wait_applied()
    with server.database.away():
        send_and_exit(server, events[1])
        process.end()
        server.kill()
        server.start()
        assert server.check_ledger()["waiting"] >= 1
    server.wait_applied()
    boot_report(server)
    Oracle().apply_all(events).check(server.database)
    assert reconcile(server)["examined"] == 0


@on_both
def test_a_requested_pass_gives_up_while_the_database_is_away(servers):
    server = start(servers)
    send_and_exit(server, started("a"))
    server.wait_applied()
    with server.database.away():
        send_and_exit(server, started("b"))
        assert server.control.post("/v1/reconcile", {}).status == 503
    server.wait_applied()
    reconcile(server)


@on_both
def test_many_rows_are_marked_in_bounded_batches_and_the_report_is_bounded(servers, worker):
    server = start(servers, {"reconcile": {"log_rows": 10}})
    process = worker()
    send_and_exit(server, *[started(f"r{number}", worker_pid=process.pid) for number in range(5_000)])
    server.wait_applied()
    process.end()
    report = found(server)
    assert (report["marked"], report["examined"]) == (5_000, 5_000)
    assert server.database.rows("SELECT count(*) AS n FROM council_ex_runs WHERE status = 'stuck'")[0]["n"] == 5_000
    assert server.log().count("run=r") <= 5_000
    assert report["truncated"]
    assert len(server.tool("list", "--pass", report["pass_id"], "--json").stdout.splitlines()) == 5_000


@on_both
def test_a_living_daemon_is_the_sender_of_nothing_it_forgot(servers):
    """Runs are alive while the connection of their events is open."""
    server = start(servers)
    with server.client() as client:
        client.send(started("open"))
        server.wait_applied()
        assert reconcile(server, unvouched=True)["alive"] == 1


@on_postgres
def test_a_row_that_moves_while_it_is_judged_is_raced(servers, cluster, at_end):
    server = start(servers)
    send_and_exit(server, started("moving"))
    server.wait_applied()
    mover = cluster.session(server.database.name)
    at_end(mover.communicate)
    mover.stdin.write("BEGIN; UPDATE council_ex_runs SET status = 'completed', last_seq = last_seq + 1;\n")
    mover.stdin.flush()
    locks = "SELECT wait_event_type AS w FROM pg_stat_activity WHERE datname = current_database()"
    wait_until(lambda: server.database.rows("SELECT 1 FROM pg_locks WHERE locktype = 'transactionid' AND granted"
                                            " AND pid <> pg_backend_pid()"), "the other session's change")
    request = subprocess.Popen(["curl", "-sS", "--unix-socket", str(server.control_path), "-X", "POST", "-d", '{"unvouched": true}',
                                "http://localhost/v1/reconcile"], stdout=subprocess.PIPE, text=True)
    wait_until(lambda: any(row["w"] == "Lock" for row in server.database.rows(locks)), "the pass to wait for the row")
    mover.stdin.write("COMMIT;\n")
    mover.stdin.flush()
    report = json.loads(request.communicate()[0])
    check_counts(report)
    assert (report["raced"], report["marked"]) == (1, 0), report


@on_postgres
def test_a_run_with_a_dead_letter_is_unknown(servers, worker):
    server = start(servers)
    process = worker()
    server.database.execute("ALTER TABLE council_ex_run_events ADD CONSTRAINT poison CHECK (payload->>'poison' IS NULL)")
    send_and_exit(server, started("poisoned", worker_pid=process.pid),
                  {"type": "run_completed", "run_id": "poisoned", "poison": 1})
    server.wait_applied()
    process.end()
    assert verdicts(reconcile(server)) == {"poisoned": ("unknown", "dead_letter")}


def test_exec_killed_with_9_while_the_daemon_is_down_is_found_at_boot(servers, at_end):
    server = servers(NOW).start()
    pid_file = server.folder / "pid"
    tool = subprocess.Popen([str(TOOL), "exec", "--council", "nightly", "--",
                             "sh", "-c", f"echo $$ > {pid_file}; exec sleep 1000"],
                            env={**server.environment(), "RUN_RECORDER_SOCKET_PATH": str(server.socket_path)})
    at_end(tool.wait)
    at_end(tool.kill)
    pid = int(wait_until(lambda: pid_file.exists() and pid_file.read_text().strip(), "the command to run"))
    wait_until(lambda: server.control.get("/v1/runs").text.count("run_id") >= 1, "the run to be recorded")
    server.wait_applied()
    server.stop()
    tool.kill()
    tool.wait()
    os.kill(pid, signal.SIGKILL)
    server.start()
    row = wait_until(lambda: [row for row in server.database.runs().values() if row["status"] == "stuck"], "the finding")[0]
    assert (row["council"], row["error"]["reason"]) == ("nightly", "process_gone")


# ---- two daemons on one database


def pair(servers, daemons, config=None):
    first = start(servers, config)
    second = daemons(first.database.url, config=merged(NOW, config)).start().wait_boot_pass()
    second.database = first.database
    return first, second


@on_postgres
def test_the_rows_of_a_living_recorder_are_left_to_it(servers, daemons, worker):
    first, second = pair(servers, daemons, {"reconcile": {"grace": "1h"}})  # what ends is not looked at before
    process = worker()
    send_and_exit(first, started("of-first", worker_pid=process.pid))
    first.wait_applied()
    process.end()
    first.database.execute("UPDATE council_ex_runs SET last_event_at = now() - interval '2 hours'")
    report = reconcile(second)
    assert (report["foreign"], report["marked"]) == (1, 0)
    assert verdicts(report) == {"of-first": ("foreign", "foreign")}
    assert reconcile(first)["marked"] == 1


@on_postgres
def test_the_rows_of_a_recorder_that_is_gone_are_judged_by_the_others(servers, daemons, worker):
    first, second = pair(servers, daemons, {"reconcile": {"recorder_timeout": "1s"}})
    process = worker()
    send_and_exit(first, started("without-job", worker_pid=process.pid), started("with-job", oban_job_id=5))
    first.wait_applied()
    first.kill()
    expected = {"without-job": ("stuck", "recorder_gone"), "with-job": ("unknown", "no_queue")}
    wait_until(lambda: verdicts(reconcile(second, dry_run=True)) == expected, "the recorder to count as gone")
    assert reconcile(second)["marked"] == 1


@on_postgres
def test_rows_that_no_recorder_wrote_are_judged_as_one_s_own(servers, daemons):
    first, _second = pair(servers, daemons)
    first.database.execute("INSERT INTO council_ex_runs (run_id, council, status, inserted_at, updated_at) VALUES "
                           "('imported', 'C', 'running', now() - interval '1 hour', now() - interval '1 hour')")
    assert verdicts(reconcile(first)) == {"imported": ("unknown", "no_evidence")}


@on_postgres
def test_both_record_the_same_run_without_a_gap(servers, daemons):
    first, second = pair(servers, daemons)
    events = [{"type": "note", "run_id": "shared", "id": f"n{number}"} for number in range(400)]
    with first.client() as one, second.client() as two:
        one.queue(*events[:300])
        two.queue(*events[100:])  # 200 of them come over both
        for client in (one, two):
            client.flush()
        for client in (one, two):
            client.settle()
    first.wait_applied()
    second.wait_applied()
    history = first.database.events()["shared"]
    assert [entry["seq"] for entry in history] == list(range(1, 401))
    assert sorted(entry["event_id"] for entry in history) == sorted(event["id"] for event in events)
    totals = [server.check_ledger() for server in (first, second)]
    assert sum(status["duplicate"] for status in totals) == 200


@on_postgres
def test_passes_do_not_run_at_the_same_time(servers, daemons):
    first, second = pair(servers, daemons)
    first.database.execute("INSERT INTO council_ex_runs (run_id, council, status, inserted_at, updated_at) "
                           "SELECT 'r' || n, 'C', 'running', now() - interval '1 day', now() - interval '1 day' "
                           "FROM generate_series(1, 6000) AS n")
    requests = [subprocess.Popen(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket",
                                  str(server.control_path), "-X", "POST", "-d", '{"unvouched":true}',
                                  "http://localhost/v1/reconcile"], stdout=subprocess.PIPE, text=True)
                for server in (first, second)]
    codes = sorted(request.communicate()[0] for request in requests)
    assert codes in (["200", "200"], ["200", "409"])
    assert first.database.rows("SELECT count(*) AS n FROM council_ex_run_events WHERE type = 'run_stuck'") == [{"n": 6000}]
