// The adapter for Graphile Worker with the real package and a real PostgreSQL: each outcome, compared with what the queue says.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { recordEvents, runIdOf } from '../graphile-worker.mjs';
import { Recorder } from '../index.mjs';
import { skipWithoutPostgres, startPostgres } from './servers.mjs';
import { atEnd, Daemon, isolate, lifetime, load, missing, skipWithoutDaemon, tooNew, until } from './support.mjs';

const skip = skipWithoutDaemon || skipWithoutPostgres || missing('graphile-worker', 'pg') || tooNew('graphile-worker');

const life = lifetime();
let database;
after(() => life.end());

async function setUp(t, taskList) {
  isolate(t);
  database ??= startPostgres(life);
  const daemon = new Daemon(t);
  const { Pool } = await load('pg');
  const pgPool = new Pool(await database);
  pgPool.on('error', () => {});
  pgPool.on('connect', (client) => client.on('error', () => {}));
  const { run, Logger } = await load('graphile-worker');
  const runner = await run({
    pgPool, taskList, concurrency: 2, pollInterval: 100, noHandleSignals: true, logger: new Logger(() => () => {}),
  });
  const recorder = new Recorder({ socket: daemon.socket });
  recordEvents(runner.events, { recorder, queue: 'ours' });
  atEnd(t, async () => {
    await runner.stop().catch(() => {});
    await recorder.close();
    await pgPool.end();
  });
  return { daemon, runner, recorder };
}

/** What the queue has of a job: gone once it succeeded. */
function look(runner, id) {
  return runner.addJob('look', { id }, { jobKey: `look-${id}` });
}

test('the events of a runner record each outcome', { skip }, async (t) => {
  let rows;
  const { daemon, runner } = await setUp(t, {
    fine: async () => {},
    fails: async () => { throw new TypeError('no such table'); },
    flaky: async (payload, { job }) => { if (job.attempts === 1) throw new Error('once'); },
    aborted: async () => { throw new DOMException('This operation was aborted', 'AbortError'); },
    look: async ({ id }, { query }) => { rows = (await query('select attempts, last_error from graphile_worker.jobs where id = $1', [id])).rows; },
  });
  const fine = await runner.addJob('fine', { rows: 3 });
  const fails = await runner.addJob('fails', {}, { maxAttempts: 1 });
  const flaky = await runner.addJob('flaky', {}, { maxAttempts: 3 });
  const aborted = await runner.addJob('aborted', {}, { maxAttempts: 1 });

  const run = await daemon.run(runIdOf(fine.id, 1), 'completed');
  assert.deepEqual([run.council, run.input, run.attempt, run.job_id], ['fine', { rows: 3 }, 1, String(fine.id)]);
  const failed = await daemon.run(runIdOf(fails.id, 1), 'failed');
  assert.equal(failed.oban_job_state_at_finalize, 'failed');
  assert.equal(failed.error.errors[0].kind, 'TypeError');
  assert.equal((await daemon.run(runIdOf(flaky.id, 1), 'failed')).oban_job_state_at_finalize, 'retryable');
  assert.equal((await daemon.run(runIdOf(flaky.id, 2), 'completed')).parent_attempt_run_id, runIdOf(flaky.id, 1));
  await daemon.run(runIdOf(aborted.id, 1), 'cancelled');

  await look(runner, fails.id);
  await until(() => rows !== undefined, 'the look at the queue');
  assert.equal(rows[0].attempts, 1);
  assert.match(rows[0].last_error, /no such table/);
  rows = undefined;
  await look(runner, flaky.id);
  await until(() => rows !== undefined, 'the look at the queue');
  assert.deepEqual(rows, []);
});

test('a job that is given up at a forceful stop is lost', { skip }, async (t) => {
  let finish;
  const { daemon, runner } = await setUp(t, { endless: () => new Promise((resolve) => { finish = resolve; }) });
  const job = await runner.addJob('endless', {});
  await daemon.run(runIdOf(job.id, 1), 'running');
  const stopped = runner.promise.catch(() => {});
  runner.events.once('pool:gracefulShutdown', ({ workerPool, pool }) => {
    Promise.resolve((workerPool ?? pool).forcefulShutdown('no time')).catch(() => {});
  });
  runner.stop().catch(() => {});
  const run = await daemon.run(runIdOf(job.id, 1), 'stuck');
  assert.match(JSON.stringify(run.error), /no time/);
  finish();
  await stopped;
});
