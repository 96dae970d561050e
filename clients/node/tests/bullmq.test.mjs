// The adapter for BullMQ with the real package and a real redis: each outcome, compared with what the queue says itself.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { recordQueue, recorded, runIdOf } from '../bullmq.mjs';
import { Recorder } from '../index.mjs';
import { skipWithoutRedis, startRedis } from './servers.mjs';
import { atEnd, Daemon, ended, isolate, load, missing, skipWithoutDaemon, until } from './support.mjs';

const skip = skipWithoutDaemon || skipWithoutRedis || missing('bullmq', 'ioredis');
const kWorker = fileURLToPath(new URL('bullmq_worker.mjs', import.meta.url));

async function setUp(t) {
  isolate(t);
  const daemon = new Daemon(t);
  const connection = { path: await startRedis(t) };
  const bullmq = await load('bullmq');
  const recorder = new Recorder({ socket: daemon.socket });
  const made = { daemon, bullmq, connection, recorder, queue: new bullmq.Queue('q', { connection }) };
  atEnd(t, () => Promise.all([made.queue.close(), recorder.close()]));
  return made;
}

function work(t, { bullmq, connection }, processor, options) {
  const worker = new bullmq.Worker('q', processor, { connection, ...options });
  worker.on('error', () => {});
  atEnd(t, () => worker.close(true));
  return worker;
}

async function listenTo(t, { bullmq, connection, recorder, queue }, options) {
  const events = new bullmq.QueueEvents('q', { connection });
  atEnd(t, () => events.close());
  await events.waitUntilReady();
  recordQueue(events, { recorder, jobs: queue, ...options });
  return events;
}

async function stateOf(queue, job, state) {
  return until(async () => await (await queue.getJob(job.id)).getState() === state, `job ${job.id} to be ${state}`);
}

test('a worker records each outcome', { skip }, async (t) => {
  const made = await setUp(t);
  const { daemon, queue, recorder, bullmq } = made;
  const worker = work(t, made, recorded(async (job, token) => {
    if (job.name === 'fails') throw new TypeError('no such table');
    if (job.name === 'hopeless') throw new bullmq.UnrecoverableError('never');
    if (job.name === 'later' && job.attemptsStarted === 1) {
      await job.moveToDelayed(Date.now() + 50, token);
      throw new bullmq.DelayedError();
    }
    await job.updateProgress(50);
    return { rows: job.data.rows };
  }, { recorder, queue: 'ours' }), { concurrency: 4 });
  const fine = await queue.add('fine', { rows: 3 });
  const fails = await queue.add('fails', {}, { attempts: 2 });
  const hopeless = await queue.add('hopeless', {}, { attempts: 5 });
  const later = await queue.add('later', { rows: 1 });
  for (const job of [fine, later]) await stateOf(queue, job, 'completed');
  for (const job of [fails, hopeless]) await stateOf(queue, job, 'failed');

  const run = await daemon.run(runIdOf('q', fine.id, 1), 'completed');
  assert.deepEqual([run.council, run.input, run.result, run.attempt, run.job_id], ['fine', { rows: 3 }, { rows: 3 }, 1, fine.id]);
  const first = await daemon.run(runIdOf('q', fails.id, 1), 'failed');
  const second = await daemon.run(runIdOf('q', fails.id, 2), 'failed');
  assert.deepEqual([first.oban_job_state_at_finalize, second.oban_job_state_at_finalize], ['waiting', 'failed']);
  assert.equal(second.parent_attempt_run_id, first.run_id);
  assert.equal(first.error.errors[0].kind, 'TypeError');
  assert.equal((await daemon.run(runIdOf('q', hopeless.id, 1), 'failed')).oban_job_state_at_finalize, 'failed');
  const putOff = await daemon.run(runIdOf('q', later.id, 1), 'completed');
  assert.ok(putOff.result.snoozed > 0 && putOff.result.snoozed <= 0.05);
  await daemon.run(runIdOf('q', later.id, 2), 'completed');
  assert.equal((await daemon.runs()).length, 6);
  const [start] = await daemon.events(run.run_id);
  assert.equal(start.payload.queue, 'ours');
  assert.equal(worker.isRunning(), true);
});

test('a job that is cancelled', { skip }, async (t) => {
  const made = await setUp(t);
  const worker = work(t, made, recorded((job, token, signal) => new Promise((resolve, reject) => {
    const abort = () => reject(new DOMException('This operation was aborted', 'AbortError'));
    signal?.addEventListener('abort', abort);
    if (signal === undefined) abort();
  }), { recorder: made.recorder }));
  const job = await made.queue.add('endless', {});
  await stateOf(made.queue, job, 'active');
  await until(() => worker.cancelJob === undefined || worker.cancelJob(job.id), 'the job to be cancelled');
  await stateOf(made.queue, job, 'failed');
  await made.daemon.run(runIdOf('q', job.id, 1), 'cancelled');
});

