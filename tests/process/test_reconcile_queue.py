"""Reconciliation against a queue: every answer of a job's row, wherever the queue lives."""

import itertools
import re

import pytest

from databases import on_postgres
from harness import Postgres, SqliteDatabase, merged, wait_until
from queues import PostgresQueue, SqliteQueue
from test_reconcile import NOW, reconcile, send_and_exit, started, verdicts

STATES_NOT_EXECUTING = ("available", "scheduled", "retryable", "discarded", "cancelled")


# ---- where rows and queue live: the daemon, not started, and its queue


def public_schema(servers, postgres_database, config):
    """Rows and queue in one database, an enum with `suspended`."""
    server = servers(merged({"reconcile.queue": {"kind": "oban"}}, config))
    return server, PostgresQueue(server.database)


def own_schema(servers, postgres_database, config):
    """A schema of its own, an enum without `suspended`, in another database than the rows."""
    jobs = postgres_database()
    queue = PostgresQueue(jobs, schema="private_jobs", suspended=False)
    queue_config = {"kind": "oban", "url": jobs.url, "table": "private_jobs.oban_jobs"}
    return servers(merged({"reconcile.queue": queue_config}, config)), queue


def lite_engine(servers, postgres_database, config):
    """Rows in one SQLite file, Oban's Lite table in another."""
    server = servers(config)
    queue = SqliteQueue(SqliteDatabase(server.folder / "jobs.db"))
    server.config = merged(server.config, {"reconcile.queue": {"kind": "oban", "url": queue.database.url}})
    return server, queue


def sqlite_beside_postgres(servers, postgres_database, config):
    """Rows in SQLite, the jobs in Oban's PostgreSQL."""
    jobs = postgres_database()
    return servers(merged({"reconcile.queue": {"kind": "oban", "url": jobs.url}}, config)), PostgresQueue(jobs)


everywhere = pytest.mark.parametrize("kind, place", (("postgresql", public_schema), ("postgresql", own_schema),
                                                     ("sqlite", lite_engine), ("sqlite", sqlite_beside_postgres)))


@pytest.fixture
def place():
    return public_schema


@pytest.fixture
def start(servers, postgres_database, place):
    """start(config) is a running daemon that has seen its boot pass, and its queue."""
    def make(config=None):
        server, queue = place(servers, postgres_database, merged(NOW, config))
        server.start().wait_boot_pass()
        return server, queue
    return make


@pytest.fixture
def hold(at_end):
    """hold(server, ...) sends by a sender that lives and keeps its connection, so that no pass comes by itself."""
    def send(server, *events):
        client = server.client()
        at_end(client.close)
        client.send(*events)
    return send


@everywhere
def test_the_job_s_row_decides(start, hold, place):
    server, queue = start()
    expected = {}
    jobs = iter(range(1, 1000))

    def case(name, verdict, state=None, stated=1, attempt=1, **job):
        job_id = next(jobs)
        fields = {} if stated is None else {"attempt": stated}
        events.append(started(name, oban_job_id=job_id, **fields))
        if state:
            queue.put(job_id, state, attempt, **job)
        if verdict:
            expected[name] = verdict
    events = []
    case("executing", None, "executing")
    case("executing-unstated", None, "executing", stated=None, attempt=3)
    case("later-attempt", ("stuck", "attempt_superseded"), "executing", attempt=2)
    case("earlier-attempt", ("unknown", "queue_unavailable"), "executing", stated=2)
    case("absent", ("stuck", "queue_row_absent"))
    case("completed", ("stuck", "terminal_event_lost"), "completed")
    for state in STATES_NOT_EXECUTING + (("suspended",) if place is public_schema else ()):
        case(f"is-{state}", ("stuck", "queue_not_executing"), state)
    case("superseded-completed", ("stuck", "attempt_superseded"), "completed", attempt=2)
    hold(server, *events)
    server.wait_applied()
    report = reconcile(server)
    assert verdicts(report) == expected
    assert (report["alive"], report["deferred"]) == (2, 0)
    rows = server.database.runs()
    for name in expected:
        assert rows[name]["status"] == (expected[name][0] if expected[name][0] == "stuck" else "running"), name
    assert rows["is-available"]["oban_job_state_at_finalize"] == "available"
    assert rows["completed"]["oban_job_state_at_finalize"] == "completed"
    assert rows["absent"]["oban_job_state_at_finalize"] is None
    assert rows["is-retryable"]["error"]["reason"] == "queue_not_executing"


