"""Log records as events of a run: `logging.getLogger().addHandler(RunHandler(r))`. Any thread; never raises, never waits."""
from __future__ import annotations

import logging

from . import _signals, _values
from ._sender import log as _own_log


class RunHandler(logging.Handler):
    """Each record becomes an event of type `log` with level, logger and message. The client's own words do not."""

    def __init__(self, run, level: int = logging.INFO):
        super().__init__(level)
        self._run = run

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == _own_log.name:
            return
        try:
            payload = {"level": record.levelname.lower(), "logger": record.name, "message": self.format(record)}
        except BaseException as error:  # arguments that do not fit their message
            _signals.pass_on(error)
            payload = {"level": record.levelname.lower(), "logger": record.name, "message": _values.text_of(record.msg),
                       "unreadable": _values.text_of(error)}
        self._run.event("log", payload)
