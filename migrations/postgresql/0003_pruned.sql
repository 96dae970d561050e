-- The ids of runs that were removed, kept for a while: an event of theirs that is sent again must not make a new row.
-- oldest daemon: 0.1.0

CREATE TABLE IF NOT EXISTS "{{prefix}}pruned" (
  run_id text COLLATE "C" NOT NULL PRIMARY KEY,
  pruned_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS "{{prefix}}pruned_at" ON "{{prefix}}pruned" (pruned_at);
