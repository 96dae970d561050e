"""Celery's real worker, with tasks that end in every way, through a broker in a folder, or a redis where tasks are revoked. Skipped
where Celery is not installed."""
import importlib.util
import os
import signal
import subprocess
import sys
import unittest
from pathlib import Path

from .daemon import REDIS, WithDaemon, wait_until

HERE = Path(__file__).resolve().parent


@unittest.skipUnless(importlib.util.find_spec("celery"), "celery is not installed")
class WithWorker(WithDaemon):
    pool = "prefork"

    def setUp(self):
        super().setUp()
        self.prepare()
        for name in ("in", "processed", "results"):
            (self.folder / name).mkdir()
        self.environment.update({"CELERY_FOLDER": str(self.folder), "PYTHONPATH": f"{HERE.parent}:{HERE}", "PYTHONDONTWRITEBYTECODE": "1"})
        self.output = open(self.folder / "worker.txt", "wb")
        self.addCleanup(self.output.close)
        self.worker = subprocess.Popen([sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "--pool", self.pool, "-c", "2",
                                        "--without-mingle", "--without-gossip", "--loglevel", "warning"], env=self.environment,
                                       cwd=self.folder, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output)
        self.addCleanup(self.end_worker)

    def prepare(self):
        """What its broker needs."""

    def end_worker(self):
        if self.worker.poll() is None:
            self.worker.send_signal(signal.SIGTERM)
            self.worker.wait(120)

    def send(self, *names):
        """Sends the tasks by name; their ids."""
        script = "import sys, celery_tasks\nfor name in sys.argv[1:]: print(getattr(celery_tasks, name).delay().id)"
        done = subprocess.run([sys.executable, "-c", script, *names], env=self.environment, cwd=self.folder, capture_output=True, text=True,
                              check=True)
        return done.stdout.split()

    def ended(self, run_id, status):
        try:
            return self.wait_for(run_id, status)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{(self.folder / 'worker.txt').read_text()[-3000:]}") from late

    def ends(self, run_id):
        """The events that ended it: once its worker is at its end they are all there."""
        return [event["type"] for event in self.events(run_id) if event["type"] in ("run_completed", "run_failed", "run_lost")]


class Celery(WithWorker):
    def test_each_outcome_is_as_celery_has_it(self):
        good, bad, again, ignored, rejected, slow, dies = self.send("good", "bad", "again", "ignored", "rejected", "slow", "dies")
        row = self.ended(f"{good}-1", "completed")
        self.assertEqual((row["council"], row["job_id"], row["attempt"], row["result"], row["oban_job_state_at_finalize"]),
                         ("celery_tasks.good", good, 1, {"rows": 3}, "SUCCESS"))
        self.assertEqual(self.ended(f"{bad}-1", "failed")["error"]["errors"][0]["kind"], "ValueError")
        first, second = self.ended(f"{again}-1", "failed"), self.ended(f"{again}-2", "completed")
        self.assertEqual((first["oban_job_state_at_finalize"], first["error"]["errors"][0]["message"]), ("RETRY", "not yet"))
        self.assertEqual((second["attempt"], second["parent_attempt_run_id"]), (2, f"{again}-1"))
        self.assertEqual(self.ended(f"{ignored}-1", "completed")["result"], {"ignored": True})
        self.ended(f"{rejected}-1", "cancelled")
        self.assertEqual(self.ended(f"{slow}-1", "failed")["error"]["errors"][0]["kind"], "SoftTimeLimitExceeded")
        self.assertEqual(self.ended(f"{dies}-1", "failed")["error"]["errors"][0]["kind"], "WorkerLostError")

    def test_what_a_pool_cannot_send_is_kept_at_its_end(self):
        self.end_daemon()
        ids = self.send("good", "good", "bad")
        wait_until(lambda: all((self.folder / "results" / f"celery-task-meta-{each}").exists() for each in ids), "the tasks")
        self.end_worker()
        files = list((self.folder / "run-recorder" / "unsent").glob("*@*.ndjson"))
        lines = "".join(path.read_text() for path in files).splitlines()
        self.assertEqual(len(lines), 6, (self.folder / "worker.txt").read_text()[-3000:])

    def test_a_worker_that_is_killed_leaves_its_task_stuck(self):
        waits, = self.send("waits")
        self.ended(f"{waits}-1", "running")
        children = [int(child) for path in Path(f"/proc/{self.worker.pid}/task").glob("*/children") for child in path.read_text().split()]
        self.worker.kill()
        self.worker.wait()
        for child in children:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_until(lambda: self.row(f"{waits}-1")["status"] == "stuck", "the finding")
        self.assertIn("process_gone", str(self.row(f"{waits}-1")["error"]))


@unittest.skipUnless(REDIS, "redis is not installed")
class CeleryOnRedis(WithWorker):
    def prepare(self):
        self.environment["CELERY_BROKER"] = f"redis+socket://{self.start_redis()}"

    def revoke(self, task_id, name="SIGTERM"):
        script = f"import celery_tasks\ncelery_tasks.app.control.revoke({task_id!r}, terminate=True, signal={name!r})"
        subprocess.run([sys.executable, "-c", script], env=self.environment, cwd=self.folder, check=True)

    def test_what_goes_on_under_the_same_id_has_the_outcome_of_its_end(self):
        replaced, put_back = self.send("replaced", "put_back")
        self.assertEqual(self.ended(f"{replaced}-1", "failed")["error"]["errors"][0]["kind"], "ValueError")
        self.assertEqual(self.ended(f"{put_back}-1", "completed")["result"], {"value": "second"})
        self.assertEqual((self.ends(f"{replaced}-1"), self.ends(f"{put_back}-1")), (["run_failed"], ["run_completed"]))

    def test_a_child_that_goes_away_in_a_task_leaves_the_end_to_its_parent(self):
        hard, exits = self.send("hard", "exits")
        self.assertEqual(self.ended(f"{hard}-1", "failed")["error"]["errors"][0]["kind"], "TimeLimitExceeded")
        self.assertEqual(self.ended(f"{exits}-1", "failed")["error"]["errors"][0]["kind"], "WorkerLostError")
        revoked, soft = self.send("waits", "waits")
        for each in (revoked, soft):
            self.ended(f"{each}-1", "running")
        self.revoke(revoked)
        self.revoke(soft, "SIGUSR1")
        row = self.ended(f"{revoked}-1", "cancelled")
        self.assertEqual(row["oban_job_state_at_finalize"], "REVOKED")
        row = self.ended(f"{soft}-1", "failed")
        self.assertEqual((row["error"]["errors"][0]["kind"], row["oban_job_state_at_finalize"]), ("SoftTimeLimitExceeded", "FAILURE"))
        self.end_worker()
        for each in (revoked, soft, hard, exits):
            self.assertEqual(len(self.ends(f"{each}-1")), 1, (self.folder / "worker.txt").read_text()[-3000:])
