"""Tables that an application's Ecto migrations made, taken over by the daemon: what it writes into them is what an Ecto schema
loads, in every form that ecto_sql and ecto_sqlite3 give a key and a time.

The DDL below is what these adapters make of `create table(:council_ex_runs, primary_key: false)` with `:binary_id`, `:string`,
`:map` and the like, and of `timestamps()`; load() is what their loaders accept.
"""

import re
import socket
import uuid
from datetime import datetime
from decimal import Decimal

import pytest

from databases import on_both

KEYS_IN_SQLITE = {"text": '"id" TEXT PRIMARY KEY', "bytes": '"id" BLOB PRIMARY KEY',
                  "text not null": '"id" TEXT NOT NULL PRIMARY KEY', "number": '"id" INTEGER PRIMARY KEY AUTOINCREMENT'}
KEYS_IN_POSTGRES = {"uuid": '"id" uuid', "number": '"id" bigserial'}
OLD_ID = "6f1c7b6e-7d0a-4c57-9a7c-0d6a2a3d8a11"


def sqlite_tables(key, history_key):
    return f"""
        CREATE TABLE "council_ex_runs" ({KEYS_IN_SQLITE[key]}, "run_id" TEXT NOT NULL, "council" TEXT NOT NULL,
          "status" TEXT DEFAULT 'queued' NOT NULL, "attempt" INTEGER DEFAULT 1 NOT NULL, "parent_attempt_run_id" TEXT,
          "oban_job_id" INTEGER, "oban_job_state_at_finalize" TEXT, "input" TEXT, "result" TEXT, "error" TEXT,
          "started_at" TEXT, "finalized_at" TEXT, "inserted_at" TEXT NOT NULL, "updated_at" TEXT NOT NULL);
        CREATE UNIQUE INDEX "council_ex_runs_run_id_index" ON "council_ex_runs" ("run_id");
        CREATE TABLE "council_ex_run_events" ({KEYS_IN_SQLITE[history_key]}, "run_id" TEXT NOT NULL, "seq" INTEGER NOT NULL,
          "type" TEXT NOT NULL, "payload" TEXT DEFAULT ('{{}}') NOT NULL, "inserted_at" TEXT NOT NULL,
          "updated_at" TEXT NOT NULL);
        CREATE UNIQUE INDEX "council_ex_run_events_run_id_seq_index" ON "council_ex_run_events" ("run_id", "seq");"""


def postgres_tables(key, history_key):
    return f"""
        CREATE TABLE "council_ex_runs" ({KEYS_IN_POSTGRES[key]}, "run_id" varchar(255) NOT NULL, "council" varchar(255) NOT NULL,
          "status" varchar(255) DEFAULT 'queued' NOT NULL, "attempt" integer DEFAULT 1 NOT NULL,
          "parent_attempt_run_id" varchar(255), "oban_job_id" bigint, "oban_job_state_at_finalize" varchar(255),
          "input" jsonb, "result" jsonb, "error" jsonb, "started_at" timestamp, "finalized_at" timestamp,
          "inserted_at" timestamp(0) NOT NULL, "updated_at" timestamp(0) NOT NULL, PRIMARY KEY ("id"));
        CREATE UNIQUE INDEX "council_ex_runs_run_id_index" ON "council_ex_runs" ("run_id");
        CREATE TABLE "council_ex_run_events" ({KEYS_IN_POSTGRES[history_key]}, "run_id" varchar(255) NOT NULL,
          "seq" integer NOT NULL, "type" varchar(255) NOT NULL, "payload" jsonb DEFAULT '{{}}'::jsonb NOT NULL,
          "inserted_at" timestamp(0) NOT NULL, "updated_at" timestamp(0) NOT NULL, PRIMARY KEY ("id"));
        CREATE UNIQUE INDEX "council_ex_run_events_run_id_seq_index" ON "council_ex_run_events" ("run_id", "seq");"""


TABLES = {"sqlite": sqlite_tables, "postgresql": postgres_tables}


def naive_time(text):
    """As NaiveDateTime.from_iso8601 reads it: a T or a space, a fraction or none, an offset that is ignored."""
    form = re.fullmatch(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d{1,6})?Z?", text)
    assert form, f"no time that Ecto loads: {text!r}"
    return datetime.fromisoformat(f"{form[1]}T{form[2]}{(form[3] or '.0').ljust(7, '0')}")