@everywhere
def test_the_claim_s_time_tells_executions_of_one_number_apart(start, hold):
    """Oban from 2.24 takes the attempt back when a job is snoozed, and the next claim has the same number again."""
    server, queue = start()
    queue.put(1, "scheduled", attempt=1)                 # snoozed out of the second attempt, whose worker died
    queue.put(2, "executing", attempt=2, claimed_s=-60)  # and claimed again
    queue.put(3, "executing", attempt=2, claimed_s=-2)   # the node's clock is 2 s ahead
    queue.put(4, "executing", attempt=2, claimed_s=7200)
    queue.put(5, "executing", attempt=1, claimed_s=-70, inserted_s=-60)  # the id is another job's by now
    queue.put(6, "completed", attempt=2, changed_s=-90, claimed_s=-60)
    hold(server, *(started(f"r{job}", oban_job_id=job, attempt=2) for job in range(1, 7)))
    server.wait_applied()
    report = reconcile(server)
    assert verdicts(report) == {"r1": ("stuck", "queue_not_executing"), "r2": ("stuck", "attempt_superseded"),
                                "r5": ("stuck", "queue_row_absent"), "r6": ("stuck", "attempt_superseded")}
    rows = server.database.runs()
    assert [rows[f"r{job}"]["oban_job_state_at_finalize"] for job in (1, 2, 5)] == ["scheduled", None, None]


@everywhere
def test_a_later_execution_s_state_is_not_the_run_s(start):
    server, queue = start()
    queue.put(1, "executing", attempt=3)
    queue.put(2, "executing", attempt=2)
    send_and_exit(server, *(event for job in (1, 2) for event in (
        started(f"r{job}", oban_job_id=job, attempt=2), {"type": "run_completed", "run_id": f"r{job}"})))
    server.wait_applied()
    rows = server.database.runs()
    assert rows["r1"]["oban_job_state_at_finalize"] is None
    # Best effort: where the queue answered in time it is this execution's.
    assert rows["r2"]["oban_job_state_at_finalize"] in (None, "executing")


@everywhere
def test_a_job_row_that_just_changed_is_deferred(start, hold):
    """In the future of the queue's clock, so that it stays "just now" however long this takes."""
    server, queue = start({"reconcile": {"grace": "3s"}})
    queue.put(1, "completed", changed_s=-3600)
    queue.put(2, "completed", changed_s=7200)
    hold(server, started("just", oban_job_id=1), started("old", oban_job_id=2))
    server.wait_applied()

    def old_enough():
        report = reconcile(server, dry_run=True)
        return report if report["examined"] + report["deferred"] == 2 and report["examined"] else None
    report = wait_until(old_enough, "the rows to be older than the grace")
    assert verdicts(report) == {"old": ("stuck", "terminal_event_lost")}
    assert report["deferred"] == 1


@everywhere
def test_a_run_alive_according_to_the_queue_only_is_counted(start):
    """Nobody rescues the job of a killed node: it is executing for ever."""
    server, queue = start()
    queue.put(1, "executing")
    send_and_exit(server, started("r1", oban_job_id=1, attempt=1))
    server.wait_applied()
    assert verdicts(reconcile(server)) == {"r1": ("unknown", "sender_gone")}
    assert "1 sender_gone" in server.tool("status").stdout
    assert re.search("senders gone .*1 run of the last pass", server.tool("doctor").stdout)
    assert server.control.ok("GET", "/v1/runs/r1/explain")["reason"] == "sender_gone"


@everywhere
def test_a_run_alive_according_to_the_queue_only_becomes_silent(start):
    server, queue = start({"reconcile": {"silent_after": "1ms"}})
    queue.put(1, "executing")
    send_and_exit(server, started("r1", oban_job_id=1, attempt=1))
    server.wait_applied()
    wait_until(lambda: reconcile(server) and server.database.runs()["r1"]["status"] == "stuck", "the finding")
    assert server.database.runs()["r1"]["error"]["reason"] == "silent"


