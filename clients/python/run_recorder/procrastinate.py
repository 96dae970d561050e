"""Procrastinate 3.9 and newer: each attempt of each job is a run.

    app.run_worker(worker_middleware=[recorded()])      # or App(…, worker_defaults={"worker_middleware": [recorded()]})

The middleware is around the task: its end is what the task returned or raised. Whether Procrastinate tries again is not known there.
"""
from __future__ import annotations

import contextlib

from procrastinate.exceptions import JobAborted

from .recorder import default
from .runs import Run


def run_id(job_id, attempts: int = 0) -> str:
    """The run of an attempt; attempts as in job.attempts, those before it."""
    return f"procrastinate-{job_id}-{attempts + 1}"


def _run_of(job, recorder, queue, input) -> Run:
    options = {} if input is None else {"input": input(job)}
    attempts = job.attempts or 0
    return Run(job.task_name, run_id=run_id(job.id, attempts), attempt=attempts + 1, queue=queue, job_id=job.id,
               parent=run_id(job.id, attempts - 1) if attempts else None, recorder=recorder or default(), **options)


def recorded(*, recorder=None, queue: str | None = None, input=None, result: bool = True):
    """A worker's middleware. queue: the name of the daemon's configured queue. input(job): what to record of its arguments, nothing
    unless given. result: whether return values are recorded."""
    async def middleware(call_next, context, worker=None):
        run = None
        with contextlib.suppress(Exception):
            run = _run_of(context.job, recorder, queue, input).start()
        if run is None:
            return await call_next()
        async with _ended(run):
            value = await call_next()
            run.result = value if result else None
            return value
    return middleware


@contextlib.asynccontextmanager
async def _ended(run: Run):
    try:
        yield
    except JobAborted as error:
        run.cancel(str(error) or "aborted")
        raise
    except BaseException as error:
        run.end(error)
        raise
    run.end(None)
