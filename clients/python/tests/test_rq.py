"""RQ's real worker and a real redis. Skipped where one of them is not installed."""
import importlib.util
import os
import signal
import subprocess
import sys
import unittest
from pathlib import Path

from .daemon import REDIS, WithDaemon, wait_until

HERE = Path(__file__).resolve().parent


@unittest.skipUnless(importlib.util.find_spec("rq") and REDIS, "rq or redis is not installed")
class Rq(WithDaemon):
    def setUp(self):
        super().setUp()
        self.redis_socket = self.start_redis()
        import redis
        import rq
        self.connection = redis.Redis(unix_socket_path=str(self.redis_socket))
        self.addCleanup(self.connection.close)
        self.queue = rq.Queue("q", connection=self.connection)
        self.environment.update({"PYTHONPATH": f"{HERE.parent}:{HERE}", "PYTHONDONTWRITEBYTECODE": "1"})

    def worker(self, name="Worker", *options):
        output = open(self.folder / "worker.txt", "ab")
        self.addCleanup(output.close)
        worker = subprocess.Popen([sys.executable, "-m", "rq.cli", "worker", "--url", f"unix://{self.redis_socket}", "--worker-class",
                                   f"run_recorder.rq.{name}", *options, "q"], env=self.environment, cwd=self.folder,
                                  stdin=subprocess.DEVNULL, stdout=output, stderr=output)

        def end():
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        self.addCleanup(end)
        return worker

    def ended(self, run_id, status):
        try:
            return self.wait_for(run_id, status)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{(self.folder / 'worker.txt').read_text()[-3000:]}") from late

    def test_each_outcome_is_as_rq_has_it(self):
        from rq import Retry
        good, bad, dies = (self.queue.enqueue(f"rq_jobs.{name}") for name in ("good", "bad", "dies"))
        again = self.queue.enqueue("rq_jobs.again", str(self.folder / "been"), retry=Retry(max=2))
        slow = self.queue.enqueue("rq_jobs.slow", job_timeout=1)
        for name in ("Worker", "SimpleWorker"):
            if name == "SimpleWorker":
                good, again = self.queue.enqueue("rq_jobs.good"), self.queue.enqueue("rq_jobs.bad")
            self.assertEqual(self.worker(name, "--burst").wait(120), 0, (self.folder / "worker.txt").read_text())
            row = self.ended(f"{good.id}-1", "completed")
            self.assertEqual((row["council"], row["job_id"], row["result"], row["oban_job_state_at_finalize"]),
                             ("rq_jobs.good", good.id, {"rows": 3}, "finished"))
        self.ended(f"{again.id}-1", "failed")
        self.assertEqual(self.ended(f"{bad.id}-1", "failed")["error"]["errors"][0]["kind"], "ValueError")
        self.assertEqual(self.ended(f"{slow.id}-1", "failed")["error"]["errors"][0]["kind"], "JobTimeoutException")
        died = self.ended(f"{dies.id}-1", "failed")
        self.assertEqual((died["council"], died["job_id"]), ("rq_jobs.dies", dies.id))
        self.assertEqual(died["error"]["errors"][0]["kind"], "work_horse_died")

    def test_attempts_are_a_chain(self):
        from rq import Retry
        job = self.queue.enqueue("rq_jobs.again", str(self.folder / "been"), retry=Retry(max=2), meta={"own": 1})
        self.assertEqual(self.worker("Worker", "--burst").wait(120), 0)
        first, second = self.ended(f"{job.id}-1", "failed"), self.ended(f"{job.id}-2", "completed")
        self.assertEqual((first["oban_job_state_at_finalize"], second["attempt"], second["parent_attempt_run_id"]),
                         ("scheduled", 2, f"{job.id}-1"))
        job.refresh()
        self.assertEqual(job.meta["own"], 1)

    def test_an_exception_that_rq_cannot_store_is_one_end(self):
        job = self.queue.enqueue("rq_jobs.not_to_be_stored")
        self.assertEqual(self.worker("Worker", "--burst").wait(120), 0)
        self.assertEqual(self.ended(f"{job.id}-1", "failed")["error"]["errors"][0]["kind"], "work_horse_died")
        ends = [event["type"] for event in self.events(f"{job.id}-1") if event["type"] not in ("run_started", "run_queued")]
        self.assertEqual(ends, ["run_failed"])

    def test_a_worker_that_is_killed_leaves_its_job_stuck(self):
        job = self.queue.enqueue("rq_jobs.waits")
        worker = self.worker()
        self.ended(f"{job.id}-1", "running")
        horses = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        worker.kill()
        worker.wait()
        self.assertTrue(horses)
        for horse in horses:
            os.kill(int(horse), signal.SIGKILL)
        wait_until(lambda: self.row(f"{job.id}-1")["status"] == "stuck", "the finding")
