// Times and ids of events. Pure but for the clocks and the random numbers of the process.
'use strict';

const { randomBytes, randomUUID } = require('node:crypto');

const kMaxDriftMs = 2;

// The monotonic clock has microseconds; this is what makes it the time of day, until the system's clock is set anew.
let offsetMs = Date.now() - performance.now();
let latest = { ms: NaN, text: '' }; // many events share a millisecond

/** Now, UTC, RFC 3339 with microseconds. */
function now() {
  const wallMs = Date.now();
  let ms = performance.now() + offsetMs;
  if (Math.abs(ms - wallMs) > kMaxDriftMs) {
    offsetMs += wallMs - ms;
    ms = wallMs;
  }
  const wholeMs = Math.floor(ms);
  const micros = String(Math.floor((ms - wholeMs) * 1000)).padStart(3, '0');
  if (latest.ms !== wholeMs) latest = { ms: wholeMs, text: new Date(wholeMs).toISOString().slice(0, -1) };
  return `${latest.text}${micros}Z`;
}

/** A UUID of version 7. */
function newRunId() {
  const ms = Date.now().toString(16).padStart(12, '0');
  return `${ms.slice(0, 8)}-${ms.slice(8)}-7${randomUUID().slice(15)}`;
}

/** Twelve random hexadecimal digits, in front of a counter. */
function newPrefix() {
  return randomBytes(6).toString('hex');
}

module.exports = { newPrefix, newRunId, now };
