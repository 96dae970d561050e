// Texts as the protocol takes them: no NUL, no lone surrogates, not above a number of bytes. Pure functions.
'use strict';

const kMaybeUnsendable = /[\0\ud800-\udfff]/; // several times as fast as the next one
const kNeedsEscape = /["\\\u0000-\u001f\ud800-\udfff]/;
const kReplacement = '\ufffd';

/** The text with U+FFFD in place of what JSON or the daemon does not take. */
function clean(text) {
  // What encodes UTF-8 puts U+FFFD in place of lone surrogates, much faster than an expression does.
  return kMaybeUnsendable.test(text) ? Buffer.from(text, 'utf8').toString('utf8').replaceAll('\0', kReplacement) : text;
}

/** Its first `max` UTF-16 units, less the half of a character at their end. */
function beginningOf(text, max) {
  if (text.length <= max) return text;
  const isHalf = (text.charCodeAt(max - 1) & 0xfc00) === 0xd800 && (text.charCodeAt(max) & 0xfc00) === 0xdc00;
  return text.slice(0, isHalf ? max - 1 : max);
}

/** The text as a JSON string. */
function jsonText(text) {
  return kNeedsEscape.test(text) ? JSON.stringify(clean(text)) : `"${text}"`;
}

/** The longest beginning of at most `maxBytes` bytes of UTF-8 that ends at a character's boundary. */
function cutToBytes(text, maxBytes) {
  if (text.length * 3 <= maxBytes) return text;
  // A UTF-16 unit is at least one byte: what is longer need not be looked at.
  const beginning = Buffer.from(text.slice(0, maxBytes), 'utf8');
  if (beginning.length <= maxBytes) return beginning.toString('utf8');
  let end = maxBytes;
  while (end > 0 && (beginning[end] & 0xc0) === 0x80) --end;
  return beginning.toString('utf8', 0, end);
}

module.exports = { beginningOf, clean, cutToBytes, jsonText };
