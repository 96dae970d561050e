// The core against a real daemon: runs, what happens while it is away, and what is left at the end.
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';

import * as client from '../index.mjs';
import { atEnd, Daemon, ended, isolate, linesOf, program, skipWithoutDaemon, unsentFiles, until } from './support.mjs';

const skip = skipWithoutDaemon;
const { Recorder, recorded, run } = client;
const silent = () => {};

function open(t, daemon, options) {
  const recorder = new Recorder({ socket: daemon.socket, log: silent, ...options });
  atEnd(t, () => recorder.close(0));
  return recorder;
}

function assertBooks(recorder) {
  const { emitted, acknowledged, refused, dropped, kept, waiting } = recorder.stats();
  assert.equal(emitted, acknowledged + refused + dropped + kept + waiting);
}

test('require and import give the same', () => {
  assert.equal(createRequire(import.meta.url)('../lib/index.js').run, run);
});

test('a run: its start, progress, usage and end', { skip }, async (t) => {
  isolate(t);
  const daemon = new Daemon(t);
  const recorder = open(t, daemon);
  const value = { rows: 3 };
  const came = await run('nightly', async (r) => {
    r.progress(1, 3, 'pages');
    r.usage({ input_tokens: 1200 });
    r.event('note', { text: 'half' });
    r.heartbeat(60);
    return value;
  }, { recorder, runId: 'r1', input: { day: 1 }, attempt: 2, parent: 'r0', jobId: 5, expiresIn: 90 });
  assert.equal(came, value);
  const row = await daemon.run('r1', 'completed');
  assert.deepEqual([row.council, row.input, row.result, row.attempt, row.parent_attempt_run_id, row.job_id],
    ['nightly', { day: 1 }, { rows: 3 }, 2, 'r0', '5']);
  assert.deepEqual([row.progress, row.usage], [{ done: 1, total: 3, unit: 'pages' }, { input_tokens: 1200 }]);
  assertBooks(recorder);
});

test('what the work throws comes out as it was', { skip }, async (t) => {
  isolate(t);
  const daemon = new Daemon(t);
  const recorder = open(t, daemon);
  const error = new TypeError('no such table');
  await assert.rejects(run('f', async () => { throw error; }, { recorder, runId: 'r1' }), (thrown) => thrown === error);
  const row = await daemon.run('r1', 'failed');
  assert.deepEqual([row.error.errors[0].kind, row.error.errors[0].message], ['TypeError', 'no such table']);
  assert.match(row.error.errors[0].stacktrace, /recorder\.test\.mjs/);
  await assert.rejects(run('f', () => { throw null; }, { recorder, runId: 'r2' }), (thrown) => thrown === null);
  await daemon.run('r2', 'failed');
});

test('an abort is a cancellation, a time limit a failure', { skip }, async (t) => {
  isolate(t);
  const daemon = new Daemon(t);
  const recorder = open(t, daemon);
  const aborted = AbortSignal.abort();
  const reason = new Error('the user left');
  const own = AbortSignal.abort(reason);
  await assert.rejects(run('c', async () => aborted.throwIfAborted(), { recorder, runId: 'r1' }), { name: 'AbortError' });
  await assert.rejects(run('c', async () => own.throwIfAborted(), { recorder, runId: 'r2', signal: own }), (thrown) => thrown === reason);
  await assert.rejects(run('c', async () => { throw new DOMException('late', 'TimeoutError'); }, { recorder, runId: 'r3' }), { name: 'TimeoutError' });
  await daemon.run('r1', 'cancelled');
  await daemon.run('r2', 'cancelled');
  await daemon.run('r3', 'failed');
});

