"""The disk under the spool: full and free again, without inodes, read-only, with a sync that fails, no file descriptor left; and
a spool in which something is not what was written."""

import json
import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

from harness import Daemon, temporary_folder, wait_until
from torture_fault import Fault, row
from torture_kill import Kill9UnderLoad
from torture_power import PowerLoss, Traced

FULL_DISK = r" error the disk under the spool is full, all events are refused"
FULL_SPOOL = (r" error the spool is full, only events of the four lifecycle types are accepted",
              r" error the spool is full, all events are refused")
ROOM = r"the spool has room again"
FAILED = r" error the spool cannot accept events, all are refused"


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def fill_disk(ballast):
    """Until its file system takes no more."""
    room = os.statvfs(ballast.parent)
    with open(ballast, "ab", buffering=0) as file:
        try:
            for _ in range(room.f_bfree):
                file.write(bytes(room.f_bsize))
        except OSError:
            pass


def why_no_mount():
    if os.geteuid() != 0:
        return "only root may mount a file system"
    with tempfile.TemporaryDirectory(prefix="rr-") as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return f"mount is not permitted here: {done.stderr.strip()}"
        subprocess.run(["umount", folder], check=True)
    return ""


def spool_status(trial):
    """What `run-recorder spool` says of the folder, beside the daemon or without it: the object, and verify's exit status."""
    path = trial.server.config["spool"]["path"]
    status = trial.server.tool("spool", "status", "--json", "--spool-path", path)
    assert status.returncode == 0, status.stderr
    listed = trial.server.tool("spool", "list", "--json", "--spool-path", path)
    assert listed.returncode == 0, listed.stderr
    return json.loads(status.stdout), trial.server.tool("spool", "verify", "--json", "--spool-path", path)


class OnOwnFileSystem(Fault):
    """The spool is on a tmpfs of its own."""
    mount_options = "size=3m"
    config = {"spool": {"min_free": "64KiB", "max_bytes": "64MiB", "keep": "1h"}}

    def unavailable(self):
        return why_no_mount()

    def prepare(self, trial):
        self.mount(trial, "-t", "tmpfs", "-o", self.mount_options, "none")

    @staticmethod
    def mount(trial, *what):
        trial.disk = trial.folder / "disk"
        trial.disk.mkdir()
        run("mount", *what, trial.disk)
        trial.undo.append(lambda: (trial.server.kill(), subprocess.run(["umount", trial.disk], check=False)))
        trial.server.config["spool"]["path"] = str(trial.disk / "spool")

    @staticmethod
    def count(trial, pattern, mark):
        return len(trial.server.log()[mark:].split(pattern.strip(" "))) - 1


@row
class DiskFull(OnOwnFileSystem):
    name = "disk-full"
    title = "the spool's file system full, and free again"
    events = (1_500, 6_000)
    strikes = (1, 3)

    def strike(self, trial):
        mark = len(trial.server.log())
        ballast = trial.disk / "ballast"
        before = trial.refusals("spool_full")

        def refused():
            fill_disk(ballast)  # what was applied gives way first, and then it is said; the daemon goes on serving
            return trial.refusals("spool_full") > before
        # Whatever of the load is left, and however much gives way.
        trial.trickle_until(refused, "spool_full as an answer")
        assert self.count(trial, FULL_DISK, mark) == 1, "a full disk is one line in the log"
        _, verified = spool_status(trial)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        if trial.random.random() < 0.5:
            mark = len(trial.server.log())
            trial.restart_after_kill()  # says so at its start
        ballast.unlink()
        for sender in trial.senders:
            sender.codes.clear()
        trial.advance_by(200)
        if self.count(trial, FULL_DISK, mark):
            trial.trickle_until(lambda: self.count(trial, ROOM, mark) == 1, "the log to say that there is room again")
            assert self.count(trial, FULL_DISK, mark) == 1, "a full disk is one line in the log"


@row
class SpoolFull(Fault):
    name = "spool-full"
    title = "the spool at its `max_bytes` because the database is away"
    own_cluster = True
    config = {"spool": {"max_bytes": "1MiB", "keep": "1h"}}
    events = (6_000, 20_000)
    strikes = (1, 3)

    def strike(self, trial):
        mark = len(trial.server.log())
        come_back = trial.database_away()
        try:
            before = trial.refusals("spool_full")
            trial.advance_until(lambda: trial.refusals("spool_full") > before or trial.settled() == trial.total(), "spool_full")
            assert trial.server.check_ledger()["waiting"] > 0
        finally:
            come_back()
        trial.advance_by(500)
        for line in FULL_SPOOL:
            full = trial.server.log()[mark:].count(line)
            assert full <= 1, f"{full} lines in the log, one expected"


@row
class NoInodes(OnOwnFileSystem):
    name = "no-inodes"
    title = "no inode left on the spool's file system, with a restart meanwhile"
    mount_options = "size=64m,nr_inodes=40"
    events = (1_500, 6_000)
    strikes = (2, 4)

    def strike(self, trial):
        filling = trial.disk / "filling"
        filling.mkdir(exist_ok=True)
        number = 0
        while True:
            try:
                (filling / str(number)).touch()
            except OSError:
                break
            number += 1
        if trial.random.random() < 0.7:
            trial.restart_after_kill()
            trial.server.wait_applied()
        else:
            trial.advance_by(300)
        for path in filling.iterdir():
            path.unlink()
        filling.rmdir()
        trial.advance_by(100)


