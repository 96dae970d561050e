"""export and import: all runs with their history from one database to the other and back, every column as it was."""

import json
import re
import subprocess

import pytest

from databases import on_both
from harness import TOOL, SqliteDatabase, parse_time, same_json, wait_until

TIMES = ("started_at", "finalized_at", "inserted_at", "updated_at", "last_event_at", "at", "received_at")
FLAGS = ("council_given", "attempt_given")
REPORTS = {"queue": "e-mail", "job_id": "9f8c", "expires_in": 2_678_400,
           "usage": {"input_tokens": 12345678901234567890, "cost_usd": 0.12}, "progress": {"done": 3, "total": 10, "unit": "rows"},
           "host": "h" * 255, "unit": "report@1.service", "os_user": "reports", "cwd": "/srv/a b", "command": "c" * 1024}

both_ways = pytest.mark.parametrize("source, target", (("sqlite", "postgresql"), ("postgresql", "sqlite")))


@pytest.fixture
def begin(daemons, postgres_database):
    """begin(kind) is a daemon on an empty database of that kind; no finding is to change it meanwhile."""
    def make(kind, grace="1h"):
        database = postgres_database() if kind == "postgresql" else None
        server = daemons(database and database.url, config={"reconcile": {"interval": "0s", "grace": grace}})
        server.database = database or SqliteDatabase(server.sqlite_path)
        server.start()
        server.send({"type": "note", "run_id": f"begin-{kind}"})
        server.wait_applied()
        server.wait_boot_pass()
        server.database.execute("DELETE FROM council_ex_runs; DELETE FROM council_ex_run_events;")
        return server
    return make


def record_all_kinds(server):
    numbers = b'{"type":"run_completed","run_id":"exact","id":"e2","result":{"n":12345678901234567890.123456789,"e":1e300}}'
    server.send({"type": "run_started", "run_id": "exact", "id": "e1", "council": 'quote " ü \n', "input": [1, None],
                 "at": "2026-01-02T03:04:05.678901+01:00", "oban_job_id": 7, "attempt": 2}, numbers,
                {"type": "run_queued", "run_id": "queued"},
                {"type": "run_started", "run_id": "a/b c"}, {"type": "step", "run_id": "a/b c", "payload": {"x": "\u00e9"}},
                {"type": "run_failed", "run_id": "a/b c", "errors": ["cancelled"]},
                {"type": "run_completed", "run_id": "a/b c", "id": "conflict"},
                {"type": "run_started", "run_id": "child", "parent_attempt_run_id": "a/b c", "worker_pid": 4194303},
                *({"type": "run_completed", "run_id": f"many-{n:04}", "id": "x", "result": n} for n in range(450)),
                *({"type": "tick", "run_id": "long", "payload": {"n": n}} for n in range(2300)))
    server.wait_applied()


def tool(server, *arguments, status=0, **options):
    done = server.tool(*arguments, **options)
    assert done.returncode == status, (done.stdout[-500:], done.stderr[-2000:])
    return done


def check_same(first, second):
    def normal(row, table):
        row = dict(row)
        if table == "events":
            del row["id"]
            row["pass_id"] = row["pass_id"] or None
        for name in TIMES:
            if name in row:
                row[name] = parse_time(row[name])
        for name in FLAGS:
            if name in row:
                row[name] = bool(row[name])
        return row
    runs, others = first.database.runs(), second.database.runs()
    assert set(runs) == set(others)
    histories, other_histories = first.database.events(), second.database.events()
    assert set(histories) == set(other_histories)
    pairs = [(normal(run, "runs"), normal(others[run_id], "runs")) for run_id, run in runs.items()]
    for run_id, history in histories.items():
        assert len(history) == len(other_histories[run_id])
        pairs += [(normal(a, "events"), normal(b, "events")) for a, b in zip(history, other_histories[run_id])]
    for a, b in pairs:
        assert set(a) == set(b)
        for column in a:
            same = a[column] == b[column] if column in TIMES else same_json(a[column], b[column])
            assert same, (column, a[column], b[column])


