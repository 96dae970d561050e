// What is recorded while the recorder closes and after that: by work that goes on, by work that ends with the process.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';

import { recorded as bullmqRecorded } from '../bullmq.mjs';
import { recordEvents } from '../graphile-worker.mjs';
import * as client from '../index.mjs';
import { recorded as pgBossRecorded } from '../pg-boss.mjs';
import { atEnd, Daemon, fakeDaemon, isolate, linesOf, outcome, program, skipWithoutDaemon, unsentFiles } from './support.mjs';

const { Recorder } = client;

/** The shared recorder's daemon is a fake one. */
function share(t, answers) {
  const socket = join(isolate(t), 'fake.sock');
  process.env.RUN_RECORDER_SOCKET_PATH = socket;
  const lines = fakeDaemon(t, socket, answers);
  atEnd(t, async () => {
    delete process.env.RUN_RECORDER_SOCKET_PATH;
    await client.close(0);
  });
  return lines;
}

function typesOf(lines, runId) {
  return lines.filter((line) => line.run_id === runId).map(({ type }) => type);
}

/** A promise, and what resolves it. */
function later() {
  let resolve;
  const promise = new Promise((made) => { resolve = made; });
  return { promise, resolve };
}

function lineFrom(child) {
  return new Promise((resolve) => child.stdout.once('data', (text) => resolve(String(text))));
}

// ---- the shared recorder

test('close() at SIGTERM: a run that goes on has its end recorded', { skip: skipWithoutDaemon }, async (t) => {
  const state = isolate(t);
  const daemon = new Daemon(t);
  await daemon.listens();
  const child = program(`const alive = setInterval(() => {}, 60_000);
    await client.run('job', (r) => new Promise((resolve) => {
      process.once('SIGTERM', async () => {
        await client.close(60_000);
        client.recorder().options.flushTimeout = 60_000;
        r.progress(1, 2);
        clearInterval(alive);
        resolve(7);
      });
      console.log('works');
    }), { runId: 'r1' });`, { RUN_RECORDER_SOCKET_PATH: daemon.socket });
  atEnd(t, () => child.kill('SIGKILL'));
  const end = outcome(child);
  await lineFrom(child);
  await daemon.run('r1', 'running');
  child.kill('SIGTERM');
  const { code, said } = await end;
  assert.deepEqual([code, said], [0, '']);
  const run = await daemon.run('r1', 'completed');
  assert.deepEqual([run.result, run.progress], [{ value: 7 }, { done: 1, total: 2 }]);
  assert.deepEqual(unsentFiles(state), []);
});

test('after close a run, a function and a job of each adapter go on with the new shared recorder', async (t) => {
  const lines = share(t);
  const shared = client.recorder();
  const { promise, resolve } = later();
  const wait = () => promise;
  const handlers = {};
  const events = { on: (name, handler) => { handlers[name] = handler; }, off() {} };
  const job = { id: 1, attempts: 1, max_attempts: 1, task_identifier: 't' };
  const ids = ['bullmq:q:1:1', 'graphile-worker:1:1', 'pg-boss:q:1:1', 'run', 'given'];
  recordEvents(events);
  handlers['job:start']({ job });
  const works = [
    bullmqRecorded(wait)({ queueName: 'q', id: 1, name: 'n', attemptsStarted: 1 }),
    bullmqRecorded(wait, { recorder: shared })({ queueName: 'given', id: 1, name: 'n', attemptsStarted: 1 }),
    pgBossRecorded(wait)([{ name: 'q', id: 1, retryCount: 0 }]),
    client.run('n', wait, { runId: 'run' }),
    client.run('n', wait, { runId: 'given', recorder: shared }),
    client.recorded('n', wait)(),
  ];
  await client.close(60_000);
  resolve(7);
  await Promise.all(works);
  handlers['job:success']({ job });
  assert.notEqual(client.recorder(), shared);
  assert.equal(await client.flush(60_000), true);
  for (const id of ids) assert.deepEqual(typesOf(lines, id), ['run_started', 'run_completed'], id);
  assert.equal(lines.filter(({ type }) => type === 'run_completed').length, 7);
  assert.deepEqual([shared.stats().emitted, shared.stats().dropped], [7, 0]);
});

