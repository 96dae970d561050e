"""What an application holds: events go in, from any thread and never waiting, and a thread beside brings them to the daemon."""
from __future__ import annotations

import atexit
import functools
import itertools
import logging
import os
import sys
import threading
import time
from collections import deque

from . import _event, _signals, _unsent
from ._buffer import Buffer
from ._sender import Sender, say

DEFAULT_SOCKET = "/run/run-recorder/events.sock"
STOP_TIMEOUT_S = 1.0  # after flush_timeout, for the end of the threads


def default_socket() -> str:
    """Where the daemon of this user, or of this machine, listens."""
    if path := os.environ.get("RUN_RECORDER_SOCKET_PATH"):
        return path
    own = os.path.join(os.environ.get("XDG_RUNTIME_DIR") or "/nonexistent", "run-recorder", "events.sock")
    return own if os.path.exists(own) else DEFAULT_SOCKET


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError:  # the working directory is gone
        return path


class Recorder:
    """Sends events over one connection, which it opens with the first one.

    socket: the daemon's event socket. buffer_bytes: of memory for what is not acknowledged. max_event_bytes: of one event, as
    the daemon's [limits] line_bytes. flush_timeout: seconds that close(), and the end of the process, may take. enabled: False
    makes every call do nothing.
    """

    def __init__(self, socket: str | os.PathLike | None = None, *, buffer_bytes: int = 16 << 20, max_event_bytes: int = 1 << 20,
                 flush_timeout: float = 2.0, enabled: bool | None = None):
        self.socket = _absolute(os.fsdecode(socket or default_socket()))
        # One event alone does not fill the buffer: what is too large for it is sent without its values.
        self._options = {"buffer_bytes": buffer_bytes, "max_event_bytes": min(max_event_bytes, buffer_bytes // 4)}
        self._flush_timeout = flush_timeout
        self.enabled = os.environ.get("RUN_RECORDER_DISABLED", "") in ("", "0") if enabled is None else enabled
        self.number = next(_numbers)
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        self._lines = _event.Lines(self._options["max_event_bytes"])
        self._buffer = Buffer(self._options["buffer_bytes"])
        self._sender: Sender | None = None
        self._starting = threading.RLock()  # also a signal handler in the middle of it may start
        self._start_problem_said = False
        self.is_superseded = False  # by configure()
        self._flushed, self._closed = threading.Event(), threading.Event()  # of its end

    # ---- for the work: none of these waits or raises

    def event(self, run_id=None, type=None, /, **fields) -> None:
        """One event of the protocol with its fields: event(run_id, type, payload={…}, …). worker_pid: False where this process is
        not the worker."""
        run_id, type = fields.pop("run_id", None) if run_id is None else run_id, fields.pop("type", None) if type is None else type
        self.record(run_id, type, fields, fields.pop("worker_pid", True))

    def record(self, run_id, type, fields: dict, worker_pid=True, event_id=None) -> None:
        """event(); event_id: of one that may be sent twice."""
        if not self.enabled:
            return
        try:
            self._record(run_id, type, fields, worker_pid, event_id)
        except RecursionError:  # the work leaves too little of its stack
            later.append(functools.partial(self.record, run_id, type, fields, worker_pid, event_id))

    def _record(self, run_id, type, fields, worker_pid, event_id) -> None:
        try:
            event_type, line, is_reduced = self._lines.make(type, run_id, fields, worker_pid, event_id)
        except _event.NoRunId:
            self._refuse("an event without a run_id")
            return
        except RecursionError:
            raise
        except BaseException as error:
            _signals.pass_on(error)
            self._refuse("an event that cannot be read")
            return
        self._buffer.add(line, event_type in _event.LIFECYCLE, is_reduced)
        if self._buffer.after_close == 1:
            say(logging.WARNING, "the client is closed: events from now on are dropped")
        if (self._sender is None or not self._sender.is_started) and self in _all:
            self._start()

    def new_id(self) -> str:
        """For an event that may be sent twice."""
        return self._lines.new_id()

    def _refuse(self, what: str) -> None:
        self._buffer.count("refused")
        say(logging.WARNING, f"{what} was left out")

    def _start(self) -> None:
        try:
            with self._starting:
                if self._sender is None:
                    self._sender = Sender(self.socket, self._buffer, self._close_superseded, make_up)
                if not self._sender.is_started:
                    self._sender.start()
            _close_at_end_of_child()
        except Exception as error:  # at the very end of the interpreter no thread can be started
            _signals.pass_on(error)
            if not self._start_problem_said:
                self._start_problem_said = True
                say(logging.WARNING, f"no thread can be started ({error}); events are kept in memory")

    def stats(self) -> dict:
        """emitted = acknowledged + refused + dropped + kept + waiting; truncated of these were shortened."""
        return self._buffer.stats()

    # ---- for the end

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until every event so far is settled: True, or False after so many seconds."""
        self._hurry()
        return self._buffer.wait_settled(self._flush_timeout if timeout is None else timeout)

    def _hurry(self) -> None:
        make_up()
        if self._buffer.stats()["waiting"] and (self._sender is None or not self._sender.is_started):
            self._start()  # which an exception may have interrupted
        if self._sender is not None:
            self._sender.hurry()

    def close(self, timeout: float | None = None) -> None:
        """Waits as flush() does; what is not settled then goes to a file that the next client, or `run-recorder emit`, sends. Later
        events are dropped. Never raises."""
        _close([self], timeout)

    def _flush_at_end(self, began: float, timeout: float | None) -> None:
        until = began + (self._flush_timeout if timeout is None else timeout)
        try:
            if self._buffer.stats()["waiting"]:
                self._buffer.wait_settled(max(0.0, until - time.monotonic()))
        except KeyboardInterrupt:  # whoever is in a hurry does not want the events to be lost
            pass
        finally:
            self._flushed.set()

    def _ask_to_stop(self) -> None:
        self._buffer.close()
        if self._sender is not None:
            self._sender.ask_to_stop()

    def _stop(self, until: float) -> None:
        entries = self._sender.stop(max(0.0, until - time.monotonic())) if self._sender is not None else []
        self._keep([*entries, *self._buffer.take_all()])
        self._say_losses()

    def _close_superseded(self) -> None:
        """On the thread of the one in their place, before it sends: what they have comes first."""
        earlier = [each for each in [*_all, *_closing] if each.is_superseded and each.number < self.number]
        _close(earlier)
        for each in earlier:  # also those that another is closing
            each._flushed.wait(each._flush_timeout + STOP_TIMEOUT_S)

    def is_away(self) -> bool:
        """The daemon could not be reached the last time that it was tried."""
        return self._sender is not None and self._sender.is_away

    def _keep(self, entries: list) -> None:
        own = [entry for entry in entries if entry.source is None]
        self._buffer.settle([entry for entry in entries if entry.source is not None], "kept")
        if not own:
            return
        own = self._drop_what_does_not_fit(own)
        try:
            path = _unsent.keep(self.socket, [entry.line for entry in own], f"py-{os.getpid()}-{_event.new_run_id()}")
        except Exception as error:
            self._buffer.settle(own, "dropped")
            say(logging.ERROR, f"{len(own)} events are lost: {error}")
        else:
            self._buffer.settle(own, "kept")
            say(logging.WARNING, f"{len(own)} events are not sent yet; the next client sends them, or `run-recorder emit < {path}`")

    def _drop_what_does_not_fit(self, entries: list) -> list:
        """Of what is to be kept: details before lifecycle events, the newest first."""
        try:
            room = _unsent.room()
        except OSError:
            return entries
        fits, left_out = set(), []
        for entry in sorted(entries, key=lambda entry: not entry.is_lifecycle):
            room -= len(entry.line) + 1
            if room >= 0:
                fits.add(entry)
            else:
                left_out.append(entry)
        self._buffer.settle(left_out, "dropped")
        return [entry for entry in entries if entry in fits]

    def _say_losses(self) -> None:
        stats = self._buffer.stats()
        if stats["dropped"] or stats["refused"]:
            say(logging.WARNING, f"of {stats['emitted']} events {stats['dropped']} were dropped and {stats['refused']} refused")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # ---- processes

    def _after_fork(self) -> None:
        """In the child: what was in the buffer is the parent's to send."""
        sender, is_superseded = self._sender, self.is_superseded
        self._begin()
        self.is_superseded = is_superseded
        if sender is not None:
            sender.abandon()


_all: set = set()  # those that are open; one that nobody holds any more still has events to send
_closing: set = set()
_numbers = itertools.count()
_default: Recorder | None = None
_making = threading.RLock()  # also a signal handler may be the first to need one
_child_known = 0  # the process whose end closes the recorders
# What could not be done in the middle of the work, where its stack was full or a signal handler raised: functions.
later: deque = deque()


def make_up() -> None:
    """Does what was left for later; on a sender's thread, whose stack is its own and where no signal handler strikes, or at the end."""
    for _ in range(len(later)):
        try:
            later.popleft()()
        except BaseException as error:
            if threading.current_thread() is threading.main_thread():
                _signals.pass_on(error)


def configure(**options) -> Recorder:
    """The recorder that run(), event() and the integrations use, made anew with these options of Recorder. The one before is closed
    when the new one begins to send, or at the end of the process."""
    global _default
    made = Recorder(**options)
    with _making:
        before, _default = _default, made
    if before is not None:
        before.is_superseded = True
    return made


def default() -> Recorder:
    """The recorder of this process, made when it is first needed."""
    global _default
    if _default is None:
        with _making:
            if _default is None:
                _default = Recorder()
    return _default


def _claim(recorder: Recorder) -> bool:
    """Whether it is the caller's to close: of several at once one has it."""
    if recorder not in _all:
        return False
    _closing.add(recorder)
    try:
        _all.remove(recorder)
    except KeyError:
        return False
    return True


def _close(recorders: list, timeout: float | None = None) -> None:
    """All at once, so that many take no longer than one; those that were made first go first."""
    mine = [each for each in sorted(recorders, key=lambda each: each.number) if _claim(each)]
    began = time.monotonic()
    _each(mine, Recorder._hurry)
    _each(mine, Recorder._flush_at_end, began, timeout)
    _each(mine, Recorder._ask_to_stop)
    _each(mine, Recorder._stop, time.monotonic() + STOP_TIMEOUT_S)
    for each in mine:
        each._closed.set()
        _closing.discard(each)


def _each(recorders: list, step, *arguments) -> None:
    for recorder in recorders:
        try:
            step(recorder, *arguments)
        except Exception as error:
            say(logging.WARNING, f"closing: {error}")


def _close_all() -> None:
    make_up()  # which may be the first to need one
    beside = list(_closing)  # by other threads
    _close(list(_all))
    for recorder in beside:
        recorder._closed.wait(recorder._flush_timeout + 2 * STOP_TIMEOUT_S)


def _in_forked_child() -> None:
    global _making
    _making = threading.RLock()
    later.clear()
    for recorder in [*_all, *_closing]:
        recorder._after_fork()
    for recorder in _closing:
        recorder._buffer.close()
    _closing.clear()


def _close_at_end_of_child() -> None:
    """Processes of multiprocessing, and of billiard, which Celery has, end without the interpreter's own end."""
    global _child_known
    if _child_known == os.getpid():
        return
    _child_known = os.getpid()
    for name in ("multiprocessing", "billiard"):
        process, util = sys.modules.get(f"{name}.process"), sys.modules.get(f"{name}.util")
        if process is not None and util is not None and getattr(process.current_process(), "_parent_pid", None) is not None:
            util.Finalize(None, _close_all, exitpriority=0)


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)
