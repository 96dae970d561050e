"""The thread that brings a buffer's lines to the daemon and reads its answers, beside the work. It survives everything but the
end of the process: what goes wrong is said, and tried again after a pause.
"""
from __future__ import annotations

import _thread
import fcntl
import json
import logging
import os
import re
import select
import socket
import threading
import time
from collections import deque

from . import _event, _signals, _unsent

CONNECT_TIMEOUT_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_FORBIDDEN_PAUSE_S = 0.1, 5.0, 30.0
SILENCE_S = 30.0  # without an answer to what is in flight
MAX_IN_FLIGHT_LINES, MAX_IN_FLIGHT_BYTES = 4096, 1 << 20
MAX_ANSWER_BYTES = 1 << 20
MAX_REFUSALS_SAID = 10
LONGEST_SLEEP_S = 5.0  # then the descriptors are looked at
WORTH_RESENDING = ("spool_full", "unavailable")
TYPE_OF_LINE = re.compile(rb'"type":"([a-z0-9_.]+)"')

log = logging.getLogger("run_recorder")


def is_lifecycle_line(line: bytes) -> bool:
    found = TYPE_OF_LINE.search(line)
    return found is not None and found[1].decode() in _event.LIFECYCLE


class Broken(Exception):
    """The connection is of no use any more. longest_pause_s: before the next. is_trouble: said at once."""

    def __init__(self, text: str, longest_pause_s: float = LONGEST_PAUSE_S, is_trouble: bool = False):
        super().__init__(text)
        self.longest_pause_s, self.is_trouble = longest_pause_s, is_trouble


class Backoff:
    def __init__(self):
        self._next, self.until = FIRST_PAUSE_S, 0.0

    def later(self, longest: float = LONGEST_PAUSE_S) -> None:
        self.until = time.monotonic() + self._next
        self._next = min(self._next * 2, longest)

    def reset(self) -> None:
        self._next, self.until = FIRST_PAUSE_S, 0.0

    @property
    def left(self) -> float:
        return max(0.0, self.until - time.monotonic())


class Words:
    """Says what begins once, and once that it is over."""

    def __init__(self):
        self._open: dict = {}
        self._refusals: set = set()

    def begins(self, what: str, text: str) -> None:
        if what not in self._open:
            self._open[what] = text
            say(logging.WARNING, text)

    def refused(self, error: dict, line: bytes) -> None:
        """Each reason once, as long as they are few."""
        text = f"{error['code']}: {error['message']}"
        if text not in self._refusals and len(self._refusals) < MAX_REFUSALS_SAID:
            self._refusals.add(text)
            say(logging.WARNING, f"the daemon refused an event: {text}; {line[:200].decode('utf-8', 'replace')}")

    def over(self, what: str, text: str) -> None:
        if self._open.pop(what, None) is not None:
            say(logging.INFO if what != "full" else logging.WARNING, text)


def say(level: int, text: str) -> None:
    try:
        log.log(level, "run-recorder: %s", text)
    except Exception as error:  # a broken log is the application's
        _signals.pass_on(error)


def _above_standard_streams(descriptor: int) -> int:
    """Where a standard stream is closed ours would take its place, and what somebody prints would go there."""
    if descriptor > 2:
        return descriptor
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return moved


class Descriptor:
    """A descriptor of ours, as long as nobody has closed it: then its number may be somebody else's."""

    def __init__(self, number: int):
        self.number = number
        self._identity = self._look()

    def _look(self):
        found = os.fstat(self.number)
        return found.st_dev, found.st_ino

    def is_ours(self) -> bool:
        try:
            return self._look() == self._identity
        except OSError as error:
            _signals.pass_on(error)
            return False

    def close(self) -> None:
        if self.is_ours():
            os.close(self.number)


