-- The indexes of runs and run_events. On tables that already have rows each is built beside the writers, without a
-- long lock; on new ones the daemon leaves CONCURRENTLY out.
-- oldest daemon: 0.1.0
-- each statement by itself

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS "{{prefix}}run_events_seq" ON "{{prefix}}run_events" (run_id, seq);
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS "{{prefix}}run_events_event" ON "{{prefix}}run_events" (run_id, event_id)
  WHERE event_id IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS "{{prefix}}run_events_pass" ON "{{prefix}}run_events" (pass_id, run_id)
  WHERE pass_id IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS "{{prefix}}runs_running" ON "{{prefix}}runs" (run_id) WHERE status = 'running';
CREATE INDEX CONCURRENTLY IF NOT EXISTS "{{prefix}}runs_inserted" ON "{{prefix}}runs" (inserted_at, run_id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS "{{prefix}}runs_job" ON "{{prefix}}runs" (oban_job_id)
  WHERE oban_job_id IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS "{{prefix}}runs_parent" ON "{{prefix}}runs" (parent_attempt_run_id)
  WHERE parent_attempt_run_id IS NOT NULL;
