"""What the daemon takes of memory to apply events is bounded like the events, whatever the rows hold that they touch: rows that
are filled to the brim by the time an outage ends, results that are sent again, texts that grow on their way. Each test ends with
the rows, the history and the conflicts as they have to be, and with the peak of the resident memory."""

import json

import pytest

from databases import on_both
from harness import SANITIZER

BOUND_KIB = 96 * 1024
LONGEST_S = 600     # of a backlog, on a machine that others load
LARGE = 900_000  # bytes of a result, which a line of 1 MiB has room for
RESULT = {"text": "r" * LARGE}

pytestmark = [on_both, pytest.mark.skipif(bool(SANITIZER), reason="a sanitizer's memory is its own")]


def numbers(server, count):
    """SQL for a table of 0 to count - 1."""
    if server.database.kind == "sqlite":
        return f"RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {count})"
    return f"numbers AS (SELECT n FROM generate_series(0, {count - 1}) AS n)"


def text_of(server, letter, size):
    """SQL for a document whose text is this letter so many times."""
    if server.database.kind == "sqlite":
        return f"""'{{"text":"' || replace(hex(zeroblob({size // 2})), '0', '{letter}') || '"}}'"""
    return f"jsonb_build_object('text', repeat('{letter}', {size}))"


def start(servers, reconcile=None):
    server = servers({"reconcile": {"interval": "0s", **(reconcile or {})}}).start()
    return server.wait_tables().wait_boot_pass()


def check_peak(server, what):
    peak_kib = server.rss_kib("VmHWM")
    print(f"{what} on {server.database.kind}: {peak_kib // 1024} MiB at most")
    assert peak_kib <= BOUND_KIB


def fill(server, count, status, column, json_object):
    """Rows r0, r1, … with a history of one entry, as if the daemon had written them."""
    finalized = "'2026-01-02T03:05:05.000000Z'" if status == "completed" else "NULL"
    server.database.execute(f"""
            WITH {numbers(server, count)}
            INSERT INTO council_ex_runs (run_id, council, status, {column}, started_at, finalized_at, inserted_at, updated_at,
                                         last_event_at, last_seq)
            SELECT 'r' || n, 'demo', '{status}', {json_object}, '2026-01-02T03:04:05.000000Z', {finalized},
                   '2026-01-02T03:04:05.000000Z', '2026-01-02T03:04:05.000000Z', '2026-01-02T03:04:05.000000Z', 1 FROM numbers;
            WITH {numbers(server, count)}
            INSERT INTO council_ex_run_events (run_id, seq, type, payload, received_at, effect, inserted_at)
            SELECT 'r' || n, 1, 'run_started', '{{}}', '2026-01-02T03:04:05.000000Z', 'applied', '2026-01-02T03:04:05.000000Z'
            FROM numbers""")


def count(server, query):
    return int(server.database.rows(f"SELECT count(*) AS n FROM {query}")[0]["n"])


def test_tiny_events_for_runs_with_large_results(servers):
    """Half of them say once more how it ended, some of these with another result, and a few with all of the same one."""
    server, runs = start(servers), 150
    fill(server, runs, "completed", "result", text_of(server, "r", LARGE))
    notes = [{"type": "note", "run_id": f"r{n}"} for n in range(runs)]
    others = [{"type": "run_completed", "run_id": f"r{n}", "result": n} for n in range(0, runs, 2)]
    same = [{"type": "run_completed", "run_id": f"r{n}", "result": RESULT} for n in range(1, 9, 2)]
    with server.database.away():
        server.send(*notes, *others, *same)
    status = server.wait_applied(LONGEST_S)
    check_peak(server, f"{len(notes + others + same)} events for {runs} runs with a result of {LARGE // 1000} kB")
    assert (status["applied"], status["conflicts"]) == (len(notes + others + same), len(others))
    entries = "council_ex_run_events WHERE type = 'run_completed' AND seq = 3 AND effect"
    assert count(server, f"{entries} = 'conflict'") == len(others)
    assert count(server, f"{entries} = 'recorded'") == len(same)
    assert count(server, "council_ex_run_events WHERE type = 'note' AND seq = 2") == runs
    assert count(server, f"council_ex_runs WHERE status = 'completed' AND result = {text_of(server, 'r', LARGE)}") == runs


