"""Whatever the rows hold, looking at them takes the daemon a bounded memory: every list is paged by bytes as by rows."""

import json
import subprocess
import threading
from urllib.parse import quote

import pytest

from databases import on_both
from harness import SANITIZER, TOOL, SqliteDatabase

LARGE = 900_000
ATTEMPTS, EVENTS, LETTERS, PASSES = 60, 60, 10, 10
PEAK_KIB = 96 << 10

pytestmark = on_both

# SQL for a text of LARGE bytes, and for a spool record that is as large.
TEXT = {"sqlite": f"hex(zeroblob({LARGE // 2}))", "postgresql": f"repeat('x', {LARGE})"}
RECORD = {"sqlite": f"CAST(n || {TEXT['sqlite']} AS BLOB)", "postgresql": f"convert_to(n || {TEXT['postgresql']}, 'UTF8')"}


def document(kind, name, is_list=False):
    """SQL for {name: text}."""
    begin, end = ('["', '"]') if is_list else ('"', '"')
    object_text = f"'{{\"{name}\":{begin}' || {TEXT[kind]} || '{end}}}'"
    return object_text if kind == "sqlite" else f"({object_text})::jsonb"


@pytest.fixture
def server(kind, servers):
    server = servers({"reconcile": {"interval": "0s"}})
    server.start()
    server.wait_boot_pass()
    numbers = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {}) "
    time = "'2026-01-02T03:04:05.000000Z'"
    server.database.execute(
        "INSERT INTO council_ex_runs (run_id, council, status, attempt, parent_attempt_run_id, error, started_at, "
        f"finalized_at, inserted_at, updated_at, last_seq) {numbers.format(ATTEMPTS)} SELECT 'c' || n, 'council', 'failed', n, "
        f"CASE WHEN n > 1 THEN 'c' || (n - 1) END, {document(kind, 'errors', is_list=True)}, {time}, {time}, {time}, {time}, 0 FROM n;"
        "INSERT INTO council_ex_runs (run_id, council, status, input, result, error, started_at, finalized_at, "
        f"inserted_at, updated_at, last_seq) SELECT 'long', 'council', 'failed', {document(kind, 'i')}, "
        f"{document(kind, 'r')}, {document(kind, 'errors', is_list=True)}, {time}, {time}, {time}, {time}, {EVENTS};"
        "INSERT INTO council_ex_run_events (run_id, seq, type, payload, inserted_at, received_at) "
        f"{numbers.format(EVENTS)} SELECT 'long', n, 'note', {document(kind, 'x')}, {time}, {time} FROM n;"
        "INSERT INTO council_ex_dead_letters (recorder, run_id, type, record, line, inserted_at) "
        f"{numbers.format(LETTERS)} SELECT 'other', 'long', 'note', {RECORD[kind]}, {TEXT[kind]}, {time} FROM n;"
        "INSERT INTO council_ex_reconciliations (pass_id, started_at, report) "
        f"{numbers.format(PASSES)} SELECT 'p' || n, {time}, {document(kind, 'x')} FROM n;")
    return server


def pages(server, target, name):
    """The number of items of a list, read page by page."""
    count, cursor = 0, None
    while True:
        sign = "&" if "?" in target else "?"
        page = server.control.ok("GET", target + (f"{sign}cursor={quote(cursor)}" if cursor else ""))
        count += len(page[name])
        cursor = page["next"]
        if cursor is None:
            return count


def check_peak(server, what):
    peak = server.rss_kib("VmHWM")
    print(f"{server.database.kind}: peak after {what}: {peak / 1024:.1f} MiB", flush=True)
    if not SANITIZER:
        assert peak < PEAK_KIB, what


def test_reading_large_rows_takes_bounded_memory(server):
    for target, name, count in (("/v1/runs/c30/chain", "runs", ATTEMPTS), ("/v1/runs?limit=1000", "runs", ATTEMPTS + 1),
                                ("/v1/runs/long/events?limit=1000", "events", EVENTS),
                                ("/v1/dead-letters?limit=1000", "dead_letters", LETTERS),
                                ("/v1/reconciliations?limit=1000", "reconciliations", PASSES + 1)):
        assert pages(server, target, name) == count, target
        check_peak(server, target)
    assert len(server.control.run("long")["input"]["i"]) == LARGE
    done = server.tool("chain", "--json", "c3")
    assert [json.loads(line)["attempt"] for line in done.stdout.splitlines()] == list(range(1, ATTEMPTS + 1))
    assert len(server.tool("chain", "c3").stdout) < 1_000_000
    check_peak(server, "the tool")


def test_three_exports_at_once_take_bounded_memory(server):
    exports = [None] * 3

    def export(number):
        size = 0
        with subprocess.Popen([str(TOOL), "--control", str(server.control_path), "export"], env=server.environment(),
                              stdout=subprocess.PIPE) as tool:
            while part := tool.stdout.read(1 << 20):
                size += len(part)
        exports[number] = tool.returncode, size
    threads = [threading.Thread(target=export, args=(number,)) for number in range(len(exports))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for status, size in exports:
        assert status == 0
        assert size > (ATTEMPTS + EVENTS) * LARGE
    check_peak(server, "three exports")


def test_moving_takes_bounded_memory_on_both_sides(server, daemons):
    other = daemons(config={"reconcile": {"interval": "0s"}})
    other.database = SqliteDatabase(other.sqlite_path)
    other.start()
    other.wait_boot_pass()
    tools = [[str(TOOL), "--control", str(one.control_path), word] for one, word in ((server, "export"), (other, "import"))]
    with subprocess.Popen(tools[0], stdout=subprocess.PIPE, env=server.environment()) as out:
        with subprocess.Popen(tools[1], stdin=out.stdout, env=other.environment()) as into:
            out.stdout.close()
            assert (into.wait(), out.wait()) == (0, 0)
    for one in (server, other):
        check_peak(one, "the move")
    rows = other.database.rows("SELECT seq, length(payload) AS bytes FROM council_ex_run_events WHERE run_id = 'long' ORDER BY seq")
    assert [row["seq"] for row in rows] == list(range(1, EVENTS + 1))
    assert all(row["bytes"] > LARGE for row in rows)
    assert len(other.database.rows("SELECT run_id FROM council_ex_runs")) == ATTEMPTS + 1
    assert len(other.database.rows("SELECT id FROM council_ex_dead_letters")) == LETTERS
