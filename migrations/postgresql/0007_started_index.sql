-- Finds and orders runs by when they started; what has not started, by when it was recorded.
-- oldest daemon: 0.1.0
-- each statement by itself

CREATE INDEX CONCURRENTLY IF NOT EXISTS "{{prefix}}runs_started" ON "{{prefix}}runs" (started_at, run_id)
  WHERE started_at IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS "{{prefix}}runs_not_started" ON "{{prefix}}runs" (inserted_at, run_id)
  WHERE started_at IS NULL;
