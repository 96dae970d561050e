"""The benchmark: what ./dev bench measures, each figure next to the machine's own limit in the same run.

Honest by construction: events come through the real socket from separate processes that read every answer; a rate counts
only what is found in the tables at the end, and every run checks what was stored. Each figure is the median of its
repetitions, with the smallest and the largest. See README.md in this folder.
"""
import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import tempfile
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "process"))
import harness  # noqa: E402
import reading  # noqa: E402

BIN = Path(os.environ["RUN_RECORDER_BIN"])
LOAD, BASELINES = BIN / "bench_load", BIN / "bench_baselines"
TICKS = os.sysconf("SC_CLK_TCK")
PREFIX = "council_ex_"

# Of short runs: the same events as bench_load's, in its order (starts run ahead of ends by 800 runs), as a table.
READY_TABLE = """
CREATE TABLE ready (n bigint, run_id text, type text, payload jsonb);
INSERT INTO ready
SELECT run * 2 - 1, 'limit-' || run, 'run_started', jsonb_build_object('council', 'bench', 'attempt', 1, 'input',
       jsonb_build_object('prompt', repeat('x', 280), 'n', run)) FROM generate_series(1, {runs}) run;
INSERT INTO ready
SELECT (run + 800) * 2, 'limit-' || run, 'run_completed', jsonb_build_object('result',
       jsonb_build_object('answer', repeat('x', 280), 'score', 0.75)) FROM generate_series(1, {runs}) run;
CREATE TABLE ordered AS SELECT row_number() OVER (ORDER BY n) - 1 AS place, run_id, type, payload FROM ready;
CREATE INDEX ON ordered (place);
DROP TABLE ready;
VACUUM ANALYZE ordered;
CREATE PROCEDURE record_all(events bigint) LANGUAGE plpgsql AS $$
DECLARE first bigint := 0;
BEGIN
  WHILE first < events LOOP
    INSERT INTO {prefix}runs (run_id, council, status, attempt, input, started_at, inserted_at, updated_at, council_given,
                              attempt_given, recorder, sender_process, connection, last_seq, last_event_at)
      SELECT run_id, payload->>'council', 'running', (payload->>'attempt')::int, payload->'input', now(), now(), now(), true,
             true, 'f00dfeedf00dfeedf00dfeedf00dfeed', '0123456789abcdef:0123456789abcdef:4026531836:12345:678901',
             '01234567-12', 1, now()
      FROM ordered WHERE place >= first AND place < first + 1000 AND type = 'run_started';
    UPDATE {prefix}runs r SET status = 'completed', result = o.payload->'result', finalized_at = now(), updated_at = now(),
           last_seq = 2, last_event_at = now()
      FROM ordered o WHERE o.place >= first AND o.place < first + 1000 AND o.type = 'run_completed' AND r.run_id = o.run_id;
    INSERT INTO {prefix}run_events (run_id, seq, type, payload, inserted_at, received_at, recorder, peer_uid, peer_pid, effect)
      SELECT run_id, CASE type WHEN 'run_started' THEN 1 ELSE 2 END, type, payload, now(), now(),
             'f00dfeedf00dfeedf00dfeedf00dfeed', 0, 12345, 'applied'
      FROM ordered WHERE place >= first AND place < first + 1000;
    first := first + 1000;
    COMMIT;
  END LOOP;
END $$;
"""

# Of long runs: the same events as bench_load's 16 connections send, taking turns step by step, with what a good program
# would know of each by its own memory: the number in the run's history, and which event of a run is its last in a batch.
LONG_TABLE = """
CREATE TABLE events AS
WITH runs AS (SELECT c, i, c * {share} + i AS run FROM generate_series(0, 15) c, generate_series(0, {share} - 1) i),
     sent AS (SELECT i AS step, c, 1 AS part, run, 1 AS seq, 'run_started' AS type FROM runs
              UNION ALL
              SELECT i + {ahead}, c, 0, run, CASE WHEN i % 10 = 0 THEN {others} + 2 ELSE 2 END, 'run_completed' FROM runs
              UNION ALL
              SELECT i + k * {ahead} / ({others} + 1), c, 1 + k, run, k + 1, 'progress_report' FROM runs,
                     generate_series(1, {others}) k WHERE i % 10 = 0)
SELECT row_number() OVER (ORDER BY step, c, part) - 1 AS place, 'bench-' || run AS run_id, seq, type,
       CASE type WHEN 'run_started' THEN jsonb_build_object('council', 'bench', 'attempt', 1, 'input',
                                                            jsonb_build_object('prompt', repeat('x', 280), 'n', run))
                 WHEN 'run_completed' THEN jsonb_build_object('result', jsonb_build_object('answer', repeat('x', 280),
                                                                                           'score', 0.75))
                 ELSE jsonb_build_object('stage', repeat('x', 60), 'done', seq - 1, 'total', 20) END AS payload
FROM sent;
CREATE TABLE ordered AS
SELECT place, run_id, seq, type, payload, first_value(type) OVER batch = 'run_started' AS begins,
       last_value(seq) OVER batch AS last_seq, seq = last_value(seq) OVER batch AS is_last
FROM events WINDOW batch AS (PARTITION BY run_id, place / {batch} ORDER BY place
                             ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
ORDER BY place;
DROP TABLE events;
CREATE UNIQUE INDEX ON ordered (place);
VACUUM ANALYZE ordered;
INSERT INTO {prefix}recorders (id) VALUES ('limit');
INSERT INTO {prefix}positions (recorder, incarnation) VALUES ('limit', 'limit');
CREATE PROCEDURE record_all(events bigint) LANGUAGE plpgsql AS $$
DECLARE first bigint := 0;
BEGIN
  WHILE first < events LOOP
    INSERT INTO {prefix}runs (run_id, status, input, started_at, inserted_at, updated_at, last_event_at, last_seq{run_columns})
      SELECT run_id, 'running', payload->'input', now(), now(), now(), now(), last_seq{run_values}
      FROM ordered WHERE place >= first AND place < first + {batch} AND type = 'run_started';
    IF first = 0 OR first = 10 * {batch} THEN
      ANALYZE {prefix}runs;
    END IF;
    UPDATE {prefix}runs r SET status = 'completed', result = o.payload->'result', finalized_at = now(), updated_at = now(),
           last_event_at = now(), last_seq = o.seq
      FROM ordered o WHERE o.place >= first AND o.place < first + {batch} AND o.type = 'run_completed'
           AND r.run_id = o.run_id AND r.status = 'running';
    UPDATE {prefix}runs r SET updated_at = now(), last_event_at = now(), last_seq = o.seq
      FROM ordered o WHERE o.place >= first AND o.place < first + {batch} AND o.type = 'progress_report' AND o.is_last
           AND NOT o.begins AND r.run_id = o.run_id AND r.status = 'running';
    INSERT INTO {prefix}run_events (run_id, seq, type, payload, inserted_at, received_at{event_columns})
      SELECT run_id, seq, type, payload, now(), now(){event_values}
      FROM ordered WHERE place >= first AND place < first + {batch};
    UPDATE {prefix}recorders SET applied = applied + {batch}, last_seen = now() WHERE id = 'limit';
    UPDATE {prefix}positions SET applied = first + {batch}, updated_at = now() WHERE recorder = 'limit';
    first := first + {batch};
    COMMIT;
  END LOOP;
END $$;
"""

