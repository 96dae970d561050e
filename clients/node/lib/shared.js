// The recorder that is used where none is given, made at the first use: one for each thread.
'use strict';

const { Options, attempted } = require('./options.js');
const { Recorder } = require('./recorder.js');

let shared; // after its end too, until there is another one

/** It, or a new one where it was closed. */
function recorder() {
  if (shared === undefined || shared.closing !== undefined) shared = new Recorder();
  return shared;
}

/** It, closed as it may be: to look at. */
function latest() {
  return shared ?? recorder();
}

/** The recorder of these options, else the shared one. */
function recorderOf(options) {
  const given = new Options(options);
  const own = given.get('recorder');
  if (isRecorder(own)) return own;
  const instead = recorder();
  instead.words?.options(given.unreadable, 'cannot be read');
  if (own !== undefined && own !== null) instead.words?.options(['recorder'], 'is no recorder');
  return instead;
}

function isRecorder(value) {
  return attempted(() => typeof value?.event === 'function' && typeof value.hand === 'function', false);
}

/** Ends it; the next event makes a new one. */
function close(timeout) {
  return shared === undefined ? Promise.resolve() : shared.close(timeout);
}

module.exports = { close, latest, recorder, recorderOf };
