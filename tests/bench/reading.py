"""Reading beside large tables: fills a database with runs, then times what the control socket answers.

Of the runs, ordered by time over a year, 95 % are completed, 4 % failed, 0.9 % cancelled (the oldest half has all of them) and
0.1 % running or stuck. 200 names, the first of which half of the rows have and the last some thousandths; five rows of the
oldest half have what no other has. The newest 200,000 runs have three entries of history each, the newest 1,000 are chains of
five.
"""
import csv
import io
import json
import re
import shutil
import statistics
import subprocess
import time
from pathlib import Path
from urllib.parse import urlencode

import harness

PREFIX = "council_ex_"
LIMIT_MS = 200
REPEAT = 7

# Row i of so many; the factors are odd or prime, so that what they choose does not go together.
RUNS = """
INSERT INTO {prefix}runs (run_id, council, status, attempt, parent_attempt_run_id, oban_job_id, input, result, error, started_at,
  finalized_at, inserted_at, updated_at, council_given, attempt_given, recorder, sender_process, connection, last_seq,
  last_event_at, stuck_pass, queue, job_id, host, unit, os_user, cwd, command)
SELECT md5(i::text)::uuid::text, council, status, CASE WHEN in_chain THEN i % 5 + 1 ELSE 1 END,
       CASE WHEN in_chain AND i % 5 > 0 THEN md5((i - 1)::text)::uuid::text END, CASE WHEN i % 2 = 0 AND NOT rare THEN i END,
       jsonb_build_object('prompt', repeat('x', 100), 'n', i),
       CASE WHEN status = 'completed' THEN jsonb_build_object('answer', repeat('y', 100), 'exit_status', 0) END,
       CASE WHEN status = 'failed' THEN jsonb_build_object('errors', jsonb_build_array(jsonb_build_object('kind', 'exit',
              'message', CASE WHEN rare THEN 'a needle in the haystack' ELSE 'exited with status ' || i % 3 + 1 END,
              'exit_status', CASE WHEN rare THEN 77 ELSE i % 3 + 1 END)))
            WHEN status = 'stuck' THEN jsonb_build_object('kind', 'stuck', 'reason', 'sender_gone') END,
       began, CASE WHEN status <> 'running' THEN ended END, began, ended, true, true, 'f00dfeedf00dfeedf00dfeedf00dfeed',
       '0123456789abcdef:0123456789abcdef:4026531836:12345:678901', '01234567-12', 3, ended,
       CASE WHEN status = 'stuck' THEN 'pass-1' ELSE '' END,
       CASE WHEN rare THEN 'rare' WHEN i % 2 = 0 THEN (ARRAY['default', 'mail', 'default'])[i % 3 + 1] END,
       CASE WHEN rare THEN 'job-' || i END, CASE WHEN rare THEN 'rare-host' ELSE 'host-' || floor(20 * power(b, 3)) END,
       CASE WHEN rare THEN 'rare.service' WHEN i % 3 = 0 THEN 'unit-' || i % 50 || '.service' END,
       CASE WHEN rare THEN 'rare' WHEN i % 2 = 0 THEN 'user-' || i % 10 END, '/srv/app', '/usr/bin/job --number ' || i
FROM (SELECT *, CASE WHEN rare THEN 'rare' ELSE 'council-' || lpad(floor(200 * power(a, 8))::text, 3, '0') END AS council,
             CASE WHEN rare THEN 'failed' WHEN v = 999 THEN CASE WHEN i % 2 = 0 THEN 'running' ELSE 'stuck' END
                  WHEN i <= {rows} / 2 THEN CASE WHEN v < 941 THEN 'completed' WHEN v < 981 THEN 'failed' ELSE 'cancelled' END
                  WHEN v < 959 THEN 'completed' ELSE 'failed' END AS status,
             began + CASE WHEN rare THEN interval '40 days' ELSE (1 + 3000 * power(b, 9)) * interval '1 s' END AS ended,
             i > {rows} - 1000 AS in_chain
      FROM (SELECT i, i * 2654435761 % 4294967296 / 4294967296.0::float8 AS a, i * 40503 % 65536 / 65536.0::float8 AS b,
                   (i * 7919 + i / 1000) % 1000 AS v, i <= {rows} / 2 AND i % ({rows} / 10) = 7 AS rare,
                   now() - interval '365 days' * (({rows} - i)::float8 / {rows}) AS began
            FROM generate_series(1::bigint, {rows}) i) numbers) runs;
"""
HISTORY = """
INSERT INTO {prefix}run_events (run_id, seq, type, payload, inserted_at, received_at, recorder, peer_uid, peer_pid, effect, pass_id)
SELECT r.run_id, e.seq, CASE e.seq WHEN 1 THEN 'run_started' WHEN 2 THEN 'progress_report'
                                   ELSE CASE r.status WHEN 'failed' THEN 'run_failed' WHEN 'stuck' THEN 'run_stuck'
                                                      WHEN 'running' THEN 'progress_report' ELSE 'run_completed' END END,
       CASE e.seq WHEN 3 THEN coalesce(r.result, r.error, '{{}}') ELSE coalesce(r.input, '{{}}') END, r.inserted_at, r.inserted_at,
       r.recorder, 0, 12345, 'applied', CASE WHEN e.seq = 3 AND r.status = 'stuck' THEN 'pass-1' END
FROM (SELECT * FROM {prefix}runs ORDER BY inserted_at DESC LIMIT 200000) r, generate_series(1, 3) AS e (seq);
INSERT INTO {prefix}run_events (run_id, seq, type, payload, inserted_at, received_at, recorder, effect, pass_id)
SELECT run_id, 4, 'run_stuck', error, updated_at, updated_at, recorder, 'applied',
       CASE WHEN row_number() OVER (ORDER BY inserted_at) <= 5 THEN 'pass-2' ELSE 'pass-1' END
FROM {prefix}runs WHERE status = 'stuck' AND run_id NOT IN (SELECT run_id FROM {prefix}run_events WHERE pass_id = 'pass-1');
"""


