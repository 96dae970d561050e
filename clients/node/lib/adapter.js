// What the adapters share: how a job of a queue becomes a run. Nothing here raises into the framework. For the thread that
// runs the jobs.
'use strict';

const { describeError } = require('./errors.js');
const { Options, attempted } = require('./options.js');
const { disown } = require('./reading.js');
const { isCancelled } = require('./run.js');
const { recorderOf } = require('./shared.js');

/**
 * The options that every adapter takes: `recorder`, `queue` (the queue's name in the daemon's configuration), and
 * `council(job)`, `input(job)`, which say what a run is called and was given, instead of what `defaults` say.
 */
function settingsOf(options, defaults) {
  return {
    recorder: () => recorderOf(options)(),
    queue: new Options(options).get('queue'),
    council: (job) => attempted(() => disown((options?.council ?? defaults.council)(job)), 'unknown'),
    input: (job) => attempted(() => disown((options?.input ?? defaults.input)(job)), undefined),
  };
}

/** The run of one attempt of a job: {runId, jobId, attempt, parent}. */
class JobRun {
  constructor(settings, job, identity) {
    this.settings = settings;
    this.job = job;
    this.id = identity.runId;
    this.identity = identity;
    this.isOver = false;
  }

  start(more) {
    const { jobId, attempt, parent } = this.identity;
    this.event('run_started', {
      council: this.settings.council(this.job), queue: this.settings.queue, job_id: jobId, attempt, parent_attempt_run_id: parent,
      input: this.settings.input(this.job), ...more,
    });
    attempted(() => disown(this.settings.recorder().hand()), undefined);
    return this;
  }

  event(type, fields) {
    attempted(() => disown(this.settings.recorder().event(this.id, type, fields)), undefined);
  }

  completed(result, state, more) {
    this.end('run_completed', { result, job_state: state, ...more });
  }

  /** `error` is what was thrown; `kind` where it is something else than its class. */
  failed(error, state, kind, more) {
    const said = kind ?? (isCancelled(error) ? 'cancelled' : undefined);
    this.end('run_failed', { errors: [describeError(error, said)], job_state: state, ...more });
  }

  lost(message, more) {
    this.end('run_lost', { message, ...more });
  }

  end(type, fields) {
    if (this.isOver) return;
    this.isOver = true;
    this.event(type, fields);
  }
}

/** Adds the handlers to an event emitter, so that none of them raises into it; what is returned removes them. */
function listen(emitter, handlers) {
  const safe = Object.entries(handlers).map(([name, handler]) => [name, (...args) => attempted(() => handler(...args), undefined)]);
  for (const [name, handler] of safe) emitter.on(name, handler);
  return () => {
    for (const [name, handler] of safe) emitter.off(name, handler);
  };
}

module.exports = { JobRun, attempted, listen, settingsOf };
