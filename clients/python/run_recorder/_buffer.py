"""Lines that wait to be settled, in bounded memory, and the books about them. Any thread adds; one thread, the sender, takes.

A line is at any time in one of three places: waiting here, in flight with the sender, or gone and counted. Details are
dropped before lifecycle events, the oldest first; what is in flight is never dropped.

A signal handler may strike between any two steps of add(), with a call of its own or with an exception. So it takes one step to
put a line in its place, and what was emitted and waits is derived from the places.
"""
from __future__ import annotations

import itertools
import math
import threading
from collections import deque

OVERHEAD_BYTES = 200  # of an Entry and its places in the queues, beside its line


class Entry:
    __slots__ = ("number", "line", "is_lifecycle", "is_reduced", "refusal", "source")

    def __init__(self, number: int, line: bytes, is_lifecycle: bool, is_reduced: bool, source=None):
        self.number, self.line, self.is_lifecycle, self.is_reduced = number, line, is_lifecycle, is_reduced
        self.refusal = None  # the daemon's answer about it on this connection
        self.source = source  # the file of an earlier process that it is from

    @property
    def size(self) -> int:
        return len(self.line) + OVERHEAD_BYTES


class Buffer:
    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)
        self._lifecycle: deque = deque()
        self._details: deque = deque()
        self._in_flight: set = set()  # with the sender, or being kept at the end
        self._bytes = 0
        self._numbers = itertools.count(1)
        self._closed = False
        self.after_close = 0  # events that came then
        self.wake = lambda: None  # called when a sender that sleeps will have something to do
        self._sleeping = False
        self.counts = {"acknowledged": 0, "refused": 0, "dropped": 0, "kept": 0, "truncated": 0}

    def add(self, line: bytes, is_lifecycle: bool, is_reduced: bool) -> None:
        """From any thread, and from a signal handler in the middle of itself."""
        with self._lock:
            self.counts["truncated"] += is_reduced
            if self._closed:
                self.counts["dropped"] += 1
                self.after_close += 1
                return
            if self._sleeping:  # before there is something, because it is certain to look after this
                self.wake()
                self._sleeping = False
            self._bytes += len(line) + OVERHEAD_BYTES
            (self._lifecycle if is_lifecycle else self._details).append(Entry(next(self._numbers), line, is_lifecycle, is_reduced))
            if self._bytes > self._max_bytes:
                self._drop()

    def _drop(self) -> None:
        try:
            while self._bytes > self._max_bytes and (queue := self._details or self._lifecycle):
                self._forget(queue[0], "dropped")
                queue.popleft()
        except IndexError:  # a signal handler in the middle of this has dropped the last
            pass

    def _forget(self, entry: Entry, account: str) -> None:
        self.counts[account] += 1
        self._in_flight.discard(entry)
        if entry.source:
            entry.source.settled(account)
        else:
            self._bytes -= entry.size
        if not (self._lifecycle or self._details or self._in_flight):
            self._bytes = 0  # also of what a signal handler has interrupted

    def count(self, account: str) -> None:
        """One that never became a line."""
        with self._lock:
            self.counts[account] += 1

    # ---- the sender's side

    def take(self, max_lines: int, max_bytes: int, lifecycle_first: bool) -> list:
        """The oldest that wait, which are in flight then. lifecycle_first: those alone and one detail."""
        taken: list = []
        with self._lock:
            while len(taken) < max_lines and max_bytes > 0:
                entry = self._next(lifecycle_first)
                if entry is None:
                    break
                taken.append(entry)
                self._in_flight.add(entry)
                max_bytes -= len(entry.line)
                if lifecycle_first and not entry.is_lifecycle:
                    break
        return taken

    def _next(self, lifecycle_first: bool):
        if not self._details:
            return self._lifecycle.popleft() if self._lifecycle else None
        if self._lifecycle and (lifecycle_first or self._lifecycle[0].number < self._details[0].number):
            return self._lifecycle.popleft()
        return self._details.popleft()

    def take_over(self, lines: list, source, is_lifecycle) -> list:
        """Lines of an earlier process, which are in flight at once and older than all others."""
        with self._lock:
            entries = [Entry(place - len(lines), line, is_lifecycle(line), False, source) for place, line in enumerate(lines)]
            self._in_flight.update(entries)
        return entries

    def give_back(self, entries: list) -> None:
        """Entries in flight, oldest first, older than all that wait: they wait again."""
        with self._lock:
            for entry in reversed(entries):
                entry.refusal = None
                self._in_flight.discard(entry)
                (self._lifecycle if entry.is_lifecycle else self._details).appendleft(entry)

    def settle(self, entries: list, account: str) -> None:
        """Entries that were in flight are gone."""
        if entries:
            with self._lock:
                for entry in entries:
                    self._forget(entry, account)
                self.changed.notify_all()

    def replace(self, entry: Entry, line: bytes) -> None:
        """The line of an entry in flight by a shorter one."""
        with self._lock:
            if not entry.source:
                self._bytes += len(line) - len(entry.line)
            entry.line, entry.is_reduced = line, True
            self.counts["truncated"] += 1

    def sleep_unless_waiting(self) -> bool:
        """Whether nothing waits: then add() wakes."""
        with self._lock:
            self._sleeping = not self._lifecycle and not self._details
            return self._sleeping

    def has_room(self) -> bool:
        return self._bytes <= self._max_bytes // 2

    # ---- ends

    def _oldest(self) -> float:
        """The number of the oldest line that waits or is in flight; those of an earlier process do not count."""
        places = (self._lifecycle, self._details)
        first = [next((entry.number for entry in place if entry.source is None), math.inf) for place in places]
        return min(*first, *(entry.number for entry in self._in_flight if entry.source is None))

    def wait_settled(self, timeout: float) -> bool:
        """Whether every line so far is."""
        with self._lock:
            number = next(self._numbers)
            return self.changed.wait_for(lambda: self._oldest() > number, timeout)

    def close(self) -> None:
        with self._lock:
            self._closed = True

    def take_all(self) -> list:
        """What waits, oldest first."""
        with self._lock:
            entries = sorted((*self._lifecycle, *self._details), key=lambda entry: entry.number)
            self._in_flight.update(entries)
            self._lifecycle.clear()
            self._details.clear()
        return entries

    def stats(self) -> dict:
        with self._lock:
            waiting = len(self._lifecycle) + len(self._details) + len(self._in_flight)
            gone = sum(self.counts[account] for account in ("acknowledged", "refused", "dropped", "kept"))
            return {"emitted": gone + waiting, **self.counts, "waiting": waiting}
