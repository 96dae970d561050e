// A forked child of the agent: records a run that completes, and ends as programs of this language do.
import { Recorder } from '../index.mjs';
import { perform } from '../lib/run.js';

const [socket, runId, council] = process.argv.slice(2);
const recorder = new Recorder({ socket });
await perform(() => recorder, council, async () => 'done', { runId });
process.disconnect?.();
