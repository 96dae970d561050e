"""Lists of large tables: each page looks at a bounded part, and the pages together meet every row once, whatever is asked for."""

import json
import re
import signal
import sqlite3
import subprocess
from pathlib import Path
from urllib.parse import urlencode

import pytest

from databases import on_both
from harness import DEADLINE_S, TOOL, Postgres, SqliteDatabase, parse_time, wait_until

STATUSES = ("queued", "running", "completed", "failed", "cancelled", "stuck")
COLUMNS = ("run_id", "council", "status", "started_at", "finalized_at", "inserted_at", "updated_at", "host", "unit", "os_user",
           "queue", "job_id", "oban_job_id", "error")
RARE = {7: "queued", 11: "failed", 13: "cancelled", 17: "stuck", 19: "running"}


def row_of(number, rows):
    """Mostly completed ones; times that repeat, and some that never started."""
    status = RARE.get(number % 97, "failed" if number % 10 == 3 else "completed")
    second = number // 3
    at = f"2026-01-{1 + second // 86400:02}T{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}.000000Z"
    # Some start out of the order in which they were recorded.
    second = max(0, second - 1800 * (number % 5 == 0))
    started = f"2026-01-{1 + second // 86400:02}T{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}.000000Z"
    took = f"2026-01-{1 + second // 86400:02}T{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}.{number % 9}00000Z"
    error = {"failed": {"errors": [{"kind": "exit", "exit_status": number % 7, "message": f"Lost {number % 5}"}]},
             "stuck": {"kind": "stuck", "reason": "process_gone"}}.get(status)
    return {"run_id": f"run-{number * 7919 % rows:06}-{number}", "council": "rare" if number % 1009 == 5 else f"name-{number % 4}",
            "status": status, "started_at": None if status == "queued" or number % 31 == 1 else started,
            "finalized_at": None if status in ("queued", "running") else took, "inserted_at": at, "updated_at": at,
            "host": f"host-{number % 3}", "unit": "rare.service" if number % 701 == 9 else None,
            "os_user": "deploy" if number % 2 else None, "queue": "mail" if number % 11 == 2 else None,
            "job_id": f"job-{number % 50}" if number % 11 == 2 else None, "oban_job_id": number % 40 if number % 13 == 4 else None,
            "error": json.dumps(error) if error else None}


def fill(database, numbers, rows):
    made = [row_of(number, rows) for number in numbers]
    if isinstance(database, SqliteDatabase):
        with sqlite3.connect(database.path, timeout=30) as connection:
            connection.executemany(f"INSERT INTO council_ex_runs ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})",
                                   [[row[column] for column in COLUMNS] for row in made])
        connection.close()
    else:
        text = json.dumps([{**row, "error": json.loads(row["error"]) if row["error"] else None} for row in made])
        database.execute(f"INSERT INTO council_ex_runs ({', '.join(COLUMNS)}) SELECT {', '.join('x.' + name for name in COLUMNS)} "
                         f"FROM jsonb_populate_recordset(NULL::council_ex_runs, $rows${text}$rows$) x; ANALYZE council_ex_runs")
    return made


def started(servers):
    """A daemon whose boot is over: nothing it does changes the rows."""
    server = servers().start()
    wait_until(lambda: server.status()["reconciliation"]["boot_done"], "the boot pass")
    return server


def walk(server, **query):
    """All rows of all pages, and how many pages had fewer than they could."""
    found, short, cursor = [], 0, None
    while True:
        page = server.control.ok("GET", "/v1/runs?" + urlencode({**query, **({"cursor": cursor} if cursor else {})}))
        found += [run["run_id"] for run in page["runs"]]
        short += "examined_until" in page
        cursor = page["next"]
        if not cursor:
            return found, short
        assert "examined_until" in page or page["runs"], "a page without rows says how far it looked"


