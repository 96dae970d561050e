"""Failover of PostgreSQL under load: no acknowledged event is missing on the new primary, and none is there twice; what the
new primary never had is applied again from the kept spool."""

import shutil
import unittest

from harness import PgBouncer, Postgres, PostgresDatabase, ProcessTest, url_of_all, wait_until
from load import Load


class Failover(ProcessTest):
    def primary(self, settings=None):
        cluster = Postgres({"synchronous_standby_names": "", **(settings or {})})
        self.addCleanup(cluster.close)
        cluster.start()
        cluster.sql("postgres", "CREATE DATABASE app")
        return cluster

    def standby_of(self, primary, name):
        standby = primary.standby(name)
        self.addCleanup(standby.close)
        standby.start()
        wait_until(lambda: primary.sql("postgres", "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"),
                   "the standby to stream")
        return standby

    def loaded(self, url, database, seed, share=0.3):
        # A quarter of recorder_timeout is also how often an idle daemon looks at the database.
        server = self.daemon(url, config={"reconcile": {"recorder_timeout": "1s"}}).start()
        server.database = database
        wait_until(lambda: server.control.get("/v1/runs").status == 200, "the tables")
        load = Load(server, seed, 1_500)
        self.addCleanup(load.close)
        load.pump_to(share)
        return server, load

    def test_a_synchronous_standby_is_promoted(self):
        primary = self.primary()
        standby = self.standby_of(primary, "s2")
        primary.sql("postgres", "ALTER SYSTEM RESET synchronous_standby_names")
        primary.stop()
        primary.settings["synchronous_standby_names"] = "s2"
        primary.start()
        wait_until(lambda: primary.sql("postgres", "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"),
                   "the standby to be synchronous")
        server, load = self.loaded(url_of_all([primary, standby], "app"), PostgresDatabase(standby, "app"), 1)
        primary.kill()
        load.pump_to(0.6)
        standby.settings["synchronous_standby_names"] = ""
        standby.promote()
        load.finish("synchronous standby promoted")
        self.assertNotIn("forgot commits", server.log())

    def test_a_standby_that_lags_is_promoted(self):
        primary = self.primary()
        standby = self.standby_of(primary, "s2")
        server, load = self.loaded(url_of_all([primary, standby], "app"), PostgresDatabase(standby, "app"), 2)
        server.wait_applied()
        wait_until(lambda: standby.sql("app", "SELECT count(*) FROM council_ex_runs").strip() != "0", "the standby to follow")
        standby.stop()
        load.pump_to(0.6)
        server.wait_applied()
        primary.kill()
        standby.start()
        standby.promote()
        server.wait_for_log("the database forgot commits")
        load.finish("standby that lagged promoted")

    def restored_behind_a_pooler(self, seed, idle):
        """All that the daemon has is applied when the copy is restored; its connections to the pooler stay up."""
        if not PgBouncer.PROGRAM.exists():
            self.skipTest("pgbouncer is not installed")
        cluster = self.primary()
        pooler = PgBouncer(cluster).start()
        self.addCleanup(pooler.close)
        server, load = self.loaded(pooler.url("app"), PostgresDatabase(cluster, "app"), seed)
        server.wait_applied()
        cluster.stop()
        copy = cluster.back_up()
        self.addCleanup(shutil.rmtree, copy, ignore_errors=True)
        cluster.start()
        load.pump_to(0.5)
        pooler.kill()
        pooler.start()
        if idle:
            load.pump_all()
        else:
            load.pump_to(0.6)
        server.wait_applied()
        cluster.stop()
        cluster.restore(copy)
        cluster.start()
        if not idle:
            load.pump_all()
        server.wait_for_log("the database forgot commits")
        load.finish(f"restored from an older copy, behind a PgBouncer, {'idle' if idle else 'under load'}")

    def test_a_database_is_restored_from_an_older_copy_behind_a_pooler(self):
        self.restored_behind_a_pooler(3, idle=False)

    def test_an_idle_daemon_behind_a_pooler_notices_that_its_database_was_restored(self):
        self.restored_behind_a_pooler(4, idle=True)


if __name__ == "__main__":
    unittest.main()
