"""Events that the database refuses for a reason that no validation could foresee: triggers and constraints that somebody else
put on our tables. The rest of the batch is applied, each poison becomes a dead letter with the database's own words after a
bounded number of tries, and list, show, retry and delete deal with it; the ledger is exact all the time, and a run with a
dead letter is never judged."""

import json
import re
from contextlib import contextmanager

import pytest

from databases import on_both, on_postgres
from harness import parse_time, wait_until
from oracle import Oracle
from workload import stream

BATCH = 2_000       # events that one transaction takes at most
TRIES_EACH = 2 * 12  # of one poison: bisection of a full batch takes eleven halvings, and the batch may come twice


def started(run_id, **fields):
    return {"type": "run_started", "run_id": run_id, "council": "demo", **fields}


def start(servers, config=None):
    server = servers({"reconcile": {"interval": "0s", "grace": "1ms"}, **(config or {})}).start()
    return server.wait_tables()


def errors(server):
    """Refusals and failures that the daemon had from its database."""
    text = server.control.get("/metrics").text
    return sum(int(count) for count in re.findall(r"^\w*store_errors_total\{.*\} (\d+)$", text, re.M))


def letters(server):
    return server.control.ok("GET", "/v1/dead-letters?limit=1000")["dead_letters"]


def check(server, good, dead):
    """Everything of `good` is applied, in order and once, and nothing else; `dead` events are dead letters."""
    status = server.wait_applied()
    oracle = Oracle().apply_all(good)
    oracle.check(server.database)
    server.check_ledger()
    assert (status["applied"], status["dead_letters"]) == (oracle.totals()["applied"], dead)
    assert len(server.database.rows("SELECT id FROM council_ex_dead_letters")) == dead


# ---- triggers that others put on our tables


def refuse(server, table, operation, column, key, words, how="ABORT"):
    """Rows with this key in this column are refused; `how` is for SQLite."""
    if server.database.kind == "sqlite":
        server.database.execute(
            f"CREATE TRIGGER poison BEFORE {operation} ON council_ex_{table} "
            f"WHEN json_extract(NEW.{column}, '$.{key}') IS NOT NULL BEGIN SELECT RAISE({how}, '{words}'); END")
    else:
        server.database.execute(f"""
            CREATE SEQUENCE IF NOT EXISTS tries;
            CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
              $$ BEGIN PERFORM nextval('tries'); RAISE EXCEPTION '{words}'; END $$;
            CREATE TRIGGER poison BEFORE {operation} ON council_ex_{table} FOR EACH ROW
              WHEN (NEW.{column} ->> '{key}' IS NOT NULL) EXECUTE FUNCTION refuse()""")


def refuse_all(server, words):
    if server.database.kind == "sqlite":
        server.database.execute("CREATE TRIGGER poison BEFORE INSERT ON council_ex_run_events "
                                f"BEGIN SELECT RAISE(ABORT, '{words}'); END")
    else:
        server.database.execute(f"""
            CREATE FUNCTION refuse_all() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{words}'; END $$;
            CREATE TRIGGER poison BEFORE INSERT ON council_ex_run_events FOR EACH ROW EXECUTE FUNCTION refuse_all()""")


def swallow(server):
    """Rows with poison in their payload are dropped silently."""
    if server.database.kind == "sqlite":
        server.database.execute("CREATE TRIGGER poison BEFORE INSERT ON council_ex_run_events "
                                "WHEN json_extract(NEW.payload, '$.poison') IS NOT NULL BEGIN SELECT RAISE(IGNORE); END")
    else:
        server.database.execute("""
            CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
            CREATE TRIGGER poison BEFORE INSERT ON council_ex_run_events FOR EACH ROW
              WHEN (NEW.payload ->> 'poison' IS NOT NULL) EXECUTE FUNCTION swallow()""")


def allow(server):
    """Takes the trigger away."""
    if server.database.kind == "sqlite":
        server.database.execute("DROP TRIGGER poison")
        return
    for table in server.database.rows("SELECT DISTINCT event_object_table AS name FROM information_schema.triggers"):
        server.database.execute(f"DROP TRIGGER poison ON {table['name']}")


