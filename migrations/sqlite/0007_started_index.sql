-- Finds and orders runs by when they started; what has not started, by when it was recorded.
-- oldest daemon: 0.1.0

CREATE INDEX IF NOT EXISTS "{{prefix}}runs_started" ON "{{prefix}}runs" (coalesce(started_at, inserted_at), run_id);
