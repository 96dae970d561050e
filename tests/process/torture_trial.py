"""One round: a daemon with a database of its own, its senders, and the comparison of everything that was answered with
everything that is stored. Every row, every seq, every payload, and the ledger."""

import json
import shutil
import sqlite3
import time

from harness import DEADLINE_S, Daemon, SqliteDatabase, merged, temporary_folder, wait_until
from torture_books import Sender, step_all
from torture_check import check_ledger, compare_rows, is_kept
from torture_fault import Figures
from workload import stream

PROGRESS_S = 2 * DEADLINE_S  # other heavy work may run beside this


class Trial:
    def __init__(self, fault, database_kind, seed, random, full, clusters):
        self.fault, self.database_kind, self.seed, self.random, self.full = fault, database_kind, seed, random, full
        self.clusters = clusters
        self.figures = Figures(rounds=1)
        self.senders = []
        self.undo = []               # called at the end, last first
        self.expected_dead_letters = 0
        self.destroyed_at_most = 0   # acknowledged events that the fault itself destroyed, as with flipped bits
        self.folder = temporary_folder()
        self.cluster = clusters.get(fault) if database_kind == "postgresql" else None
        self.database = self.cluster.create_database(f"torture_{clusters.next_number()}") if self.cluster else \
            SqliteDatabase(self.folder / "run-recorder.db")
        limits = {"spool": {"max_bytes": random.choice(("16MiB", "64MiB", "1GiB")), "keep": random.choice(("1s", "1h"))}}
        self.server = Daemon(self.database.url, config=merged(limits, fault.config), folder=self.folder)

    # ---- the daemon and its senders

    def start(self):
        self.fault.prepare(self)
        self.server.start()
        return self

    def wait_for_tables(self):
        self.server.wait_tables()

    def restart_after_kill(self):
        """kill -9, what it had answered, and a new start."""
        self.server.kill()
        self.drain_answers()
        if traced := getattr(self, "traced", None):
            trace, disk = traced
            disk.end_life(trace)
        self.server.start()

    def drain_answers(self, server=None):
        """What a daemon that is going has answered."""
        for sender in self.senders:
            if sender.server is (server or self.server):
                sender.drain()

    def open_senders(self, count=None, events=None, first=0):
        """Senders with streams of their own; no two have the same runs."""
        count = count or self.random.randrange(*self.fault.senders)
        events = events or self.fault.scaled(self, self.fault.events)
        for number in range(first, first + count):
            self.add_sender(stream(self.seed, max(1, events // count), f"{number}"))
        return self.senders

    def add_sender(self, events, window=None, server=None):
        window = window or self.random.choice((1, 16, 512) if len(events) <= 100 else (64, 512))
        sender = Sender(server or self.server, events, self.random, window)
        self.senders.append(sender)
        return sender

    def settled(self):
        return sum(sender.accepted_count for sender in self.senders)

    def settled_and_kept(self):
        """Without those of the excluded types, which are acknowledged without being kept."""
        return sum(sender.accepted[position] and is_kept(event)
                   for sender in self.senders for position, event in enumerate(sender.events))

    def total(self):
        return sum(len(sender.events) for sender in self.senders)

    def advance_to(self, share):
        """Lets events flow until that share of all of them is acknowledged."""
        self.advance_until(lambda: self.settled() >= share * self.total())

    def advance_until(self, condition, what="the load to get on"):
        def step():
            step_all(self.senders)
            return condition()
        return wait_until(step, f"{what}: {self.settled()} of {self.total()} events acknowledged", PROGRESS_S)

    def send_all(self):
        self.advance_until(lambda: all(sender.done and not sender.again for sender in self.senders))

    def refusals(self, code):
        return sum(sender.codes.get(code, 0) for sender in self.senders)

    def add_latecomer(self):
        """Somebody who has something to send, where all others may have sent everything."""
        name = f"late-{len(self.senders)}"
        self.add_sender([{"type": "note", "run_id": name, "id": str(number)} for number in range(5)])

    def advance_until_refused(self, code):
        before = self.refusals(code)
        self.add_latecomer()
        self.advance_until(lambda: self.refusals(code) > before, f"{code} as an answer")

    def check_nothing_is_accepted(self, times=3):
        """Every sender is refused, one that comes now too, and what is acknowledged does not grow any more."""
        self.add_latecomer()

        def wait_for_rounds(count):
            before = {sender: sender.refused_rounds for sender in self.senders if not sender.done}
            self.advance_until(lambda: all(sender.done or sender.refused_rounds >= rounds + count for sender, rounds in before.items()),
                               "every sender to be refused")
        wait_for_rounds(1)
        acknowledged = self.settled_and_kept()
        wait_for_rounds(times)
        assert self.settled_and_kept() == acknowledged, \
            f"{self.settled_and_kept() - acknowledged} acknowledged by a daemon that cannot keep them"

    def advance_by(self, count):
        """Lets so many more events be acknowledged, as far as there are any."""
        target = min(self.settled() + count, self.total())
        self.advance_until(lambda: self.settled() >= target)

    def advance_surely(self, count=100):
        """So many more events, also where all others were sent; they are acknowledged when this returns."""
        sender = self.add_sender(stream(self.seed, count, f"more-{len(self.senders)}"), window=64)
        self.advance_until(lambda: sender.done)

    def come_to_rest(self, server=None):
        """Everything on the way is settled and applied, and nothing more is sent until go_on()."""
        server = server or self.server
        senders = [sender for sender in self.senders if sender.server is server]
        for sender in senders:
            sender.tokens = 0
        self.advance_until(lambda: all(sender.at_rest() for sender in senders), "what is on the way to be settled")
        server.wait_applied(PROGRESS_S)

    def go_on(self):
        for sender in self.senders:
            sender.tokens = None

    def advance_for(self, seconds):
        """Lets events flow for that long; how long is the fault."""
        end = time.monotonic() + seconds
        self.advance_until(lambda: time.monotonic() >= end)

    def trickle_until(self, condition, what):
        """An event now and then, and otherwise quiet, until the condition holds; returns its value."""
        self.trickles = getattr(self, "trickles", 0) + 1
        sender = self.add_sender(stream(self.seed, 600, f"trickle-{self.trickles}"), window=1)
        sender.tokens = 0
        due = [0.0]

        def more():
            if time.monotonic() > due[0]:
                due[0] = time.monotonic() + 0.25
                sender.tokens = 1
            return condition()
        held = self.advance_until(more, what)
        sender.end_here()
        return held

    def database_away(self):
        """Nothing is applied until the function that is returned is called."""
        if self.cluster:
            assert self.fault.own_cluster, f"{self.fault.name} stops its PostgreSQL, which others use"
            self.cluster.stop()
            return self.cluster.start
        blocker = sqlite3.connect(self.database.path, timeout=60, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        return blocker.close

    # ---- the comparison

    def check(self):
        """Everything that is stored is what the answers say, on a daemon that runs and a database that is there."""
        status = self.server.wait_applied(PROGRESS_S)
        self.check_rows()
        self.check_ledger(status)

    def check_rows(self):
        return compare_rows(self.senders, self.database, self.figures, self.destroyed_at_most)

    def check_ledger(self, status=None):
        check_ledger(self.senders, status or self.server.status(), self.database, self.expected_dead_letters)

    # ---- the end

    def close(self, keep=False):
        """Ends everything. With keep the folder stays, with the database in it; returns where."""
        for sender in self.senders:
            if sender.current:
                sender.current.client.close()
        for step in reversed(self.undo):
            step()
        if not keep:
            self.server.close()
            return None
        self.server.kill()
        self._keep_books()
        return self.folder

    def _keep_books(self):
        with open(self.folder / "deliveries.ndjson", "w", encoding="utf-8") as file:
            for number, sender in enumerate(self.senders):
                for _, event, fate in sender.deliveries():
                    file.write(json.dumps({"sender": number, "accepted": fate, "event": event}, default=str) + "\n")
        if self.cluster:
            try:
                rows = {"runs": self.database.runs(), "events": self.database.events()}
            except AssertionError as error:
                rows = {"unreadable": str(error)}
            (self.folder / "database.json").write_text(json.dumps(rows, default=str, indent=1))

    def discard_folder(self, path):
        """At the end of the round."""
        self.undo.append(lambda: shutil.rmtree(path, ignore_errors=True))
        return path
