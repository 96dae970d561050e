// run-recorder: what a program uses.
'use strict';

const { Recorder } = require('./recorder.js');
const { perform } = require('./run.js');
const { close, latest, recorder, recorderOf } = require('./shared.js');

/** Runs `work(run)` as a run of that name: a promise of what it returns, or of what it throws. */
async function run(name, work, options) {
  return perform(recorderOf(options), name, work, options);
}

/** The function, each call of it a run of that name; it takes and returns what it did before. */
function recorded(name, work, options) {
  return function (...args) {
    return perform(recorderOf(options), name, () => work.apply(this, args), options);
  };
}

function event(runId, type, fields) {
  recorder().event(runId, type, fields);
}

function flush(timeout) {
  return latest().flush(timeout);
}

function stats() {
  return latest().stats();
}

module.exports = { Recorder, close, event, flush, recorded, recorder, run, stats };
