// What the client says, in the log that it was given: once when something begins and once when it is over, never once an
// event. Never raises, whatever the log does. For one thread.
'use strict';

const { getSystemErrorMap } = require('node:util');

const kRefusalPauseMs = 60_000;

class Words {
  constructor(log, path) {
    this.log = log;
    this.path = path;
    this.trouble = undefined; // what is the matter with the daemon, in one word
    this.oddOptions = new Set(); // that were said
    this.closedIsSaid = false;
    this.refusals = { saidAt: -Infinity, unsaid: 0 };
  }

  say(message) {
    try {
      const result = this.log(`run-recorder: ${message}`);
      if (typeof result?.then === 'function') result.then(undefined, () => {});
    } catch {
      // A log that is broken is no reason to harm the work.
    }
  }

  /** `names` of options, and what is the matter with them: once. */
  options(names, what) {
    const message = `option ${names.join(', ')} ${what}: as if not given`;
    if (names.length === 0 || this.oddOptions.has(message)) return;
    this.oddOptions.add(message);
    this.say(message);
  }

  begin(trouble, message) {
    if (this.trouble === trouble) return;
    this.trouble = trouble;
    this.say(message);
  }

  away(error) {
    const wasRejected = this.trouble === 'forbidden' || this.trouble === 'crowded';
    if (wasRejected && error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT') return;
    this.begin('away', `the daemon is away (${this.path}: ${reasonOf(error)}); events are kept in memory`);
  }

  forbidden(message) {
    this.begin('forbidden', `the daemon refuses this user (forbidden: ${message}); events are kept in memory`);
  }

  crowded(message) {
    this.begin('crowded', `the daemon takes no more connections (${message}); events are kept in memory`);
  }

  cannotTake(code, message) {
    this.begin(code, `the daemon takes no events now (${code}: ${message}); they are kept in memory`);
  }

  /** Events are acknowledged again. */
  over() {
    if (this.trouble === undefined) return;
    this.trouble = undefined;
    this.say('the daemon takes events again');
  }

  refused({ code, message }) {
    const now = Date.now();
    if (now - this.refusals.saidAt < kRefusalPauseMs) {
      ++this.refusals.unsaid;
      return;
    }
    const more = this.refusals.unsaid > 0 ? `; ${this.refusals.unsaid} others before it` : '';
    this.refusals = { saidAt: now, unsaid: 0 };
    this.say(`the daemon refused an event for good (${code}: ${message})${more}`);
  }

  bufferFull(bytes) {
    this.say(`the buffer of ${bytes} bytes is full; the oldest details go first`);
  }

  bufferHasRoom(dropped) {
    this.say(`the buffer has room again; ${dropped} events were dropped`);
  }

  bufferEnds(dropped) {
    this.say(`${dropped} events were dropped, since the buffer was full`);
  }

  closed() {
    if (this.closedIsSaid) return;
    this.closedIsSaid = true;
    this.say('the recorder is closed; events are dropped');
  }

  kept(count, file) {
    this.say(`${count} events could not be sent; they are kept in ${file}, and the next client sends them`);
  }

  notKept(count, reason) {
    this.say(`${count} events could not be sent nor kept, and are lost (${reason})`);
  }
}

function reasonOf(error) {
  const known = typeof error.errno === 'number' ? getSystemErrorMap().get(error.errno) : undefined;
  return known?.[1] ?? error.message;
}

module.exports = { Words };
