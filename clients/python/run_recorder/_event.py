"""An event as the line that the daemon takes, made on the thread of whoever tells it. Pure but for the clock and the process
id; any thread.
"""
from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
import time
import uuid

from . import _signals, _values
from ._values import TooLarge

LIFECYCLE = frozenset(("run_queued", "run_started", "run_completed", "run_failed", "run_lost"))
# Types whose sender need not be the worker.
WITHOUT_WORKER = frozenset(("run_queued", "run_heartbeat", "run_lost"))
LIMITS = {"council": 255, "job_id": 255, "host": 255, "unit": 255, "user": 255, "queue": 64, "job_state": 64, "cwd": 1024,
          "command": 1024}
INTEGERS = {"attempt": 2 ** 31 - 1, "oban_job_id": 2 ** 63 - 1, "expires_in": 2_678_400, "worker_pid": 2 ** 31 - 1}
MAX_ID_BYTES = 255
MAX_ERRORS = 10
MAX_ERROR_CHARACTERS = 1000
VALID_TYPE = re.compile(r"[a-z][a-z0-9_.]{0,63}")
# The fields that a reduced event keeps; errors are cut.
SMALL = frozenset(("type", "run_id", "id", "at", "council", "attempt", "parent_attempt_run_id", "oban_job_id", "worker_pid", "queue",
                   "job_id", "expires_in", "job_state", "usage", "progress", "host", "unit", "user"))


class NoRunId(Exception):
    """An event needs one."""


def new_run_id() -> str:
    """A UUID of version 7 (RFC 9562): ids sort by the time when they were made."""
    number = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=number))


_quoted = json.JSONEncoder(ensure_ascii=False).encode


def _cut(text: str, limit: int) -> str:
    """To so many bytes, at a character's boundary."""
    if len(text) * 4 <= limit:
        return text
    encoded = text.encode()
    return text if len(encoded) <= limit else encoded[:limit].decode("utf-8", "ignore")


def valid_run_id(value) -> str:
    """As the daemon takes it: a longer one keeps its beginning and gets the digest of the whole. Empty where there is none."""
    text = value if type(value) is str else "" if value is None else _values.text_of(value, 100_000)
    if len(text) <= 60 and _values.is_clean(text):
        return text
    encoded = _values.clean_text(text).encode()
    if len(encoded) <= MAX_ID_BYTES:
        return encoded.decode()
    return _cut(encoded.decode(), 200) + "~" + hashlib.sha256(encoded).hexdigest()[:32]


def valid_type(value) -> str:
    text = value if type(value) is str else _values.text_of(value)
    if VALID_TYPE.fullmatch(text):
        return text
    text = re.sub(r"[^a-z0-9_.]", "_", text.lower())
    return (text if re.match("[a-z]", text) else "event_" + text)[:64]


def _is_a(value, *kinds) -> bool:
    """isinstance() asks the value, which may raise; this asks its type."""
    return issubclass(type(value), kinds)


def _integer(value, highest: int):
    """None where it is none, or out of bounds."""
    if _is_a(value, bool) or not _is_a(value, int):
        if not (_is_a(value, float) and float.is_integer(value)):
            return None
    value = int.__int__(value) if _is_a(value, int) else int(float.__float__(value))
    return value if 1 <= value <= highest else None


def _number(value):
    if _is_a(value, bool):
        return None
    if _is_a(value, int):
        value = int.__int__(value)
        return value if value.bit_length() <= _values.MAX_PLAIN_BITS else None
    value = float.__float__(value) if _is_a(value, float) else math.nan
    return value if math.isfinite(value) else None


def _usage(value):
    try:
        pairs = [(_values.clean_text(str(key)), _number(each)) for key, each in value.items()]
    except BaseException as error:
        _signals.pass_on(error)
        return None
    return {key: number for key, number in pairs if number is not None} or None


def _progress(value):
    try:
        done, total, unit = _number(value["done"]), value.get("total"), value.get("unit")
    except BaseException as error:
        _signals.pass_on(error)
        return None
    total = _number(total) if total is not None else None
    if done is None:
        return None
    found = {"done": done}
    if total is not None:
        found["total"] = total
    if unit is not None and (unit := _cut(_values.text_of(unit), 64)):
        found["unit"] = unit
    return found


def _errors(value) -> list:
    """Texts and objects."""
    try:
        return [each if _is_a(each, str, dict) else _values.text_of(each) for each in (value if _is_a(value, list, tuple) else [value])]
    except BaseException as error:
        return [_values.unreadable(error)]