def move(first, second):
    record_all_kinds(first)
    if first.config["reconcile"]["grace"] == "1ms":
        wait_until(lambda: first.tool("reconcile") and first.database.runs()["child"]["status"] == "stuck", "the finding")
    first.tool("reconcile")
    text = tool(first, "export").stdout
    lines = [json.loads(line) for line in text.splitlines()]
    assert sum("run" in line for line in lines) == 455
    assert (list(lines[0]), lines[-1]) == (["export"], {"end": True})
    others = sum(not line.keys() & {"run", "run_id", "export", "end"} for line in lines)
    assert_imported(second, text, imported=455, others=others)
    check_same(first, second)
    assert_imported(second, text, present=455, others=others)
    check_same(first, second)
    return text


def assert_imported(server, text, status=0, **counts):
    """Imports the text; returns each line's outcome."""
    *lines, summary = map(json.loads, tool(server, "import", "--json", input=text, status=status).stdout.splitlines())
    assert summary == {"imported": 0, "present": 0, "others": 0, "refused": 0, **counts}
    return lines


def test_from_sqlite_to_postgresql_and_back(begin):
    first, second, third = begin("sqlite", "1ms"), begin("postgresql"), begin("sqlite")
    move(first, second)
    tool(third, "import", input=tool(second, "export").stdout)
    check_same(first, third)
    assert "stuck" in {run["status"] for run in second.database.runs().values()}
    # The runs go on where they are now.
    second.send({"type": "run_completed", "run_id": "child"}, {"type": "run_completed", "run_id": "exact", "id": "e2"})
    second.wait_applied()
    assert second.control.run("child")["status"] == "completed"
    assert len(second.database.events()["exact"]) == 2


def test_from_postgresql_to_sqlite(begin):
    move(begin("postgresql"), begin("sqlite"))


def test_an_existing_run_that_differs_is_named_and_stays(begin):
    first, second = begin("sqlite"), begin("postgresql")
    for server in (first, second):
        server.send({"type": "run_started", "run_id": "both", "council": server.database.kind})
    first.send({"type": "run_started", "run_id": "one"})
    first.wait_applied()
    second.wait_applied()
    done = tool(second, "import", input=tool(first, "export").stdout, status=1)
    assert 'run both: exists already and differs: council is "postgresql" here and "sqlite" in the import' in done.stderr
    assert "1 run imported; 0 there already, 1 refused" in done.stdout
    assert second.control.run("both")["council"] == "postgresql"
    assert second.control.run("one")["status"] == "running"


def run_line(run_id, events=1, **run):
    time = "2026-01-02T03:04:05.000000Z"
    row = {"run_id": run_id, "council": "c", "status": "running", "inserted_at": time, "updated_at": time, "last_seq": events}
    history = [{"run_id": run_id, "seq": seq, "type": "note", "inserted_at": time, "effect": "recorded"}
               for seq in range(1, events + 1)]
    return {"run": {**row, **run}, "events": history}


