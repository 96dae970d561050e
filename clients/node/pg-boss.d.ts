import type { AdapterOptions } from './adapter.js';

/** What the adapter reads of a pg-boss job. */
export interface BossJob {
  id: string;
  name: string;
  data?: any;
}

/** A handler that does what `handler` does: `boss.work("q", { includeMetadata: true }, recorded(handler))`. */
export function recorded<Handler extends (...args: any[]) => Promise<any>>(
  handler: Handler, options?: AdapterOptions<BossJob>): Handler;

/** The run of one attempt of a job. */
export function runIdOf(queueName: string, jobId: string, attempt: number): string;
