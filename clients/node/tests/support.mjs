// What the tests share: a daemon of their own, and looking at what it recorded. Nothing here waits for a time, but for a
// condition, with a generous deadline.
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

const kDeadlineMs = 60_000;
const bin = process.env.RUN_RECORDER_BIN;

/** For the option `skip` of a test. */
export const skipWithoutDaemon = bin && existsSync(join(bin, 'run-recorderd'))
  ? false
  : 'RUN_RECORDER_BIN does not name a folder with run-recorderd and run-recorder';

const cleanUps = new WeakMap();

/** At the end of the test, the latest first, unlike `t.after`. */
export function atEnd(t, work) {
  if (!cleanUps.has(t)) {
    const works = [];
    cleanUps.set(t, works);
    t.after(async () => {
      for (const one of works.reverse()) await one();
    });
  }
  cleanUps.get(t).push(work);
}

/** What several tests of a file share: for atEnd instead of a test; `end` belongs into the hook `after`. */
export function lifetime() {
  let work = async () => {};
  return { after: (last) => { work = last; }, end: () => work() };
}

export function temporaryFolder(t) {
  const folder = mkdtempSync(join(tmpdir(), 'rr-node-'));
  atEnd(t, () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Unsent files go to a folder of the test's own. */
export function isolate(t) {
  const folder = temporaryFolder(t);
  process.env.XDG_STATE_HOME = folder;
  return folder;
}

export function unsentFiles(folder) {
  const unsent = join(folder, 'run-recorder', 'unsent');
  return existsSync(unsent) ? readdirSync(unsent).map((name) => join(unsent, name)) : [];
}

export function linesOf(file) {
  return readFileSync(file, 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line));
}

export async function until(condition, what) {
  const end = Date.now() + kDeadlineMs;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export function ended(child) {
  return new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })));
}

/** A socket's file is there before its server listens. */
export async function isListening(path) {
  return new Promise((resolve) => {
    const socket = createConnection(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

/** A daemon with a socket of its own. */
export class Daemon {
  constructor(t, { starts = true } = {}) {
    this.folder = temporaryFolder(t);
    this.socket = join(this.folder, 'events.sock');
    this.control = join(this.folder, 'control.sock');
    if (starts) this.start();
    atEnd(t, () => this.kill());
  }

  start() {
    const env = { PATH: process.env.PATH, RUNTIME_DIRECTORY: this.folder, STATE_DIRECTORY: this.folder };
    this.process = spawn(join(bin, 'run-recorderd'), [], { env, stdio: 'ignore' });
  }

  listens() {
    return until(() => isListening(this.socket), 'the daemon');
  }

  async kill() {
    if (this.process === undefined) return;
    const end = ended(this.process);
    this.process.kill('SIGKILL');
    this.process = undefined;
    await end;
  }

  async tool(...words) {
    const { stdout } = await promisify(execFile)(join(bin, 'run-recorder'), ['--control', this.control, ...words, '--json'], { maxBuffer: 1 << 26 });
    return stdout.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line));
  }

  /** The run once it has that status. */
  async run(runId, status) {
    return until(async () => {
      const [run] = await this.tool('show', runId).catch(() => []);
      return run?.status === status ? run : undefined;
    }, `${runId} to be ${status}`);
  }

  runs() {
    return this.tool('list');
  }

  events(runId) {
    return this.tool('events', runId);
  }
}

/** What a program prints is what it says; it is ESM that imports the client as `client`. */
export function program(text, env = {}) {
  const client = new URL('../index.mjs', import.meta.url).href;
  const source = `import * as client from ${JSON.stringify(client)};\n${text}`;
  return spawn(process.execPath, ['--input-type=module', '-e', source], { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
}

/** How a program ended, and what it wrote. */
export async function outcome(child) {
  let said = '';
  let printed = '';
  child.stderr.on('data', (text) => { said += text; });
  child.stdout.on('data', (text) => { printed += text; });
  await new Promise((resolve) => child.once('close', resolve));
  return { code: child.exitCode, said, printed };
}

/** A server that acknowledges every line, once `answers` is resolved where it is given. What is returned has the lines. */
export function fakeDaemon(t, socket, answers = undefined) {
  const lines = [];
  const server = createServer((connection) => {
    let count = 0;
    let rest = '';
    connection.setEncoding('utf8').on('error', () => {}).on('data', async (text) => {
      const come = (rest + text).split('\n');
      rest = come.pop();
      lines.push(...come.filter((line) => line !== '').map((line) => JSON.parse(line)));
      count += come.length;
      await answers;
      connection.write(`{"acked":${count}}\n`);
    });
  });
  server.listen(socket);
  atEnd(t, () => promisify(server.close.bind(server))());
  return lines;
}

const packages = process.env.RUN_RECORDER_NODE_PACKAGES;

/** Why a package is not there; false: it is. */
export function missing(...names) {
  if (!packages) return 'RUN_RECORDER_NODE_PACKAGES does not name a folder with node_modules';
  const absent = names.filter((name) => !existsSync(join(packages, 'node_modules', name)));
  return absent.length > 0 ? `${absent.join(', ')} is not in RUN_RECORDER_NODE_PACKAGES` : false;
}

/** A package of that folder, whether it is CommonJS or not. */
export async function load(name) {
  const folder = join(packages, 'node_modules', name);
  const described = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  let entry = described.exports?.['.'] ?? described.main;
  while (typeof entry === 'object') entry = entry.import ?? entry.node ?? entry.default;
  const module = await import(pathToFileURL(join(folder, entry)).href);
  return module.default && typeof module.default === 'object' ? { ...module.default, ...module } : module;
}

/** Nothing where it is installed for this version of Node. */
export function tooNew(name) {
  const { engines } = JSON.parse(readFileSync(join(packages, 'node_modules', name, 'package.json'), 'utf8'));
  const wanted = /(\d+)(?:\.(\d+))?/.exec(engines?.node ?? '0');
  const [major, minor] = process.versions.node.split('.').map(Number);
  const fits = major > Number(wanted[1]) || (major === Number(wanted[1]) && minor >= Number(wanted[2] ?? 0));
  return fits ? false : `this ${name} needs Node ${engines.node}`;
}