@on_both
def test_each_line_is_judged_by_itself(begin, kind):
    """What the contract does not allow is refused by its line, its field and what is allowed; all others are taken."""
    def line(run_id="bad", events=1, event=None, **run):
        made = run_line(run_id, events, **run)
        made["events"][-1:] = [{**made["events"][-1], **(event or {})}] if made["events"] else []
        return made
    bad = ((line("x" * 256), "run_id"), (line(""), "run_id"), (line(council=""), "council"), (line(council="c" * 256), "council"),
           (line(status="done"), "status"), (line(attempt=0), "attempt: must be a whole number from 1 to 2147483647"),
           (line(attempt=2**31), "attempt"), (line(parent_attempt_run_id="p" * 256), "parent_attempt_run_id"),
           (line(oban_job_id=0), "oban_job_id"), (line(queue=""), "queue"), (line(job_id=7), "job_id"),
           (line(host="h" * 256), "host"), (line(cwd="/" * 1025), "cwd"), (line(os_user=0), "os_user"),
           (line(expires_in=0), "expires_in"), (line(usage=[1]), "usage: must be an object or null"),
           (line(usage={"u" * 16_384: 1}), "usage: must be an object of at most 16384 bytes"), (line(progress=3), "progress"),
           (line(input=[1]), "input: must be an object or null"),
           (line(started_at="yesterday"), "started_at"), (line(inserted_at=None), "inserted_at"),
           (line(finalized_at="2026-01-02T03:04:05Z"), "finalized_at: must be null, where status is running"),
           (line(status="failed"), "finalized_at: must be a time, where status is failed"),
           (line(last_seq=2), "last_seq: must be 1"), (line(events=3, last_seq=2), "last_seq"),
           (line(events=2, event={"seq": 3}), "seq (3): must be 2"), (line(event={"seq": 2}, last_seq=2), "entries 1 to last_seq"),
           (line(event={"seq": 0}), "seq"), (line(event={"type": "Step"}), "type of an event"),
           (line(event={"type": "t" * 65}), "type"), (line(event={"type": ""}), "type"), (line(event={"run_id": "other"}), "run_id"),
           (line(event={"event_id": "i" * 65}), "event_id"), (line(event={"effect": "great"}), "effect"),
           (line(event={"payload": 1}), "payload"), (line(council="nul \0"), "u0000"), ({"runs": []}, "unknown line"),
           ("nonsense", "not JSON"), ([], "not a JSON object"))
    server = begin(kind)
    texts = []
    for number, (text, _) in enumerate(bad):
        texts += [json.dumps(run_line(f"good-{number}")), text if isinstance(text, str) else json.dumps(text)]
    outcomes = assert_imported(server, "\n".join(texts), status=1, imported=len(bad), refused=len(bad))
    by_line = {outcome["line"]: outcome for outcome in outcomes}
    for number, (_, words) in enumerate(bad):
        assert by_line[2 * number + 1]["outcome"] == "imported"
        assert by_line[2 * number + 2]["outcome"] == "refused", words
        assert words in by_line[2 * number + 2]["reason"]
    assert set(server.database.runs()) == {f"good-{number}" for number in range(len(bad))}
    done = tool(server, "import", input="\n".join(texts), status=1)
    assert f"0 runs imported; {len(bad)} there already, {len(bad)} refused" in done.stdout
    assert "line 12: run bad: attempt: must be a whole number from 1 to 2147483647" in done.stderr


@on_both
def test_a_run_that_the_database_refuses_costs_only_itself(begin, kind):
    """Many runs are one transaction; where it is refused the others are imported all the same."""
    server = begin(kind)
    refuse(server, "poison")
    names = [f"run-{number:03}" for number in range(150)]
    names.insert(77, "poison")
    outcomes = assert_imported(server, "\n".join(json.dumps(run_line(name, 2)) for name in names), status=1, imported=150, refused=1)
    assert [(line["line"], line["run_id"]) for line in outcomes if line["outcome"] == "refused"] == [(78, "poison")]
    assert set(server.database.runs()) == set(names) - {"poison"}
    assert {len(history) for history in server.database.events().values()} == {2}


@on_both
def test_a_run_that_comes_twice_is_compared_with_itself(begin, kind):
    lines = [run_line("r", 2), run_line("s"), run_line("r", 2), run_line("r", 2, council="other"), run_line("r", 1)]
    outcomes = assert_imported(begin(kind), "\n".join(map(json.dumps, lines)), status=1, imported=2, present=1, refused=2)
    assert [line["outcome"] for line in outcomes] == ["imported", "imported", "present", "refused", "refused"]
    assert outcomes[3]["reason"] == 'exists already and differs: council is "c" here and "other" in the import'
    assert outcomes[4]["reason"] == "exists already and differs: last_seq is 2 here and 1 in the import"


@on_both
def test_a_history_that_differs_names_the_entry(begin, kind):
    server = begin(kind)
    first, second = run_line("r", 3), run_line("r", 3)
    second["events"][1]["payload"] = {"x": "y" * 100}
    assert_imported(server, json.dumps(first), imported=1)
    reason = assert_imported(server, json.dumps(second), status=1, refused=1)[0]["reason"]
    assert reason.startswith("exists already and differs: event 2: payload is {} here and {")
    assert len(reason) < 200


