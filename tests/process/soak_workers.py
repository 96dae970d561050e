"""The workers of soak_verdicts.py: processes of their own that work on many runs at once, as hosts of workers do. Standard library
only, and no thread in a process that forks.

    soak_workers.py CONFIG        CONFIG: a file with the settings as JSON, see Host

What became of a run is a line of JSON in the records file: `run`, `kind`, `expect` (the status it must end with), or
`killed` (when), and what the judge needs beside it.
"""

import contextlib
import json
import os
import random
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

RETRY_S = 0.02


class Config:
    def __init__(self, path):
        self.__dict__.update(json.loads(Path(path).read_text()))
        self.random = random.Random(self.seed)
        self._records = os.open(self.records, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def record(self, **facts):
        os.write(self._records, json.dumps(facts).encode() + b"\n")

    def time_of_work(self, rng):
        """Some runs are short, the others outlive the grace; most of those that are to be killed would go on for long."""
        if self.kill and rng.random() < 0.7:
            return 60
        return rng.uniform(0.2, self.grace_s) if rng.random() < 0.4 else rng.uniform(self.grace_s, self.grace_s + 1)

    def stopped(self):
        return os.path.exists(self.stop_file)


def line_of(event):
    return json.dumps(event).encode() + b"\n"


# ---- a worker process of its own


class Connection:
    """For a single-threaded worker: what it sends it sends again, over new connections, until it is acknowledged."""

    def __init__(self, path):
        self.path = path
        self.socket = None
        self.sent = self.acked = 0

    def close(self):
        if self.socket:
            self.socket.close()
        self.socket = None
        self.sent = self.acked = 0

    def connect(self):
        while not self.socket:
            candidate = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                candidate.connect(self.path)
                self.socket = candidate
            except OSError:
                candidate.close()
                time.sleep(RETRY_S)

    def deliver(self, event):
        while True:
            self.connect()
            try:
                self.socket.sendall(line_of(event))
                self.sent += 1
                if self._settled():
                    return
            except OSError:
                pass
            self.close()

    def _settled(self):
        answers = b""
        while self.acked < self.sent:
            data = self.socket.recv(4096)
            if not data:
                return False
            answers += data
            *lines, answers = answers.split(b"\n")
            for line in lines:
                answer = json.loads(line)
                if "acked" in answer:
                    self.acked = answer["acked"]
                elif answer["error"]["line"] == self.sent:
                    return False   # refused, as "spool_failed"; again
        return True

    def tell(self, event):
        """Without waiting for any answer; once."""
        self.connect()
        self.socket.sendall(line_of(event))


class Forked:
    """What a child process does; it ends by itself."""

    def __init__(self, config, run, seed):
        self.config, self.run = config, run
        self.random = random.Random(seed)
        self.connection = Connection(config.socket)
        self.number = 0

    def event(self, name, **fields):
        self.number += 1
        return {"type": name, "run_id": self.run, "id": f"{self.run}-{self.number}", "worker_pid": os.getpid(), **fields}

    def acked(self):
        self.connection.deliver(self.event("run_started", council="acked"))
        time.sleep(self.config.time_of_work(self.random))
        self.connection.deliver(self.event("run_completed", result={"ok": True}))
        self.config.record(run=self.run, kind="acked", expect="completed")

    def unheard(self):
        broken = False
        try:
            self.connection.tell(self.event("run_started", council="unheard"))
            time.sleep(self.config.time_of_work(self.random))
            self.connection.tell(self.event("run_completed"))
        except OSError:
            broken = True   # what nobody waits for gets lost with the daemon
        self.config.record(run=self.run, kind="unheard", expect="completed", told=time.time(), broken=broken)

    def each(self):
        """A connection for every event."""
        for event in (self.event("run_started", council="each"), self.event("step", payload={"n": 1}), None,
                      self.event("run_completed")):
            if event:
                self.connection.deliver(event)
                self.connection.close()
            else:
                time.sleep(self.config.time_of_work(self.random))
        self.config.record(run=self.run, kind="each", expect="completed")

    def family(self):
        """With children that have the connection too, and live on for a while when they are left alone."""
        self.connection.deliver(self.event("run_started", council="family"))
        for _ in range(2):
            if os.fork() == 0:
                time.sleep(self.config.grace_s + 5)
                os._exit(0)
        time.sleep(self.config.time_of_work(self.random))
        self.connection.deliver(self.event("run_completed"))
        self.config.record(run=self.run, kind="family", expect="completed")
        os.killpg(0, signal.SIGKILL)

    def exec(self):
        stderr = os.open(f"{self.config.folder}/{self.run}.stderr", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(stderr, 2)
        os.close(stderr)
        work = f"{self.config.time_of_work(self.random):.2f}"
        os.execve(self.config.tool, [self.config.tool, "exec", "--run-id", self.run, "--council", "exec", "--", "sleep", work],
                  {**os.environ, "RUN_RECORDER_SOCKET_PATH": self.config.socket})


def descendants(pid):
    """Parents before their children."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


class ForkHost:
    """Keeps `parallel` children working until `count` have ended, or were killed where they are to be."""

    def __init__(self, config):
        self.config = config
        self.started = self.done = 0
        self.live = {}   # pid -> (run, kind, when to kill it or None, with its children)

    def start(self):
        config = self.config
        self.started += 1
        run, kind = f"{config.name}-{self.started}", config.random.choice(config.kinds)
        seed = config.random.random()
        due = time.monotonic() + config.random.uniform(0.02, config.grace_s + 0.7) if config.kill else None
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                signal.signal(signal.SIGPIPE, signal.SIG_IGN)
                getattr(Forked(config, run, seed), kind)()
            finally:
                os._exit(0)
        self.live[pid] = (run, kind, due, config.random.random() < 0.5)

    def reap(self):
        while self.live:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            run, kind, due, _ = self.live.pop(pid)
            if due is None:
                self.done += 1
            if kind == "exec":
                self.record_exec(run)

    def record_exec(self, run):
        path = Path(f"{self.config.folder}/{run}.stderr")
        unsent = [line for line in path.read_text().splitlines() if line.startswith("{")]
        self.config.record(run=run, kind="exec", expect="completed", unsent=unsent)
        path.unlink()

    def kill_due(self):
        now = time.monotonic()
        for pid, (run, kind, due, with_children) in list(self.live.items()):
            if due is None or due > now:
                continue
            # Without its command exec still has a live process; the end of the command alone is reported by exec.
            all_of_it = with_children or kind == "exec"
            children = descendants(pid) if all_of_it else []
            os.kill(pid, signal.SIGKILL)
            for victim in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
            if all_of_it:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)   # what was forked between the two
            self.config.record(run=run, kind=kind, killed=time.time(), alone=not all_of_it)
            os.waitpid(pid, 0)
            del self.live[pid]
            self.done += 1

    def work(self):
        while True:
            wanted = 0 if self.config.stopped() else self.config.count - self.done
            while len(self.live) < min(self.config.parallel, wanted):
                self.start()
            self.reap()
            self.kill_due()
            if not self.live and wanted <= 0:
                return
            time.sleep(0.005)


# ---- a node: one process, one connection, many jobs at once


class Pipeline:
    """One connection for all threads of a process. Events are sent again in order, over new connections, until they are
    acknowledged; deliver() waits for that."""

    def __init__(self, path):
        self.path = path
        self.waiting = deque()   # (line, event that is set when it is settled)
        self.condition = threading.Condition()
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_read, False)
        threading.Thread(target=self._run, daemon=True).start()

    def deliver(self, event):
        settled = threading.Event()
        with self.condition:
            self.waiting.append((line_of(event), settled))
        os.write(self.wake_write, b"x")
        settled.wait()

    def _run(self):
        while True:
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                    connection.connect(self.path)
                    self._serve(connection)
            except OSError:
                pass
            time.sleep(RETRY_S)

    def _serve(self, connection):
        sent = settled = 0
        answers = b""
        while True:
            with self.condition:
                lines = [line for line, _ in list(self.waiting)[sent - settled:]]
            for line in lines:
                connection.sendall(line)
            sent += len(lines)
            readable, _, _ = select.select([connection, self.wake_read], [], [])
            if self.wake_read in readable:
                os.read(self.wake_read, 65536)
            if connection not in readable:
                continue
            data = connection.recv(65536)
            if not data:
                return
            *answered, answers = (answers + data).split(b"\n")
            for line in answered:
                answer = json.loads(line)
                if "error" in answer:
                    return   # refused for now, as with "spool_failed"; all again over a new connection
                with self.condition:
                    while settled < answer["acked"]:
                        self.waiting.popleft()[1].set()
                        settled += 1


class PsqlQueue:
    """oban_jobs over one psql process, a new one where the server went away; each call is repeated until it worked."""

    def __init__(self, command, skew_s):
        self.command, self.process, self.number = command, None, 0
        self.lock = threading.Lock()
        self.now = f"(timezone('UTC', clock_timestamp()) + interval '{skew_s} seconds')"

    def execute(self, sql):
        with self.lock:
            while not self._try(sql):
                self.process.kill()
                self.process.wait()
                self.process = None
                time.sleep(0.1)

    def _try(self, sql):
        if not self.process:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=subprocess.DEVNULL, text=True)
        self.number += 1
        try:
            self.process.stdin.write(f"{sql};\n\\echo done {self.number}\n")
            self.process.stdin.flush()
            return self.process.stdout.readline() == f"done {self.number}\n"
        except OSError:
            return False


class SqliteQueue:
    def __init__(self, path, skew_s):
        self.path = path
        self.now = f"strftime('%Y-%m-%dT%H:%M:%f', 'now', '{skew_s:+} seconds')"

    def execute(self, sql):
        while True:
            connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            try:
                connection.execute(sql)
                return
            except sqlite3.OperationalError:
                time.sleep(0.1)
            finally:
                connection.close()


class Node:
    """A node of Oban: claims jobs, works on them in threads, and finishes each as Oban does, sometimes before its event is sent
    and sometimes after. Its clock may be off."""

    def __init__(self, config):
        self.config = config
        self.pipeline = Pipeline(config.socket)
        self.queues = [self.make_queue() for _ in range(4 if config.psql else 1)]
        self.jobs = iter(range(config.first_job, config.first_job + 1_000_000))
        self.lock = threading.Lock()
        self.left = config.count

    def make_queue(self):
        config = self.config
        return PsqlQueue(config.psql, config.skew_s) if config.psql else SqliteQueue(config.queue_path, config.skew_s)

    def work(self):
        threads = [threading.Thread(target=self.thread, args=(number,)) for number in range(self.config.parallel)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def take(self):
        with self.lock:
            self.left -= 1
            return next(self.jobs) if self.left >= 0 and not self.config.stopped() else None

    def thread(self, number):
        rng = random.Random(f"{self.config.seed} {number}")
        queue = self.queues[number % len(self.queues)]
        while (job := self.take()) is not None:
            queue.execute(f"INSERT INTO oban_jobs (id, state, worker, inserted_at, scheduled_at) VALUES ({job}, 'available', 'W', "
                          f"{queue.now}, {queue.now}) ON CONFLICT DO NOTHING")
            self.attempts(queue, rng, job)

    def attempts(self, queue, rng, job):
        """A job's attempts to its end: a snooze or a failure is followed by another, each a run of its own."""
        counter = attempt = 0
        parent = None
        while True:
            counter += 1
            attempt += 1
            run = f"{self.config.name}-{job}-{counter}"
            queue.execute(f"UPDATE oban_jobs SET state = 'executing', attempt = {attempt}, attempted_at = {queue.now} "
                          f"WHERE id = {job}")
            ending = rng.choice(("completed", "completed", "completed", "completed", "snoozed", "retryable"))
            ending = "completed" if counter > 2 else ending
            self.one_run(queue, rng, job, attempt, run, parent, ending)
            if ending == "completed":
                return
            if ending == "snoozed" and self.config.numbers_come_back:
                attempt -= 1
            parent = run

    def one_run(self, queue, rng, job, attempt, run, parent, ending):
        config = self.config
        event = {"run_id": run, **({"worker_pid": os.getpid()} if rng.random() < 0.5 else {})}
        started = {**event, "type": "run_started", "id": "s", "council": "job", "oban_job_id": job, "attempt": attempt,
                   **({"parent_attempt_run_id": parent} if parent else {})}
        ended = {**event, "type": "run_failed" if ending == "retryable" else "run_completed", "id": "e"}
        if ending == "retryable":
            ended["errors"] = ["it did not work"]
        if ending == "snoozed":
            ended["result"] = {"snoozed": 1}
        self.pipeline.deliver(started)
        time.sleep(config.time_of_work(rng))
        finish = {"completed": f"state = 'completed', completed_at = {queue.now}",
                  "snoozed": f"state = 'scheduled', scheduled_at = {queue.now}",
                  "retryable": f"state = 'retryable', scheduled_at = {queue.now}"}[ending]
        finish = f"UPDATE oban_jobs SET {finish} WHERE id = {job}"
        first = rng.random() < 0.5
        if first:
            queue.execute(finish)
            time.sleep(rng.choice((0, 0.05, 0.3)))
        self.pipeline.deliver(ended)
        if not first:
            time.sleep(rng.choice((0, 0.05, 0.3)))
            queue.execute(finish)
        if ending == "completed" and rng.random() < 0.2:
            queue.execute(f"DELETE FROM oban_jobs WHERE id = {job}")
        config.record(run=run, kind="job", expect="failed" if ending == "retryable" else "completed")


def main():
    config = Config(sys.argv[1])
    (Node if config.kind == "node" else ForkHost)(config).work()


if __name__ == "__main__":
    main()