def tries(server):
    if server.database.kind == "sqlite":
        return errors(server)  # a transaction that is rolled back leaves nothing to count by
    return int(server.database.rows("SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS tries FROM tries")[0]["tries"])


@contextmanager
def held(server):
    """What comes meanwhile comes to the database as few large batches: somebody else holds its file, or a lock on our table."""
    if server.database.kind == "sqlite":
        with server.database.away():
            yield
        return
    other = server.database.cluster.session(server.database.name)
    try:
        other.stdin.write("BEGIN; LOCK TABLE council_ex_runs IN ACCESS EXCLUSIVE MODE; SELECT 'locked';\n")
        other.stdin.flush()
        assert other.stdout.readline() == "locked\n"
        yield
    finally:
        other.communicate("ROLLBACK;\n")


# ---- the tests


@on_both
def test_the_rest_of_a_full_batch_is_applied_and_the_poison_keeps_the_databases_message(servers):
    server = start(servers)
    refuse(server, "run_events", "INSERT", "payload", "poison", "this row is not wanted: ask the owner")
    events = stream(6, BATCH, "p")
    poison = [{"type": "note", "run_id": events[0]["run_id"], "id": f"poison-{n}", "payload": {"poison": n}} for n in range(3)]
    with held(server):  # so that they come to the database as few large batches
        server.send(*events[:500], poison[0], *events[500:1_000], *poison[1:], *events[1_000:])
    check(server, events, 3)
    dead = letters(server)
    assert [letter["event_id"] for letter in dead] == ["poison-0", "poison-1", "poison-2"]
    for letter, event in zip(dead, poison):
        assert "this row is not wanted: ask the owner" in letter["reason"]
        assert (letter["run_id"], letter["type"], letter["tries"]) == (event["run_id"], "note", 1)
        assert json.loads(letter["line"]) == event
        assert parse_time(letter["received_at"]) is not None
    if server.database.kind == "postgresql":
        assert {letter["sqlstate"] for letter in dead} == {"P0001"}
    assert errors(server) <= 3 * TRIES_EACH
    assert tries(server) <= 3 * TRIES_EACH
    assert len(re.findall("an event became a dead letter", server.log())) == 3


@on_both
def test_one_bad_event_costs_the_same_whatever_waits_behind_it(servers):
    """It becomes a dead letter and is never retried by itself, not after a restart either."""
    server = start(servers)
    refuse(server, "run_events", "INSERT", "payload", "poison", "no")
    server.send(started("a"), {"type": "note", "run_id": "a", "payload": {"poison": 1}})
    server.wait_applied()
    once = tries(server), errors(server)
    assert max(once) <= TRIES_EACH
    events = stream(7, BATCH, "later")
    server.send(*events)
    server.wait_applied()
    assert (tries(server), errors(server)) == once
    server.restart()
    server.send(started("b"))
    check(server, [started("a"), *events, started("b")], 1)
    assert errors(server) == 0


@on_both
def test_nothing_but_poison_ends_too(servers):
    server = start(servers)
    refuse(server, "run_events", "INSERT", "payload", "poison", "no")
    poison = [{"type": "note", "run_id": f"r{n % 7}", "id": f"{n}", "payload": {"poison": n}} for n in range(300)]
    with held(server):
        server.send(*poison, started("good"))
    check(server, [started("good")], 300)
    assert [letter["event_id"] for letter in letters(server)] == [str(n) for n in range(300)]
    assert errors(server) <= 3 * 300  # a tree has fewer knots than twice its leaves


@on_both
def test_a_trigger_that_refuses_everything_is_the_databases_and_costs_nothing(servers):
    server = start(servers)
    server.send(started("before"))
    server.wait_applied()
    refuse_all(server, "closed for today")
    events = [started("r"), {"type": "note", "run_id": "r"}, {"type": "run_completed", "run_id": "r"}]
    server.send(*events)
    wait_until(lambda: server.status()["database"]["state"] == "refused", "the refusal")
    status = server.check_ledger()
    assert (status["waiting"], status["dead_letters"]) == (3, 0)
    assert "closed for today" in status["database"]["error"]
    assert "the database refuses this daemon, events are spooled" in server.log()
    allow(server)
    check(server, [started("before"), *events], 0)


