/** Options of a recorder. All have defaults. */
export interface RecorderOptions {
  /** The daemon's event socket. Default: RUN_RECORDER_SOCKET_PATH, else the user's, else /run/run-recorder/events.sock. */
  socket?: string;
  /** What the buffer holds at most while the daemon is away. Default: 16 MiB. */
  bufferBytes?: number;
  /** How long `close`, `flush` and the end of the process wait, in milliseconds. Default: 2000. */
  flushTimeout?: number;
  /** An event with a longer line is sent without its large fields. Default: 1 MiB. */
  maxEventBytes?: number;
  /** Takes what the client says, a line at a time. Default: console.warn. */
  log?: (message: string) => unknown;
  /** Makes every call a no-op. Default: whether RUN_RECORDER_DISABLED is 1. */
  disabled?: boolean;
}

/** emitted = acknowledged + refused + dropped + kept + waiting. */
export interface Stats {
  emitted: number;
  acknowledged: number;
  refused: number;
  dropped: number;
  /** Written to the file that the next client sends. */
  kept: number;
  waiting: number;
  /** Sent again, or at once, without their large fields. */
  truncated: number;
}

/** Takes events, and sends them beside the work. No method raises or waits. */
export class Recorder {
  constructor(options?: RecorderOptions);
  readonly disabled: boolean;
  /** One event of the protocol; `fields` have the protocol's names, any values. */
  event(runId: string, type: string, fields?: Record<string, unknown>): void;
  /** Hands what waits to the kernel now, before work that keeps the event loop busy. */
  hand(): void;
  /** Waits until every event so far is settled, at most `timeout` milliseconds, and says whether it is. Never rejects. */
  flush(timeout?: number): Promise<boolean>;
  /**
   * Flushes, what comes meanwhile too; what is left goes to a file that the next client sends. Nothing is recorded afterwards: it is
   * dropped, counted, and said once. Never rejects.
   */
  close(timeout?: number): Promise<void>;
  stats(): Stats;
}

/** The run that some work is. No method raises or waits. */
export interface Run {
  readonly id: string;
  /** The result to record, instead of what the work returns. */
  result: unknown;
  /** How far it is. */
  progress(done: number, total?: number, unit?: string): void;
  /** Numbers to add to what the run has used, by key: {input_tokens: 1200}. The first 512 keys count. */
  usage(numbers: Record<string, number>): void;
  /** Anything that happened in it. */
  event(type: string, payload?: unknown): void;
  /** It is alive: renews `expiresIn`, with a new value where one is given. */
  heartbeat(expiresIn?: number): void;
}

export interface RunOptions {
  /** Default: a UUID of version 7. */
  runId?: string;
  /** Any value. */
  input?: unknown;
  attempt?: number;
  /** The run id of the attempt before, or of the first one. */
  parent?: string;
  /** The queue's name in the daemon's configuration. */
  queue?: string;
  jobId?: string | number | bigint;
  obanJobId?: number | bigint;
  /** Seconds: without another event until then the run does not count as alive. */
  expiresIn?: number;
  /** Work that throws this signal's reason was cancelled, as with an AbortError. */
  signal?: AbortSignal;
  /** Default: the shared one. */
  recorder?: Recorder;
}

/** Runs `work` as a run of that name, and returns what it returns or throws what it throws. */
export function run<T>(name: string, work: (run: Run) => T, options?: RunOptions): Promise<Awaited<T>>;

/** The function, each call of it a run of that name; it takes and returns what it did before. */
export function recorded<This, Args extends unknown[], T>(
  name: string, work: (this: This, ...args: Args) => T, options?: Omit<RunOptions, 'runId'>): (this: This, ...args: Args) => T;

/** One event of the protocol, by the shared recorder. */
export function event(runId: string, type: string, fields?: Record<string, unknown>): void;

/** The recorder that is used where none is given, made at the first use; each thread has its own. */
export function recorder(): Recorder;
export function flush(timeout?: number): Promise<boolean>;
/** Closes the shared recorder; the next event makes a new one, also for runs that are at work already. */
export function close(timeout?: number): Promise<void>;
/** Of the shared recorder; after `close` of the closed one, until there is another event. */
export function stats(): Stats;
