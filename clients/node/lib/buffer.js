// The events that are not settled, within a number of bytes: the oldest details are dropped first, then the oldest lifecycle
// events. What is on its way to the daemon is not dropped, and is a small part of it. For one thread.
'use strict';

const { EventQueue } = require('./queue.js');

/** What an entry takes besides its text: the object, its place in the queue and the text's header, measured on V8. */
const kEntryOverhead = 160;

class EventBuffer {
  /** `words` is told when it is full, and when it has room again or ends so. */
  constructor(maxBytes, counts, words) {
    this.queue = new EventQueue();
    this.maxBytes = maxBytes;
    this.bytes = 0;
    this.counts = counts;
    this.words = words;
    this.droppedSinceFull = 0;
  }

  push(entry) {
    entry.memory = memoryOf(entry);
    this.bytes += entry.memory;
    this.queue.push(entry);
    while (this.bytes > this.maxBytes && this.dropOldest());
  }

  /** It is settled, or goes elsewhere. */
  release(entry) {
    this.bytes -= entry.memory;
    if (this.droppedSinceFull > 0 && this.bytes * 2 < this.maxBytes) this.sayRoom();
  }

  /** Its line is another one now. */
  changed(entry) {
    this.bytes -= entry.memory;
    entry.memory = memoryOf(entry);
    this.bytes += entry.memory;
  }

  dropOldest() {
    const oldest = this.queue.details.peek() ?? this.queue.lifecycle.peek();
    if (oldest === undefined) return false;
    this.queue.take(oldest);
    this.bytes -= oldest.memory;
    ++this.counts.dropped;
    if (++this.droppedSinceFull === 1) this.words.bufferFull(this.maxBytes);
    return true;
  }

  /** It is not used any more. */
  end() {
    if (this.droppedSinceFull > 0) this.words.bufferEnds(this.droppedSinceFull);
    this.droppedSinceFull = 0;
  }

  sayRoom() {
    this.words.bufferHasRoom(this.droppedSinceFull);
    this.droppedSinceFull = 0;
  }
}

/** V8 keeps a text of Latin-1 in one byte a character, any other in two. */
function memoryOf({ line, bytes }) {
  return kEntryOverhead + (bytes === line.length ? bytes : Math.max(bytes, line.length * 2));
}

module.exports = { EventBuffer };
