// What a program gave as options, whatever that is. Nothing here raises.
'use strict';

const { get } = require('./reading.js');

/** Reads options; one that raises when it is read is as if it were not given, and its name is in `unreadable`. */
class Options {
  constructor(given) {
    this.given = given;
    this.unreadable = [];
  }

  get(name) {
    try {
      return this.given === undefined || this.given === null ? undefined : get(this.given, name);
    } catch {
      this.unreadable.push(name);
      return undefined;
    }
  }
}

function attempted(work, otherwise) {
  try {
    return work();
  } catch {
    return otherwise;
  }
}

module.exports = { Options, attempted };