class Reading:
    """One kept or temporary cluster and one SQLite file."""
    # Quick to fill; nothing of it is measured.
    FILLING = {"fsync": "off", "wal_level": "minimal", "max_wal_senders": "0", "max_wal_size": "16GB", "autovacuum": "off",
               "maintenance_work_mem": "1GB", "work_mem": "256MB", "shared_buffers": "512MB", "checkpoint_timeout": "1h"}
    READING = {"fsync": "on", "shared_buffers": "128MB"}

    def __init__(self, rows, sqlite_rows, keep, say):
        self.rows, self.sqlite_rows, self.say = rows, sqlite_rows, say
        self.kept = keep is not None
        self.folder = Path(keep) if keep else harness.temporary_folder()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self.figures = []  # (name, milliseconds)

    # ---- the data

    def cluster(self, settings):
        def data(cluster):
            cluster.data = self.folder / "data"
            if not cluster.data.exists():
                cluster._fill_from(cluster._fresh_files())
        return harness.Postgres(settings, data_from=data).start()

    def migrated(self, cluster, name):
        database = cluster.create_database(name)
        daemon = harness.Daemon(database.url)
        done = daemon.run("--migrate")
        assert done.returncode == 0, done.stderr
        daemon.close()
        return database

    def fill(self):
        """What is there already is taken as it is."""
        if (self.folder / "filled").exists():
            return
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        cluster = self.cluster(self.FILLING)
        try:
            self.fill_postgresql(self.migrated(cluster, "reading"), self.rows)
            small = self.migrated(cluster, "small")
            self.fill_postgresql(small, self.sqlite_rows)
            self.fill_sqlite(small)
            small.drop()
            (self.folder / "filled").write_text(json.dumps([self.rows, self.sqlite_rows]))
        finally:
            cluster.stop()
            cluster.close()

    def timed(self, what, before):
        self.say(f"{what}: {time.monotonic() - before:.1f} s")
        return time.monotonic()

    def fill_postgresql(self, database, rows):
        """The indexes are made again behind the rows."""
        moment = time.monotonic()
        again = []
        for table in ("runs", "run_events"):
            name = PREFIX + table
            constraints = database.rows(f"SELECT conname AS name, pg_get_constraintdef(oid) AS definition FROM pg_constraint "
                                        f"WHERE conrelid = '{name}'::regclass AND contype IN ('p', 'u')")
            indexes = database.rows(f"SELECT indexname AS name, indexdef AS definition FROM pg_indexes WHERE tablename = '{name}'")
            for index in indexes:
                if index["name"] not in [constraint["name"] for constraint in constraints]:
                    database.execute(f'DROP INDEX "{index["name"]}"')
                    again.append(index["definition"])
            for constraint in constraints:
                database.execute(f'ALTER TABLE {name} DROP CONSTRAINT "{constraint["name"]}"')
                again.append(f'ALTER TABLE {name} ADD CONSTRAINT "{constraint["name"]}" {constraint["definition"]}')
        self.execute(database, RUNS.format(prefix=PREFIX, rows=rows))
        moment = self.timed(f"{rows:,} runs in PostgreSQL", moment)
        for statement in again:
            if "run_events" not in statement:
                self.execute(database, statement)
        moment = self.timed("their indexes", moment)
        self.execute(database, HISTORY.format(prefix=PREFIX))
        for statement in again:
            if "run_events" in statement:
                self.execute(database, statement)
        self.execute(database, f"VACUUM ANALYZE {PREFIX}runs")
        self.execute(database, f"VACUUM ANALYZE {PREFIX}run_events")
        self.timed("the history, VACUUM ANALYZE", moment)

    @staticmethod
    def execute(database, text):
        """Without the harness's limit of time."""
        done = subprocess.run(database.cluster._psql(database.name, "postgres"), input=text, capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0, f"{text[:500]}\n{done.stderr}"

    @property
    def sqlite_path(self):
        return self.folder / "reading.db"

    def fill_sqlite(self, database):
        """The rows of that database, as the daemon writes them."""
        moment = time.monotonic()
        for path in self.folder.glob("reading.db*"):
            path.unlink()
        daemon = harness.Daemon(f"sqlite:{self.sqlite_path}")
        assert daemon.run("--migrate").returncode == 0
        daemon.close()
        target = harness.SqliteDatabase(self.sqlite_path)._connect()
        target.execute("PRAGMA synchronous = OFF")
        for table in ("runs", "run_events"):
            theirs = {row["name"]: row["type"] for row in database.rows(
                f"SELECT attname AS name, format_type(atttypid, NULL) AS type FROM pg_attribute WHERE attrelid = "
                f"'{PREFIX}{table}'::regclass AND attnum > 0 AND NOT attisdropped")}
            columns = [row[1] for row in target.execute(f"PRAGMA table_info({PREFIX}{table})") if row[1] in theirs and row[1] != "id"]
            values = [f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
                      if theirs[column].startswith("timestamp") else f"{column}::int" if theirs[column] == "boolean" else column
                      for column in columns]
            order = "inserted_at" if table == "runs" else "id"
            copy = subprocess.Popen(
                [*database.cluster._psql(database.name, "postgres"), "-c",
                 f"COPY (SELECT {', '.join(values)} FROM {PREFIX}{table} ORDER BY {order}) TO STDOUT (FORMAT csv, NULL '\\N')"],
                stdout=subprocess.PIPE)
            target.execute("BEGIN")
            rows = csv.reader(io.TextIOWrapper(copy.stdout, encoding="utf-8", newline=""))
            target.executemany(f"INSERT INTO {PREFIX}{table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
                               ([None if value == "\\N" else value for value in row] for row in rows))
            target.execute("COMMIT")
            assert copy.wait() == 0
        target.execute("ANALYZE")
        target.close()
        self.timed(f"{self.sqlite_rows:,} runs in SQLite", moment)

    # ---- the questions

    def lists(self, newest, rare, since):
        """Each filter with a hit that is frequent, one that is rare and none; then some together."""
        day = 86400
        cases = [("", {})]
        for name, *values in (
                ("status", "completed", "cancelled", "queued"), ("council", "council-000", "rare", "nobody"),
                ("council_glob", "council-0*", "rar*", "nobody*"), ("id_prefix", "0", newest[:8], "zz"),
                ("host", "host-0", "rare-host", "nowhere"), ("unit", "unit-0.service", "rare.service", "none.service"),
                ("user", "user-2", "rare", "nobody"), ("job", None, rare["job_id"], "none"), ("oban_job_id", None, 2, 99_999_999_999),
                ("queue", "default", "rare", "nobody"), ("pass", "pass-1", "pass-2", "none"),
                ("longer_than", "1s", "30d", "300d"), ("error", "exited", "needle", "no such text"), ("exit_status", 0, 77, 99)):
            cases += [(f"{name}={value} ({how})", {name: value}) for value, how in zip(values, ("frequent", "rare", "none"))
                      if value is not None]
        cases += [("status=running", {"status": "running"}), ("status=stuck", {"status": "stuck"}),
                  ("status=failed", {"status": "failed"}), ("status=running,queued,stuck", {"status": "running,queued,stuck"}),
                  ("council=council-199", {"council": "council-199"}),
                  ("since a day ago", {"since": since(day)}), ("until 364 days ago", {"until": since(364 * day)}),
                  ("until 400 days ago", {"until": since(400 * day)}), ("since in an hour", {"since": since(-3600)})]
        for status, council in (("failed", "council-000"), ("cancelled", "council-000"), ("failed", "rare"), ("completed", "rare"),
                                ("running", "council-199"), ("cancelled", "nobody")):
            cases.append((f"status={status} council={council}", {"status": status, "council": council}))
        cases += [("status=failed host=rare-host", {"status": "failed", "host": "rare-host"}),
                  ("council=council-000 host=nowhere", {"council": "council-000", "host": "nowhere"}),
                  ("council=council-000 error=needle", {"council": "council-000", "error": "needle"}),
                  ("council=council-100 queue=nobody", {"council": "council-100", "queue": "nobody"}),
                  ("status=failed exit_status=99", {"status": "failed", "exit_status": 99})]
        for name, parameters in cases:
            for by in ("recorded", "started") if len(parameters) < 2 else ("started",):
                yield f"list {name} by={by}".replace("  ", " "), "/v1/runs?" + urlencode({**parameters, "by": by})

    def ask(self, daemon, kind, only):
        def rows(query):
            return daemon.control.ok("GET", "/v1/runs?" + urlencode(query))["runs"]

        def since(seconds):
            return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds))

        newest = rows({"limit": 1})[0]["run_id"]
        rare = self.rare
        questions = list(self.lists(newest, rare, since))
        questions += [("show", f"/v1/runs/{newest}"), ("show, oldest", f"/v1/runs/{rare['run_id']}"), ("show, none", "/v1/runs/none"),
                      ("events", f"/v1/runs/{newest}/events"), ("chain", f"/v1/runs/{newest}/chain"),
                      ("explain", f"/v1/runs/{newest}/explain"), ("passes", "/v1/reconciliations"), ("/metrics", "/metrics"),
                      ("/v1/status", "/v1/status")]
        for name, target in questions:
            if not only or re.search(only, name):
                self.time(f"{kind}: {name}", lambda target=target: daemon.control.get(target).status)
        for name, arguments in (("run-recorder stats", ["stats"]), ("run-recorder stats --name rare", ["stats", "--name", "rare"]),
                                ("run-recorder list", ["list"])):
            if not only or re.search(only, name):
                self.time(f"{kind}: {name}", lambda arguments=arguments: 200 if daemon.tool(*arguments).returncode == 0 else 500)

    def time(self, name, question):
        """Warm, seven times; what takes two seconds is not asked again. Whatever is no answer is said."""
        times, statuses = [], set()
        for i in range(REPEAT + 1):
            before = time.monotonic()
            statuses.add(question())
            took = (time.monotonic() - before) * 1e3
            if i > 0 or took > 10 * LIMIT_MS:
                times.append(took)
            if took > 10 * LIMIT_MS:
                break
        odd = statuses - {200} - ({404} if name.endswith("none") else set())
        self.figures.append((name + (f" (HTTP {', '.join(map(str, odd))})" if odd else ""), times))
        self.say(f"{name}: {statistics.median(times):.1f} ms" + (f", HTTP {odd}" if odd else ""))

    def measure(self, kinds, only):
        # A pass would mark the running rows, for whose senders nobody vouches: it stops at the first of them.
        config = {"reconcile": {"interval": "0s", "max_stuck": 1}, "retention": {"keep": "0s"}}
        query = f"SELECT run_id, job_id FROM {PREFIX}runs WHERE job_id LIKE 'job-%' ORDER BY inserted_at LIMIT 1"
        if "PostgreSQL" in kinds:
            cluster = self.cluster(self.READING)
            try:
                database = harness.PostgresDatabase(cluster, "reading")
                self.rare = database.rows(query)[0]
                self.with_daemon(database.url, config, "PostgreSQL", only)
            finally:
                cluster.stop()
                cluster.close()
        if "SQLite" in kinds:
            # A copy: what is kept stays as it was filled.
            self.rare = harness.SqliteDatabase(self.sqlite_path).rows(query)[0]
            self.with_daemon(f"sqlite:{self.sqlite_path}", config, "SQLite", only)
        if not self.kept:
            shutil.rmtree(self.folder, ignore_errors=True)

    def with_daemon(self, url, config, kind, only):
        daemon = harness.Daemon(url, config=config)
        daemon.start()
        daemon.wait_tables()
        daemon.wait_boot_pass()
        self.ask(daemon, kind, only)
        daemon.stop()
        daemon.close()
