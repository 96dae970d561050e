"""The limits of the recorder's own tables: reports of passes, positions, recorders, ids of removed runs; and that nothing goes which
somebody may still need."""

import signal

from databases import on_both, on_postgres
from harness import wait_until

REMOVED = r"removed old rows of the recorder's own tables"


def started(servers, **retention):
    server = servers({"retention": {"interval": "0s", **retention}, "reconcile": {"interval": "0s", "grace": "1h"}})
    server.start()
    server.wait_for_log("reconciliation finished.* trigger=boot")  # the tables are there
    return server


def apply_limits(server, **retention):
    """Lets the daemon look at its tables at once, and again and again."""
    server.config["retention"] = {"interval": "50ms", **retention}
    server.write_config()
    server.signal(signal.SIGHUP)


def ago(server, days):
    if server.database.kind == "postgresql":
        return f"now() - interval '{days} days'"
    return f"strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '-{days} days')"


def count(server, table, where="true"):
    return server.database.rows(f"SELECT count(*) AS n FROM council_ex_{table} WHERE {where}")[0]["n"]


def add_pass(server, pass_id, days, trigger):
    server.database.execute("INSERT INTO council_ex_reconciliations (pass_id, recorder, trigger, started_at, report) "
                            f"VALUES ('{pass_id}', 'r', '{trigger}', {ago(server, days)}, '{{}}')")


def add_passes(server, number, trigger):
    rows = ", ".join(f"('{trigger}-{n}', 'r', '{trigger}', {ago(server, 1)}, '{{}}')" for n in range(number))
    server.database.execute(f"INSERT INTO council_ex_reconciliations (pass_id, recorder, trigger, started_at, report) VALUES {rows}")


def stuck_by_a_pass(server, run_id):
    """A run that a pass marked; its id."""
    server.send({"type": "run_started", "run_id": run_id, "council": "demo", "worker_pid": 2 ** 22 - 1})
    server.wait_applied()
    past = ago(server, 1)
    server.database.execute(f"UPDATE council_ex_runs SET last_event_at = {past} WHERE run_id = '{run_id}'")
    server.config["reconcile"]["grace"] = "1s"
    server.restart()

    def marked():
        server.tool("reconcile", "--unvouched")
        row = server.database.runs()[run_id]
        return row["stuck_pass"] if row["status"] == "stuck" else None
    return wait_until(marked, "a pass that marks the run")


@on_both
def test_the_newest_passes_of_each_trigger_stay_and_none_beyond_its_time(servers):
    server = started(servers)
    add_passes(server, 1200, "interval")
    add_passes(server, 30, "request")
    add_pass(server, "old-request", 401, "request")
    apply_limits(server)
    server.wait_for_log(REMOVED + r" .*passes=\d+")
    wait_until(lambda: count(server, "reconciliations", "trigger = 'interval'") == 1000, "the limit by number")
    wait_until(lambda: count(server, "reconciliations", "pass_id = 'old-request'") == 0, "the limit by age")
    assert count(server, "reconciliations", "trigger = 'request'") == 30
    samples = server.control.get("/metrics").text
    wanted = 'run_recorder_removed_rows_total{table="reconciliations"} 201\n'
    assert wanted in samples or wait_until(lambda: wanted in server.control.get("/metrics").text, wanted)


@on_both
def test_a_pass_whose_report_is_gone_is_still_listed_and_undone(servers):
    server = started(servers)
    pass_id = stuck_by_a_pass(server, "r")
    add_passes(server, 1100, "request")
    apply_limits(server)
    wait_until(lambda: count(server, "reconciliations", "pass_id LIKE 'request-%'") <= 1000, "the limit by number")
    assert count(server, "reconciliations", f"pass_id = '{pass_id}'") == 1, "what marked a run is not pushed out"
    server.database.execute(f"UPDATE council_ex_reconciliations SET started_at = {ago(server, 401)} WHERE pass_id = '{pass_id}'")
    wait_until(lambda: count(server, "reconciliations", f"pass_id = '{pass_id}'") == 0, "the limit by age")
    listed = server.tool("list", "--pass", pass_id, "--json")
    assert '"run_id":"r"' in listed.stdout, listed.stderr
    undone = server.tool("reconcile", "--undo", pass_id)
    assert undone.returncode == 0, undone.stderr
    assert server.database.runs()["r"]["status"] == "running"
    nothing = server.tool("reconcile", "--undo", "00000000-0000-7000-8000-000000000000")
    assert nothing.returncode == 1
    assert "no pass" in nothing.stderr


