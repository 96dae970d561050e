-- Where a run runs, and as what: its host, and the systemd unit, the user, the folder and the command as far as a sender
-- says so. NULL in the rows that are there; an older daemon's inserts and updates leave them alone. Not "user", as in
-- PostgreSQL. Where an application's table has such a column already the daemon adds none.
-- oldest daemon: 0.1.0

ALTER TABLE "{{prefix}}runs" ADD COLUMN host TEXT;
ALTER TABLE "{{prefix}}runs" ADD COLUMN unit TEXT;
ALTER TABLE "{{prefix}}runs" ADD COLUMN os_user TEXT;
ALTER TABLE "{{prefix}}runs" ADD COLUMN cwd TEXT;
ALTER TABLE "{{prefix}}runs" ADD COLUMN command TEXT;
