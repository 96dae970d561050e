"""What work may do to itself and to the client: time limits, forks, closed descriptors, strange arguments. With a real daemon."""
import asyncio
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import types
import unittest
from pathlib import Path

import run_recorder
from run_recorder import Recorder, RunHandler, _unsent, recorded, recorder as recorder_module, run

from .daemon import WithDaemon, wait_until

PACKAGE = str(Path(__file__).resolve().parents[1])


class Limit(Exception):
    pass


def record_in_child(number):
    from run_recorder import run
    with run("child", run_id=f"c{number}") as r:
        r.result = number


class Harm(WithDaemon):
    def setUp(self):
        super().setUp()
        self.recorder = Recorder(self.socket, flush_timeout=60)
        self.addCleanup(self.recorder.close)

    def python(self, script, **environment):
        return subprocess.run([sys.executable, "-c", script], env={**self.environment, "PYTHONPATH": PACKAGE, **environment},
                              capture_output=True, text=True, check=False, timeout=240)

    def test_what_a_signal_handler_raises_reaches_the_work(self):
        fired = []

        def handler(*_):
            fired.append(1)
            raise Limit if len(recorders) % 2 else TimeoutError
        before = signal.signal(signal.SIGALRM, handler)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        recorders = []
        for number in range(200):
            if number % 4 == 0:  # its first events start its thread
                recorders.append(Recorder(self.socket, flush_timeout=60))
                self.addCleanup(recorders[-1].close, 0)
            fired.clear()
            with self.assertRaises((Limit, TimeoutError), msg="it was swallowed"):
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + number / 200_000)
                while not fired:
                    recorders[-1].event("r", "step", payload={"n": number, "set": {1, 2}}, usage={"a": 1})
        for each in recorders:
            self.assertTrue(each.flush(60))
            each.close()

    def test_a_handler_may_be_the_first_to_record(self):
        def nested():
            with recorder_module._making:
                recorder_module.default()
        thread = threading.Thread(target=nested, daemon=True)
        thread.start()
        thread.join(60)
        self.assertFalse(thread.is_alive())

    def test_a_decorated_async_generator_is_the_generator(self):
        seen = []

        @recorded("talks", run_id="talks", recorder=self.recorder)
        async def talks():
            try:
                seen.append((yield 1))
                try:
                    yield 2
                except KeyError:
                    seen.append("caught")
                yield 3
            finally:
                seen.append("closed")

        async def drive():
            generator = talks()
            values = [await generator.__anext__(), await generator.asend("sent"), await generator.athrow(KeyError("k"))]
            await generator.aclose()
            return values
        self.assertEqual((asyncio.run(drive()), seen), ([1, 2, 3], ["sent", "caught", "closed"]))
        self.assertTrue(self.recorder.flush(60))
        self.wait_for("talks", "cancelled")

    def test_everything_that_can_be_decorated(self):
        options = {"recorder": self.recorder}

        class Called:
            async def __call__(self):
                raise ValueError("late")

        class Thing:
            @recorded
            @classmethod
            def of_class(cls, value):
                return value

            @recorded
            @staticmethod
            def static(value):
                return value

            @recorded
            @property
            def property(self):
                return 5
        run_recorder.configure(socket=self.socket, flush_timeout=60)
        self.assertEqual((Thing().of_class(3), Thing.static(4), Thing().property), (3, 4, 5))
        with self.assertRaises(ValueError):
            asyncio.run(recorded("called", run_id="called", **options)(Called())())

        @types.coroutine
        def old():
            yield from asyncio.sleep(0).__await__()
            return 7

        async def wait():
            return await recorded("old", run_id="old", **options)(old)()
        self.assertEqual((asyncio.run(wait()), recorded("part", run_id="part", **options)(functools.partial(int, "9"))()), (7, 9))
        self.assertTrue(self.recorder.flush(60))
        self.wait_for("called", "failed")
        self.wait_for("old", "completed")
        run_recorder.close()

    def test_children_of_multiprocessing_send_theirs_however_they_begin(self):
        for method in ("fork", "forkserver", "spawn"):
            script = ("import multiprocessing, sys\nfrom tests.test_harm import record_in_child\nif __name__ == '__main__':\n"
                      f"    context = multiprocessing.get_context('{method}')\n"
                      "    children = [context.Process(target=record_in_child, args=(f'" + method + "-{n}',)) for n in range(4)]\n"
                      "    [child.start() for child in children]\n    [child.join() for child in children]\n"
                      "    sys.exit(max(child.exitcode for child in children))\n")
            path = self.folder / f"{method}.py"
            path.write_text(script)
            done = subprocess.run([sys.executable, str(path)], env={**self.environment, "PYTHONPATH": PACKAGE}, capture_output=True,
                                  text=True, check=False, timeout=240)
            self.assertEqual(done.returncode, 0, done.stderr)
            for number in range(4):
                self.wait_for(f"c{method}-{number}", "completed")

    def test_a_child_that_leaves_the_block_does_not_end_the_run(self):
        done = self.python("import os, sys\nfrom run_recorder import run\n"
                           "with run('forks', run_id='r'):\n    if os.fork() == 0: sys.exit(0)\n    os.wait()\n    raise ValueError\n")
        self.assertIn("ValueError", done.stderr)
        self.wait_for("r", "failed")

    def test_many_that_end_at_once_lose_nothing(self):
        self.end_daemon()
        script = ("from run_recorder import configure, event\nconfigure(flush_timeout=0.1)\n"
                  "for n in range(5): event('r', 'run_completed', result=n)\n")
        children = [subprocess.Popen([sys.executable, "-c", script], env={**self.environment, "PYTHONPATH": PACKAGE},
                                     stderr=subprocess.DEVNULL) for _ in range(12)]
        for child in children:
            self.assertEqual(child.wait(240), 0)
        files = list((self.folder / "run-recorder" / "unsent").glob("*@*.ndjson"))
        self.assertEqual((len(files), sum(path.read_text().count("\n") for path in files)), (12, 60))

    def test_a_kept_file_is_read_once_whoever_answers(self):
        os.environ["XDG_STATE_HOME"], before = str(self.folder), os.environ.get("XDG_STATE_HOME")
        self.addCleanup(lambda: os.environ.pop("XDG_STATE_HOME") if before is None else os.environ.update(XDG_STATE_HOME=before))
        path = str(self.folder / "peer.sock")
        lines = [b'{"type":"note","run_id":"r","id":"%d"}' % n for n in range(1000)]
        _unsent.keep(path, lines, "a")
        connections = []
        with socket.socket(socket.AF_UNIX) as peer:
            peer.bind(path)
            peer.listen()

            def end_each():
                while len(connections) < 6:
                    connections.append(peer.accept()[0].close())
            thread = threading.Thread(target=end_each, daemon=True)
            thread.start()
            with Recorder(path, flush_timeout=0) as other:
                other.event("r", "note")
                thread.join(120)
                self.assertEqual(other.stats()["emitted"], 1001)
        # A folder in its place cannot be removed as a file can.
        kept = _unsent.KeptFile(self.folder, lines[:1])
        kept.settled("acknowledged")
        self.assertTrue(self.folder.exists())

    def test_strange_arguments_do_not_raise(self):
        with run("strange", run_id="r", recorder=self.recorder) as r:
            r.event("page", run_id="abc", type="x", worker_pid=1, event_type="y")
            r.event("page", payload={"a": 1})
            r.usage({"input_tokens": 3})
            r.fail(ValueError("a"), errors=["b"])
            self.recorder.event(run_id="r", type="named")

        class Code:
            def __eq__(self, _):
                raise RuntimeError
            __hash__ = None
        with self.assertRaises(SystemExit), run("exits", run_id="exits", recorder=self.recorder):
            raise SystemExit(Code())
        record = run_recorder.handler.logging.makeLogRecord({"msg": Code(), "args": (1,), "levelno": 30, "levelname": "WARNING"})
        RunHandler(r).emit(record)
        self.assertTrue(self.recorder.flush(60))
        self.wait_for("exits", "failed")
        self.assertEqual(self.row("r")["usage"], {"input_tokens": 3})

    def test_events_after_close_are_counted_and_said_once(self):
        self.recorder.close()
        with self.assertLogs("run_recorder") as logs:
            for _ in range(3):
                self.recorder.event("r", "note")
        self.assertEqual((len(logs.output), self.recorder.stats()["dropped"]), (1, 3))

    def test_a_file_that_is_none_is_passed_over(self):
        folder = self.folder / "run-recorder" / "unsent"
        folder.mkdir(parents=True, mode=0o700)
        name = _unsent.name_of(str(self.socket))
        os.mkfifo(folder / f"{name}@a.ndjson")
        (folder / f"{name}@b.ndjson").write_text('{"type":"run_completed","run_id":"kept","id":"1"}\n')
        done = self.python("from run_recorder import event, flush\nevent('r', 'run_completed')\nprint(flush(60))\n")
        self.assertEqual(done.stdout, "True\n")
        self.wait_for("kept", "completed")

    def test_a_recorder_that_is_configured_in_a_run_ends_it(self):
        run_recorder.configure(socket=self.socket, flush_timeout=60)
        with run("configured", run_id="r"):
            run_recorder.configure(socket=self.socket, flush_timeout=60)
        run_recorder.close()
        self.wait_for("r", "completed")

    def test_an_event_larger_than_the_buffer_is_sent_without_its_values(self):
        with Recorder(self.socket, buffer_bytes=65536, flush_timeout=60) as small, run("large", run_id="r", recorder=small) as r:
            r.result = "x" * 200_000
        self.assertIsNone(self.wait_for("r", "completed")["result"])

    def test_closed_descriptors_are_opened_again_and_nobody_elses_used(self):
        own = self.folder / "own.txt"
        done = self.python("import os, sys, json\nimport run_recorder\n"
                           "run_recorder.event('r', 'run_started', council='closes')\nprint(run_recorder.flush(60))\n"
                           "os.closerange(3, 64)\n"
                           f"files = [open({str(own)!r}, 'ab') for _ in range(12)]\n"
                           "for n in range(50): run_recorder.event('r', 'step')\n"
                           "run_recorder.event('r', 'run_completed', result=1)\nprint(run_recorder.flush(60))\n"
                           "print(json.dumps(run_recorder.stats()))\n")
        first, second, stats = done.stdout.splitlines()
        self.assertEqual((first, second, json.loads(stats)["acknowledged"]), ("True", "True", 52), done.stderr)
        self.assertEqual(own.read_bytes(), b"")
        self.wait_for("r", "completed")

    def test_a_daemon_that_does_not_answer_is_said_and_its_return_too(self):
        from run_recorder import _sender
        _sender.SILENCE_S, before = 0.2, _sender.SILENCE_S
        self.addCleanup(setattr, _sender, "SILENCE_S", before)
        self.daemon.send_signal(signal.SIGSTOP)
        with self.assertLogs("run_recorder") as logs:
            self.recorder.event("r", "run_completed", result=1)
            wait_until(lambda: any("no answer" in line for line in logs.output), "the words")
            self.daemon.send_signal(signal.SIGCONT)
            self.assertTrue(self.recorder.flush(120))
        self.wait_for("r", "completed")


if __name__ == "__main__":
    unittest.main()
