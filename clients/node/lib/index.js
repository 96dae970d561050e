// run-recorder: what a program uses. The recorder behind these functions is made at the first use, one for each thread.
'use strict';

const { Recorder } = require('./recorder.js');
const { perform } = require('./run.js');

let shared;

/** The recorder that is used where none is given. */
function recorder() {
  shared ??= new Recorder();
  return shared;
}

/** Runs `work(run)` as a run of that name: a promise of what it returns, or of what it throws. */
async function run(name, work, options) {
  return perform(options?.recorder ?? recorder(), name, work, options);
}

/** The function, each call of it a run of that name; it takes and returns what it did before. */
function recorded(name, work, options) {
  return function (...args) {
    return perform(options?.recorder ?? recorder(), name, () => work.apply(this, args), options);
  };
}

function event(runId, type, fields) {
  recorder().event(runId, type, fields);
}

function flush(timeout) {
  return recorder().flush(timeout);
}

function stats() {
  return recorder().stats();
}

/** Ends the shared recorder; the next use makes a new one. */
function close(timeout) {
  const ending = shared;
  shared = undefined;
  return ending === undefined ? Promise.resolve() : ending.close(timeout);
}

module.exports = { Recorder, close, event, flush, recorded, recorder, run, stats };