FILTERS = {
    "everything": ({}, lambda row: True),
    **{status: ({"status": status}, lambda row, status=status: row["status"] == status) for status in STATUSES},
    "two": ({"status": "failed,cancelled"}, lambda row: row["status"] in ("failed", "cancelled")),
    "active": ({"status": "queued,running"}, lambda row: row["status"] in ("queued", "running")),
    "most": ({"status": "completed,stuck"}, lambda row: row["status"] in ("completed", "stuck")),
    "name": ({"council": "name-2"}, lambda row: row["council"] == "name-2"),
    "rare": ({"council": "rare"}, lambda row: row["council"] == "rare"),
    "nobody": ({"council": "nobody"}, lambda row: False),
    "glob": ({"council_glob": "r?re*"}, lambda row: row["council"] == "rare"),
    "host": ({"host": "host-1"}, lambda row: row["host"] == "host-1"),
    "unit": ({"unit": "rare.*"}, lambda row: row["unit"] is not None),
    "user": ({"user": "deploy"}, lambda row: row["os_user"] == "deploy"),
    "queue": ({"queue": "mail"}, lambda row: row["queue"] == "mail"),
    "job": ({"job": "job-2"}, lambda row: row["job_id"] == "job-2" and row["oban_job_id"] is None),
    "integer": ({"oban_job_id": 4}, lambda row: row["oban_job_id"] == 4),
    "prefix": ({"id_prefix": "run-0001"}, lambda row: row["run_id"].startswith("run-0001")),
    "error": ({"error": "lost 2"}, lambda row: "Lost 2" in (row["error"] or "")),
    "exit": ({"exit_status": 5}, lambda row: '"exit_status": 5' in (row["error"] or "")),
    "together": ({"status": "failed", "council": "name-1", "host": "host-2", "error": "lost"},
                 lambda row: row["status"] == "failed" and row["council"] == "name-1" and row["host"] == "host-2"),
    "between": ({"since": "2026-01-01T00:05:00Z", "until": "2026-01-01T00:12:30Z", "user": "deploy"},
                lambda row: None),
}


def expected(rows, query, fits, by):
    def moment(row):
        return parse_time((row["started_at"] if by == "started" else None) or row["inserted_at"])
    if "since" in query:
        since, until = parse_time(query["since"]), parse_time(query["until"])
        chosen = [row for row in rows if row["os_user"] == "deploy" and since <= moment(row) < until]
    else:
        chosen = [row for row in rows if fits(row)]
    return [row["run_id"] for row in sorted(chosen, key=lambda row: (moment(row), row["run_id"]), reverse=True)]


@on_both
def test_pages_that_look_at_few_rows_meet_every_row_once(servers):
    server = started(servers)
    rows = fill(server.database, range(3000), 3000)
    gave_up = {}
    for name, (query, fits) in FILTERS.items():
        for by in ("recorded", "started"):
            for limits in ({}, {"examine": 230, "limit": 20}, {"examine": 120, "limit": 100}, {"examine": 1000, "limit": 17}):
                found, short = walk(server, by=by, **query, **limits)
                assert found == expected(rows, query, fits, by), (name, by, limits)
                gave_up[name] = gave_up.get(name, 0) + short
    # What an index finds is looked at as a whole, the rest page by page.
    for name in ("host", "unit", "glob", "error", "exit", "queue", "completed", "between"):
        assert gave_up[name] > 0, name
    for name in ("job", "integer", "prefix", "name", "rare", "nobody"):
        assert gave_up[name] == 0, name


@on_both
def test_a_name_that_many_runs_have_is_met_once_in_either_order(servers):
    server = started(servers)
    rows = fill(server.database, range(7000), 7000)
    server.database.execute("UPDATE council_ex_runs SET council = 'many' WHERE council IN ('name-0', 'name-1', 'name-2', 'rare')")
    many = [row for row in rows if row["council"] != "name-3"]
    assert len(many) > 5000
    for statuses, fits in (({}, lambda row: True), ({"status": "completed,failed"}, lambda row: row["status"] in ("completed", "failed")),
                           ({"status": "cancelled"}, lambda row: row["status"] == "cancelled")):
        for by in ("recorded", "started"):
            found, _ = walk(server, by=by, council="many", limit=1000, examine=1700, **statuses)
            assert found == expected(many, {}, fits, by), (statuses, by)