def write_old_row(server):
    """As the application wrote it."""
    if server.database.kind == "sqlite":
        ids = {table: server.database.rows(f"SELECT type FROM pragma_table_info('council_ex_{table}') WHERE name = 'id'")[0]["type"]
               for table in ("runs", "run_events")}
        value = {"TEXT": f"'{OLD_ID}'", "BLOB": f"x'{OLD_ID.replace('-', '')}'", "INTEGER": "1"}
        server.database.execute(
            "INSERT INTO council_ex_runs (id, run_id, council, status, started_at, inserted_at, updated_at) VALUES "
            f"({value[ids['runs']]}, 'old', 'Elixir.Demo', 'running', '2026-01-02T03:04:05', '2026-01-02T03:04:05', "
            "strftime('%Y-%m-%dT%H:%M:%S', 'now')); "
            "INSERT INTO council_ex_run_events (id, run_id, seq, type, payload, inserted_at, updated_at) "
            f"VALUES ({value[ids['run_events']]}, 'old', 1, 'run_started', '{{}}', '2026-01-02T03:04:05', '2026-01-02T03:04:05');")
    else:
        kind = {table: server.database.rows("SELECT data_type FROM information_schema.columns WHERE table_name = "
                                            f"'council_ex_{table}' AND column_name = 'id'")[0]["data_type"]
                for table in ("runs", "run_events")}
        value = {name: f"'{OLD_ID}'" if data_type == "uuid" else f"nextval('council_ex_{name}_id_seq')"
                 for name, data_type in kind.items()}
        server.database.execute(
            "INSERT INTO council_ex_runs (id, run_id, council, status, started_at, inserted_at, updated_at) VALUES "
            f"({value['runs']}, 'old', 'Elixir.Demo', 'running', '2026-01-02 03:04:05', '2026-01-02 03:04:05', "
            "now() AT TIME ZONE 'UTC'); INSERT INTO council_ex_run_events (id, run_id, seq, type, inserted_at, updated_at) "
            f"VALUES ({value['run_events']}, 'old', 1, 'run_started', '2026-01-02 03:04:05', '2026-01-02 03:04:05');")


def check_keys(server, table, key):
    ids = [row["id"] for row in server.database.rows(f"SELECT id FROM council_ex_{table}")]
    assert len(set(ids)) == len(ids)
    for value in ids:
        if key == "number":
            assert isinstance(value, (int, Decimal)) and int(value) == value
        elif key == "bytes":
            assert isinstance(value, bytes)
            assert uuid.UUID(bytes=value).version == 4
        else:
            assert str(uuid.UUID(value)) == value
            assert uuid.UUID(value).version == 4


def start(servers, ddl):
    """A daemon on a database where the application's migration came first, with a row that the application wrote."""
    server = servers({"reconcile": {"interval": "0s", "grace": "1h"}})
    server.database.execute(ddl)
    write_old_row(server)
    return server.start().wait_boot_pass()


def record(server):
    """Every way in which the daemon writes a row or an entry of the history."""
    server.send({"type": "run_started", "run_id": "done", "council": "Elixir.Demo", "input": [1],
                 "at": "2026-01-02T03:04:05.678901Z", "oban_job_id": 7, "user": "reports"},
                {"type": "run_completed", "run_id": "done", "result": "yes"},
                {"type": "run_failed", "run_id": "failed", "errors": ["x"]},
                {"type": "run_started", "run_id": "marked", "worker_pid": 4194303},
                {"type": "run_completed", "run_id": "old"})
    server.wait_applied()
    # Old enough for a pass, and its sender as gone as its worker: so soon after a boot nothing else is judged.
    server.database.execute("UPDATE council_ex_runs SET last_event_at = '2026-01-02T03:04:05.000000Z', connection = '', "
                            "sender_process = worker_process WHERE run_id = 'marked';")
    report = server.control.reconcile(unvouched=True)
    assert report["marked"] == 1, report
    undone = server.control.ok("POST", f"/v1/reconciliations/{report['pass_id']}/undo")
    assert undone["undone"] == 1


def loaded(server):
    """The rows as the Ecto schemas load them."""
    runs = {row["run_id"]: row for row in server.database.rows("SELECT * FROM council_ex_runs")}
    entries = server.database.rows("SELECT * FROM council_ex_run_events ORDER BY run_id, seq")
    for row in [*runs.values(), *entries]:
        for name in ("inserted_at", "updated_at", *(("started_at", "finalized_at") if "status" in row else ())):
            if row[name] is not None or name.endswith("ed_at") and name[0] in "iu":
                row[name] = naive_time(row[name])
        for name in ("input", "result", "error", "payload"):
            assert isinstance(row.get(name) or {}, dict)
    return runs, entries


def check_move(servers, server, ddl):
    """Rows of another database, into tables that Ecto made."""
    exported = server.tool("export")
    assert exported.returncode == 0, exported.stderr
    other = servers({"reconcile": {"interval": "0s", "grace": "1h"}})
    other.database.execute(ddl)
    other.start().wait_boot_pass()
    imported = other.tool("import", input=exported.stdout)
    assert imported.returncode == 0, imported.stderr
    runs, entries = loaded(other)
    before_runs, before = loaded(server)
    assert set(runs) == set(before_runs)
    assert ([(row["run_id"], row["seq"], row["inserted_at"]) for row in entries]
            == [(row["run_id"], row["seq"], row["inserted_at"]) for row in before])
    for row in entries:
        assert row["updated_at"] == row["inserted_at"]
    other.stop()


