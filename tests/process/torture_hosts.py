"""Several daemons on one database: ten at once, of which some die and one for good, and two that record the same runs."""

import subprocess
import threading

from harness import Daemon, merged, temporary_folder, wait_until
from torture_check import check_ledger, is_kept
from torture_fault import Fault, row
from workload import stream

RECORDER_TIMEOUT = "2s"
NEW_ID = "one of the two spools is a copy; taking a new id"


class Hosts(Fault):
    databases = ("postgresql",)
    own_cluster = True
    cluster_settings = {"max_connections": 150}
    events = (600, 10_000)
    config = {"reconcile": {"grace": "1ms", "recorder_timeout": RECORDER_TIMEOUT}}
    count = 2

    def start_all(self, trial):
        """At the same moment, on an empty database."""
        trial.daemons = [trial.server]
        for _ in range(self.count - 1):
            other = Daemon(trial.database.url, config=merged(trial.server.config, {}), folder=temporary_folder())
            for section, name in (("socket", "events.sock"), ("control", "control.sock"), ("spool", "spool")):
                other.config[section]["path"] = other.folder / name
            trial.daemons.append(other)
            trial.undo.append(other.close)
        for daemon in trial.daemons:
            daemon.write_config()
        for daemon in trial.daemons:
            daemon.spawn()
        for daemon in trial.daemons:
            daemon.wait_ready()

    def kill_one(self, trial):
        """kill -9 of one of them, and a new start."""
        daemon = trial.random.choice(trial.daemons)
        daemon.kill()
        trial.drain_answers(daemon)
        daemon.start()

    @staticmethod
    def reconcile_at_once(trial):
        """One gets to it, the others are told that it is under way, or come after it; no other answer from a daemon that has its
        tables."""
        trial.advance_until(lambda: all(daemon.control.get("/v1/runs").status == 200 for daemon in trial.daemons), "the tables")
        answers = []
        threads = [threading.Thread(target=lambda daemon=daemon: answers.append(daemon.control.post("/v1/reconcile", {})))
                   for daemon in trial.daemons]
        for thread in threads:
            thread.start()
        trial.advance_until(lambda: not any(thread.is_alive() for thread in threads), "the passes to end")
        statuses = [answer.status for answer in answers]
        assert len(statuses) == len(threads) and set(statuses) <= {200, 409} and 200 in statuses, answers

    def check_all(self, trial):
        trial.send_all()
        for daemon in trial.daemons:
            if daemon.alive():
                daemon.wait_applied()
        trial.check_rows()
        for daemon in trial.daemons:
            if daemon.alive():
                check_ledger([sender for sender in trial.senders if sender.server is daemon], daemon.status(), trial.database)


@row
class TenDaemons(Hosts):
    name = "ten-daemons"
    title = "ten daemons started at the same moment on an empty database, reconciling at once, some killed, one for good"
    count = 10
    strikes = (2, 12)

    def run(self, trial):
        self.start_all(trial)
        trial.figures.injected += self.count
        share = self.scaled(trial, self.events) // self.count
        for number, daemon in enumerate(trial.daemons):
            trial.add_sender(stream(trial.seed, share, f"{number}"), server=daemon)
        strikes = self.scaled(trial, self.strikes)
        for number in range(strikes):
            trial.advance_to((number + trial.random.random()) / (strikes + 1))
            (self.reconcile_at_once, self.kill_one)[number % 2](trial)
            trial.figures.injected += 1
        trial.send_all()
        self.lose_one_for_good(trial)
        self.check_all(trial)

    @staticmethod
    def lose_one_for_good(trial):
        """Its runs, whose worker is gone too, are judged by the others when it has not been seen for a while."""
        lost = trial.random.choice(trial.daemons)
        dead = subprocess.Popen(["true"])
        dead.wait()
        sender = trial.add_sender([{"type": "run_started", "run_id": f"orphan-{number}", "id": "1", "council": "demo",
                                    "worker_pid": dead.pid} for number in range(5)], server=lost)
        trial.advance_until(lambda: sender.done)
        lost.wait_applied()
        lost.kill()
        trial.drain_answers(lost)
        for sent in trial.senders:
            if sent.server is lost:
                sent.again = []  # nobody is there to take it
        trial.figures.injected += 1
        other = next(daemon for daemon in trial.daemons if daemon is not lost)

        def judged():
            other.control.reconcile()
            rows = trial.database.rows("SELECT status, error FROM council_ex_runs WHERE run_id LIKE 'orphan-%'")
            return len(rows) == 5 and all(row["status"] == "stuck" for row in rows) and rows
        # Until then it may have found its own orphans by itself: either way each names its evidence.
        reasons = {row["error"]["reason"] for row in wait_until(judged, "the runs of the one that is gone to be judged")}
        assert reasons <= {"recorder_gone", "process_gone"}, reasons


