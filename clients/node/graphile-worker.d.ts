import type { AdapterOptions } from './adapter.js';

/** What the adapter reads of a job. */
export interface GraphileJob {
  id: string;
  task_identifier: string;
  payload: any;
  attempts: number;
  max_attempts: number;
}

/** Records the jobs whose events come from `runner.events`. What is returned stops it. */
export function recordEvents(
  events: { on(...args: any[]): unknown; off(...args: any[]): unknown },
  options?: AdapterOptions<GraphileJob>): () => void;

/** The run of one attempt of a job. */
export function runIdOf(jobId: string, attempt: number): string;
