// Sends what is left from earlier and then the buffer, in order, until it is acknowledged: connects and connects again,
// keeps what is on its way within a window, and decides what each answer means. Everything runs on the event loop of the
// thread that made it, and nothing here keeps the process alive but while `keepsAlive` says so.
'use strict';

const { Connection, later, readsNothing } = require('./connection.js');
const { reduceLine } = require('./event.js');
const { Left } = require('./left.js');
const { TimeLimit } = require('./time_limit.js');

const kMaxLines = 4096;
// What a UNIX socket takes while nobody reads is about 208 KiB, a kilobyte of it for each write. Staying below it means that
// no write waits, which would keep the process alive for as long as the daemon hangs.
const kWindowBytes = 128 << 10;
const kWriteOverhead = 1280;
const kAnswerMs = 30_000;
const kFirstPauseMs = 100;
const kMaxPauseMs = 5_000;
const kMaxPauseForbiddenMs = 30_000;
const kLater = new Set(['spool_full', 'unavailable']);

class Sender {
  /** `settled` is called when something was. */
  constructor({ path, buffer, unsent, counts, words, stallMs, maxEventBytes, settled }) {
    Object.assign(this, { path, buffer, counts, words, stallMs, maxEventBytes, settled });
    this.left = new Left(unsent, counts, () => this.leftChanged());
    this.window = Math.min(kWindowBytes, buffer.maxBytes / 4);
    this.pauseMs = 0;
    this.maxPauseMs = kMaxPauseMs;
    this.answers = 0;
    this.readsNothing = false; // the last connection ended so
    this.stopped = false;
    this.returned = []; // answered, and to be sent again
    this.resting = false; // between a refusal for now and the next try
    this.full = false; // details have no room: lifecycle events first
    this.reset();
    this.connect();
  }

  // ---- the connection

  reset() {
    this.connection = undefined;
    this.isOpen = false;
    this.sent = []; // on this connection, not settled; the first has the line number `settledLines` + 1
    this.settledLines = 0;
    this.sentBytes = 0;
    this.detailOnItsWay = false;
  }

  connect() {
    clearTimeout(this.retry);
    this.retry = undefined;
    if (this.stopped) return;
    try {
      this.connection = new Connection(this.path, { stallMs: this.stallMs }, {
        open: () => this.opened(),
        answer: (answer) => this.answered(answer),
        room: () => this.pump(),
        end: (error) => this.ended(error),
      });
      this.connection.keepsAlive(this.isKeptAlive === true);
    } catch (error) {
      this.ended(error);
    }
  }

  opened() {
    this.isOpen = true;
    this.left.scan().then(() => this.leftChanged());
  }

  /** There is more of it to take, or nothing any more: then the buffer's turn comes. */
  leftChanged() {
    this.pump();
    this.settled();
  }

  ended(error) {
    const open = [...this.returned, ...this.sent];
    for (const entry of open) entry.refusal = undefined;
    this.returned = [];
    this.putBack(open);
    this.answerLimit?.cancel();
    this.answerLimit = undefined;
    this.stopResting();
    this.reset();
    if (this.stopped) return;
    this.readsNothing = error === readsNothing;
    this.words.away(error);
    this.retry = later(this.nextPause(), () => this.connect());
    this.settled();
  }

  nextPause() {
    this.pauseMs = Math.min(Math.max(this.pauseMs * 2, kFirstPauseMs), this.maxPauseMs);
    return this.pauseMs;
  }

  /** Somebody waits: a pause is over now. */
  hurry() {
    if (this.retry !== undefined) this.connect();
    else this.pump();
  }

  keepsAlive(yes) {
    this.isKeptAlive = yes;
    this.connection?.keepsAlive(yes);
  }

  /** Ends, and returns the entries that are not settled, in order. */
  stop() {
    this.stopped = true;
    clearTimeout(this.retry);
    clearImmediate(this.scheduled);
    this.connection?.finish(new Error('closed'));
    const own = this.buffer.queue.drain();
    return [...this.left.abandon(), ...own];
  }

  // ---- sending

  /** Soon, and together with what comes until then. */
  wake() {
    if (this.scheduled !== undefined || !this.isOpen) return;
    this.scheduled = setImmediate(() => {
      this.scheduled = undefined;
      this.pump();
    });
    this.scheduled.unref();
  }

  /** Now, as much as the window takes. */
  pump() {
    if (!this.isOpen || this.resting || this.connection.blocked) return;
    let lines = '';
    for (let entry = this.next(); entry !== undefined && this.hasRoom(entry); entry = this.next()) {
      this.take(entry);
      if (lines === '') entry.cost += kWriteOverhead;
      this.sentBytes += entry.cost;
      lines += `${entry.line}\n`;
    }
    if (lines !== '') this.write(lines);
    if (this.left.isPending) this.left.readMore();
  }

  write(lines) {
    this.watchAnswers();
    this.connection.write(lines);
  }

  /** The entry whose turn it is; undefined: nothing may be sent now. */
  next() {
    if (this.full) return this.nextWhileFull();
    return this.left.isPending ? this.left.queue.peek() : this.buffer.queue.peek();
  }

  /** Lifecycle events, and one detail to see whether there is room. */
  nextWhileFull() {
    const lifecycle = this.left.queue.lifecycle.peek() ?? this.buffer.queue.lifecycle.peek();
    if (lifecycle !== undefined || this.detailOnItsWay) return lifecycle;
    return this.left.isPending ? this.left.queue.details.peek() : this.buffer.queue.details.peek();
  }