@on_both
def test_what_comes_after_the_poison_in_its_run_is_applied_in_order(servers):
    """The break is visible: the dead letter names its run, and the history goes on without it."""
    server = start(servers)
    refuse(server, "run_events", "INSERT", "payload", "poison", "no")
    before = [started("r"), {"type": "one", "run_id": "r"}]
    after = [{"type": "three", "run_id": "r"}, {"type": "run_completed", "run_id": "r", "result": {"n": 4}}]
    two = {"type": "two", "run_id": "r", "payload": {"poison": 2}}
    server.send(*before, two, *after)
    check(server, before + after, 1)
    allow(server)
    letter = letters(server)[0]
    answer = server.control.post(f"/v1/dead-letters/{letter['id']}/retry")
    assert (answer.status, answer.json) == (200, {"id": letter["id"], "outcome": "applied"})
    check(server, [*before, *after, two], 0)


@on_both
def test_a_row_that_may_not_be_made_costs_only_the_event_that_would_make_it(servers):
    server = start(servers)
    refuse(server, "runs", "INSERT", "input", "poison", "no such input here")
    events = [started("r", input={"poison": 1}), {"type": "note", "run_id": "r"}, started("r", input={"fine": 1}),
              started("other")]
    with held(server):
        server.send(*events)
    check(server, events[1:], 1)
    assert "no such input here" in letters(server)[0]["reason"]


@on_both
def test_a_run_whose_end_is_a_dead_letter_is_unknown_until_it_is_retried(servers):
    server = start(servers)
    server.wait_for_log("reconciliation finished.*trigger=boot")  # of nothing yet
    refuse(server, "runs", "UPDATE", "result", "poison", "results like this one are refused")
    events = [started("r"), {"type": "note", "run_id": "r"}]
    end = {"type": "run_completed", "run_id": "r", "result": {"poison": True}}
    server.send(*events)
    server.wait_applied()  # else one row would be made of all three
    server.send(end)
    check(server, events, 1)

    def pass_again():
        answer = server.control.post("/v1/reconcile", {"unvouched": True})
        assert answer.status in (200, 409)  # a boot pass may still be at it
        return answer.json if answer.status == 200 and answer.json["examined"] == 1 else None  # not within the grace
    report = wait_until(pass_again, "the run to be examined")
    assert [(run["run_id"], run["verdict"], run["reason"]) for run in report["runs"]] == [("r", "unknown", "dead_letter")]
    assert server.database.runs()["r"]["status"] == "running"
    assert "dead_letter" in json.dumps(server.control.ok("GET", "/v1/runs/r/explain"))
    # By the tool: what it is, that it is refused again, and that it is applied when the database takes it.
    number = str(letters(server)[0]["id"])
    listed = server.tool("dead-letters", "list", "--json")
    assert [str(json.loads(line)["id"]) for line in listed.stdout.splitlines()] == [number]
    assert "results like this one are refused" in server.tool("dead-letters", "list").stdout
    shown = server.tool("dead-letters", "show", number)
    assert shown.returncode == 0
    assert "results like this one are refused" in shown.stdout
    refused = server.tool("dead-letters", "retry", number)
    assert (refused.returncode, "refused again" in refused.stdout) == (1, True), refused
    check(server, events, 1)
    allow(server)
    retried = server.tool("dead-letters", "retry", number)
    assert (retried.returncode, retried.stdout) == (0, f"{number}: applied\n"), retried
    check(server, [*events, end], 0)
    assert server.tool("dead-letters", "retry", number).returncode == 1  # there is none any more
    assert server.control.post(f"/v1/dead-letters/{number}/retry").status == 404


