-- What is expected of runs, and what was found of it: runs that did not start, and runs that last too long.
-- oldest daemon: 0.1.0

CREATE TABLE IF NOT EXISTS "{{prefix}}expectations" (
  name TEXT NOT NULL PRIMARY KEY,
  definition TEXT NOT NULL,
  since TEXT NOT NULL,
  judged_at TEXT NOT NULL,
  judged_by TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS "{{prefix}}findings" (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL CHECK (kind IN ('missed', 'overlong')),
  expectation TEXT NOT NULL,
  council TEXT NOT NULL,
  run_id TEXT NOT NULL DEFAULT '',
  due_at TEXT,
  allowed_ms INTEGER,
  opened_at TEXT NOT NULL,
  ended_at TEXT,
  ended_by TEXT NOT NULL DEFAULT '',
  recorder TEXT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS "{{prefix}}findings_open" ON "{{prefix}}findings" (kind, expectation, run_id)
  WHERE ended_at IS NULL;
CREATE INDEX IF NOT EXISTS "{{prefix}}findings_ended" ON "{{prefix}}findings" (ended_at) WHERE ended_at IS NOT NULL;