OTHERS = 20  # other events of one long run in ten
# Each row by its key, however few the table seems to have: a hash join would read all of it for every batch.
INDEXED_PLANS = "SET enable_hashjoin = off; SET enable_mergejoin = off;"

# Columns that are not the same in all rows of a load; the others' values are taken from a row that the daemon wrote.
OF_EACH_RUN = {"run_id", "status", "input", "result", "started_at", "finalized_at", "inserted_at", "updated_at", "last_event_at",
               "last_seq"}
OF_EACH_EVENT = {"id", "run_id", "seq", "type", "payload", "inserted_at", "received_at"}

# In one transaction, so that now() is the same for a run and its job however long it takes: a job whose attempt began long
# after the run's last event is another attempt's.
RUNNING_ROWS = """
BEGIN;
INSERT INTO {prefix}runs (run_id, council, status, attempt, attempt_given, oban_job_id, started_at, inserted_at, updated_at,
                          last_seq, last_event_at)
SELECT 'pass-' || i, 'bench', 'running', 1, true, i, now() - interval '1 hour', now() - interval '1 hour',
       now() - interval '1 hour', 1, now() - interval '1 hour' FROM generate_series(1, {rows}) i;
CREATE TYPE oban_job_state AS ENUM ('available', 'scheduled', 'executing', 'retryable', 'completed', 'discarded', 'cancelled');
CREATE TABLE oban_jobs (id bigint PRIMARY KEY, state oban_job_state NOT NULL, queue text, worker text, args jsonb, errors jsonb[],
  attempt int, max_attempts int, priority int, tags text[], meta jsonb, attempted_by text[], inserted_at timestamp,
  scheduled_at timestamp, attempted_at timestamp, completed_at timestamp, cancelled_at timestamp, discarded_at timestamp);
INSERT INTO oban_jobs (id, state, queue, worker, args, attempt, inserted_at, scheduled_at, attempted_at)
SELECT i, (CASE WHEN i % 2 = 0 THEN 'executing' ELSE 'available' END)::oban_job_state, 'default', 'Bench', '{{}}', 1,
       now() - interval '2 hours', now() - interval '2 hours', now() - interval '1 hour' FROM generate_series(1, {rows}) i;
COMMIT;
VACUUM ANALYZE {prefix}runs;
VACUUM ANALYZE oban_jobs;
"""
PLAIN_UPDATE = """
UPDATE {prefix}runs r SET status = 'stuck', finalized_at = now(), updated_at = now(),
       error = jsonb_build_object('kind', 'stuck', 'reason', 'queue_not_executing', 'job_state', j.state::text)
FROM oban_jobs j WHERE r.status = 'running' AND j.id = r.oban_job_id AND j.state::text <> 'executing';
"""


def sql_literal(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, list)):
        value = json.dumps(value, default=float)
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