class Wake:
    """Lets other threads wake the sender's."""

    def __init__(self):
        self._read, self._write = (Descriptor(_above_standard_streams(end)) for end in os.pipe())
        for end in (self._read, self._write):
            os.set_blocking(end.number, False)

    @property
    def number(self) -> int:
        return self._read.number

    def is_ours(self) -> bool:
        return self._read.is_ours() and self._write.is_ours()

    def wake(self) -> None:
        try:
            if self._write.is_ours():
                os.write(self._write.number, b"x")
        except OSError as error:  # full, so it wakes anyway
            _signals.pass_on(error)

    def drain(self) -> None:
        try:
            os.read(self._read.number, 4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        self._read.close()
        self._write.close()


class Connection:
    """One connection: the lines in flight over it, by their number, and its answers."""

    def __init__(self, path: str):
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.socket = socket.socket(fileno=_above_standard_streams(made.detach()))
        self._descriptor = Descriptor(self.socket.fileno())
        try:
            self.socket.settimeout(CONNECT_TIMEOUT_S)
            self.socket.connect(path)
            self.socket.setblocking(False)
        except BaseException:
            self.socket.close()
            raise
        self.in_flight: deque = deque()
        self.bytes_in_flight = 0
        self._first = 1  # the number of the oldest line in flight
        self._out = b""
        self._in = b""
        self.heard_at = time.monotonic()

    def send(self, entries: list) -> None:
        if not self.in_flight:
            self.heard_at = time.monotonic()
        self.in_flight.extend(entries)
        self.bytes_in_flight += sum(len(entry.line) for entry in entries)
        self._out += b"".join([entry.line + b"\n" for entry in entries])
        self.write()

    @property
    def wants_to_write(self) -> bool:
        return bool(self._out)

    def write(self) -> None:
        try:
            while self._out:
                self._out = self._out[self.socket.send(self._out):]
        except BlockingIOError:
            pass

    def read(self):
        """The answers that have come, as (entries settled, error or None)."""
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return
        if not data:
            raise Broken("the daemon ended the connection")
        self.heard_at = time.monotonic()
        *lines, self._in = (self._in + data).split(b"\n")
        if len(self._in) > MAX_ANSWER_BYTES:
            raise Broken("an answer without end")
        for line in lines:
            if line.startswith(b'{"acked":'):
                yield self._settled(int(line[9:-1])), None
            else:
                answer = json.loads(line)
                if "acked" in answer:
                    yield self._settled(int(answer["acked"])), None
                else:
                    yield [], self._refused(answer["error"])

    def _settled(self, up_to: int) -> list:
        count = min(up_to + 1 - self._first, len(self.in_flight))
        entries = [self.in_flight.popleft() for _ in range(count)]
        self._first += len(entries)
        self.bytes_in_flight -= sum(len(entry.line) for entry in entries)
        return entries

    def _refused(self, error: dict) -> dict:
        place = error["line"] - self._first
        if 0 <= place < len(self.in_flight):
            self.in_flight[place].refusal = error
        return error

    def is_ours(self) -> bool:
        return self._descriptor.is_ours()

    def close(self) -> None:
        if self.is_ours():
            self.socket.close()
        else:
            self.socket.detach()


class Sender:
    """before: done once by the thread, before it sends. make_up: done again and again; see recorder.make_up."""

    def __init__(self, path: str, buffer, before, make_up):
        self._path, self._buffer, self._before, self._make_up = path, buffer, before, make_up
        self._words = Words()
        self._backoff = Backoff()
        self._connection = None
        self._kept: list = []  # files of earlier processes that are still to be sent
        self._taken_over: set = set()  # those whose lines are in the buffer, or were
        self._losses = 0  # of connections since something was settled
        self._again: list = []  # refused for now: waits until nothing is in flight
        self._lifecycle_first = False
        self._dropped_said = 0
        self._stopping = False
        self._wake = Wake()
        buffer.wake = self.wake
        self._running = threading.Lock()
        self._ended = threading.Event()
        self.is_started = False

    def start(self) -> None:
        """Not by threading.Thread, whose start does not survive an exception that a signal handler raises in the middle of it."""
        _thread.start_new_thread(self._run_once, ())
        self.is_started = True

    def wake(self) -> None:
        self._wake.wake()

    @property
    def is_away(self) -> bool:
        """There is no connection, and the last attempt failed."""
        return self._connection is None and self._losses > 0

    def hurry(self) -> None:
        """Whoever waits for the end does not wait for a pause."""
        self._backoff.reset()
        self.wake()

    def ask_to_stop(self) -> None:
        self._stopping = True
        self.wake()

    def stop(self, timeout: float) -> list:
        """Ends the thread; what was in flight, oldest first."""
        self.ask_to_stop()
        if self.is_started:
            self._ended.wait(timeout)
        entries = [] if self._connection is None else list(self._connection.in_flight)
        if self._ended.is_set() or not self.is_started:
            self.abandon()
        return sorted((*self._again, *entries), key=lambda entry: entry.number)

    def abandon(self) -> None:
        """No thread uses the descriptors any more; in a forked child they are copies of the parent's."""
        self._buffer.wake = lambda: None
        if self._connection is not None:
            self._connection.close()
        self._wake.close()

    def _run_once(self) -> None:
        """One thread, however often it was started."""
        if self._running.acquire(blocking=False):
            try:
                self._run()
            finally:
                self._ended.set()

    def _run(self) -> None:
        self._before()
        while not self._stopping:
            try:
                self._step()
            except (OSError, ValueError, KeyError, TypeError, Broken) as error:
                self._lose_connection(error)
            except Exception as error:
                self._words.begins("error", f"an error in the client, which goes on: {type(error).__name__}: {error}")
                self._lose_connection(error)

    def _require_own_descriptors(self) -> None:
        """Whoever closes all descriptors, as to become a daemon, closes ours too."""
        if self._connection is not None and not self._connection.is_ours():
            raise Broken("the application has closed the connection")
        if not self._wake.is_ours():
            self._wake = Wake()

    def _lose_connection(self, error) -> None:
        if self._connection is not None:
            self._connection.close()
            entries = sorted((*self._again, *self._connection.in_flight), key=lambda entry: entry.number)
            self._again, self._connection = [], None
            self._buffer.give_back(entries)
        self._kept = []
        self._backoff.later(getattr(error, "longest_pause_s", LONGEST_PAUSE_S))
        self._losses += 1
        # A connection that ends once is a daemon that restarts.
        if not isinstance(error, Broken) or error.is_trouble or self._losses > 1:
            self._words.begins("away", f"the daemon is away ({self._path}: {error}); events are kept in memory")

    def _step(self) -> None:
        self._make_up()
        self._say_dropped()
        self._require_own_descriptors()
        if self._connection is None:
            if not self._wait_for_work() or self._backoff.left:
                return
            self._connection = Connection(self._path)
            self._kept = [path for path in _unsent.kept_before(self._path) if path not in self._taken_over]
        self._send_more()
        self._wait()

    def _wait_for_work(self) -> bool:
        """Whether there is something to send; sleeps while there is not, and while there is a pause."""
        if self._backoff.left:
            self._sleep(self._backoff.left)
        elif self._buffer.sleep_unless_waiting():
            self._sleep(None)
            return False
        return True

    def _sleep(self, timeout) -> None:
        poll = select.poll()
        poll.register(self._wake.number, select.POLLIN)
        if poll.poll(1000 * min(LONGEST_SLEEP_S if timeout is None else timeout, LONGEST_SLEEP_S)):
            self._wake.drain()

    def _send_more(self) -> None:
        connection = self._connection
        if self._again:
            if connection.in_flight:
                return
            again, self._again = self._again, []
            self._buffer.give_back(again)
        if self._backoff.left or connection.wants_to_write:
            return
        room = MAX_IN_FLIGHT_LINES - len(connection.in_flight)
        space = MAX_IN_FLIGHT_BYTES - connection.bytes_in_flight
        if room <= 0 or space <= 0 or (self._lifecycle_first and connection.in_flight):
            return
        if self._kept:  # these first
            if not connection.in_flight:
                self._send_kept()
        elif entries := self._buffer.take(room, space, self._lifecycle_first):
            connection.send(entries)

    def _send_kept(self) -> None:
        path = self._kept.pop(0)
        found = _unsent.read(path)
        if found is not None:
            self._taken_over.add(path)
            say(logging.INFO, f"sending {len(found.lines)} events that were kept in {path}")
            self._connection.send(self._buffer.take_over(found.lines, found, is_lifecycle_line))

    def _wait(self) -> None:
        connection = self._connection
        has_room = (len(connection.in_flight) < MAX_IN_FLIGHT_LINES and connection.bytes_in_flight < MAX_IN_FLIGHT_BYTES
                    and not connection.wants_to_write and not self._again and not self._backoff.left
                    and not (self._lifecycle_first and connection.in_flight))
        poll = select.poll()
        poll.register(connection.socket, select.POLLIN | (select.POLLOUT if connection.wants_to_write else 0))
        poll.register(self._wake.number, select.POLLIN)
        timeout = self._timeout()
        if has_room and not connection.in_flight and self._kept:
            timeout = 0
        elif has_room and not self._kept and not self._buffer.sleep_unless_waiting():
            timeout = 0
        for descriptor, what in poll.poll(timeout * 1000):
            if descriptor == self._wake.number:
                self._wake.drain()
            else:
                self._move(what)
        if connection.in_flight and time.monotonic() - connection.heard_at > SILENCE_S:
            raise Broken(f"no answer for {SILENCE_S:.0f} s", is_trouble=True)

    def _timeout(self) -> float:
        return min(self._backoff.left or LONGEST_SLEEP_S, LONGEST_SLEEP_S)

    def _move(self, what: int) -> None:
        if what & select.POLLOUT:
            self._connection.write()
        if what & ~select.POLLOUT:
            for entries, error in self._connection.read():
                if error is not None and error["line"] == 0:
                    self._turned_away(error)
                self._settle(entries)

    def _turned_away(self, error: dict) -> None:
        self._words.begins("away", f"the daemon takes no events from this process ({error['code']}: {error['message']}); "
                                   "events are kept in memory")
        raise Broken(error["code"], LONGEST_FORBIDDEN_PAUSE_S if error["code"] == "forbidden" else LONGEST_PAUSE_S)

    def _settle(self, entries: list) -> None:
        if not entries:
            return
        self._losses = 0
        self._words.over("away", "the daemon takes events again")
        taken = [entry for entry in entries if entry.refusal is None]
        refused = [entry for entry in entries if entry.refusal is not None]
        self._buffer.settle(taken, "acknowledged")
        full = [entry for entry in refused if entry.refusal["code"] in WORTH_RESENDING]
        for entry in refused:
            self._settle_refused(entry)
        if full:
            self._words.begins("spool", f"the daemon has no room now ({full[0].refusal['message']}); events are kept in memory")
            self._lifecycle_first = True
            self._backoff.later()
        elif any(not entry.is_lifecycle for entry in taken):
            self._lifecycle_first = False
            self._backoff.reset()
            self._words.over("spool", "the daemon has room again")
        elif not self._lifecycle_first:
            self._backoff.reset()

    def _settle_refused(self, entry) -> None:
        if entry.refusal["code"] in WORTH_RESENDING:
            self._again.append(entry)
        elif entry.is_reduced or entry.source or (line := self._reduced(entry)) is None:
            self._words.refused(entry.refusal, entry.line)
            self._buffer.settle([entry], "refused")
        else:
            self._buffer.replace(entry, line)
            self._again.append(entry)

    @staticmethod
    def _reduced(entry) -> bytes | None:
        try:
            return _event.reduced(entry.line)
        except Exception:  # it is none of ours to keep all others waiting
            return None

    def _say_dropped(self) -> None:
        dropped = self._buffer.counts["dropped"]
        if dropped > self._dropped_said:
            self._words.begins("full", "the buffer is full: events are lost, details first")
            if self._buffer.has_room():
                count, self._dropped_said = dropped - self._dropped_said, dropped
                self._words.over("full", f"{count} events were dropped while the buffer was full")
