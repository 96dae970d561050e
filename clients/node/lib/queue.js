// Events in their order, in two lines of one: lifecycle events and details, so that either can be taken or dropped first.
// For one thread.
'use strict';

const kCompactAbove = 1024;

/** First in, first out, without the cost of Array.prototype.shift. */
class Fifo {
  constructor() {
    this.items = [];
    this.head = 0;
  }

  get length() {
    return this.items.length - this.head;
  }

  peek() {
    return this.items[this.head];
  }

  push(item) {
    this.items.push(item);
  }

  shift() {
    const item = this.items[this.head];
    this.items[this.head++] = undefined;
    if (this.head > kCompactAbove && this.head * 2 > this.items.length) this.compact();
    return item;
  }

  /** Back to where they were: `entries` are in order, as the items are. */
  putBack(entries) {
    this.compact();
    this.items = this.items.concat(entries).sort((a, b) => a.seq - b.seq);
  }

  compact() {
    this.items = this.items.slice(this.head);
    this.head = 0;
  }
}

/** Entries are {seq, line, bytes, lifecycle, …}; seq says their order. */
class EventQueue {
  constructor() {
    this.lifecycle = new Fifo();
    this.details = new Fifo();
  }

  get length() {
    return this.lifecycle.length + this.details.length;
  }

  push(entry) {
    (entry.lifecycle ? this.lifecycle : this.details).push(entry);
  }

  /** The oldest one; undefined where there is none. */
  peek() {
    const lifecycle = this.lifecycle.peek();
    const detail = this.details.peek();
    if (lifecycle === undefined || detail === undefined) return lifecycle ?? detail;
    return lifecycle.seq < detail.seq ? lifecycle : detail;
  }

  /** Takes the one that peek, lifecycle.peek or details.peek has shown. */
  take(entry) {
    return (entry.lifecycle ? this.lifecycle : this.details).shift();
  }

  /** Entries that were taken and are not settled. */
  putBack(entries) {
    this.lifecycle.putBack(entries.filter((entry) => entry.lifecycle));
    this.details.putBack(entries.filter((entry) => !entry.lifecycle));
  }

  /** All of them, in order; none is left. */
  drain() {
    const all = [];
    for (let entry = this.peek(); entry !== undefined; entry = this.peek()) all.push(this.take(entry));
    return all;
  }
}

module.exports = { EventQueue };