@pytest.mark.parametrize("kind, key, history_key", (
    ("sqlite", "text", "text"), ("sqlite", "bytes", "bytes"), ("sqlite", "text not null", "number"),
    ("sqlite", "number", "text not null"), ("sqlite", "number", "number"), ("postgresql", "uuid", "uuid"),
    ("postgresql", "uuid", "number"), ("postgresql", "number", "uuid"), ("postgresql", "number", "number")))
def test_every_form_of_key(servers, kind, key, history_key):
    ddl = TABLES[kind](key, history_key)
    server = start(servers, ddl)
    record(server)
    runs, entries = loaded(server)
    assert ({run_id: row["status"] for run_id, row in runs.items()}
            == {"done": "completed", "failed": "failed", "marked": "running", "old": "completed"})
    history = [(row["run_id"], int(row["seq"]), row["type"]) for row in entries]
    assert history == [("done", 1, "run_started"), ("done", 2, "run_completed"), ("failed", 1, "run_failed"),
                       ("marked", 1, "run_started"), ("marked", 2, "run_stuck"), ("marked", 3, "run_revived"),
                       ("old", 1, "run_started"), ("old", 2, "run_completed")]
    check_keys(server, "runs", key)
    check_keys(server, "run_events", history_key)
    for row in entries:
        assert row["updated_at"] >= row["inserted_at"]
    assert runs["done"]["started_at"] == datetime(2026, 1, 2, 3, 4, 5, 678901)
    assert runs["done"]["result"] == {"value": "yes"}
    assert (runs["done"]["host"], runs["done"]["os_user"], runs["old"]["host"]) == (socket.gethostname(), "reports", None)
    check_move(servers, server, ddl)


def only_started_with_time_zone(ddl):
    return ddl.replace('"started_at" timestamp,', '"started_at" timestamptz,')


@pytest.mark.parametrize("kind, change", (("sqlite", str), ("postgresql", str), ("postgresql", only_started_with_time_zone)))
def test_runs_in_the_order_of_their_start(servers, kind, change):
    server = start(servers, change(TABLES[kind]("number", "number")))
    server.send({"type": "run_started", "run_id": "before", "at": "2026-01-02T03:04:04.999999Z"},
                {"type": "run_started", "run_id": "behind", "at": "2026-01-02T03:04:05.000001Z"},
                {"type": "run_queued", "run_id": "waits"})
    server.wait_applied()
    # What has not started counts by when it was recorded, in an application's own precision.
    server.database.execute("UPDATE council_ex_runs SET inserted_at = '2026-01-02T03:04:06' WHERE run_id = 'waits';")
    walked, query = [], "/v1/runs?by=started&limit=1"
    while query:
        page = server.control.ok("GET", query)
        walked += [run["run_id"] for run in page["runs"]]
        query = page["next"] and f"/v1/runs?by=started&limit=1&cursor={page['next']}"
    assert walked == ["waits", "behind", "old", "before"]

    def ids(times):
        return [run["run_id"] for run in server.control.ok("GET", f"/v1/runs?by=started&{times}")["runs"]]
    assert ids("since=2026-01-02T03:04:05Z&until=2026-01-02T03:04:06Z") == ["behind", "old"]
    assert ids("id_prefix=be") == ["behind", "before"]


@on_both
def test_the_daemons_migration_first_is_in_the_way_of_the_applications_and_what_helps(servers, kind):
    key = {"sqlite": "text", "postgresql": "uuid"}[kind]
    ddl = TABLES[kind](key, key)
    server = servers({"reconcile": {"interval": "0s"}}).start()
    server.send({"type": "run_completed", "run_id": "early", "result": {"n": 1}})
    server.wait_applied()
    with pytest.raises(Exception, match="already exists"):
        server.database.execute(ddl)
    # As docs/oban-and-councilex.md says: out with the rows, away with the tables, the migration, in with the rows.
    exported = server.tool("export")
    server.stop()
    for name in ("runs", "run_events", "recorder_schema"):
        server.database.execute(f"DROP TABLE council_ex_{name};")
    server.database.execute(ddl)
    server.start().wait_tables()
    imported = server.tool("import", input=exported.stdout)
    assert imported.returncode == 0, imported.stderr
    runs, entries = loaded(server)
    assert list(runs) == ["early"]
    assert len(entries) == 1
    check_keys(server, "run_events", key)
