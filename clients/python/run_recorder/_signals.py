"""What goes through to the work, though it strikes in the middle of a call of ours: what ends a process or a generator, and what a
signal handler of the application raises, as a time limit does. Any thread.
"""
from __future__ import annotations

import signal
import threading
from _signal import getsignal  # that of `signal` makes an enumeration of each, which takes fifteen times as long

ENDINGS = (KeyboardInterrupt, SystemExit, GeneratorExit)
MAX_CHAIN = 50  # exceptions in whose place others came

# As the interpreter has them, whatever a class says of its own.
traceback_of = BaseException.__traceback__.__get__
context_of = BaseException.__context__.__get__


def _codes() -> set:
    """The code of the handlers that are set now."""
    found = set()
    for number in range(1, signal.NSIG):
        handler = getsignal(number)
        if not callable(handler):
            continue
        function = getattr(handler, "func", handler)  # of a functools.partial
        function = getattr(function, "__func__", function)
        code = getattr(function, "__code__", None) or getattr(getattr(type(function), "__call__", None), "__code__", None)
        if code is not None:
            found.add(code)
    return found


def _is_from(error: BaseException, codes: set) -> bool:
    step = traceback_of(error)
    while step is not None:
        if step.tb_frame.f_code in codes:
            return True
        step = step.tb_next
    return False


def _is_caught_around(frame, error: BaseException) -> bool:
    """The work is dealing with it already, and calls us meanwhile."""
    caught_in = getattr(traceback_of(error), "tb_frame", None)
    while frame is not None:
        if frame is caught_in:
            return True
        frame = frame.f_back
    return False


def pass_on(error: BaseException) -> None:
    """Raises what is not ours to deal with: the error, or the one in whose place it came. Handlers run in the main thread only."""
    if issubclass(type(error), ENDINGS):
        raise error
    if threading.current_thread() is not threading.main_thread():
        return
    around, codes = traceback_of(error).tb_frame.f_back, _codes()
    for _ in range(MAX_CHAIN):
        if error is None or _is_caught_around(around, error):
            return
        if _is_from(error, codes):
            raise error
        error = context_of(error)