test('what comes while it closes is sent in its order', async (t) => {
  const { promise: answers, resolve: answer } = later();
  const lines = share(t, answers);
  const closing = client.recorder();
  client.event('r1', 'run_started');
  const closed = client.close(60_000);
  client.event('r1', 'step');
  answer();
  await closed;
  assert.deepEqual(typesOf(lines, 'r1'), ['run_started', 'step']);
  assert.equal(client.recorder() === closing, false);
  assert.deepEqual(closing.stats(), { emitted: 2, acknowledged: 2, refused: 0, dropped: 0, kept: 0, truncated: 0, waiting: 0 });
});

test('an event right after close() is recorded', async (t) => {
  const lines = share(t);
  client.event('r1', 'note');
  assert.equal(await client.flush(60_000), true);
  const closed = client.close(60_000);
  client.event('r2', 'note');
  await closed;
  assert.equal(await client.flush(60_000), true);
  assert.deepEqual(lines.map(({ run_id: runId }) => runId), ['r1', 'r2']);
});

test('at the end of the process the new shared recorder keeps what it could not send', async (t) => {
  const state = isolate(t);
  const { code } = await outcome(program(`await client.run('job', async (r) => {
      await client.close(0);
      r.event('note');
    }, { runId: 'r1' });
    process.exit();`, { RUN_RECORDER_SOCKET_PATH: join(state, 'none.sock') }));
  assert.equal(code, 0);
  const files = unsentFiles(state).map((file) => linesOf(file).map(({ type }) => type));
  assert.deepEqual(files.sort((a, b) => a.length - b.length), [['run_started'], ['note', 'run_completed']]);
});

test('an event after the end of the process is said', async (t) => {
  const state = isolate(t);
  const { said, printed } = await outcome(program(`client.event('r1', 'note');
    process.on('exit', () => {
      client.event('r2', 'note');
      console.log(client.stats().kept, client.stats().dropped);
    });
    process.exit();`, { RUN_RECORDER_SOCKET_PATH: join(state, 'none.sock') }));
  assert.equal(printed, '1 1\n');
  assert.equal(said.match(/the recorder is closed; events are dropped\n/g).length, 1);
});

// ---- a recorder of one's own

test('what is sent to a recorder after its close is dropped, counted and said once', async (t) => {
  const socket = join(isolate(t), 'fake.sock');
  const lines = fakeDaemon(t, socket);
  const said = [];
  const recorder = new Recorder({ socket, log: (message) => said.push(message) });
  const { promise, resolve } = later();
  const work = client.run('n', () => promise, { recorder, runId: 'r1' });
  const adapted = bullmqRecorded(() => promise, { recorder })({ queueName: 'q', id: 1, name: 'n', attemptsStarted: 1 });
  await recorder.close(60_000);
  resolve(7);
  assert.deepEqual(await Promise.all([work, adapted]), [7, 7]);
  assert.deepEqual(lines.map(({ type }) => type), ['run_started', 'run_started']);
  assert.deepEqual([recorder.stats().emitted, recorder.stats().acknowledged, recorder.stats().dropped], [4, 2, 2]);
  assert.deepEqual(said, ['run-recorder: the recorder is closed; events are dropped']);
});

test('a time limit that is no number is as if it were not given', async (t) => {
  const { promise: answers, resolve: answer } = later();
  const socket = join(isolate(t), 'fake.sock');
  fakeDaemon(t, socket, answers);
  const recorder = new Recorder({ socket, flushTimeout: 60_000, log() {} });
  recorder.event('r1', 'note');
  const closed = recorder.close('SIGTERM', 15); // as in process.on('SIGTERM', close)
  setTimeout(answer, 100);
  await closed;
  assert.deepEqual([recorder.stats().acknowledged, recorder.stats().kept], [1, 0]);
});
