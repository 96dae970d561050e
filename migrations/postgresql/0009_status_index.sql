-- Finds and orders runs by status, of the statuses that few of many runs have: a run that completes costs nothing here.
-- oldest daemon: 0.1.0
-- each statement by itself

CREATE INDEX CONCURRENTLY IF NOT EXISTS "{{prefix}}runs_status" ON "{{prefix}}runs" (status, inserted_at, run_id)
  WHERE status IN ('queued', 'failed', 'cancelled', 'stuck');
CREATE INDEX CONCURRENTLY IF NOT EXISTS "{{prefix}}runs_status_started" ON "{{prefix}}runs" (status, started_at, run_id)
  WHERE status IN ('queued', 'failed', 'cancelled', 'stuck') AND started_at IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS "{{prefix}}runs_status_not_started"
  ON "{{prefix}}runs" (status, inserted_at, run_id)
  WHERE status IN ('queued', 'failed', 'cancelled', 'stuck') AND started_at IS NULL;