@row
class ReadOnly(OnOwnFileSystem):
    name = "disk-read-only"
    title = "the spool's file system (ext4) aborts and is read-only; repaired, mounted and restarted"
    databases = ("sqlite", "postgresql")
    events = (1_000, 4_000)
    strikes = (1, 3)

    def unavailable(self):
        if reason := why_no_mount():
            return reason
        return "" if Path("/dev/loop-control").exists() and Path("/usr/sbin/mkfs.ext4").exists() else "no loop device or mkfs.ext4"

    def prepare(self, trial):
        trial.image = trial.folder / "ext4.img"
        run("truncate", "-s", "48M", trial.image)
        run("mkfs.ext4", "-q", "-F", trial.image)
        self.mount(trial, "-o", "loop", trial.image)

    def strike(self, trial):
        mark = len(trial.server.log())
        run("mount", "-o", "remount,abort", trial.disk)
        trial.check_nothing_is_accepted()
        assert self.count(trial, FAILED, mark) == 1, "a disk that takes nothing is one line in the log"
        trial.server.kill()
        trial.drain_answers()
        run("umount", trial.disk)
        subprocess.run(["e2fsck", "-fy", str(trial.image)], capture_output=True, check=False)
        run("mount", "-o", "loop", trial.image, trial.disk)
        trial.server.start()


@row
class FailingSync(Traced):
    name = "failing-sync"
    title = "a sync fails (EIO), then the power goes: nothing of it is acknowledged, and it is latched until a restart"
    events = (400, 3_000)
    strikes = (2, 8)

    def prepare(self, trial):
        trial.failing = trial.folder / "sync-fails"
        trial.server.env["FILE_TRACE_FAIL_SYNC"] = str(trial.failing)
        trial.traced = self.trace(trial)

    def strike(self, trial):
        mark = len(trial.server.log())
        trial.failing.touch()
        trial.advance_until_refused("unavailable")
        trial.failing.unlink()  # too late: the kernel has forgotten what it could not write
        trial.check_nothing_is_accepted()
        assert trial.server.log()[mark:].count(FAILED) == 1, "a failed sync is one line in the log"
        self.lose_power(trial)


@row
class SpoolGone(Fault):
    name = "spool-gone"
    title = ("the spool's folder moved away, another one in its place, its lock file or the segment being written deleted, under "
             "load; at last the folder deleted: nothing more is acknowledged, and what was is applied")
    config = {"spool": {"keep": "1h", "max_bytes": "1GiB"}}
    strikes = (4, 12)

    def run(self, trial):
        super().run(trial)
        self.delete(trial)

    def strike(self, trial):
        (self.move_away, self.exchange, self.delete_lock, self.delete_segment)[trial.figures.injected % 4](trial)

    def until_nothing_is_accepted(self, trial):
        """Refused at once, said, and what was acknowledged is still applied from the files that are open."""
        mark = len(trial.server.log())
        trial.advance_until_refused("unavailable")
        trial.check_nothing_is_accepted()
        errors = trial.server.log_lines("error", after=mark)
        assert all(str(trial.server.spool_path) in line for line in errors), errors
        assert trial.server.control.get("/readyz").status == 503
        trial.server.wait_applied()
        assert trial.server.stop() == 0
        trial.drain_answers()

    def start_again(self, trial):
        trial.server.start()
        for sender in trial.senders:
            sender.codes.clear()
        trial.advance_surely()

    def move_away(self, trial):
        old = trial.folder / "old-spool"
        trial.server.spool_path.rename(old)
        self.until_nothing_is_accepted(trial)
        assert not trial.server.spool_path.exists()
        old.rename(trial.server.spool_path)
        self.start_again(trial)

    def exchange(self, trial):
        old = trial.folder / "old-spool"
        trial.server.spool_path.rename(old)
        trial.server.spool_path.mkdir()
        self.until_nothing_is_accepted(trial)
        trial.server.spool_path.rmdir()  # nothing was written into it
        old.rename(trial.server.spool_path)
        self.start_again(trial)

    def delete_lock(self, trial):
        (trial.server.spool_path / "lock").unlink()
        other = Daemon(folder=temporary_folder(), config={"spool": {"path": trial.server.spool_path}})
        trial.undo.append(other.close)
        assert other.run().returncode == 69, "a second daemon has the spool too"
        trial.advance_surely()

    def delete_segment(self, trial):
        trial.advance_surely(20)
        max(trial.server.spool_path.glob("*.seg")).unlink()
        self.until_nothing_is_accepted(trial)
        self.start_again(trial)

    def delete(self, trial):
        trial.advance_surely(20)
        shutil.rmtree(trial.server.spool_path)
        trial.figures.injected += 1
        self.until_nothing_is_accepted(trial)
        for sender in trial.senders:
            sender.again = []  # nobody is there to take it
        trial.check_rows()


