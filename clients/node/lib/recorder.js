// A recorder: takes events from the work, and sends them beside it. None of its methods raises or waits. For the thread
// that made it; each worker thread has recorders of its own.
'use strict';

const fs = require('node:fs');
const { EventBuffer } = require('./buffer.js');
const { newPrefix, now } = require('./clock.js');
const { isLifecycle, makeLine, typeOf } = require('./event.js');
const { runIdOf } = require('./fields.js');
const { Options } = require('./options.js');
const { atEnd, forgetAtEnd } = require('./process_end.js');
const { Sender } = require('./sender.js');
const { TimeLimit } = require('./time_limit.js');
const { Unsent, unsentFolder } = require('./unsent.js');
const { Words } = require('./words.js');

const kDefaults = { bufferBytes: 16 << 20, flushTimeout: 2_000, maxEventBytes: 1 << 20 };
const kAll = Number.MAX_SAFE_INTEGER; // every sequence number, of what comes later too
const kMaxTimerMs = 2 ** 31 - 1;
const kSystemSocket = '/run/run-recorder/events.sock';

class Recorder {
  constructor(options) {
    const given = new Options(options);
    this.options = settingsOf(given, process.env);
    this.counts = { emitted: 0, acknowledged: 0, refused: 0, dropped: 0, kept: 0, truncated: 0 };
    this.prefix = newPrefix();
    this.sequence = 0;
    this.waiters = new Set();
    this.closed = false;
    if (!this.options.disabled) this.open(given.unreadable);
  }

  get disabled() {
    return this.options.disabled;
  }

  open(unreadable) {
    this.words = new Words(this.options.log, this.options.socket);
    this.words.options(unreadable, 'cannot be read');
    try {
      this.begin();
    } catch (error) {
      this.options.disabled = true; // a relative path in a folder that is gone
      this.words.say(`nothing can be recorded (${error.message})`);
    }
  }

  begin() {
    const { socket, bufferBytes, flushTimeout, maxEventBytes } = this.options;
    this.buffer = new EventBuffer(bufferBytes, this.counts, this.words);
    this.unsent = new Unsent(unsentFolder(process.env), socket);
    this.sender = new Sender({
      path: socket, buffer: this.buffer, unsent: this.unsent, counts: this.counts, words: this.words,
      stallMs: flushTimeout, maxEventBytes, settled: () => this.checkWaiters(),
    });
    atEnd(this);
  }

  /** One event of the protocol; `fields` have the protocol's names. */
  event(runId, type, fields) {
    if (this.disabled) return;
    ++this.counts.emitted;
    try {
      this.add(runIdOf(runId), typeOf(type), fields);
    } catch {
      ++this.counts.refused; // not known to happen
    }
  }

  add(runId, type, fields) {
    if (runId === '') {
      ++this.counts.refused;
      this.words.refused({ code: 'invalid_event', message: `an event of type ${type} has no run id` });
    } else if (this.closed) {
      ++this.counts.dropped;
      this.words.closed();
    } else {
      this.push(runId, type, fields);
    }
  }

  push(runId, type, fields) {
    const seq = ++this.sequence;
    const head = { type, runId, id: `${this.prefix}-${seq}`, at: now(), workerPid: process.pid };
    const { line, reduced } = makeLine(head, fields, this.options.maxEventBytes);
    if (reduced) ++this.counts.truncated;
    this.buffer.push({ seq, line, bytes: Buffer.byteLength(line), lifecycle: isLifecycle(type), reduced, file: undefined });
    this.sender.wake();
  }

  /** Hands what waits to the kernel now, for work that keeps the event loop busy. */
  hand() {
    if (!this.disabled && !this.closed) this.sender.pump();
  }

  /** Waits until every event so far is settled; false where that is not so after `timeout` milliseconds. */
  flush(timeout) {
    if (this.disabled) return Promise.resolve(true);
    return new Promise((resolve) => this.whenSettledTo(this.sequence, timeout, resolve));
  }

