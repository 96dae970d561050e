// Which run an attempt of a BullMQ job is: the same for a worker and for whoever listens to the queue. Pure functions.
'use strict';

/** One attempt is one start of the job, as `attemptsStarted` counts them. */
function runIdOf(queueName, jobId, attempt) {
  return `bullmq:${queueName}:${jobId}:${attempt}`;
}

function identityOf(queueName, jobId, attempt) {
  const parent = attempt > 1 ? runIdOf(queueName, jobId, attempt - 1) : undefined;
  return { runId: runIdOf(queueName, jobId, attempt), jobId: String(jobId), attempt, parent };
}

const defaults = { council: (job) => job.name, input: (job) => job.data };

module.exports = { defaults, identityOf, runIdOf };