@everywhere
def test_a_queued_run_is_judged_by_its_job(start, hold):
    server, queue = start()
    for job, state in enumerate(("available", "scheduled", "retryable", "executing", "cancelled", "discarded"), 1):
        queue.put(job, state)
    hold(server, *({"type": "run_queued", "run_id": f"q{job}", "oban_job_id": job} for job in range(1, 8)),
         {"type": "run_queued", "run_id": "no-job"})
    server.wait_applied()
    report = reconcile(server)
    assert verdicts(report) == {"q5": ("stuck", "queue_not_executing"), "q6": ("stuck", "queue_not_executing"),
                                "q7": ("stuck", "queue_row_absent")}
    assert (report["alive"], report["marked"]) == (4, 3)
    found = {"q5", "q6", "q7"}
    rows = server.database.runs()
    assert ({run_id: row["status"] for run_id, row in rows.items()}
            == {run_id: "stuck" if run_id in found else "queued" for run_id in rows})
    undone = server.control.post(f"/v1/reconciliations/{report['pass_id']}/undo")
    assert (undone.status, undone.json["undone"]) == (200, 3), undone
    assert {row["status"] for row in server.database.runs().values()} == {"queued"}


@everywhere
def test_work_finished_while_the_daemon_was_down_is_reported_within_the_grace(start, hold, worker):
    """The boot pass judges runs whose worker and sender are gone, and gives the others the grace to report."""
    server, queue = start({"reconcile": {"grace": "1h"}})
    dead, living = worker(), worker()
    for job in (1, 2, 3):
        queue.put(job, "executing")
    hold(server, started("told", oban_job_id=1, attempt=1, worker_pid=living.pid), started("unnamed", oban_job_id=2))
    send_and_exit(server, started("dead", oban_job_id=3, attempt=1, worker_pid=dead.pid))
    server.wait_applied()
    server.stop()
    for job in (1, 2, 3):
        queue.put(job, "completed", changed_s=7200)
    dead.end()
    server.database.execute("UPDATE council_ex_runs SET last_event_at = '2026-01-02T03:04:05.000000Z'")
    server.start()

    def boot_report():
        reports = [report for report in server.database.reports().values() if report and report.get("finished_at")]
        return [report for report in reports if report["trigger"] == "boot" and report["marked"]]
    report = wait_until(boot_report, "the boot pass that marks something")[0]
    assert (verdicts(report), report["deferred"]) == ({"dead": ("stuck", "terminal_event_lost")}, 2)
    hold(server, *({"type": "run_completed", "run_id": run_id} for run_id in ("told", "unnamed")))
    server.wait_applied()
    rows, events = server.database.runs(), server.database.events()
    assert [rows[run_id]["status"] for run_id in ("told", "unnamed", "dead")] == ["completed", "completed", "stuck"]
    assert "run_stuck" not in {event["type"] for run_id in ("told", "unnamed") for event in events[run_id]}


@everywhere
def test_a_worker_process_that_is_gone_comes_before_the_job(start, worker):
    server, queue = start()
    process = worker()
    queue.put(1, "executing")
    send_and_exit(server, started("gone", oban_job_id=1, attempt=1, worker_pid=process.pid))
    server.wait_applied()
    assert reconcile(server)["alive"] == 1
    process.end()
    wait_until(lambda: reconcile(server) and server.database.runs()["gone"]["status"] == "stuck", "the finding")
    assert server.database.runs()["gone"]["error"]["reason"] == "process_gone"
    assert server.database.runs()["gone"]["oban_job_state_at_finalize"] == "executing"


@everywhere
def test_a_table_that_is_missing_is_unknown_and_changes_nothing(start):
    server, queue = start()
    queue.drop()
    send_and_exit(server, started("with-job", oban_job_id=1, attempt=1))
    server.wait_applied()
    report = reconcile(server, unvouched=True)
    assert verdicts(report) == {"with-job": ("unknown", "queue_unavailable")}
    assert server.database.runs()["with-job"]["status"] == "running"


@everywhere
def test_the_job_s_state_is_kept_when_an_event_finalizes_the_run(start):
    """Best effort: a queue that does not answer at once is not waited for, so the first of several runs may lack it."""
    server, queue = start()
    queue.put(1, "executing")
    ids = itertools.count()

    def state_of_one_more():
        run_id = f"r{next(ids)}"
        send_and_exit(server, started(run_id, oban_job_id=1), {"type": "run_completed", "run_id": run_id})
        server.wait_applied()
        return server.database.runs()[run_id]["oban_job_state_at_finalize"]
    assert wait_until(state_of_one_more, "oban_job_state_at_finalize") == "executing"