@on_both
def test_a_refused_retry_is_counted_and_keeps_the_newest_message(servers):
    server = start(servers)
    refuse(server, "run_events", "INSERT", "payload", "poison", "the first reason")
    server.send({"type": "note", "run_id": "r", "id": "x", "payload": {"poison": 1}})
    server.wait_applied()
    letter = letters(server)[0]
    allow(server)
    refuse(server, "run_events", "INSERT", "payload", "poison", "another reason")
    for count in (2, 3):
        answer = server.control.ok("POST", f"/v1/dead-letters/{letter['id']}/retry")
        assert answer["outcome"] == "dead"
        now = server.control.ok("GET", f"/v1/dead-letters/{letter['id']}")
        assert now["tries"] == count
        assert "another reason" in now["reason"]
        assert {**now, "tries": 1, "reason": ""} == {**letter, "reason": ""}
    check(server, [], 1)


@on_both
def test_a_letter_whose_event_was_sent_again_meanwhile_is_a_duplicate(servers):
    server = start(servers)
    refuse(server, "run_events", "INSERT", "payload", "poison", "no")
    event = {"type": "note", "run_id": "r", "id": "x", "payload": {"poison": 1}}
    server.send(event)
    server.wait_applied()
    allow(server)
    server.send(event)
    server.wait_applied()
    letter = letters(server)[0]
    answer = server.control.ok("POST", f"/v1/dead-letters/{letter['id']}/retry")
    assert answer["outcome"] == "duplicate"
    check(server, [event], 0)
    assert server.status()["duplicate"] == 1


@on_both
def test_deleted_letters_stay_counted(servers):
    server = start(servers)
    refuse(server, "run_events", "INSERT", "payload", "poison", "no")
    server.send(*[{"type": "note", "run_id": "r", "id": str(n), "payload": {"poison": n}} for n in range(5)])
    server.wait_applied()
    numbers = [str(letter["id"]) for letter in letters(server)]
    done = server.tool("dead-letters", "delete", *numbers[:3])
    assert done.returncode == 0, done
    assert server.control.delete(f"/v1/dead-letters/{numbers[3]}").status == 200
    assert server.control.delete(f"/v1/dead-letters/{numbers[3]}").status == 404
    assert server.tool("dead-letters", "delete", numbers[0]).returncode == 1
    for _ in range(2):
        status = server.check_ledger()
        assert (status["accepted"], status["dead_letters"], status["dead_letters_removed"]) == (5, 1, 4)
        server.restart()


@on_both
def test_kill_9_in_the_bisection_makes_each_poison_one_dead_letter(servers):
    server = start(servers)
    refuse(server, "run_events", "INSERT", "payload", "poison", "no")
    events, mixed, poison = stream(8, BATCH, "k"), [], 0
    for number, event in enumerate(events):
        mixed.append(event)
        if number % 40 == 0:
            mixed.append({"type": "note", "run_id": event["run_id"], "id": f"poison-{poison}", "payload": {"poison": 1}})
            poison += 1
    with held(server):
        server.send(*mixed)
        mark = len(server.log())
    for deaths in range(4):
        server.wait_for_log("an event became a dead letter", count=1 + 8 * (deaths % 2), after=mark)
        server.kill()
        mark = len(server.log())
        server.start()
        server.check_ledger()
    check(server, events, poison)
    assert [letter["event_id"] for letter in letters(server)] == [f"poison-{n}" for n in range(poison)]


@on_both
def test_a_large_poison_becomes_a_dead_letter_whatever_its_bytes(servers):
    """What a dead letter shows of a long line is cut between characters: else the database would refuse it as well."""
    server = start(servers)
    refuse(server, "run_events", "INSERT", "payload", "poison", "no")
    events = []
    for offset in range(4):  # wherever the cut is
        text = "x" * offset + "\U0001F600" * 30_000
        events.append({"type": "note", "run_id": "r", "id": f"{offset}", "payload": {"text": text, "poison": offset}})
    server.send(*[json.dumps(event, ensure_ascii=False).encode() for event in events], started("after"))
    check(server, [started("after")], 4)
    allow(server)
    for letter in letters(server):
        assert json.dumps(events[int(letter["event_id"])], ensure_ascii=False).startswith(letter["line"])
        assert len(letter["line"].encode()) > 60_000
        assert server.control.ok("POST", f"/v1/dead-letters/{letter['id']}/retry")["outcome"] == "applied"
    check(server, [started("after"), *events], 0)


