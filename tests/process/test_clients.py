"""The clients in clients/, each against the real daemon: the cases in clients/cases, played through an agent in the client's
language, and the client's own tests.

A scenario is a list of steps; what each does is the method of Play with its name.
"""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from harness import BIN, DAEMON, DEADLINE_S, clean_environment, load_json, merged, temporary_folder, wait_until

CLIENTS = Path(__file__).resolve().parents[2] / "clients"
CASES = CLIENTS / "cases"
LANGUAGES = json.loads((CASES / "languages.json").read_text())
SCENARIOS = json.loads((CASES / "scenarios.json").read_text())
VALUES = json.loads((CASES / "values.json").read_text())
OUTCOMES = {"run_completed", "run_failed"}
REFERENCE_S = 0.02  # see slowness()


def slowness():
    """How many times longer this machine takes for a fixed computation than the one on which the cases' times were chosen; at
    least 1."""
    def seconds():
        began = time.thread_time()
        sum(i * i for i in range(300_000))
        return time.thread_time() - began
    return max(1.0, min(seconds() for _ in range(5)) / REFERENCE_S)


class Language:
    """What languages.json says of one."""

    def __init__(self, name):
        self.name, self.words = name, LANGUAGES[name]
        self.source = CLIENTS / name
        self.build = BIN.parent / "clients" / name

    def require(self):
        missing = [program for program in self.words["programs"] if not shutil.which(program)]
        if missing:
            pytest.skip(f"{', '.join(missing)} is not installed")

    def lacks(self, what):
        return what in self.words.get("lacks", ())

    def command(self, key):
        return [word.format(python=sys.executable, source=self.source, build=self.build) for word in self.words[key]]

    def environment(self, **more):
        folders = {name: path.format(source=self.source, build=self.build)
                   for name, path in self.words.get("environment", {}).items()}
        passed = {name: os.environ[name] for name in self.words.get("passes", ()) if name in os.environ}
        return clean_environment(PYTHONDONTWRITEBYTECODE="1", RUN_RECORDER_BIN=str(BIN), **folders, **passed, **more)

    def built(self):
        """Its agent is there; one process of the tests makes it."""
        if "build" not in self.words:
            return
        self.build.mkdir(parents=True, exist_ok=True)
        with open(self.build / ".lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = subprocess.run(self.command("build"), cwd=self.source, env=self.environment(), capture_output=True, text=True,
                                  timeout=DEADLINE_S, check=False)
            assert done.returncode == 0, f"{self.name}: the agent cannot be built:\n{done.stdout}{done.stderr}"


@pytest.fixture(params=LANGUAGES)
def language(request):
    found = Language(request.param)
    found.require()
    return found


