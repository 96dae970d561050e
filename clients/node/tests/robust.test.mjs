// What tries to break the client: odd files, odd options, odd values, an event loop that is kept busy. Nothing here needs a daemon.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';

import bullmq from '../lib/bullmq.js';
import { Connection } from '../lib/connection.js';
import errors from '../lib/errors.js';
import event from '../lib/event.js';
import { Recorder } from '../index.mjs';
import { atEnd, fakeDaemon, isolate, outcome, program, temporaryFolder, unsentFiles, until } from './support.mjs';

const kLimit = 1 << 20;
const kHead = { type: 'note', runId: 'r', id: 'i-1', at: '2026-01-01T00:00:00.000000Z', workerPid: 5 };
const kKey = 'a key of about fifty characters, to be many of them';
const silent = () => {};

// ---- files

test('a FIFO among the unsent files holds nothing up', async (t) => {
  const state = isolate(t);
  const socket = join(state, 'fake.sock');
  const folder = join(state, 'run-recorder', 'unsent');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const name = socket.replaceAll('/', '+');
  execFileSync('mkfifo', [join(folder, `${name}@a.ndjson`)]);
  writeFileSync(join(folder, `${name}@b.ndjson`), '{"type":"note","run_id":"left","id":"x"}\n');
  const lines = fakeDaemon(t, socket);
  const child = program(`client.event('own', 'note'); await client.flush(60_000);
    const { existsSync } = await import('node:fs');
    while (existsSync(${JSON.stringify(join(folder, `${name}@b.ndjson`))})) await new Promise(setImmediate);
    process.exit(0);`, { RUN_RECORDER_SOCKET_PATH: socket });
  atEnd(t, () => child.kill('SIGKILL'));
  await until(() => child.exitCode !== null, 'the end of the process');
  assert.deepEqual(lines.map(({ run_id: runId }) => runId), ['left', 'own']);
  assert.deepEqual(unsentFiles(state).map((file) => file.split('@')[1]), ['a.ndjson']);
});

// ---- what is said at the end

for (const [how, end] of [['close', 'await recorder.close(0);'], ['process.exit', 'process.exit();'], ['the end of the program', '']]) {
  test(`${how}: the number of dropped events is said`, async (t) => {
    const state = isolate(t);
    const { said } = await outcome(program(`const recorder = new client.Recorder({ bufferBytes: 10_000, flushTimeout: 0 });
      for (let i = 0; i < 200; ++i) recorder.event('r', 'note');
      console.log(recorder.stats().dropped);
      process.on('exit', () => console.log(recorder.stats().dropped));
      ${end}`, { RUN_RECORDER_SOCKET_PATH: join(state, 'none.sock') }));
    assert.match(said, /run-recorder: 1\d\d events were dropped, since the buffer was full\n/);
    assert.equal(said.match(/were dropped/g).length, 1);
  });
}

test('after close the counts stay until there is another event', async (t) => {
  const state = isolate(t);
  const { printed } = await outcome(program(`const { close, event, flush, recorder, stats } = client;
    event('r', 'note'); event('r', 'note');
    const first = recorder();
    await close(0);
    const say = () => console.log(stats().emitted, stats().kept, stats().waiting);
    say(); await flush(0); await close(0); say();
    event('r', 'note');
    say(); console.log(recorder() === first, first.stats().kept); process.exit();`, { RUN_RECORDER_SOCKET_PATH: join(state, 'none.sock') }));
  assert.equal(printed, '2 2 0\n2 2 0\n1 0 1\nfalse 2\n');
});

// ---- options

test('the work runs whatever the options are', async (t) => {
  const state = isolate(t);
  const { printed, said, code } = await outcome(program(`
    const raising = new Proxy({}, { get() { throw new Error('no'); } });
    const odd = [{}, 1, 'x', () => 1, raising, null, { event() { throw 1; }, hand() { throw 1; } }];
    const options = [...odd.map((recorder) => ({ recorder })), ...odd, { get runId() { throw 1; } }, { get signal() { throw 1; } }, { get input() { throw 1; } }];
    let count = 0;
    for (const option of [...options, ...options]) {
      const value = {};
      if (await client.run('a', (r) => { r.progress(1); r.event('x'); return value; }, option) === value) ++count;
      if (client.recorded('a', () => value, option)() === value) ++count;
      const error = new Error('as it was');
      await client.run('a', () => { throw error; }, option).catch((thrown) => { if (thrown === error) ++count; });
    }
    console.log(count === 3 * 2 * options.length);
    client.recorder().options.flushTimeout = 0;`, { RUN_RECORDER_SOCKET_PATH: join(state, 'none.sock') }));
  assert.deepEqual([code, printed], [0, 'true\n']);
  assert.equal(said.match(/option recorder is no recorder: as if not given/g).length, 1);
  assert.equal(said.match(/option recorder cannot be read: as if not given/g).length, 1);
  assert.equal(said.match(/option input cannot be read: as if not given/g).length, 1);
});