@row
class SharedRuns(Hosts):
    name = "shared-runs"
    title = "two daemons that record the same runs: the same events over both, and kill -9 of either"
    events = (600, 6_000)
    strikes = (2, 6)
    # Neither is to judge the other's rows here.
    config = {"reconcile": {"grace": "1h", "recorder_timeout": "1h"}}

    def run(self, trial):
        self.start_all(trial)
        events = stream(trial.seed, self.scaled(trial, self.events), "shared")
        third = len(events) // 3
        trial.add_sender(events[:2 * third], window=64, server=trial.daemons[0])
        trial.add_sender(events[third:], window=64, server=trial.daemons[1])
        strikes = self.scaled(trial, self.strikes)
        for number in range(strikes):
            trial.advance_to((number + trial.random.random()) / (strikes + 1))
            self.kill_one(trial)
            trial.figures.injected += 1
        self.check_all(trial)


@row
class ClonedSpool(Hosts):
    name = "cloned-spool"
    title = ("a copy of a spool, taken under load while the database is away, with a daemon of its own beside the first: it becomes "
             "another recorder, and what both have is applied once")
    strikes = (1, 3)
    # Neither is to judge the other's rows here.
    config = {"spool": {"keep": "1h", "max_bytes": "1GiB"}, "reconcile": {"grace": "1h", "recorder_timeout": "1h"}}

    def run(self, trial):
        trial.start()
        trial.daemons = [trial.server]
        trial.wait_for_tables()
        trial.open_senders()
        trial.advance_until(lambda: trial.server.status()["applied"] > 0, "the database to know the first one")
        strikes = self.scaled(trial, self.strikes)
        for number in range(strikes):
            trial.advance_to((number + trial.random.random()) / (strikes + 1))
            come_back = trial.database_away()
            trial.advance_surely()
            copy = self.copy(trial)
            come_back()
            copy.start()
            trial.daemons.append(copy)
            trial.figures.injected += 1
            trial.add_sender(stream(trial.seed, 50, f"copy-{number}"), server=copy)
            trial.trickle_until(lambda: NEW_ID in copy.log(), "the copy to take an id of its own")
        trial.send_all()
        self.check_all(trial)

    @staticmethod
    def copy(trial):
        """As it is at some moment while it grows: file by file."""
        folder = temporary_folder()
        copying = subprocess.Popen(["cp", "-a", str(trial.server.spool_path), str(folder / "spool")])
        trial.advance_until(lambda: copying.poll() is not None, "the copy to be made")
        assert copying.returncode == 0
        copy = Daemon(trial.database.url, config=merged(trial.server.config, {}), folder=folder)
        for section, name in (("socket", "events.sock"), ("control", "control.sock"), ("spool", "spool")):
            copy.config[section]["path"] = copy.folder / name
        trial.undo.append(copy.close)
        return copy

    def check_all(self, trial):
        """Everything once; each ledger is what the history has from that daemon; and together they are what was accepted."""
        statuses = [daemon.wait_applied() for daemon in trial.daemons]
        trial.check_rows()
        assert len({status["recorder"] for status in statuses}) == len(statuses), statuses
        entries = [entry for history in trial.database.events().values() for entry in history]
        for status in statuses:
            mine = sum(entry["recorder"] == status["recorder"] for entry in entries)
            assert status["applied"] == mine, f"the history has {mine}: {status}"
            assert status["dead_letters"] == 0, status
        accepted = sum(status["accepted"] for status in statuses)
        fates = [fate for sender in trial.senders for _, event, fate in sender.deliveries() if is_kept(event)]
        assert fates.count(True) <= accepted <= fates.count(True) + fates.count(None), (accepted, statuses)
