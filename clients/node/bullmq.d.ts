import type { AdapterOptions } from './adapter.js';

/** What the adapter reads of a BullMQ job. */
export interface BullJob {
  id?: string;
  name: string;
  data?: any;
}

export interface QueueOptions extends AdapterOptions<BullJob> {
  /** A Queue of the same name, to look up what events do not say: input, attempts, why an attempt failed. Recommended. */
  jobs?: { getJob(jobId: string): Promise<unknown> };
  /** Record only jobs whose worker died, where the workers record the rest with `recorded`. */
  stalledOnly?: boolean;
}

/** Records the jobs of a queue by its events, from any process. What is returned stops it. */
export function recordQueue(
  queueEvents: { name: string; on(...args: any[]): unknown; off(...args: any[]): unknown },
  options?: QueueOptions): () => void;

/** A processor that does what `processor` does: `new Worker("q", recorded(processor))`. */
export function recorded<Processor extends (job: any, ...rest: any[]) => unknown>(
  processor: Processor, options?: AdapterOptions<BullJob>): Processor;

/** The run of one attempt (one start) of a job. */
export function runIdOf(queueName: string, jobId: string, attempt: number): string;
