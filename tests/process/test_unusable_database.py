"""A database that can be reached and read and yet records nothing, or shows not every row: a standby, sessions that are
read-only, row level security."""

import re

import pytest

from databases import on_postgres
from harness import Postgres, wait_until


@pytest.fixture
def server(servers, cluster, at_end):
    """Of a role that has no more than it needs."""
    server = servers()
    assert server.run("--migrate").returncode == 0
    cluster.sql("postgres", "DROP ROLE IF EXISTS recorder_plain; CREATE ROLE recorder_plain LOGIN")
    server.database.execute("GRANT USAGE ON SCHEMA public TO recorder_plain; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL "
                            "TABLES IN SCHEMA public TO recorder_plain")
    at_end(cluster.sql, "postgres", "DROP ROLE recorder_plain")
    at_end(server.database.execute, "DROP OWNED BY recorder_plain")
    server.config["database"].update(url=cluster.url(server.database.name, "recorder_plain"), migrate=False)
    server.write_config()
    return server


@on_postgres
def test_a_policy_that_hides_rows_of_any_table_is_a_refusal(server):
    assert server.run("--check").returncode == 0
    for table in ("runs", "run_events", "dead_letters", "positions"):
        server.database.execute(f"ALTER TABLE council_ex_{table} ENABLE ROW LEVEL SECURITY")
        checked = server.run("--check")
        assert checked.returncode == 78, checked.stdout
        assert re.search(f"row level security.*council_ex_{table}.*BYPASSRLS", checked.stdout)
        server.database.execute(f"ALTER TABLE council_ex_{table} DISABLE ROW LEVEL SECURITY")
    server.database.execute("ALTER TABLE council_ex_runs ENABLE ROW LEVEL SECURITY; "
                            "CREATE POLICY mine ON council_ex_runs USING (council = 'mine')")
    server.start()
    server.send({"type": "note", "run_id": "a"})
    server.wait_for_log("row level security")
    assert server.status()["database"]["state"] == "refused"
    assert server.check_ledger()["waiting"] == 1
    doctor = server.tool("doctor", "--config", str(server.config_path))
    assert "row level security" in doctor.stdout
    server.database.execute("CREATE POLICY recorder ON council_ex_runs TO recorder_plain USING (true)")
    assert server.wait_applied()["applied"] == 1
    assert server.run("--check").returncode == 0


@on_postgres
def test_check_reports_a_policy_that_hides_jobs(server):
    server.database.execute(
        "CREATE TYPE oban_job_state AS ENUM ('available', 'executing', 'completed'); "
        "CREATE TABLE oban_jobs (id bigserial PRIMARY KEY, state oban_job_state, attempt int, errors jsonb[], inserted_at timestamp, "
        "scheduled_at timestamp, attempted_at timestamp, completed_at timestamp, cancelled_at timestamp, discarded_at timestamp); "
        "GRANT SELECT ON oban_jobs TO recorder_plain")
    server.config["reconcile.queue"] = {"kind": "oban"}
    server.write_config()
    checked = server.run("--check")
    assert checked.returncode == 0, checked.stdout
    server.database.execute("ALTER TABLE oban_jobs ENABLE ROW LEVEL SECURITY")
    checked = server.run("--check")
    assert checked.returncode != 0
    assert re.search("queue .*row level security.*oban_jobs", checked.stdout)


@on_postgres
def test_sessions_that_are_read_only_are_a_refusal(server, cluster):
    cluster.sql("postgres", "ALTER ROLE recorder_plain SET default_transaction_read_only = on")
    checked = server.run("--check")
    assert checked.returncode == 78, checked.stdout
    assert "default_transaction_read_only" in checked.stdout
    server.start()
    server.wait_for_log("default_transaction_read_only")
    cluster.sql("postgres", "ALTER ROLE recorder_plain RESET default_transaction_read_only")
    server.send({"type": "note", "run_id": "a"})
    assert server.wait_applied()["applied"] == 1


@on_postgres
def test_a_connected_daemon_stops_writing_once_a_newer_one_has_migrated(server):
    server.start()
    server.send({"type": "run_started", "run_id": "before"})
    assert server.wait_applied()["applied"] == 1
    server.database.execute("INSERT INTO council_ex_recorder_schema (version, name, oldest_daemon) VALUES (99, 'later', '99.0.0')")
    server.send({"type": "run_started", "run_id": "after"})
    server.wait_for_log("the database refuses this daemon, events are spooled.*install 99.0.0 or later")
    assert server.status()["database"]["state"] == "refused"
    assert server.check_ledger()["waiting"] == 1
    assert set(server.database.runs()) == {"before"}
    server.database.execute("DELETE FROM council_ex_recorder_schema WHERE version = 99")
    assert server.wait_applied()["applied"] == 2


def test_check_refuses_a_standby(daemons, at_end):
    primary = Postgres().start()
    at_end(primary.close)
    primary.create_database("app")
    server = daemons(primary.url("app"))
    assert server.run("--migrate").returncode == 0
    standby = primary.standby("standby")
    at_end(standby.close)
    standby.start()
    server.config["database"]["url"] = standby.url("app")
    server.write_config()
    wait_until(lambda: server.run("--check").returncode == 69, "the standby to answer")
    checked = server.run("--check")
    assert re.search("database +.*hot standby", checked.stdout)
    server.start()
    server.send({"type": "note", "run_id": "a"})
    server.wait_for_log("hot standby")
    assert "hot standby" in server.status()["database"]["error"]
    assert "hot standby" in server.tool("doctor", "--config", str(server.config_path)).stdout
