// Runs: the start, the work, and the end by its outcome. What the work returns or throws comes out as it was. For the
// thread of the recorder.
'use strict';

const { newRunId } = require('./clock.js');
const { describeError } = require('./errors.js');
const { Options, attempted } = require('./options.js');
const { disown, isObject, read } = require('./reading.js');

const kStartFields = { input: 'input', attempt: 'attempt', parent: 'parent_attempt_run_id', queue: 'queue', jobId: 'job_id',
  obanJobId: 'oban_job_id', expiresIn: 'expires_in' };

/** What the work is given: the run that it is. None of its methods raises or waits. */
class Run {
  /** `recorder` says which one takes an event, each time. */
  constructor(recorder, id) {
    this.recorder = recorder;
    this.id = id;
    this.result = undefined;
  }

  /** How far it is. */
  progress(done, total, unit) {
    record(this, 'progress', { progress: { done, total, unit } });
  }

  /** Numbers to add to what the run has used, by key: {input_tokens: 1200}. */
  usage(numbers) {
    record(this, 'usage', { usage: numbers });
  }

  /** Anything that happened in it; the payload is any value. */
  event(type, payload) {
    record(this, type, payload === undefined ? {} : { payload });
  }

  /** It is alive: renews `expiresIn`, with a new value where one is given. */
  heartbeat(expiresIn) {
    record(this, 'run_heartbeat', { expires_in: expiresIn });
  }
}

/** The recorder may be any object that was given as one. */
function record(run, type, fields) {
  attempted(() => disown(run.recorder().event(run.id, type, fields)), undefined);
}

/**
 * Runs `work(run)` as a run of that name; each of its events goes to what `recorder()` is then. Returns what it returns, or a
 * promise of it where that is a promise; throws what it throws.
 */
function perform(recorder, name, work, given) {
  const options = new Options(given);
  const run = begin(recorder, name, options);
  let value;
  try {
    value = work(run);
  } catch (error) {
    failed(run, error, options);
    throw error;
  }
  if (!isThenable(value)) return completed(run, value);
  return value.then(
    (result) => completed(run, result),
    (error) => {
      failed(run, error, options);
      throw error;
    },
  );
}

function begin(recorder, name, options) {
  const run = new Run(recorder, options.get('runId') ?? newRunId());
  const fields = { council: name };
  for (const [option, field] of Object.entries(kStartFields)) {
    const value = options.get(option);
    if (value !== undefined) fields[field] = value;
  }
  attempted(() => recorder().words?.options(options.unreadable, 'cannot be read'), undefined);
  record(run, 'run_started', fields);
  attempted(() => disown(recorder().hand()), undefined);
  return run;
}

function completed(run, value) {
  const result = run.result === undefined ? value : run.result;
  record(run, 'run_completed', result === undefined ? {} : { result });
  return value;
}

function failed(run, error, options) {
  const fields = { errors: [describeError(error, isCancelled(error, options.get('signal')) ? 'cancelled' : undefined)] };
  if (run.result !== undefined) fields.result = run.result;
  record(run, 'run_failed', fields);
}

/** An AbortError, or the very reason of the signal that was given; a time limit (TimeoutError) is a failure. */
function isCancelled(error, signal) {
  const name = isObject(error) ? read(error, 'name') : undefined;
  if (name === 'AbortError') return true;
  return isObject(signal) && read(signal, 'aborted') === true && error === read(signal, 'reason') && name !== 'TimeoutError';
}

function isThenable(value) {
  return isObject(value) && typeof read(value, 'then') === 'function';
}

module.exports = { isCancelled, perform };
