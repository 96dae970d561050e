// What was thrown, as an element of an event's `errors`. Pure functions; none of them raises but `errorsText`.
'use strict';

const { clean, cutToBytes } = require('./text.js');
const { encode, nameOf, read, textOf, tooLarge } = require('./values.js');

const kReducedText = 1000;
const kMaxStack = 8192;

/** A list of texts and objects, whatever was given, as JSON. Throws `tooLarge`. */
function errorsText(value, limit) {
  let text = '[';
  for (const error of listOf(value, Infinity)) {
    const described = encode(describeIfError(error), limit - text.length) ?? '"undefined"';
    const allowed = described.startsWith('"') || described.startsWith('{');
    text += `${text === '[' ? '' : ','}${allowed ? described : JSON.stringify(described)}`;
    if (text.length > limit) throw tooLarge;
  }
  return `${text}]`;
}

function listOf(value, max) {
  try {
    return Array.isArray(value) ? Array.from({ length: Math.min(value.length, max) }, (_, i) => read(value, i)) : [value];
  } catch (error) {
    return [`[unreadable: ${nameOf(error)}]`];
  }
}

function describeIfError(value) {
  try {
    return value instanceof Error || Object.prototype.toString.call(value) === '[object Error]' ? describeError(value) : value;
  } catch {
    return value;
  }
}

/** What was thrown, as an element of `errors`. Never raises. */
function describeError(error, kind = nameOf(error)) {
  if (typeof error !== 'object' || error === null) return { kind, message: textOf(error) || String(error) };
  const message = textOf(read(error, 'message') ?? error);
  const stack = read(error, 'stack');
  return typeof stack === 'string' ? { kind, message, stacktrace: framesOf(stack, message) } : { kind, message };
}

/** The stack without the message at its head. V8 has the innermost frames first: these are kept. */
function framesOf(stack, message) {
  const at = stack.indexOf(message);
  const frames = at >= 0 && at < 300 ? stack.slice(at + message.length) : stack;
  return cutToBytes(clean(frames.slice(0, kMaxStack).replace(/^\n/, '')), kMaxStack);
}

/** Only its kind and message, cut. */
function reduceError(error) {
  if (typeof error !== 'object' || error === null) return textOf(error).slice(0, kReducedText);
  const described = describeIfError(error);
  const reduced = {};
  for (const name of ['kind', 'message']) {
    const value = read(described, name);
    if (value !== undefined && value !== null) reduced[name] = textOf(value).slice(0, kReducedText);
  }
  return reduced;
}

module.exports = { describeError, errorsText, listOf, reduceError };
