// Texts as the protocol takes them: no NUL, no lone surrogates, not above a number of bytes. Pure functions.
'use strict';

const kMaybeUnsendable = /[\0\ud800-\udfff]/; // several times as fast as the next one
const kUnsendable = /[\0\p{Surrogate}]/gu; // with the flag u a surrogate of a pair does not match
const kNeedsEscape = /["\\\u0000-\u001f\ud800-\udfff]/;
const kReplacement = '\ufffd';

/** The text with U+FFFD in place of what JSON or the daemon does not take. */
function clean(text) {
  return kMaybeUnsendable.test(text) ? text.replace(kUnsendable, kReplacement) : text;
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

module.exports = { clean, cutToBytes, jsonText };