@on_both
def test_a_trigger_that_silently_drops_rows_is_found_out(servers):
    server = start(servers)
    swallow(server)
    events = stream(9, 300, "s")
    poison = {"type": "note", "run_id": events[0]["run_id"], "id": "poison", "payload": {"poison": 1}}
    with held(server):
        server.send(*events[:150], poison, *events[150:])
    check(server, events, 1)
    assert [letter["event_id"] for letter in letters(server)] == ["poison"]


@pytest.mark.parametrize("how", ("ABORT", "FAIL", "ROLLBACK"))
def test_every_way_to_raise_in_a_trigger_makes_a_dead_letter_and_nothing_else(servers, how):
    server = start(servers)
    refuse(server, "run_events", "INSERT", "payload", "poison", f"refused by {how}", how)
    events = stream(10, 200, "w")
    poison = {"type": "note", "run_id": events[0]["run_id"], "payload": {"poison": 1}}
    with held(server):
        server.send(*events[:100], poison, *events[100:])
    check(server, events, 1)
    assert f"refused by {how}" in letters(server)[0]["reason"]


@on_postgres
def test_a_check_constraint_names_itself_and_its_row(servers):
    server = start(servers)
    server.database.execute("ALTER TABLE council_ex_runs ADD CONSTRAINT only_known_councils CHECK (council <> 'unwanted')")
    events = [started("a"), started("b", council="unwanted"), started("c")]
    with held(server):
        server.send(*events)
    check(server, [events[0], events[2]], 1)
    letter = letters(server)[0]
    assert letter["sqlstate"] == "23514"
    assert "only_known_councils" in letter["reason"]


@on_postgres
def test_a_deferred_constraint_makes_a_dead_letter_too(servers):
    server = start(servers)
    server.database.execute("""
            CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too late'; END $$;
            CREATE CONSTRAINT TRIGGER poison AFTER INSERT ON council_ex_run_events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
              WHEN (NEW.payload ->> 'poison' IS NOT NULL) EXECUTE FUNCTION late()""")
    events = stream(11, 300, "d")
    poison = {"type": "note", "run_id": events[0]["run_id"], "payload": {"poison": 1}}
    with held(server):
        server.send(*events[:150], poison, *events[150:])
    check(server, events, 1)
    assert "too late" in letters(server)[0]["reason"]
    assert errors(server) <= TRIES_EACH


@on_postgres
def test_a_huge_multiline_message_is_bounded_and_one_line_of_the_log(servers):
    server = start(servers)
    server.database.execute("""
            CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              RAISE EXCEPTION E'first line\\nforged line of the log\\r\\x1b[31m\\u00e9%', repeat('x', 1000000); END $$;
            CREATE TRIGGER poison BEFORE INSERT ON council_ex_run_events FOR EACH ROW
              WHEN (NEW.payload ->> 'poison' IS NOT NULL) EXECUTE FUNCTION shout()""")
    server.send({"type": "note", "run_id": "r", "payload": {"poison": 1}}, started("after"))
    check(server, [started("after")], 1)
    reason = letters(server)[0]["reason"]
    assert "first line" in reason
    assert len(reason) < 100_000
    log = server.log()
    assert len(log) < 100_000
    assert not [line for line in log.splitlines() if line.startswith("forged")]
    assert "\x1b" not in log


