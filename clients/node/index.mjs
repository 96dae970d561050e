// The same for `import`; one and the same recorder for both.
import client from './lib/index.js';

export const { Recorder, close, event, flush, recorded, recorder, run, stats } = client;