def test_an_export_of_a_newer_format_is_refused_as_a_whole(begin):
    server = begin("sqlite")
    head = {"export": {"format": 3, "version": "9.8.7"}}
    done = tool(server, "import", input="\n".join(map(json.dumps, (head, run_line("r"), {"end": True}))), status=1)
    assert "line 1: export.format: must be 1 to 2, is 3: version 9.8.7 wrote it" in done.stderr
    assert server.database.runs() == {}
    for head in ({"export": {"format": 1}}, {"export": {"format": 2, "version": "0.1.0"}}):
        tool(server, "import", input="\n".join(map(json.dumps, (head, run_line(f"r{head['export']['format']}"), {"end": True}))))
    assert set(server.database.runs()) == {"r1", "r2"}


def test_a_refused_run_of_one_export_does_not_end_the_next_in_the_same_input(begin):
    head = {"export": {"format": 2, "version": "0.1.0"}}
    lines = (head, run_line("bad", council=""), {"end": True}, head, run_line("good"), {"end": True})
    assert_imported(begin("sqlite"), "\n".join(map(json.dumps, lines)), status=1, imported=1, refused=1)


def test_the_first_line_says_about_how_many_runs_there_are(begin):
    server = begin("sqlite")
    assert_imported(server, "\n".join(json.dumps(run_line(f"r{number}")) for number in range(5)), imported=5)
    server.tool("reconcile")
    head = json.loads(tool(server, "export").stdout.splitlines()[0])["export"]
    assert (head["format"], head["runs_about"]) == (2, 5)


def test_the_end_says_how_many_came_and_how_fast(begin):
    done = tool(begin("sqlite"), "import", input=json.dumps(run_line("r")))
    assert re.fullmatch(r"1 run imported; 0 there already, 0 refused; in [0-9.]+ m?s(, [0-9,]+ runs/s)?\n", done.stdout)


@on_both
def test_the_longest_of_everything_is_taken(begin, kind):
    line = run_line("r" * 255, council="c" * 255, attempt=2**31 - 1, oban_job_id=2**63 - 1,
                    parent_attempt_run_id="line\n\\.\nand \u2028 more")
    line["events"][0].update({"type": "t" + "." * 63, "event_id": "i" * 64})
    assert_imported(begin(kind), json.dumps(line), imported=1)


def test_job_expiry_usage_progress_and_place_move_too(begin):
    first, second, third = begin("sqlite"), begin("postgresql"), begin("sqlite")
    assert_imported(first, json.dumps(run_line("r", **REPORTS)), imported=1)
    tool(second, "import", input=tool(first, "export").stdout)
    tool(third, "import", input=tool(second, "export").stdout)
    for server in (first, second, third):
        run = server.control.run("r")
        assert {column: run[column] for column in REPORTS} == REPORTS
    tool(third, "import", input=tool(first, "export").stdout)  # there already, and the same


def test_a_removed_run_may_be_brought_back(begin):
    server = begin("postgresql")
    server.send({"type": "run_completed", "run_id": "r", "id": "e"})
    server.wait_applied()
    lines = [line for line in tool(server, "export").stdout.splitlines() if "recorder" not in json.loads(line)]
    tool(server, "prune", "--older-than", "1ms")
    assert server.database.runs() == {}
    tool(server, "import", input="\n".join(lines))
    assert set(server.database.runs()) == {"r"}
    server.send({"type": "note", "run_id": "r"})
    server.wait_applied()
    assert len(server.database.events()["r"]) == 2


# ---- large histories


def record_large(server, entries=40):
    payload = "x" * 150_000
    server.send({"type": "run_started", "run_id": "large"}, *({"type": "part", "run_id": "large", "payload": {"n": n, "x": payload}}
                                                              for n in range(entries - 1)))
    server.send({"type": "run_started", "run_id": "small"})
    server.wait_applied()


