"""The rows in which other recorders were measured, by the same names, so that the figures can stand side by side."""

import signal

from harness import wait_until
from torture_fault import Fault, row


class OnPostgresql(Fault):
    databases = ("postgresql",)
    own_cluster = True
    events = (4_000, 40_000)


@row
class NeighbourKill9(OnPostgresql):
    name = "as-measured-kill-9"
    title = "kill -9, PostgreSQL up"
    strikes = (1, 1)
    own_cluster = False

    def strike(self, trial):
        trial.restart_after_kill()


@row
class NeighbourKill9PostgresqlDown(OnPostgresql):
    name = "as-measured-kill-9-down"
    title = "kill -9 while PostgreSQL is down"
    strikes = (1, 1)

    def strike(self, trial):
        come_back = trial.database_away()
        trial.advance_by(self.scaled(trial, (500, 10_000)))
        trial.restart_after_kill()
        trial.advance_by(self.scaled(trial, (100, 2_000)))
        come_back()


@row
class NeighbourSigterm(OnPostgresql):
    name = "as-measured-sigterm"
    title = "SIGTERM with a backlog"
    strikes = (1, 1)
    config = {"daemon": {"shutdown_timeout": "1s"}}

    def strike(self, trial):
        come_back = trial.database_away()
        trial.advance_by(self.scaled(trial, (1_000, 20_000)))
        trial.server.signal(signal.SIGTERM)
        trial.drain_answers()
        assert trial.server.wait() == 0, "SIGTERM does not end with 0"
        come_back()
        trial.server.start()


@row
class NeighbourStopped(OnPostgresql):
    name = "as-measured-stopped-10-s"
    title = "PostgreSQL stopped for 10 s (the short form: for 1 s)"
    strikes = (1, 1)

    def strike(self, trial):
        come_back = trial.database_away()
        trial.advance_for(self.scaled(trial, (1, 10)))
        come_back()


@row
class NeighbourTerminate(OnPostgresql):
    name = "as-measured-terminate"
    title = "`pg_terminate_backend`, twelve times"
    strikes = (12, 12)
    own_cluster = False

    def strike(self, trial):
        trial.cluster.sql("postgres", "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                          f"WHERE datname = '{trial.database.name}' AND pid <> pg_backend_pid()")


@row
class NeighbourNul(OnPostgresql):
    name = "as-measured-nul"
    title = "one row with a NUL in it, and ones that are no UTF-8: refused with the reason, their neighbours stored"
    strikes = (3, 20)
    own_cluster = False

    def strike(self, trial):
        trial.wait_for_tables()  # the first strike can come before the daemon has made them
        number = trial.figures.injected
        before, after = ({"type": "note", "run_id": f"nul-{number}", "id": name, "name": name} for name in ("before", "after"))
        bad = [b'{"type":"note","run_id":"nul-%d","id":"bad","text":"a\\u0000b"}' % number,
               b'{"type":"note","run_id":"nul-%d","id":"bad","text":"a\x00b"}' % number,
               b'{"type":"note","run_id":"nul-%d","id":"bad","text":"\xff\xfe"}' % number]
        with trial.server.client() as client:
            client.send(before, *bad, after)
            assert client.codes() == {2: "invalid_event", 3: "invalid_json", 4: "invalid_json"}, client.refusals
        sender = trial.add_sender([before, after])  # sends them once more: they are there already
        trial.advance_until(lambda: sender.done)
        wait_until(lambda: [entry["event_id"] for entry in trial.database.events().get(f"nul-{number}", [])] ==
                   ["before", "after"], "the neighbours to be stored")

    def run(self, trial):
        """The neighbours were delivered by a client of its own too, which the senders' books do not know."""
        trial.start()
        self.strike_under_load(trial)
        trial.send_all()
        trial.server.wait_applied()
        trial.check_rows()
        trial.server.check_ledger()


@row
class NeighbourMistake(OnPostgresql):
    name = "as-measured-mistake"
    title = "a mistake in the configuration: does not start, names it, exit status 78; a running daemon keeps the old one"
    strikes = (1, 5)
    own_cluster = False

    def strike(self, trial):
        server = trial.server
        mark = len(server.log())
        server.write_config(text=server.config_path.read_text() + "\n[databse]\nurl = 1\n")
        checked = server.run("--check")
        assert checked.returncode == 78 and "databse" in checked.stderr + checked.stdout, checked
        server.signal(signal.SIGHUP)
        server.wait_for_log("databse", after=mark)
        trial.advance_by(100)
        server.kill()
        trial.drain_answers()
        server.spawn()
        assert server.wait() == 78, "a daemon with a mistake in its configuration does not end with 78"
        server.start()  # with the right one again
