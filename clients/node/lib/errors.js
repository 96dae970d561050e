// What was thrown, as an element of an event's `errors`. Pure functions; none of them raises but `errorsText`.
'use strict';

const { types } = require('node:util');
const { get, nameOf, read } = require('./reading.js');
const { clean, cutToBytes } = require('./text.js');
const { encode, textOf, tooLarge } = require('./values.js');

const kReducedText = 1000;
const kMaxErrors = 10_000; // more of them are too large
const kMaxStack = 8192;
const kMaxHead = 300; // before the message

/** A list of texts and objects, whatever was given, as JSON. Throws `tooLarge`. */
function errorsText(value, limit) {
  let text = '[';
  let count = 0;
  for (const error of elementsOf(value)) {
    if (++count > kMaxErrors) throw tooLarge;
    const described = encode(describeIfError(error), limit - text.length) ?? '"undefined"';
    const allowed = described.startsWith('"') || described.startsWith('{');
    text += `${text === '[' ? '' : ','}${allowed ? described : JSON.stringify(described)}`;
    if (text.length > limit) throw tooLarge;
  }
  return `${text}]`;
}

/** Those of a list, each read when its turn comes; anything else is the only one. */
function* elementsOf(value) {
  try {
    if (!Array.isArray(value)) return yield value;
    for (let i = 0; i < get(value, 'length'); ++i) yield read(value, i);
  } catch (error) {
    yield `[unreadable: ${nameOf(error)}]`;
  }
}

function describeIfError(value) {
  try {
    return value instanceof Error || types.isNativeError(value) ? describeError(value) : value;
  } catch {
    return value;
  }
}

/** What was thrown, as an element of `errors`. Never raises. */
function describeError(error, kind = nameOf(error)) {
  if (typeof error !== 'object' || error === null) return { kind, message: messageOf(error) || describePlain(error) };
  const said = read(error, 'message');
  const message = messageOf(said ?? error);
  // V8 makes the stack where it is read, and reads both for it.
  const stack = types.isPromise(said) || types.isPromise(read(error, 'name')) ? undefined : read(error, 'stack');
  return typeof stack === 'string' ? { kind, message, stacktrace: framesOf(stack, message) } : { kind, message };
}

/** A text as it is: it is repaired where it is encoded, if it is not too large. */
function messageOf(value) {
  return typeof value === 'string' ? value : textOf(value);
}

/** What has no text: undefined, null, a function without a name. */
function describePlain(value) {
  return typeof value === 'function' ? 'function' : String(value);
}

/** The stack without the message at its head. V8 has the innermost frames first: these are kept. */
function framesOf(stack, message) {
  const at = stack.slice(0, kMaxHead + message.length).indexOf(message);
  const frames = at >= 0 ? stack.slice(at + message.length) : stack;
  return cutToBytes(clean(frames.slice(0, kMaxStack).replace(/^\n/, '')), kMaxStack);
}

/** The first `count` of a list of errors, reduced. */
function reduceErrors(value, count) {
  const reduced = [];
  for (const error of elementsOf(value)) {
    reduced.push(reduceError(error));
    if (reduced.length === count) break;
  }
  return reduced;
}

/** Only its kind and message, cut. */
function reduceError(error) {
  if (typeof error !== 'object' || error === null) return textOf(error, kReducedText);
  const described = describeIfError(error);
  const reduced = {};
  for (const name of ['kind', 'message']) {
    const value = read(described, name);
    if (value !== undefined && value !== null) reduced[name] = textOf(value, kReducedText);
  }
  return reduced;
}

module.exports = { describeError, errorsText, reduceErrors };
