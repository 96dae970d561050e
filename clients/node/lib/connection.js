// A connection to the daemon: writes lines, reads answers. It does not keep the process alive unless told to. For one
// thread; the handlers are called from the event loop, `end` once and as the last.
'use strict';

const net = require('node:net');
const { TimeLimit } = require('./time_limit.js');

const kConnectMs = 5_000;
const kMaxAnswer = 1 << 20;

/** How a connection ends whose write was not taken in time. */
const readsNothing = new Error('it reads nothing');

class Connection {
  /** Handlers: open(), answer(object), room() when it is not blocked any more, end(error). */
  constructor(path, { stallMs, connectMs = kConnectMs }, handlers) {
    this.handlers = handlers;
    this.stallMs = stallMs;
    this.ended = false;
    this.blocked = false;
    this.rest = '';
    this.socket = net.createConnection({ path });
    this.opening = new TimeLimit(connectMs, () => this.fail(`no connection for ${connectMs / 1000} s`));
    this.socket.setEncoding('utf8');
    this.socket.on('connect', () => this.opened());
    this.socket.on('data', (text) => this.received(text));
    this.socket.on('error', (error) => this.finish(error));
    this.socket.on('close', () => this.fail('connection closed'));
    this.socket.unref();
  }

  keepsAlive(yes) {
    if (yes) this.socket.ref();
    else this.socket.unref();
  }

  /**
   * Whole lines, with their newlines; not while `blocked`. What the kernel does not take at once keeps the process alive (libuv
   * waits for a write that is under way), so that a daemon which does not read it within `stallMs` loses its connection.
   */
  write(lines) {
    this.socket.write(lines, () => this.written());
    this.blocked = this.socket.writableLength > 0;
    if (this.blocked) this.stall = new TimeLimit(this.stallMs, () => this.finish(readsNothing));
  }

  written() {
    if (!this.blocked || this.ended) return;
    this.blocked = false;
    this.stall.cancel();
    this.handlers.room();
  }

  fail(message) {
    this.finish(new Error(message));
  }

  /** Ends it at once. */
  finish(error) {
    if (this.ended) return;
    this.ended = true;
    this.opening.cancel();
    this.stall?.cancel();
    this.socket.destroy();
    this.handlers.end(error);
  }

  opened() {
    this.opening.cancel();
    if (!this.ended) this.handlers.open();
  }

  received(text) {
    const lines = (this.rest + text).split('\n');
    this.rest = lines.pop();
    if (this.rest.length > kMaxAnswer) return this.fail('its answer is too long');
    for (const line of lines) {
      if (this.ended) return;
      const answer = parsed(line);
      if (answer === undefined) return this.fail('its answer is malformed');
      this.handlers.answer(answer);
    }
  }
}

function parsed(line) {
  try {
    const answer = JSON.parse(line);
    return typeof answer === 'object' && answer !== null ? answer : undefined;
  } catch {
    return undefined;
  }
}

/** A timer that does not keep the process alive. */
function later(ms, work) {
  return setTimeout(work, ms).unref();
}

module.exports = { Connection, later, readsNothing };
