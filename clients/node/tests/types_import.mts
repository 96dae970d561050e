import { Recorder, close, event, flush, recorded, run, stats } from 'run-recorder';
import { recordQueue, recorded as processor } from 'run-recorder/bullmq';
import { recordEvents } from 'run-recorder/graphile-worker';
import { recorded as handler, runIdOf } from 'run-recorder/pg-boss';

const recorder = new Recorder({ socket: '/tmp/x', log: (message) => message.length });
const rows: number = await run('nightly', async (r) => {
  r.progress(1, 2, 'pages');
  r.usage({ input_tokens: 1200 });
  return 3;
}, { recorder, input: { day: 1 }, signal: AbortSignal.timeout(10) });
const sum: (a: number, b: number) => number = recorded('sum', (a: number, b: number) => a + b);
event('r1', 'row_done', { payload: { rows, sum: sum(1, 2) } });
const settled: boolean = await flush(100);
await close();
const waiting: number = stats().waiting;
const work: (job: { data: string }) => Promise<string> = processor(async (job: { data: string }) => job.data);
const events = { name: 'q', on: () => events, off: () => events };
recordQueue(events, { queue: 'q', jobs: { getJob: async () => undefined } })();
recordEvents(events, { council: (job) => job.task_identifier });
handler(async (jobs: { id: string }[]) => jobs.length);
export { runIdOf, settled, waiting, work };
