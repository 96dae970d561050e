-- An entry's id is a key for readers (Ecto takes it for one). Unique, so that a sequence that stands behind, as after a
-- logical switch-over, is noticed by the first entry instead of giving ids out twice. Where an application's own table
-- has such an index already the daemon builds none.
-- oldest daemon: 0.1.0
-- each statement by itself

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS "{{prefix}}run_events_id" ON "{{prefix}}run_events" (id);
