"""`./dev soak`: are the findings right? Real workers, a real daemon and a real database, in two parts on each database.

Healthy: thousands of runs of 0.2 to 3 s, wrapped by exec, told by processes that exit at once, by connections for each event,
by nodes of Oban whose clocks are off, while passes go on back to back, the daemon is restarted, killed and suspended, and the
database goes away. None may be found stuck, and each ends with its status.

Killed: workers that are ended with kill -9 at random moments, alone and with their children, also while the daemon restarts.
Each is found; how long that took is counted from the kill, or from the daemon's boot where it was away, by `finalized_at`.

Prints a table; status 1 where a run was found wrongly, missed, or did not end as it should. The times decide only with
--latency-limit. What is needed to look into a violation is kept and named.
"""

import argparse
import http.client
import json
import math
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from harness import TOOL, Daemon, Postgres, SqliteDatabase, parse_time, temporary_folder, wait_until
from queues import PostgresQueue, SqliteQueue

WORKERS = Path(__file__).resolve().parent / "soak_workers.py"
TERMINAL = {"run_completed", "run_failed"}
SETTLE_S = 120   # for what is on its way at the end; only a hang reaches it


class Place:
    """A database of a kind, the table of a queue beside it, and the daemon that works on both."""

    def __init__(self, kind, reconcile):
        self.kind = kind
        self.folder = temporary_folder()
        self.cluster = Postgres().start() if kind == "postgresql" else None
        if self.cluster:
            self.database = self.cluster.create_database("runs")
            jobs = self.cluster.create_database("jobs")
            PostgresQueue(jobs)
            queue_url = jobs.url
            self.queue = {"psql": self.cluster._psql("jobs", "postgres")}
        else:
            self.database = SqliteDatabase(self.folder / "run-recorder.db")
            jobs = SqliteDatabase(self.folder / "jobs.db")
            jobs.execute("PRAGMA journal_mode = wal")
            SqliteQueue(jobs)
            queue_url = jobs.url
            self.queue = {"psql": None, "queue_path": str(jobs.path)}
        self.daemon = Daemon(self.database.url, folder=self.folder,
                             config={"reconcile": reconcile, "reconcile.queue": {"kind": "oban", "url": queue_url}})
        self.daemon.start()

    def close(self, keep):
        self.daemon.kill()
        if self.cluster:
            self.cluster.close()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


