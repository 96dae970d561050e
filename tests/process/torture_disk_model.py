"""Builds a folder as a loss of power may leave it, from the trace that file_trace.cc wrote.

The rules are those a program may rely on and no more: bytes are durable once a sync of their file that began after they were
written has ended; names once a sync of their folder has. Of what is not durable, any 4 KiB page may be there in any of the
states it had, the last write may be cut at any byte, a file may have any of the sizes it had, and the names are as they were
at some moment since the last sync of the folder.
"""

import os
import struct
from pathlib import Path

PAGE = 4096
(OPEN, CLOSE, WRITE, TRUNCATE, SYNC_BEGIN, SYNC_END, RENAME, UNLINK, MKDIR, SEND) = range(1, 11)
HEADER = struct.Struct("<BiQI")
KINDS = ("nothing", "everything", "prefix", "torn", "pages")


def read_trace(path):
    """[(op, fd, number, bytes)]; a record torn by the death of the process is left out."""
    data = Path(path).read_bytes()
    records, at = [], 0
    while at + HEADER.size <= len(data):
        op, fd, number, length = HEADER.unpack_from(data, at)
        at += HEADER.size
        if at + length > len(data):
            break
        records.append((op, fd, number, data[at:at + length]))
        at += length
    return records


class File:
    def __init__(self, content=b""):
        self.durable = bytes(content)
        self.pending = []  # (WRITE, offset, bytes) or (TRUNCATE, size, b"") since then

    def now(self):
        """As a program that reads it sees it."""
        return applied(self.durable, self.pending)

    def image(self, kind, random):
        pending = self.pending
        if kind == "nothing":
            pending = []
        elif kind in ("prefix", "torn"):
            pending = pending[:random.randrange(len(pending) + 1)]
            if kind == "torn" and pending and pending[-1][0] == WRITE:
                op, offset, data = pending[-1]
                pending = [*pending[:-1], (op, offset, data[:random.randrange(len(data) + 1)])]
        elif kind == "pages":
            return self._pages(random)
        return applied(self.durable, pending)

    def _pages(self, random):
        """Each page in one of the states it had; the size one of those it had, or what the pages need."""
        states = [self.durable]
        for change in self.pending:
            states.append(None)
            states[-1] = change
        touched = set()
        for op, offset, data in self.pending:
            if op == WRITE:
                touched.update(range(offset // PAGE, (offset + max(len(data), 1) - 1) // PAGE + 1))
        image = bytearray(self.durable)
        for page in sorted(touched):
            upto = random.choice((0, len(self.pending), random.randrange(len(self.pending) + 1)))
            start = page * PAGE
            content = bytearray(self.durable[start:start + PAGE].ljust(PAGE, b"\0"))
            reached = max(0, min(PAGE, len(self.durable) - start))
            for op, offset, data in self.pending[:upto]:
                if op == WRITE:
                    first, last = max(offset, start), min(offset + len(data), start + PAGE)
                    if first < last:
                        content[first - start:last - start] = data[first - offset:last - offset]
                        reached = max(reached, last - start)
                elif offset < start + PAGE:
                    content[max(0, offset - start):] = bytes(PAGE - max(0, offset - start))
                    reached = min(reached, max(0, offset - start))
            if reached:
                image.extend(bytes(max(0, start + reached - len(image))))
                image[start:start + reached] = content[:reached]
        whole = len(applied(self.durable, self.pending))
        if whole > len(image) and random.random() < 0.5:
            image.extend(bytes(whole - len(image)))
        return bytes(image)

    def sync(self, changes):
        """What was pending when the sync began is durable."""
        self.durable = applied(self.durable, self.pending[:changes])
        del self.pending[:changes]


def applied(content, changes):
    content = bytearray(content)
    for op, offset, data in changes:
        if op == WRITE:
            content.extend(bytes(max(0, offset - len(content))))
            content[offset:offset + len(data)] = data
        else:
            del content[offset:]
            content.extend(bytes(offset - len(content)))
    return bytes(content)


class Disk:
    """Files under one root, by their paths in it; what is there at first is durable."""

    def __init__(self, root, take=lambda path: True):
        self.root = str(root)
        self.take = take
        self.names = {}      # as the program sees them; folders are None
        self.durable = {}
        self.changes = []    # of names, since: (touched folders, function)
        self.open = {}
        self.syncing = {}
        for folder, folders, files in os.walk(root):
            for name in folders:
                self._found(Path(folder, name), None)
            for name in files:
                path = Path(folder, name)
                if path.is_file() and self.take(self._inside(path)):
                    self._found(path, File(path.read_bytes()))
        self.durable = dict(self.names)

    def _inside(self, path):
        return os.path.relpath(path, self.root)

    def _found(self, path, file):
        if self.take(self._inside(path)):
            self.names[self._inside(path)] = file

    def _name(self, raw):
        return self._inside(raw.decode())

    def apply(self, record):
        op, fd, number, data = record
        if op == OPEN:
            self._open(fd, number, self._name(data))
        elif op == CLOSE:
            self.open.pop(fd, None)
        elif op in (WRITE, TRUNCATE):
            if isinstance(self.open.get(fd), File):
                self.open[fd].pending.append((op, number, data))
        elif op == SYNC_BEGIN:
            target = self.open.get(fd)
            self.syncing[fd] = len(target.pending) if isinstance(target, File) else len(self.changes)
        elif op == SYNC_END:
            self._sync(self.open.get(fd), self.syncing.pop(fd, 0))
        elif op == RENAME:
            self._rename(*map(self._name, data.split(b"\0")))
        elif op == UNLINK:
            self._unlink(self._name(data))
        elif op == MKDIR:
            self._link(self._name(data), None)

    def end_life(self, trace):
        """The program was killed and the host goes on. A kill comes between a system call and its record at times, so what the
        files show counts; nothing of it is known to be synced. The next life writes a new trace."""
        for record in read_trace(trace):
            self.apply(record)
        Path(trace).unlink(missing_ok=True)
        self.open.clear()
        self.syncing.clear()
        found = Disk(self.root, self.take).names
        missing = {name: file for name, file in self.names.items() if name not in found}
        for name, file in found.items():
            if name not in self.names:
                renamed = [old for old, known in missing.items() if file and known and known.now() == file.now()]
                if renamed:
                    self._rename(renamed[0], name)
                    del missing[renamed[0]]
                else:
                    self._link(name, File() if file else None)
            if file and self.names[name].now() != file.now():
                self.names[name].pending += [(WRITE, 0, file.now()), (TRUNCATE, len(file.now()), b"")]
        for name in missing:
            self._unlink(name)

    def _open(self, fd, how, name):
        existed, truncated = how & 1, how & 2
        if name == ".":
            self.open[fd] = name
            return
        if not self.take(name):
            return
        if not existed:
            self._link(name, File())
        target = self.names.get(name, name)
        self.open[fd] = name if target is None else target  # a folder is held by its name
        if existed and truncated and isinstance(target, File):
            target.pending.append((TRUNCATE, 0, b""))

    def _change(self, folders, change):
        change(self.names)
        self.changes.append((folders, change))

    def _link(self, name, file):
        if self.take(name):
            self._change({os.path.dirname(name) or "."}, lambda names: names.__setitem__(name, file))

    def _unlink(self, name):
        if name in self.names:
            self._change({os.path.dirname(name) or "."}, lambda names: names.pop(name, None))

    def _rename(self, source, target):
        if source in self.names:
            file = self.names[source]

            def change(names):
                if names.pop(source, self) is not self:
                    names[target] = file
            self._change({os.path.dirname(source) or ".", os.path.dirname(target) or "."}, change)

    def _sync(self, target, count):
        if isinstance(target, File):
            target.sync(count)
        elif isinstance(target, str):
            kept = []
            for number, (folders, change) in enumerate(self.changes):
                if number < count and target in folders:
                    change(self.durable)
                else:
                    kept.append((folders, change))
            self.changes = kept

    def image(self, kind, random):
        """{path: bytes, or None for a folder}"""
        names = dict(self.durable)
        count = {"nothing": 0, "everything": len(self.changes)}.get(kind, random.randrange(len(self.changes) + 1))
        for _, change in self.changes[:count]:
            change(names)
        return {name: None if file is None else file.image(kind, random) for name, file in names.items()
                if all(str(parent) in names or str(parent) == "." for parent in Path(name).parents)}


def write_image(image, root):
    for name, content in sorted(image.items()):
        path = Path(root, name)
        if content is None:
            path.mkdir(mode=0o700, exist_ok=True)
        else:
            path.write_bytes(content)
            path.chmod(0o600)
