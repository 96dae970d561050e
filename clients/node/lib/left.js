// What earlier clients left in files, as entries for the sender: read a piece at a time, sent before the buffer. For the
// event loop's thread.
'use strict';

const { isLifecycle } = require('./event.js');
const { EventQueue } = require('./queue.js');
const { TimeLimit } = require('./time_limit.js');

const kScanMs = 1_000;

class Left {
  /** `ready` is called when there is something to take, or nothing any more. */
  constructor(unsent, counts, ready) {
    this.unsent = unsent;
    this.counts = counts;
    this.ready = ready;
    this.queue = new EventQueue();
    this.files = [];
    this.reading = false;
    this.sequence = -Number.MAX_SAFE_INTEGER; // before anything of the buffer
  }

  /** Something may still come: the buffer has to wait. */
  get isPending() {
    return this.reading || this.files.length > 0 || this.queue.length > 0;
  }

  /** Looks for files, where all that it knew of are through. */
  async scan() {
    if (this.isPending) return;
    this.reading = true;
    let limit;
    const late = new Promise((resolve) => { limit = new TimeLimit(kScanMs, () => resolve([])); });
    this.files = await Promise.race([this.unsent.files(), late]);
    limit.cancel();
    this.reading = false;
    this.readMore();
  }

  /** Reads the next piece where nothing of the one before is left to be taken. */
  async readMore() {
    if (this.reading || this.queue.length > 0) return;
    this.reading = true;
    while (this.files.length > 0 && this.queue.length === 0) {
      const [file] = this.files;
      const lines = await file.read();
      if (lines.length === 0) this.files.shift();
      for (const line of lines) this.add(line, file);
    }
    this.reading = false;
    this.ready();
  }

  add(line, file) {
    ++this.counts.emitted;
    const type = /"type":\s*"([a-z0-9_.]+)"/.exec(line.slice(0, 500))?.[1];
    const bytes = Buffer.byteLength(line);
    this.queue.push({ seq: this.sequence++, line, bytes, lifecycle: isLifecycle(type), reduced: false, file });
  }

  /** The files stay; of what was taken from them `entries` are not settled. */
  abandon() {
    for (const file of this.files) file.abandon();
    this.files = [];
    return this.queue.drain();
  }
}

module.exports = { Left };
