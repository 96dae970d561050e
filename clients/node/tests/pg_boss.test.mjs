// The adapter for pg-boss with the real package and a real PostgreSQL: each outcome, compared with what the queue says itself.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { Recorder } from '../index.mjs';
import { recorded, runIdOf } from '../pg-boss.mjs';
import { skipWithoutPostgres, startPostgres } from './servers.mjs';
import { atEnd, Daemon, isolate, lifetime, load, missing, skipWithoutDaemon, tooNew, until } from './support.mjs';

const skip = skipWithoutDaemon || skipWithoutPostgres || missing('pg-boss') || tooNew('pg-boss');

const life = lifetime();
let shared;

/** One daemon and one pg-boss for all tests; a queue for each. */
async function setUp() {
  shared ??= await start();
  const queue = `q${++shared.queues}`;
  await shared.boss.createQueue?.(queue);
  return { ...shared, queue };
}

async function start() {
  isolate(life);
  const daemon = new Daemon(life);
  const database = await startPostgres(life);
  const module = await load('pg-boss');
  const PgBoss = module.PgBoss ?? module.default;
  const boss = new PgBoss({ ...database, max: 4 });
  boss.on('error', () => {});
  await boss.start();
  const recorder = new Recorder({ socket: daemon.socket });
  atEnd(life, async () => {
    await boss.stop({ graceful: false, wait: true });
    await recorder.close();
  });
  return { daemon, boss, recorder, queues: 0 };
}

after(() => life.end());

async function stateOf({ boss, queue }, id, state) {
  return until(async () => (await boss.getJobById(queue, id))?.state === state, `job ${id} to be ${state}`);
}

test('a handler records each outcome', { skip }, async () => {
  const made = await setUp();
  const { daemon, boss, recorder, queue } = made;
  await boss.work(queue, { includeMetadata: true, pollingIntervalSeconds: 0.5 }, recorded(async ([job]) => {
    if (job.data.fails) throw new TypeError('no such table');
    if (job.data.flaky && job.retryCount === 0) throw new Error('once');
    return { rows: 3 };
  }, { recorder, queue: 'ours' }));
  const fine = await boss.send(queue, { rows: 3 }, { retryLimit: 0 });
  const fails = await boss.send(queue, { fails: true }, { retryLimit: 0 });
  const flaky = await boss.send(queue, { flaky: true }, { retryLimit: 2, retryDelay: 1 });
  await stateOf(made, fine, 'completed');
  await stateOf(made, fails, 'failed');
  await stateOf(made, flaky, 'completed');

  const run = await daemon.run(runIdOf(queue, fine, 1), 'completed');
  assert.deepEqual([run.council, run.input, run.result, run.attempt, run.job_id], [queue, { rows: 3 }, { rows: 3 }, 1, fine]);
  const failed = await daemon.run(runIdOf(queue, fails, 1), 'failed');
  assert.equal(failed.oban_job_state_at_finalize, 'failed');
  assert.equal(failed.error.errors[0].kind, 'TypeError');
  assert.equal((await daemon.run(runIdOf(queue, flaky, 1), 'failed')).oban_job_state_at_finalize, 'retry');
  const second = await daemon.run(runIdOf(queue, flaky, 2), 'completed');
  assert.deepEqual([second.attempt, second.parent_attempt_run_id], [2, runIdOf(queue, flaky, 1)]);
  assert.equal((await daemon.runs()).filter(({ council }) => council === queue).length, 4);
});

test('a batch: each job is a run', { skip }, async () => {
  const made = await setUp();
  const { daemon, boss, recorder, queue } = made;
  const ids = [];
  for (let i = 0; i < 3; ++i) ids.push(await boss.send(queue, { i }));
  await boss.work(queue, { includeMetadata: true, batchSize: 3, pollingIntervalSeconds: 0.5 }, recorded(async (jobs) => jobs.length, { recorder }));
  for (const id of ids) {
    await stateOf(made, id, 'completed');
    await daemon.run(runIdOf(queue, id, 1), 'completed');
  }
});

test('without the metadata a run has the job, and an attempt where the package says it', { skip }, async () => {
  const made = await setUp();
  const { daemon, boss, recorder, queue } = made;
  const id = await boss.send(queue, { rows: 1 });
  await boss.work(queue, recorded(async () => 'done', { recorder }));
  await stateOf(made, id, 'completed');
  const { run_id: runId } = await until(async () => (await daemon.runs()).find(({ council }) => council === queue), 'the run');
  const run = await daemon.run(runId, 'completed');
  assert.deepEqual([run.job_id, run.result], [id, { value: 'done' }]);
});

test('a handler that takes too long has failed, as pg-boss says', { skip }, async () => {
  const made = await setUp();
  const { daemon, boss, recorder, queue } = made;
  const id = await boss.send(queue, {}, { retryLimit: 0, expireInSeconds: 1 });
  let finish;
  const late = new Promise((resolve) => { finish = resolve; });
  await boss.work(queue, { includeMetadata: true, pollingIntervalSeconds: 0.5 }, recorded(() => late, { recorder }));
  await stateOf(made, id, 'failed');
  const run = await daemon.run(runIdOf(queue, id, 1), 'failed');
  assert.equal(run.error.errors[0].kind, 'timeout');
  finish('too late');
  assert.equal((await daemon.run(runIdOf(queue, id, 1), 'failed')).status, 'failed');
});

test('a handler that is aborted', { skip }, async () => {
  const made = await setUp();
  const { daemon, boss, recorder, queue } = made;
  const id = await boss.send(queue, {}, { retryLimit: 0 });
  await boss.work(queue, { includeMetadata: true, pollingIntervalSeconds: 0.5 }, recorded(async () => {
    throw new DOMException('This operation was aborted', 'AbortError');
  }, { recorder }));
  await stateOf(made, id, 'failed');
  await daemon.run(runIdOf(queue, id, 1), 'cancelled');
});
