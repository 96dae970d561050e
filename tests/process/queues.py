"""Queue tables as Oban makes them (the contract's section 9), for the tests of reconciliation."""

STATES = ("available", "scheduled", "executing", "retryable", "completed", "discarded", "cancelled")
TIME_COLUMN = {"executing": "attempted_at", "completed": "completed_at", "cancelled": "cancelled_at",
               "discarded": "discarded_at"}


class PostgresQueue:
    """oban_jobs in a schema of a PostgreSQL database."""

    def __init__(self, database, schema="public", suspended=True):
        self.database, self.schema = database, schema
        self.table = f"{schema}.oban_jobs"
        states = STATES + (("suspended",) if suspended else ())
        database.execute(f"""
            CREATE SCHEMA IF NOT EXISTS {schema};
            CREATE TYPE {schema}.oban_job_state AS ENUM ({", ".join(f"'{state}'" for state in states)});
            CREATE TABLE {self.table} (
              id bigserial PRIMARY KEY, state {schema}.oban_job_state NOT NULL DEFAULT 'available',
              queue text NOT NULL DEFAULT 'default', worker text NOT NULL, args jsonb NOT NULL DEFAULT '{{}}',
              errors jsonb[] NOT NULL DEFAULT '{{}}', attempt integer NOT NULL DEFAULT 0,
              max_attempts integer NOT NULL DEFAULT 20, priority integer NOT NULL DEFAULT 0, tags text[] DEFAULT '{{}}',
              meta jsonb DEFAULT '{{}}', attempted_by text[],
              inserted_at timestamp NOT NULL DEFAULT timezone('UTC', now()),
              scheduled_at timestamp NOT NULL DEFAULT timezone('UTC', now()), attempted_at timestamp,
              completed_at timestamp, cancelled_at timestamp, discarded_at timestamp)""")

    def put(self, job_id, state, attempt=1, changed_s=3600, claimed_s=None, inserted_s=None):
        """A job that came into its state `changed_s` seconds ago, and was claimed an hour before that, unless told."""
        def ago(seconds):
            return f"timezone('UTC', now()) - interval '{seconds} seconds'"
        times = {"inserted_at": ago(changed_s + 7200), "scheduled_at": ago(changed_s + 3600), "attempted_at": ago(changed_s + 3600)}
        times[TIME_COLUMN.get(state, "scheduled_at")] = ago(changed_s)
        if claimed_s is not None:
            times["attempted_at"] = ago(claimed_s)
        if inserted_s is not None:
            times["inserted_at"] = ago(inserted_s)
        self.database.execute(
            f"DELETE FROM {self.table} WHERE id = {job_id};"
            f"INSERT INTO {self.table} (id, state, worker, attempt, {', '.join(times)}) VALUES "
            f"({job_id}, '{state}', 'W', {attempt}, {', '.join(times.values())})")

    def drop(self):
        self.database.execute(f"DROP TABLE {self.table}")


class SqliteQueue:
    """Oban's Lite engine: JSON and times as text, the precision of times mixed."""
    table = "oban_jobs"

    def __init__(self, database):
        self.database = database
        database.execute("""
            CREATE TABLE oban_jobs (
              id INTEGER PRIMARY KEY AUTOINCREMENT, state TEXT NOT NULL DEFAULT 'available',
              queue TEXT NOT NULL DEFAULT 'default', worker TEXT NOT NULL, args TEXT NOT NULL DEFAULT '{}',
              meta TEXT NOT NULL DEFAULT '{}', tags TEXT NOT NULL DEFAULT '[]', errors TEXT NOT NULL DEFAULT '[]',
              attempt INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL DEFAULT 20,
              priority INTEGER NOT NULL DEFAULT 0, inserted_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
              scheduled_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, attempted_at TEXT,
              attempted_by TEXT NOT NULL DEFAULT '[]', cancelled_at TEXT, completed_at TEXT, discarded_at TEXT)""")

    def put(self, job_id, state, attempt=1, changed_s=3600, claimed_s=None, inserted_s=None):
        def ago(seconds, form="%S"):
            return f"strftime('%Y-%m-%dT%H:%M:{form}', 'now', '{-seconds} seconds')"
        times = {"inserted_at": ago(changed_s + 7200), "scheduled_at": ago(changed_s + 3600, "%SZ"),
                 "attempted_at": ago(changed_s + 3600, "%f")}
        times[TIME_COLUMN.get(state, "scheduled_at")] = ago(changed_s, "%f000")
        if claimed_s is not None:
            times["attempted_at"] = ago(claimed_s, "%f000")
        if inserted_s is not None:
            times["inserted_at"] = ago(inserted_s)
        self.database.execute(
            f"DELETE FROM oban_jobs WHERE id = {job_id};"
            f"INSERT INTO oban_jobs (id, state, worker, attempt, {', '.join(times)}) VALUES "
            f"({job_id}, '{state}', 'W', {attempt}, {', '.join(times.values())})")

    def drop(self):
        self.database.execute("DROP TABLE oban_jobs")