test('a recorder whose options cannot be read has the defaults', async (t) => {
  const state = isolate(t);
  const said = [];
  const log = (message) => said.push(message);
  const { warn } = console;
  console.warn = silent;
  atEnd(t, () => { console.warn = warn; });
  process.env.RUN_RECORDER_SOCKET_PATH = join(state, 'none.sock');
  atEnd(t, () => { delete process.env.RUN_RECORDER_SOCKET_PATH; });
  for (const options of [{ log, get socket() { throw 1; }, get bufferBytes() { throw 1; } }, null, 1, 'x', new Proxy({}, { get() { throw 1; } })]) {
    const recorder = new Recorder(options);
    recorder.words.log = log;
    assert.equal(recorder.options.socket, process.env.RUN_RECORDER_SOCKET_PATH);
    recorder.event('r', 'note');
    assert.equal(recorder.stats().waiting, 1);
    await recorder.close(0);
  }
  assert.equal(said.filter((message) => /option bufferBytes, socket cannot be read/.test(message)).length, 1);
});

test('a recorder that cannot even begin records nothing, and says so', async (t) => {
  const folder = temporaryFolder(t);
  const { code, said } = await outcome(program(`import { mkdirSync, rmdirSync } from 'node:fs';
    mkdirSync('gone'); process.chdir('gone'); rmdirSync('../gone');
    if (await client.run('a', () => 7) !== 7) process.exit(1);
    await client.close();`.replaceAll("'gone'", JSON.stringify(join(folder, 'gone'))).replaceAll("'../gone'", JSON.stringify(join(folder, 'gone'))),
  { RUN_RECORDER_SOCKET_PATH: 'events.sock' }));
  assert.equal(code, 0);
  assert.equal(said.match(/nothing can be recorded/g).length, 1);
});

test('an adapter works whatever its options are', async (t) => {
  isolate(t);
  process.env.RUN_RECORDER_DISABLED = '1';
  atEnd(t, () => { delete process.env.RUN_RECORDER_DISABLED; });
  for (const options of [{ recorder: {} }, new Proxy({}, { get() { throw 1; } }), 1, null]) {
    assert.equal(await bullmq.recorded(async () => 7, options)({ name: 'n', id: 1 }), 7);
    bullmq.recordQueue({ name: 'q', on() {}, off() {} }, options)();
  }
});

// ---- the cost of odd values

/** The longest text that is repaired or replaced in while `work` runs. */
function longestRepaired(work) {
  const { from } = Buffer;
  const { replace, replaceAll } = String.prototype;
  let longest = 0;
  const seen = (text) => { longest = Math.max(longest, typeof text === 'string' ? text.length : 0); };
  Buffer.from = function (text, ...rest) { seen(text); return from.call(Buffer, text, ...rest); };
  String.prototype.replace = function (...args) { seen(String(this)); return replace.apply(this, args); };
  String.prototype.replaceAll = function (...args) { seen(String(this)); return replaceAll.apply(this, args); };
  try {
    work();
  } finally {
    Buffer.from = from;
    Object.defineProperty(String.prototype, 'replace', { value: replace, writable: true, configurable: true, enumerable: false });
    Object.defineProperty(String.prototype, 'replaceAll', { value: replaceAll, writable: true, configurable: true, enumerable: false });
  }
  return longest;
}