  /** Calls `work` with whether it is, at once where it is already. */
  whenSettledTo(sequence, timeout, work) {
    if (this.isSettledTo(sequence)) return work(true);
    const waiter = { sequence, finish: undefined };
    const limit = new TimeLimit(this.millisecondsOf(timeout), () => waiter.finish(false), { keepsAlive: true });
    waiter.finish = (settled) => {
      limit.cancel();
      this.waiters.delete(waiter);
      if (this.waiters.size === 0) this.sender.keepsAlive(false);
      work(settled);
    };
    this.waiters.add(waiter);
    this.sender.keepsAlive(true);
    this.sender.hurry();
  }

  checkWaiters() {
    for (const waiter of this.waiters) {
      if (this.isSettledTo(waiter.sequence)) waiter.finish(true);
    }
  }

  /** Of a time limit that was given; anything but a number is as if it were not. */
  millisecondsOf(timeout) {
    const ms = typeof timeout === 'number' && !Number.isNaN(timeout) ? timeout : this.options.flushTimeout;
    return Math.min(Math.max(ms, 0), kMaxTimerMs);
  }

  isSettledTo(sequence) {
    return this.closed || (this.sender.oldestWaiting() > sequence && !this.sender.isWithLeft);
  }

  /**
   * Waits as flush does, and for what comes meanwhile; what is left then goes to a file that the next client sends. Nothing is
   * recorded afterwards.
   */
  close(timeout) {
    this.closing ??= new Promise((resolve) => this.closeWithin(timeout, resolve));
    return this.closing;
  }

  closeWithin(timeout, done) {
    const close = () => {
      this.end();
      done();
    };
    if (this.disabled) close();
    else this.whenSettledTo(kAll, timeout, close);
  }

  /** At once and synchronously: what is not settled goes to the file. */
  end() {
    if (this.closed) return;
    if (this.disabled) {
      this.closed = true;
      return;
    }
    forgetAtEnd(this);
    this.sender.pump(); // what the kernel takes now is recorded at once, and known by its id when it comes again
    const entries = this.sender.stop();
    this.closed = true;
    this.buffer.end();
    const own = entries.filter((entry) => entry.file === undefined);
    this.counts.kept += entries.length - own.length; // these are in their files still
    if (own.length > 0) this.keep(own);
    for (const waiter of this.waiters) waiter.finish(own.length === 0);
  }

  keep(entries) {
    let kept = [];
    try {
      const result = this.unsent.keep(entries);
      kept = result.kept;
      this.words.kept(kept.length, result.file);
      if (kept.length < entries.length) this.words.notKept(entries.length - kept.length, 'the folder is full');
    } catch (error) {
      this.words.notKept(entries.length, error.message);
    }
    this.counts.kept += kept.length;
    this.counts.dropped += entries.length - kept.length;
  }

  stats() {
    const waiting = this.disabled || this.closed ? 0 : this.sender.waiting;
    return { ...this.counts, waiting };
  }
}

function settingsOf(options, environment) {
  const settings = { ...kDefaults };
  for (const name of Object.keys(kDefaults)) {
    const value = options.get(name);
    if (Number.isFinite(value) && value >= 0) settings[name] = value;
  }
  const socket = options.get('socket');
  const log = options.get('log');
  settings.socket = typeof socket === 'string' && socket !== '' ? socket : defaultSocket(environment);
  settings.log = typeof log === 'function' ? log : console.warn;
  settings.disabled = options.get('disabled') === true || environment.RUN_RECORDER_DISABLED === '1';
  return settings;
}

function defaultSocket(environment) {
  if (environment.RUN_RECORDER_SOCKET_PATH) return environment.RUN_RECORDER_SOCKET_PATH;
  const runtime = environment.XDG_RUNTIME_DIR;
  const ofUser = runtime ? `${runtime}/run-recorder/events.sock` : '';
  return ofUser !== '' && fs.existsSync(ofUser) ? ofUser : kSystemSocket;
}

module.exports = { Recorder };