@both_ways
def test_a_large_run_comes_in_parts_and_appears_as_a_whole(begin, source, target):
    first, second = begin(source), begin(target)
    record_large(first)
    text = tool(first, "export").stdout
    parts = [line for line in text.splitlines() if '"large"' in line]
    assert len(parts) > 3
    assert max(map(len, parts)) < 2_000_000
    # Cut off in the middle: nobody sees the run, and it is named.
    upto = text.index(parts[3])
    done = tool(second, "import", input=text[:upto], status=1)
    assert "run large: is cut off" in done.stderr
    assert "the export is cut off before its last line" in done.stderr
    assert second.database.runs() == {}
    # Again, as a whole: goes on where it was.
    tool(second, "import", input=text)
    check_same(first, second)
    lines = assert_imported(second, text, present=2, others=text.count('{"reconciliation"') + text.count('{"recorder"'))
    assert [line["outcome"] for line in lines if line.get("run_id") == "large"] == ["present"]


def test_a_long_line_of_an_older_version_is_taken(begin):
    first, second = begin("sqlite"), begin("postgresql")
    record_large(first)
    history = [event for event in first.control.ok("GET", "/v1/runs/large/events?limit=1")["events"]]
    events, cursor = [], ""
    while cursor is not None:
        page = first.control.ok("GET", f"/v1/runs/large/events?limit=1000{cursor and '&cursor=' + cursor}")
        events, cursor = events + page["events"], page["next"]
    assert events[:1] == history
    old = json.dumps({"run": first.control.run("large"), "events": events}, default=float)
    assert len(old) > 5_000_000
    assert_imported(second, old + "\n", imported=1)
    assert len(second.database.events()["large"]) == 40
    assert_imported(second, old + "\n", present=1)


def test_an_event_of_a_run_that_is_half_there_is_not_lost(begin):
    first, second = begin("sqlite"), begin("postgresql")
    record_large(first)
    text = tool(first, "export").stdout
    parts = [line for line in text.splitlines() if '"large"' in line]
    tool(second, "import", input=text[:text.index(parts[3])], status=1)
    second.send({"type": "run_completed", "run_id": "large", "id": "end"})
    wait_until(lambda: second.status()["dead_letters"] == 1, "the dead letter")
    tool(second, "import", input=text)
    letter = second.control.ok("GET", "/v1/dead-letters")["dead_letters"][0]
    assert second.control.ok("POST", f"/v1/dead-letters/{int(letter['id'])}/retry")["outcome"] == "applied"
    assert second.control.run("large")["status"] == "completed"


# ---- what else moves


@both_ways
def test_all_that_a_recorder_needs_moves_with_the_runs(begin, source, target):
    """The daemon goes on with its spool on the other database: nothing is applied twice, nothing is forgotten."""
    names = ("plain", "line\n\\.\nin it", "tab\tand \\ and \u2028", "\u00e9\U0001f600")
    first, second = begin(source), begin(target)
    first.send({"type": "run_completed", "run_id": "gone\n\\.", "id": "g"}, {"type": "run_completed", "run_id": "gone 2"})
    first.wait_applied()
    tool(first, "prune", "--older-than", "1ms")
    first.send(*({"type": "run_started", "run_id": name} for name in names))
    first.wait_applied()
    allow = refuse(first, "poison")
    first.send({"type": "run_started", "run_id": "poison", "id": "p"})
    wait_until(lambda: first.status()["dead_letters"] == 1, "the dead letter")
    first.database.execute(allow)
    first.tool("reconcile")
    before = first.status()
    text = tool(first, "export").stdout
    tool(second, "import", input=text)
    tool(second, "import", input=text)
    check_same(first, second)
    assert {row["run_id"] for row in second.database.rows("SELECT * FROM council_ex_pruned")} == {"gone\n\\.", "gone 2"}
    assert len(second.database.rows("SELECT * FROM council_ex_dead_letters")) == 1
    assert set(first.database.reports()) <= set(second.database.reports())
    first.stop()
    second.stop()
    first.config["database"]["url"] = second.database.url
    first.database = second.database
    first.start()
    first.send({"type": "run_completed", "run_id": "gone\n\\.", "id": "g"}, {"type": "run_completed", "run_id": names[1]})
    first.wait_applied()
    after = first.status()
    assert (after["recorder"], after["accepted"], after["forgotten"]) == (before["recorder"], before["accepted"] + 2, 0)
    assert (after["duplicate"], after["dead_letters"]) == (before["duplicate"] + 1, 1)
    assert [event["seq"] for event in first.database.events()[names[1]]] == [1, 2]
    letter = first.control.ok("GET", "/v1/dead-letters")["dead_letters"][0]
    assert first.control.ok("POST", f"/v1/dead-letters/{int(letter['id'])}/retry")["outcome"] == "applied"
    first.stop()