@on_both
def test_what_a_pass_marked_is_met_once_however_much_it_is(servers):
    server = started(servers)
    rows = fill(server.database, range(7000), 7000)
    ids = [row["run_id"] for row in rows if row["os_user"]] + [row["run_id"] for row in rows if not row["os_user"]][:3000]
    numbers = list(enumerate(ids))
    values = ", ".join(f"({number}, '{run_id}', 1, 'run_stuck', '2026-01-01T00:00:00.000000Z', 'large')" for number, run_id in numbers)
    values += ", " + ", ".join(f"({10000 + number}, '{run_id}', 2, 'run_stuck', '2026-01-01T00:00:00.000000Z', 'small')"
                               for number, run_id in numbers[:50])
    server.database.execute(f"INSERT INTO council_ex_run_events (id, run_id, seq, type, inserted_at, pass_id) VALUES {values}")
    assert len(ids) > 5000  # more than are looked at as a whole
    for by in ("recorded", "started"):
        for marked, name in ((set(ids), "large"), (set(ids[:50]), "small")):
            found, short = walk(server, by=by, examine=900, limit=1000, **{"pass": name})
            assert found == expected(rows, {}, lambda row: row["run_id"] in marked, by), (name, by)
            assert (short > 0) == (name == "large")


@on_both
def test_many_runs_of_one_name_or_running_are_walked_over(servers):
    server = started(servers)
    rows = fill(server.database, range(7000), 7000)
    server.database.execute("UPDATE council_ex_runs SET council = 'many'; UPDATE council_ex_runs SET status = 'running', "
                            "finalized_at = NULL WHERE os_user IS NOT NULL OR host <> 'host-1'")
    for row in rows:
        row["council"] = "many"
        if row["os_user"] or row["host"] != "host-1":
            row["status"] = "running"
    assert sum(row["status"] == "running" for row in rows) > 5000
    for query, fits in (({"council": "many", "unit": "rare.*"}, lambda row: row["unit"]),
                        ({"status": "running"}, lambda row: row["status"] == "running"),
                        ({"status": "running,failed"}, lambda row: row["status"] in ("running", "failed"))):
        found, short = walk(server, examine=700, limit=1000, **query)
        assert found == expected(rows, {}, fits, "recorded"), query
        assert short > 0


@on_both
def test_the_tool_goes_on_to_the_end(servers):
    """The oldest of more rows than a page looks at, and none."""
    server = started(servers)
    fill(server.database, range(45_000), 45_000)
    server.database.execute("UPDATE council_ex_runs SET cwd = 'old', unit = 'oldest.service' WHERE inserted_at = "
                            "(SELECT min(inserted_at) FROM council_ex_runs)")
    first = server.control.ok("GET", "/v1/runs?unit=oldest.*")
    assert first["runs"] == [] and first["next"] and first["examined_until"]
    done = server.tool("list", "--unit", "oldest.*", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3
    done = server.tool("list", "--unit", "oldest.*", "--limit", "2", "--json")
    assert len(done.stdout.splitlines()) == 2
    done = server.tool("stats", "--unit", "oldest.*", "--json")
    assert sum(json.loads(line)["runs"] for line in done.stdout.splitlines()) == 3
    done = server.tool("list", "--unit", "none.*")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "run-recorder: no such runs\n")
    done = server.tool("list", "--name", "nobody")
    assert "no run named \"nobody\" is recorded" in done.stderr


