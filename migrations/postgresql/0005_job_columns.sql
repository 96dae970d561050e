-- What senders say of a run beyond the contract's columns: the queue and the job's id there as text, how long without
-- an event nobody vouches for it, what it used, how far it is. NULL until an event says so: nothing is rewritten, and
-- an older daemon's inserts and updates leave them alone.
-- oldest daemon: 0.1.0

ALTER TABLE "{{prefix}}runs"
  ADD COLUMN IF NOT EXISTS queue text,
  ADD COLUMN IF NOT EXISTS job_id text,
  ADD COLUMN IF NOT EXISTS expires_in integer,
  ADD COLUMN IF NOT EXISTS usage jsonb,
  ADD COLUMN IF NOT EXISTS progress jsonb;