@everywhere
def test_a_queue_that_cannot_be_read_delays_no_event(start):
    server, queue = start()
    queue.drop()
    send_and_exit(server, started("r", oban_job_id=1), {"type": "run_completed", "run_id": "r"})
    server.wait_applied()
    row = server.database.runs()["r"]
    assert (row["status"], row["oban_job_state_at_finalize"]) == ("completed", None)


@everywhere
def test_explain_names_the_job(start, hold):
    server, queue = start()
    queue.put(77, "discarded")
    hold(server, started("why", oban_job_id=77, attempt=1))
    server.wait_applied()
    answer = server.control.get("/v1/runs/why/explain")
    assert "queue_not_executing" in answer.text
    assert "77" in answer.text


# ---- rows and queue in one database


@on_postgres
def test_a_table_that_may_not_be_read_is_unknown(servers, postgres_database, hold, cluster):
    server, _queue = public_schema(servers, postgres_database, NOW)
    cluster.sql(server.database.name, "DROP ROLE IF EXISTS recorder; CREATE ROLE recorder LOGIN;"
                "GRANT CREATE, USAGE ON SCHEMA public TO recorder")
    server.config["database"]["url"] = cluster.url(server.database.name, "recorder")
    server.start().wait_boot_pass()
    hold(server, started("with-job", oban_job_id=1, attempt=1))
    send_and_exit(server, started("without-job"))
    server.wait_applied()
    report = reconcile(server, unvouched=True)
    assert verdicts(report) == {"with-job": ("unknown", "queue_unavailable"), "without-job": ("stuck", "no_live_worker")}
    cluster.sql(server.database.name, "GRANT SELECT ON public.oban_jobs TO recorder")
    assert verdicts(reconcile(server)) == {"with-job": ("stuck", "queue_row_absent")}


@on_postgres
def test_jobs_that_a_policy_may_hide_are_not_absent(start, hold, cluster):
    server, queue = start()
    queue.put(1, "executing")
    cluster.sql(server.database.name, "DROP ROLE IF EXISTS guarded; CREATE ROLE guarded LOGIN;"
                "GRANT SELECT ON oban_jobs TO guarded; ALTER TABLE oban_jobs ENABLE ROW LEVEL SECURITY")
    server.config["reconcile.queue"]["url"] = cluster.url(server.database.name, "guarded")
    server.restart()
    server.wait_boot_pass()
    hold(server, started("hidden", oban_job_id=1, attempt=1), started("gone", oban_job_id=2, attempt=1))
    server.wait_applied()
    unknown = {name: ("unknown", "queue_unavailable") for name in ("hidden", "gone")}
    assert verdicts(reconcile(server, unvouched=True)) == unknown
    assert "row level security" in server.control.get("/v1/runs/gone/explain").text
    cluster.sql(server.database.name, "CREATE POLICY see ON oban_jobs TO guarded USING (true)")
    assert verdicts(reconcile(server)) == {"gone": ("stuck", "queue_row_absent")}


@on_postgres
def test_a_standby_that_lags_knows_of_no_job(servers, at_end):
    """The jobs are in another cluster than the rows, and read from its standby."""
    primary = Postgres()
    at_end(primary.close)
    primary.start()
    jobs = primary.create_database("jobs")
    queue = PostgresQueue(jobs)
    standby = primary.standby("reader")
    at_end(standby.close)
    standby.start()
    primary.wait_followed()
    server = servers(merged(NOW, {"reconcile.queue": {"kind": "oban", "url": standby.url("jobs"), "clock_skew": "1s"}}))
    server.start().wait_boot_pass()
    standby.sql("postgres", "SELECT pg_wal_replay_pause()")
    wait_until(lambda: standby.sql("postgres", "SELECT pg_get_wal_replay_pause_state()").strip() == "paused", "the pause")
    queue.put(1, "executing", changed_s=10)
    server.send(started("new", oban_job_id=1, attempt=1), started("gone", oban_job_id=2, attempt=1))
    server.wait_applied()
    unknown = {name: ("unknown", "queue_unavailable") for name in ("new", "gone")}
    assert verdicts(reconcile(server, unvouched=True)) == unknown
    assert "standby" in server.control.get("/v1/runs/gone/explain").text

    standby.sql("postgres", "SELECT pg_wal_replay_resume()")

    def replayed():
        jobs.execute("SELECT txid_current()")  # a commit, so that the standby hears how late it is
        report = verdicts(reconcile(server, dry_run=True))
        return report == {"gone": ("stuck", "queue_row_absent")}
    wait_until(replayed, "the standby to have replayed the runs' start")