@on_both
def test_recorders_not_seen_for_long_go_and_those_that_are_needed_stay(servers):
    server = started(servers)
    server.send({"type": "run_started", "run_id": "r", "council": "demo"}, {"type": "run_completed", "run_id": "r"},
                {"type": "run_started", "run_id": "of-another", "council": "demo"})
    server.wait_applied()
    before = server.status()
    for name in ("gone", "with-run", "young"):
        days = 399 if name == "young" else 401
        server.database.execute(
            "INSERT INTO council_ex_recorders (id, incarnation, first_seen, last_seen, applied) "
            f"VALUES ('{name}', 'i', {ago(server, 500)}, {ago(server, days)}, 7);"
            "INSERT INTO council_ex_positions (recorder, incarnation, applied, updated_at) "
            f"VALUES ('{name}', 'i', 7, {ago(server, 401)});")
    server.database.execute("UPDATE council_ex_runs SET recorder = 'with-run' WHERE run_id = 'of-another';"
                            "INSERT INTO council_ex_pruned (run_id, pruned_at) "
                            f"VALUES ('removed', {ago(server, 31)}), ('removed-lately', {ago(server, 29)});")
    apply_limits(server)
    wait_until(lambda: count(server, "recorders", "id = 'gone'") == 0, "the recorder to be forgotten")
    wait_until(lambda: count(server, "pruned") == 1, "the id to be forgotten")
    own = before["recorder"]
    left = {row["id"] for row in server.database.rows("SELECT id FROM council_ex_recorders")}
    assert left == {own, "with-run", "young"}
    positions = {row["recorder"] for row in server.database.rows("SELECT recorder FROM council_ex_positions")}
    assert positions == {own, "with-run", "young"}
    server.wait_for_log(REMOVED + " .*positions=1 recorders=1")
    server.check_ledger()
    after = server.status()
    for account in ("accepted", "applied", "duplicate"):
        assert after[account] == before[account]


@on_both
def test_a_spool_keeps_the_positions_it_knows_however_old_they_are(servers):
    server = started(servers)
    for n in range(3):
        server.send({"type": "run_started", "run_id": f"r{n}", "council": "demo"})
        server.wait_applied()
        server.restart()
    own = server.status()["recorder"]
    known = count(server, "positions")
    assert known >= 3
    assert server.stop() == 0
    rows = ", ".join(f"('{own}', 'forgotten-{n}', 1, {ago(server, 401)})" for n in range(70))
    server.database.execute(
        f"UPDATE council_ex_positions SET updated_at = {ago(server, 600)};"
        f"INSERT INTO council_ex_positions (recorder, incarnation, applied, updated_at) VALUES {rows}")
    server.config["retention"] = {"interval": "50ms"}
    server.start()
    # The newest 64 of a recorder that is there stay: those that were just kept, and the rest of them.
    wait_until(lambda: count(server, "positions") == 64, "the limit of positions")
    assert count(server, "positions", "incarnation NOT LIKE 'forgotten-%'") == known
    server.send({"type": "run_completed", "run_id": "r0"})
    server.wait_applied()
    assert "forgot" not in server.log()
    server.check_ledger()
    assert server.status()["duplicate"] == 0


@on_postgres
def test_a_role_that_may_not_remove_them_goes_on(servers, cluster):
    server = started(servers)
    server.database.execute("CREATE ROLE keeper LOGIN; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO keeper; "
                            "GRANT DELETE ON council_ex_dead_letters, council_ex_leases, council_ex_pruned, council_ex_runs, "
                            "council_ex_run_events TO keeper; GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA public TO keeper;")
    add_pass(server, "old", 401, "request")
    server.send({"type": "run_started", "run_id": "r", "council": "demo"}, {"type": "run_completed", "run_id": "r"})
    server.wait_applied()
    past = ago(server, 20)
    server.database.execute(f"UPDATE council_ex_runs SET inserted_at = {past}, last_event_at = {past}")
    server.config["database"].update(url=cluster.url(server.database.name, "keeper"), migrate=False)
    server.config["retention"] = {"interval": "50ms", "keep": "10d"}
    server.restart()
    server.wait_for_log("cannot be removed.*GRANT DELETE ON .*council_ex_reconciliations")
    wait_until(lambda: not server.database.runs(), "the run to be removed all the same")
    assert count(server, "reconciliations", "pass_id = 'old'") == 1
    assert "run_recorder_retention_failing 0\n" in server.control.get("/metrics").text
