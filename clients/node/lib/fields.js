// The fields of an event as the daemon takes them. Pure functions; none of them raises but `fieldText`.
'use strict';

const { createHash } = require('node:crypto');
const { errorsText } = require('./errors.js');
const { lengthOf, read } = require('./reading.js');
const { cutToBytes, jsonText } = require('./text.js');
const { encode, textOf, tooLarge } = require('./values.js');

const kMaxRunIdBytes = 255;
const kRunIdPrefixBytes = 200;
const kRunIdDigits = 32;
const kMaxUnitBytes = 64;
const kMaxUsageNames = 512; // about as many as a row has room for
const kMaxInt32 = 2147483647;
const kMaxInt64 = 9223372036854775807n;
const kMaxExpiresIn = 2678400;
const kOwnTypes = /^run_(queued|started|completed|failed|lost|heartbeat)$/;
const kMaxBytes = { council: 255, job_id: 255, host: 255, unit: 255, user: 255, queue: 64, job_state: 64, cwd: 1024,
  command: 1024 };

/** Those that a reduced line keeps. */
const keptFields = [...Object.keys(kMaxBytes), 'attempt', 'parent_attempt_run_id', 'oban_job_id', 'expires_in', 'message',
  'usage', 'progress'];

/** How each field of the protocol becomes JSON text; undefined: it is left out. All others are any JSON. */
const kFields = {
  parent_attempt_run_id: (value) => quoted(runIdOf(value)),
  attempt: (value) => integerBelow(value, kMaxInt32),
  oban_job_id: (value) => integerBelow(value, kMaxInt64),
  expires_in: (value) => integerBelow(typeof value === 'number' ? Math.ceil(value) : value, kMaxExpiresIn),
  usage: (value, limit) => usageText(value, limit),
  progress: (value) => progressText(value),
  input: (value, limit) => encode(value, limit),
  result: (value, limit) => encode(value, limit),
  errors: (value, limit) => errorsText(value, limit),
  payload: (value, limit, type) => payloadText(value, limit, type),
  message: (value, limit, type) => (type === 'run_lost' ? lostText(value, limit) : encode(value, limit)),
};
for (const [name, maxBytes] of Object.entries(kMaxBytes)) kFields[name] = (value) => quoted(cutToBytes(textOf(value, maxBytes), maxBytes));

/** Its JSON text; undefined: it is left out. Throws `tooLarge`. */
function fieldText(name, value, limit, type) {
  if (value === undefined || (value === null && name !== 'input' && name !== 'result')) return undefined;
  return Object.hasOwn(kFields, name) ? kFields[name](value, limit, type) : encode(value, limit);
}

/** A run id that the daemon takes, always the same for the same value; empty where there is none. */
function runIdOf(value) {
  const text = textOf(value);
  if (text.length * 3 <= kMaxRunIdBytes || Buffer.byteLength(text) <= kMaxRunIdBytes) return text;
  const digest = createHash('sha256').update(text, 'utf8').digest('hex').slice(0, kRunIdDigits);
  return `${cutToBytes(text, kRunIdPrefixBytes)}~${digest}`;
}

/** A process id; undefined where it is none. */
function pidText(value) {
  return integerBelow(value, kMaxInt32);
}

function integerBelow(value, max) {
  if (typeof value === 'string' && /^\d{1,19}$/.test(value)) return integerBelow(BigInt(value), max);
  const whole = typeof value === 'bigint' || Number.isSafeInteger(value);
  return whole && value >= 1 && value <= max ? String(value) : undefined;
}

function quoted(text) {
  return text === '' ? undefined : jsonText(text);
}

function lostText(value, limit) {
  if (typeof value === 'string' && value.length > limit) throw tooLarge;
  return jsonText(textOf(value));
}

function usageText(value, limit) {
  if (typeof value !== 'object') return undefined;
  const numbers = {};
  let size = 0;
  for (const name of namesOf(value).slice(0, kMaxUsageNames)) {
    const number = read(value, name);
    if (Number.isFinite(number)) numbers[name] = number;
    else if (typeof number === 'bigint' && Number.isFinite(Number(number))) numbers[name] = Number(number);
    else continue;
    size += name.length + 5;
    if (size > limit + 1) throw tooLarge;
  }
  const text = encode(numbers, limit);
  return text === '{}' ? undefined : text;
}

/** None where it is a list or bytes, or cannot be listed. */
function namesOf(object) {
  try {
    return lengthOf(object) > 0 ? [] : Object.keys(object);
  } catch {
    return [];
  }
}

function progressText(value) {
  if (typeof value !== 'object') return undefined;
  const done = read(value, 'done');
  const total = read(value, 'total');
  const unit = read(value, 'unit');
  if (!Number.isFinite(done)) return undefined;
  if (total !== undefined && total !== null && !Number.isFinite(total)) return undefined;
  const unitText = unit === undefined || unit === null ? '' : cutToBytes(textOf(unit, kMaxUnitBytes), kMaxUnitBytes);
  return JSON.stringify({ done, total: total ?? undefined, unit: unitText || undefined });
}

/** Other types take an object there: what is none becomes its `value`. */
function payloadText(value, limit, type) {
  const text = encode(value, limit);
  if (text === undefined || text.startsWith('{') || kOwnTypes.test(type)) return text;
  return `{"value":${text}}`;
}

module.exports = { fieldText, keptFields, pidText, runIdOf };
