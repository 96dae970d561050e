import type { Recorder } from './index.js';

/** What every adapter takes. */
export interface AdapterOptions<Job> {
  /** Default: the shared one. */
  recorder?: Recorder;
  /** The queue's name in the daemon's configuration. Default: none. */
  queue?: string;
  /** What a run is called. It answers at once, without a promise. */
  council?: (job: Job) => string;
  /** What a run was given, at once, without a promise; undefined: not recorded. */
  input?: (job: Job) => unknown;
}
