"""Runs around work: `with run("nightly") as r:`, and the decorator `recorded`. Whatever thread or task the work is in."""
from __future__ import annotations

import asyncio
import functools
import inspect
import os

from . import _event, _values
from . import recorder as _recorder
from ._errors import error_of

_NOT_GIVEN = object()


def is_cancellation(error: BaseException) -> bool:
    return issubclass(type(error), (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit))


def _is_clean_exit(error: BaseException) -> bool:
    return issubclass(type(error), SystemExit) and (error.code is None or type(error.code) is int and error.code == 0)


class Run:
    """One run: its first start and its first end count, others after them do nothing. Its methods never wait and never raise."""

    def __init__(self, name, *, run_id=None, input=_NOT_GIVEN, attempt=None, parent=None, queue=None, job_id=None, expires_in=None,
                 recorder=None, worker_pid=True, **fields):
        self._recorder = recorder
        self._pid = os.getpid()
        self.name = name
        self.run_id = _event.valid_run_id(run_id) or _event.new_run_id()
        self.result = None  # what the work may set; None: it has none
        self._worker_pid = worker_pid
        self._is_started = self._is_over = False
        self._end_id = None
        self._start = {"council": name, "attempt": attempt, "parent_attempt_run_id": parent, "queue": queue, "job_id": job_id,
                       "expires_in": expires_in, **fields}
        if input is not _NOT_GIVEN:
            self._start["input"] = input

    @property
    def recorder(self):
        """The default one where none was given, also where it was configured anew meanwhile."""
        return self._recorder or _recorder.default()

    def _send(self, event_type, fields: dict, event_id=None) -> None:
        try:
            worker_pid = fields.pop("worker_pid", self._worker_pid)
            self.recorder.record(self.run_id, event_type, fields, worker_pid, event_id)
        except RecursionError:  # the work leaves too little of its stack
            _recorder.later.append(functools.partial(self._send, event_type, fields, event_id))

    def event(self, type=None, payload=None, /, **fields) -> None:
        """An event of the work's own; `usage` and `progress` may be among the fields."""
        type = fields.pop("type", None) if type is None else type
        self._send(type, fields if payload is None else {"payload": payload, **fields})

    def progress(self, done, total=None, unit=None) -> None:
        self._send("progress", {"progress": {"done": done, "total": total, "unit": unit}})

    def usage(self, numbers=None, /, **more) -> None:
        """Added up by key in the run's row: usage(input_tokens=1200, cost_usd=0.02), or a dict."""
        self._send("usage", {"usage": {**numbers, **more} if type(numbers) is dict else more})

    def heartbeat(self, expires_in=None) -> None:
        """For the loop of the work, where no process can be seen; see expires_in."""
        self._send("run_heartbeat", {"expires_in": expires_in})

    # ---- begin and end, where neither `with` nor the decorator fits

    def queued(self) -> Run:
        """It waits, or never began: what is known of it beforehand."""
        self._send("run_queued", {name: value for name, value in self._start.items() if name != "expires_in"})
        return self

    def start(self) -> Run:
        if not self._is_started:
            self._end_id = self.recorder.new_id()
            self._send("run_started", dict(self._start))
            self._is_started = True
        return self

    def _end(self, event_type, fields: dict) -> None:
        """The first. One that was interrupted may be sent again: with the id that it had."""
        if not self._is_over:
            self._send(event_type, fields, self._end_id)
            self._is_over = True

    def complete(self, result=None, **fields) -> None:
        result = self.result if result is None else result
        self._end("run_completed", fields if result is None else {"result": result, **fields})

    def fail(self, *errors, **fields) -> None:
        """errors: exceptions, texts or dicts."""
        more = fields.pop("errors", ())
        errors = [*errors, *(more if type(more) in (list, tuple) else [more])]
        read = [error_of(each) if issubclass(type(each), BaseException) else each for each in errors]
        self._end("run_failed", {"errors": read, **fields})

    def cancel(self, message=None, **fields) -> None:
        error = {"kind": "cancelled"} if message is None else {"kind": "cancelled", "message": message}
        self._end("run_failed", {"errors": [error], **fields})

    def lost(self, message) -> None:
        """The work ended, and how is not known."""
        self._end("run_lost", {"message": message})

    def end(self, error: BaseException | None) -> None:
        """By what came out of the work."""
        if error is None or _is_clean_exit(error):
            self.complete()
        elif is_cancellation(error):
            self.cancel(_values.name_of_type(error))
        elif issubclass(type(error), SystemExit):
            self.fail({"kind": "exit", "message": f"exited with {_values.text_of(error.code)}"})
        else:
            self.fail(error)

    def _end_reduced(self, error: BaseException | None) -> None:
        """end() that reads nothing of the work's."""
        if error is None or _is_clean_exit(error):
            self._end("run_completed", {"truncated": True})
        else:
            kind = "cancelled" if is_cancellation(error) else _values.name_of_type(error)
            self._end("run_failed", {"errors": [{"kind": kind}], "truncated": True})

    def __enter__(self) -> Run:
        try:
            self.start()
        except RecursionError:  # the work leaves too little of its stack
            _recorder.later.append(self.start)
        except BaseException as error:  # a signal handler's: it may have begun, and ends
            try:
                self.queued()
            finally:
                self.__exit__(None, error, None)
            raise
        return self

    def __exit__(self, _type, error, _traceback) -> None:
        try:
            if self._pid == os.getpid():  # a forked child that leaves the block does not end its parent's run
                self.end(error)
        except BaseException as struck:
            _recorder.later.append(functools.partial(self._end_reduced, error))
            if not isinstance(struck, RecursionError):
                raise

    async def __aenter__(self) -> Run:
        return self.start()

    async def __aexit__(self, *error) -> None:
        self.__exit__(*error)


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
    if callable(name) or isinstance(name, (classmethod, staticmethod, property)):
        return _recorded(name, {}, None)
    return lambda function: _recorded(function, options, name)


def _is_async(function) -> bool:
    """What it returns is awaited: also of an object whose __call__ is so, and of types.coroutine."""
    code = getattr(function, "__code__", None)
    return (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(type(function), "__call__", None))
            or code is not None and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE))


def _recorded(function, options: dict, name):
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(_recorded(function.__func__, options, name))
    if isinstance(function, property):
        return function.getter(_recorded(function.fget, options, name))
    name = name or getattr(function, "__qualname__", None) or type(function).__name__

    if inspect.isasyncgenfunction(function):
        @functools.wraps(function)
        async def wrapper(*args, **kwargs):
            async with run(name, **options):
                inner = function(*args, **kwargs)  # as `yield from` would, which there is not for these
                step = inner.__anext__()
                while True:
                    try:
                        value = await step
                    except StopAsyncIteration:
                        return
                    try:
                        sent = yield value
                    except GeneratorExit:
                        await inner.aclose()
                        raise
                    except BaseException as error:
                        step = inner.athrow(error)
                    else:
                        step = inner.asend(sent)
    elif _is_async(function):
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
