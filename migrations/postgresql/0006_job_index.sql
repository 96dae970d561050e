-- Finds runs by a job's id that is no integer; the others are found by oban_job_id, and cost nothing here.
-- oldest daemon: 0.1.0
-- each statement by itself

CREATE INDEX CONCURRENTLY IF NOT EXISTS "{{prefix}}runs_job_id" ON "{{prefix}}runs" (job_id)
  WHERE job_id IS NOT NULL AND oban_job_id IS NULL;
-- What reconciliation asks queues about among the rows that were not started: few beside all others.
CREATE INDEX CONCURRENTLY IF NOT EXISTS "{{prefix}}runs_queued_job" ON "{{prefix}}runs" (run_id)
  WHERE status = 'queued' AND (oban_job_id IS NOT NULL OR job_id IS NOT NULL);
