// The same for `import`.
import adapter from './lib/pg_boss.js';

export const { recorded, runIdOf } = adapter;
