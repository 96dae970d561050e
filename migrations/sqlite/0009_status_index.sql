-- Finds and orders runs by status, of the statuses that few of many runs have: a run that completes costs nothing here.
-- oldest daemon: 0.1.0

CREATE INDEX IF NOT EXISTS "{{prefix}}runs_status" ON "{{prefix}}runs" (status, inserted_at, run_id)
  WHERE status IN ('queued', 'failed', 'cancelled', 'stuck');
CREATE INDEX IF NOT EXISTS "{{prefix}}runs_status_started"
  ON "{{prefix}}runs" (status, coalesce(started_at, inserted_at), run_id)
  WHERE status IN ('queued', 'failed', 'cancelled', 'stuck');
