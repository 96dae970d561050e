"""Failover of PostgreSQL under load: no acknowledged event is missing on the new primary, and none is there twice; what the
new primary never had is applied again from the kept spool."""

import shutil

import pytest

from harness import PgBouncer, Postgres, PostgresDatabase, url_of_all, wait_until
from load import Load


@pytest.fixture
def primary(at_end):
    cluster = Postgres({"synchronous_standby_names": ""})
    at_end(cluster.close)
    cluster.start()
    cluster.sql("postgres", "CREATE DATABASE app")
    return cluster


def standby_of(at_end, primary, name):
    standby = primary.standby(name)
    at_end(standby.close)
    standby.start()
    primary.wait_followed()
    return standby


def loaded(daemons, at_end, url, database, seed, share=0.3):
    # A quarter of recorder_timeout is also how often an idle daemon looks at the database.
    server = daemons(url, config={"reconcile": {"recorder_timeout": "1s"}}).start()
    server.database = database
    server.wait_tables()
    load = Load(server, seed, 1_500)
    at_end(load.close)
    load.pump_to(share)
    return server, load


def test_a_synchronous_standby_is_promoted(daemons, primary, at_end):
    standby = standby_of(at_end, primary, "s2")
    primary.sql("postgres", "ALTER SYSTEM RESET synchronous_standby_names")
    primary.stop()
    primary.settings["synchronous_standby_names"] = "s2"
    primary.start()
    primary.wait_followed("sync_state = 'sync'")
    server, load = loaded(daemons, at_end, url_of_all([primary, standby], "app"), PostgresDatabase(standby, "app"), 1)
    primary.kill()
    load.pump_to(0.6)
    standby.settings["synchronous_standby_names"] = ""
    standby.promote()
    load.finish("synchronous standby promoted")
    assert "forgot commits" not in server.log()


def test_a_standby_that_lags_is_promoted(daemons, primary, at_end):
    standby = standby_of(at_end, primary, "s2")
    server, load = loaded(daemons, at_end, url_of_all([primary, standby], "app"), PostgresDatabase(standby, "app"), 2)
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


def restored_behind_a_pooler(daemons, cluster, at_end, seed, idle):
    """All that the daemon has is applied when the copy is restored; its connections to the pooler stay up."""
    if not PgBouncer.PROGRAM.exists():
        pytest.skip("pgbouncer is not installed")
    pooler = PgBouncer(cluster).start()
    at_end(pooler.close)
    server, load = loaded(daemons, at_end, pooler.url("app"), PostgresDatabase(cluster, "app"), seed)
    server.wait_applied()
    cluster.stop()
    copy = cluster.back_up()
    at_end(shutil.rmtree, copy, ignore_errors=True)
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


def test_a_database_is_restored_from_an_older_copy_behind_a_pooler(daemons, primary, at_end):
    restored_behind_a_pooler(daemons, primary, at_end, 3, idle=False)


def test_an_idle_daemon_behind_a_pooler_notices_that_its_database_was_restored(daemons, primary, at_end):
    restored_behind_a_pooler(daemons, primary, at_end, 4, idle=True)
