// pg-boss: each attempt of a job as a run, by a handler around yours: `boss.work(queue, recorded(handler))`. For the process
// (and thread) that works.
'use strict';

const { newRunId } = require('./clock.js');
const { JobRun, attempted, settingsOf } = require('./adapter.js');

const kMaxTimerMs = 2 ** 31 - 1;

/** The same everywhere for one attempt of a job. */
function runIdOf(queueName, jobId, attempt) {
  return `pg-boss:${queueName}:${jobId}:${attempt}`;
}

/**
 * A handler that does what `handler` does, for one job (version 9) or an array of them. Version 12 says the attempt of each
 * job, earlier ones do with `includeMetadata: true`; without it a run has a new id and no attempt.
 */
function recorded(handler, options) {
  const settings = settingsOf(options, { council: (job) => job.name, input: (job) => job.data });
  return async function (given, ...rest) {
    const jobs = attempted(() => (Array.isArray(given) ? given : [given]), []);
    const runs = jobs.map((job) => attempted(() => started(settings, job), undefined)).filter((run) => run !== undefined);
    const watch = attempted(() => watchEnd(runs), () => {});
    try {
      const result = await handler.call(this, given, ...rest);
      attempted(() => returned(runs, result), undefined);
      return result;
    } catch (error) {
      attempted(() => runs.forEach((run) => run.failed(error, stateAfter(run.job))), undefined);
      throw error;
    } finally {
      watch();
    }
  };
}

function started(settings, job) {
  const count = job.retryCount ?? job.retrycount;
  const attempt = Number.isInteger(count) ? count + 1 : undefined;
  const runId = attempt === undefined ? newRunId() : runIdOf(job.name, job.id, attempt);
  const parent = attempt > 1 ? runIdOf(job.name, job.id, attempt - 1) : undefined;
  return new JobRun(settings, job, { runId, jobId: String(job.id), attempt, parent }).start();
}

function returned(runs, result) {
  if (isPerJob(runs, result)) return returnedPerJob(runs, new Map(result.map((one) => [one.id, one])));
  for (const run of runs) run.completed(runs.length === 1 ? result : undefined, 'completed');
}

function returnedPerJob(runs, results) {
  for (const run of runs) {
    const { status, output } = results.get(run.job.id) ?? {};
    if (status === 'completed') run.completed(output, 'completed');
    else run.failed(output ?? 'no disposition returned by handler', status === 'deadletter' ? 'failed' : stateAfter(run.job));
  }
}

/** What a handler of `perJobResults: true` returns: [{id, status, output}]. */
function isPerJob(runs, result) {
  if (!Array.isArray(result) || result.length === 0) return false;
  const ids = new Set(runs.map((run) => run.job.id));
  return result.every((one) => ids.has(one?.id) && ['completed', 'failed', 'deadletter'].includes(one.status));
}

/** What it becomes when it fails; unknown without the metadata. */
function stateAfter(job) {
  const limit = job.retryLimit ?? job.retrylimit;
  const count = job.retryCount ?? job.retrycount;
  if (!Number.isInteger(limit) || !Number.isInteger(count)) return undefined;
  return count < limit ? 'retry' : 'failed';
}

/**
 * pg-boss fails jobs whose handler takes longer than `expireInSeconds`, or goes on when it is stopped, and does not ask for its
 * outcome any more: then the run has ended. What is returned stops watching.
 */
function watchEnd(runs) {
  const limits = runs.map((run) => Number(run.job.expireInSeconds)).filter((limit) => limit > 0); // version 10 has texts
  const seconds = Math.max(1, ...limits);
  const expired = () => endAll(runs, `handler execution exceeded ${seconds}s`, 'timeout');
  const timer = limits.length > 0 ? setTimeout(expired, Math.min(seconds * 1000, kMaxTimerMs)).unref() : undefined;
  const signal = runs[0]?.job.signal;
  const stopped = () => endAll(runs, 'pg-boss was stopped while the handler was running', 'shutdown');
  signal?.addEventListener('abort', stopped);
  return () => {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stopped);
  };
}

function endAll(runs, message, kind) {
  for (const run of runs) run.failed({ message }, stateAfter(run.job), kind);
}

module.exports = { recorded, runIdOf };
