// Any value of JavaScript as JSON that the daemon takes: no value makes this raise, and the cost of one that is far too
// large is bounded. Pure functions, used by the thread that records.
'use strict';

const { types } = require('node:util');
const { disown, disownMade, get, nameOf, read, stringOf } = require('./reading.js');
const { beginningOf, clean, jsonText } = require('./text.js');

const kMaxDepth = 60;
const kMaxDigits = 300;
const kMaxIntegerBits = 1 << 20;
const kMaxObjectText = 1000;
const kMaxFieldText = 8000;

/** Thrown by `encode` alone: the text would be above the limit. */
const tooLarge = new RangeError('the value is too large');

/**
 * The value as JSON text, or `undefined` for what JSON leaves out (undefined, functions). Throws `tooLarge`, nothing else, as
 * soon as the text has more than `limit` characters.
 */
function encode(value, limit) {
  if (isLeftOut(value)) return undefined;
  const text = encodePlain(value, limit);
  if (text !== undefined) return text;
  const encoder = new Encoder(limit);
  encoder.write(value, '');
  return encoder.out;
}

/**
 * The language's own encoder, several times as fast, where it does the same as ours: for plain data. What it writes as an
 * escape of the form \\uXXXX (NUL, lone surrogates; rarely something harmless) is left to ours, and so is what raises.
 */
function encodePlain(value, limit) {
  try {
    const size = plainSize(value, [], limit);
    if (size === Infinity) return undefined;
    if (size > limit) throw tooLarge;
    const text = JSON.stringify(value);
    if (text.includes('\\u')) return undefined;
    if (text.length > limit) throw tooLarge;
    return text;
  } catch (error) {
    if (error === tooLarge) throw error;
    return undefined;
  }
}

/** At least how many characters plain data takes, as soon as that is above the limit; infinite for any other value. */
function plainSize(value, ancestors, limit) {
  switch (typeof value) {
    case 'string':
      return value.length + 2;
    case 'number':
      return Number.isFinite(value) ? 1 : Infinity;
    case 'boolean':
      return 4;
    case 'object':
      return value === null ? 4 : plainObjectSize(value, ancestors, limit);
    default:
      return value === undefined ? 0 : Infinity;
  }
}

function plainObjectSize(object, ancestors, limit) {
  const { toJSON } = object;
  if (toJSON !== undefined) disownMade(toJSON, object, 'toJSON');
  if (ancestors.length >= kMaxDepth || ancestors.includes(object) || toJSON !== undefined) return Infinity;
  ancestors.push(object);
  const size = Array.isArray(object) ? elementsSize(object, ancestors, limit) : membersSize(object, ancestors, limit);
  ancestors.pop();
  return size;
}

function elementsSize(array, ancestors, limit) {
  if (array.length * 2 > limit) return array.length * 2;
  let size = 1; // both brackets, less the comma that the last one has not
  for (let i = 0; i < array.length && size <= limit; ++i) {
    const value = array[i];
    size += 1 + plainSize(value, ancestors, limit - size);
    if (size === Infinity) disownMade(value, array, i);
  }
  return size;
}

function membersSize(object, ancestors, limit) {
  const prototype = Object.getPrototypeOf(object);
  if (prototype !== Object.prototype && prototype !== null) return Infinity;
  let size = 1;
  for (const key in object) {
    if (size > limit) return size;
    const value = object[key];
    if (value === undefined) continue;
    size += key.length + 4 + plainSize(value, ancestors, limit - size);
    if (size === Infinity) disownMade(value, object, key);
  }
  return size;
}

class Encoder {
  constructor(limit) {
    this.limit = limit;
    this.out = '';
    this.ancestors = [];
  }

  write(value, key) {
    switch (typeof value) {
      case 'string':
        return this.writeText(value);
      case 'number':
        return this.append(Number.isFinite(value) ? String(value) : `"${value}"`);
      case 'boolean':
        return this.append(value ? 'true' : 'false');
      case 'bigint':
        return this.append(integerText(value));
      case 'symbol':
        return this.writeText(value.description ?? '');
      case 'object':
        return value === null ? this.append('null') : this.writeObject(value, key);
      default:
        return this.append('null'); // where something must stand: in arrays
    }
  }

  append(text) {
    this.out += text;
    if (this.out.length > this.limit) throw tooLarge;
  }

  writeText(text) {
    if (this.out.length + text.length > this.limit) throw tooLarge;
    this.append(jsonText(text));
  }

  writeObject(object, key) {
    if (this.ancestors.includes(object)) return this.append('"[cycle]"');
    if (this.ancestors.length >= kMaxDepth) return this.append('"[too deep]"');
    const { out } = this;
    const depth = this.ancestors.push(object);
    try {
      this.writeContents(object, key);
    } catch (error) {
      if (error === tooLarge) throw error;
      this.out = out;
      this.append(unreadable(error));
    }
    this.ancestors.length = depth - 1;
  }

  writeContents(object, key) {
    if (Array.isArray(object)) return this.writeArray(object);
    if (types.isDate(object)) return this.append(dateText(object));
    const made = typeof get(object, 'toJSON') === 'function' && !isBytes(object) ? disown(object.toJSON(key)) : object;
    if (made === object) return this.writeFields(object);
    if (typeof made !== 'object' || made === null) return this.write(made, key);
    return Array.isArray(made) ? this.writeArray(made) : this.writeFields(made);
  }

