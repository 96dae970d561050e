"""Ids whose sequences stand behind, as a logical switch-over leaves them: nothing is given one twice, and no event is blamed."""

import pytest

from databases import on_postgres

pytestmark = on_postgres


def values(server, query):
    return [list(row.values()) for row in server.database.rows(query)]


def turn_back(server, table):
    """So that the next id is one that is taken: they have gaps, because what is only tried uses ids up too."""
    name = f"council_ex_{table}"
    server.database.execute(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT max(id) FROM {name}), false)")


def refuse(server, council):
    server.database.execute(f"ALTER TABLE council_ex_runs ADD CONSTRAINT no_{council} CHECK (council <> '{council}') NOT VALID")


@pytest.fixture
def filled(servers):
    """What a logical switch-over leaves: all rows, and sequences that stand where they began."""
    server = servers().start()
    server.wait_boot_pass()
    refuse(server, "bad")
    for n in range(30):
        server.send({"type": "note", "run_id": f"r{n}"}, {"type": "run_started", "run_id": f"d{n}", "council": "bad"})
    status = server.wait_applied()
    assert (status["applied"], status["dead_letters"]) == (30, 30)
    return server


def check_ids(server, events, letters):
    for table, count in (("run_events", events), ("dead_letters", letters)):
        assert values(server, f"SELECT count(*), count(DISTINCT id) AS ids FROM council_ex_{table}") == [[count, count]]


def test_they_are_set_at_the_next_connection(filled):
    server = filled
    server.stop()
    turn_back(server, "run_events")
    turn_back(server, "dead_letters")
    server.start()
    server.wait_for_log("sequence.*run_events.*was at 0")
    server.send({"type": "note", "run_id": "x"}, {"type": "run_started", "run_id": "y", "council": "bad"})
    server.wait_applied()
    check_ids(server, 31, 31)
    status = server.check_ledger()
    assert (status["applied"], status["dead_letters"]) == (31, 31)


def test_they_are_set_under_a_connection_that_stays(filled):
    server = filled
    turn_back(server, "run_events")
    turn_back(server, "dead_letters")
    server.send({"type": "note", "run_id": "x"}, {"type": "run_started", "run_id": "y", "council": "bad"})
    server.wait_applied()
    check_ids(server, 31, 31)
    status = server.check_ledger()
    assert (status["applied"], status["dead_letters"]) == (31, 31)
    assert status["database"]["reconnects"] == 0


def test_a_role_that_may_not_set_them_is_reported_and_nothing_becomes_a_dead_letter(filled, cluster, at_end):
    server = filled
    server.stop()
    cluster.sql("postgres", "DROP ROLE IF EXISTS recorder_alone; CREATE ROLE recorder_alone LOGIN")
    server.database.execute("GRANT USAGE ON SCHEMA public TO recorder_alone; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL "
                            "TABLES IN SCHEMA public TO recorder_alone")
    at_end(server.database.execute, "DROP OWNED BY recorder_alone")
    turn_back(server, "run_events")
    server.config["database"].update(url=cluster.url(server.database.name, "recorder_alone"), migrate=False)
    server.write_config()
    server.start()
    server.send({"type": "note", "run_id": "x"})
    server.wait_for_log(r"GRANT (USAGE, )?UPDATE ON SEQUENCE")
    assert server.check_ledger()["dead_letters"] == 30
    server.database.execute("GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA public TO recorder_alone")
    assert server.wait_applied()["applied"] == 31
    check_ids(server, 31, 30)
