"""Databases that go on as another one, or as an earlier one: a standby is promoted, a backup is restored, commits are forgotten.
What the database has forgotten is applied again from the kept spool; nothing is there twice. And a spool that is an earlier one."""

import itertools
import shutil
import signal
import subprocess

from harness import PgBouncer, PostgresDatabase, temporary_folder, url_of_all
from torture_fault import Fault, row
from torture_postgres import lines_of

FORGOT = ("the database forgot commits",)
TOO_OLD = "the database forgot events that the spool no longer keeps"


class Elsewhen(Fault):
    databases = ("postgresql",)
    own_cluster = True
    events = (400, 6_000)
    strikes = (1, 4)
    # A quarter of recorder_timeout is also how often an idle daemon looks at the database.
    config = {"spool": {"keep": "1h", "max_bytes": "1GiB"}, "reconcile": {"recorder_timeout": "2s"}}

    def run(self, trial):
        super().run(trial)
        assert TOO_OLD not in trial.server.log(), "something was not kept long enough"

    @staticmethod
    def forgotten(trial, mark):
        return bool(lines_of(trial.server.log()[mark:], FORGOT))

    def until_forgetting_is_noticed(self, trial, mark):
        trial.trickle_until(lambda: self.forgotten(trial, mark), "the log to say that the database forgot commits")


class WithStandby(Elsewhen):
    """A primary and a standby, which change their parts with each strike; the URI names both."""

    def prepare(self, trial):
        trial.standby = trial.cluster.standby("s0")
        for cluster in (trial.cluster, trial.standby):
            trial.undo.append(cluster.close)
        trial.standby.start()
        trial.cluster.wait_followed()
        trial.server.config["database"]["url"] = url_of_all([trial.cluster, trial.standby], trial.database.name)

    @staticmethod
    def be_synchronous(trial):
        trial.cluster.sql("postgres", f"ALTER SYSTEM SET synchronous_standby_names = 's{trial.figures.injected}'; "
                                      "SELECT pg_reload_conf()")
        trial.cluster.wait_followed("sync_state = 'sync'")

    @staticmethod
    def fail_over(trial):
        """The standby takes over from a primary that is gone."""
        gone, trial.cluster = trial.cluster, trial.standby
        trial.standby = gone
        trial.database = PostgresDatabase(trial.cluster, trial.database.name)
        trial.cluster.promote()
        trial.cluster.sql("postgres", "ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()")

    @staticmethod
    def rebuild_standby(trial):
        trial.standby.follow(trial.cluster, f"s{trial.figures.injected + 1}")
        trial.cluster.wait_followed()


@row
class SynchronousFailover(WithStandby):
    name = "failover-synchronous"
    title = "the primary killed (kill -9) under load, its synchronous standby promoted; the URI names both"

    def strike(self, trial):
        mark = len(trial.server.log())
        self.be_synchronous(trial)
        trial.advance_surely()
        trial.cluster.kill()
        trial.advance_surely()
        self.fail_over(trial)
        trial.server.wait_applied()
        assert not self.forgotten(trial, mark), "a synchronous standby has forgotten commits"
        self.rebuild_standby(trial)


@row
class LaggingFailover(WithStandby):
    name = "failover-lagging"
    title = "the primary killed, an asynchronous standby promoted that lacks its last commits"

    def strike(self, trial):
        mark = len(trial.server.log())
        trial.advance_surely()
        trial.standby.stop(signal.SIGQUIT)
        trial.advance_surely()
        trial.server.wait_applied()
        trial.cluster.kill()
        trial.standby.start()
        self.fail_over(trial)
        self.until_forgetting_is_noticed(trial, mark)
        self.rebuild_standby(trial)


