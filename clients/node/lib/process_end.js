// What happens where this process (or worker thread) ends. When nothing is left to do ('beforeExit') recorders flush for
// a bounded time; at its very end ('exit': after that, after process.exit and after an uncaught exception) they write what
// is not settled to a file, synchronously. A signal that nobody handles, SIGKILL and worker.terminate() leave no time for
// either.
'use strict';

const recorders = new Set();
const kMaxRounds = 3; // where others go on to record in 'beforeExit', for ever as it may be
let isListening = false;
let rounds = 0;
let isOver = false;

/** The recorder is ended with the process; until then it is not collected. */
function atEnd(recorder) {
  recorders.add(recorder);
  if (isListening) return;
  isListening = true;
  process.on('beforeExit', flushAll);
  process.on('exit', endAll);
}

function forgetAtEnd(recorder) {
  recorders.delete(recorder);
}

function flushAll() {
  if (rounds >= kMaxRounds) return;
  let flushes = false;
  for (const recorder of recorders) {
    // Where the daemon reads nothing, the write that waited for it has taken that time already.
    if (recorder.stats().waiting === 0 || recorder.sender.readsNothing) continue;
    flushes = true;
    recorder.flush().then((settled) => { if (!settled) rounds = kMaxRounds; });
  }
  if (flushes) ++rounds;
}

function endAll() {
  isOver = true;
  for (const recorder of recorders) recorder.end();
}

/** Nothing that begins now would have an end. */
function hasEnded() {
  return isOver;
}

module.exports = { atEnd, forgetAtEnd, hasEnded };
