// One event as a line of the protocol that the daemon takes, and that line reduced where it was too large or refused.
// Pure functions; `makeLine` is called by the thread that records, `reduceLine` by the sender. None of them raises.
'use strict';

const { reduceErrors } = require('./errors.js');
const { fieldText, keptFields, pidText } = require('./fields.js');
const { lengthOf, read } = require('./reading.js');
const { clean, cutToBytes, jsonText } = require('./text.js');
const { textOf, tooLarge } = require('./values.js');

const kMaxIdBytes = 64;
const kMaxTypeBytes = 64;
const kMaxTypeUnits = 4 * kMaxTypeBytes; // a character is up to two, and in lower case one may be two
const kMaxTimeUnits = 64;
const kMaxJobIdUnits = 256;
const kMinFieldUnits = 5; // "":1,
const kReducedErrors = 10;
const kReducedText = 1000;

const kLifecycle = new Set(['run_queued', 'run_started', 'run_completed', 'run_failed', 'run_lost']);
const kWithoutPid = new Set(['run_queued', 'run_heartbeat', 'run_lost']);
const kOwnHead = ['id', 'at', 'worker_pid'];
const kHead = new Set(['type', 'run_id', ...kOwnHead]);
const kTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/;

/** Lower case, `a-z0-9_.`, beginning with a letter, at most 64 bytes. */
function typeOf(value) {
  const name = cutToBytes(textOf(value, kMaxTypeUnits).toLowerCase().replace(/[^a-z0-9_.]/gu, '_'), kMaxTypeBytes);
  return /^[a-z]/.test(name) ? name : `event_${name}`.slice(0, kMaxTypeBytes);
}

function isLifecycle(type) {
  return kLifecycle.has(type);
}

/**
 * The line of an event, without its newline, and whether it was reduced to be within `maxBytes`. `head` is
 * {type, runId, id, at, workerPid}: what was made by typeOf and runIdOf, and what `fields` may say instead for the rest.
 */
function makeLine(head, fields, maxBytes) {
  const given = typeof fields === 'object' && fields !== null ? fields : {};
  const whole = lineWithin(head, given, maxBytes);
  const line = whole ?? reducedWithin(head, given, maxBytes);
  return { line, reduced: whole === undefined };
}

/** A line that was refused, reduced; undefined where it is no event at all. */
function reduceLine(line, maxBytes) {
  try {
    const event = JSON.parse(line);
    if (!Number.isSafeInteger(event.oban_job_id)) event.oban_job_id = exactInteger(line, event.oban_job_id);
    const head = { type: event.type, runId: event.run_id, id: event.id, at: event.at, workerPid: event.worker_pid };
    return reducedWithin(head, event, maxBytes);
  } catch {
    return undefined;
  }
}

function lineWithin(head, fields, maxBytes) {
  try {
    const line = lineOf(head, fields, maxBytes);
    return Buffer.byteLength(line) < maxBytes ? line : undefined;
  } catch {
    return undefined; // tooLarge, or fields that cannot even be listed
  }
}

function reducedWithin(head, fields, maxBytes) {
  const reduced = reduceFields(fields);
  const line = lineWithin(head, reduced, maxBytes);
  if (line !== undefined) return line;
  return lineOf(head, { ...reduced, usage: undefined, errors: undefined, message: undefined }, Infinity);
}

function reduceFields(fields) {
  const reduced = {};
  for (const name of [...kOwnHead, ...keptFields]) reduced[name] = read(fields, name);
  if (reduced.message !== undefined) reduced.message = textOf(reduced.message, kReducedText);
  const errors = read(fields, 'errors');
  if (errors !== undefined && errors !== null) reduced.errors = reduceErrors(errors, kReducedErrors);
  reduced.truncated = true;
  return reduced;
}

function lineOf(head, fields, limit) {
  const pid = pidOf(fields, head);
  let line = `{"type":${jsonText(head.type)},"run_id":${jsonText(head.runId)},"id":${jsonText(idOf(fields, head))}` +
    `,"at":${jsonText(timeOf(fields, head))}`;
  if (pid !== undefined) line += `,"worker_pid":${pid}`;
  const body = withCleanNames(fields, limit);
  for (const name of Object.keys(body)) {
    if (kHead.has(name) || (name === 'oban_job_id' && namesAnotherJob(body))) continue;
    const text = fieldText(name, read(body, name), limit - line.length, head.type);
    if (text !== undefined) line += `,${jsonText(name)}:${text}`;
  }
  return `${line}}`;
}

/** The fields themselves where all their names can be sent; of two that become the same the later counts. Throws `tooLarge`. */
function withCleanNames(fields, limit) {
  if (lengthOf(fields) * kMinFieldUnits > limit) throw tooLarge;
  const names = Object.keys(fields);
  if (names.length * kMinFieldUnits > limit) throw tooLarge;
  if (names.every((name) => clean(name) === name)) return fields;
  return Object.fromEntries(names.map((name) => [clean(name), read(fields, name)]));
}

/** The daemon refuses job_id and oban_job_id that differ: job_id counts. */
function namesAnotherJob(fields) {
  const jobId = textOf(read(fields, 'job_id'), kMaxJobIdUnits);
  return jobId !== '' && jobId !== textOf(read(fields, 'oban_job_id'), kMaxJobIdUnits);
}

/** Null in the fields: the sender speaks for another process. */
function pidOf(fields, head) {
  const given = read(fields, 'worker_pid');
  if (given !== undefined) return pidText(given);
  return kWithoutPid.has(head.type) ? undefined : pidText(head.workerPid);
}

function idOf(fields, head) {
  const given = read(fields, 'id');
  if (typeof given !== 'string' || given === '' || given.length > kMaxIdBytes) return head.id;
  const text = clean(given);
  return Buffer.byteLength(text) <= kMaxIdBytes ? text : head.id;
}

function timeOf(fields, head) {
  const given = read(fields, 'at');
  if (given === undefined || given === null) return head.at;
  const text = textOf(given, kMaxTimeUnits);
  if (!kTime.test(text)) return head.at;
  const time = new Date(text);
  return !Number.isNaN(time.getTime()) && time.getUTCFullYear() > 0 ? text : head.at;
}

/** An integer above 2^53 as it stands in the line, which JSON.parse rounds. */
function exactInteger(line, rounded) {
  for (const [, digits] of line.matchAll(/"oban_job_id":\s*(\d{16,19})\b/g)) {
    if (Number(digits) === rounded) return BigInt(digits);
  }
  return undefined;
}

module.exports = { isLifecycle, makeLine, reduceLine, typeOf };
