"""Workers that send seeded streams over connections of their own and resend what was not acknowledged, and the comparison of
everything afterwards with the model: every row, every seq, every payload, and the ledger."""

from harness import SANITIZER, wait_until
from oracle import DEFAULT_EXCLUDED, Oracle
from workload import stream

EVENTS_PER_SENDER = 1_500 if SANITIZER else 6_000
SENDERS = 4
WINDOW = 512  # lines that a sender has on the way at most
AHEAD = 0.15  # of all events: how far pump_to() may be ahead of what it waits for


class Sender:
    """A worker that resends, over a new connection, whatever was not acknowledged on the one before."""

    def __init__(self, server, events):
        self.server, self.events = server, events
        self.settled = 0  # events acknowledged, over all connections
        self.base = 0
        self.client = None
        self.limit = len(events)  # none behind this one is sent

    def close(self):
        if self.client:
            self.client.close()

    def connect(self):
        self.close()
        self.client = self.server.client()
        self.base = self.settled

    def step(self):
        """Moves what can be moved. Raises Gone when the daemon went away."""
        client = self.client
        on_the_way = client.sent - client.acked
        if on_the_way < WINDOW // 2:
            start = self.base + client.sent
            client.queue(*self.events[start:min(start + WINDOW - on_the_way, self.limit)])
        try:
            client.pump()
        finally:
            self.settled = self.base + client.acked
            assert not client.refusals, client.refusals

    @property
    def done(self):
        return self.settled == len(self.events)

    def sent(self):
        """The events that may have reached the daemon."""
        return self.events[:self.base + self.client.sent]


def pump_until(senders, condition):
    """Lets all senders work until condition() holds. Raises Gone when the daemon went away."""
    def step():
        for sender in senders:
            if not sender.done:
                sender.step()
        return condition()
    wait_until(step, f"the load to get on: {[sender.settled for sender in senders]}")


def all_done(senders):
    return lambda: all(sender.done for sender in senders)


class Load:
    """Senders against one daemon that stays up, and the books over them."""

    def __init__(self, server, seed, events, senders=SENDERS, name="s"):
        self.server = server
        self.senders = [Sender(server, stream(seed, events, f"{name}{number}")) for number in range(senders)]
        self.total = events * senders
        for sender in self.senders:
            sender.connect()

    def close(self):
        for sender in self.senders:
            sender.close()

    @property
    def settled(self):
        return sum(sender.settled for sender in self.senders)

    def pump_to(self, share):
        """Sends and reads answers until this share of all events is acknowledged. Some more may be on their way then,
        but however the answers come, all but share + AHEAD of each sender's events are still unsent."""
        for sender in self.senders:
            sender.limit = min(int((share + AHEAD) * len(sender.events)), len(sender.events))
        pump_until(self.senders, lambda: self.settled >= share * self.total)

    def pump_more(self, events):
        self.pump_to(min(self.settled + events, self.total) / self.total)

    def pump_all(self):
        for sender in self.senders:
            sender.limit = len(sender.events)
        pump_until(self.senders, all_done(self.senders))

    def finish(self, what, database=None, ledger=True):
        """Sends the rest, waits until it is applied, compares everything and prints the figures."""
        self.pump_all()
        return check_all(self.server, [sender.events for sender in self.senders], what, database, ledger)


def check_all(server, streams, what, database=None, ledger=True):
    """All events of these streams were accepted: they are there exactly once, each stream's in its order."""
    status = server.wait_applied()
    database = database or server.database
    oracle = Oracle()
    for events in streams:
        oracle.apply_all(events)
    oracle.check(database)
    totals = oracle.totals()
    sent = sum(len(events) for events in streams)
    rows = database.rows("SELECT run_id, event_id FROM council_ex_run_events WHERE event_id IS NOT NULL")
    distinct = {(row["run_id"], row["event_id"]) for row in rows}
    expected = {(event["run_id"], event["id"]) for events in streams for event in events
                if event["type"] not in DEFAULT_EXCLUDED}
    print(f"{what}: {sent} events sent, {sent} acknowledged, {len(rows)} found (and {totals['duplicate']} resends and"
          f" {totals['excluded']} excluded ones that leave no entry), {len(rows) - len(distinct)} twice,"
          f" {len(expected - distinct)} lost", flush=True)
    assert distinct == expected
    assert len(rows) == len(distinct)
    if ledger:
        status = server.check_ledger()
        assert status["applied"] == totals["applied"]
        assert status["duplicate"] == totals["duplicate"]
        assert (status["dead_letters"], status["dead_letters_removed"]) == (0, 0)
    return status
