// The agent of the shared cases: does with the client what it is told on standard input, one JSON object a line.
import { fork } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { Recorder } from '../index.mjs';
import { perform } from '../lib/run.js';

const kChild = fileURLToPath(new URL('cases_child.mjs', import.meta.url));
const kOptions = { parent_attempt_run_id: 'parent', job_id: 'jobId', oban_job_id: 'obanJobId', expires_in: 'expiresIn' };

class Named {
  constructor() {
    this.name = 'x';
  }
}

const raising = new Proxy({}, new Proxy({}, { get() { throw new TypeError('a value that raises'); } }));

function cycle() {
  const object = { n: 1 };
  object.self = object;
  return object;
}

function deep(levels) {
  let value = [];
  for (let level = 1; level < levels; ++level) value = [value];
  return value;
}

const kKinds = {
  bytes: ({ hex }) => Buffer.from(hex, 'hex'),
  surrogate: () => 'a\ud800b',
  nan: () => NaN,
  infinity: () => Infinity,
  '-infinity': () => -Infinity,
  integer: ({ text }) => BigInt(text),
  cycle,
  text: ({ bytes }) => 'x'.repeat(bytes),
  deep: ({ levels }) => deep(levels),
  raises: () => raising,
  keys: () => new Map([[1, 'integer'], ['1', 'text']]),
  object: () => new Named(),
  wide: ({ count }) => Array.from({ length: count }, () => 'x'.repeat(100)),
};

/** What JSON cannot say becomes a value of the language. */
function valueOf(said) {
  if (typeof said !== 'object' || said === null) return said;
  if (Array.isArray(said)) return said.map(valueOf);
  if (typeof said.$ === 'string') return kKinds[said.$](said);
  return Object.fromEntries(Object.entries(said).map(([key, value]) => [key, valueOf(value)]));
}

function microseconds() {
  return performance.now() * 1000;
}

function options(runId, fields) {
  const made = { runId };
  for (const [name, value] of Object.entries(fields ?? {})) made[kOptions[name] ?? name] = value;
  return made;
}

let recorder;

const kCommands = {
  open({ socket, buffer_bytes: bufferBytes, flush_ms: flushTimeout }) {
    recorder = new Recorder({ socket, bufferBytes, flushTimeout });
    return {};
  },

  event({ type, run_id: runId, fields }) {
    recorder.event(valueOf(runId), type, valueOf(fields));
    return {};
  },

  async run({ run_id: runId, council, fields, outcome, result, message }) {
    const value = valueOf(result);
    const error = outcome === 'cancel' ? new DOMException('This operation was aborted', 'AbortError') : new Error(message);
    // A value that raises when it is read cannot be awaited in this language: work that returns is synchronous here.
    const work = outcome === 'return' ? () => value : async () => { throw error; };
    try {
      const came = perform(() => recorder, valueOf(council), work, options(valueOf(runId), valueOf(fields)));
      if (outcome !== 'return') await came;
      return { came_out: Object.is(came, value) ? 'as it was' : String(came) };
    } catch (thrown) {
      return { came_out: thrown === error ? 'as it was' : String(thrown) };
    }
  },

  async jobs({ first, count, council }) {
    for (let i = first; i < first + count; ++i) {
      await perform(() => recorder, council, async (run) => {
        run.progress(1, 2, 'steps');
        await new Promise(setImmediate);
        return { job: i };
      }, { runId: `job-${i}` });
    }
    return {};
  },

  events({ run_id: runId, type, count }) {
    const costs = [];
    for (let n = 0; n < count; ++n) {
      const before = microseconds();
      recorder.event(runId, type, { payload: { n }, progress: { done: n, total: count } });
      costs.push(microseconds() - before);
    }
    const total = costs.reduce((sum, cost) => sum + cost, 0);
    costs.sort((a, b) => a - b);
    return { total_us: total, median_us: costs[count >> 1], p99_us: costs[Math.floor(count * 0.99)], max_us: costs[count - 1] };
  },

  stats: () => recorder.stats(),

  async flush({ timeout_ms: timeout }) {
    return { flushed: await recorder.flush(timeout) };
  },

  async fork({ run_id: runId, council }) {
    const child = fork(kChild, [recorder.options.socket, runId, council]);
    await new Promise((resolve) => child.once('exit', resolve));
    return {};
  },

  async close() {
    await recorder.close();
    return {};
  },

  exit() {
    process.exit(0);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await kCommands[command.do](command))}\n`);
}
