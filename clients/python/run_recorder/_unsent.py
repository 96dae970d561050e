"""Events that could not be sent, in files of this user's, as "What is left at the end" in the clients' README says: written once,
whole, and removed by whoever has sent them. Any process; one thread each.
"""
from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from urllib.parse import quote

MAX_FOLDER_BYTES = 16 << 20


def _home() -> str:
    """As HOME says, else the user database; "" where neither does."""
    home = os.environ.get("HOME", "")
    if home.startswith("/"):
        return home
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return ""


def folder() -> Path | None:
    """None where this user has no home. A relative path counts as none."""
    state, home = os.environ.get("XDG_STATE_HOME", ""), _home()
    if not state.startswith("/"):
        state = home + "/.local/state" if home.startswith("/") else ""
    return Path(state, "run-recorder", "unsent") if state else None


def name_of(socket_path: str) -> str:
    """The beginning of the files' names for a socket."""
    return "+".join(quote(part, safe="") for part in os.fsencode(socket_path).split(b"/"))


def _require_own(path: Path) -> None:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{path} can be written by others than this user")


def _used_bytes(path: Path) -> int:
    """Of the files in it; others may go meanwhile."""
    used = 0
    for entry in os.scandir(path):
        try:
            used += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            pass
    return used


def room() -> int:
    """Bytes that may be added to the folder. Raises OSError."""
    path = folder()
    return MAX_FOLDER_BYTES - _used_bytes(path) if path is not None and path.exists() else MAX_FOLDER_BYTES


def keep(socket_path: str, lines: list, unique: str) -> Path:
    """Writes the lines durably; the file's path. Raises OSError, and writes nothing then."""
    path = folder()
    if path is None:
        raise FileNotFoundError("this user has no home")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_own(path)
    content = b"".join(line + b"\n" for line in lines)
    made = path / f"{name_of(socket_path)}@{unique}.new"
    kept = made.with_suffix(".ndjson")
    try:
        with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(made, kept)
    except OSError:
        made.unlink(missing_ok=True)
        raise
    return kept


class KeptFile:
    """A file that is being sent. It goes when each of its lines is settled, and stays where one was dropped or where it cannot be
    removed."""

    def __init__(self, path: Path, lines: list):
        self.path, self.lines = path, lines
        self._left = len(lines)
        self._dropped = False

    def settled(self, account: str) -> None:
        self._left -= 1
        self._dropped = self._dropped or account not in ("acknowledged", "refused")
        if self._left == 0 and not self._dropped:
            try:
                self.path.unlink(missing_ok=True)
            except OSError:  # what is sent again does no harm
                pass


def _age(entry: Path) -> tuple:
    try:
        return entry.stat().st_mtime_ns, entry.name
    except FileNotFoundError:  # another has sent it
        return 0, entry.name


def kept_before(socket_path: str) -> list:
    """The files for a socket that are there now, oldest first. Never raises."""
    try:
        path = folder()
        if path is None:
            return []
        _require_own(path)
        found = [entry for entry in path.iterdir() if entry.name.startswith(name_of(socket_path) + "@") and entry.suffix == ".ndjson"]
        return sorted(found, key=_age)
    except OSError:
        return []


def read(path: Path) -> KeptFile | None:
    """None where it is gone or not to be read."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FOLDER_BYTES:
                return None
            lines = [line for line in file.read().split(b"\n") if line.strip()]
    except OSError:
        return None
    return KeptFile(path, lines) if lines else None
