"""Loss of power: the daemon runs with file_trace.so preloaded, dies by kill -9, and finds its spool (and its SQLite file) as a
loss of power may have left them: without what was not synced, or with a part of it."""

import shutil

from harness import BIN, SANITIZER, Daemon, SqliteDatabase, temporary_folder, wait_until
from torture_books import Sender
from torture_check import check_ledger, compare_rows
from torture_disk_model import KINDS, MKDIR, OPEN, RENAME, SEND, SYNC_BEGIN, SYNC_END, TRUNCATE, UNLINK, WRITE
from torture_disk_model import Disk, read_trace, write_image
from torture_fault import Fault, row
from workload import stream

LIBRARY = BIN / "file_trace.so"


def on_disk(path):
    """What a loss of power concerns; shared memory is not among it."""
    return path == "spool" or path.startswith(("spool/", "run-recorder.db")) and not path.endswith("-shm")


def remove_what_is_on_disk(folder):
    shutil.rmtree(folder / "spool", ignore_errors=True)
    for path in folder.glob("run-recorder.db*"):
        path.unlink()


class Traced(Fault):
    def unavailable(self):
        if SANITIZER:
            return "a sanitizer's runtime has to be loaded first"
        return "" if LIBRARY.exists() else f"{LIBRARY.name} is not built"

    @staticmethod
    def trace(trial):
        """The next start of the daemon writes a new trace; returns where, and the disk before it."""
        if not hasattr(trial, "trace_folder"):
            trial.trace_folder = trial.discard_folder(temporary_folder())
        path = trial.trace_folder / "trace"
        path.unlink(missing_ok=True)
        trial.server.env.update({"LD_PRELOAD": str(LIBRARY), "FILE_TRACE_ROOTS": str(trial.folder),
                                 "FILE_TRACE_OUTPUT": str(path)})
        return path, Disk(trial.folder, on_disk)

    def lose_power(self, trial):
        """A life that began with trial.traced = trace(trial) ends, and the next begins on what a loss of power left."""
        trial.server.kill()
        trial.drain_answers()
        path, disk = trial.traced
        for record in read_trace(path):
            disk.apply(record)
        image = disk.image(trial.random.choice(KINDS), trial.random)
        remove_what_is_on_disk(trial.folder)
        write_image(image, trial.folder)
        trial.traced = self.trace(trial)
        trial.server.start()


@row
class PowerLoss(Traced):
    name = "power-loss"
    title = "loss of power under load, again and again on one spool: what was not synced is lost, torn or half there"
    events = (400, 3_000)
    strikes = (4, 15)

    def prepare(self, trial):
        trial.traced = self.trace(trial)

    def strike(self, trial):
        self.lose_power(trial)


class Answered:
    """A client's books at an earlier moment."""

    def __init__(self, acked, refusals):
        self.acked, self.refusals = acked, refusals


@row
class PowerLossBoundaries(Traced):
    name = "power-loss-boundaries"
    title = "loss of power at each kind of write boundary of one life of the daemon, on copies of its folder"
    databases = ("sqlite",)
    events = (150, 800)
    strikes = (10, 80)
    config = {"spool": {"max_bytes": "4MiB", "keep": "1h"}}  # small segments, none of which gives way

    def run(self, trial):
        path, disk = self.trace(trial)
        trial.start()
        sender = trial.add_sender(stream(trial.seed, self.scaled(trial, self.events), "0", large_every=97), window=24)
        trial.send_all()
        if trial.random.random() < 0.5:
            trial.server.stop()
        else:
            trial.server.kill()
        sender.drain()
        records = read_trace(path)
        acked = 0
        chosen = self._choose(trial, records)
        for number, record in enumerate(records):
            if record[0] == SEND and record[3].startswith(b"{\"acked\""):
                acked = int(record[3].strip().splitlines()[-1][len(b"{\"acked\":"):-1])
            disk.apply(record)
            if number in chosen:
                self._check_image(trial, disk, sender, acked, f"after record {number} of {len(records)}")
                trial.figures.injected += 1
        trial.server.start()  # what was acknowledged but not applied before the end is in the spool
        trial.server.wait_applied()
        compare_rows(trial.senders, trial.database, trial.figures)

    def _choose(self, trial, records):
        """Boundaries of every kind alike, however rare the kind is."""
        kinds = {}
        for number, (op, *_) in enumerate(records):
            if op in (OPEN, WRITE, TRUNCATE, SYNC_BEGIN, SYNC_END, RENAME, UNLINK, MKDIR, SEND):
                kinds.setdefault(op, []).append(number)
        chosen = set()
        while len(chosen) < min(self.scaled(trial, self.strikes), len(records) // 2):
            chosen.add(trial.random.choice(trial.random.choice(list(kinds.values()))))
        return chosen

    def _check_image(self, trial, disk, sender, acked, where):
        folder = temporary_folder()
        kind = trial.random.choice(KINDS)
        fresh = trial.random.random() < 0.5
        image = disk.image(kind, trial.random)
        if fresh:  # a database that has none of it: the spool alone has to give everything
            image = {name: content for name, content in image.items() if name.startswith("spool")}
        write_image(image, folder)
        server = Daemon(f"sqlite:{folder}/run-recorder.db", config=self.config, folder=folder)
        keep = True
        try:
            books = self._books_at(sender, acked)
            server.start()
            # Before that nobody knows what the database has forgotten.
            wait_until(lambda: server.status()["database"]["state"] == "up", "the database to be there")
            status = server.wait_applied()
            database = SqliteDatabase(folder / "run-recorder.db")
            compare_rows([books], database)
            check_ledger([books], status, database)
            keep = False
        except AssertionError as error:
            server.kill()
            database = "a new database" if fresh else "the database lost power too"
            raise AssertionError(f"{where}, {kind}, {database}, {acked} lines acknowledged, kept in {folder}: {error}\n"
                                 f"{server.log()[-3000:]}") from error
        finally:
            if not keep:
                server.close()

    @staticmethod
    def _books_at(sender, acked):
        """The sender's books when its connection had `acked` lines settled and all of them sent."""
        books = Sender(None, sender.events, sender.random)
        connection = sender.connections[0]
        books.connections = [type(connection)(Answered(acked, connection.client.refusals))]
        books.connections[0].lines = connection.lines
        books.next = sender.next
        for position in connection.lines[:acked]:
            books.accepted[position] = True
        books.accepted_count = sum(books.accepted)
        return books