  hasRoom(entry) {
    if (this.sent.length === 0) return true;
    return this.sent.length < kMaxLines && this.sentBytes + entry.bytes + kWriteOverhead <= this.window;
  }

  take(entry) {
    this.queueOf(entry).take(entry);
    entry.cost = entry.bytes + 1;
    entry.refusal = undefined;
    if (!entry.lifecycle) this.detailOnItsWay = true;
    this.sent.push(entry);
  }

  queueOf(entry) {
    return entry.file === undefined ? this.buffer.queue : this.left.queue;
  }

  putBack(entries) {
    if (entries.length === 0) return;
    this.left.queue.putBack(entries.filter((entry) => entry.file !== undefined));
    this.buffer.queue.putBack(entries.filter((entry) => entry.file === undefined));
  }

  // ---- answers

  watchAnswers() {
    if (this.answerLimit !== undefined) return;
    this.answersSeen = this.answers;
    this.answerLimit = new TimeLimit(kAnswerMs, () => this.checkAnswers());
  }

  checkAnswers() {
    this.answerLimit = undefined;
    if (this.sent.length === 0) return;
    if (this.answers === this.answersSeen) this.connection.fail('no answer for 30 s');
    else this.watchAnswers();
  }

  answered({ acked, error }) {
    ++this.answers;
    this.readsNothing = false;
    if (Number.isSafeInteger(acked)) this.acknowledged(acked);
    else if (error?.line === 0) this.rejected(error);
    else if (typeof error === 'object' && error !== null) this.refused(error);
  }

  /** The connection is refused as a whole; the daemon ends it. */
  rejected({ code, message }) {
    if (code === 'forbidden') this.words.forbidden(message);
    else this.words.crowded(message);
    this.maxPauseMs = code === 'forbidden' ? kMaxPauseForbiddenMs : kMaxPauseMs;
    this.connection.fail(String(code));
  }

  refused(error) {
    const entry = this.sent[error.line - this.settledLines - 1];
    if (entry !== undefined) entry.refusal = error;
  }

  acknowledged(line) {
    const settled = this.sent.splice(0, Math.max(0, line - this.settledLines));
    this.settledLines += settled.length;
    for (const entry of settled) {
      this.sentBytes -= entry.cost;
      this.settle(entry);
    }
    if (this.sent.length === 0) this.detailOnItsWay = false;
    this.afterSettling();
  }

  settle(entry) {
    const { refusal } = entry;
    if (refusal === undefined) this.taken(entry);
    else if (kLater.has(refusal.code)) this.postpone(entry);
    else if (entry.reduced || !this.reduce(entry)) this.lose(entry);
  }

  taken(entry) {
    ++this.counts.acknowledged;
    this.forget(entry);
    if (!entry.lifecycle && !this.resting) this.full = false;
    if (this.resting || this.full) return;
    this.pauseMs = 0;
    this.maxPauseMs = kMaxPauseMs;
    this.words.over();
  }

  postpone(entry) {
    this.words.cannotTake(entry.refusal.code, entry.refusal.message);
    this.returned.push(entry);
    this.full = this.full || entry.refusal.code === 'spool_full';
    if (this.resting) return;
    this.resting = true;
    this.restTimer = later(this.nextPause(), () => this.tryAgain());
  }

  reduce(entry) {
    const line = reduceLine(entry.line, this.maxEventBytes);
    if (line === undefined) return false;
    entry.line = line;
    entry.bytes = Buffer.byteLength(line);
    entry.reduced = true;
    ++this.counts.truncated;
    if (entry.file === undefined) this.buffer.changed(entry);
    this.returned.push(entry);
    return true;
  }

  lose(entry) {
    ++this.counts.refused;
    this.words.refused(entry.refusal);
    this.forget(entry);
  }

  forget(entry) {
    if (entry.file === undefined) this.buffer.release(entry);
    else entry.file.settled();
  }

  afterSettling() {
    if (!this.resting) this.tryAgain();
    this.settled();
  }

  /** What was answered so that it is to be sent again is, in its place. */
  tryAgain() {
    this.stopResting();
    this.putBack(this.returned);
    this.returned = [];
    if (this.full && this.sent.length === 0 && this.hasNoDetails()) this.full = false;
    this.pump();
  }

  hasNoDetails() {
    return this.left.queue.details.length === 0 && this.buffer.queue.details.length === 0;
  }

  stopResting() {
    clearTimeout(this.restTimer);
    this.resting = false;
  }

  // ---- what waits

  /** The oldest of the client's own events that is not settled; Infinity: all are. */
  oldestWaiting() {
    let oldest = this.buffer.queue.peek()?.seq ?? Infinity;
    for (const entry of [...this.sent, ...this.returned]) {
      if (entry.file === undefined && entry.seq < oldest) oldest = entry.seq;
    }
    return oldest;
  }

  get waiting() {
    return this.buffer.queue.length + this.left.queue.length + this.sent.length + this.returned.length;
  }

  /** Files of earlier clients are being sent, or will be once the connection is there. */
  get isWithLeft() {
    if (this.connection === undefined) return false;
    return !this.isOpen || this.left.isPending || this.sent.some((entry) => entry.file !== undefined) ||
      this.returned.some((entry) => entry.file !== undefined);
  }
}

module.exports = { Sender };
