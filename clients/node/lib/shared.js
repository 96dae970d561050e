// The recorder that is used where none is given, made at the first use: one for each thread.
'use strict';

const { Options, attempted } = require('./options.js');
const { hasEnded } = require('./process_end.js');
const { Recorder } = require('./recorder.js');

let shared; // after its end too, until there is another one
const everShared = new WeakSet();

/** It, or a new one where it is closed. Until all that came while it closes is settled it is the same one: events keep their order. */
function recorder() {
  if (shared === undefined || (shared.closed && !hasEnded())) {
    shared = new Recorder();
    everShared.add(shared);
  }
  return shared;
}

/** It, closed as it may be: to look at. */
function latest() {
  return shared ?? recorder();
}

/**
 * A function that says which recorder takes an event: the one of these options, else whatever the shared one is then, so that work
 * which goes on after `close` has its end recorded.
 */
function recorderOf(options) {
  const given = new Options(options);
  const own = given.get('recorder');
  if (everShared.has(own)) return recorder;
  if (isRecorder(own)) return () => own;
  const { words } = recorder();
  words?.options(given.unreadable, 'cannot be read');
  if (own !== undefined && own !== null) words?.options(['recorder'], 'is no recorder');
  return recorder;
}

function isRecorder(value) {
  return attempted(() => typeof value?.event === 'function' && typeof value.hand === 'function', false);
}

/** Ends it; the next event after that makes a new one. */
function close(timeout) {
  return shared === undefined ? Promise.resolve() : shared.close(timeout);
}

module.exports = { close, latest, recorder, recorderOf };
