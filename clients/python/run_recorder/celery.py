"""Celery: each attempt of each task is a run.

    from run_recorder.celery import attach
    attach()

once where the application is made. By Celery's signals, which run in the worker's processes: the start before the task, and its
end as Celery has it. Of a pool's child that goes away in the middle of a task its parent tells the end; what it does not tell is
found by the daemon, by the process.
"""
from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections import OrderedDict

from celery import signals, states
from celery.exceptions import Ignore, Reject

from . import _signals, _values
from ._errors import error_of
from ._sender import say
from .recorder import default
from .runs import Run

MAX_KNOWN = 10_000  # tasks that this process has received, with their attempts
SURVIVED = (signal.SIGUSR1, signal.SIGINT)  # by a pool's child: the first is its soft time limit, the second it ignores


def run_id(task_id: str, retries: int = 0) -> str:
    """The run of an attempt; retries as in task.request.retries."""
    return f"{task_id}-{retries + 1}"


def _goes_on(outcome) -> bool:
    """Under the same id: another task in its place (Task.replace), or the same again from the queue."""
    if isinstance(outcome, Reject):
        return bool(outcome.requeue)
    return isinstance(outcome, Ignore) and outcome.args == ("Replaced by new task",)


class _Integration:
    def __init__(self, recorder, queue, input, result, ignore):
        self._recorder, self._queue, self._input, self._result, self._ignore = recorder, queue, input, result, ignore
        self._open: dict = {}  # the runs in this process by task id
        self._is_pool_child = False
        self._retries: OrderedDict = OrderedDict()

    def connect(self) -> None:
        for name in ("task_received", "task_prerun", "task_success", "task_failure", "task_retry", "task_postrun", "task_revoked"):
            getattr(signals, name).connect(getattr(self, name), weak=False, dispatch_uid=f"run-recorder-{name}")
        signals.worker_process_init.connect(self.begin_pool_child, weak=False, dispatch_uid="run-recorder-init")
        signals.worker_process_shutdown.connect(self.shut_down, weak=False, dispatch_uid="run-recorder-shutdown")

    def _run(self, task_name, task_id, retries: int, **options) -> Run:
        parent = run_id(task_id, retries - 1) if retries else None
        return Run(task_name, run_id=run_id(task_id, retries), attempt=retries + 1, parent=parent, queue=self._queue, job_id=task_id,
                   recorder=self._recorder or default(), **options)

    def task_received(self, request=None, **_) -> None:
        self._retries[request.id] = request.request_dict.get("retries") or 0
        if len(self._retries) > MAX_KNOWN:
            self._retries.popitem(last=False)

    def _is_ignored(self, task) -> bool:
        try:
            return self._ignore is not None and bool(self._ignore(task))
        except BaseException as error:
            _signals.pass_on(error)
            say(logging.WARNING, f"`ignore` of {task.name} raised {_values.text_of(error)}: it is recorded")
            return False

    def _input_of(self, task, args, kwargs):
        try:
            return self._input(task, args, kwargs)
        except BaseException as error:
            return _values.unreadable(error)

    def task_prerun(self, task_id=None, task=None, args=None, kwargs=None, **_) -> None:
        if self._is_ignored(task):
            return
        options = {} if self._input is None else {"input": self._input_of(task, args, kwargs)}
        self._open[task_id] = self._run(task.name, task_id, task.request.retries or 0, **options).start()

    def task_success(self, sender=None, result=None, **_) -> None:
        if (run := self._open.pop(sender.request.id, None)) is not None:
            run.complete(result if self._result else None, job_state=states.SUCCESS)

    def task_failure(self, sender=None, task_id=None, exception=None, **_) -> None:
        run = self._open.pop(task_id, None)
        if run is None:  # told by the parent: the child that worked on it has died, maybe before it could say that it began
            if self._is_ignored(sender):
                return
            run = self._run(sender.name, task_id, self._retries.get(task_id, 0), worker_pid=False).queued()
        run.fail(exception, job_state=states.FAILURE)

    def task_retry(self, request=None, reason=None, **_) -> None:
        if (run := self._open.pop(request.id, None)) is not None:
            why = getattr(reason, "exc", None)
            error = error_of(why) if isinstance(why, BaseException) else {"kind": "Retry", "message": str(reason)}
            run.fail(error, job_state=states.RETRY)

    def task_postrun(self, task_id=None, state=None, retval=None, **_) -> None:
        """What no other signal tells: a task that raised Ignore or Reject, or something else than an Exception."""
        if state is None and self._is_pool_child:  # this process ends of it, and its parent says how
            return
        if (run := self._open.pop(task_id, None)) is None or _goes_on(retval):
            return
        if state == states.IGNORED:
            run.complete({"ignored": True}, job_state=state)
        elif state is not None:
            run.cancel(str(state), job_state=str(state))
        else:
            error = sys.exc_info()[1]
            run.end(error) if error is not None else run.lost("the task ended without an outcome")

    def task_revoked(self, sender=None, request=None, terminated=False, signum=None, expired=False, **_) -> None:
        if self._is_ignored(sender) or terminated and signum in SURVIVED:  # the task says how it ends
            return
        why = "expired" if expired else f"terminated by {signum}" if terminated else "revoked"
        retries = 0
        with contextlib.suppress(Exception):
            retries = request.get("retries") or 0
        run = self._open.pop(request.id, None) or self._run(sender.name, request.id, retries, worker_pid=False).queued()
        run.cancel(why, job_state=states.REVOKED)

    def begin_pool_child(self, **_) -> None:
        self._is_pool_child = True

    def shut_down(self, **_) -> None:
        """A child of the pool, which ends without the interpreter's own end."""
        (self._recorder or default()).close()


def attach(*, recorder=None, queue: str | None = None, input=None, result: bool = True, ignore=None) -> None:
    """queue: the name of the daemon's configured queue. input(task, args, kwargs): what to record of the arguments; nothing unless
    given, they may hold passwords. result: whether return values are recorded. ignore(task): True for tasks that are not
    recorded. Attached twice, the first counts."""
    _Integration(recorder, queue, input, result, ignore).connect()
