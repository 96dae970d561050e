-- Finds the runs of one name, newest first.
-- oldest daemon: 0.1.0
-- each statement by itself

CREATE INDEX CONCURRENTLY IF NOT EXISTS "{{prefix}}runs_council" ON "{{prefix}}runs" (council, inserted_at, run_id);