def _checked(name: str, value):
    """A field as the daemon takes it; None leaves it out."""
    if name in LIMITS:
        if type(value) is not str:
            value = _values.text_of(value)
        return _cut(_values.clean_text(value), LIMITS[name]) or None
    if name in INTEGERS:
        return _integer(value, INTEGERS[name])
    if name == "parent_attempt_run_id":
        return valid_run_id(value) or None
    if name == "usage":
        return _usage(value)
    if name == "progress":
        return _progress(value)
    if name == "errors":
        return _errors(value)
    if name == "message":
        return _values.text_of(value)
    if name == "payload" and not _is_a(value, dict):
        return {"value": value}
    return value


_NAMED = frozenset((*LIMITS, *INTEGERS, "parent_attempt_run_id", "usage", "progress", "errors", "message", "payload"))
_HEAD = frozenset(("type", "run_id", "id", "at"))
_MAY_BE_NULL = frozenset(("input", "result"))


class Lines:
    """Makes the lines of one process. Safe from any thread: what it counts is an itertools.count."""

    def __init__(self, max_event_bytes: int):
        self.max_event_bytes = max_event_bytes
        self._prefix = os.urandom(6).hex()
        self._count = itertools.count(1)
        self._pid = os.getpid()
        self._second = (0, "")

    def _now(self) -> str:
        seconds, rest = divmod(time.time_ns(), 1_000_000_000)
        second, text = self._second
        if second != seconds:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
            self._second = (seconds, text)
        return f"{text}.{rest // 1000:06d}Z"

    def new_id(self) -> str:
        return f"{self._prefix}-{next(self._count)}"

    def make(self, event_type, run_id, fields: dict, worker_pid=True, event_id=None) -> tuple[str, bytes, bool]:
        """The type, the line, and whether it was reduced. worker_pid: True: this process, False: nobody, or a number. event_id: a
        new one where none is given. Raises NoRunId."""
        at = self._now()
        event_type = valid_type(event_type)
        run_id = valid_run_id(run_id)
        if not run_id:
            raise NoRunId
        head = '{"type":"%s","run_id":%s,"id":"%s","at":"%s"' % (
            event_type, _quoted(run_id), event_id or self.new_id(), at)
        if worker_pid is True:
            if event_type not in WITHOUT_WORKER:
                head = '%s,"worker_pid":%d' % (head, self._pid)
        elif worker_pid:
            fields = {**fields, "worker_pid": worker_pid}
        try:
            return event_type, self._with(head.encode(), fields, self.max_event_bytes), False
        except TooLarge:
            small = {name: value for name, value in fields.items() if name in SMALL or name == "errors"}
            if "errors" in small:
                small["errors"] = reduced_errors(small["errors"])
            small["truncated"] = True
            return event_type, self._with(head.encode(), small, 1 << 30), True

    @staticmethod
    def _with(head: bytes, fields: dict, max_bytes: int) -> bytes:
        checked = {}
        for name, value in fields.items():
            if name in _NAMED:
                value = None if value is None else _checked(name, value)
                if value is not None:
                    checked[name] = value
            elif name not in _HEAD and (value is not None or name in _MAY_BE_NULL):
                checked[name] = value
        if not checked:
            return head + b"}"
        members = _values.encode(checked, max_bytes - len(head))
        if not members.startswith(b"{"):  # the work leaves too little of its stack to read anything
            raise RecursionError
        return head + b"," + members[1:]


def reduced_errors(errors) -> list:
    return [_reduced_error(error) for error in _errors(errors)[:MAX_ERRORS]]


def _reduced_error(error):
    try:
        if _is_a(error, dict):
            return {name: _values.text_of(error[name], MAX_ERROR_CHARACTERS) for name in ("kind", "message") if name in error}
        return _values.clean_text(str.__str__(error)[:MAX_ERROR_CHARACTERS])
    except BaseException as unreadable:
        return _values.unreadable(unreadable)


def reduced(line: bytes) -> bytes:
    """The line without what the daemon may have refused it for, and with "truncated":true."""
    event = json.loads(line)
    small = {name: value for name, value in event.items() if name in SMALL}
    if "errors" in event:
        small["errors"] = reduced_errors(event["errors"])
    return _values.encode({**small, "truncated": True}, 1 << 30)