test('a text that is far too long is cut before it is repaired', () => {
  const long = '\ud800'.repeat(3_000_000);
  const named = new Error('m');
  named.name = long;
  const make = (fields, head = kHead) => event.makeLine(head, fields, kLimit).line;
  for (const work of [
    () => make({ council: long, queue: long, unit: long, job_id: long }), () => event.typeOf(long), () => make({ progress: { done: 1, unit: long } }),
    () => make({ errors: [errors.describeError(new Error(long))] }), () => make({ errors: [errors.describeError(named)] }), () => make({ errors: [long] }),
    () => make({ errors: [errors.describeError(long)] }), () => make({ message: long }, { ...kHead, type: 'run_lost' }), () => make({ id: long, at: long }),
  ]) assert.ok(longestRepaired(work) <= 10_000, String(work));
  assert.equal(JSON.parse(make({ council: long })).council, '\ufffd'.repeat(85));
  assert.equal(JSON.parse(make({ errors: [new Error(long)] })).errors[0].message, '\ufffd'.repeat(1000));
});

test('a text is cut at a boundary, and repaired', () => {
  const make = (fields) => JSON.parse(event.makeLine(kHead, fields, kLimit).line);
  assert.equal(make({ council: `${'x'.repeat(254)}🚀` }).council, 'x'.repeat(254));
  assert.equal(make({ council: `${'x'.repeat(251)}🚀🚀` }).council, `${'x'.repeat(251)}🚀`);
  assert.equal(make({ council: 'a\0\ud800b\udc00🚀' }).council, 'a\ufffd\ufffdb\ufffd🚀');
  const message = `${'x'.repeat(999)}🚀${'x'.repeat(2_000_000)}`;
  assert.equal(make({ errors: [new Error(message)] }).errors[0].message, 'x'.repeat(999));
});

test('an object of very many keys is read no further than it can be sent', () => {
  let reads = 0;
  const members = Array.from({ length: 60_000 }, (_, i) => [kKey + i, { enumerable: true, get() { ++reads; return 1; } }]);
  const value = Object.defineProperties({}, Object.fromEntries(members));
  assert.equal(event.makeLine(kHead, { input: value }, kLimit).reduced, true);
  assert.ok(reads > 0 && reads * kKey.length <= kLimit, `${reads} reads`);
});

test('what only looks large is sent whole', () => {
  const cycle = { text: 'x'.repeat(300_000) };
  cycle.self = cycle;
  const left = Object.fromEntries(Array.from({ length: 30_000 }, (_, i) => [kKey + i, undefined]));
  for (const input of [cycle, left]) assert.equal(event.makeLine(kHead, { input }, kLimit).reduced, false);
});

// ---- time limits

/** No turn of the event loop meanwhile. */
function blockFor(ms) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

test('a limit for the connection that passes while the program is busy does not count', async (t) => {
  const socket = join(temporaryFolder(t), 'fake.sock');
  fakeDaemon(t, socket);
  const came = await new Promise((resolve) => {
    setImmediate(() => {
      const connection = new Connection(socket, { stallMs: 1000, connectMs: 10 }, { open: () => resolve('open'), end: ({ message }) => resolve(message) });
      atEnd(t, () => connection.finish(new Error('the end')));
      blockFor(50);
    });
  });
  assert.equal(came, 'open');
});

test('a limit of flush that passes while the program is busy does not count', async (t) => {
  const socket = join(isolate(t), 'fake.sock');
  const flags = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(`const { parentPort, workerData: { flags, socket } } = require('node:worker_threads');
    require('node:net').createServer((connection) => {
      let count = 0;
      connection.on('error', () => {}).on('data', (bytes) => {
        count += String(bytes).split('\\n').length - 1;
        connection.write('{"acked":' + count + '}\\n', () => { Atomics.store(flags, 0, count); Atomics.notify(flags, 0); });
      });
    }).listen(socket, () => parentPort.postMessage('ready'));`, { eval: true, workerData: { flags, socket } });
  atEnd(t, () => worker.terminate());
  await new Promise((resolve) => { worker.once('message', resolve); });
  const recorder = new Recorder({ socket, log: silent });
  atEnd(t, () => recorder.close(0));
  recorder.event('r', 'note');
  assert.equal(await recorder.flush(60_000), true);
  await new Promise((resolve) => { setImmediate(resolve); });
  recorder.event('r', 'note');
  recorder.hand();
  const settled = recorder.flush(1);
  Atomics.wait(flags, 0, 1); // until the answer is on its way
  blockFor(20);
  assert.equal(await settled, true);
});

