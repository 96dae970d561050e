"""What was sent and what was answered: the books that the model is held against.

A sender resends, over a new connection, what was not acknowledged on the one before, and sometimes what was (its answer may
have been lost on the way to the one who asked). What was refused to be sent again, as with a full spool, is sent again when
everything on the way is settled. So each delivery of an event is known to be accepted, known to be refused, or neither, and
found_order() tells whether a history can have come from them.
"""

import bisect
import select

from harness import EventClient, Gone

RESEND_CODES = ("spool_full", "unavailable")


class Connection:
    """The lines of one connection, in order, and what is known of each."""

    def __init__(self, client):
        self.client = client
        self.lines = []  # positions in the sender's events; line N is lines[N - 1]

    def fate(self, line):
        """True: accepted, False: refused, None: not known. What was `unavailable` because a sync failed is not accepted, and
        may be found on the disk nevertheless."""
        if line in self.client.refusals:
            return None if self.client.refusals[line]["code"] == "unavailable" else False
        return True if line <= self.client.acked else None


class Sender:
    def __init__(self, server, events, random, window=512):
        self.server, self.events, self.random, self.window = server, events, random, window
        self.connections = []
        self.current = None   # the open Connection
        self.accepted = [False] * len(events)
        self.accepted_count = 0
        self.refused_count = 0
        self.next = 0         # the first event that was never sent
        self.again = []       # positions to send again, ascending
        self.hold = False     # something was refused: first let everything on the way be settled
        self.tokens = None    # how many events may still be sent; None: all
        self.codes = {}       # how often which refusal was answered
        self.refused_rounds = 0  # how often all that was on the way was settled, and some of it refused
        self._answered = 0    # lines of the current connection whose fate is booked

    @property
    def done(self):
        return self.accepted_count == len(self.events)

    @property
    def socket(self):
        return self.current.client.socket if self.current else None

    def connect(self):
        """True where there is a connection now."""
        if self.current:
            return True
        try:
            client = EventClient(self.server.socket_path)
        except OSError:
            return False
        self.current = Connection(client)
        self.connections.append(self.current)
        self._answered = 0
        self.hold = False
        return True

    def disconnect(self):
        """Everything that was not acknowledged will be sent again."""
        if not self.current:
            return
        connection, self.current = self.current, None
        connection.client.close()
        self._book(connection)
        unsettled = {position for position in connection.lines if not self.accepted[position]}
        forgotten = range(max(0, self.next - self.random.choice((0, 0, 3, 40))), self.next)
        self.again = sorted(unsettled | set(self.again) | set(forgotten))

    def end_here(self):
        """What was not sent yet never will be."""
        del self.events[self.next:], self.accepted[self.next:]
        self.tokens = None

    def at_rest(self):
        """Nothing is on the way."""
        return not self.current or (not self.current.client.out and self.current.client.sent == self.current.client.acked)

    def wants_to_send(self):
        return bool(self.current and self.current.client.out)

    def fill(self):
        """Puts as much on the way as the window allows."""
        connection = self.current
        client = connection.client
        on_the_way = client.sent - client.acked
        if self.hold:
            if on_the_way:
                return
            self.hold = False
            self.refused_rounds += 1
        if on_the_way > self.window // 2:
            return
        for _ in range(self.window - on_the_way):
            if self.tokens is not None and self.tokens <= 0:
                return
            if self.again:
                position = self.again.pop(0)
            elif self.next < len(self.events):
                position = self.next
                self.next += 1
            else:
                return
            if self.tokens is not None:
                self.tokens -= 1
            connection.lines.append(position)
            client.queue(self.events[position])

    def step(self):
        """Moves what can be moved now; connects again where the connection is gone."""
        if self.done and not self.again and self.at_rest() or not self.connect():
            return
        self.fill()
        try:
            self.current.client.pump()
            self._book(self.current)
        except Gone:
            self.disconnect()

    def _book(self, connection):
        client = connection.client
        for line in range(self._answered + 1, min(client.acked, len(connection.lines)) + 1):
            position = connection.lines[line - 1]
            if line not in client.refusals:
                if not self.accepted[position]:
                    self.accepted[position] = True
                    self.accepted_count += 1
                continue
            error = client.refusals[line]
            assert error["code"] in RESEND_CODES, f"refused for no reason: {error}: {str(self.events[position])[:500]}"
            self.refused_count += 1
            self.codes[error["code"]] = self.codes.get(error["code"], 0) + 1
            self.hold = True
            if not self.accepted[position] and position not in self.again:
                bisect.insort(self.again, position)
        self._answered = max(self._answered, client.acked)

    def drain(self):
        """Reads what the daemon, which is gone, had answered."""
        while self.current:
            try:
                self.current.client.pump(1)
            except Gone:
                self.disconnect()

    def deliveries(self):
        """(run_id, event, position, fate) of all lines sent, in order."""
        for connection in self.connections:
            for line, position in enumerate(connection.lines, 1):
                event = self.events[position]
                yield event["run_id"], event, connection.fate(line)

    def check_unsettled_tails(self, is_found, excluded):
        """What was stored beyond the acknowledged part of the last connection is an unbroken continuation of it."""
        if not self.connections:
            return
        connection = self.connections[-1]
        earlier = {self.events[position]["id"] for other in self.connections[:-1] for position in other.lines}
        missing = None
        for line, position in enumerate(connection.lines, 1):
            event = self.events[position]
            if connection.fate(line) is not None or event["id"] in earlier or event["type"] in excluded:
                continue
            if not is_found(event):
                missing = event
            else:
                assert missing is None or missing["id"] == event["id"], f"stored is {event}, and {missing} before it is not"


def step_all(senders, wait_s=0.05):
    """One turn of all senders, after waiting until there is something to do."""
    for sender in senders:
        if not sender.current:
            sender.step()
    readable = [sender.socket for sender in senders if sender.current]
    writable = [sender.socket for sender in senders if sender.wants_to_send()]
    select.select(readable, writable, [], wait_s)
    for sender in senders:
        if sender.current:
            sender.step()


def found_order(run_id, found, deliveries):
    """Asserts that the ids of one run's history can have come, in this order, from its deliveries: for each sender
    [(id, fate)]. What two senders delivered may have come in any order, what one did only in its own."""
    senders = [_choices(one) for one in deliveries]
    reached = {(-1,) * len(senders)}  # up to which place of each sender; every way to explain what was found so far
    for event_id in found:
        assert any(event_id in places for places in senders), f"{run_id}: stored and never sent: {event_id}"
        after = set()
        for at in reached:
            for number, places in enumerate(senders):
                choices = places.get(event_id, [])
                index = bisect.bisect_right(choices, at[number])
                if index < len(choices):
                    after.add((*at[:number], choices[index], *at[number + 1:]))
        assert after, f"{run_id}: {event_id} is stored out of order: found {found}, delivered {deliveries}"
        reached = after


def _choices(deliveries):
    """{id: the places at which it may have been accepted}, for one sender's deliveries [(id, fate)]."""
    places, settled = {}, set()
    for place, (event_id, fate) in enumerate(deliveries):
        choices = places.setdefault(event_id, [])
        if event_id in settled or fate is False:
            continue  # behind an accepted delivery it is a duplicate
        choices.append(place)
        if fate is True:
            settled.add(event_id)
    return places