@on_postgres
def test_an_index_a_trigger_and_a_policy_of_the_applications_cost_only_the_events_they_refuse(servers):
    """Whatever SQLSTATE they do it with, in a full batch and alone; nothing of it is an outage."""
    server = start(servers)
    server.database.execute("CREATE INDEX theirs ON council_ex_runs ((input ->> 'long'))")  # 54000: a row of 8191 bytes at most
    dead, good = 0, []
    for sqlstate in ("54000", "42501", "21000", "44000", "55000", "XX000", "U0001"):
        key = {"input": {"long": "".join(f"{number:x}" for number in range(20_000))}} if sqlstate == "54000" else {}
        if not key:
            server.database.execute(f"""
                    CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                      $$ BEGIN RAISE EXCEPTION 'a code of its own' USING ERRCODE = '{sqlstate}'; END $$;
                    CREATE OR REPLACE TRIGGER poison BEFORE INSERT ON council_ex_runs FOR EACH ROW
                      WHEN (NEW.run_id LIKE 'poison%') EXECUTE FUNCTION refuse()""")
        events = stream(20 + dead, 300, f"s{sqlstate}")
        with held(server):
            server.send(*events[:150], started(f"poison-{sqlstate}", **key), *events[150:])
        good += events
        dead += 1
        check(server, good, dead)
        letter = letters(server)[-1]
        assert (letter["run_id"], letter["sqlstate"]) == (f"poison-{sqlstate}", sqlstate)
        answer = server.control.ok("POST", f"/v1/dead-letters/{letter['id']}/retry")
        assert answer["outcome"] == "dead"
    assert [line for line in server.log_lines("error") if "dead letter" not in line] == []


@on_postgres
def test_sessions_that_the_server_ends_because_they_are_idle_are_no_outage(servers):
    server = start(servers)
    cluster, name = server.database.cluster, server.database.name
    cluster.sql("postgres", f"ALTER DATABASE \"{name}\" SET idle_session_timeout = '100ms'")
    server.restart()
    for number in range(3):
        server.send(started(f"r{number}"))
        server.wait_applied()
        assert server.control.get("/v1/runs").status == 200
        wait_until(lambda: not cluster.backends(f"datname = '{name}'"), "the server to end idle sessions")
        assert server.control.get("/v1/runs").status == 200
        server.control.reconcile()
    status = server.status()
    assert (status["database"]["state"], status["database"]["reconnects"]) == ("up", 0), status["database"]
    assert server.log_lines("error") == []
    check(server, [started(f"r{number}") for number in range(3)], 0)


@on_postgres
def test_transactions_that_the_server_ends_for_their_length_become_smaller(servers):
    """As transaction_timeout does, which PostgreSQL 15 has not yet: each of more than 20 entries ends its session."""
    server = start(servers)
    server.database.execute("""
            CREATE FUNCTION too_long() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              IF (SELECT count(*) FROM added) > 20 THEN
                PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60);
              END IF; RETURN NULL; END $$;
            CREATE TRIGGER too_long AFTER INSERT ON council_ex_run_events REFERENCING NEW TABLE AS added
              FOR EACH STATEMENT EXECUTE FUNCTION too_long()""")
    events = stream(30, 1_000, "t")
    with held(server):
        server.send(*events)
    check(server, events, 0)


@on_postgres
def test_an_error_that_is_not_of_the_data_never_costs_an_event(servers):
    """A trigger that fails as a broken system would: waited out, whatever class it claims to be of."""
    server = start(servers)
    events = stream(12, 200, "n")
    server.database.execute("CREATE SEQUENCE tries")
    for sqlstate in ("55P03", "42501", "53100", "XX001"):
        server.database.execute(f"""
                CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                  PERFORM nextval('tries'); RAISE EXCEPTION 'broken' USING ERRCODE = '{sqlstate}'; END $$;
                CREATE TRIGGER poison BEFORE INSERT ON council_ex_run_events FOR EACH ROW EXECUTE FUNCTION fail()""")
        before = tries(server)
        server.send(started(f"r-{sqlstate}"))
        wait_until(lambda: tries(server) >= before + 2, "two tries")
        status = server.check_ledger()
        assert (status["waiting"], status["dead_letters"]) == (1, 0)
        allow(server)
        server.wait_applied()
    server.send(*events)
    check(server, [*[started(f"r-{state}") for state in ("55P03", "42501", "53100", "XX001")], *events], 0)
