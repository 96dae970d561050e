// The type declarations hold for what the README shows, by the real compiler where it is at hand.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { missing } from './support.mjs';

test('the declarations', { skip: missing('typescript') }, () => {
  const modules = join(process.env.RUN_RECORDER_NODE_PACKAGES, 'node_modules');
  const uses = ['types_import.mts', 'types_require.cts'].map((name) => fileURLToPath(new URL(name, import.meta.url)));
  const { status, stdout } = spawnSync(process.execPath, [join(modules, 'typescript', 'bin', 'tsc'), '--noEmit', '--strict', '--module', 'node16',
    '--target', 'es2022', '--lib', 'es2022,dom', '--typeRoots', fileURLToPath(new URL('.', import.meta.url)), '--skipDefaultLibCheck', ...uses], { encoding: 'utf8' });
  assert.equal(status, 0, stdout);
});
