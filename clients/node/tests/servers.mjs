// A private redis and a private PostgreSQL for the tests of the adapters, on UNIX sockets in folders of their own.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { chownSync, existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { atEnd, ended, isListening, temporaryFolder, until } from './support.mjs';

const kPostgres = '/usr/lib/postgresql';

function has(program) {
  return process.env.PATH.split(':').some((folder) => existsSync(join(folder, program)));
}

export const skipWithoutRedis = has('redis-server') ? false : 'redis-server is not installed';

function postgresBin() {
  if (!existsSync(kPostgres)) return undefined;
  const [newest] = readdirSync(kPostgres).filter((name) => /^\d+$/.test(name)).sort((a, b) => b - a);
  return newest === undefined ? undefined : join(kPostgres, newest, 'bin');
}

export const skipWithoutPostgres = postgresBin() !== undefined && existsSync(join(postgresBin(), 'initdb'))
  ? false
  : 'PostgreSQL is not installed';

export async function startRedis(t) {
  const folder = temporaryFolder(t);
  const path = join(folder, 'redis.sock');
  const server = spawn('redis-server', ['--port', '0', '--unixsocket', path, '--save', '', '--appendonly', 'no', '--dir', folder], { stdio: 'ignore' });
  atEnd(t, () => stop(server, 'SIGKILL'));
  await until(() => isListening(path), 'redis');
  return path;
}

function isReady(folder) {
  return spawnSync(join(postgresBin(), 'pg_isready'), ['-q', '-h', folder, '-p', '54329'], { stdio: 'ignore' }).status === 0;
}

/** Where we are root, which PostgreSQL refuses, its own user. */
function owner() {
  if (process.geteuid() !== 0) return {};
  const { uid, gid } = statSync('/var/lib/postgresql');
  return { uid, gid };
}

export async function startPostgres(t) {
  const folder = temporaryFolder(t);
  const { uid, gid } = owner();
  if (uid !== undefined) chownSync(folder, uid, gid);
  const data = join(folder, 'data');
  const options = { stdio: 'ignore', cwd: '/', uid, gid };
  execFileSync(join(postgresBin(), 'initdb'), ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-sync'], options);
  const words = ['-D', data, '-k', folder, '-c', 'listen_addresses=', '-c', 'port=54329', '-c', 'fsync=off'];
  const server = spawn(join(postgresBin(), 'postgres'), words, options);
  atEnd(t, () => stop(server, 'SIGQUIT'));
  await until(() => isReady(folder), 'PostgreSQL');
  return { host: folder, port: 54329, user: 'postgres', database: 'postgres' };
}

async function stop(server, signal) {
  const end = ended(server);
  server.kill(signal);
  await end;
}
