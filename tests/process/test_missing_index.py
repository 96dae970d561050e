"""Exactly once while the unique index of event ids is missing or invalid: a long transaction holds it up, another daemon
builds it, it was dropped, or the history holds doubles."""

import re

from databases import on_postgres
from harness import wait_until

# As Ecto's migrations make them.
ECTO_TABLES = """
    CREATE TABLE council_ex_runs (
      id bigserial PRIMARY KEY, run_id varchar(255) NOT NULL UNIQUE, council varchar(255) NOT NULL, status varchar(255) NOT NULL,
      attempt integer, parent_attempt_run_id varchar(255), oban_job_id bigint, oban_job_state_at_finalize varchar(255),
      input jsonb, result jsonb, error jsonb, started_at timestamp, finalized_at timestamp,
      inserted_at timestamp NOT NULL, updated_at timestamp NOT NULL);
    CREATE TABLE council_ex_run_events (
      id bigserial PRIMARY KEY, run_id varchar(255) NOT NULL, seq integer NOT NULL, type varchar(255) NOT NULL,
      payload jsonb NOT NULL, inserted_at timestamp NOT NULL);
    CREATE INDEX ON council_ex_run_events (run_id);
    INSERT INTO council_ex_runs (run_id, council, status, attempt, inserted_at, updated_at)
      VALUES ('old', 'Billing', 'running', 1, now() - interval '1 day', now() - interval '1 day');"""
# More than what is indexed in a moment: 20 entries of a megabyte that does not compress.
LARGE_HISTORY = """
    INSERT INTO council_ex_run_events (run_id, seq, type, payload, inserted_at)
      SELECT 'old', n, 'note', jsonb_build_object('text', (SELECT string_agg(md5((n * 100000 + i)::text), '') FROM
        generate_series(1, 32768) i)), now() - interval '1 day' FROM generate_series(1, 20) n;"""

GUARD = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('council_ex_run_events_event')"
DOUBLES = "SELECT run_id, event_id FROM council_ex_run_events WHERE event_id IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1"


def values(server, query):
    return [list(row.values()) for row in server.database.rows(query)]


def waiting_for(server):
    return server.status()["database"]["waiting_for"]


def taken_over(servers, tables=ECTO_TABLES + LARGE_HISTORY, config=None):
    server = servers(config)
    server.database.execute(tables)
    return server


def second_on(daemons, server):
    other = daemons(server.database_url)
    other.database = server.database
    return other


def long_transaction(cluster, at_end, server):
    """A report that somebody began and forgot: only a snapshot, no lock on any table of ours."""
    session = cluster.session(server.database.name)
    at_end(session.communicate, "ROLLBACK;\n")
    session.stdin.write("SET application_name = 'nightly report'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1;\n")
    session.stdin.flush()
    holder = "SELECT pid FROM pg_stat_activity WHERE application_name = 'nightly report' AND backend_xmin IS NOT NULL"
    wait_until(lambda: server.database.rows(holder), "the long transaction to have its snapshot")
    return session, values(server, holder)[0][0]


def end(session):
    session.stdin.write("COMMIT;\n")
    session.stdin.flush()


def wait_for_the_index(server):
    wait_until(lambda: values(server, GUARD) == [[True]] and waiting_for(server) is None, "all indexes to stand")
    assert server.database.rows("SELECT 1 FROM pg_index WHERE NOT indisvalid") == []


@on_postgres
def test_an_id_counts_once_while_a_long_transaction_holds_up_the_index_and_status_names_it(servers, cluster, at_end):
    server = taken_over(servers)
    session, pid = long_transaction(cluster, at_end, server)
    server.start()
    for _ in range(4):
        server.send({"type": "run_completed", "run_id": "new", "id": "one", "usage": {"cost_usd": 1}})
        server.wait_applied()
    status = server.check_ledger()
    assert (status["applied"], status["duplicate"]) == (1, 3)
    assert values(server, "SELECT count(*) FROM council_ex_run_events WHERE event_id = 'one'") == [[1]]
    wait_until(lambda: (waiting_for(server) or {}).get("held_up_by"), "the status to say who holds it up")
    wait = waiting_for(server)
    assert re.search(rf"pid {pid} of user postgres \(application nightly report\).* since \d{{4}}-", wait["held_up_by"])
    assert "run_events_event" in wait["indexes"]
    assert wait["event_ids"] == "compared with the history"
    assert f"indexes wait for pid {pid}" in server.status()["status"]
    server.wait_for_log(rf"(?i)indexes are .*pid {pid}")
    doctor = server.tool("doctor", "--config", str(server.config_path))
    assert doctor.returncode == 1
    assert f"pid {pid}" in doctor.stdout
    end(session)
    wait_for_the_index(server)
    server.send({"type": "run_completed", "run_id": "new", "id": "one"})
    assert server.wait_applied()["duplicate"] == 4