class Background(threading.Thread):
    """Does something until stop(), and keeps what went wrong with it."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work, self.ended, self.error = work, threading.Event(), None
        self.start()

    def run(self):
        try:
            while not self.ended.is_set():
                self.work()
        except Exception as error:   # said by stop()
            self.error = error

    def stop(self):
        self.ended.set()
        self.join()
        if self.error:
            raise self.error


class Disturbances:
    """Takes daemon and database away for a while, again and again; remembers when."""

    def __init__(self, place, rng, grace_s, kinds, pause_s):
        self.place, self.random, self.grace_s, self.kinds, self.pause_s = place, rng, grace_s, kinds, pause_s
        self.away = []      # (what, from, to), by the wall clock
        self.ended = threading.Event()

    def once(self):
        if self.ended.wait(self.random.uniform(*self.pause_s)):
            return
        what = self.random.choice(self.kinds)
        # Mostly short; at times longer than the grace.
        time_away = self.random.uniform(0, 1) if self.random.random() < 0.7 else self.random.uniform(1, self.grace_s + 3)
        begun = time.time()
        getattr(self, what)(time_away)
        self.away.append((what, begun, time.time()))

    def restart(self, time_away):
        assert self.place.daemon.stop() == 0, self.place.daemon.log()[-3000:]
        self.ended.wait(time_away)
        self.place.daemon.start()

    def kill(self, time_away):
        self.place.daemon.kill()
        self.ended.wait(time_away)
        self.place.daemon.start()

    def suspend(self, time_away):
        self.place.daemon.signal(signal.SIGSTOP)
        self.ended.wait(time_away)
        self.place.daemon.signal(signal.SIGCONT)

    def database_stop(self, time_away):
        self.place.cluster.stop()
        self.ended.wait(time_away)
        self.place.cluster.start()

    def database_freeze(self, time_away):
        self.place.cluster.freeze()
        self.ended.wait(time_away)
        self.place.cluster.thaw()

    def database_lock(self, time_away):
        connection = sqlite3.connect(self.place.database.path, timeout=30, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        self.ended.wait(time_away)
        connection.close()

    def boots(self):
        return [(begun, up) for what, begun, up in self.away if what in ("restart", "kill")]

    def counts(self):
        return ", ".join(f"{count} {what}" for what, count in sorted(Counter(what for what, _, _ in self.away).items()))


class Hosts:
    """The worker processes of a part, and the books they keep."""

    def __init__(self, place, seed, grace_s):
        self.place, self.grace_s, self.random = place, grace_s, random.Random(seed)
        self.folder = place.folder / "workers"
        self.folder.mkdir(exist_ok=True)
        self.stop_file = self.folder / f"stop-{seed}"
        self.processes = []
        self.records = []

    def start(self, name, kind, count, parallel, **settings):
        config = self.folder / f"{name}.json"
        records = self.folder / f"{name}.records"
        config.write_text(json.dumps({
            "name": name, "kind": kind, "count": count, "parallel": parallel, "seed": self.random.random(),
            "socket": str(self.place.daemon.socket_path), "tool": str(TOOL), "folder": str(self.folder), "records": str(records),
            "stop_file": str(self.stop_file), "grace_s": self.grace_s, "kill": False, **self.place.queue, **settings}))
        log = open(self.folder / f"{name}.log", "wb")
        self.processes.append((name, subprocess.Popen([sys.executable, str(WORKERS), str(config)], stdin=subprocess.DEVNULL,
                                                      stdout=log, stderr=log)))
        self.records.append(records)

    def wait(self, until=None):
        """Until all have ended; at `until` they are asked to begin nothing more."""
        def ended():
            if until and time.monotonic() > until:
                self.stop_file.touch()
            return all(process.poll() is not None for _, process in self.processes)
        wait_until(ended, "the workers to end", deadline_s=86_400)
        for name, process in self.processes:
            assert process.returncode == 0, (name, (self.folder / f"{name}.log").read_text()[-3000:])

    def stop(self):
        self.stop_file.touch()

    def told(self):
        lines = [line for path in self.records if path.exists() for line in path.read_text().splitlines()]
        return [json.loads(line) for line in lines]

    def close(self):
        for _, process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, math.ceil(part * len(values)) - 1)] if values else 0.0


class Part:
    def __init__(self, options, kind, seed):
        self.options, self.kind, self.seed = options, kind, seed
        self.violations = []    # (what, run, facts)
        self.lines = []         # of the table

    def say(self, what, value):
        self.lines.append((what, value))

    def violate(self, what, run, **facts):
        self.violations.append((what, run, facts))

    def settle(self, place):
        """Everything that was said is applied."""
        if place.cluster:
            place.cluster.thaw()
        wait_until(lambda: place.daemon.control.status()["waiting"] == 0, "everything to be applied", SETTLE_S)

    def judge_healthy(self, place, records, disturbances):
        """No finding of any run whose end was told, and each ended as it should."""
        rows, histories = place.database.runs(), place.database.events()
        kinds, excused, found = Counter(), Counter(), Counter()
        for record in records:
            run, kind = record["run"], record["kind"]
            kinds[kind] += 1
            row, history = rows.get(run), histories.get(run, [])
            stuck = [entry for entry in history if entry["type"] in ("run_stuck", "run_lost")]
            ended = any(entry["type"] in TERMINAL for entry in history)
            if record.get("unsent"):
                excused["exec gave up, as it says"] += 1
            elif kind == "unheard" and not ended and (record["broken"] or self.went_down_near(disturbances, record["told"])):
                excused["said to a daemon that was killed"] += 1
            elif stuck:
                reason = str(stuck[0]["payload"].get("reason"))
                found[f"{kind}: {reason}"] += 1
                self.violate(f"found wrongly ({kind}, {reason})", run, record=record, row=row, history=history)
            elif not row or row["status"] != record["expect"]:
                self.violate(f"did not end as {record['expect']} ({kind})", run, record=record, row=row, history=history)
        self.say("healthy runs", f"{sum(kinds.values()):,} (" + ", ".join(f"{n:,} {kind}" for kind, n in sorted(kinds.items())) + ")")
        self.say("found wrongly", sum(found.values()))
        for what, number in found.most_common():
            self.say(f"  {what}", number)
        self.say("did not end as they should", sum(what.startswith("did not") for what, _, _ in self.violations))
        for what, number in excused.items():
            self.say(f"not counted: {what}", number)

    @staticmethod
    def went_down_near(disturbances, moment):
        return any(begun - 5 < moment < up + 1 for begun, up in disturbances.boots())

    def end(self, place, disturbances, hosts, background):
        """Nothing of this part goes on, also where something went wrong in the middle of it."""
        disturbances.ended.set()
        for group in hosts:
            group.close()
        for thread in background:
            thread.ended.set()
            thread.join()
        place.close(keep=bool(self.violations) or sys.exc_info()[0] is not None)

    def keep(self, place, disturbances):
        """What is needed to look into the violations."""
        path = place.folder / f"violations-{type(self).__name__.lower()}.txt"
        with open(path, "w") as file:
            for what, begun, end in disturbances.away:
                file.write(f"{what}: {stamp(begun)} to {stamp(end)}\n")
            for what, run, facts in self.violations[:200]:
                file.write(f"\n{what}: {run}\n" + "".join(f"  {name}: {json.dumps(fact, default=str)}\n"
                                                        for name, fact in facts.items() if name != "history"))
                for entry in facts.get("history", []):
                    details = entry["payload"] if entry["type"] == "run_stuck" else ""
                    file.write(f"    {entry['seq']} {entry['type']} {entry['effect']}, received {entry['received_at']}, applied "
                               f"{entry['inserted_at']} {json.dumps(details, default=str) if details else ''}\n")
        print(f"kept: {path}, the daemon's log in {place.daemon.log_path}", flush=True)


def stamp(moment):
    return time.strftime("%H:%M:%S", time.gmtime(moment)) + f"{moment % 1:.3f}"[1:]


class Healthy(Part):
    def work(self):
        options, rng = self.options, random.Random(self.seed)
        place = Place(self.kind, {"grace": f"{options.grace:g}s", "interval": "1s"})
        hosts = Hosts(place, self.seed, options.grace)
        kinds = ["restart", "kill", "suspend"]
        kinds += ["database_stop", "database_freeze"] if place.cluster else ["database_lock"]
        disturbances = Disturbances(place, rng, options.grace, kinds, (2, 8))
        background = []
        try:
            begun = time.monotonic()
            share = options.runs // 10
            for number in range(2):
                hosts.start(f"fork-{number}", "forks", 7 * share // 2, options.parallel * 7 // 20,
                            kinds=["exec", "acked", "unheard", "each", "family"])
                hosts.start(f"node-{number}", "node", 3 * share // 2 * 4 // 5, options.parallel * 3 // 20,
                            skew_s=(-5, 5)[number], first_job=1 + number * 1_000_000, numbers_come_back=number == 0)
            passes = Counter()
            background = [Background(lambda: self.one_pass(place, rng, passes)), Background(disturbances.once)]
            hosts.wait(until=begun + options.minutes * 60 if options.minutes else None)
            took = time.monotonic() - begun
            disturbances.ended.set()
            for thread in background:
                thread.stop()
            background = []
            self.settle(place)
            records = hosts.told()
            self.tell_unsent(place, records)
            place.daemon.control.reconcile()
            self.say("took", f"{took:.0f} s")
            self.say("passes asked for", f"{passes['passes']:,}, {passes['examined']:,} rows examined")
            self.say("away", disturbances.counts())
            self.judge_healthy(place, records, disturbances)
            if self.violations:
                self.keep(place, disturbances)
        finally:
            self.end(place, disturbances, [hosts], background)

    def one_pass(self, place, rng, passes):
        try:
            answer = place.daemon.control.post("/v1/reconcile", {"unvouched": rng.random() < 0.3})
        except (OSError, http.client.HTTPException):
            answer = None   # the daemon is away
        if answer and answer.status == 200:
            passes["passes"] += 1
            passes["examined"] += answer.json["examined"]
        time.sleep(0.05)

    def tell_unsent(self, place, records):
        """What exec printed instead of sending it, as somebody would."""
        lines = [line for record in records for line in record.get("unsent", [])]
        if lines:
            told = place.daemon.tool("emit", input="\n".join(lines) + "\n")
            assert told.returncode == 0, told.stderr
            self.settle(place)


class Killed(Part):
    def work(self):
        options, rng = self.options, random.Random(self.seed)
        place = Place(self.kind, {"grace": f"{options.grace:g}s"})
        hosts = Hosts(place, self.seed, options.grace)
        healthy = Hosts(place, self.seed + 1, options.grace)
        disturbances = Disturbances(place, rng, options.grace, ["restart", "kill"], (5, 15))
        background = []
        try:
            for number in range(2):
                hosts.start(f"killed-{number}", "forks", options.killed // 2, options.parallel // 5, kill=True,
                            kinds=["exec", "acked", "each", "family"])
            healthy.start("beside", "forks", 1_000_000, options.parallel // 10, kinds=["acked", "each"])
            background = [Background(disturbances.once)]
            hosts.wait(until=time.monotonic() + options.minutes * 60 if options.minutes else None)
            disturbances.ended.set()
            background.pop().stop()
            self.settle(place)
            killed = [record for record in hosts.told() if "killed" in record]
            self.wait_found(place, killed)
            healthy.stop()
            healthy.wait()
            self.settle(place)
            self.say("away", disturbances.counts())
            self.judge_killed(place, killed, disturbances)
            self.judge_healthy(place, [r for r in hosts.told() if "expect" in r] + healthy.told(), disturbances)
            if self.violations:
                self.keep(place, disturbances)
        finally:
            self.end(place, disturbances, [hosts, healthy], background)

    def wait_found(self, place, killed):
        """Until all are found, or enough time is over that the rest counts as missed."""
        end = time.monotonic() + self.options.grace + self.options.patience
        names = {record["run"] for record in killed}
        while time.monotonic() < end:
            rows = place.database.rows("SELECT run_id FROM council_ex_runs WHERE status = 'running'")
            if not any(row["run_id"] in names for row in rows):
                return
            time.sleep(0.2)

    def judge_killed(self, place, killed, disturbances):
        rows, histories = place.database.runs(), place.database.events()
        counts, times, reasons, slowest = Counter(), {True: [], False: []}, Counter(), {}
        for record in killed:
            row = rows.get(record["run"])
            if not row:
                counts["killed before the daemon knew of them"] += 1
            elif row["status"] == "completed":
                counts["killed when they had ended"] += 1
            elif row["status"] != "stuck":
                counts["missed"] += 1
                self.violate(f"missed ({record['kind']})", record["run"], record=record, row=row,
                             history=histories[record["run"]])
            else:
                found = parse_time(row["finalized_at"]).timestamp()
                boot = max((up for _, up in disturbances.boots() if record["killed"] < up <= found), default=0)
                taken = found - max(record["killed"], boot)
                times[boot > 0].append(taken)
                kind = record["kind"] + (", alone" if record["alone"] else "")
                slowest[kind] = max(slowest.get(kind, (0, "")), (taken, record["run"]))
                reasons[row["error"]["reason"]] += 1
        self.say("workers killed", f"{len(killed):,}, {sum(record['alone'] for record in killed):,} of them alone")
        self.say("found", f"{sum(reasons.values()):,} (" + ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common()) + ")")
        self.say("missed", counts["missed"])
        for what in ("killed before the daemon knew of them", "killed when they had ended"):
            self.say(f"not counted: {what}", counts[what])
        for after_boot, words in ((False, "found after the kill"), (True, "found after the boot that followed")):
            taken = times[after_boot]
            self.say(words, f"{len(taken):,}: p50 {percentile(taken, 0.5):.2f} s, p99 {percentile(taken, 0.99):.2f} s, max "
                            f"{max(taken, default=0.0):.2f} s, grace {self.options.grace:g} s")
        slow = [taken for taken in times[False] + times[True] if taken > self.options.grace + 2]
        self.say("later than grace + 2 s", len(slow))
        for kind, (taken, run) in sorted(slowest.items(), key=lambda item: -item[1][0]):
            self.say(f"  slowest of {kind}", f"{taken:.2f} s ({run})")
        if self.options.latency_limit and any(taken > self.options.latency_limit for taken in slow):
            self.violate("found too late", "", slowest=max(slow))


def main():
    parser = argparse.ArgumentParser(prog="./dev soak", description=__doc__.split("\n\n")[0])
    parser.add_argument("--database", choices=["sqlite", "postgresql", "postgres", "both"], default="both")
    parser.add_argument("--part", choices=["healthy", "killed", "both"], default="both")
    parser.add_argument("--runs", type=int, default=10_000, help="healthy runs on each database (10,000)")
    parser.add_argument("--killed", type=int, default=1_000, help="killed workers on each database (1,000)")
    parser.add_argument("--minutes", type=float, help="begin nothing more after so long in a part")
    parser.add_argument("--parallel", type=int, default=120, help="runs at a time (120)")
    parser.add_argument("--grace", type=float, default=2, help="[reconcile] grace in seconds (2)")
    parser.add_argument("--patience", type=float, default=30, help="seconds after the grace until a killed worker counts as missed")
    parser.add_argument("--latency-limit", type=float, help="seconds; a finding later than that is a violation too")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--small", action="store_true",
                        help="the healthy part alone, a few hundred runs, with a grace that load does not use up")
    options = parser.parse_args()
    if options.small:
        options.part, options.runs, options.parallel, options.grace, options.minutes = "healthy", 240, 60, 5, 5
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    print(f"seed {seed}", flush=True)
    kinds = {"both": ["sqlite", "postgresql"], "postgres": ["postgresql"]}.get(options.database, [options.database])
    parts = {"both": [Healthy, Killed], "healthy": [Healthy], "killed": [Killed]}[options.part]
    broken = 0
    for kind in kinds:
        for part_type in parts:
            part = part_type(options, kind, seed)
            part.work()
            print(f"\n{kind}, {part_type.__name__.lower()}")
            for what, value in part.lines:
                print(f"  {what:<44} {value}")
            for what, number in Counter(what for what, _, _ in part.violations).most_common():
                print(f"  VIOLATION {what}: {number}")
            sys.stdout.flush()
            broken += len(part.violations)
    print("\nno violation" if not broken else f"\n{broken} violations", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
