-- Finds the runs of one name, newest first.
-- oldest daemon: 0.1.0

CREATE INDEX IF NOT EXISTS "{{prefix}}runs_council" ON "{{prefix}}runs" (council, inserted_at, run_id);
