"""RQ: each attempt of each job is a run.

    rq worker --worker-class run_recorder.rq.Worker

or SimpleWorker. The start comes from the process that performs the job; its end as RQ has it, also where that process has died.
The number of the attempt, which RQ does not count, is kept in the job's meta.
"""
from __future__ import annotations

import logging
import sys

import rq

from . import _signals
from ._sender import say
from .recorder import default
from .runs import Run

META = "run_recorder"
HORSE_FLUSH_S = 0.5  # after each job: what is not sent by then is kept for the next


def attempt_of(job) -> int:
    return (job.meta or {}).get(META, {}).get("attempt", 1)


def run_id(job, attempt: int | None = None) -> str:
    """The run of a job's attempt, by default the latest."""
    return f"{job.id}-{attempt or attempt_of(job)}"


def _guarded(method):
    """Nothing here may harm the job."""
    def wrapper(*args, **kwargs):
        try:
            return method(*args, **kwargs)
        except BaseException as error:
            _signals.pass_on(error)
            say(logging.WARNING, f"{method.__name__}: {type(error).__name__}: {error}")
            return None
    return wrapper


class Recording:
    """In front of a worker class of RQ's. Set `queue_name` to the daemon's configured queue, `record_result` to leave results out."""

    queue_name = None
    record_result = True

    @_guarded
    def _count_attempt(self, job) -> None:
        before = (job.meta or {}).get(META)
        job.meta = {**(job.meta or {}), META: {"attempt": before["attempt"] + 1 if before else 1}}
        job.save_meta()

    def _run(self, job, worker_pid=True) -> Run:
        attempt = attempt_of(job)
        parent = run_id(job, attempt - 1) if attempt > 1 else None
        return Run(job.func_name or "unknown", run_id=run_id(job), attempt=attempt, parent=parent, queue=self.queue_name, job_id=job.id,
                   recorder=default(), worker_pid=worker_pid)

    def execute_job(self, job, queue):
        self._count_attempt(job)
        return super().execute_job(job, queue)

    def perform_job(self, job, queue):
        self._started(job)
        try:
            return super().perform_job(job, queue)
        finally:
            self._flush_horse()

    @_guarded
    def _started(self, job) -> None:
        self._run(job).start()

    @_guarded
    def _flush_horse(self) -> None:
        if self.is_horse:  # which ends without the interpreter's own end
            recorder = default()
            recorder.close(0 if recorder.is_away() else HORSE_FLUSH_S)

    def handle_job_success(self, job, *args, **kwargs):
        super().handle_job_success(job, *args, **kwargs)
        self._completed(job)

    @_guarded
    def _completed(self, job) -> None:
        self._run(job).complete(job._result if self.record_result else None, job_state="finished")

    def handle_job_failure(self, job, *args, **kwargs):
        was_stopped = getattr(self, "_stopped_job_id", None) == job.id
        will_retry = bool(job.retries_left) and not was_stopped
        outcome = job, sys.exc_info()[1], kwargs.get("exc_string") or "", was_stopped, will_retry
        try:
            super().handle_job_failure(job, *args, **kwargs)
        except BaseException:
            if not self.is_horse:  # a work horse dies of this, and the worker says so
                self._failed(*outcome)
            raise
        self._failed(*outcome)

    @_guarded
    def _failed(self, job, error, text, was_stopped, will_retry) -> None:
        run = self._run(job, worker_pid=error is not None)
        if error is None:  # the work horse has died, maybe before it could say that it began
            run.queued()
        if was_stopped:
            run.cancel("stopped", job_state="stopped")
        else:
            run.fail(error or {"kind": "work_horse_died", "message": text}, job_state="scheduled" if will_retry else "failed")


class Worker(Recording, rq.Worker):
    pass


class SimpleWorker(Recording, rq.SimpleWorker):
    pass
