// Reading what a program gave. Its getters and methods are code of others: they may raise, and what they give may be a promise
// that nobody else has, whose rejection would end the program. Pure functions but for that.
'use strict';

const { types } = require('node:util');
const { beginningOf, clean, cutToBytes } = require('./text.js');

const kMaxNameBytes = 100;

/** What stands in place of a value whose getter raised. */
class Unreadable {
  constructor(error) {
    this.text = `[unreadable: ${nameOf(error)}]`;
  }

  toJSON() {
    return this.text;
  }
}

/** The value of a property. Never raises. */
function read(object, key) {
  try {
    return get(object, key);
  } catch (error) {
    return new Unreadable(error);
  }
}

/** The value of a property. Raises what its getter raises. */
function get(object, key) {
  return disownMade(object[key], object, key);
}

/** How many elements a list, bytes or a text object has: it has as many names, which take long to list. 0 for anything else. */
function lengthOf(object) {
  const hasLength = Array.isArray(object) || ArrayBuffer.isView(object) || types.isBoxedPrimitive(object);
  return hasLength ? get(object, 'length') ?? 0 : 0;
}

/**
 * The value. Where it is a promise that was made for us alone, its rejection concerns nobody. Other thenables are left alone:
 * their `then` may begin work, as that of a database query does.
 */
function disown(value) {
  if (typeof value !== 'object' || !types.isPromise(value)) return value;
  try {
    Promise.prototype.then.call(value, undefined, () => {});
  } catch {
    // Its class is of a kind that cannot be waited for.
  }
  return value;
}

/** The value that reading object[key] gave. A promise that stands there as a value is the program's own. */
function disownMade(value, object, key) {
  if (typeof value === 'object' && types.isPromise(value) && !standsIn(object, key)) disown(value);
  return value;
}

function standsIn(object, key) {
  try {
    for (let holder = Object(object); holder !== null && !types.isProxy(holder); holder = Object.getPrototypeOf(holder)) {
      const found = Object.getOwnPropertyDescriptor(holder, key);
      if (found !== undefined) return Object.hasOwn(found, 'value');
    }
  } catch {
    // It is read by code of others.
  }
  return false;
}

/** A value's text, as String makes it. Raises what its methods raise. */
function stringOf(value) {
  return isObject(value) ? stringOfObject(value) : String(value);
}

function stringOfObject(object) {
  const convert = get(object, Symbol.toPrimitive);
  if (typeof convert === 'function') return textOfPrimitive(disown(convert.call(object, 'string')));
  const text = disown(object.toString());
  return textOfPrimitive(isObject(text) ? disown(object.valueOf()) : text);
}

function textOfPrimitive(value) {
  if (isObject(value)) throw new TypeError('it has no text');
  return String(value);
}

function isObject(value) {
  return (typeof value === 'object' && value !== null) || typeof value === 'function';
}

/** The name of what was thrown: its class, as the language's users see it. Never raises. */
function nameOf(error) {
  try {
    const own = get(get(error, 'constructor') ?? {}, 'name');
    const said = get(error, 'name');
    const isTelling = typeof said === 'string' && said !== '' && said !== 'Error';
    const name = isTelling || own === 'Object' ? said : own;
    if (typeof name === 'string' && name !== '') return cutToBytes(clean(beginningOf(name, kMaxNameBytes)), kMaxNameBytes);
  } catch {
    // It has no name that can be read.
  }
  return 'Error';
}

module.exports = { disown, disownMade, get, isObject, lengthOf, nameOf, read, stringOf };