class Agent:
    """One process that does with the client what it is told."""

    def __init__(self, language, state, closed=()):
        self.log_path = state / f"agent-{len(list(state.glob('agent-*')))}.log"
        command = language.command("agent")
        if closed:
            numbers = {"stdin": 0, "stdout": 1, "stderr": 2}
            command = ["sh", "-c", "exec " + " ".join(f"{numbers[name]}>&-" for name in closed) + ' "$@"', "sh", *command]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                                            env=language.environment(XDG_STATE_HOME=str(state)), bufsize=1)
        self.begun = 0

    def begin(self, command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        self.begun += 1

    def answer(self):
        line = self.process.stdout.readline()
        assert line, f"the agent ended with {self.process.wait(DEADLINE_S)}:\n{self.log()[-4000:]}"
        self.begun -= 1
        return json.loads(line)

    def tell(self, **command):
        self.begin(command)
        return self.answer()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def memory_kib(self):
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", text, re.M)[1])

    def waited_for_processors_us(self):
        """All its threads together."""
        return sum(int(stat.read_text().split()[1]) for stat in Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")) / 1000

    def end(self, timeout=DEADLINE_S):
        self.process.stdin.close()
        return self.process.wait(timeout)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Play:
    """One scenario with one language. A step is {NAME: VALUE, option: …}."""

    def __init__(self, language, server, at_end):
        self.language, self.server, self.at_end = language, server, at_end
        self.base = server.config
        self.agent = self.blocker = self.remembered = None
        self.state = temporary_folder()

    def play(self, steps):
        try:
            for step in steps:
                name, value = next(iter(step.items()))
                options = {key: option for key, option in step.items() if key not in (name, "needs")}
                if not self.language.lacks(step.get("needs")):
                    getattr(self, f"step_{name}")(value, **options)
        finally:  # a daemon that is left paused answers nobody who looks at its books
            if self.server.alive():
                self.server.signal(signal.SIGCONT)

    # ---- the daemon

    def step_daemon(self, what, config=None, slow_disk_ms=0):
        if config is not None:
            self.server.config = merged(self.base, config)
        if what == "start":
            self.start_daemon(slow_disk_ms)
        elif what == "restart":
            assert self.server.stop() == 0
            self.server.start()
        elif what in ("kill", "stop"):
            getattr(self.server, what)()
        elif what == "pause":
            self.server.signal(signal.SIGSTOP)
            # Until each thread has been scheduled once more some of them go on.
            wait_until(self.is_paused, "every thread to stop")
        else:
            self.server.signal(signal.SIGCONT)

    def is_paused(self):
        states = [stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{self.server.process.pid}/task").glob("*/stat")]
        return set(states) == {"T"}

    def start_daemon(self, slow_disk_ms):
        if not slow_disk_ms:
            self.server.start()
            return
        self.server.write_config()
        with open(self.server.log_path, "ab") as log:
            self.server.process = subprocess.Popen(  # -D: the daemon is our child, strace is not
                ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fdatasync", "-e",
                 f"inject=fdatasync:delay_enter={slow_disk_ms}000", str(DAEMON), "--config", str(self.server.config_path)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.server.environment())
        self.server.wait_ready()

    def step_database(self, what):
        if what == "block":
            self.server.wait_tables()
            self.blocker = self.server.database._connect()
            self.at_end(self.blocker.close)
            self.blocker.execute("BEGIN IMMEDIATE")
        else:
            self.blocker.rollback()

    def step_accepted(self, count, of):
        """So many more events are accepted, or all of them are by now."""
        enough = min(self.server.status()["accepted"] + count, of)
        wait_until(lambda: self.server.status()["accepted"] >= enough, f"{enough} events")

    def step_acknowledged(self, count):
        wait_until(lambda: self.agent.tell(do="stats")["acknowledged"] >= count, f"{count} acknowledged")

    # ---- the agent

    def step_agent(self, what, closed=(), status=None):
        if what == "start":
            self.agent = Agent(self.language, self.state, closed)
            self.at_end(self.agent.close)
        elif what == "kill":
            self.agent.process.kill()
            self.agent.process.wait()
        elif what == "exit":
            self.agent.begin({"do": "exit"})
            self.agent.process.wait(DEADLINE_S)
        else:
            ended = self.agent.end()
            assert ended == status, f"the agent ended with {ended}:\n{self.agent.log()[-4000:]}"

    def step_open(self, options):
        if not self.agent:
            self.step_agent("start")
        assert self.agent.tell(do="open", socket=str(self.server.socket_path), **options) == {}

    def step_tell(self, command, answer=None):
        told = self.agent.tell(**command)
        for key, value in (answer or {}).items():
            assert told.get(key) == value, (command, told)

    def step_begin(self, command):
        self.agent.begin(command)

    def step_await(self, _):
        self.agent.answer()

    def step_flush(self, flushed):
        assert self.agent.tell(do="flush", timeout_ms=DEADLINE_S * 1000) == {"flushed": flushed}, \
            f"{self.agent.tell(do='stats')}\n{self.agent.log()[-3000:]}"

    def step_cost(self, command, best_total_below_ms, rounds):
        """The best of several rounds, without the time for which its threads waited for a processor: a busy machine does not change it
        much, and a call that waits for the daemon is slow in all of them."""
        limit_us = best_total_below_ms * 1000 * slowness()
        totals = []
        while len(totals) < rounds and not (totals and min(totals) < limit_us):
            before = self.agent.waited_for_processors_us()
            total_us = self.agent.tell(**command)["total_us"]
            totals.append(total_us - (self.agent.waited_for_processors_us() - before))
        assert min(totals) < limit_us, totals

    def step_stats(self, wanted):
        def found():
            stats = self.agent.tell(do="stats")
            parts = sum(stats[part] for part in ("acknowledged", "refused", "dropped", "kept", "waiting"))
            assert stats["emitted"] == parts, f"the client's books do not add up: {stats}"
            return all(stats[key] == value for key, value in wanted.items()) and stats
        try:
            wait_until(found, wanted)
        except AssertionError as late:
            raise AssertionError(f"{self.agent.tell(do='stats')} is not {wanted}\n{self.agent.log()[-3000:]}") from late

    def step_dropped_some(self, _):
        assert self.agent.tell(do="stats")["dropped"] > 0

    def step_memory(self, what, below_mib=0):
        if what == "remember":
            self.remembered = self.agent.memory_kib()
        else:
            grown = (self.agent.memory_kib() - self.remembered) / 1024
            assert grown < below_mib, f"{grown:.0f} MiB more"

    def step_said(self, pattern, times):
        """In the client's log; so often after it was said for the first time."""
        wait_until(lambda: re.search(pattern, self.agent.log(), re.I), f"{pattern} in the client's log")
        lines = [line for line in self.agent.log().splitlines() if re.search(pattern, line, re.I)]
        assert len(lines) == times, lines

    # ---- what is left

    def left(self):
        return sorted((self.state / "run-recorder" / "unsent").glob("*@*.ndjson"))

    def step_left(self, wanted):
        lines = sum(path.read_bytes().count(b"\n") for path in self.left())
        assert lines == wanted["lines"], f"{lines} lines are left: {self.agent.log()[-3000:]}"
        assert not list((self.state / "run-recorder" / "unsent").glob("*.new"))
        for path in self.left():
            assert path.stat().st_mode & 0o777 == 0o600

    def step_emit_left(self, _):
        assert self.left(), self.agent.log()[-3000:]
        for path in self.left():
            done = self.server.tool("emit", "--no-worker-pid", input=path.read_text())
            assert done.returncode == 0, done.stderr

    # ---- what the daemon has

    def row(self, run_id):
        answer = self.server.control.get(f"/v1/runs/{run_id}")
        return load_json(answer.text) if answer.status == 200 else {}

    def events_of(self, run_id):
        found, cursor = [], ""
        while cursor is not None:
            page = self.server.control.ok("GET", f"/v1/runs/{run_id}/events?limit=1000{cursor}")
            found += page["events"]
            cursor = page["next"] and f"&cursor={page['next']}"
        return found

    def step_rows(self, wanted):
        for run_id, columns in wanted.items():
            seen = {}

            def found(run_id=run_id, columns=columns, seen=seen):
                row = self.row(run_id)
                seen.update(row)
                return row and all(row.get(name) == value for name, value in columns.items())
            try:
                wait_until(found, columns)
            except AssertionError as late:
                raise AssertionError(f"{run_id} is {seen}, not {columns}\n{self.agent.log()[-3000:]}") from late

    def step_error_of(self, run_id, contains):
        assert contains in json.dumps(self.row(run_id)["error"], default=str)

    def step_history(self, wanted):
        for run_id, types in wanted.items():
            assert [event["type"] for event in self.events_of(run_id)] == types

    def numbers(self, run_id, event_type):
        return [event["payload"]["n"] for event in self.events_of(run_id) if event["type"] == event_type]

    def step_in_order(self, run_id, type, count):
        assert self.numbers(run_id, type) == list(range(count))

    def step_every(self, run_id, type, count):
        assert sorted(self.numbers(run_id, type)) == list(range(count))

    def step_truncated(self, run_id, types):
        for event in self.events_of(run_id):
            assert event["payload"].get("truncated", False) == (event["type"] in types), event

    def step_duplicates(self, count):
        assert self.server.wait_applied()["duplicate"] == count

    def step_jobs(self, wanted):
        self.server.wait_applied()
        rows = self.server.database.runs()
        starts, ends = Counter(), Counter()
        for run_id, events in self.server.database.events().items():
            starts[run_id] = sum(event["type"] == "run_started" for event in events)
            ends[run_id] = sum(event["type"] in OUTCOMES for event in events)
        for number in range(wanted["first"], wanted["first"] + wanted["count"]):
            run_id = f"job-{number}"
            state = (rows.get(run_id, {}).get("status"), starts[run_id], ends[run_id])
            assert state == ("completed", 1, 1), f"{run_id}: {state}\n{self.agent.log()[-3000:]}"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"].replace(" ", "-").replace(",", ""))
def test_scenario(servers, at_end, language, scenario):
    if language.lacks(scenario.get("needs")):
        pytest.skip(f"{language.name} has no {scenario['needs']}")
    language.built()
    Play(language, servers(), at_end).play(scenario["steps"])


def is_as_wanted(case, value, truncated):
    """Whether a result in the row is what the case says."""
    if case.get("truncated"):
        return truncated and value is None
    text = json.dumps(value, ensure_ascii=False, default=float)
    plain = value if isinstance(value, str) else text
    return (not truncated
            and ("becomes" not in case or value == load_json(json.dumps(case["becomes"])))
            and ("becomes_number" not in case or value == Decimal(case["becomes_number"]))
            and plain.startswith(case.get("begins", "")) and plain.endswith(case.get("ends", ""))
            and case.get("contains", "") in text and ("lacks" not in case or case["lacks"] not in text)
            and all(value[key] == wanted for key, wanted in case.get("has", {}).items())
            and ("has_key" not in case or case["has_key"] in value)
            and ("length" not in case or len(value) == case["length"]))


def test_values(servers, at_end, language):
    """Each is a run's result and its input, and part of a payload; each run completes, and its work never notices."""
    language.built()
    play = Play(language, servers(), at_end)
    play.play([{"daemon": "start"}, {"open": {}}])
    played = []
    for number, case in enumerate(VALUES):
        told = play.agent.tell(do="run", run_id=f"r{number}", council="value", outcome="return", fields={"input": [case["value"]]},
                               result={"it": case["value"]})
        if "skipped" not in told:
            assert told == {"came_out": "as it was"}, (case["name"], told)
            play.agent.tell(do="event", type="note", run_id=f"r{number}", fields={"payload": {"it": case["value"]}})
            played.append((number, case))
        play.step_flush(True)
    wrong = {}
    for number, case in played:
        play.step_rows({f"r{number}": {"status": "completed"}})
        events = {event["type"]: event["payload"] for event in play.events_of(f"r{number}")}
        result = play.row(f"r{number}")["result"]
        value = result["it"] if result else None
        fine = is_as_wanted(case, value, "truncated" in events["run_completed"]) and set(events) == {
            "run_started", "run_completed", "note"}
        if not fine:
            wrong[case["name"]] = str(value)[:300] + str(sorted(events))
    assert not wrong, f"{wrong}\n{play.agent.log()[-2000:]}"
    stats = play.agent.tell(do="stats")
    assert (stats["refused"], stats["dropped"], stats["waiting"]) == (0, 0, 0), stats


def test_own_tests(language):
    """The client's own."""
    language.built()
    done = subprocess.run(language.command("tests"), cwd=language.source, capture_output=True, text=True, check=False,
                          env=language.environment(XDG_STATE_HOME=str(temporary_folder()), TMPDIR=os.environ.get("TMPDIR", "/tmp")))
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-8000:]}"
