// Time limits that a busy event loop does not use up. For one thread.
'use strict';

const kSlices = 8;

/**
 * Calls `work` after `ms` milliseconds, in slices: however late the timer of one is called, since the program kept the event
 * loop busy, it counts as one slice, and what has come meanwhile is read before the next one counts. After the last slice
 * the event loop has one more turn.
 */
class TimeLimit {
  constructor(ms, work, { keepsAlive = false } = {}) {
    this.sliceMs = ms / kSlices;
    this.left = kSlices;
    this.work = work;
    this.keepsAlive = keepsAlive;
    this.next();
  }

  next() {
    this.timer = this.alive(this.left > 0 ? setTimeout(() => this.next(), this.sliceMs) : undefined);
    if (this.left-- === 0) this.last = this.alive(setImmediate(this.work));
  }

  alive(handle) {
    if (!this.keepsAlive) handle?.unref();
    return handle;
  }

  cancel() {
    clearTimeout(this.timer);
    clearImmediate(this.last);
  }
}

module.exports = { TimeLimit };
