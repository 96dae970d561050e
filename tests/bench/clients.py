#!/usr/bin/env python3
"""What the clients cost and reach: for each language that is installed, events a second from one process until all are acknowledged,
and the caller's time for one event while the daemon is there, away, and stopped (SIGSTOP). As a table.

usage: RUN_RECORDER_BIN=build/bin python3 tests/bench/clients.py [LANGUAGE...]
"""
import shutil
import signal
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "process"))

from harness import Daemon, temporary_folder, wait_until  # noqa: E402
from test_clients import LANGUAGES, Agent, Language  # noqa: E402

EVENTS = 60_000
ROUNDS = 5
COSTS = 5_000
FLUSH_MS = 120_000


def events(agent, count):
    return agent.tell(do="events", run_id="r", type="step", count=count)


def reached(language):
    """Events a second, of each round."""
    rates = []
    for _ in range(ROUNDS):
        daemon, state = Daemon().start(), temporary_folder()
        agent = Agent(language, state)
        agent.tell(do="open", socket=str(daemon.socket_path), buffer_bytes=64 << 20)
        events(agent, 1000)
        agent.tell(do="flush", timeout_ms=FLUSH_MS)
        began = time.monotonic()
        events(agent, EVENTS)
        assert agent.tell(do="flush", timeout_ms=FLUSH_MS)["flushed"]
        rates.append(EVENTS / (time.monotonic() - began))
        assert agent.tell(do="stats")["acknowledged"] == EVENTS + 1000
        agent.close()
        daemon.close()
    return rates


def costs(language, situation):
    """(median, 99th) in microseconds, the medians of the rounds."""
    daemon, state = Daemon(), temporary_folder()
    if situation != "away":
        daemon.start()
    agent = Agent(language, state)
    agent.tell(do="open", socket=str(daemon.socket_path))
    events(agent, 1000)
    if situation != "away":
        agent.tell(do="flush", timeout_ms=FLUSH_MS)
    if situation == "hung":
        daemon.signal(signal.SIGSTOP)
        wait_until(lambda: all(stat.read_text().rpartition(")")[2].split()[0] == "T"
                               for stat in Path(f"/proc/{daemon.process.pid}/task").glob("*/stat")), "it to stop")
    told = [events(agent, COSTS) for _ in range(ROUNDS)]
    if situation != "away":
        daemon.signal(signal.SIGCONT)
    agent.close()
    daemon.close()
    return tuple(statistics.median(each[key] for each in told) for key in ("median_us", "p99_us"))


def main():
    print("| client | events/s acknowledged (smallest to largest) | up: median, p99 | away | hung |\n|---|---|---|---|---|")
    for name in sys.argv[1:] or LANGUAGES:
        language = Language(name)
        if not all(map(shutil.which, language.words["programs"])):
            print(f"| {name} | not installed | | | |")
            continue
        language.built()
        rates = reached(language)
        told = [" and ".join(f"{value:.0f}" for value in costs(language, situation)) + " µs" for situation in ("up", "away", "hung")]
        print(f"| {name} | {statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
