"""Runs around work: `with run("nightly") as r:`, and the decorator `recorded`. Whatever thread or task the work is in."""
from __future__ import annotations

import asyncio
import functools
import inspect
import traceback

from . import _event
from . import recorder as _recorder

MAX_STACKTRACE_BYTES = 8192
_NOT_GIVEN = object()


def error_of(error: BaseException) -> dict:
    """An exception as an element of `errors`. Never raises."""
    found = {"kind": type(error).__name__}
    try:
        found["message"] = str(error)
    except Exception:
        found["message"] = "[unreadable]"
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        found["stacktrace"] = text[-MAX_STACKTRACE_BYTES:]
    except Exception:
        pass
    return found


def is_cancellation(error: BaseException) -> bool:
    return isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit))


class Run:
    """One run. Its methods never wait and never raise; those after the end are events of a finished run."""

    def __init__(self, name, *, run_id=None, input=_NOT_GIVEN, attempt=None, parent=None, queue=None, job_id=None, expires_in=None,
                 recorder=None, worker_pid=True, **fields):
        self.recorder = recorder or _recorder.default()
        self.name = name
        self.run_id = _event.valid_run_id(run_id) or _event.new_run_id()
        self.result = None  # what the work may set; None: it has none
        self._worker_pid = worker_pid
        self._start = {"council": name, "attempt": attempt, "parent_attempt_run_id": parent, "queue": queue, "job_id": job_id,
                       "expires_in": expires_in, **fields}
        if input is not _NOT_GIVEN:
            self._start["input"] = input

    def _send(self, event_type, **fields) -> None:
        self.recorder.event(self.run_id, event_type, worker_pid=self._worker_pid, **fields)

    def event(self, type, payload=None, **fields) -> None:
        """An event of the work's own; `usage` and `progress` may be among the fields."""
        self._send(type, payload=payload, **fields)

    def progress(self, done, total=None, unit=None) -> None:
        self._send("progress", progress={"done": done, "total": total, "unit": unit})

    def usage(self, **numbers) -> None:
        """Added up by key in the run's row: usage(input_tokens=1200, cost_usd=0.02)."""
        self._send("usage", usage=numbers)

    def heartbeat(self, expires_in=None) -> None:
        """For the loop of the work, where no process can be seen; see expires_in."""
        self._send("run_heartbeat", expires_in=expires_in)

    # ---- begin and end, where neither `with` nor the decorator fits

    def start(self) -> Run:
        self._send("run_started", **self._start)
        return self

    def complete(self, result=None, **fields) -> None:
        result = self.result if result is None else result
        self._send("run_completed", **({} if result is None else {"result": result}), **fields)

    def fail(self, *errors, **fields) -> None:
        """errors: exceptions, texts or dicts."""
        self._send("run_failed", errors=[error_of(each) if isinstance(each, BaseException) else each for each in errors], **fields)

    def cancel(self, message=None, **fields) -> None:
        error = {"kind": "cancelled"} if message is None else {"kind": "cancelled", "message": message}
        self._send("run_failed", errors=[error], **fields)

    def lost(self, message) -> None:
        """The work ended, and how is not known."""
        self._send("run_lost", message=message)

    def end(self, error: BaseException | None) -> None:
        """By what came out of the work."""
        if error is None or isinstance(error, SystemExit) and error.code in (None, 0):
            self.complete()
        elif is_cancellation(error):
            self.cancel(type(error).__name__)
        elif isinstance(error, SystemExit):
            self.fail({"kind": "exit", "message": f"exited with {error.code}"})
        else:
            self.fail(error)

    def __enter__(self) -> Run:
        return self.start()

    def __exit__(self, _type, error, _traceback) -> None:
        self.end(error)

    async def __aenter__(self) -> Run:
        return self.start()

    async def __aexit__(self, _type, error, _traceback) -> None:
        self.end(error)


def run(name, **options) -> Run:
    """For `with` and `async with`: records what is inside as a run.

    run_id: a new one if not given. input: any value. attempt, parent: of a chain of retries; parent is the run_id before.
    queue, job_id: of the job in its queue. expires_in: seconds without an event until the run counts as dead, for work whose
    process the daemon cannot see. recorder: another than the default.
    """
    return Run(name, **options)


def recorded(name=None, **options):
    """A decorator: each call of the function, also an async one or a generator, is a run with its return value as the result. The
    arguments are not recorded: they may hold passwords."""
    if callable(name):
        return _recorded(name, {}, None)
    return lambda function: _recorded(function, options, name)


def _recorded(function, options: dict, name):
    name = name or getattr(function, "__qualname__", None) or type(function).__name__

    if inspect.isasyncgenfunction(function):
        @functools.wraps(function)
        async def wrapper(*args, **kwargs):
            async with run(name, **options):
                async for each in function(*args, **kwargs):
                    yield each
    elif inspect.iscoroutinefunction(function):
        @functools.wraps(function)
        async def wrapper(*args, **kwargs):
            async with run(name, **options) as r:
                r.result = await function(*args, **kwargs)
                return r.result
    elif inspect.isgeneratorfunction(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            with run(name, **options) as r:
                r.result = yield from function(*args, **kwargs)
                return r.result
    else:
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            with run(name, **options) as r:
                r.result = function(*args, **kwargs)
                return r.result
    return wrapper
