"""The agent of the cases (clients/cases/README.md): does with the client what it is told on standard input."""
import asyncio
import json
import multiprocessing
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from run_recorder import Recorder, run  # noqa: E402


class Raises:
    def __getattribute__(self, name):
        raise RuntimeError("not to be read")

    def __repr__(self):
        raise RuntimeError("not to be read")

    __str__ = __iter__ = __len__ = __bool__ = __hash__ = __eq__ = __repr__


class Thing:
    name = "x"

    def __repr__(self):
        return "Thing(name='x')"


def cycle():
    made = {"n": 1}
    made["self"] = made
    return made


def deep(levels):
    made = []
    for _ in range(levels - 1):
        made = [made]
    return made


SPECIAL = {
    "bytes": lambda hex: bytes.fromhex(hex),
    "surrogate": lambda: "a\ud800b",
    "nan": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "-infinity": lambda: float("-inf"),
    "integer": lambda text: int(text),
    "cycle": cycle,
    "text": lambda bytes: "x" * bytes,
    "deep": deep,
    "raises": Raises,
    "keys": lambda: {1: "a", "1": "b"},
    "object": Thing,
    "wide": lambda count: ["y" * 100] * count,
}


def value_of(told):
    if isinstance(told, list):
        return [value_of(each) for each in told]
    if not isinstance(told, dict):
        return told
    if "$" in told:
        return SPECIAL[told["$"]](**{key: value for key, value in told.items() if key != "$"})
    return {key: value_of(each) for key, each in told.items()}


class Agent:
    recorder = None

    def open(self, socket, buffer_bytes=16 << 20, flush_ms=2000):
        self.recorder = Recorder(socket, buffer_bytes=buffer_bytes, flush_timeout=flush_ms / 1000)
        return {}

    def event(self, type, run_id, fields=()):
        self.recorder.event(value_of(run_id), type, **value_of(dict(fields)))
        return {}

    def run(self, run_id, council, outcome, fields=(), result=None, message=""):
        error, result = ValueError(message), value_of(result)
        options = {"parent" if key == "parent_attempt_run_id" else key: value for key, value in value_of(dict(fields)).items()}

        async def cancelled():
            async with run(value_of(council), run_id=value_of(run_id), recorder=self.recorder, **options):
                asyncio.current_task().cancel()
                await asyncio.sleep(60)
        try:
            if outcome == "cancel":
                asyncio.run(cancelled())
            with run(value_of(council), run_id=value_of(run_id), recorder=self.recorder, **options) as r:
                if outcome == "raise":
                    raise error
                r.result = result
            came = result
        except BaseException as raised:
            came = raised
        wanted = {"return": lambda: came is result, "raise": lambda: came is error,
                  "cancel": lambda: isinstance(came, asyncio.CancelledError)}
        return {"came_out": "as it was" if wanted[outcome]() else repr(came)}

    def jobs(self, first, count, council):
        for number in range(first, first + count):
            with run(council, run_id=f"job-{number}", recorder=self.recorder) as r:
                r.progress(1, 2)
        return {}

    def events(self, run_id, type, count):
        times = []
        for number in range(count):
            began = time.perf_counter_ns()
            self.recorder.event(run_id, type, payload={"n": number}, progress={"done": number, "total": count})
            times.append((time.perf_counter_ns() - began) / 1000)
        return {"total_us": sum(times), "median_us": statistics.median(times), "p99_us": sorted(times)[len(times) * 99 // 100],
                "max_us": max(times)}

    def stats(self):
        return self.recorder.stats()

    def flush(self, timeout_ms):
        return {"flushed": self.recorder.flush(timeout_ms / 1000)}

    def fork(self, run_id, council):
        def child():
            with run(council, run_id=run_id, recorder=self.recorder):
                pass
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        return {}

    def close(self):
        self.recorder.close()
        return {}


def main():
    agent = Agent()
    for line in sys.stdin:
        command = json.loads(line)
        what = command.pop("do")
        if what == "exit":
            sys.exit(0)
        print(json.dumps(getattr(agent, what)(**command)), flush=True)


main()