test('a limit without a busy event loop is kept', async (t) => {
  const recorder = new Recorder({ socket: join(isolate(t), 'none.sock'), log: silent });
  atEnd(t, () => recorder.close(0));
  recorder.event('r', 'note');
  assert.equal(await recorder.flush(10), false);
});

// ---- the cost of many names and elements

/** Those of `kinds` whose names are listed while `work` runs. */
function listedOf(kinds, work) {
  const { keys } = Object;
  const listed = [];
  Object.keys = (object) => {
    if (kinds.includes(object)) listed.push(object);
    return keys(object);
  };
  try {
    work();
  } finally {
    Object.keys = keys;
  }
  return listed;
}

/** An object with that many names, which counts what is read. */
function counting(count, target, valueOf) {
  const counts = { lists: 0, reads: 0 };
  const names = Array.from({ length: count }, (_, i) => `${i}`);
  const value = new Proxy(target, {
    ownKeys() {
      ++counts.lists;
      return [...names, ...Reflect.ownKeys(target)];
    },
    getOwnPropertyDescriptor: (_, name) => Reflect.getOwnPropertyDescriptor(target, name) ?? { value: 1, enumerable: true, configurable: true },
    get(_, name) {
      if (name === 'length') return count;
      if (typeof name !== 'string' || !/^\d/.test(name)) return Reflect.get(target, name);
      ++counts.reads;
      return valueOf(name);
    },
  });
  return { value, counts };
}

test('usage: what is no object of numbers is left out at once', () => {
  const kinds = [Buffer.alloc(100_000), new Float64Array(100_000), Array(100_000).fill(1), Object('x'.repeat(100_000)), new ArrayBuffer(100_000), new DataView(new ArrayBuffer(8))];
  const listed = listedOf(kinds.slice(0, 4), () => {
    for (const usage of kinds) {
      const { line, reduced } = event.makeLine(kHead, { usage }, kLimit);
      assert.deepEqual([JSON.parse(line).usage, reduced], [undefined, false]);
    }
  });
  assert.equal(listed.length, 0);
});

test('usage: of many names the first few hundred are read', () => {
  for (const [valueOf, sent] of [[Number, 512], [() => 'no number', 0]]) {
    const { value, counts } = counting(20_000, {}, valueOf);
    const { line, reduced } = event.makeLine(kHead, { usage: value }, kLimit);
    assert.deepEqual(counts, { lists: 1, reads: 512 });
    assert.equal(Object.keys(JSON.parse(line).usage ?? {}).length, sent);
    assert.equal(reduced, false);
  }
});

test('errors: of a list that is far too long the first are read, and ten are sent', () => {
  const { value, counts } = counting(1_000_000, [], (name) => (name === '3' ? new TypeError('m') : ''));
  const { line, reduced } = event.makeLine({ ...kHead, type: 'run_failed' }, { errors: value }, kLimit);
  assert.ok(counts.reads <= 10_011, `${counts.reads} reads`);
  assert.equal(reduced, true);
  const { errors: sent } = JSON.parse(line);
  assert.deepEqual([sent.length, sent[0], sent[3]], [10, '', { kind: 'TypeError', message: 'm' }]);
});

test('errors: ten thousand are sent whole', () => {
  const { line, reduced } = event.makeLine({ ...kHead, type: 'run_failed' }, { errors: Array(10_000).fill('e') }, kLimit);
  assert.deepEqual([JSON.parse(line).errors.length, reduced], [10_000, false]);
});

test('fields that are a long list or bytes are too large at once', () => {
  const kinds = [Buffer.alloc(1 << 20), Array(1 << 20).fill(1), Object('x'.repeat(1 << 20))];
  const listed = listedOf(kinds, () => {
    for (const fields of kinds) assert.equal(event.makeLine(kHead, fields, kLimit).reduced, true);
  });
  assert.equal(listed.length, 0);
});

test('names that are repaired are read no further than they can be sent', () => {
  const { value, counts } = counting(300_000, {}, () => undefined);
  const odd = new Proxy(value, { ownKeys: (target) => Reflect.ownKeys(target).map((name) => `${name}\0`) });
  assert.equal(event.makeLine(kHead, { input: [1n, odd] }, kLimit).reduced, true);
  assert.equal(counts.reads, 0);
});
