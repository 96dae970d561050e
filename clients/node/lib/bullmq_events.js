// The events of a BullMQ queue as runs: the listening half of bullmq.js. Event ids are those of the queue's own stream, so that
// any number of processes may listen. For the thread that listens.
'use strict';

const { JobRun, listen, settingsOf } = require('./adapter.js');
const { Options } = require('./options.js');
const { defaults, identityOf } = require('./bullmq_identity.js');

const kMaxJobs = 100_000;

/**
 * Records the jobs of a QueueEvents object. `options.jobs` is a Queue of the same name, to look up what events do not say: the
 * input, the attempts of jobs that were there before, why an attempt failed that is retried. `options.stalledOnly`: the
 * workers record everything but their own death. What is returned stops it.
 */
function recordQueue(queueEvents, options) {
  const watcher = new Watcher(queueEvents.name, settingsOf(options, defaults), new Options(options));
  return listen(queueEvents, watcher.isSilent ? deathHandlers(watcher) : allHandlers(watcher));
}

function deathHandlers(watcher) {
  return {
    added: (args) => watcher.added(args),
    active: ({ jobId }) => watcher.next(jobId, (job) => watcher.active(job)),
    stalled: (args, id) => watcher.stalled(args, id),
    completed: ({ jobId }) => watcher.next(jobId, () => watcher.forget(jobId)),
    failed: ({ jobId }) => watcher.next(jobId, () => watcher.forget(jobId)),
    removed: ({ jobId }) => watcher.next(jobId, () => watcher.forget(jobId)),
  };
}

function allHandlers(watcher) {
  return {
    ...deathHandlers(watcher),
    active: ({ jobId }, id) => watcher.next(jobId, (job) => watcher.active(job, id)),
    progress: ({ jobId, data }, id) => watcher.next(jobId, (job) => job.run?.event('progress', progressOf(data, id))),
    completed: (args, id) => watcher.next(args.jobId, (job) => watcher.completed(job, args, id)),
    failed: (args, id) => watcher.next(args.jobId, (job) => watcher.failed(job, args, id)),
    waiting: ({ jobId }, id) => watcher.next(jobId, (job) => watcher.wentBack(job, 'waiting', 0, id)),
    delayed: ({ jobId, delay }, id) => watcher.next(jobId, (job) => watcher.wentBack(job, 'delayed', delay - timeOf(id), id)),
    'waiting-children': ({ jobId }, id) => watcher.next(jobId, (job) => watcher.wentBack(job, 'waiting-children', 0, id)),
  };
}

/** What is known of each job. Its events are handled one after the other, since looking it up takes time. */
class Watcher {
  constructor(queueName, settings, options) {
    this.queueName = queueName;
    this.settings = settings;
    this.queue = options.get('jobs');
    this.isSilent = options.get('stalledOnly') === true;
    this.jobs = new Map();
  }

  /** From its beginning on: its starts can be counted. */
  added({ jobId, name }) {
    this.know(jobId, name, true);
  }

  know(jobId, name, isCounted) {
    if (this.jobs.size >= kMaxJobs) this.forget(this.jobs.keys().next().value);
    const job = { id: jobId, name, isCounted, starts: 0, failures: 0, stalls: 0, run: undefined, work: Promise.resolve() };
    this.jobs.set(jobId, job);
    return job;
  }

  forget(jobId) {
    this.jobs.delete(jobId);
  }

  next(jobId, work) {
    const job = this.jobs.get(jobId) ?? this.know(jobId, undefined, false);
    job.work = job.work.then(() => work(job)).catch(() => {});
  }

  async lookUp(job) {
    try {
      return (await this.queue?.getJob(job.id)) ?? undefined;
    } catch {
      return undefined;
    }
  }

  async active(job, id) {
    const found = this.isSilent && job.isCounted ? undefined : await this.lookUp(job);
    const counted = job.starts + 1;
    job.starts = job.isCounted ? counted : Math.max(counted, found?.attemptsStarted ?? 0);
    job.isCounted = true;
    job.failures = job.starts === 1 ? 0 : Math.max(job.failures, found?.attemptsMade ?? 0);
    job.run = this.runOf(job, found);
    if (!this.isSilent) job.run.start(stampOf(id));
  }

  runOf(job, found) {
    const described = found ?? { id: job.id, name: job.name ?? this.queueName };
    return new JobRun(this.settings, described, identityOf(this.queueName, job.id, job.starts));
  }

  /** Its worker is gone, or was busy for so long: it is tried again. The event before says only that it is waiting. */
  stalled({ jobId }, id) {
    const known = this.jobs.get(jobId);
    if (known !== undefined) ++known.stalls;
    this.next(jobId, async (job) => {
      if (known !== undefined) --job.stalls;
      if (job.run === undefined) await this.recall(job);
      job.run?.lost('stalled: its worker did not renew the lock', stampOf(id));
      job.run = undefined;
    });
  }

  /** A job that was active before anybody listened. */
  async recall(job) {
    const found = await this.lookUp(job);
    if (found === undefined) return;
    job.starts = found.attemptsStarted;
    job.isCounted = true;
    job.run = this.runOf(job, found);
  }

  async completed(job, { returnvalue }, id) {
    if (job.run === undefined) await this.recall(job);
    job.run?.completed(returnvalue, 'completed', stampOf(id));
    this.forget(job.id);
  }

  async failed(job, { failedReason }, id) {
    if (job.run === undefined) await this.recall(job);
    const found = await this.lookUp(job);
    job.run?.failed(errorOf(failedReason, found), 'failed', undefined, stampOf(id));
    this.forget(job.id);
  }

  /** An attempt ended, and the job goes on later: it failed, or put itself off. */
  async wentBack(job, state, delayMs, id) {
    if (job.run === undefined) return;
    const found = await this.lookUp(job);
    if (job.stalls > 0) return;
    const hasFailed = this.queue === undefined || (found?.attemptsMade ?? Infinity) > job.failures;
    if (hasFailed) this.failedForNow(job, found, state, id);
    else job.run.completed({ snoozed: Math.max(0, delayMs / 1000) }, state, stampOf(id));
    job.run = undefined;
  }

  failedForNow(job, found, state, id) {
    ++job.failures;
    const reason = found?.failedReason ?? 'failed, and is tried again';
    job.run.failed(errorOf(reason, found), state, undefined, stampOf(id));
  }
}

/** The id of an event in the queue's stream begins with its time, in milliseconds. */
function timeOf(id) {
  return Number(String(id).split('-')[0]);
}

/** When it happened, its id, and that another process than this one worked. */
function stampOf(id) {
  const time = new Date(timeOf(id));
  const at = Number.isNaN(time.getTime()) ? undefined : time.toISOString();
  return { at, id: `bullmq-${id}`, worker_pid: null };
}

/** A percentage, an object with `done`, or anything else. */
function progressOf(data, id) {
  if (typeof data === 'number') return { progress: { done: data, total: 100, unit: '%' }, ...stampOf(id) };
  if (typeof data?.done === 'number') return { progress: data, ...stampOf(id) };
  return { payload: { progress: data }, ...stampOf(id) };
}

/** As an element of `errors`: the class is not known, the stack is where the job is still there. */
function errorOf(message, found) {
  const stack = found?.stacktrace?.at?.(-1);
  if (typeof stack !== 'string') return { name: 'Error', message };
  return { name: /^[A-Za-z_$][\w$]*/.exec(stack)?.[0] ?? 'Error', message, stack };
}

module.exports = { recordQueue };
