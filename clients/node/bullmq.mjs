// The same for `import`.
import adapter from './lib/bullmq.js';

export const { recordQueue, recorded, runIdOf } = adapter;