def test_an_outage_in_which_runs_with_large_inputs_end(servers):
    server, runs = start(servers), 1_000
    fill(server, runs, "running", "input", text_of(server, "i", 100_000))
    ends = [{"type": "run_completed", "run_id": f"r{n}", "result": n} if n % 3 else
            {"type": "run_failed", "run_id": f"r{n}", "errors": [f"e{n}"]} for n in range(runs)]
    with server.database.away():
        server.send(*ends)
    status = server.wait_applied(LONGEST_S)
    check_peak(server, f"{runs} runs with 100 kB of input that end in an outage")
    assert (status["applied"], status["conflicts"]) == (runs, 0)
    assert count(server, f"council_ex_runs WHERE input = {text_of(server, 'i', 100_000)}") == runs
    rows = server.database.rows("SELECT run_id, status, result, error, last_seq FROM council_ex_runs")
    for row in rows:
        n = int(row["run_id"][1:])
        expected = ("completed", {"value": n}, None) if n % 3 else ("failed", None, {"errors": [f"e{n}"]})
        assert (row["status"], row["result"], row["error"], row["last_seq"]) == (*expected, 2)
    assert len(rows) == runs


def test_a_pass_over_thousands_of_large_rows_and_its_undo(servers):
    server, runs = start(servers, {"grace": "1ms"}), 6_000
    fill(server, runs, "running", "input", text_of(server, "i", 5_000))
    report = server.control.reconcile(unvouched=True)
    assert (report["examined"], report["marked"]) == (runs, runs)
    answer = server.control.post(f"/v1/reconciliations/{report['pass_id']}/undo")
    assert (answer.status, answer.json["undone"]) == (200, runs), answer
    server.send(*[{"type": "run_completed", "run_id": f"r{n}"} for n in range(runs)])
    status = server.wait_applied(LONGEST_S)
    check_peak(server, f"a pass that marks {runs} runs, its undo, and their ends")
    assert (status["applied"], status["conflicts"]) == (runs, 0)
    whole = f"council_ex_runs WHERE status = 'completed' AND last_seq = 4 AND input = {text_of(server, 'i', 5_000)}"
    assert count(server, whole) == runs


def test_events_as_large_as_a_line_may_be_whatever_they_are_made_of(servers):
    """Escapes of control characters, quotes and backslashes, of which some double on their way; numbers whose digits
    PostgreSQL writes out, which makes fifty times as much of them; and each sent again, to be compared."""
    server = start(servers)
    texts = {"controls": '"' + "\\u0001" * 170_000 + '"', "quotes": '"' + '\\"' * 500_000 + '"',
             "backslashes": '"' + "\\\\" * 500_000 + '"', "numbers": "[" + ",".join(["1e308"] * 170_000) + "]",
             "keys": "{" + ",".join(f'"{n:06}":0' for n in range(90_000)) + "}"}
    lines = [f'{{"type":"run_completed","run_id":"{name}","result":{text}}}'.encode() for name, text in texts.items()]
    lines += [f'{{"type":"run_failed","run_id":"{name}-failed","errors":[{text if name != "numbers" else 1}]}}'.encode()
              if name in ("controls", "quotes", "backslashes") else
              f'{{"type":"run_started","run_id":"{name}-failed","input":{text}}}'.encode() for name, text in texts.items()]
    for again in range(2):
        with server.database.away():
            server.send(*lines)
        server.wait_applied(LONGEST_S)
    others = [json.dumps({"type": "run_completed", "run_id": name, "result": 1}).encode() for name in texts]
    server.send(*others)
    status = server.wait_applied(LONGEST_S)
    check_peak(server, f"{2 * len(lines)} events of 1 MiB")
    assert (status["applied"], status["conflicts"]) == (2 * len(lines) + len(others), len(others))
