-- Where a run runs, and as what: its host, and the systemd unit, the user, the folder and the command as far as a sender
-- says so. NULL in the rows that are there: nothing is rewritten, and an older daemon's inserts and updates leave them
-- alone. Not "user", which PostgreSQL reads as the role that asks.
-- oldest daemon: 0.1.0

ALTER TABLE "{{prefix}}runs"
  ADD COLUMN IF NOT EXISTS host text,
  ADD COLUMN IF NOT EXISTS unit text,
  ADD COLUMN IF NOT EXISTS os_user text,
  ADD COLUMN IF NOT EXISTS cwd text,
  ADD COLUMN IF NOT EXISTS command text;