  writeFields(object) {
    const prototype = Object.getPrototypeOf(object);
    if (prototype === Object.prototype || prototype === null) return this.writeMembers(object, Object.keys(object));
    if (isBytes(object)) return this.writeBytes(object);
    if (ArrayBuffer.isView(object)) return this.writeArray(object);
    if (types.isMap(object)) return this.writeMap(object);
    if (types.isSet(object)) return this.writeSet(object);
    if (types.isNativeError(object)) return this.writeError(object);
    if (types.isBoxedPrimitive(object)) return this.write(disown(object.valueOf()), '');
    return this.writeInstance(object);
  }

  writeInstance(object) {
    const keys = types.isRegExp(object) ? [] : Object.keys(object);
    if (keys.length > 0) return this.writeMembers(object, keys);
    return this.writeText(stringOf(object).slice(0, kMaxObjectText));
  }

  writeArray(array) {
    if (array.length * 2 + this.out.length > this.limit) throw tooLarge;
    this.append('[');
    for (let i = 0; i < array.length; ++i) {
      if (i > 0) this.out += ',';
      this.write(read(array, i), String(i));
    }
    this.append(']');
  }

  writeMembers(object, keys) {
    const { out } = this;
    let before = '{';
    for (const key of keys) {
      if (key.length > this.limit) throw tooLarge;
      if (clean(key) !== key) {
        this.out = out;
        if (keys.length * 4 + out.length > this.limit) throw tooLarge;
        return this.writeUnique(keys.map((name) => [name, read(object, name)]));
      }
      const value = read(object, key);
      if (isLeftOut(value)) continue;
      this.append(`${before}${jsonText(key)}:`);
      this.write(value, key);
      before = ',';
    }
    this.append(before === '{' ? '{}' : '}');
  }

  /** Of two keys that become the same text the later counts. */
  writeUnique(entries) {
    const unique = new Map();
    for (const [key, value] of entries) unique.set(keyText(key), value);
    let before = '{';
    for (const [key, value] of unique) {
      if (isLeftOut(value)) continue;
      this.append(`${before}${jsonText(key)}:`);
      this.write(value, key);
      before = ',';
    }
    this.append(before === '{' ? '{}' : '}');
  }

  writeMap(map) {
    if (map.size * 4 + this.out.length > this.limit) throw tooLarge;
    this.writeUnique(Map.prototype.entries.call(map));
  }

  writeSet(set) {
    if (set.size * 2 + this.out.length > this.limit) throw tooLarge;
    this.writeArray([...Set.prototype.values.call(set)]);
  }

  writeBytes(bytes) {
    if (bytes.byteLength + this.out.length > this.limit) throw tooLarge;
    this.writeText(bytesText(bytes));
  }

  writeError(error) {
    const fields = { kind: nameOf(error), message: read(error, 'message') };
    for (const key of Object.keys(error)) {
      if (!Object.hasOwn(fields, key)) fields[key] = read(error, key);
    }
    this.writeMembers(fields, Object.keys(fields));
  }
}

function isLeftOut(value) {
  return value === undefined || typeof value === 'function';
}

function unreadable(error) {
  return jsonText(`[unreadable: ${nameOf(error)}]`);
}

function keyText(key) {
  if (typeof key === 'string') return clean(key);
  if (typeof key === 'symbol') return clean(key.description ?? '');
  try {
    return typeof key === 'bigint' ? integerText(key).replaceAll('"', '') : clean(stringOf(key).slice(0, kMaxObjectText));
  } catch (error) {
    return `[unreadable: ${nameOf(error)}]`;
  }
}

function integerText(integer) {
  if (BigInt.asIntN(kMaxIntegerBits, integer) !== integer) throw tooLarge;
  const text = integer.toString();
  const length = kMaxDigits + (text.startsWith('-') ? 1 : 0);
  return text.length > length ? `"${text.slice(0, length)}"` : text;
}

function dateText(date) {
  const ms = Date.prototype.getTime.call(date);
  return Number.isNaN(ms) ? '"Invalid Date"' : `"${new Date(ms).toISOString()}"`;
}

function isBytes(object) {
  return types.isUint8Array(object) || types.isAnyArrayBuffer(object) || types.isDataView(object);
}

function bytesText(bytes) {
  const view = ArrayBuffer.isView(bytes) ? [bytes.buffer, bytes.byteOffset, bytes.byteLength] : [bytes];
  return Buffer.from(...view).toString('utf8');
}

/**
 * The text of a value that stands where the protocol wants a text, at most its first `max` UTF-16 units; empty where it has
 * none. It is cut first: what is far too long costs nothing.
 */
function textOf(value, max = Infinity) {
  if (typeof value === 'string') return clean(beginningOf(value, max));
  if (value === undefined || value === null) return '';
  if (typeof value === 'function') return textOfName(read(value, 'name'), max);
  const text = encodeOrNothing(value);
  return beginningOf(text.startsWith('"') ? JSON.parse(text) : text, max);
}

/** Of a function: anything may be its name. */
function textOfName(name, max) {
  return typeof name === 'function' ? '' : textOf(name, max);
}

function encodeOrNothing(value) {
  try {
    return encode(value, kMaxFieldText) ?? '';
  } catch {
    return '';
  }
}

module.exports = { encode, textOf, tooLarge };
