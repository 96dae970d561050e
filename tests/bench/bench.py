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
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "process"))
import harness  # noqa: E402

BIN = Path(os.environ["RUN_RECORDER_BIN"])
LOAD, BASELINES = BIN / "bench_load", BIN / "bench_baselines"
TICKS = os.sysconf("SC_CLK_TCK")
PREFIX = "council_ex_"

# The same events as bench_load's, in its order (starts run ahead of ends by 800 runs), as a table.
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

RUNNING_ROWS = """
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
VACUUM ANALYZE {prefix}runs;
VACUUM ANALYZE oban_jobs;
"""
PLAIN_UPDATE = """
UPDATE {prefix}runs r SET status = 'stuck', finalized_at = now(), updated_at = now(),
       error = jsonb_build_object('kind', 'stuck', 'reason', 'queue_not_executing', 'job_state', j.state::text)
FROM oban_jobs j WHERE r.status = 'running' AND j.id = r.oban_job_id AND j.state::text <> 'executing';
"""


class Bench:
    def __init__(self, options):
        self.quick = options.quick
        self.full = options.full
        self.repeat = 2 if options.quick else 5
        self.runs = 10_000 if options.quick else 50_000
        self.figures = []
        self.rates = []  # of throughput(), which others stand beside
        self.only = options.only

    # ---- helpers

    def say(self, text):
        print(f"    {text}", file=sys.stderr, flush=True)

    def wanted(self, name):
        return not self.only or re.search(self.only, name)

    def add(self, name, values, unit, against=None, must=None, aim=None, lower_is_better=False, note=""):
        """Records a figure; `against` are the values it is divided by (the ratio is of the medians)."""
        median = statistics.median(values)
        figure = {"name": name, "unit": unit, "median": median, "min": min(values), "max": max(values), "n": len(values),
                  "must": must, "aim": aim, "lower_is_better": lower_is_better, "note": note}
        if against is not None:
            figure["against"] = statistics.median(against)
            figure["ratio"] = median / figure["against"] if figure["against"] else float("inf")
        self.figures.append(figure)
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
        rates, limits, per_event, daemon_cpu, server_cpu, peak = [], [], [], [], [], []
        for _ in range(self.repeat):
            database = self.migrated("limit")
            database.execute(READY_TABLE.format(runs=self.runs, prefix=PREFIX))
            before = time.monotonic()
            database.execute(f"CALL record_all({2 * self.runs});")
            limits.append(2 * self.runs / (time.monotonic() - before))

            database = self.migrated("naive")
            answer = self.baseline("transactions", database.url, PREFIX, 8, self.runs // 10)
            per_event.append(answer["events_per_s"])

            database = self.fresh("ours")
            daemon = self.daemon(database)
            daemon.wait_applied()
            mine, theirs = self.cpu_s(daemon.process.pid), self.tree_cpu_s(self.cluster.process.pid)
            rates.append(self.ingest(daemon, self.runs))
            millions = 2 * self.runs / 1e6
            daemon_cpu.append((self.cpu_s(daemon.process.pid) - mine) / millions)
            server_cpu.append((self.tree_cpu_s(self.cluster.process.pid) - theirs) / millions)
            peak.append(daemon.rss_kib("VmHWM") / 1024)
            self.check_stored(database, self.runs)
            daemon.check_ledger()
            daemon.close()
        self.limit, self.rates = limits, rates
        self.add("events/s on PostgreSQL, 16 connections", rates, "events/s", limits, 0.6, 0.9, note="of the server's own limit")
        self.add("the same, against one transaction per event", rates, "events/s", per_event, 5, 7.5)
        self.add("CPU of the daemon per million events", daemon_cpu, "s", server_cpu, 0.7, 0.35, True, "of PostgreSQL's")
        self.add("resident memory at full load (peak)", peak, "MiB", None, 64, 40, True)

    def sqlite(self):
        rates, plain = [], []
        for _ in range(self.repeat):
            daemon = harness.Daemon()
            assert daemon.run("--migrate").returncode == 0
            plain.append(self.baseline("sqlite", daemon.sqlite_path, PREFIX, self.runs, 1_000)["events_per_s"])
            daemon.close()
            daemon = self.daemon()
            rates.append(self.ingest(daemon, self.runs))
            assert daemon.status()["applied"] == 2 * self.runs
            daemon.close()
        self.add("events/s on SQLite, 16 connections", rates, "events/s", plain, 0.5, 0.8, note="of one plain connection")

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
        self.load(daemon.socket_path, self.runs * 4, 16, first)
        first += self.runs * 4
        self.cluster.start()
        for _ in range(self.repeat):
            paced(draining)
        daemon.wait_applied(300)
        self.check_stored(database, first)
        daemon.close()
        self.add("acknowledgement p50, 1,000 events/s", up[0], "µs", syncs, 4, 2, True, "of an fdatasync of 4 KiB")
        self.add("acknowledgement p99, 1,000 events/s", up[1], "µs", syncs, 20, 8, True, "of an fdatasync of 4 KiB")
        self.add("p50 while PostgreSQL is down", down[0], "µs", up[0], 1.5, 1.0, True, "of with it up")
        self.add("p99 while PostgreSQL is down", down[1], "µs", up[1], 1.5, 1.0, True, "of with it up")
        self.add("p50 while a backlog drains", draining[0], "µs", up[0], 1.5, 1.0, True, "of with it up")
        self.add("p99 while a backlog drains", draining[1], "µs", up[1], 1.5, 1.0, True, "of with it up")

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

        def copy_of_ready(name):
            copy = f"{ready.name}_{name}"
            self.cluster.sql("postgres", f'CREATE DATABASE "{copy}" TEMPLATE "{ready.name}" STRATEGY FILE_COPY')
            database = harness.PostgresDatabase(self.cluster, copy)
            database.execute("CHECKPOINT")
            return database

        for i in range(self.repeat):
            database = copy_of_ready(f"plain{i}")
            before = time.monotonic()
            database.execute(PLAIN_UPDATE.format(prefix=PREFIX))
            plain.append(time.monotonic() - before)
            self.cluster.sql("postgres", f'DROP DATABASE "{database.name}"')
            database = copy_of_ready(f"ours{i}")
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
        self.add(f"a pass over {rows:,} running rows, half orphans", passes, "s", plain, 2, 1, True, "of one plain UPDATE")
        self.add("resident memory during it (peak)", peak, "MiB", None, 64, 40, True)

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
            parts = [self.throughput, self.sqlite, self.latency, self.drain, self.idle, self.many_connections, self.heartbeats,
                     self.reconciliation]
            if self.full:
                parts.append(self.growth)
            for part in parts:
                if self.wanted(part.__name__):
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


def main():
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measure everything; at most ten minutes.")
    parser.add_argument("--quick", action="store_true", help="two minutes, fewer events, fewer repetitions")
    parser.add_argument("--full", action="store_true", help="also with five million rows of history")
    parser.add_argument("--soak", type=int, metavar="MINUTES", default=0, help="only a steady mixed load for so long")
    parser.add_argument("--only", metavar="REGEX", help="only these parts: throughput, sqlite, latency, drain, idle, "
                                                        "many_connections, heartbeats, reconciliation, growth")
    parser.add_argument("--json", metavar="FILE", default="build/bench.json")
    options = parser.parse_args()
    bench = Bench(options)
    bench.run(options.soak)
    if not bench.figures:
        return
    bench.table()
    Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    Path(options.json).write_text(json.dumps(bench.figures, indent=1) + "\n")
    print(f"written: {options.json}")


if __name__ == "__main__":
    main()
