// What any value becomes, and what the fields of an event do. No daemon.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import event from '../lib/event.js';
import fields from '../lib/fields.js';
import values from '../lib/values.js';

const kLimit = 1 << 20;
const kHead = { type: 'note', runId: 'r', id: 'i-1', at: '2026-01-01T00:00:00.000000Z', workerPid: 5 };

function encoded(value) {
  return values.encode(value, kLimit);
}

function line(fields, head = kHead) {
  return JSON.parse(event.makeLine(head, fields, kLimit).line);
}

test('plain data is as JSON says', () => {
  for (const value of [1, -0.125, 1e300, 'x', '', true, null, [], {}, [1, [2, { a: null }]], { a: undefined }, '\u0001"\\\u2028🚀', { '__proto__': 1 }]) {
    assert.equal(encoded(value), JSON.stringify(value));
  }
});

test('what JSON cannot say', () => {
  const cases = [
    [NaN, '"NaN"'], [[-Infinity], '["-Infinity"]'], [2n ** 70n, '1180591620717411303424'], [-5n, '-5'], ['a\0b\ud800c', '"a\ufffdb\ufffdc"'],
    [{ 'k\0': 1, 'k\ufffd': 2 }, '{"k\ufffd":2}'], [new Map([[1, 'a'], ['1', 'b']]), '{"1":"b"}'], [new Set([1, 'x']), '[1,"x"]'],
    [new Date(0), '"1970-01-01T00:00:00.000Z"'], [new Date(NaN), '"Invalid Date"'], [Buffer.from([97, 255, 98]), '"a\ufffdb"'],
    [new Float64Array([1.5, NaN]), '[1.5,"NaN"]'], [Symbol('s'), '"s"'], [new URL('http://a/b'), '"http://a/b"'], [/x/g, '"/x/g"'],
    [[() => 1, undefined], '[null,null]'], [{ f() {} }, '{}'], [new (class { constructor() { this.name = 'x'; } })(), '{"name":"x"}'],
    [new TypeError('m'), '{"kind":"TypeError","message":"m"}'], [Object.create(null), '{}'], [{ toJSON() { return { a: NaN }; } }, '{"a":"NaN"}'],
  ];
  for (const [value, wanted] of cases) assert.equal(encoded(value), wanted);
  const huge = encoded(10n ** 400n);
  assert.equal(huge, `"1${'0'.repeat(299)}"`);
});

test('cycles and depth', () => {
  const cycle = { n: 1 };
  cycle.self = cycle;
  assert.equal(encoded([cycle, cycle]), '[{"n":1,"self":"[cycle]"},{"n":1,"self":"[cycle]"}]');
  let deep = [];
  for (let i = 1; i < 60; ++i) deep = [deep];
  assert.equal(encoded(deep), '['.repeat(60) + ']'.repeat(60));
  assert.equal(encoded([deep]), `${'['.repeat(60)}"[too deep]"${']'.repeat(60)}`);
});

test('what raises when it is read', () => {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  assert.equal(encoded(proxy), '"[unreadable: TypeError]"');
  assert.equal(encoded({ ok: 1, get bad() { throw new RangeError('no'); } }), '{"ok":1,"bad":"[unreadable: RangeError]"}');
  assert.equal(encoded([{ toJSON() { throw null; } }]), '["[unreadable: Error]"]');
});

test('what is far too large ends soon, and the event is reduced', () => {
  for (const value of ['x'.repeat(64 << 20), new Array(1e9), Array(1e6).fill('x'.repeat(100)), '\u20ac'.repeat(500_000)]) {
    const made = event.makeLine({ ...kHead, type: 'run_started' }, { council: 'c', input: value, job_id: 7 }, kLimit);
    assert.equal(made.reduced, true);
    const { council, input, job_id: jobId, truncated } = JSON.parse(made.line);
    assert.deepEqual([council, input, jobId, truncated], ['c', undefined, '7', true]);
  }
});

test('reduced: ten errors with kind and message', () => {
  const errors = Array.from({ length: 20 }, (_, i) => ({ kind: `K${i}`, message: 'm'.repeat(100_000), stacktrace: 's' }));
  const made = line({ errors }, { ...kHead, type: 'run_failed' });
  assert.equal(made.errors.length, 10);
  assert.deepEqual(made.errors[9], { kind: 'K9', message: 'm'.repeat(1000) });
});

test('a line that was refused is reduced, its large integers exactly', () => {
  const { line: whole } = event.makeLine({ ...kHead, type: 'run_started' }, { oban_job_id: 9007199254740993n, input: 1, more: 2 }, kLimit);
  const reduced = event.reduceLine(whole, kLimit);
  assert.match(reduced, /"oban_job_id":9007199254740993,"truncated":true}$/);
  assert.equal(JSON.parse(reduced).input, undefined);
  assert.equal(event.reduceLine('nonsense', kLimit), undefined);
});

test('fields as the daemon takes them', () => {
  const made = line({
    council: '\u20ac'.repeat(100), queue: '', job_id: 17, oban_job_id: 18, attempt: 0, expires_in: 1.5, input: null, more: null,
    usage: { tokens: 3, bad: NaN, none: null }, progress: { done: 1, total: undefined, unit: 'x'.repeat(100) }, payload: [1],
    errors: new Error('m'), at: 'yesterday', worker_pid: null,
  });
  assert.equal(made.council, '\u20ac'.repeat(85));
  assert.deepEqual([made.queue, made.job_id, made.oban_job_id, made.attempt, made.expires_in], [undefined, '17', undefined, undefined, 2]);
  assert.deepEqual([made.input, 'more' in made, made.usage, made.payload], [null, false, { tokens: 3 }, { value: [1] }]);
  assert.deepEqual(made.progress, { done: 1, unit: 'x'.repeat(64) });
  assert.deepEqual([made.errors.length, made.errors[0].kind, made.at, 'worker_pid' in made], [1, 'Error', kHead.at, false]);
  assert.equal(line({ at: '2026-01-02T03:04:05+01:00', progress: { done: 'no' } }).at, '2026-01-02T03:04:05+01:00');
  assert.equal(line({}, { ...kHead, type: 'run_heartbeat' }).worker_pid, undefined);
  assert.deepEqual(line({ errors: [1, [2], { kind: 'k' }, 'text'] }).errors, ['1', '[2]', { kind: 'k' }, 'text']);
});

test('types and run ids', () => {
  assert.deepEqual(['Row Done!', '9a', '', 'x'.repeat(80)].map(event.typeOf), ['row_done_', 'event_9a', 'event_', 'x'.repeat(64)]);
  assert.equal(fields.runIdOf('x'.repeat(255)), 'x'.repeat(255));
  assert.equal(fields.runIdOf('x'.repeat(300)), `${'x'.repeat(200)}~0d4e2ca9e9cbced7a7a5380eb29e1a37`);
  assert.deepEqual([undefined, null, 7].map(fields.runIdOf), ['', '', '7']);
});