@on_postgres
def test_two_daemons_that_get_the_same_events_apply_each_once_and_restart_behind_it(servers, daemons, cluster, at_end):
    server = taken_over(servers)
    session, _ = long_transaction(cluster, at_end, server)
    other = second_on(daemons, server)
    both = [server.start(), other.start()]
    runs, rounds = 20, 15
    clients = [daemon.client() for daemon in both]
    for n in range(rounds):
        for client in clients:
            client.queue(*({"type": "note", "run_id": f"r{run}", "id": f"e{n}"} for run in range(runs)))
        for client in clients:
            client.pump()
    for client in clients:
        client.settle()
    statuses = [daemon.wait_applied() for daemon in both]
    assert server.database.rows(DOUBLES) == []
    assert sum(status["applied"] for status in statuses) == runs * rounds
    assert sum(status["duplicate"] for status in statuses) == runs * rounds
    gaps = "SELECT run_id FROM council_ex_run_events WHERE run_id LIKE 'r%' GROUP BY 1 HAVING max(seq) <> count(*)"
    assert server.database.rows(gaps) == []
    assert waiting_for(server) is not None
    for daemon in both:
        daemon.restart()
        assert daemon.status()["waiting"] == 0
    end(session)
    for daemon in both:
        wait_for_the_index(daemon)
        assert daemon.status()["database"]["state"] == "up"


@on_postgres
def test_a_large_batch_with_an_id_that_is_there_is_not_copied_into_the_history_twice(servers, cluster, at_end):
    server = taken_over(servers)
    session, _ = long_transaction(cluster, at_end, server)
    server.start()
    events = [{"type": "run_started", "run_id": f"b{n}", "id": "s"} for n in range(1_000)]
    server.send(*events)
    server.wait_applied()
    server.send(*events)
    status = server.wait_applied()
    assert (status["applied"], status["duplicate"]) == (1_000, 1_000)
    assert server.database.rows(DOUBLES) == []
    end(session)
    wait_for_the_index(server)


@on_postgres
def test_an_interrupted_index_build_is_repeated(servers, cluster, at_end):
    server = taken_over(servers)
    session, _ = long_transaction(cluster, at_end, server)
    server.start()
    wait_until(lambda: (waiting_for(server) or {}).get("held_up_by"), "an index to be built")
    builder = "SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index"
    wait_until(lambda: server.database.rows(builder), "the building to be ended")
    end(session)
    wait_for_the_index(server)


@on_postgres
def test_an_index_that_is_dropped_under_a_running_daemon_is_built_again_at_its_next_connection(servers):
    server = taken_over(servers, ECTO_TABLES)
    server.start()
    wait_for_the_index(server)
    server.stop()
    server.database.execute("DROP INDEX council_ex_run_events_event")
    server.start()
    wait_until(lambda: values(server, GUARD) == [[True]], "the index to be there again")


@on_postgres
def test_migrate_false_without_the_index_is_refused_with_the_statement_that_builds_it(servers):
    server = taken_over(servers, ECTO_TABLES)
    assert server.run("--migrate").returncode == 0
    server.database.execute("DROP INDEX council_ex_run_events_event")
    server.config["database"]["migrate"] = False
    server.write_config()
    statement = r'CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS "council_ex_run_events_event"'
    checked = server.run("--check")
    assert checked.returncode == 78, checked.stdout
    assert re.search(statement, checked.stdout)
    server.start()
    server.send({"type": "note", "run_id": "a", "id": "one"})
    server.wait_for_log(statement)
    assert server.check_ledger()["waiting"] == 1
    assert server.status()["database"]["state"] == "refused"
    assert server.run("--migrate").returncode == 0
    assert server.wait_applied()["applied"] == 1


@on_postgres
def test_an_index_that_is_invalid_counts_as_missing(servers):
    server = taken_over(servers, ECTO_TABLES)
    assert server.run("--migrate").returncode == 0
    server.database.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'council_ex_run_events_event'::regclass")
    server.config["database"]["migrate"] = False
    server.write_config()
    assert server.run("--check").returncode == 78
    server.config["database"]["migrate"] = True
    server.start()
    wait_until(lambda: values(server, GUARD) == [[True]], "the index to be built again")


