// What was thrown, as an element of an event's `errors`. Pure functions; none of them raises but `errorsText`.
'use strict';

const { clean, cutToBytes } = require('./text.js');
const { encode, nameOf, read, textOf, tooLarge } = require('./values.js');

const kReducedText = 1000;
const kMaxStack = 8192;
const kMaxHead = 300; // before the message

/** A list of texts and objects, whatever was given, as JSON. Throws `tooLarge`. */
function errorsText(value, limit) {
  let text = '[';
  for (const error of listOf(value, limit / 2 + 1)) {
    const described = encode(describeIfError(error), limit - text.length) ?? '"undefined"';
    const allowed = described.startsWith('"') || described.startsWith('{');
    text += `${text === '[' ? '' : ','}${allowed ? described : JSON.stringify(described)}`;
    if (text.length > limit) throw tooLarge;
  }
  return `${text}]`;
}

function listOf(value, max) {
  try {
    return Array.isArray(value) ? Array.from({ length: Math.min(value.length, Math.floor(max)) }, (_, i) => read(value, i)) : [value];
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
  if (typeof error !== 'object' || error === null) return { kind, message: messageOf(error) || describePlain(error) };
  const message = messageOf(read(error, 'message') ?? error);
  const stack = read(error, 'stack');
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

module.exports = { describeError, errorsText, listOf, reduceError };
