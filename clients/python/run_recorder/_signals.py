"""Exceptions that a signal handler of the application raises in the middle of a call of ours, as a time limit does: they are the
work's, and go through. Any thread.
"""
from __future__ import annotations

import signal
import threading


def _codes() -> set:
    """The code of the handlers that are set now."""
    found = set()
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        function = getattr(handler, "func", handler)  # of a functools.partial
        function = getattr(function, "__func__", function)
        code = getattr(function, "__code__", None) or getattr(getattr(type(function), "__call__", None), "__code__", None)
        if code is not None:
            found.add(code)
    return found


def _is_from(error: BaseException, codes: set) -> bool:
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code in codes:
            return True
        step = step.tb_next
    return False


def pass_on(error: BaseException | None) -> None:
    """Raises the error again where a signal handler raised it, or the one in whose place it came; otherwise it is ours to deal
    with. Handlers run in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        return
    codes = _codes()
    while error is not None:
        if _is_from(error, codes):
            raise error
        error = error.__context__
