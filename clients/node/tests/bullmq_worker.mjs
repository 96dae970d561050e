// A worker of the BullMQ tests in a process of its own, that never ends its job: redis' path, the daemon's socket or nothing.
import { recorded } from '../bullmq.mjs';
import { Recorder } from '../index.mjs';
import { load } from './support.mjs';

const [redis, socket] = process.argv.slice(2);
const { Worker } = await load('bullmq');
const endless = async () => new Promise(() => {});
const processor = socket === '' ? endless : recorded(endless, { recorder: new Recorder({ socket }) });
new Worker('q', processor, { connection: { path: redis }, lockDuration: 300, stalledInterval: 100 });
