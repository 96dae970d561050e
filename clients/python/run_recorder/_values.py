"""Any value as JSON that the daemon takes: the table "Values" in the clients' README. Pure; any thread.

encode() tries the interpreter's own encoder, which is fast, where a look at the value says that nothing is unusual in it;
everything else is first made plain, piece by piece.
"""
from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
from collections.abc import Mapping, Set
from decimal import Decimal

from . import _signals

MAX_DEPTH = 60
MAX_OBJECT_CHARACTERS = 1000
MAX_DIGITS = 300
MAX_PLAIN_BITS = 996  # of an integer with at most MAX_DIGITS digits
MAX_READ_BITS = 100_000  # of one whose first digits are read: that takes the longer the more there are
REPLACEMENT = "\ufffd"

_PLAIN_LEAVES = frozenset((bool, type(None)))
_dump = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class TooLarge(Exception):
    """The JSON of a value is longer than allowed."""


def encode(value, max_bytes: int) -> bytes:
    """The value as JSON in UTF-8. Raises TooLarge, and nothing else but what ends the process."""
    try:
        if _looks_plain(value, max_bytes):
            text = _dump(value)
            if "\\u0000" not in text:
                return _checked(text.encode(), max_bytes)
    except TooLarge:
        raise
    except Exception as error:  # NaN, a lone surrogate, changed meanwhile by another thread
        _signals.pass_on(error)
    plain = _Plain(max_bytes).of(value, 1, ())
    return _checked(_dump(plain).encode("utf-8", "replace"), max_bytes)


def _checked(line: bytes, max_bytes: int) -> bytes:
    if len(line) > max_bytes:
        raise TooLarge
    return line


def _looks_plain(value, max_bytes: int) -> bool:
    """Of the built-in types only, text keys only, not deep and not large. Level by level, so that a cycle ends it too."""
    level, size = [value], 0
    for _ in range(MAX_DEPTH + 1):
        below: list = []
        for each in level:
            kind = type(each)
            if kind is str:
                size += len(each)
            elif (kind is dict or kind is list or kind is tuple) and size + 2 * len(each) > max_bytes:
                return False
            elif kind is dict:
                size += 4 * len(each)
                for key in each:
                    if type(key) is not str:
                        return False
                below.extend(each.values())
            elif kind is list or kind is tuple:
                below.extend(each)
                size += len(each)
            elif kind is int:
                if each.bit_length() > MAX_PLAIN_BITS:
                    return False
            elif kind is not float and kind not in _PLAIN_LEAVES:
                return False
            if size > max_bytes:
                return False
        if not below:
            return True
        level = below
    return False


def is_clean(text: str) -> bool:
    """Certainly; another text may be clean too."""
    return text.isascii() and "\0" not in text


def clean_text(text: str) -> str:
    """Without what JSON cannot say: NUL and lone surrogates."""
    if is_clean(text):
        return text
    return text.replace("\0", REPLACEMENT).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def text_of(value, limit: int = MAX_OBJECT_CHARACTERS) -> str:
    """The text of any object, cut; also of one that raises."""
    try:
        return clean_text(str(value))[:limit]
    except Exception as error:
        return unreadable(error)


def unreadable(error: Exception) -> str:
    """What stands in the place of what raised it."""
    _signals.pass_on(error)
    return f"[unreadable: {name_of_type(error)}]"


def name_of_type(value) -> str:
    """Of the class, whose metaclass may raise."""
    try:
        return str(type(value).__name__)
    except Exception:
        return "exception"


class _Plain:
    """Makes a value plain, as long as what was made is not too large."""

    def __init__(self, max_bytes: int):
        self._left = max_bytes

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TooLarge

    def of(self, value, depth: int, around: tuple):
        """depth: of this value; around: the containers that it is in, by id."""
        try:
            return self._leaf(value, depth, around)
        except TooLarge:
            raise
        except Exception as error:
            self._spend(32)
            return unreadable(error)

    def _leaf(self, value, depth: int, around: tuple):
        self._spend(1)
        if value is None or value is True or value is False:
            return value
        if isinstance(value, enum.Enum):
            return self.of(value.value, depth, around)
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, (bytes, bytearray, memoryview)):
            self._spend(len(value))
            return clean_text(bytes(value).decode("utf-8", "replace"))
        if isinstance(value, int):
            return self._integer(int(value))
        if isinstance(value, float):
            return self._float(float(value))
        if isinstance(value, datetime.datetime):
            return (value.astimezone() if value.tzinfo is None else value).isoformat()
        if isinstance(value, (datetime.date, datetime.time)):
            return value.isoformat()
        if isinstance(value, Decimal):
            return str(value)
        return self._container(value, depth, around)

    def _text(self, text: str) -> str:
        self._spend(len(text))
        return clean_text(text)

    def _integer(self, value: int):
        if value.bit_length() <= MAX_PLAIN_BITS:
            self._spend(value.bit_length() // 4)
            return value
        if value.bit_length() > MAX_READ_BITS:
            return f"[an integer of {value.bit_length()} bits]"
        # Without the text of the whole, which takes long and which newer interpreters refuse.
        too_many = max(0, int((value.bit_length() - 1) * math.log10(2)) - MAX_DIGITS)
        return ("-" if value < 0 else "") + str(abs(value) // 10 ** too_many)[:MAX_DIGITS]

    def _float(self, value: float):
        self._spend(8)
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"

    def _container(self, value, depth: int, around: tuple):
        is_object = dataclasses.is_dataclass(value) and not isinstance(value, type)
        if not is_object and not isinstance(value, (Mapping, Set, list, tuple)):
            return self._text(text_of(value))
        if id(value) in around:
            return "[cycle]"
        if depth > MAX_DEPTH:
            return "[too deep]"
        inner = (*around, id(value))
        if is_object:
            return {field.name: self.of(getattr(value, field.name), depth + 1, inner) for field in dataclasses.fields(value)
                    if field.repr and not field.name.startswith("_")}
        if 2 * len(value) > self._left:
            raise TooLarge
        if isinstance(value, Mapping):
            return {self._key(key): self.of(each, depth + 1, inner) for key, each in list(value.items())}
        return [self.of(each, depth + 1, inner) for each in list(value)]

    def _key(self, key) -> str:
        if key is None or isinstance(key, bool):
            return {None: "null", True: "true", False: "false"}[key]
        return self._text(key) if isinstance(key, str) else self._text(
            key.decode("utf-8", "replace") if isinstance(key, bytes) else text_of(key))