@pytest.mark.parametrize("kind", ("postgresql",))
def test_no_list_reads_more_than_its_part_of_the_table(daemons, at_end):
    """As PostgreSQL itself counts it, with statistics that make looking through the table seem cheap: by each filter."""
    cluster = Postgres({"session_preload_libraries": "auto_explain", "auto_explain.log_min_duration": "0",
                        "auto_explain.log_analyze": "on", "auto_explain.log_timing": "off", "auto_explain.log_format": "json",
                        "auto_explain.log_nested_statements": "off"})
    at_end(cluster.close)
    cluster.start()
    database = cluster.create_database("large")
    server = daemons(database.url)
    assert server.run("--migrate").returncode == 0
    rows = 120_000
    database.execute(f"""
        INSERT INTO council_ex_runs (run_id, council, status, oban_job_id, job_id, started_at, finalized_at, inserted_at, updated_at,
                                     host, unit, error)
        SELECT md5(i::text), CASE WHEN i < {rows // 2} THEN 'early' WHEN i % 60000 = 7 THEN 'rare' ELSE 'late' END, s,
               CASE WHEN i % 9 = 0 THEN i / 20 END, CASE WHEN i % 9 = 1 THEN (i / 20)::text || 'x' END,
               CASE WHEN s <> 'queued' THEN t END, CASE WHEN s NOT IN ('queued', 'running') THEN t END, t, t,
               'host-' || i % 3, CASE WHEN i = 5 THEN 'oldest.service' END,
               CASE WHEN s = 'failed' THEN '{{"errors": [{{"message": "lost"}}]}}'::jsonb END
        FROM (SELECT i, timestamptz '2026-01-01' + i * interval '1 second' AS t,
                     CASE WHEN i < 100 THEN 'cancelled' WHEN i % 1000 = 1 THEN 'failed' WHEN i % 1000 = 2 THEN 'stuck'
                          WHEN i > {rows} - 2000 THEN 'running' WHEN i % 20000 = 3 THEN 'queued' ELSE 'completed' END AS s
              FROM generate_series(1, {rows}) i) g""")
    database.execute("VACUUM ANALYZE council_ex_runs; UPDATE council_ex_runs SET recorder = 'another' WHERE status = 'running'; "
                     "INSERT INTO council_ex_recorders (id) VALUES ('another')")
    server.start()
    wait_until(lambda: server.status()["reconciliation"]["boot_done"], "the boot pass")
    by_index = ("status=cancelled", "status=failed", "status=queued,stuck", "status=running", "status=queued,running",
                "job=4", "job=7x", "oban_job_id=4", "pass=none", "id_prefix=a",
                "status=failed&host=host-9")
    walks = ("council=rare", "council=nobody", "host=host-9", "unit=oldest.*", "error=nothing", "exit_status=3", "longer_than=1h",
             "queue=mail", "user=x", "council_glob=x*", "status=completed&host=host-9", "council=early",
             "council=late&unit=oldest.*", "", "status=failed,completed",
             "since=2026-01-01T10:00:00Z&until=2026-01-01T12:00:00Z&host=host-9", "since=2027-01-01T00:00:00Z",
             "until=2025-01-01T00:00:00Z")
    for queries, most in ((by_index, 5_001), (walks, 20_000)):
        for query in queries:
            for by in ("recorded", "started"):
                length = cluster.log_path.stat().st_size
                server.control.ok("GET", f"/v1/runs?by={by}&{query}")
                log = cluster.log_path.read_text()[length:]
                plans = [json.loads(text) for text in re.findall(r"plan:\n(\t\{.*?\n\t\})", log, re.S)]
                assert plans, log
                for plan in plans:
                    for node in nodes_of(plan["Plan"]):
                        if node.get("Relation Name") != "council_ex_runs":
                            continue
                        assert node["Node Type"] != "Seq Scan", (query, by, plan)
                        read = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
                        assert read <= most, (query, by, read, plan)


def nodes_of(plan):
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes_of(part)


def catches_interrupts(pid):
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.M)[1]
    return int(caught, 16) >> (signal.SIGINT - 1) & 1


def test_interrupted_a_list_ends_with_what_was_found(servers):
    server = started(servers)
    fill(server.database, range(45_000), 45_000)
    page = server.control.ok("GET", "/v1/runs?unit=rare.*&by=started")
    assert 0 < len(page["runs"]) < 50 and page["examined_until"]
    # It is in its first request while the daemon stands still.
    server.process.send_signal(signal.SIGSTOP)
    try:
        tool = subprocess.Popen([str(TOOL), "list", "--unit", "rare.*", "--json", "--control", str(server.control_path)],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=server.environment())
        wait_until(lambda: catches_interrupts(tool.pid), "the tool to watch for interrupts")
        tool.send_signal(signal.SIGINT)
    finally:
        server.process.send_signal(signal.SIGCONT)
    out, said = tool.communicate(timeout=DEADLINE_S)
    assert tool.returncode == -signal.SIGINT
    assert [json.loads(line)["run_id"] for line in out.splitlines()] == [run["run_id"] for run in page["runs"]]
    assert said == f"run-recorder: older ones than of {page['examined_until']} were not looked at\n"
