// Graphile Worker: each attempt of a job as a run, by the events of a runner or worker pool. For the process (and thread)
// that runs the jobs.
'use strict';

const { JobRun, listen, settingsOf } = require('./adapter.js');

/** The same everywhere for one attempt of a job. */
function runIdOf(jobId, attempt) {
  return `graphile-worker:${jobId}:${attempt}`;
}

/** Records the jobs whose events come from `runner.events`; what is returned stops that. */
function recordEvents(events, options) {
  const settings = settingsOf(options, { council: (job) => job.task_identifier, input: (job) => job.payload });
  const running = new Map(); // by job id; one attempt of a job at a time
  return listen(events, {
    'job:start': ({ job }) => running.set(job.id, started(settings, job)),
    'job:success': ({ job }) => finish(running, job, (run) => run.completed(undefined, 'completed')),
    'job:error': ({ job, error }) => finish(running, job, (run) => run.failed(error, stateAfter(job))),
    'pool:forcefulShutdown': ({ message, workerPool, pool }) => forsake(running, workerPool ?? pool, message),
  });
}

function started(settings, job) {
  const attempt = job.attempts;
  const parent = attempt > 1 ? runIdOf(job.id, attempt - 1) : undefined;
  return new JobRun(settings, job, { runId: runIdOf(job.id, attempt), jobId: String(job.id), attempt, parent }).start();
}

function finish(running, job, end) {
  const run = running.get(job.id);
  running.delete(job.id);
  if (run !== undefined) end(run);
}

function stateAfter(job) {
  return job.attempts >= job.max_attempts ? 'failed' : 'retryable';
}

/** The pool gives its jobs up while they run. What one of them does after all corrects it. */
function forsake(running, pool, message) {
  for (const worker of pool?._workers ?? []) {
    const job = worker.getActiveJob?.();
    const run = job ? running.get(job.id) : undefined;
    run?.event('run_lost', { message: `the worker was shut down: ${message}` });
  }
}

module.exports = { recordEvents, runIdOf };
