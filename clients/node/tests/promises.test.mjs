// Code of the program that the client calls may make promises that nobody else has. What these reject with ends no program; the
// program's own promises are its own.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';

import { isolate, outcome, program } from './support.mjs';

/** A program that uses `client` and `no()`, a promise that rejects; it says where it comes to its end. */
function run(t, text) {
  return outcome(program(`const no = async () => { throw new Error('dropped'); };
    ${text}
    for (let i = 0; i < 3; ++i) await new Promise(setImmediate);
    console.log('lives');
    process.exit();`, { RUN_RECORDER_SOCKET_PATH: join(isolate(t), 'none.sock') }));
}

async function assertLives(t, text) {
  const { code, printed, said } = await run(t, text);
  assert.deepEqual([code, printed], [0, 'lives\n'], said);
}

const kValues = {
  'toJSON': '{ toJSON: no }',
  'toJSON that waits': '{ async toJSON() { await 1; throw new Error("dropped"); } }',
  'toJSON of a class': 'new (class { toJSON() { return no(); } })()',
  'toJSON in a list': '[1, { toJSON: no }]',
  'a getter': '{ get a() { return no(); } }',
  'a getter in a list': 'Object.defineProperty([1, 2], 1, { get: no })',
  'a getter of a class': 'Object.assign(Object.create({ get toJSON() { return no(); } }), { a: 1n })',
  'a getter beside what is not plain': '{ a: 1n, get b() { return no(); } }',
  'a proxy': 'new Proxy({ a: 1 }, { get: no })',
  'a proxy whose methods are promises': 'new Proxy({}, { get: () => no })',
  'toString': 'new (class { toString() { return no(); } })()',
  'valueOf': 'new (class { toString() { return {}; } valueOf() { return no(); } })()',
  'Symbol.toPrimitive': 'new (class { [Symbol.toPrimitive]() { return no(); } })()',
  'valueOf of a text object': 'Object.assign(new String("x"), { valueOf: no })',
  'toString of a key': 'new Map([[{ toString: no }, 1], [{ [Symbol.toPrimitive]: no }, 2]])',
  'the message of an error': 'Object.defineProperty(new Error("m"), "message", { get: no })',
  'the name of an error': 'Object.defineProperties(new Error("m"), { stack: { get: no }, name: { get: no }, constructor: { get: no } })',
};

for (const [name, value] of Object.entries(kValues)) {
  test(`${name}: a promise that rejects ends no program`, (t) => assertLives(t, `const make = () => (${value});
    client.event('r', 'note', { payload: make(), council: make(), usage: make(), errors: [make()], at: make(), message: make(), more: make() });
    client.event('r', 'run_failed', { errors: make(), progress: make(), input: { deep: [make()] }, result: make() });
    client.event(make(), make(), make());
    await client.run(make(), (r) => {
      r.progress(make(), make(), make()); r.usage(make()); r.usage({ a: make() }); r.event('x', make()); r.heartbeat(make());
      r.result = make();
    }, { runId: make(), input: make(), queue: make(), jobId: make() });
    await client.run('f', () => { throw make(); }, { signal: make() }).catch(() => {});
    await client.flush(make() && 0);`));
}

test('options and recorders that are promises end no program', (t) => assertLives(t, `
    await client.run('n', () => 1, { get input() { return no(); }, get runId() { return no(); }, get signal() { return no(); }, get recorder() { return no(); } });
    await client.run('n', () => 1, { recorder: { event: no, hand: no } });
    const own = new client.Recorder({ get socket() { return no(); }, get log() { return no(); } });
    await own.close({ valueOf: no });
    await own.flush({ valueOf: no });`));

test('callbacks of an adapter that are asynchronous end no program', (t) => assertLives(t, `
    const { createRequire } = await import('node:module');
    const require = createRequire(${JSON.stringify(import.meta.url)});
    const options = { council: no, input: no };
    const odd = { recorder: { event: no, hand: no } };
    for (const given of [options, odd]) {
      await require('../lib/bullmq.js').recorded(async () => 7, given)({ queueName: 'q', id: 1, name: 'n', attemptsStarted: 1 });
      await require('../lib/pg_boss.js').recorded(async () => 7, given)([{ name: 'q', id: 1, retryCount: 0 }]);
      const handlers = {};
      require('../lib/graphile_worker.js').recordEvents({ on: (name, handler) => { handlers[name] = handler; } }, given);
      handlers['job:start']({ job: { id: 1, attempts: 1 } });
      handlers['job:success']({ job: { id: 1, attempts: 1 } });
    }`));

test('a promise of the program that stands in a value is its own', async (t) => {
  const { code, said } = await run(t, "client.event('r', 'note', { payload: { made: no() } });");
  assert.equal(code, 1);
  assert.match(said, /Error: dropped/);
});

test('what is only like a promise is not begun', (t) => assertLives(t, `
    const query = { table: 't', then() { process.exit(3); } };
    client.event('r', 'note', { payload: query, get input() { return query; } });
    client.event('r', 'note', { payload: { toJSON: () => query } });`));