@row
class VisibleNotReplicated(WithStandby):
    name = "commit-not-replicated"
    title = "a COMMIT that was visible and not replicated when its connection broke; then the standby promoted"

    def strike(self, trial):
        """Who waits is told that it is committed (cancelled), or nothing (terminated); either way others see it. It may also be
        a heartbeat that waits, so this is repeated until it is a batch."""
        mark = len(trial.server.log())
        hows = itertools.cycle(("cancel", "terminate")[::trial.random.choice((1, -1))])
        self.be_synchronous(trial)
        trial.advance_surely()
        trial.server.wait_applied()
        trial.standby.stop(signal.SIGQUIT)
        before = self.visible(trial)
        waiting = f"wait_event = 'SyncRep' AND datname = '{trial.database.name}'"

        def break_off():
            if not trial.cluster.backends(waiting):
                return None
            how = next(hows)
            trial.cluster.sql("postgres", f"SELECT count(pg_{how}_backend(pid)) FROM pg_stat_activity WHERE {waiting}")
            return how if self.visible(trial) > before else None
        told = trial.trickle_until(break_off, "a COMMIT to be visible and not replicated") == "cancel"
        trial.cluster.kill()
        trial.standby.start()
        self.fail_over(trial)
        if told:
            self.until_forgetting_is_noticed(trial, mark)
        trial.server.wait_applied()
        self.rebuild_standby(trial)

    @staticmethod
    def visible(trial):
        return int(trial.database.execute("SELECT count(*) FROM council_ex_run_events"))


@row
class CommitsNotSynced(Elsewhen):
    name = "synchronous-commit-off"
    title = "`synchronous_commit = off`, and kill -9 of the server: it forgets its last commits"
    cluster_settings = {"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB",
                        "wal_buffers": "64MB"}

    def strike(self, trial):
        mark = len(trial.server.log())
        trial.advance_surely()
        trial.server.wait_applied()
        trial.cluster.kill()
        trial.cluster.start()
        self.until_forgetting_is_noticed(trial, mark)


@row
class RestoredBackup(Elsewhen):
    name = "restored-backup"
    title = "the database restored from an older copy of its files"

    def strike(self, trial):
        mark = len(trial.server.log())
        trial.advance_surely(20)
        trial.server.wait_applied()
        trial.cluster.stop()
        copy = trial.discard_folder(trial.cluster.back_up())
        trial.cluster.start()
        trial.advance_surely()
        trial.server.wait_applied()
        trial.cluster.stop()
        trial.cluster.restore(copy)
        trial.cluster.start()
        self.until_forgetting_is_noticed(trial, mark)


@row
class Pooled(Elsewhen):
    name = "pgbouncer"
    title = ("through PgBouncer 1.18 in transaction mode: the pooler killed, its backends terminated, the server killed, a copy "
             "restored behind it")
    strikes = (4, 12)

    def unavailable(self):
        return "" if PgBouncer.PROGRAM.exists() else "pgbouncer is not installed"

    def prepare(self, trial):
        trial.pooler = PgBouncer(trial.cluster)
        trial.undo.append(trial.pooler.close)
        trial.pooler.start()
        trial.server.config["database"]["url"] = trial.pooler.url(trial.database.name)

    def strike(self, trial):
        trial.advance_surely()
        (self.kill_pooler, self.terminate, self.kill_server, self.restore)[trial.figures.injected % 4](trial)

    @staticmethod
    def kill_pooler(trial):
        trial.pooler.kill()
        trial.advance_surely()
        trial.pooler.start()

    @staticmethod
    def terminate(trial):
        for _ in range(5):
            trial.cluster.sql("postgres", "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                              f"WHERE datname = '{trial.database.name}'")
            trial.advance_surely(20)

    @staticmethod
    def kill_server(trial):
        trial.cluster.kill()
        trial.advance_surely()
        trial.cluster.start()

    def restore(self, trial):
        RestoredBackup.strike(self, trial)


@row
class RestoredSpool(Fault):
    name = "restored-spool"
    title = "the spool's folder restored from an older copy: new events never look already applied"
    events = (400, 6_000)
    strikes = (2, 6)
    config = {"spool": {"keep": "1h", "max_bytes": "1GiB"}}

    def strike(self, trial):
        """What was acknowledged since the copy is applied before the spool goes; else it would be gone with it."""
        trial.server.kill()
        trial.drain_answers()
        copy = trial.discard_folder(temporary_folder()) / "spool"
        subprocess.run(["cp", "-a", str(trial.server.spool_path), str(copy)], check=True)
        trial.server.start()
        trial.advance_surely()
        trial.come_to_rest()
        trial.server.kill()
        trial.drain_answers()
        shutil.rmtree(trial.server.spool_path)
        subprocess.run(["cp", "-a", str(copy), str(trial.server.spool_path)], check=True)
        trial.server.start()
        before = trial.server.wait_applied()
        trial.go_on()
        trial.advance_surely(20)
        status = trial.server.wait_applied()
        assert status["applied"] > before["applied"], f"new events look already applied: {before}, {status}"
