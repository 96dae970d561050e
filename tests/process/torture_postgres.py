"""What can happen to a PostgreSQL server: stopped, killed, frozen, moved, full, locked, refusing. Meanwhile events are
acknowledged; each outage is one line at error and one when it ends; afterwards everything is there once."""

import os
import signal
import socket
import struct
import subprocess

from harness import POSTGRES_BIN, wait_until
from torture_disk import fill_disk, run, why_no_mount
from torture_fault import Fault, row
from torture_kill import Kill9UnderLoad

BEGINS = (" error the database is away", " error the database refuses this daemon")
ENDS = ("the database is back", "the database is usable again")
READY = b"Z\0\0\0\5I"
LONGER_THAN_EVERY_TIMEOUT_S = 40  # a call to the database has 30 s, a connection 5 s, a worker none


def lines_of(log, sentences):
    return [line for line in log.splitlines() if any(sentence in line for sentence in sentences)]


class OnServer(Fault):
    databases = ("postgresql",)
    events = (400, 6_000)
    strikes = (2, 6)
    config = {"spool": {"keep": "1h", "max_bytes": "1GiB"}}
    error_lines = 1  # for one strike, at most

    def run(self, trial):
        trial.start()
        trial.wait_for_tables()
        self.strike_under_load(trial)
        self.heal(trial)
        trial.send_all()
        trial.check()
        self.check_what_was_said(trial)

    def check_what_was_said(self, trial):
        """Each outage is a line when it begins and one when it ends, however often it was met."""
        log = trial.server.log()
        began, ended = lines_of(log, BEGINS), lines_of(log, ENDS)
        assert len(began) <= self.error_lines * trial.figures.injected, f"too many lines for one condition: {began}"
        assert len(ended) == len(began) - getattr(trial, "ended_unsaid", 0), f"begun: {began}, ended: {ended}"
        errors = [line for line in trial.server.log_lines("error") if line not in began]
        assert not errors, f"errors of another kind: {errors[:5]}"

    @staticmethod
    def until_noticed(trial, mark):
        trial.trickle_until(lambda: lines_of(trial.server.log()[mark:], BEGINS), "the outage to be noticed")

    @staticmethod
    def until_over(trial, mark):
        trial.trickle_until(lambda: lines_of(trial.server.log()[mark:], ENDS), "the end of the outage to be said")

    @staticmethod
    def terminate(trial):
        trial.cluster.sql("postgres", "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                          f"WHERE datname = '{trial.database.name}'")


class WithRole(OnServer):
    """The daemon is a role that owns the database, and no superuser."""
    own_cluster = True

    def prepare(self, trial):
        trial.cluster.sql("postgres", f'CREATE ROLE app LOGIN; ALTER DATABASE "{trial.database.name}" OWNER TO app')
        trial.server.config["database"]["url"] = trial.cluster.url(trial.database.name, "app")


@row
class Stopped(OnServer):
    name = "pg-stopped"
    title = "PostgreSQL stopped, fast and immediate in turn, and started again"
    own_cluster = True

    def strike(self, trial):
        mark = len(trial.server.log())
        trial.cluster.stop((signal.SIGINT, signal.SIGQUIT)[trial.figures.injected % 2])
        self.until_noticed(trial, mark)
        trial.advance_by(50)
        trial.cluster.start()
        self.until_over(trial, mark)


@row
class Killed(OnServer):
    name = "pg-killed"
    title = "kill -9 of the whole PostgreSQL server, and of a single backend, in turn"
    own_cluster = True
    error_lines = 2  # a server that has lost a backend may take one more connection before it resets itself

    def strike(self, trial):
        mark = len(trial.server.log())
        if trial.figures.injected % 2:
            trial.cluster.kill()
            self.until_noticed(trial, mark)
            trial.cluster.start()
        else:
            ours = f"datname = '{trial.database.name}'"
            os.kill(wait_until(lambda: trial.cluster.backends(ours), "a backend of the daemon")[0], signal.SIGKILL)
            trial.cluster.wait_ready()
            trial.advance_by(50)
            trial.server.wait_applied()
            # An idle connection is made again without a word; one that was at work is an outage of a moment.
            if not lines_of(trial.server.log()[mark:], BEGINS):
                return
        self.until_over(trial, mark)


@row
class TerminatedInCommit(OnServer):
    name = "pg-terminate-commit"
    title = "`pg_terminate_backend`, `pg_cancel_backend` and kill -9 during COMMIT, before and after it is durable"
    own_cluster = True
    strikes = (4, 12)
    error_lines = 2

    # A COMMIT waits here while the gate is shut, and only then: nothing has to be changed in a table, which would wait in turn
    # for a transaction that waits.
    GATE = """
        CREATE FUNCTION pass_gate() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON council_ex_run_events DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW EXECUTE FUNCTION pass_gate()"""

    def strike_under_load(self, trial):
        trial.database.execute(self.GATE)
        super().strike_under_load(trial)

    def strike(self, trial):
        strike = trial.figures.injected
        how = ("terminate", "cancel", "kill")[strike // 2 % 3]
        (self.before_it_is_durable if strike % 2 else self.after_it_is_durable)(trial, how)

    def before_it_is_durable(self, trial, how):
        """A trigger that runs in COMMIT waits for a lock: nothing of it is committed."""
        gate = trial.cluster.session(trial.database.name)
        try:
            gate.stdin.write("SELECT pg_advisory_lock(1); SELECT 'shut';\n")
            gate.stdin.flush()
            wait_until(lambda: gate.stdout.readline() == "shut\n", "the gate to be shut")
            pid = self.in_commit(trial, "advisory")
            self.end(trial, pid, how)
            wait_until(lambda: pid not in trial.cluster.backends("wait_event = 'advisory'"), "the COMMIT to be given up")
        finally:
            gate.stdin.close()  # the end of its input is the end of the session, and opens the gate
            gate.wait(60)

    def after_it_is_durable(self, trial, how):
        """COMMIT waits for a standby that does not exist: it is committed here, and nobody has said so."""
        trial.cluster.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'; SELECT pg_reload_conf()")
        pid = self.in_commit(trial, "SyncRep")
        self.end(trial, pid, how)
        trial.cluster.sql("postgres", "ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()")

    @staticmethod
    def in_commit(trial, event):
        found = []

        def waiting():
            found[:] = trial.cluster.backends(f"wait_event = '{event}' AND datname = '{trial.database.name}'")
            return found
        trial.trickle_until(waiting, f"a COMMIT to wait in {event}")
        return found[0]

    def end(self, trial, pid, how):
        if how == "kill":
            mark = len(trial.server.log())
            os.kill(pid, signal.SIGKILL)
            self.until_noticed(trial, mark)
            trial.cluster.wait_ready()
        else:
            trial.cluster.sql("postgres", f"SELECT pg_{how}_backend({pid})")


@row
class Frozen(OnServer):
    name = "pg-frozen"
    title = (f"PostgreSQL frozen (SIGSTOP) for {LONGER_THAN_EVERY_TIMEOUT_S} s and continued (the short form: until a new "
             "connection gives up)")
    own_cluster = True
    strikes = (1, 2)

    def prepare(self, trial):
        trial.server.config["database"]["url"] = trial.database.url + "&connect_timeout=2"

    def strike(self, trial):
        mark = len(trial.server.log())
        trial.cluster.freeze()
        try:
            if trial.full:
                trial.advance_for(LONGER_THAN_EVERY_TIMEOUT_S)
            else:
                trial.restart_after_kill()
            self.until_noticed(trial, mark)
        finally:
            trial.cluster.thaw()
        self.until_over(trial, mark)


@row
class Moved(OnServer):
    name = "pg-moved"
    title = "PostgreSQL restarted with another address: one that the URI names, and one that the configuration gets"
    own_cluster = True

    def prepare(self, trial):
        trial.server.config["database"]["url"] = self.url(trial, 5432, 5433)

    @staticmethod
    def url(trial, *ports):
        one = trial.database.url.partition("?host=")
        folder = one[2].partition("&")[0]
        return f"{one[0]}?host={','.join([folder] * len(ports))}&port={','.join(map(str, ports))}"

    def strike(self, trial):
        cluster = trial.cluster
        mark = len(trial.server.log())
        named = trial.figures.injected % 2 == 0
        cluster.stop()
        self.until_noticed(trial, mark)
        cluster.settings["port"] = (5433 if cluster.port == 5432 else 5432) if named else 5434
        cluster.start()
        if not named:
            trial.advance_by(50)
            trial.server.config["database"]["url"] = self.url(trial, 5432, 5433, 5434)
            trial.server.signal(signal.SIGTERM)
            trial.drain_answers()
            assert trial.server.wait() == 0, "SIGTERM does not end with 0"
            trial.ended_unsaid = getattr(trial, "ended_unsaid", 0) + 1
            trial.server.start()
            trial.server.wait_applied()
        else:
            self.until_over(trial, mark)


def occupy(cluster, database, user):
    """A session that is only held; None where the server refuses it."""
    session = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    session.settimeout(30)
    session.connect(f"{cluster.folder}/.s.PGSQL.{cluster.port}")
    words = struct.pack("!i", 3 << 16) + f"user\0{user}\0database\0{database}\0\0".encode()
    session.sendall(struct.pack("!i", len(words) + 4) + words)
    answer = b""
    while READY not in answer:
        more = session.recv(65536)
        if not more:
            session.close()
            return None
        answer += more
    return session


@row
class NoConnections(WithRole):
    name = "pg-no-connections"
    title = "no connection left: the role's own limit, and all of `max_connections` taken by others"
    cluster_settings = {"max_connections": 14}

    def strike(self, trial):
        mark = len(trial.server.log())
        if trial.figures.injected % 2 == 0:
            trial.cluster.sql("postgres", "ALTER ROLE app CONNECTION LIMIT 0")
            self.terminate(trial)
            self.until_noticed(trial, mark)
            trial.cluster.sql("postgres", "ALTER ROLE app CONNECTION LIMIT -1")
        else:
            trial.server.kill()
            trial.drain_answers()
            others = []
            wait_until(lambda: not trial.cluster.backends(f"datname = '{trial.database.name}'"), "the daemon's backends to end")
            while other := occupy(trial.cluster, trial.database.name, "app"):
                others.append(other)
            trial.server.start()
            self.until_noticed(trial, mark)
            for other in others:
                other.close()
        self.until_over(trial, mark)


@row
class Revoked(WithRole):
    name = "pg-revoked"
    title = "a right revoked: on each table, to connect, to log in"
    strikes = (3, 9)

    def strike(self, trial):
        mark = len(trial.server.log())
        table = trial.random.choice(("runs", "run_events", "recorders"))
        name = trial.database.name
        # The owner's rights too can be revoked; everybody else's to connect come from PUBLIC.
        database, away, back = (
            (name, f"REVOKE ALL ON council_ex_{table} FROM app", f"GRANT ALL ON council_ex_{table} TO app"),
            ("postgres", "ALTER ROLE app NOLOGIN", "ALTER ROLE app LOGIN"),
            ("postgres", f'REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC, app',
             f'GRANT CONNECT ON DATABASE "{name}" TO PUBLIC, app'),
        )[trial.figures.injected % 3]
        trial.cluster.sql(database, away)
        if database == "postgres":
            self.terminate(trial)
        self.until_noticed(trial, mark)
        trial.advance_by(50)
        trial.cluster.sql(database, back)
        self.until_over(trial, mark)


@row
class ServerDiskFull(OnServer):
    name = "pg-disk-full"
    title = "PostgreSQL's disk full: the tables' (it refuses), and the log's (it ends with PANIC)"
    own_cluster = True
    error_lines = 2  # it comes up once more before it ends

    def unavailable(self):
        return why_no_mount()

    def prepare(self, trial):
        cluster = trial.cluster
        trial.tables, trial.wal = trial.folder / "tables", trial.folder / "wal"
        trial.undo.append(lambda: cluster.stop(signal.SIGQUIT))
        for path, size in ((trial.tables, "24m"), (trial.wal, "40m")):
            path.mkdir()
            run("mount", "-t", "tmpfs", "-o", f"size={size}", "none", path)
            trial.undo.insert(0, lambda path=path: subprocess.run(["umount", path], check=False))
            if cluster.account:
                os.chown(path, cluster.account["user"], cluster.account["group"])
        cluster.sql("postgres", f"CREATE TABLESPACE small LOCATION '{trial.tables}'")
        cluster.sql("postgres", f'ALTER DATABASE "{trial.database.name}" SET TABLESPACE small')
        cluster.stop()
        run("cp", "-a", f"{cluster.data}/pg_wal/.", trial.wal)
        run("rm", "-r", f"{cluster.data}/pg_wal")
        (cluster.data / "pg_wal").symlink_to(trial.wal)
        cluster.start()

    def strike(self, trial):
        mark = len(trial.server.log())
        panics = trial.figures.injected % 2
        ballast = (trial.wal if panics else trial.tables) / "ballast"
        fill_disk(ballast)
        if panics:
            self.switch_log_until_it_ends(trial)
        self.until_noticed(trial, mark)
        trial.advance_by(50)
        ballast.unlink()
        if panics:
            trial.cluster.start()
        self.until_over(trial, mark)

    @staticmethod
    def switch_log_until_it_ends(trial):
        """Each change of the log's segment needs a new file, as a load would in time."""
        def ended():
            subprocess.run([str(POSTGRES_BIN / "psql"), "-X", "-q", "-h", str(trial.cluster.folder), "-U", "postgres", "-c",
                            "CREATE TABLE IF NOT EXISTS filling (n int); INSERT INTO filling VALUES (1); SELECT pg_switch_wal()"],
                           capture_output=True, check=False)
            return trial.cluster.process.poll() is not None
        trial.advance_until(ended, "PostgreSQL to end")


@row
class Locked(OnServer):
    name = "pg-locked"
    title = "a lock on each of our tables held by somebody else, in the long form longer than every timeout"
    strikes = (3, 4)

    def strike(self, trial):
        table = ("runs", "run_events", "recorders")[trial.figures.injected % 3]
        mark = len(trial.server.log())
        other = trial.cluster.session(trial.database.name)
        try:
            other.stdin.write(f"BEGIN; LOCK TABLE council_ex_{table} IN ACCESS EXCLUSIVE MODE; SELECT 'locked';\n")
            other.stdin.flush()
            assert other.stdout.readline() == "locked\n"
            trial.trickle_until(lambda: trial.server.status()["waiting"] > 0, "events to wait")
            trial.advance_by(50)
            if trial.full and trial.figures.injected % 2:
                trial.advance_for(LONGER_THAN_EVERY_TIMEOUT_S)
                self.until_noticed(trial, mark)
        finally:
            other.communicate("ROLLBACK;\n")
        trial.server.wait_applied()


@row
class ReadOnly(OnServer):
    name = "pg-read-only"
    title = "`default_transaction_read_only` on the database"
    error_lines = 2  # a COMMIT that was broken off is an outage of its own, what the next connection meets a refusal

    def strike(self, trial):
        mark = len(trial.server.log())
        trial.cluster.sql("postgres", f'ALTER DATABASE "{trial.database.name}" SET default_transaction_read_only = on')
        self.terminate(trial)
        self.until_noticed(trial, mark)
        trial.advance_by(50)
        trial.cluster.sql("postgres", f'ALTER DATABASE "{trial.database.name}" RESET default_transaction_read_only')
        self.until_over(trial, mark)


@row
class IdleSessions(OnServer):
    name = "pg-idle-sessions"
    title = "sessions that the server ends because they are idle (`idle_session_timeout`): no outage, and not a word"
    error_lines = 0

    def strike(self, trial):
        name = trial.database.name
        if not trial.figures.injected:
            trial.cluster.sql("postgres", f"ALTER DATABASE \"{name}\" SET idle_session_timeout = '100ms'")
            trial.restart_after_kill()
        trial.come_to_rest()
        wait_until(lambda: not trial.cluster.backends(f"datname = '{name}'"), "the server to end idle sessions")
        trial.go_on()
        trial.advance_surely(20)


@row
class TablesDropped(OnServer):
    name = "pg-tables-dropped"
    title = "all tables dropped, and one of them renamed and given back: what they had is applied again from the kept spool"
    events = (600, 6_000)

    def strike(self, trial):
        mark = len(trial.server.log())
        if trial.figures.injected % 2 == 0:
            # Else there is nothing that could be forgotten.
            trial.advance_until(lambda: trial.server.status()["applied"] > 0, "the first events to be applied")
            wait_until(lambda: self.drop_all(trial), "the tables to be dropped beside a daemon that writes")
            trial.trickle_until(lambda: "the database forgot commits" in trial.server.log()[mark:], "the loss to be noticed")
        else:
            table = "council_ex_" + trial.random.choice(("runs", "run_events", "recorders"))
            trial.database.execute(f"ALTER TABLE {table} RENAME TO somewhere_else")
            self.until_noticed(trial, mark)
            trial.advance_by(50)
            trial.database.execute(f"ALTER TABLE somewhere_else RENAME TO {table}")
        self.until_over(trial, mark)

    @staticmethod
    def drop_all(trial):
        """False: a deadlock with the daemon, of which this side was the victim."""
        try:
            trial.database.execute("""
                DO $$ DECLARE name text; BEGIN
                  FOR name IN SELECT tablename FROM pg_tables WHERE tablename LIKE 'council\\_ex\\_%' LOOP
                    EXECUTE format('DROP TABLE %I CASCADE', name);
                  END LOOP; END $$""")
        except AssertionError as error:
            if "deadlock detected" in str(error):
                return False
            raise
        return True


@row
class CombinedOnServer(OnServer):
    name = "pg-combined"
    title = "kill -9 of the daemon and the outages above, mixed"
    own_cluster = True
    strikes = (3, 20)
    events = (600, 12_000)

    def strike(self, trial):
        choice = trial.random.choice((Stopped, Killed, TerminatedInCommit, ReadOnly, TablesDropped, None))
        if choice:
            choice().strike(trial)
        else:
            Kill9UnderLoad().strike(trial)

    def check_what_was_said(self, trial):
        """A daemon that is killed says nothing of an outage's end."""
