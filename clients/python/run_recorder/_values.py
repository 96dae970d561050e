"""Any value as JSON that the daemon takes: the table "Values" in the clients' README. Pure; any thread.

encode() tries the interpreter's own encoder, which is fast, where a look at the value says that nothing is unusual in it;
everything else is first made plain, piece by piece. Both add up the least that the JSON can be, and stop where that is too large.
"""
from __future__ import annotations

import dataclasses
import datetime
import enum
import itertools
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
_CONTAINERS = frozenset((dict, list, tuple))
_name_of = vars(type)["__name__"].__get__  # whatever a metaclass says
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
    """Of the built-in types only, text keys only, not deep. Raises TooLarge where the least that the JSON can be is too large: two
    bytes for each element, its own and what parts it from the next. Level by level, so that a cycle ends it too."""
    level, levels, size, is_plain = [value], [], -1, True
    for _ in range(MAX_DEPTH + 1):
        levels.append(level)
        size += 2 * len(level)
        below: list = []
        for each in level:
            kind = type(each)
            if kind is str:
                size += len(each) + 1
            elif kind is dict:
                if size + 2 * (len(below) + len(each)) > max_bytes:
                    return _grew_large(levels)
                for key in each:
                    if type(key) is not str:
                        is_plain = False
                        break
                    size += len(key) + 3
                else:
                    below.extend(each.values())
            elif kind is list or kind is tuple:
                if size + 2 * (len(below) + len(each)) > max_bytes:
                    return _grew_large(levels)
                below.extend(each)
            elif kind is int:
                if each.bit_length() > MAX_PLAIN_BITS:
                    is_plain = False
            elif kind is not float and kind not in _PLAIN_LEAVES:
                is_plain = False
        if size > max_bytes:
            return _grew_large(levels)
        if not below:
            return is_plain
        level = below
    return False


def _containers(level: list) -> list:
    return [id(each) for each in level if type(each) in _CONTAINERS]


def _grew_large(levels: list) -> bool:
    """Raises TooLarge, but for what a cycle may have made large."""
    seen: set = set()
    for above, level in zip(levels, levels[1:]):
        seen.update(_containers(above))
        if not seen.isdisjoint(_containers(level)):  # shared, or a cycle
            if _has_cycle(levels[0][0], set(), set()):
                return False
            break
    raise TooLarge


def _has_cycle(value, around: set, done: set) -> bool:
    """Each container once, by id, as deep as values are read."""
    if id(value) in around:
        return True
    if id(value) in done or len(around) > MAX_DEPTH:
        return False
    around.add(id(value))
    inner = value.values() if type(value) is dict else value
    found = any(_has_cycle(each, around, done) for each in inner if type(each) in _CONTAINERS)
    around.discard(id(value))
    done.add(id(value))
    return found


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
        return clean_text(str.__str__(str(value))[:limit])
    except BaseException as error:
        return unreadable(error)


def unreadable(error: BaseException) -> str:
    """What stands in the place of what raised it."""
    _signals.pass_on(error)
    return f"[unreadable: {name_of_type(error)}]"


def name_of_type(value) -> str:
    return clean_text(_name_of(type(value)))


class _Plain:
    """Makes a value plain, as long as what was made is not too large."""

    def __init__(self, max_bytes: int):
        self._left = max_bytes + 1

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
        except BaseException as error:
            return self._text(unreadable(error))

    def _leaf(self, value, depth: int, around: tuple):
        self._spend(2)
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
            return self._integer(int.__int__(value))
        if isinstance(value, float):
            return self._float(float.__float__(value))
        if isinstance(value, datetime.datetime):
            return self._text((value.astimezone() if value.tzinfo is None else value).isoformat())
        if isinstance(value, (datetime.date, datetime.time)):
            return self._text(value.isoformat())
        if isinstance(value, Decimal):
            return self._text(str(value))
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
            return {self._key(key): self.of(each, depth + 1, inner) for key, each in self._snapshot(value.items())}
        return [self.of(each, depth + 1, inner) for each in self._snapshot(value)]

    def _snapshot(self, elements) -> list:
        """What others change meanwhile stays as it was; what has no end is too large."""
        return list(itertools.islice(elements, self._left // 2 + 1))

    def _key(self, key) -> str:
        if key is None or isinstance(key, bool):
            return {None: "null", True: "true", False: "false"}[key]
        return self._text(key) if isinstance(key, str) else self._text(
            key.decode("utf-8", "replace") if isinstance(key, bytes) else text_of(key))