@on_postgres
def test_existing_duplicates_are_named_with_advice_and_not_added_to(servers):
    server = taken_over(servers, ECTO_TABLES)
    assert server.run("--migrate").returncode == 0
    server.database.execute("DROP INDEX council_ex_run_events_event")
    server.database.execute("INSERT INTO council_ex_run_events (run_id, seq, type, payload, event_id, inserted_at) "
                            "SELECT 'old', n, 'note', '{}', 'again', now() FROM generate_series(1, 3) n")
    words = r"1 event ids more than once, for example \(run_id, event_id\)=\(old, again\) 3 times.*UPDATE"
    for command in ("--check", "--migrate"):
        done = server.run(command)
        assert done.returncode == 78, done.stdout + done.stderr
        assert re.search(words, done.stdout + done.stderr)
    server.start()
    server.wait_for_log(words)
    wait_until(lambda: (waiting_for(server) or {}).get("error"), "the status to say why")
    assert re.search(words, waiting_for(server)["error"])
    server.send({"type": "note", "run_id": "old", "id": "again"}, {"type": "note", "run_id": "old", "id": "other"})
    status = server.wait_applied()
    assert (status["applied"], status["duplicate"]) == (1, 1)
    repair = re.search(r"UPDATE .*", waiting_for(server)["error"]).group(0)
    server.database.execute(repair)
    server.restart()
    wait_for_the_index(server)


@on_postgres
def test_beside_duplicate_numbers_a_runs_history_is_found_by_another_index(servers):
    """More than what is indexed at once; without an index each run would cost a look at all of it."""
    def index(name):
        return server.database.rows(f"SELECT 1 AS one FROM pg_index WHERE indexrelid = to_regclass('council_ex_run_events_{name}') "
                                    "AND indisvalid")
    server = taken_over(servers, ECTO_TABLES)
    server.database.execute("INSERT INTO council_ex_run_events (run_id, seq, type, payload, inserted_at) SELECT 'r' || n % 5000, "
                            "n / 5000 + 1, 'note', jsonb_build_object('x', repeat('z', 500)), now() "
                            "FROM generate_series(0, 59999) n UNION ALL SELECT 'r1', 1, 'double', '{}', now()")
    server.start()
    wait_until(lambda: (waiting_for(server) or {}).get("error"), "the status to say why")
    assert index("by_run")
    assert not index("seq")
    server.database.execute("DELETE FROM council_ex_run_events WHERE type = 'double'")
    server.restart()
    wait_for_the_index(server)
    wait_until(lambda: index("seq") and not index("by_run"), "the one that keeps the numbers unique, alone")


@on_postgres
def test_taking_over_a_table_in_use_names_its_user(servers, cluster, at_end):
    server = taken_over(servers, ECTO_TABLES)
    session, pid = long_transaction(cluster, at_end, server)
    session.stdin.write("SELECT count(*) FROM council_ex_runs;\n")
    session.stdin.flush()
    lock = f"SELECT 1 FROM pg_locks WHERE pid = {pid} AND relation = 'council_ex_runs'::regclass"
    wait_until(lambda: server.database.rows(lock), "the report to have its lock")
    server.start()
    server.wait_for_log(rf"waits for pid {pid} of user postgres \(application nightly report\)")
    assert f"pid {pid}" in server.status()["database"]["error"]
    end(session)
    server.send({"type": "note", "run_id": "a"})
    server.wait_applied()


def test_duplicates_in_sqlite_are_named_with_advice_and_a_dropped_index_is_built_again(servers):
    server = servers()
    assert server.run("--migrate").returncode == 0
    server.database.execute("DROP INDEX council_ex_run_events_event")
    server.database.execute("INSERT INTO council_ex_run_events (run_id, seq, type, payload, event_id, inserted_at) VALUES "
                            "('old', 1, 'note', '{}', 'again', '2026-01-01T00:00:00Z'), "
                            "('old', 2, 'note', '{}', 'again', '2026-01-01T00:00:00Z')")
    words = r"1 event ids more than once, for example \(run_id, event_id\)=\(old, again\) 2 times.*UPDATE"
    done = server.run("--migrate")
    assert done.returncode == 78, done.stdout + done.stderr
    assert re.search(words, done.stderr)
    server.database.execute(re.search(r"UPDATE .*", done.stderr).group(0))
    server.start()
    for _ in range(2):
        server.send({"type": "note", "run_id": "new", "id": "one"})
        status = server.wait_applied()
    assert (status["applied"], status["duplicate"]) == (1, 1)
    rows = server.database.rows("SELECT count(*) AS n FROM sqlite_master WHERE name = 'council_ex_run_events_event'")
    assert rows[0]["n"] == 1