@on_postgres
def test_the_job_of_a_recorder_that_is_gone_still_decides(daemons, start, worker):
    first, queue = start({"reconcile": {"recorder_timeout": "1s"}})
    second = daemons(first.database.url, config=merged(NOW, {
        "reconcile": {"recorder_timeout": "1s"}, "reconcile.queue": {"kind": "oban"}})).start().wait_boot_pass()
    queue.put(1, "executing")
    queue.put(2, "discarded")
    process = worker()
    send_and_exit(first, started("executing", oban_job_id=1, attempt=1, worker_pid=process.pid),
                  started("discarded", oban_job_id=2, attempt=1))
    first.wait_applied()
    process.end()
    first.kill()
    expected = {"discarded": ("stuck", "queue_not_executing")}
    wait_until(lambda: verdicts(reconcile(second, dry_run=True)) == expected, "the recorder to count as gone")


# ---- two instances of Oban by prefix, whose job ids repeat, and a third that is away


@pytest.fixture
def named_queues(servers, cluster):
    server = servers(merged(NOW, {
        "reconcile.queue": {"kind": "oban"}, "queues.mailers": {"kind": "oban", "schema": "mailers"},
        "queues.away": {"kind": "oban", "url": cluster.url("nowhere")}}))
    default, mailers = PostgresQueue(server.database), PostgresQueue(server.database, schema="mailers")
    server.start().wait_boot_pass()
    return server, default, mailers


@on_postgres
def test_a_run_is_looked_up_in_the_queue_it_names(named_queues, hold):
    server, default, mailers = named_queues
    default.put(1, "executing")
    default.put(2, "discarded")
    mailers.put(1, "discarded")
    mailers.put(2, "executing")
    hold(server, started("one", oban_job_id=1, attempt=1), started("two", oban_job_id=2, queue="default", attempt=1),
         started("mail-one", oban_job_id=1, queue="mailers", attempt=1),
         started("mail-two", job_id="2", queue="mailers", attempt=1),
         started("mail-three", job_id=3, queue="mailers", attempt=1),
         started("away", oban_job_id=1, queue="away", attempt=1),
         started("nobody-s", oban_job_id=1, queue="nobody-s", attempt=1),
         started("no-number", job_id="x", queue="mailers", attempt=1))
    server.wait_applied()
    report = reconcile(server, unvouched=True)
    assert verdicts(report) == {"two": ("stuck", "queue_not_executing"), "mail-one": ("stuck", "queue_not_executing"),
                                "mail-three": ("stuck", "queue_row_absent"), "away": ("unknown", "queue_unavailable"),
                                "nobody-s": ("unknown", "queue_unavailable"), "no-number": ("unknown", "queue_unavailable")}
    assert "nobody-s" in server.control.get("/v1/runs/nobody-s/explain").text


@on_postgres
def test_the_end_of_a_run_has_the_state_of_its_own_queue(named_queues):
    server, default, mailers = named_queues
    default.put(1, "available")
    mailers.put(1, "executing")
    send_and_exit(server, started("one", oban_job_id=1), started("mail", oban_job_id=1, queue="mailers"),
                  started("away", oban_job_id=1, queue="away"),
                  *({"type": "run_completed", "run_id": run_id} for run_id in ("one", "mail", "away")))
    server.wait_applied()
    rows = server.database.runs()
    # Best effort: where the queue answered in time it is that one's state.
    assert rows["one"]["oban_job_state_at_finalize"] in (None, "available")
    assert rows["mail"]["oban_job_state_at_finalize"] in (None, "executing")
    assert rows["away"]["oban_job_state_at_finalize"] is None