test('the events of a queue record each outcome', { skip }, async (t) => {
  const made = await setUp(t);
  const { daemon, queue } = made;
  await listenTo(t, made);
  await listenTo(t, made); // as in any number of processes
  work(t, made, async (job, token) => {
    if (job.name === 'fails' || (job.name === 'flaky' && job.attemptsMade === 0)) throw new TypeError(`no such table ${job.attemptsMade}`);
    if (job.name === 'later' && job.attemptsStarted === 1) {
      await job.moveToDelayed(Date.now() + 50, token);
      throw new made.bullmq.DelayedError();
    }
    await job.updateProgress(50);
    return { rows: 3 };
  });
  const fine = await queue.add('fine', { rows: 3 });
  const flaky = await queue.add('flaky', {}, { attempts: 3 });
  const fails = await queue.add('fails', {}, { attempts: 2, backoff: { type: 'fixed', delay: 30 } });
  const later = await queue.add('later', {});
  for (const job of [fine, flaky, later]) await stateOf(queue, job, 'completed');
  await stateOf(queue, fails, 'failed');

  const run = await daemon.run(runIdOf('q', fine.id, 1), 'completed');
  assert.deepEqual([run.council, run.input, run.result, run.job_id], ['fine', { rows: 3 }, { rows: 3 }, fine.id]);
  assert.deepEqual((await daemon.events(run.run_id)).map(({ type }) => type), ['run_started', 'progress', 'run_completed']);
  assert.equal((await daemon.run(runIdOf('q', flaky.id, 1), 'failed')).oban_job_state_at_finalize, 'waiting');
  await daemon.run(runIdOf('q', flaky.id, 2), 'completed');
  const first = await daemon.run(runIdOf('q', fails.id, 1), 'failed');
  const last = await daemon.run(runIdOf('q', fails.id, 2), 'failed');
  assert.deepEqual([first.oban_job_state_at_finalize, last.oban_job_state_at_finalize], ['delayed', 'failed']);
  assert.match(last.error.errors[0].message, /no such table/);
  assert.equal(last.error.errors[0].kind, 'TypeError');
  assert.ok((await daemon.run(runIdOf('q', later.id, 1), 'completed')).result.snoozed <= 0.05);
  await daemon.run(runIdOf('q', later.id, 2), 'completed');
  assert.equal((await daemon.runs()).length, 7);
});

test('a worker that is killed: its job stalls, is lost, and runs again', { skip }, async (t) => {
  const made = await setUp(t);
  const { daemon, queue, connection, recorder } = made;
  await listenTo(t, made, { stalledOnly: true });
  const child = spawn(process.execPath, [kWorker, connection.path, daemon.socket], { stdio: ['ignore', 'pipe', 'inherit'] });
  const end = ended(child);
  const job = await queue.add('slow', { rows: 1 });
  await daemon.run(runIdOf('q', job.id, 1), 'running');
  child.kill('SIGKILL');
  await end;
  work(t, made, recorded(async () => 'done', { recorder }), { stalledInterval: 100, lockDuration: 300 });
  await stateOf(queue, job, 'completed');
  const lost = await daemon.run(runIdOf('q', job.id, 1), 'stuck');
  assert.match(JSON.stringify(lost.error), /stalled|process_gone/);
  await daemon.run(runIdOf('q', job.id, 2), 'completed');
  await until(async () => (await daemon.events(lost.run_id)).some(({ type }) => type === 'run_lost'), 'run_lost');
});

test('a worker that is killed, seen by the events alone', { skip }, async (t) => {
  const made = await setUp(t);
  const { daemon, queue, connection } = made;
  await listenTo(t, made);
  const child = spawn(process.execPath, [kWorker, connection.path, ''], { stdio: ['ignore', 'pipe', 'inherit'] });
  const end = ended(child);
  const job = await queue.add('slow', { rows: 1 });
  await daemon.run(runIdOf('q', job.id, 1), 'running');
  child.kill('SIGKILL');
  await end;
  work(t, made, async () => 'done', { stalledInterval: 100, lockDuration: 300 });
  await stateOf(queue, job, 'completed');
  const lost = await daemon.run(runIdOf('q', job.id, 1), 'stuck');
  assert.match(JSON.stringify(lost.error), /reported_lost/);
  await daemon.run(runIdOf('q', job.id, 2), 'completed');
});