def refuse(server, run_id):
    """From now on no row of that run can be written; returns what ends it."""
    if server.database.kind == "sqlite":
        server.database.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON council_ex_runs WHEN NEW.run_id = '{run_id}' "
                                "BEGIN SELECT RAISE(ABORT, 'no'); END")
        return "DROP TRIGGER refuse"
    server.database.execute(f"ALTER TABLE council_ex_runs ADD CONSTRAINT refuse CHECK (run_id <> '{run_id}') NOT VALID")
    return "ALTER TABLE council_ex_runs DROP CONSTRAINT refuse"


def test_a_recorder_with_a_position_is_left_alone(begin):
    server = begin("postgresql")
    server.send({"type": "run_started", "run_id": "r"})
    server.wait_applied()
    text = tool(server, "export").stdout
    server.send({"type": "note", "run_id": "other"})
    server.wait_applied()
    done = tool(server, "import", input=text, status=1)
    assert f"line 2: recorder {server.status()['recorder']}: exists already and differs: applied is " in done.stderr
    server.check_ledger()


# ---- interruptions


def test_export_and_import_survive_killed_daemons(begin):
    first, second = begin("sqlite"), begin("postgresql")
    record_all_kinds(first)
    record_large(first)
    tools = [[str(TOOL), "--control", str(server.control_path), word] for server, word in ((first, "export"), (second, "import"))]
    with subprocess.Popen(tools[0], stdout=subprocess.PIPE, env=first.environment(), stderr=subprocess.DEVNULL) as out:
        with subprocess.Popen(tools[1], stdin=out.stdout, env=second.environment(), stdout=subprocess.PIPE, text=True) as into:
            out.stdout.close()
            wait_until(lambda: len(second.database.runs()) > 20, "the first runs")
            for server in (second, first):
                server.kill()
                server.start()
            said = into.communicate()[0]
    assert (out.returncode, into.returncode) == (0, 0), said
    check_same(first, second)


def test_a_killed_import_is_repeated(begin):
    first, second = begin("sqlite"), begin("postgresql")
    record_all_kinds(first)
    record_large(first)
    text = tool(first, "export").stdout
    with subprocess.Popen([str(TOOL), "--control", str(second.control_path), "import"], stdin=subprocess.PIPE,
                          env=second.environment(), stdout=subprocess.DEVNULL) as killed:
        killed.stdin.write(text[:len(text) // 2].encode())
        killed.stdin.flush()
        wait_until(lambda: len(second.database.runs()) > 20, "the first runs")
        killed.kill()
    tool(second, "import", input=text)
    check_same(first, second)


def test_an_import_of_nothing_fails(begin):
    """As behind an export that failed, in a pipe."""
    done = tool(begin("sqlite"), "import", input="", status=1)
    assert "standard input is empty" in done.stderr


def test_an_export_continues_at_a_cursor(begin):
    server = begin("sqlite")
    record_all_kinds(server)
    record_large(server)
    text = tool(server, "export").stdout
    for lines in (1, 2, 3, 7, 200):
        page = server.control.ok("GET", f"/v1/export?limit={lines}")
        rest = tool(server, "export", "--cursor", page["next"]).stdout
        assert text.splitlines()[len(page["lines"]):] == rest.splitlines()
    assert server.control.get("/v1/export?cursor=x").status == 400
    done = server.tool("export", "--cursor", "zzz")
    assert 'invalid cursor "zzz"' in done.stderr
    assert "--cursor" not in done.stderr, "a cursor that was refused is no advice"
