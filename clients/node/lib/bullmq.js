// BullMQ: each attempt of a job as a run. `recorded` goes around a worker's processor and knows everything; `recordQueue`
// listens to the queue's events from any process, and hears of jobs whose worker died. For the thread that they are used in.
'use strict';

const { JobRun, attempted, settingsOf } = require('./adapter.js');
const { recordQueue } = require('./bullmq_events.js');
const { defaults, identityOf, runIdOf } = require('./bullmq_identity.js');

// What a processor throws to say that the job goes on later: no failure, and no attempt is used up.
const kPutOff = { DelayedError: 'delayed', WaitingError: 'waiting', WaitingChildrenError: 'waiting-children',
  RateLimitError: 'waiting' };
const kRateLimit = 'bullmq:rateLimitExceeded';

/** A processor that does what `processor` does: `new Worker("q", recorded(processor))`. */
function recorded(processor, options) {
  const settings = settingsOf(options, defaults);
  const wrapper = async function (job, ...rest) {
    const run = attempted(() => started(settings, job), undefined);
    try {
      const result = await processor.call(this, job, ...rest);
      run?.completed(result, 'completed');
      return result;
    } catch (error) {
      attempted(() => threw(run, job, error), undefined);
      throw error;
    }
  };
  // BullMQ gives a processor an AbortSignal where it has three parameters.
  return Object.defineProperty(wrapper, 'length', { value: processor.length });
}

function started(settings, job) {
  return new JobRun(settings, job, identityOf(job.queueName, job.id, job.attemptsStarted)).start();
}

function threw(run, job, error) {
  const state = kPutOff[error?.name] ?? (error?.message === kRateLimit ? 'waiting' : undefined);
  if (state === undefined) run.failed(error, stateAfter(job, error));
  else run.completed({ snoozed: state === 'delayed' && Number.isFinite(job.delay) ? job.delay / 1000 : 0 }, state);
}

/** What the job becomes when this attempt fails. */
function stateAfter(job, error) {
  const attempts = job.opts?.attempts ?? 1;
  if (error?.name === 'UnrecoverableError' || job.discarded === true || job.attemptsMade + 1 >= attempts) return 'failed';
  return job.opts?.backoff ? 'delayed' : 'waiting';
}

module.exports = { recordQueue, recorded, runIdOf };
