"""Clocks that do not agree: workers an hour off, dates far away, leap seconds, a host whose clock is stepped, other time zones
everywhere. Whatever they say, each time is stored as it was given, and every event once."""

import random
from pathlib import Path

from torture_fault import Fault, row

LIBRARIES = ("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1")
FAR = ("0001-01-01T00:00:00Z", "0001-01-01T23:59:00+23:59", "9999-12-31T23:59:59.999999Z", "9999-12-31T00:00:00.000001-23:59",
       "1969-12-31T23:59:59.999999Z", "1582-10-10T00:00:00Z", "2000-02-29T12:00:00+14:00", "2038-01-19T03:14:08Z",
       "2016-12-31T23:59:60Z", "1972-06-30T23:59:60.5+00:00", "2017-01-01T05:29:60+05:30", "2026-03-29t02:30:00.123456789+01:00",
       "2026-10-25T02:30:00z")
ZONES = ("Pacific/Kiritimati", "America/St_Johns", "Asia/Kathmandu", "Etc/GMT+12", "Africa/Monrovia", "UTC")


def library():
    return next((path for path in LIBRARIES if Path(path).exists()), None)


class WithTimes(Fault):
    """Each event says when it happened, by the clock of its worker or of a dreamer."""

    def run(self, trial):
        trial.start()
        trial.open_senders()
        for sender in trial.senders:
            self.date(trial, sender)
        for number in range(self.scaled(trial, self.strikes)):
            trial.advance_to((number + trial.random.random()) / (self.scaled(trial, self.strikes) + 1))
            self.strike(trial)
            trial.figures.injected += 1
        self.heal(trial)
        trial.send_all()
        trial.check()

    @staticmethod
    def date(trial, sender):
        hours_off = trial.random.choice((-1, 0, 1))
        for event in sender.events:
            chance = random.Random(f"{trial.seed}/{event['run_id']}/{event['id']}")  # a resend says the same
            if chance.random() < 0.2:
                event["at"] = chance.choice(FAR)
            elif chance.random() < 0.8:
                offset = chance.choice((-12, -5, 0, 1, 9, 14))
                event["at"] = (f"2026-11-{chance.randrange(1, 29):02}T{(12 + hours_off) % 24:02}:{chance.randrange(60):02}:"
                               f"{chance.randrange(60):02}.{chance.randrange(10 ** 6):06}{offset:+03}:00")


@row
class StrangeTimes(WithTimes):
    name = "clocks-of-workers"
    title = ("workers an hour off in both directions, leap seconds, dates far away; other time zones and date styles in server, "
             "role, session and daemon")
    own_cluster = True
    cluster_settings = {"timezone": "Asia/Kathmandu", "datestyle": "German, DMY", "intervalstyle": "sql_standard"}
    strikes = (2, 8)

    def strike(self, trial):
        """Another time zone everywhere, from the next start of the daemon on."""
        zone, other, third = trial.random.sample(ZONES, 3)
        if trial.cluster:
            trial.cluster.sql("postgres", f'ALTER DATABASE "{trial.database.name}" SET timezone = \'{zone}\'; '
                              f"ALTER ROLE postgres SET timezone = '{other}'; ALTER ROLE postgres SET datestyle = 'SQL, DMY'")
        trial.server.env["TZ"] = third
        if trial.random.random() < 0.5:
            trial.server.env["PGTZ"] = trial.random.choice(ZONES)
            trial.server.env["PGDATESTYLE"] = trial.random.choice(("Postgres, MDY", "SQL, DMY", "German"))
        trial.restart_after_kill()


@row
class SteppedClock(WithTimes):
    name = "clock-stepped"
    title = "the daemon's clock stepped back and forward, by seconds and by days, while it runs and between its starts"
    strikes = (4, 16)
    config = {"reconcile": {"interval": "1s", "grace": "1s"}}

    def unavailable(self):
        return "" if library() else "libfaketime is not installed"

    def prepare(self, trial):
        trial.offset = trial.folder / "clock"
        trial.offset.write_text("+0s\n")
        trial.server.env.update({"LD_PRELOAD": library(), "FAKETIME_TIMESTAMP_FILE": str(trial.offset), "FAKETIME_NO_CACHE": "1",
                                 "FAKETIME_DONT_FAKE_MONOTONIC": "1"})

    def strike(self, trial):
        step_s = trial.random.choice((-1, 1)) * trial.random.choice((1, 61, 3_600, 86_400, 40 * 86_400))
        moved = trial.offset.with_suffix(".new")
        moved.write_text(f"{step_s:+}s\n")
        moved.rename(trial.offset)
        if trial.random.random() < 0.3:
            trial.restart_after_kill()
        trial.advance_surely()
        trial.server.wait_applied()