@row
class NoDescriptors(Fault):
    name = "no-descriptors"
    title = "no file descriptor left (EMFILE): who is connected goes on, others are refused and come again"
    strikes = (2, 6)
    senders = (4, 12)

    def strike(self, trial):
        pid = trial.server.process.pid
        # A pass that fails for want of descriptors gives some back each time it tries.
        wait_until(lambda: "reconciliation finished" in trial.server.log(), "the boot pass to end")
        mark = len(trial.server.log())
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        connected = [sender for sender in trial.senders if sender.current]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1, hard))
        others = [trial.server.client() for _ in range(40)]  # take what is free between the open ones
        late = trial.add_sender(self.late_events(trial), window=16)
        try:
            wait_until(lambda: self.knocks_in_vain(trial, late), "a connection to be refused")
            before = sum(sender.accepted_count for sender in connected)
            open_still = [sender for sender in connected if not sender.done]
            if open_still:
                trial.advance_until(lambda: sum(sender.accepted_count for sender in connected) > before,
                                    "those who are connected to get on")
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
            for other in others:
                other.close()
        trial.advance_until(lambda: late.done, "the one who came late to be served")
        lines = [line for line in trial.server.log()[mark:].splitlines() if " error " in line]
        assert len(lines) <= 2, f"too many lines for one condition: {lines[:5]}"

    @staticmethod
    def late_events(trial):
        trial.late = getattr(trial, "late", 0) + 1
        return [{"type": "note", "run_id": f"late-{trial.late}", "id": str(number), "number": number} for number in range(20)]

    @staticmethod
    def knocks_in_vain(trial, late):
        late.step()
        return 0 in late.connections[-1].client.refusals if late.connections else False


@row
class DamagedSpool(Fault):
    name = "damaged-spool"
    title = "flipped bits, a truncated segment, an empty and a foreign file in a spool with a backlog: what they destroy is a dead letter"
    own_cluster = True
    events = (600, 3_000)
    strikes = (1, 4)
    config = {"spool": {"max_bytes": "1GiB", "keep": "1h"}}

    def strike(self, trial):
        come_back = trial.database_away()
        try:
            trial.advance_by(trial.random.randrange(60, 200))
            trial.server.kill()
            trial.drain_answers()
            segments = [path for path in sorted(trial.server.spool_path.glob("*.seg")) if path.stat().st_size]
            size = {path: len(path.read_bytes().rstrip(b"\0")) for path in segments}
            flipped = self.flip(trial, segments[-1], size[segments[-1]])
            (trial.server.spool_path / f"foreign-{trial.figures.injected}").write_text("somebody else's")
            (trial.server.spool_path / f"{10**18 + trial.figures.injected:020}.seg").touch()
            before = {path.name for path in trial.server.spool_path.rglob("*")}
            status, verified = spool_status(trial)
            assert verified.returncode == 1 and not json.loads(verified.stdout)["sound"], verified.stdout
            assert not status["sound"], status
            mark = len(trial.server.log())
            trial.server.start()
            log = trial.server.log()[mark:]
            spool_status(trial)  # beside the daemon too
            after = {path.name for path in trial.server.spool_path.rglob("*")}
            for name in before - after:
                assert name in log and any(kept.startswith(name) for kept in after), f"{name} is gone: {log[-2000:]}"
            assert f"foreign-{trial.figures.injected}" in log and str(10**18 + trial.figures.injected) in log, log[-2000:]
            assert segments[-1].name in log or not flipped, log[-2000:]
        finally:
            come_back()
        self.count_lost(trial)

    @staticmethod
    def flip(trial, segment, size):
        """Bits in what was acknowledged, or the end cut off."""
        with open(segment, "r+b") as file:
            if trial.random.random() < 0.3:
                file.truncate(max(64, size - trial.random.randrange(1, 2_000)))
                return True
            for _ in range(trial.random.randrange(1, 6)):
                place = trial.random.randrange(size)
                file.seek(place)
                byte = file.read(1)[0]
                file.seek(place)
                file.write(bytes([byte ^ (1 << trial.random.randrange(8))]))
        return True

    @staticmethod
    def count_lost(trial):
        """Every event that cannot be read any more is a dead letter (one that was sent again is so without being lost), and no
        other event is lost."""
        status = trial.server.wait_applied()
        trial.expected_dead_letters = trial.destroyed_at_most = status["dead_letters"]


@row
class Combined(FailingSync):
    name = "combined"
    title = "kill -9, loss of power, failing syncs and, on PostgreSQL, `pg_terminate_backend`, mixed"
    events = (600, 8_000)
    strikes = (4, 20)

    def strike(self, trial):
        strikes = [Kill9UnderLoad.strike, PowerLoss.strike, FailingSync.strike]
        if trial.cluster:
            strikes.append(self.terminate)
        trial.random.choice(strikes)(self, trial)

    @staticmethod
    def terminate(_, trial):
        trial.cluster.sql("postgres", "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                          f"WHERE datname = '{trial.database.name}'")
