"""Runs around work of every kind, with a real daemon."""
import asyncio
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import run_recorder
from run_recorder import Recorder, RunHandler, recorded, run

from .daemon import WithDaemon


class Runs(WithDaemon):
    def setUp(self):
        super().setUp()
        self.recorder = Recorder(self.socket, flush_timeout=60)
        self.addCleanup(self.recorder.close)

    def settled(self):
        self.assertTrue(self.recorder.flush(60))
        stats = self.recorder.stats()
        self.assertEqual((stats["waiting"], stats["dropped"], stats["refused"]), (0, 0, 0))

    def test_what_is_told_in_a_run_is_in_its_row(self):
        with run("nightly", run_id="r1", input={"a": 1}, attempt=2, parent="r0", job_id="j", recorder=self.recorder) as r:
            r.progress(3, 10, "pages")
            r.usage(input_tokens=3)
            r.usage(input_tokens=4)
            r.event("page_done", {"page": 3})
            r.heartbeat()
            r.result = [1]
        self.settled()
        row = self.wait_for("r1", "completed")
        wanted = {"council": "nightly", "attempt": 2, "parent_attempt_run_id": "r0", "input": {"a": 1}, "result": {"value": [1]},
                  "usage": {"input_tokens": 7}, "progress": {"done": 3, "total": 10, "unit": "pages"}}
        self.assertEqual({name: row[name] for name in wanted}, wanted)
        self.assertEqual([event["type"] for event in self.events("r1")],
                         ["run_started", "progress", "usage", "usage", "page_done", "run_completed"])

    def test_ends_are_those_of_the_work(self):
        cases = ((ValueError("no"), "failed"), (SystemExit(0), "completed"), (SystemExit(3), "failed"), (KeyboardInterrupt(), "cancelled"),
                 (asyncio.CancelledError(), "cancelled"))
        for number, (error, status) in enumerate(cases):
            with self.assertRaises(type(error)) as caught, run("ends", run_id=f"r{number}", recorder=self.recorder):
                raise error
            self.assertIs(caught.exception, error)
        self.settled()
        for number, (_, status) in enumerate(cases):
            self.wait_for(f"r{number}", status)
        error = self.row("r0")["error"]["errors"][0]
        self.assertEqual((error["kind"], error["message"]), ("ValueError", "no"))
        self.assertIn("raise error", error["stacktrace"])

    def test_decorated_functions_of_every_kind(self):
        options = {"recorder": self.recorder}

        @recorded("plain", run_id="plain", **options)
        def plain(a):
            return a + 1

        @recorded("coroutine", run_id="coroutine", **options)
        async def coroutine(a):
            await asyncio.sleep(0)
            return a + 1

        @recorded("generator", run_id="generator", **options)
        def generator():
            yield 1
            return 5

        @recorded("async generator", run_id="async-generator", **options)
        async def async_generator():
            yield 1

        async def drive():
            return await coroutine(1), [each async for each in async_generator()]
        self.assertEqual((plain(1), asyncio.run(drive()), list(generator())), (2, (2, [1]), [1]))
        self.settled()
        self.assertEqual([self.wait_for(name, "completed")["result"] for name in ("plain", "coroutine", "generator", "async-generator")],
                         [{"value": 2}, {"value": 2}, {"value": 5}, None])
        self.assertEqual(plain.__name__, "plain")

    def test_log_records_are_events(self):
        logger = logging.Logger("work")
        with run("logs", run_id="r", recorder=self.recorder) as r:
            logger.addHandler(RunHandler(r))
            logger.info("%d rows", 3)
            logger.debug("not this")
            logger.warning("%d", "not a number")
        self.settled()
        logs = [event["payload"] for event in self.events("r") if event["type"] == "log"]
        self.assertEqual([(each["level"], each["message"]) for each in logs], [("info", "3 rows"), ("warning", "%d")])

    def test_threads_lose_and_double_nothing(self):
        def work(number):
            for each in range(50):
                with run("threads", run_id=f"r-{number}-{each}", recorder=self.recorder):
                    pass
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.settled()
        self.assertEqual(self.recorder.stats()["acknowledged"], 800)

    def test_a_signal_handler_may_record(self):
        before = signal.signal(signal.SIGUSR1, lambda *_: self.recorder.event("r", "from_handler"))
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        stop = threading.Event()

        def shoot():
            while not stop.is_set():
                os.kill(os.getpid(), signal.SIGUSR1)
        shooter = threading.Thread(target=shoot)
        shooter.start()
        for number in range(3000):
            self.recorder.event("r", "from_work", payload={"n": number})
        stop.set()
        shooter.join()
        self.settled()
        self.assertGreater(self.recorder.stats()["acknowledged"], 3000)

    def test_forked_children_send_their_own(self):
        self.recorder.event("r0", "run_started", council="parent")

        def child(number):
            with run("child", run_id=f"r{number}", recorder=self.recorder):
                pass
        children = [multiprocessing.get_context("fork").Process(target=child, args=(number,)) for number in range(1, 6)]
        for process in children:
            process.start()
        for process in children:
            process.join()
            self.assertEqual(process.exitcode, 0)
        self.settled()
        for number in range(1, 6):
            self.wait_for(f"r{number}", "completed")
        self.assertEqual(self.recorder.stats()["emitted"], 1)

    def test_a_recorder_that_nobody_holds_any_more_still_sends(self):
        script = "from run_recorder import Recorder\nRecorder().event('r', 'run_completed', result=1)\n"
        subprocess.run([sys.executable, "-c", script], env={**self.environment, "PYTHONPATH": str(Path(__file__).parents[1])}, check=True)
        self.wait_for("r", "completed")

    def test_a_script_that_ends_badly_has_its_end_recorded(self):
        script = "import run_recorder\nwith run_recorder.run('script', run_id='r'):\n    raise SystemExit('bad')\n"
        done = subprocess.run([sys.executable, "-c", script], env={**self.environment, "PYTHONPATH": str(Path(__file__).parents[1])},
                              capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (1, "bad\n"))
        self.assertEqual(self.wait_for("r", "failed")["error"]["errors"][0]["kind"], "exit")

    def test_an_exception_that_cannot_be_read_comes_out_as_it_was(self):
        class Bad(Exception):
            def __str__(self):
                raise RuntimeError
        error = Bad()
        with self.assertRaises(Bad) as caught, run("bad", run_id="r", recorder=self.recorder):
            raise error
        self.assertIs(caught.exception, error)
        self.settled()
        self.assertEqual(self.wait_for("r", "failed")["error"]["errors"][0]["kind"], "Bad")

    def test_disabled_does_nothing(self):
        off = Recorder(self.socket, enabled=False)
        with run("off", run_id="r", recorder=off):
            pass
        self.assertEqual((off.stats()["emitted"], off.flush(0)), (0, True))
        off.close()

    def test_the_default_recorder(self):
        script = ("import run_recorder, json\nrun_recorder.event('r', 'run_completed', result=1)\nprint(run_recorder.flush(60))\n"
                  "print(json.dumps(run_recorder.stats()))")
        done = subprocess.run([sys.executable, "-c", script], env={**self.environment, "PYTHONPATH": str(Path(__file__).parents[1])},
                              capture_output=True, text=True, check=True)
        flushed, stats = done.stdout.splitlines()
        self.assertEqual((flushed, json.loads(stats)["acknowledged"]), ("True", 1))
        self.assertEqual(run_recorder.__version__, "0.2.0")
