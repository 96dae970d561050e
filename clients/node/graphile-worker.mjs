// The same for `import`.
import adapter from './lib/graphile_worker.js';

export const { recordEvents, runIdOf } = adapter;
