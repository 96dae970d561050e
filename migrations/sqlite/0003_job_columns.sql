-- What senders say of a run beyond the contract's columns: the queue and the job's id there as text, how long without
-- an event nobody vouches for it, what it used, how far it is. NULL until an event says so; an older daemon's inserts
-- and updates leave them alone. Where an application's table has such a column already the daemon adds none.
-- oldest daemon: 0.1.0

ALTER TABLE "{{prefix}}runs" ADD COLUMN queue TEXT;
ALTER TABLE "{{prefix}}runs" ADD COLUMN job_id TEXT;
ALTER TABLE "{{prefix}}runs" ADD COLUMN expires_in INTEGER;
ALTER TABLE "{{prefix}}runs" ADD COLUMN usage TEXT;
ALTER TABLE "{{prefix}}runs" ADD COLUMN progress TEXT;

-- Finds runs by a job's id that is no integer; the others are found by oban_job_id, and cost nothing here.
CREATE INDEX IF NOT EXISTS "{{prefix}}runs_job_id" ON "{{prefix}}runs" (job_id)
  WHERE job_id IS NOT NULL AND oban_job_id IS NULL;
-- What reconciliation asks queues about among the rows that were not started: few beside all others.
CREATE INDEX IF NOT EXISTS "{{prefix}}runs_queued_job" ON "{{prefix}}runs" (run_id)
  WHERE status = 'queued' AND (oban_job_id IS NOT NULL OR job_id IS NOT NULL);
