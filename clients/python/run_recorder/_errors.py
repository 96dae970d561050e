"""Exceptions as elements of `errors`, at a cost that no traceback, message or chain can raise. Any thread."""
from __future__ import annotations

import traceback

from . import _signals, _values

MAX_STACKTRACE_BYTES = 8192
MAX_MESSAGE_CHARACTERS = 100_000
MAX_LINE_CHARACTERS = 1000  # of a message in a stacktrace
MAX_FRAMES = 64  # the innermost of each exception, about as many as there is room for
MAX_EXCEPTIONS = 10  # of a chain or a group

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"
_cause_of = BaseException.__cause__.__get__
_qualified_name_of = vars(type)["__qualname__"].__get__
_hides_context = BaseException.__suppress_context__.__get__


def error_of(error: BaseException) -> dict:
    """Raises nothing but what goes through to the work."""
    found = {"kind": _values.name_of_type(error), "message": _values.text_of(error, MAX_MESSAGE_CHARACTERS)}
    try:
        found["stacktrace"] = _stacktrace(error, found["message"])
    except BaseException as unreadable:
        _signals.pass_on(unreadable)
    return found


def _stacktrace(error: BaseException, message: str) -> str:
    """As the interpreter prints it, the last of it: from the error back to what it came from, until there is enough."""
    parts, size, read = [], 0, []
    for _ in range(MAX_EXCEPTIONS):
        read.append(error)
        part = _part(error, message)
        parts.append(part)
        size += len(part)
        cause = _cause_of(error)
        before = cause if cause is not None or _hides_context(error) else _signals.context_of(error)
        if before is None or size >= MAX_STACKTRACE_BYTES or any(before is each for each in read):
            break
        parts.append(_CONTEXT if cause is None else _CAUSE)
        error, message = before, _values.text_of(before)
    return _last("".join(reversed(parts)))


def _last(text: str) -> str:
    return text[-MAX_STACKTRACE_BYTES:].encode()[-MAX_STACKTRACE_BYTES:].decode("utf-8", "ignore")


def _part(error: BaseException, message: str) -> str:
    """One exception without those that it came from; after it its notes, and of a group its members."""
    frames = _frames(_signals.traceback_of(error))
    lines = ["Traceback (most recent call last):\n", *frames] if frames else []
    lines += [_line(error, message), *(_values.text_of(note) + "\n" for note in _some(error, "__notes__"))]
    for member in _some(error, "exceptions"):
        if issubclass(type(member), BaseException):
            lines += ["  of which: ", _line(member, _values.text_of(member)), *_frames(_signals.traceback_of(member))]
    return _values.clean_text("".join(lines))


def _line(error: BaseException, message: str) -> str:
    module, name = str(type(error).__module__), _values.clean_text(_qualified_name_of(type(error)))
    name = name if module in ("builtins", "__main__") else f"{module}.{name}"
    return f"{name}: {message[:MAX_LINE_CHARACTERS]}\n" if message else f"{name}\n"


def _some(error: BaseException, name: str):
    try:
        found = getattr(error, name, ())
    except BaseException as unreadable:
        _signals.pass_on(unreadable)
        return ()
    return found[:MAX_EXCEPTIONS] if type(found) in (list, tuple) else ()


def _frames(step) -> list:
    """The innermost, without a look at the others' sources."""
    ahead = step
    for _ in range(MAX_FRAMES):
        if ahead is None:
            break
        ahead = ahead.tb_next
    left_out = 0
    while ahead is not None:
        step, ahead, left_out = step.tb_next, ahead.tb_next, left_out + 1
    frames = traceback.extract_tb(step).format()
    return [f"  [{left_out} frames before these]\n", *frames] if left_out else frames
