-- The recorder's tables in SQLite. Times are UTC as RFC 3339 text of 27 characters, so that text order is time order;
-- JSON is text. A runs or run_events table that is already there (an application's own) keeps its columns and types;
-- the recorder's own columns that it lacks are added before this runs, with the types and defaults stated here.
-- oldest daemon: 0.1.0

CREATE TABLE IF NOT EXISTS "{{prefix}}runs" (
  run_id TEXT NOT NULL PRIMARY KEY,
  council TEXT NOT NULL DEFAULT 'unknown',
  status TEXT NOT NULL DEFAULT 'queued'
    CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled', 'stuck')),
  attempt INTEGER NOT NULL DEFAULT 1,
  parent_attempt_run_id TEXT,
  oban_job_id INTEGER,
  oban_job_state_at_finalize TEXT,
  input TEXT,
  result TEXT,
  error TEXT,
  started_at TEXT,
  finalized_at TEXT,
  inserted_at TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  -- the recorder's own
  council_given INTEGER NOT NULL DEFAULT 0,
  attempt_given INTEGER NOT NULL DEFAULT 0,
  recorder TEXT NOT NULL DEFAULT '',
  worker_process TEXT NOT NULL DEFAULT '',
  sender_process TEXT NOT NULL DEFAULT '',
  connection TEXT NOT NULL DEFAULT '',
  last_seq INTEGER NOT NULL DEFAULT 0,
  last_event_at TEXT,
  stuck_pass TEXT NOT NULL DEFAULT ''
);

CREATE TABLE IF NOT EXISTS "{{prefix}}run_events" (
  id INTEGER PRIMARY KEY,
  run_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  type TEXT NOT NULL,
  payload TEXT NOT NULL DEFAULT '{}',
  inserted_at TEXT NOT NULL,
  -- the recorder's own
  event_id TEXT,
  at TEXT,
  received_at TEXT,
  recorder TEXT NOT NULL DEFAULT '',
  peer_uid INTEGER,
  peer_pid INTEGER,
  effect TEXT NOT NULL DEFAULT 'recorded',
  pass_id TEXT
);

-- One row per pass of the reconciliation.
CREATE TABLE IF NOT EXISTS "{{prefix}}reconciliations" (
  pass_id TEXT NOT NULL PRIMARY KEY,
  recorder TEXT NOT NULL DEFAULT '',
  "trigger" TEXT NOT NULL DEFAULT '',
  started_at TEXT NOT NULL,
  finished_at TEXT,
  report TEXT NOT NULL DEFAULT '{}'
);

-- Who writes, last seen, and its ledger: what became of every event it accepted.
CREATE TABLE IF NOT EXISTS "{{prefix}}recorders" (
  id TEXT NOT NULL PRIMARY KEY,
  host TEXT NOT NULL DEFAULT '',
  version TEXT NOT NULL DEFAULT '',
  incarnation TEXT NOT NULL DEFAULT '',
  first_seen TEXT,
  last_seen TEXT,
  applied INTEGER NOT NULL DEFAULT 0,
  duplicate INTEGER NOT NULL DEFAULT 0,
  dead_letters INTEGER NOT NULL DEFAULT 0,
  dead_letters_removed INTEGER NOT NULL DEFAULT 0,
  conflicts INTEGER NOT NULL DEFAULT 0
);

-- Up to which record of its spool each recorder's events are applied; moves in the transaction that applies them.
CREATE TABLE IF NOT EXISTS "{{prefix}}positions" (
  recorder TEXT NOT NULL,
  incarnation TEXT NOT NULL,
  applied INTEGER NOT NULL DEFAULT 0,
  updated_at TEXT,
  PRIMARY KEY (recorder, incarnation)
) WITHOUT ROWID;

-- Events that the database refused. An id is never used again: it may stand in somebody's notes.
CREATE TABLE IF NOT EXISTS "{{prefix}}dead_letters" (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  recorder TEXT NOT NULL,
  run_id TEXT NOT NULL DEFAULT '',
  type TEXT NOT NULL DEFAULT '',
  event_id TEXT,
  record BLOB NOT NULL,
  line TEXT NOT NULL DEFAULT '',
  sqlstate TEXT NOT NULL DEFAULT '',
  reason TEXT NOT NULL DEFAULT '',
  tries INTEGER NOT NULL DEFAULT 1,
  received_at TEXT,
  inserted_at TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS "{{prefix}}leases" (
  name TEXT NOT NULL PRIMARY KEY,
  holder TEXT NOT NULL,
  expires_at TEXT NOT NULL
);

CREATE INDEX IF NOT EXISTS "{{prefix}}runs_running" ON "{{prefix}}runs" (run_id) WHERE status = 'running';
CREATE INDEX IF NOT EXISTS "{{prefix}}runs_inserted" ON "{{prefix}}runs" (inserted_at, run_id);
CREATE INDEX IF NOT EXISTS "{{prefix}}runs_job" ON "{{prefix}}runs" (oban_job_id) WHERE oban_job_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS "{{prefix}}runs_parent" ON "{{prefix}}runs" (parent_attempt_run_id)
  WHERE parent_attempt_run_id IS NOT NULL;

CREATE UNIQUE INDEX IF NOT EXISTS "{{prefix}}run_events_seq" ON "{{prefix}}run_events" (run_id, seq);
CREATE UNIQUE INDEX IF NOT EXISTS "{{prefix}}run_events_event" ON "{{prefix}}run_events" (run_id, event_id)
  WHERE event_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS "{{prefix}}run_events_pass" ON "{{prefix}}run_events" (pass_id) WHERE pass_id IS NOT NULL;

CREATE INDEX IF NOT EXISTS "{{prefix}}reconciliations_started" ON "{{prefix}}reconciliations" (started_at, pass_id);
CREATE INDEX IF NOT EXISTS "{{prefix}}dead_letters_run" ON "{{prefix}}dead_letters" (run_id);

-- Which migrations were applied, and the oldest daemon that may still write beside the newest of them.
CREATE TABLE IF NOT EXISTS "{{prefix}}recorder_schema" (
  version INTEGER NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  applied_at TEXT NOT NULL,
  oldest_daemon TEXT NOT NULL
);
