"""What work may do to itself and to the client: time limits, forks, closed descriptors, strange arguments. With a real daemon."""
import asyncio
import functools
import json
import linecache
import os
import signal
import socket
import subprocess
import sys
import threading
import types
import unittest
from pathlib import Path
from unittest import mock

import run_recorder
from run_recorder import Recorder, RunHandler, _buffer, _unsent, recorded, recorder as recorder_module, run

from .daemon import WithDaemon, wait_until

PACKAGE = str(Path(__file__).resolve().parents[1])


class Limit(Exception):
    pass


class Panic(BaseException):
    """As those of extension modules are."""


class StrikeOnce:
    """Has a signal handler strike before the Nth line that the client executes, but for lines at whose beginning none can: that of a
    `with`, which is executed again at its end, and of a `try`; and in the methods that the `with` of a run calls."""

    def __init__(self, number):
        self.left = number

    def __call__(self, frame, what, _):
        code = frame.f_code
        if what == "call":
            own = os.path.dirname(code.co_filename) == os.path.dirname(run_recorder.__file__)
            return self if own and code.co_name not in ("__enter__", "__exit__") else None
        if what == "line" and not linecache.getline(code.co_filename, frame.f_lineno).lstrip().startswith(("with ", "try:")):
            self.left -= 1
            if self.left == 0:
                signal.getsignal(signal.SIGALRM)(signal.SIGALRM, frame)
        return self


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

    def strike(self, number, work):
        """Whether the work got so far that a handler struck."""
        struck = StrikeOnce(number)
        sys.settrace(struck)
        try:
            work()
        except Limit:
            pass
        finally:
            sys.settrace(None)
        return struck.left <= 0

    def raise_limit_on_alarm(self):
        def handler(*_):
            raise Limit
        before = signal.signal(signal.SIGALRM, handler)
        self.addCleanup(signal.signal, signal.SIGALRM, before)

    def test_wherever_a_handler_strikes_the_run_ends_and_the_books_balance(self):
        self.raise_limit_on_alarm()
        self.recorder.event("first", "note")  # its thread runs
        number = 1

        def work():
            with run("struck", run_id=f"r{number}", recorder=self.recorder) as r:
                r.result = {1, 2}
        while self.strike(number, work):
            number += 1
        self.assertGreater(number, 50)
        wait_until(lambda: not recorder_module.later, "what is done later")
        self.assertTrue(self.recorder.flush(60))
        stats = self.recorder.stats()
        self.assertEqual((stats["waiting"], stats["acknowledged"]), (0, stats["emitted"]))
        runs = [row for row in self.get("/v1/runs?limit=1000")[1]["runs"] if row["council"] == "struck"]
        self.assertGreater(len(runs), number - 30)  # those that were struck before their start
        self.assertEqual([row["run_id"] for row in runs if row["status"] == "running"], [])
        for row in runs:
            ends = [event for event in self.events(row["run_id"]) if event["type"] in ("run_completed", "run_failed")]
            self.assertEqual(len(ends), 1, row)

    def test_wherever_a_handler_strikes_a_sleeping_sender_wakes(self):
        self.raise_limit_on_alarm()
        number, is_over = 1, False
        while not is_over:
            buffer, woken = _buffer.Buffer(1 << 20), []
            buffer.wake = functools.partial(woken.append, 1)
            self.assertTrue(buffer.sleep_unless_waiting())
            is_over = not self.strike(number, lambda: buffer.add(b"{}", False, False))
            self.assertGreaterEqual(len(woken), buffer.stats()["waiting"])
            number += 1
        self.assertGreater(number, 5)

    def test_a_limit_that_the_work_deals_with_does_not_come_again(self):
        self.raise_limit_on_alarm()

        class Unreadable:
            def __repr__(self):
                raise KeyError
        with run("deals", run_id="r", recorder=self.recorder) as r:
            try:
                signal.raise_signal(signal.SIGALRM)
                self.fail("the handler was not called")
            except Limit:
                r.event("limit", {"value": Unreadable()})
        self.assertTrue(self.recorder.flush(60))
        self.wait_for("r", "completed")

    def test_values_that_raise_anything_are_named(self):
        class Unreadable:
            def __repr__(self):
                raise Panic

        class Unprintable(Exception):
            def __str__(self):
                raise Panic
        job = recorded("panics", run_id="r", recorder=self.recorder)(Unreadable)
        self.assertIsInstance(job(), Unreadable)
        with self.assertRaises(Unprintable), run("fails", run_id="f", recorder=self.recorder):
            raise Unprintable
        self.assertTrue(self.recorder.flush(60))
        self.assertEqual(self.wait_for("r", "completed")["result"], {"value": "[unreadable: Panic]"})
        self.assertEqual(self.wait_for("f", "failed")["error"]["errors"][0]["message"], "[unreadable: Panic]")

    def test_a_value_that_ends_the_process_has_the_end_sent_first(self):
        class Ends:
            def __repr__(self):
                raise KeyboardInterrupt
        with self.assertRaises(KeyboardInterrupt), run("ends", run_id="r", recorder=self.recorder) as r:
            r.result = Ends()
        self.assertTrue(self.recorder.flush(60))
        self.wait_for("r", "completed")

    def test_runs_end_however_little_of_the_stack_is_left(self):
        entered = []

        def deep(left, run_id):
            if left:
                deep(left - 1, run_id)
                return
            with run("deep", run_id=run_id, recorder=self.recorder):
                entered.append(run_id)
                raise ValueError
        for left in range(sys.getrecursionlimit() - 150, sys.getrecursionlimit()):
            try:
                deep(left, f"r{left}")
            except (RecursionError, ValueError):
                pass
        self.assertGreater(len(entered), 10)
        self.assertTrue(self.recorder.flush(60))
        for run_id in entered:
            self.wait_for(run_id, "failed")

    def test_what_is_made_where_little_of_the_stack_is_left_is_settled(self):
        def deep(number):
            self.recorder.event("r", "visit", payload={"node": {"path": [1, 2]}})
            try:
                deep(number + 1)
            except RecursionError:
                with run("deep", run_id=f"deep-{number}", input={"n": [number]}, recorder=self.recorder) as r:
                    r.result = [{"n": [number]}]
                raise
        self.assertRaises(RecursionError, deep, 0)
        self.assertTrue(self.recorder.flush(60))
        stats = self.recorder.stats()
        self.assertEqual((stats["waiting"], stats["refused"]), (0, 0))
        self.wait_for("deep-0", "completed")

    def test_a_line_that_cannot_be_reduced_is_refused_and_keeps_no_other(self):
        self.recorder._buffer.add(b'{"type":"run_completed",[', True, False)
        self.recorder.event("r", "run_started", council="c")
        self.assertTrue(self.recorder.flush(60))
        self.assertEqual((self.recorder.stats()["refused"], self.recorder.stats()["acknowledged"]), (1, 1))

    def test_the_first_end_counts_and_the_first_start(self):
        with run("fails", run_id="r", recorder=self.recorder) as r:
            r.fail("no")
            r.complete(1)
        with r:
            r.result = 2
        self.assertTrue(self.recorder.flush(60))
        self.wait_for("r", "failed")
        self.assertEqual([event["type"] for event in self.events("r")], ["run_started", "run_failed"])

    def test_many_recorders_end_in_the_time_of_one(self):
        clock = [1000.0]

        def wait_in_vain(_, timeout):
            clock[0] += timeout
        recorders = [Recorder(self.folder / f"none{number}.sock", flush_timeout=2.0) for number in range(5)]
        with mock.patch.dict(os.environ, {"XDG_STATE_HOME": str(self.folder)}):
            for each in recorders:
                each.event("r", "note")
            with mock.patch.object(recorder_module, "time") as time, mock.patch.object(_buffer.Buffer, "wait_settled", wait_in_vain):
                time.monotonic = lambda: clock[0]
                recorder_module._close(recorders)
        self.assertEqual(clock[0], 1002.0)
        self.assertEqual([each.stats()["kept"] for each in recorders], [1] * 5)

    def test_configuring_anew_does_not_wait_and_loses_nothing(self):
        before = run_recorder.configure(socket=self.socket, flush_timeout=60)
        self.daemon.send_signal(signal.SIGSTOP)
        before.event("r", "run_started", council="anew")
        with mock.patch.object(_buffer.Buffer, "wait_settled") as wait:
            run_recorder.configure(socket=self.socket, flush_timeout=60)
        wait.assert_not_called()
        self.assertEqual(before.stats()["waiting"], 1)
        run_recorder.event("r", "run_completed", result=1)
        self.daemon.send_signal(signal.SIGCONT)
        self.assertTrue(run_recorder.flush(120))
        run_recorder.close()
        self.assertEqual(before.stats()["acknowledged"], 1)
        self.assertEqual([event["effect"] for event in self.events("r")], ["applied"] * 2)

    def test_configuring_often_loses_nothing(self):
        recorders = []
        for number in range(20):
            recorders.append(run_recorder.configure(socket=self.socket, flush_timeout=60))
            run_recorder.event("r", "note", payload={"n": number})
        self.assertTrue(run_recorder.flush(60))
        run_recorder.close()
        self.assertEqual([event["payload"]["n"] for event in self.events("r")], list(range(20)))

    def test_a_socket_of_any_bytes_has_its_unsent_file(self):
        path = os.fsencode(self.folder) + b"/\xff.sock"
        environment = {**os.environb, b"RUN_RECORDER_SOCKET_PATH": path, b"XDG_STATE_HOME": os.fsencode(self.folder),
                       b"PYTHONPATH": PACKAGE.encode()}
        script = "import run_recorder\nrun_recorder.configure(flush_timeout=0)\nrun_recorder.event('r', 'note')\n"
        subprocess.run([sys.executable, "-c", script], env=environment, check=True, stderr=subprocess.DEVNULL)
        file, = (self.folder / "run-recorder" / "unsent").glob("*.ndjson")
        self.assertIn("+%FF.sock@py-", file.name)

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
