"""kill -9 of the daemon: under load, while it starts, drains, migrates and reconciles, hundreds of times on one spool."""

import signal
import subprocess
import time

from harness import DAEMON, DEADLINE_S, StandingPipe, wait_until
from torture_fault import Fault, row


def kill_after(process, delay_s):
    """kill -9 so long after now, unless it ends before; the moment is the fault. Returns the exit status."""
    try:
        return process.wait(delay_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(DEADLINE_S)


@row
class Kill9UnderLoad(Fault):
    name = "kill-9"
    title = "kill -9 of the daemon at a random moment under load"

    def strike(self, trial):
        trial.restart_after_kill()


@row
class Kill9AndGiveUp(Fault):
    name = "kill-9-give-up"
    title = "the same, and at the end nobody resends"

    def run(self, trial):
        trial.start()
        self.strike_under_load(trial, after_strike=lambda: None)
        trial.restart_after_kill()
        trial.figures.injected += 1
        for sender in trial.senders:
            sender.again = []
        trial.check()

    strike = Kill9UnderLoad.strike


@row
class Kill9Hundreds(Fault):
    name = "kill-9-hundreds"
    title = "kill -9 hundreds of times in a row on one spool, start-up and `--drain` included"
    events = (2_000, 30_000)
    strikes = (12, 300)

    def strike(self, trial):
        random = trial.random
        trial.server.kill()
        trial.drain_answers()
        for _ in range(random.randrange(0, 3)):  # killed while it starts or drains
            trial.server.spawn(*random.choice(((), ("--drain",))))
            kill_after(trial.server.process, random.random() ** 2 * self.start_up_s)
            trial.figures.injected += 1
        trial.server.start()

    def run(self, trial):
        began = time.monotonic()
        trial.start()
        self.start_up_s = max(0.05, 2 * (time.monotonic() - began))
        self.strike_under_load(trial)
        trial.send_all()
        trial.check()


@row
class Kill9Migration(Fault):
    name = "kill-9-migration"
    title = "kill -9 during `--migrate` and the first start, on an empty database"
    strikes = (5, 40)

    def run(self, trial):
        server = trial.server
        server.write_config()
        began = time.monotonic()
        subprocess.run([str(DAEMON), "--config", str(server.config_path), "--check"], stdin=subprocess.DEVNULL,
                       capture_output=True, check=False, env=server.environment())
        whole_s = max(0.05, 2 * (time.monotonic() - began))
        for _ in range(self.scaled(trial, self.strikes)):
            server.spawn(*trial.random.choice((("--migrate",), ())))
            kill_after(server.process, trial.random.random() * whole_s)
            trial.figures.injected += 1
        trial.start()
        trial.open_senders()
        trial.send_all()
        trial.check()


@row
class LogNotRead(Fault):
    name = "log-not-read"
    title = "standard error is a pipe whose reader stands still: passes end, a reload takes effect, SIGTERM ends it"
    strikes = (4, 16)

    def prepare(self, trial):
        pipe = StandingPipe().fill()
        trial.undo.append(pipe.close)
        trial.server.stderr = pipe.write

    def strike(self, trial):
        trial.server.control.reconcile(dry_run=True)
        trial.server.signal(signal.SIGHUP)
        trial.advance_by(50)
        trial.server.signal(signal.SIGTERM)
        trial.drain_answers()
        assert trial.server.wait() == 0, "SIGTERM does not end it"
        trial.server.start()


@row
class Kill9Reconciliation(Fault):
    name = "kill-9-reconciliation"
    title = "kill -9 during a pass that marks every open run"
    config = {"reconcile": {"grace": "1ms"}, "limits": {"connections": 200}}
    events = (3_000, 12_000)
    strikes = (3, 12)

    def run(self, trial):
        """A pass marks runs without evidence of life; the sender of these lives, so their process has to be another's."""
        trial.start()
        dead = subprocess.Popen(["true"])
        dead.wait()
        trial.open_senders()
        for sender in trial.senders:
            for event in sender.events:
                if event["type"] in ("run_started", "run_queued"):
                    event["worker_pid"] = dead.pid
        strikes = self.scaled(trial, self.strikes)
        for number in range(strikes):
            trial.advance_to((number + 1) / (strikes + 1))
            trial.server.wait_applied()
            trial.server.kill()
            trial.drain_answers()
            mark = len(trial.server.log())
            trial.server.spawn()
            wait_until(lambda: "run is stuck" in trial.server.log()[mark:] or
                       "reconciliation finished" in trial.server.log()[mark:], "a pass to begin")
            kill_after(trial.server.process, trial.random.random() * 0.02)
            trial.figures.injected += 1
            trial.server.start()
        trial.send_all()
        trial.server.wait_applied()
        trial.server.control.reconcile()
        trial.check()
        running = {run_id for run_id, found in trial.database.runs().items() if found["status"] == "running"}
        revived = {run_id for run_id, history in trial.database.events().items()
                   if any(entry["type"] == "run_revived" for entry in history)}  # the evidence was withdrawn
        dead_runs = {event["run_id"] for sender in trial.senders for event in sender.events if "worker_pid" in event}
        left = sorted(dead_runs & running - revived)
        assert not left, f"still running although their process is gone: {left[:5]}"