class Bench:
    def __init__(self, options):
        self.quick = options.quick
        self.full = options.full
        self.repeat = 2 if options.quick else 5
        self.runs = 10_000 if options.quick else 50_000
        self.long_runs = 32_000 if options.quick else 128_000
        self.under_way = 20_000 if options.quick else 50_000
        self.figures = []
        self.long_rates, self.rates = [], []  # of throughput() and short(), which others stand beside
        self.only = options.only
        self.options = options

    # ---- helpers

    def say(self, text):
        print(f"    {text}", file=sys.stderr, flush=True)

    def wanted(self, name):
        return not self.only or re.search(self.only, name)

    def add(self, name, values, unit, against=None, must=None, aim=None, lower_is_better=False, note="", say=True):
        """Records a figure; `against` are the values it is divided by (the ratio is of the medians)."""
        median = statistics.median(values)
        figure = {"name": name, "unit": unit, "median": median, "min": min(values), "max": max(values), "n": len(values),
                  "must": must, "aim": aim, "lower_is_better": lower_is_better, "note": note}
        if against is not None:
            figure["against"] = statistics.median(against)
            figure["ratio"] = median / figure["against"] if figure["against"] else float("inf")
        self.figures.append(figure)
        if say:
            self.say(f"{name}: {median:.4g} {unit}" + (f", ratio {figure['ratio']:.3g}" if against is not None else ""))

    @staticmethod
    def load(path, runs, connections, first=0, processes=2, **options):
        """Runs the load in separate processes and returns their answers."""
        flags = []
        for name, value in options.items():
            flags += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
        started = [subprocess.Popen([str(LOAD), str(path), "--connections", str(connections // processes),
                                     "--runs", str(runs // processes), "--first", str(first + i * (runs // processes)), *flags],
                                    stdout=subprocess.PIPE, text=True) for i in range(processes)]
        answers = [json.loads(process.communicate()[0]) for process in started]
        assert all(answer["errors"] == 0 for answer in answers), answers
        return answers

    @contextmanager
    def held_load(self, daemon, runs, connections, **options):
        """As load(), with --hold: entered when it holds, with a function that lets it go on and waits for its end. It is over
        at the latest when the block is left."""
        flags = []
        for name, value in options.items():
            flags += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
        started = [subprocess.Popen([str(LOAD), str(daemon.socket_path), "--connections", str(connections // 2), "--runs",
                                     str(runs // 2), "--first", str(i * (runs // 2)), *flags], stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE, text=True) for i in range(2)]

        def go_on():
            answers = [json.loads(answer) for answer in map(lambda process: process.communicate("\n")[0], started)]
            assert all(answer["errors"] == 0 for answer in answers), answers
            return answers

        try:
            for process in started:
                assert process.stdout.readline() == "held\n"
            yield go_on
        finally:
            for process in started:
                process.kill()
                process.wait()

    def paced_load(self, daemon, first, seconds):
        """1,000 events per second over 50 connections of ten processes; p50 and p99 of their acknowledgements, in µs."""
        answers = self.load(daemon.socket_path, 500 * seconds, 50, first, 10, rate=100)
        latencies = sorted(latency for answer in answers for latency in answer["latencies_us"])
        assert len(latencies) == 1_000 * seconds, len(latencies)
        return [latencies[int(share * (len(latencies) - 1))] for share in (0.5, 0.99)]

    @staticmethod
    def baseline(*arguments):
        done = subprocess.run([str(BASELINES), *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout)

    @staticmethod
    def cpu_s(pid):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @staticmethod
    def running_s(pid):
        """As cpu_s, in nanoseconds instead of ticks."""
        return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9

    def tree_cpu_s(self, pid):
        total = self.cpu_s(pid)
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[13]) + int(fields[14])) / TICKS
        for child in harness._children(pid):
            try:
                total += self.cpu_s(child)
            except (FileNotFoundError, ProcessLookupError):
                pass
        return total

    def daemon(self, database=None, **config):
        daemon = harness.Daemon(database.url if database else None, config={"spool": {"max_bytes": "4GiB"}, **config})
        return daemon.start()

    @staticmethod
    def check_stored(database, runs):
        """What was sent is what is there: every run completed, with both of its events."""
        row = database.rows(f"SELECT (SELECT count(*) FROM {PREFIX}runs WHERE status = 'completed') AS runs, "
                            f"(SELECT count(*) FROM {PREFIX}run_events) AS events, "
                            f"(SELECT count(*) FROM {PREFIX}runs WHERE (result->>'score') IS NULL) AS without")[0]
        assert (row["runs"], row["events"], row["without"]) == (runs, 2 * runs, 0), row

    def ingest(self, daemon, runs, connections=16, first=0):
        """From the first byte sent until nothing waits; events per second. Of all connections, 800 runs (or one of each) have
        begun and not ended at the same time. The looks at the backlog cost processor time of the daemon too, 0.2 ms each, so there
        are few."""
        before = time.monotonic()
        self.load(daemon.socket_path, runs, connections, first, in_flight=max(1, 800 // connections))
        while daemon.status()["waiting"]:
            time.sleep(0.02)
        return 2 * runs / (time.monotonic() - before)

    def ingest_long(self, daemon):
        """As ingest(), the long runs: so many are under way from about a fifth of the events on until a fifth is left."""
        before = time.monotonic()
        self.load(daemon.socket_path, self.long_runs, 16, in_flight=self.under_way // 16, others=OTHERS)
        while daemon.status()["waiting"]:
            time.sleep(0.02)
        return self.long_events() / (time.monotonic() - before)

    def long_events(self):
        return 2 * self.long_runs + self.long_runs // 10 * OTHERS

    def check_long(self, database):
        """Every run completed, each with all of its events."""
        tenth = self.long_runs // 10
        row = database.rows(f"SELECT (SELECT count(*) FROM {PREFIX}runs WHERE status = 'completed') AS runs, "
                            f"(SELECT sum(last_seq) FROM {PREFIX}runs) AS seqs, "
                            f"(SELECT count(*) FROM {PREFIX}run_events) AS events, "
                            f"(SELECT count(*) FROM {PREFIX}runs WHERE (result->>'score') IS NULL) AS without")[0]
        events = self.long_events()
        assert tenth * 10 == self.long_runs and (row["runs"], row["seqs"], row["events"], row["without"]) == (
            self.long_runs, events, events, 0), row

    def constants(self, database=None):
        """What the daemon writes into the columns that are the same in all rows of a load, as SQL: by table, then column."""
        daemon = self.daemon(database)
        daemon.wait_applied()
        self.load(daemon.socket_path, 16, 16, others=OTHERS, in_flight=1)
        daemon.wait_applied()
        where = "WHERE run_id = 'bench-0'"
        source = database or harness.SqliteDatabase(daemon.sqlite_path)
        found = {}
        for table, own, query in (("runs", OF_EACH_RUN, where), ("run_events", OF_EACH_EVENT, f"{where} AND seq = 1")):
            row = source.rows(f"SELECT * FROM {PREFIX}{table} {query}")[0]
            found[table] = {column: sql_literal(value) for column, value in row.items()
                            if column not in own and value is not None}
        daemon.close()
        return found

    def copy_of(self, database, name):
        copy = f"{database.name}_{name}"
        self.cluster.sql("postgres", f'CREATE DATABASE "{copy}" TEMPLATE "{database.name}" STRATEGY FILE_COPY')
        database = harness.PostgresDatabase(self.cluster, copy)
        database.execute("CHECKPOINT")
        return database

    @staticmethod
    def sizes(database):
        """Bytes of a row, and of the table with its indexes for each of its rows."""
        return {table: database.rows(f"SELECT avg(pg_column_size(t.*)) AS row, "
                                     f"pg_total_relation_size('{PREFIX}{table}') / count(*) AS total FROM {PREFIX}{table} t")[0]
                for table in ("runs", "run_events")}

    def fresh(self, name):
        self.count = getattr(self, "count", 0) + 1
        return self.cluster.create_database(f"{name}{self.count}")

    def migrated(self, name):
        database = self.fresh(name)
        daemon = harness.Daemon(database.url)
        done = daemon.run("--migrate")
        assert done.returncode == 0, done.stderr
        daemon.close()
        return database

    # ---- figures

    def throughput(self):
        """Long runs: the start of each is thousands of events before its end, and its row is written by both."""
        rates, limits, daemon_cpu, server_cpu, peak = [], [], [], [], []
        constants = self.constants(self.fresh("sample"))
        ready = self.migrated("long")
        ready.execute(LONG_TABLE.format(
            prefix=PREFIX, share=self.long_runs // 16, ahead=self.under_way // 16, others=OTHERS, batch=4_000,
            run_columns="".join(f", {column}" for column in constants["runs"]),
            run_values="".join(f", {value}" for value in constants["runs"].values()),
            event_columns="".join(f", {column}" for column in constants["run_events"]),
            event_values="".join(f", {value}" for value in constants["run_events"].values())))
        events = self.long_events()
        for i in range(self.repeat):
            database = self.copy_of(ready, str(i))
            before = time.monotonic()
            database.execute(f"{INDEXED_PLANS} CALL record_all({events});")
            limits.append(events / (time.monotonic() - before))
            self.check_long(database)
            theirs = self.sizes(database)
            database.drop()

            database = self.fresh("ours")
            daemon = self.daemon(database)
            daemon.wait_applied()
            database.execute("CHECKPOINT")
            mine, servers = self.cpu_s(daemon.process.pid), self.tree_cpu_s(self.cluster.process.pid)
            rates.append(self.ingest_long(daemon))
            daemon_cpu.append((self.cpu_s(daemon.process.pid) - mine) / (events / 1e6))
            server_cpu.append((self.tree_cpu_s(self.cluster.process.pid) - servers) / (events / 1e6))
            peak.append(daemon.rss_kib("VmHWM") / 1024)
            self.check_long(database)
            daemon.check_ledger()
            ours = self.sizes(database)
            self.say(f"{limits[-1]:,.0f} and {rates[-1]:,.0f} events/s; bytes of a row, with indexes: " + ", ".join(
                f"{table} {ours[table]['row']:.0f} of {theirs[table]['row']:.0f}, {ours[table]['total']} of {theirs[table]['total']}"
                for table in ours))
            for table, size in ours.items():
                assert abs(float(size["row"] / theirs[table]["row"]) - 1) < 0.05, f"the rows of {table} are not the same: {ours}, {theirs}"
            daemon.close()
            database.drop()
        ready.drop()
        self.long_rates = rates
        self.add(f"events/s on PostgreSQL, long runs, {self.under_way:,} under way", rates, "events/s", limits, 0.65, 0.85,
                 note="of a procedure in the server that writes the same rows in batches of 4,000")
        self.add("CPU of the daemon per million events", daemon_cpu, "s", server_cpu, 0.7, 0.35, True, "of PostgreSQL's")
        self.add("resident memory at full load (peak)", peak, "MiB", None, 64, 40, True)

    def short(self):
        rates, limits, per_event = [], [], []
        for _ in range(self.repeat):
            database = self.migrated("limit")
            database.execute(READY_TABLE.format(runs=self.runs, prefix=PREFIX))
            before = time.monotonic()
            database.execute(f"CALL record_all({2 * self.runs});")
            limits.append(2 * self.runs / (time.monotonic() - before))
            database.drop()

            database = self.migrated("naive")
            answer = self.baseline("transactions", database.url, PREFIX, 8, self.runs // 10)
            per_event.append(answer["events_per_s"])
            database.drop()

            database = self.fresh("ours")
            daemon = self.daemon(database)
            daemon.wait_applied()
            rates.append(self.ingest(daemon, self.runs))
            self.check_stored(database, self.runs)
            daemon.check_ledger()
            daemon.close()
            database.drop()
        self.limit, self.rates = limits, rates
        self.add("events/s on PostgreSQL, short runs (start and end meet in one batch)", rates, "events/s", limits, 0.6, 0.9,
                 note="of the server's own limit")
        self.add("the same, against one transaction per event", rates, "events/s", per_event, 5, 7.5)

    def million(self):
        """So many runs begin, with the events that are due meanwhile; then as many end as begin, and that is timed."""
        under_way, more = (100_000, 20_000) if self.quick else (1_000_000, 100_000)
        database = self.fresh("million")
        daemon = self.daemon(database)
        daemon.wait_applied()
        with self.held_load(daemon, under_way + more, 16, hold=under_way // 16, in_flight=under_way // 16, others=OTHERS,
                            leave=True) as go_on:
            daemon.wait_applied(600)
            before, applied = time.monotonic(), daemon.status()["applied"]
            go_on()
            while daemon.status()["waiting"]:
                time.sleep(0.02)
            took, events = time.monotonic() - before, daemon.status()["applied"] - applied
        row = database.rows(f"SELECT count(*) FILTER (WHERE status = 'completed') AS ended, count(*) AS runs, "
                            f"(SELECT count(*) FROM {PREFIX}run_events) AS events FROM {PREFIX}runs")[0]
        assert (row["ended"], row["runs"], row["events"]) == (more, under_way + more, daemon.check_ledger()["applied"]), row
        self.add(f"events/s on PostgreSQL, long runs, {under_way:,} under way", [events / took], "events/s",
                 self.long_rates or None, note=f"of with {self.under_way:,} under way")
        self.add("resident memory with them (peak)", [daemon.rss_kib("VmHWM") / 1024], "MiB", None, 64, 40, True)
        daemon.close()
        database.drop()

    def sqlite(self):
        constants = [f"{table}.{column}={value}" for table, columns in self.constants().items() for column, value in columns.items()]
        batches = [1_000, 4_000]  # the quicker of them, which the first repetition finds
        shapes = {"long": (self.long_runs, self.under_way, OTHERS), "short": (self.runs, 800, 0)}
        rates, plain, peak = {"long": [], "short": []}, {"long": [], "short": []}, []

        def one_plain(shape, batch):
            runs, in_flight, others = shapes[shape]
            daemon = harness.Daemon()
            assert daemon.run("--migrate").returncode == 0
            answer = self.baseline("sqlite", daemon.sqlite_path, PREFIX, runs, batch, in_flight, others, *constants)
            assert answer["events"] == 2 * runs + runs // 10 * others, answer
            rows = harness.SqliteDatabase(daemon.sqlite_path).rows(
                f"SELECT (SELECT count(*) FROM {PREFIX}runs WHERE status = 'completed') AS runs, "
                f"(SELECT count(*) FROM {PREFIX}run_events) AS events")[0]
            assert (rows["runs"], rows["events"]) == (runs, answer["events"]), rows
            daemon.close()
            return answer["events_per_s"]

        chosen = {}
        for i in range(self.repeat):
            for shape, (runs, _, others) in shapes.items():
                if i == 0:
                    tried = {batch: one_plain(shape, batch) for batch in batches}
                    chosen[shape] = max(tried, key=tried.get)
                    self.say(f"{shape} runs, one plain connection: " + ", ".join(
                        f"{rate:,.0f} events/s in batches of {batch:,}" for batch, rate in tried.items()))
                    plain[shape].append(tried[chosen[shape]])
                else:
                    plain[shape].append(one_plain(shape, chosen[shape]))
                daemon = self.daemon()
                daemon.wait_applied()
                rates[shape].append(self.ingest_long(daemon) if shape == "long" else self.ingest(daemon, runs))
                assert daemon.check_ledger()["applied"] == 2 * runs + runs // 10 * others
                if shape == "long":
                    peak.append(daemon.rss_kib("VmHWM") / 1024)
                daemon.close()
        self.add(f"events/s on SQLite, long runs, {self.under_way:,} under way", rates["long"], "events/s", plain["long"], 0.5, 0.7,
                 note=f"of one plain connection in batches of {chosen['long']:,}")
        self.add("resident memory at full load on SQLite (peak)", peak, "MiB", None, 64, 40, True)
        self.add("events/s on SQLite, short runs (start and end meet in one batch)", rates["short"], "events/s", plain["short"],
                 0.5, 0.8, note=f"of one plain connection in batches of {chosen['short']:,}")

    def latency(self):
        seconds = 2 if self.quick else 3
        syncs, up, down, draining = [], ([], []), ([], []), ([], [])
        database = self.fresh("latency")
        daemon = self.daemon(database)
        daemon.wait_applied()
        first = 0

        def paced(target):
            nonlocal first
            for values, value in zip(target, self.paced_load(daemon, first, seconds)):
                values.append(value)
            first += 500 * seconds

        # As on a server that has worked for a while, there are WAL files to use again: making a new one, 16 MiB of zeros and
        # their sync, holds up all who sync meanwhile. And what earlier parts left to be written is not this figure's.
        self.load(daemon.socket_path, self.runs * 4, 16, first)
        first += self.runs * 4
        daemon.wait_applied(300)
        database.execute("CHECKPOINT")
        os.sync()
        for _ in range(self.repeat):
            syncs.append(self.baseline("sync", daemon.folder, 1_000)["p50_us"])
            paced(up)
        self.cluster.stop()
        for _ in range(self.repeat):
            paced(down)
        # Enough to last as long as the senders do, at the drain's full rate too.
        backlog = self.runs * 8
        self.load(daemon.socket_path, backlog, 16, first)
        first += backlog
        self.cluster.start()
        status = daemon.status()
        while daemon.status()["applied"] == status["applied"]:
            time.sleep(0.01)
        full, beside = [], []
        for _ in range(self.repeat):
            time.sleep(0.5)  # until the drain is no longer paced as beside senders
            full.append(self.drained_per_s(daemon, lambda: time.sleep(1.5)))
            rate = self.drained_per_s(daemon, lambda: paced(draining))
            if daemon.status()["waiting"] < 4_000:
                self.say(f"the backlog was drained after {len(beside)} repetitions")
                full.pop()
                for values in draining:
                    values.pop()
                break
            beside.append(rate)
        assert beside, "the backlog was drained before the senders were done"
        daemon.wait_applied(300)
        self.check_stored(database, first)
        daemon.close()
        self.add("acknowledgement p50, 1,000 events/s", up[0], "µs", syncs, 4, 2, True, "of an fdatasync of 4 KiB")
        self.add("acknowledgement p99, 1,000 events/s", up[1], "µs", syncs, 20, 8, True, "of an fdatasync of 4 KiB")
        self.add("p50 while PostgreSQL is down", down[0], "µs", up[0], 1.5, 1.0, True, "of with it up")
        self.add("p99 while PostgreSQL is down", down[1], "µs", up[1], 1.5, 1.0, True, "of with it up")
        self.add("p50 while a backlog drains", draining[0], "µs", up[0], 1.5, 1.0, True, "of with it up")
        self.add("p99 while a backlog drains", draining[1], "µs", up[1], 1.5, 1.0, True, "of with it up")
        self.add("drain beside these senders", beside, "events/s", full, 0.33, 0.5, note="of its full rate without them")

    @staticmethod
    def drained_per_s(daemon, during):
        before, applied = time.monotonic(), daemon.status()["applied"]
        during()
        return (daemon.status()["applied"] - applied) / (time.monotonic() - before)

    @staticmethod
    def copy_of_spool(spool, copy):
        """A link suffices for a segment that nothing is written to any more."""
        shutil.rmtree(copy, ignore_errors=True)
        newest = max(spool.glob("*.seg"))
        shutil.copytree(spool, copy, copy_function=lambda source, target: (
            os.link if source.endswith(".seg") and Path(source) != newest else shutil.copy2)(source, target))
        os.sync()

    def drain(self):
        """One backlog, made while PostgreSQL is down, and drained from a copy of its spool again and again."""
        runs = 50_000 if self.quick else 500_000
        rates, starts, peak = [], [], []
        self.cluster.stop()
        daemon = self.daemon(harness.PostgresDatabase(self.cluster, "drain0"))
        self.load(daemon.socket_path, runs, 16)
        resident = [daemon.rss_kib() / 1024]
        daemon.stop()
        backlog = daemon.folder / "backlog"
        daemon.spool_path.rename(backlog)
        for _ in range(self.repeat):
            self.copy_of_spool(backlog, daemon.spool_path)
            before = time.monotonic()
            daemon.spawn()
            while not (daemon._accepts(daemon.socket_path) and daemon._accepts(daemon.control_path)):
                time.sleep(0.001)
            starts.append((time.monotonic() - before) * 1e3)
            self.cluster.start()
            database = self.fresh("drain")
            daemon.stop()
            daemon.config["database"]["url"] = database.url
            daemon.start()
            while daemon.status()["waiting"] == 2 * runs:
                time.sleep(0.01)
            waiting, before = daemon.status()["waiting"], time.monotonic()
            while daemon.status()["waiting"]:
                time.sleep(0.05)
            rates.append(waiting / (time.monotonic() - before))
            peak.append(daemon.rss_kib("VmHWM") / 1024)
            self.check_stored(database, runs)
            daemon.check_ledger()
            daemon.stop()
            self.cluster.sql("postgres", f'DROP DATABASE "{database.name}"')
            self.cluster.stop()
        daemon.close()
        self.cluster.start()
        self.add(f"drain of a backlog of {2 * runs:,} events", rates, "events/s", getattr(self, "limit", None), 0.7, 0.95)
        self.add("resident memory with that backlog", resident, "MiB", None, 64, 40, True)
        self.add("resident memory while it drains (peak)", peak, "MiB", None, 64, 40, True)
        self.add("cold start to ready with that backlog", starts, "ms", None, 1_000, 100, True)

    def idle(self):
        cpu, resident, starts, thousand = [], [], [], []
        seconds = 3 if self.quick else 4
        for _ in range(self.repeat):
            daemon = harness.Daemon()
            daemon.write_config()
            before = time.monotonic()
            daemon.spawn()
            while not (daemon._accepts(daemon.socket_path) and daemon._accepts(daemon.control_path)):
                time.sleep(0.001)
            starts.append((time.monotonic() - before) * 1e3)
            daemon.wait_applied()
            resident.append(daemon.rss_kib() / 1024)
            clients = [daemon.client() for _ in range(1_000)]
            while daemon.status()["connections"]["open"] < 1_000:
                time.sleep(0.01)
            time.sleep(1)  # what accepting them costs is not idling
            used = self.running_s(daemon.process.pid)
            time.sleep(seconds)
            cpu.append((self.running_s(daemon.process.pid) - used) / seconds * 100)
            thousand.append(daemon.rss_kib() / 1024)
            for client in clients:
                client.close()
            daemon.close()
        self.add("CPU while idle with 1,000 connections", cpu, "%", None, 0.1, 0.05, True, "of one core")
        self.add("resident memory, idle", resident, "MiB", None, 24, 16, True)
        self.add("resident memory, idle with 1,000 connections", thousand, "MiB", None, 64, 40, True)
        self.add("cold start to ready, empty spool", starts, "ms", None, 100, 30, True)

    def heartbeats(self):
        """Every run gives a heartbeat once in 30 s, over 16 connections; all rows are running, and each heartbeat is due to write one.
        Once each is sent by itself, and once, as by a program that works on many runs, a second's together."""
        runs, every_s, rounds = 100_000, 30, 1 if self.quick else 3
        for kind in ("PostgreSQL", "SQLite"):
            cpu, together, peak = [], [], []
            database = self.fresh("heartbeats") if kind == "PostgreSQL" else None
            daemon = self.daemon(database)
            daemon.wait_applied()
            self.load(daemon.socket_path, runs, 16, starts_only=True)
            self.load(daemon.socket_path, runs, 16, beats=True)
            daemon.wait_applied(300)
            for _ in range(rounds):
                for shares, options in ((cpu, {}), (together, {"tick": 1})):
                    used = self.running_s(daemon.process.pid)
                    self.load(daemon.socket_path, runs, 16, beats=True, rate=runs / every_s / 2, **options)
                    daemon.wait_applied()
                    shares.append((self.running_s(daemon.process.pid) - used) / every_s * 100)
                peak.append(daemon.rss_kib("VmHWM") / 1024)
            daemon.check_ledger()
            assert daemon.status()["applied"] == (2 + 2 * rounds) * runs
            daemon.close()
            self.add(f"CPU, {runs:,} runs that beat every {every_s} s, {kind}", cpu, "%", lower_is_better=True, note="of one core")
            self.add("the same, a second's heartbeats sent together", together, "%", lower_is_better=True, note="of one core")
            self.add(f"resident memory with them (peak), {kind}", peak, "MiB", lower_is_better=True)
            if database:  # the server counts them when the daemon's connections have ended
                written = int(database.rows(f"SELECT n_tup_upd AS n FROM pg_stat_user_tables WHERE relname = '{PREFIX}runs'")[0]["n"])
                self.add("row writes a heartbeat", [written / runs / (1 + 2 * rounds)], "")

    def many_connections(self):
        few, many = list(self.rates), []
        for _ in range(self.repeat):
            for connections, rates in ((1_000, many),) if self.rates else ((16, few), (1_000, many)):
                database = self.fresh("connections")
                daemon = self.daemon(database)
                daemon.wait_applied()
                rates.append(self.ingest(daemon, self.runs, connections))
                self.check_stored(database, self.runs)
                daemon.close()
        self.add("events/s with 1,000 connections", many, "events/s", few, 0.7, 0.95, note="of with 16")

    def reconciliation(self):
        rows = 200_000 if self.quick else 1_000_000
        passes, plain, peak = [], [], []
        ready = self.migrated("pass")
        ready.execute(RUNNING_ROWS.format(prefix=PREFIX, rows=rows))

        for i in range(self.repeat):
            database = self.copy_of(ready, f"plain{i}")
            before = time.monotonic()
            database.execute(PLAIN_UPDATE.format(prefix=PREFIX))
            plain.append(time.monotonic() - before)
            self.cluster.sql("postgres", f'DROP DATABASE "{database.name}"')
            database = self.copy_of(ready, f"ours{i}")
            # By its boot pass the daemon has accepted events for longer than this grace: that one pass judges all rows.
            daemon = self.daemon(database, **{"reconcile": {"interval": "0s", "grace": "1ms"}, "reconcile.queue": {"kind": "oban"}})
            harness.wait_until(lambda: re.search(r"reconciliation finished.*trigger=boot", daemon.log()), "the pass", deadline_s=300)
            report = database.rows(f"SELECT report FROM {PREFIX}reconciliations")[0]["report"]
            took = harness.parse_time(report["finished_at"]) - harness.parse_time(report["started_at"])
            passes.append(took if isinstance(took, (int, float)) else took.total_seconds())
            peak.append(daemon.rss_kib("VmHWM") / 1024)
            found = {name: report[name] for name in ("examined", "marked", "deferred")}
            assert found == {"examined": rows, "marked": rows // 2, "deferred": 0}, found
            daemon.close()
            self.cluster.sql("postgres", f'DROP DATABASE "{database.name}"')
        self.add(f"a pass over {rows:,} running rows, half orphans", passes, "s", plain, 1.5, 1, True, "of one plain UPDATE")
        self.add("resident memory during it (peak)", peak, "MiB", None, 64, 40, True)
        ready.drop()

    def alive(self):
        """A pass over rows whose senders are there, as the daemon itself wrote them."""
        rows = 200_000 if self.quick else 1_000_000
        passes, peak = [], []
        database = self.fresh("alive")
        daemon = self.daemon(database, reconcile={"interval": "0s", "grace": "1ms"})
        daemon.wait_boot_pass()
        with self.held_load(daemon, rows, 16, hold=rows // 16, starts_only=True):
            daemon.wait_applied(600)
            database.execute(f"VACUUM ANALYZE {PREFIX}runs; CHECKPOINT")
            for _ in range(self.repeat):
                report = daemon.control.reconcile()
                passes.append((harness.parse_time(report["finished_at"]) - harness.parse_time(report["started_at"])).total_seconds())
                found = {name: report[name] for name in ("examined", "marked", "deferred")}
                assert found == {"examined": rows, "marked": 0, "deferred": 0}, report
            peak.append(daemon.rss_kib("VmHWM") / 1024)
        daemon.close()
        database.drop()
        self.add(f"a pass that finds {rows:,} rows alive", passes, "s", None, 3, 2, True)
        self.add("resident memory after it (peak)", peak, "MiB", None, 64, 40, True)

    def growth(self):
        small, large = [], []
        runs = self.runs
        database = self.fresh("growth")
        daemon = self.daemon(database)
        daemon.wait_applied()
        small = [self.ingest(daemon, runs, first=i * runs) for i in range(self.repeat)]
        database.execute(f"INSERT INTO {PREFIX}run_events (run_id, seq, type, payload, inserted_at) "
                         "SELECT 'old-' || i / 2, i % 2 + 1, 'run_started', jsonb_build_object('text', repeat('x', 280)), now() "
                         "FROM generate_series(2, 5000001) i; "
                         f"INSERT INTO {PREFIX}runs (run_id, council, status, inserted_at, updated_at) "
                         "SELECT 'old-' || i, 'bench', 'completed', now(), now() FROM generate_series(1, 2500000) i; CHECKPOINT;")
        large = [self.ingest(daemon, runs, first=(self.repeat + i) * runs) for i in range(self.repeat)]
        daemon.close()
        self.add("events/s with 5,000,000 rows of history", large, "events/s", small, 0.7, 0.95, note="of with an empty database")

    def reading(self):
        """Of large tables, each question by itself; see reading.py."""
        rows = self.options.rows or (100_000 if self.quick else 10_000_000)
        part = reading.Reading(rows, min(rows, 1_000_000), self.options.keep, self.say)
        part.fill()
        if self.options.fill:
            return
        part.measure(self.options.of.split(","), self.options.question)
        for name, times in part.figures:
            self.add(name, times, "ms", None, reading.LIMIT_MS, reading.LIMIT_MS, True, say=False)

    def soak(self, minutes):
        """A steady mixed load; rate, percentiles, memory and backlog every minute."""
        database = self.fresh("soak")
        daemon = self.daemon(database)
        daemon.wait_applied()
        print(f"{'minute':>6} {'events/s':>9} {'p50 µs':>8} {'p99 µs':>9} {'RSS MiB':>8} {'waiting':>8}")
        seconds = 60
        for minute in range(minutes):
            burst = threading.Thread(target=self.load, args=(daemon.socket_path, 20_000, 16),
                                     kwargs={"first": 10_000_000 + minute * 20_000})
            burst.start()
            before = time.monotonic()
            p50, p99 = self.paced_load(daemon, minute * 500 * seconds, seconds)
            burst.join()
            rate = (1_000 * seconds + 40_000) / (time.monotonic() - before)
            print(f"{minute + 1:6} {rate:9.0f} {p50:8.0f} {p99:9.0f} {daemon.rss_kib() / 1024:8.1f} "
                  f"{daemon.status()['waiting']:8}", flush=True)
        daemon.wait_applied()
        self.check_stored(database, minutes * (500 * seconds + 20_000))
        daemon.check_ledger()
        daemon.close()

    # ---- the run

    def run(self, minutes):
        self.cluster = harness.Postgres(settings={"fsync": "on", "max_connections": 100, "shared_buffers": "128MB"}).start()
        try:
            if minutes:
                return self.soak(minutes)
            parts = [self.throughput, self.short, self.sqlite, self.latency, self.drain, self.idle, self.many_connections,
                     self.reconciliation, self.alive]
            long_parts = [self.million, self.growth, self.heartbeats, self.reading]
            for part in parts + long_parts:
                if (part in parts or self.full or self.only) and self.wanted(part.__name__):
                    print(f"==> {part.__name__}", file=sys.stderr, flush=True)
                    before = time.monotonic()
                    part()
                    self.say(f"({part.__name__} took {time.monotonic() - before:.0f} s)")
        finally:
            self.cluster.close()

    def verdict(self, figure):
        value = figure.get("ratio", figure["median"])
        if figure["must"] is None:
            return ""
        if figure["lower_is_better"]:
            return "aim" if value <= figure["aim"] else "must" if value <= figure["must"] else "MISSED"
        return "aim" if value >= figure["aim"] else "must" if value >= figure["must"] else "MISSED"

    def table(self):
        if self.options.tmpfs:
            print("On a tmpfs: cluster, spool and SQLite file are in memory, a sync costs nothing.")
        width = max(len(figure["name"]) for figure in self.figures)
        print(f"{'figure':<{width}}  {'median':>10} {'min':>10} {'max':>10} unit      {'limit':>10} {'ratio':>7} {'must':>6} {'aim':>6}")
        for figure in self.figures:
            against = f"{figure['against']:10.4g}" if "against" in figure else " " * 10
            ratio = f"{figure['ratio']:7.3g}" if "ratio" in figure else " " * 7
            value = figure.get("ratio", figure["median"])
            share = value / figure["must"] if figure["must"] else 0
            bar = "#" * max(1, min(24, round(12 * share)))
            print(f"{figure['name']:<{width}}  {figure['median']:10.4g} {figure['min']:10.4g} {figure['max']:10.4g} "
                  f"{figure['unit']:<9} {against} {ratio} {figure['must'] or '':>6} {figure['aim'] or '':>6}  "
                  f"{self.verdict(figure):<6} {bar:<12}|")
        print("bar: the figure as a share of what it must reach, which is at 12 characters; where lower is better, shorter is better")


@contextmanager
def on_tmpfs():
    """Every folder that the harness makes is on a tmpfs of its own."""
    mounted = Path(tempfile.mkdtemp(prefix="rr-"))
    mounted.chmod(0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=14g,mode=755", "run-recorder-bench", str(mounted)], check=True)
    tempfile.tempdir = str(mounted)
    try:
        yield
    finally:
        tempfile.tempdir = None
        harness.remove_temporary_folders()
        subprocess.run(["umount", str(mounted)], check=True)
        mounted.rmdir()


def main():
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measure everything; about fifteen minutes.")
    parser.add_argument("--quick", action="store_true", help="two minutes, fewer events, fewer repetitions")
    parser.add_argument("--full", action="store_true", help="also a million runs under way, five million rows of history, "
                                                            "heartbeats, and reading beside ten million runs")
    parser.add_argument("--soak", type=int, metavar="MINUTES", default=0, help="only a steady mixed load for so long")
    parser.add_argument("--only", metavar="REGEX", help="only these parts: throughput, short, sqlite, latency, drain, idle, "
                                                        "many_connections, reconciliation, alive; and million, growth, heartbeats, "
                                                        "reading")
    parser.add_argument("--tmpfs", action="store_true", help="with cluster, spool and SQLite file in memory (as root): what the "
                                                             "processors alone allow")
    parser.add_argument("--rows", type=int, metavar="N", help="reading: so many runs in PostgreSQL (default 10,000,000)")
    parser.add_argument("--keep", metavar="FOLDER", help="reading: the databases stay there, and are used again where they are there")
    parser.add_argument("--fill", action="store_true", help="reading: only fill the databases of --keep")
    parser.add_argument("--of", default="PostgreSQL,SQLite", metavar="DATABASES", help="reading: PostgreSQL, SQLite or both by comma")
    parser.add_argument("--question", metavar="REGEX", help="reading: only these questions")
    parser.add_argument("--json", metavar="FILE", default="build/bench.json")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing stays behind
    bench = Bench(options)
    with on_tmpfs() if options.tmpfs else nullcontext():
        bench.run(options.soak)
    if not bench.figures:
        return
    bench.table()
    Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    Path(options.json).write_text(json.dumps(bench.figures, indent=1) + "\n")
    print(f"written: {options.json}")


if __name__ == "__main__":
    main()
