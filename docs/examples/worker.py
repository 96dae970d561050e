#!/usr/bin/env python3
"""A worker in Python that records one run and sends each event again until it is acknowledged. Standard library only.

usage: worker.py [RUN_ID]     prints the run's id; exits 1 where an event is refused for good
"""
import json
import os
import socket
import sys
import time
import uuid

PATH = os.environ.get("RUN_RECORDER_SOCKET_PATH", "/run/run-recorder/events.sock")
# Every event of a run renews its expires_in. It takes the place of worker_pid where the daemon cannot see this process, in a
# container of another host; where it can, the process counts.
HEARTBEAT_S = 30
EXPIRES_S = 3 * HEARTBEAT_S
WORTH_RESENDING = ("spool_full", "unavailable")
ANSWER_TIMEOUT_S = 10


class Refused(Exception):
    """The daemon refused an event for what it is: sending it again cannot help."""


class Events:
    """Sends events in order. An event leaves the queue only when it is settled, and keeps its id however often it is
    sent. While the spool is full the daemon takes the end of a run and refuses details: those then come after it."""

    def __init__(self, path, run_id):
        self.path = path
        self.run_id = run_id
        self.queue = []  # lines not settled yet, oldest first
        self.connection = None
        self.answers = None
        self.lines = 0  # sent over this connection
        self.added_at = time.monotonic()

    def add(self, event_type, **fields):
        self.added_at = time.monotonic()
        event = {"type": event_type, "run_id": self.run_id, "id": str(uuid.uuid4()), "worker_pid": os.getpid()}
        self.queue.append(json.dumps(event | fields))

    def beat(self):
        """For the loop of the work, as often as it likes. Not for a thread beside it, which would keep work alive that hangs."""
        if time.monotonic() - self.added_at >= HEARTBEAT_S:
            self.add("run_heartbeat", expires_in=EXPIRES_S)
            self.settle()

    def settle(self):
        """Returns when all that was added is acknowledged. Waits for a daemon that is away."""
        pause_s = 0.1
        while self.queue:
            try:
                self.send_queue()
            except (OSError, ValueError):  # away, restarting, or cut off in the middle of an answer
                self.connection = None
            if self.queue:
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, 5)

    def send_queue(self):
        """Sends the whole queue once and keeps what has to be sent again."""
        if self.connection is None:
            self.connection = socket.socket(socket.AF_UNIX)
            self.connection.settimeout(ANSWER_TIMEOUT_S)
            self.connection.connect(self.path)
            self.answers = self.connection.makefile()
            self.lines = 0
        first = self.lines + 1
        self.lines += len(self.queue)
        self.connection.sendall("".join(line + "\n" for line in self.queue).encode())
        refused, acked = {}, 0
        while acked < self.lines:
            text = self.answers.readline()
            if not text:
                raise OSError("the daemon closed the connection")
            answer = json.loads(text)
            acked = answer.get("acked", acked)
            if "error" in answer:
                refused[answer["error"]["line"]] = answer["error"]
            if 0 in refused:  # not this line but the whole connection
                self.check(refused[0])
                raise OSError(refused[0]["message"])
        sent, self.queue = self.queue, []
        for line, text in enumerate(sent, start=first):
            if line in refused:
                self.check(refused[line])
                self.queue.append(text)

    @staticmethod
    def check(error):
        if error["code"] not in WORTH_RESENDING:
            raise Refused(f"{error['code']}: {error['message']}")


class Snoozed(Exception):
    """The work is to go on in so many seconds, in another run. Where a queue does it, name the job with run_started
    (queue, job_id) and its state with the end (job_state="scheduled"): asked from inside, the queue still says it works."""

    def __init__(self, seconds):
        super().__init__(f"snoozed for {seconds} s")
        self.seconds = seconds


def work(events, rows):
    for row in range(1, rows + 1):
        events.beat()
        events.add("row_done", payload={"row": row}, progress={"done": row, "total": rows, "unit": "rows"})
    return {"rows": rows}


def record(events, rows):
    """Runs the work, and tells how it ended."""
    events.add("run_started", council="example-py", input={"rows": rows}, expires_in=EXPIRES_S)
    events.settle()  # whoever looks now sees it running
    try:
        events.add("run_completed", result=work(events, rows))
    except Refused:
        raise
    except Snoozed as snoozed:  # the convention: an end that is no failure
        events.add("run_completed", result={"snoozed": snoozed.seconds})
    except Exception as error:
        events.add("run_failed", errors=[{"kind": type(error).__name__, "message": str(error)}])
        raise
    finally:
        events.settle()


def main():
    run_id = sys.argv[1] if len(sys.argv) > 1 else str(uuid.uuid4())
    try:
        record(Events(PATH, run_id), rows=3)
    except Refused as refused:
        sys.exit(f"worker.py: refused: {refused}")
    print(run_id)


if __name__ == "__main__":
    main()
