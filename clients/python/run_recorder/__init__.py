"""Records what background jobs did with run-recorderd, and never harms them.

    from run_recorder import run
    with run("nightly") as r: ...
"""
from __future__ import annotations

from .handler import RunHandler
from .recorder import Recorder, configure, default
from .runs import Run, recorded, run

__all__ = ["Recorder", "Run", "RunHandler", "close", "configure", "default", "event", "flush", "recorded", "run", "stats"]
__version__ = "0.2.0"


def event(run_id=None, type=None, /, **fields) -> None:
    """One event of the protocol, by the default recorder; neither waits nor raises."""
    default().event(run_id, type, **fields)


def flush(timeout: float | None = None) -> bool:
    """Waits until everything so far is settled; False where that took longer."""
    return default().flush(timeout)


def close(timeout: float | None = None) -> None:
    default().close(timeout)


def stats() -> dict:
    return default().stats()
