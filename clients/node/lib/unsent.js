// The folder of events that could not be sent, and its files: one client writes a file at its end, the next one that
// reaches the daemon sends it and removes it. Reading is asynchronous, a piece at a time; writing is synchronous, since it
// happens where a process ends. For one thread, and any number of processes.
'use strict';

const { randomBytes } = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { StringDecoder } = require('node:string_decoder');

const kMaxFolderBytes = 16 << 20;
const kMaxName = 240;
const kPieceBytes = 64 << 10;
const kMaxLine = 4 << 20;
const kSuffix = '.ndjson';
const kOthersMayWrite = 0o022;
// A FIFO would block a thread, and with it the end of the process, until somebody writes to it.
const kOpenFlags = fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK | fs.constants.O_NOCTTY;

/** $XDG_STATE_HOME/run-recorder/unsent, else below the home; undefined where there is none. */
function unsentFolder(environment) {
  const state = environment.XDG_STATE_HOME;
  if (state && path.isAbsolute(state)) return path.join(state, 'run-recorder', 'unsent');
  const home = environment.HOME || homeOfUser();
  return home && path.isAbsolute(home) ? path.join(home, '.local', 'state', 'run-recorder', 'unsent') : undefined;
}

function homeOfUser() {
  try {
    return os.userInfo().homedir;
  } catch {
    return undefined;
  }
}

/** The name of a socket's files: each / as +, else percent-encoded. */
function fileNameOf(socketPath) {
  const bytes = [...Buffer.from(path.resolve(socketPath), 'utf8')];
  return bytes.map((byte) => encodedByte(String.fromCharCode(byte), byte)).join('');
}

function encodedByte(character, byte) {
  if (character === '/') return '+';
  if (/[A-Za-z0-9._~-]/.test(character)) return character;
  return `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
}

class Unsent {
  constructor(folder, socketPath) {
    this.folder = folder;
    this.name = fileNameOf(socketPath);
  }

  /** The files of this socket that other clients have left, the oldest first. Never rejects. */
  async files() {
    try {
      if (this.folder === undefined) return [];
      isOurs(await fs.promises.lstat(this.folder));
      const names = (await fs.promises.readdir(this.folder)).filter((name) => this.isLeft(name)).sort();
      return names.map((name) => new LeftFile(path.join(this.folder, name)));
    } catch {
      return [];
    }
  }

  isLeft(name) {
    const unique = name.slice(this.name.length + 1, -kSuffix.length);
    return name.startsWith(`${this.name}@`) && name.endsWith(kSuffix) && /^[0-9a-z-]+$/.test(unique);
  }

  /**
   * Writes entries to a file of their own, durably: {file, kept}, where `kept` are those that fit. Lifecycle events come
   * first where not all do. Throws what the file system says.
   */
  keep(entries) {
    if (this.folder === undefined) throw new Error('this user has no home');
    if (this.name.length > kMaxName) throw new Error('the path of the socket is too long for the name of a file');
    makeFolder(this.folder);
    const kept = fitting(entries, kMaxFolderBytes - bytesIn(this.folder));
    if (kept.length === 0) throw new Error(`${this.folder} is full`);
    const unique = `${Date.now().toString(36)}-${process.pid}-${randomBytes(4).toString('hex')}`;
    const file = path.join(this.folder, `${this.name}@${unique}`);
    writeDurably(file, kept.map(({ line }) => `${line}\n`).join(''));
    return { file: file + kSuffix, kept };
  }
}

function isOurs(status) {
  if (!status.isDirectory() || status.uid !== process.geteuid() || (status.mode & kOthersMayWrite) !== 0) {
    throw new Error('the folder can be written by others than this user');
  }
}

/** Not below what belongs to another user, as where root runs with the home of somebody else. */
function makeFolder(folder) {
  let existing = folder;
  while (!fs.existsSync(existing)) existing = path.dirname(existing);
  const owner = fs.statSync(existing).uid;
  if (owner !== process.geteuid() && owner !== 0) throw new Error(`${existing} belongs to another user`);
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  isOurs(fs.lstatSync(folder));
}

function bytesIn(folder) {
  let bytes = 0;
  for (const name of fs.readdirSync(folder)) {
    const status = fs.lstatSync(path.join(folder, name), { throwIfNoEntry: false });
    if (status?.isFile()) bytes += status.size;
  }
  return bytes;
}

function fitting(entries, room) {
  const chosen = [];
  for (const wanted of [true, false]) {
    for (const entry of entries) {
      if (entry.lifecycle !== wanted || entry.bytes + 1 > room) continue;
      room -= entry.bytes + 1;
      chosen.push(entry);
    }
  }
  return chosen.sort((a, b) => a.seq - b.seq);
}

function writeDurably(file, text) {
  const made = `${file}.new`;
  const fd = fs.openSync(made, 'wx', 0o600);
  try {
    fs.writeFileSync(fd, text);
    fs.fdatasyncSync(fd);
  } catch (error) {
    fs.rmSync(made, { force: true });
    throw error;
  } finally {
    fs.closeSync(fd);
  }
  fs.renameSync(made, file + kSuffix);
  syncFolder(path.dirname(file));
}

function syncFolder(folder) {
  const fd = fs.openSync(folder, 'r');
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** One file that was left: its lines, a piece at a time, and its end once all of them are settled. */
class LeftFile {
  constructor(file) {
    this.file = file;
    this.handle = undefined;
    this.decoder = new StringDecoder('utf8');
    this.rest = '';
    this.ended = false;
    this.broken = false; // it stays for the next one
    this.unsettled = 0;
  }

  /** The next lines; none at the end. Never rejects. */
  async read() {
    try {
      if (this.handle === undefined) await this.open();
      while (!this.ended) {
        const lines = await this.readPiece();
        this.unsettled += lines.length;
        if (lines.length > 0) return lines;
      }
    } catch {
      this.ended = true; // somebody else has sent it, or it cannot be read
      this.broken = true;
    }
    await this.removeIfSettled();
    return [];
  }

  async open() {
    this.handle = await fs.promises.open(this.file, kOpenFlags);
    if (!(await this.handle.stat()).isFile()) throw new Error('it is no regular file');
  }

  async readPiece() {
    const { buffer, bytesRead } = await this.handle.read(Buffer.allocUnsafe(kPieceBytes), 0, kPieceBytes, null);
    this.broken = this.rest.length > kMaxLine;
    this.ended = bytesRead === 0 || this.broken;
    const text = this.rest + this.decoder.write(buffer.subarray(0, bytesRead));
    const lines = text.split('\n');
    this.rest = lines.pop(); // at the end: one that was not written whole
    return lines.filter((line) => line.trim() !== '');
  }

  /** It is not sent any further: it stays. */
  abandon() {
    this.ended = true;
    this.broken = true;
    this.unsettled = 0;
    return this.removeIfSettled();
  }

  settled() {
    --this.unsettled;
    return this.removeIfSettled();
  }

  async removeIfSettled() {
    if (!this.ended || this.unsettled > 0) return;
    const { handle } = this;
    this.handle = undefined;
    try {
      if (handle !== undefined && !this.broken) await fs.promises.rm(this.file, { force: true });
      await handle?.close();
    } catch {
      // It stays, and is sent again: its ids make that harmless.
    }
  }
}

module.exports = { Unsent, unsentFolder };