test('recorded: the function takes and returns what it did', { skip }, async (t) => {
  isolate(t);
  const daemon = new Daemon(t);
  const recorder = open(t, daemon);
  const object = { factor: 2, double: recorded('double', function (n) { return n * this.factor; }, { recorder }) };
  assert.equal(object.double(4), 8);
  assert.equal(await recorded('later', async (a, b) => a + b, { recorder })(1, 2), 3);
  assert.equal(await recorder.flush(60_000), true);
  const runs = await until(async () => {
    const found = await daemon.runs();
    return found.length === 2 && found.every(({ status }) => status === 'completed') && found;
  }, 'two completed runs');
  assert.match(runs[0].run_id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test('a start is with the daemon while the work keeps the event loop busy', { skip }, async (t) => {
  isolate(t);
  const daemon = new Daemon(t);
  const recorder = open(t, daemon);
  recorder.event('r0', 'note');
  assert.equal(await recorder.flush(60_000), true);
  await run('busy', () => {
    // No turn of the event loop in here.
    const end = Date.now() + 60_000;
    while (Date.now() < end) if (hasStarted(daemon)) return;
    assert.fail('the start did not come');
  }, { recorder, runId: 'r1' });
});

function hasStarted(daemon) {
  const { stdout } = spawnSync(join(process.env.RUN_RECORDER_BIN, 'run-recorder'), ['--control', daemon.control, 'show', 'r1', '--json']);
  return String(stdout).includes('running');
}

test('the daemon comes later, and goes away', { skip }, async (t) => {
  isolate(t);
  const daemon = new Daemon(t, { starts: false });
  const said = [];
  const recorder = open(t, daemon, { log: (message) => said.push(message) });
  await run('early', async () => 1, { recorder, runId: 'r1' });
  await until(() => said.length === 1, 'the log');
  assert.match(said[0], /the daemon is away \(.*events\.sock: no such file or directory\); events are kept in memory/);
  daemon.start();
  assert.equal(await recorder.flush(60_000), true);
  await daemon.kill();
  await run('later', async () => 1, { recorder, runId: 'r2' });
  daemon.start();
  assert.equal(await recorder.flush(60_000), true);
  await daemon.run('r1', 'completed');
  await daemon.run('r2', 'completed');
  assertBooks(recorder);
});

test('a log that raises or rejects harms nothing', { skip }, async (t) => {
  isolate(t);
  const daemon = new Daemon(t, { starts: false });
  const one = open(t, daemon, { log: () => { throw new Error('broken'); } });
  const two = open(t, daemon, { log: async () => { throw new Error('broken'); } });
  for (const recorder of [one, two]) {
    recorder.event('r1', 'note');
    assert.equal(await recorder.flush(50), false);
  }
});

test('a full buffer drops details first, and says so once', { skip }, async (t) => {
  isolate(t);
  const daemon = new Daemon(t, { starts: false });
  const said = [];
  const recorder = open(t, daemon, { bufferBytes: 100_000, log: (message) => said.push(message) });
  recorder.event('r1', 'run_started', { council: 'c' });
  for (let i = 0; i < 2000; ++i) recorder.event('r1', 'step', { payload: { i } });
  recorder.event('r1', 'run_completed', {});
  assert.ok(recorder.stats().dropped > 1000);
  assertBooks(recorder);
  daemon.start();
  assert.equal(await recorder.flush(60_000), true);
  await daemon.run('r1', 'completed');
  assert.equal(said.filter((message) => /is full/.test(message)).length, 1);
  assert.equal(said.filter((message) => /were dropped/.test(message)).length, 1);
  const numbers = (await daemon.events('r1')).filter(({ type }) => type === 'step').map(({ payload }) => payload.i);
  assert.equal(numbers.at(-1), 1999);
});

test('what is refused for good is counted, said and no reason to stop', { skip }, async (t) => {
  isolate(t);
  const daemon = new Daemon(t);
  const said = [];
  const recorder = open(t, daemon, { log: (message) => said.push(message) });
  recorder.event('r1', 'run_stuck', {});
  recorder.event('', 'note', {});
  recorder.event('r1', 'note', { payload: { a: 1 }, a: 2 });
  assert.equal(await recorder.flush(60_000), true);
  const { refused, acknowledged, truncated } = recorder.stats();
  assert.deepEqual([refused, acknowledged, truncated], [2, 1, 2]);
  assertBooks(recorder);
});

test('close keeps what could not be sent, and the tool and the next client send it', { skip }, async (t) => {
  const state = isolate(t);
  const daemon = new Daemon(t, { starts: false });
  const first = open(t, daemon);
  await run('kept', async () => 1, { recorder: first, runId: 'r1' });
  await first.close(50);
  assert.deepEqual([first.stats().kept, first.stats().waiting], [2, 0]);
  assertBooks(first);
  const [file] = unsentFiles(state);
  assert.match(file, /\/\+[^/]*\+events\.sock@[0-9a-z-]+\.ndjson$/);
  assert.deepEqual([statSync(file).mode & 0o777, linesOf(file).map(({ type }) => type)], [0o600, ['run_started', 'run_completed']]);
  first.event('r1', 'note');
  assert.equal(first.stats().dropped, 1);
  daemon.start();
  const second = open(t, daemon);
  second.event('r2', 'note');
  assert.equal(await second.flush(60_000), true);
  await daemon.run('r1', 'completed');
  await until(() => unsentFiles(state).length === 0, 'the file to be removed');
  assert.equal(second.stats().acknowledged, 3);
  assertBooks(second);
});

test('an unsent file with lines that are refused goes away too', { skip }, async (t) => {
  const state = isolate(t);
  const daemon = new Daemon(t);
  const folder = join(state, 'run-recorder', 'unsent');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const name = daemon.socket.replaceAll('/', '+');
  writeFileSync(join(folder, `${name}@a-1.ndjson`), 'nonsense\n{"type":"note","run_id":"r1","id":"x"}\n{"type":"no');
  writeFileSync(join(folder, `${name}@a-2.new`), '{"type":"note","run_id":"r2"}\n');
  const recorder = open(t, daemon);
  assert.equal(await recorder.flush(60_000), true);
  await daemon.run('r1', 'running');
  await until(() => unsentFiles(state).length === 1, 'the file to be removed');
  const { emitted, acknowledged, refused } = recorder.stats();
  assert.deepEqual([emitted, acknowledged, refused], [2, 1, 1]);
});

test('a folder that others may write is not used', { skip }, async (t) => {
  const state = isolate(t);
  const daemon = new Daemon(t, { starts: false });
  const folder = join(state, 'run-recorder', 'unsent');
  mkdirSync(folder, { recursive: true });
  chmodSync(folder, 0o777);
  const recorder = open(t, daemon);
  recorder.event('r1', 'note');
  await recorder.close(0);
  assert.deepEqual([unsentFiles(state), recorder.stats().dropped], [[], 1]);
});

async function end(child) {
  let output = '';
  child.stderr.on('data', (text) => { output += text; });
  return { ...(await ended(child)), output };
}

test('a program that ends flushes, and the socket does not keep it alive', { skip }, async (t) => {
  const state = isolate(t);
  const daemon = new Daemon(t);
  await daemon.listens();
  const { code, output } = await end(program("client.run('p', async () => 1, { runId: 'r1' });", { RUN_RECORDER_SOCKET_PATH: daemon.socket }));
  assert.deepEqual([code, output], [0, '']);
  await daemon.run('r1', 'completed');
  assert.deepEqual(unsentFiles(state), []);
});

for (const [how, text, wanted] of [
  ['process.exit', 'process.exit(3)', 3],
  ['an uncaught exception', "throw new Error('boom')", 1],
  ['an end of the program', '', 0],
]) {
  test(`${how}: what is not acknowledged is in the file`, { skip }, async (t) => {
    const state = isolate(t);
    const daemon = new Daemon(t, { starts: false });
    const child = program(`const recorder = new client.Recorder({ flushTimeout: 100 });
      recorder.event('r1', 'run_started', { council: 'c' });
      ${text};`, { RUN_RECORDER_SOCKET_PATH: daemon.socket });
    const { code } = await end(child);
    assert.equal(code, wanted);
    const [file] = unsentFiles(state);
    assert.deepEqual(linesOf(file).map(({ run_id: runId }) => runId), ['r1']);
    daemon.start();
    await daemon.listens();
    const emit = execFile(join(process.env.RUN_RECORDER_BIN, 'run-recorder'), ['--socket', daemon.socket, 'emit', '--no-worker-pid', '--wait', '30s']);
    emit.stdin.end(linesOf(file).map((line) => `${JSON.stringify(line)}\n`).join(''));
    assert.equal((await ended(emit)).code, 0);
    await daemon.run('r1', 'running');
  });
}

test('worker threads have recorders of their own', { skip }, async (t) => {
  isolate(t);
  const daemon = new Daemon(t);
  await daemon.listens();
  const text = `const client = require(${JSON.stringify(new URL('../lib/index.js', import.meta.url).pathname)});
    client.run('thread', async () => 1, { runId: 'thread-' + require('node:worker_threads').threadId });`;
  const threads = [1, 2].map(() => new Worker(text, { eval: true, env: { ...process.env, RUN_RECORDER_SOCKET_PATH: daemon.socket } }));
  const ids = threads.map(({ threadId }) => threadId);
  await Promise.all(threads.map((thread) => new Promise((resolve) => thread.once('exit', resolve))));
  for (const id of ids) await daemon.run(`thread-${id}`, 'completed');
});

test('RUN_RECORDER_DISABLED makes every call a no-op', async () => {
  const { code, output } = await end(program(`
    const { ok, equal } = await import('node:assert');
    equal(await client.run('x', async (r) => { r.progress(1); r.event('a'); return 7; }), 7);
    client.event('r', 'note');
    ok(await client.flush());
    equal(client.stats().emitted, 0);
    await client.close();`, { RUN_RECORDER_DISABLED: '1' }));
  assert.deepEqual([code, output], [0, '']);
});

test('a daemon that answers nonsense, ends connections or says nothing harms nothing', async (t) => {
  const daemon = { socket: join(isolate(t), 'fake.sock') };
  const answers = ['nonsense\n', '{"acked":"x"}\n', '{"acked":-5}\n{"error":null}\n{"error":{"line":99}}\n[]\n', ''];
  const server = createServer((socket) => {
    socket.on('error', silent);
    socket.once('data', () => socket.end(answers.shift() ?? '{"acked":1}\n{"acked":1}\n'));
  });
  server.listen(daemon.socket);
  atEnd(t, () => promisify(server.close.bind(server))());
  const recorder = open(t, daemon);
  recorder.event('r1', 'note');
  await until(() => recorder.stats().acknowledged === 1, 'the acknowledgement');
  assertBooks(recorder);
});
