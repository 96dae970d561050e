"""An independent model of the state table (the contract's section 3), written from the contract and never from the code
under test. Given the events of each run in the order they were applied, it says what the rows and the history must be, and
compares that with a database.

An event is the object that was sent. Where it has no `at`, its time is when it was received, which only the daemon knows:
then the model knows that the column is set, not to what.
"""

import json
from dataclasses import dataclass, field
from decimal import Decimal

from harness import parse_time, same_json

LIFECYCLE = ("run_queued", "run_started", "run_completed", "run_failed")
FINISHED = ("completed", "failed", "cancelled")
DEFAULT_EXCLUDED = ("member_token",)
RUN_TYPES = LIFECYCLE + ("run_heartbeat", "run_lost")
ENVELOPE = ("type", "run_id", "id", "at", "worker_pid")
RECEIVED = object()  # a time that only the daemon knows
DAEMONS = object()   # the daemon's own host
PLACE = {"host": ("host", 255), "unit": ("unit", 255), "user": ("os_user", 255), "cwd": ("cwd", 1024), "command": ("command", 1024)}


def as_map(value):
    return value if isinstance(value, dict) else {"value": value}


def job_of(event):
    """(job_id, oban_job_id) as a start names them: the same where the id is an integer."""
    text = event.get("job_id")
    if text is None:
        number = event.get("oban_job_id")
        return (None if number is None else str(number)), number
    text = str(text)
    is_number = text.isascii() and text.isdigit() and text[0] != "0" and int(text) < 2**63
    return text, int(text) if is_number else None


def is_cancelled(errors):
    return any(error == "cancelled" or (isinstance(error, dict) and error.get("kind") == "cancelled") for error in errors)


@dataclass
class Entry:
    type: str
    payload: object  # None: not compared (the daemon's own entries)
    effect: object   # None: not compared
    event_id: object = None
    at: object = None


@dataclass
class ModelRun:
    run_id: str
    status: str = ""  # empty: there is no row yet
    council: str = "unknown"
    attempt: int = 1
    attempt_given: bool = False
    council_given: bool = False
    parent_attempt_run_id: object = None
    oban_job_id: object = None
    queue: object = None
    job_id: object = None
    expires_in: object = None
    usage: object = None
    progress: object = None
    host: object = None
    unit: object = None
    os_user: object = None
    cwd: object = None
    command: object = None
    job_state: object = None  # None: not told, the queue may have said it
    beats: int = 0  # heartbeats that the history does not have
    input: object = None
    result: object = None
    error: object = None
    started_at: object = None
    finalized_at: object = None
    history: list = field(default_factory=list)
    ids: set = field(default_factory=set)
    duplicates: int = 0
    conflicts: int = 0


def payload_of(event):
    if event["type"] in RUN_TYPES:
        return {key: value for key, value in event.items() if key not in ENVELOPE}
    rest = {key: value for key, value in event.items() if key not in ENVELOPE and key != "payload"}
    return {**event.get("payload", {}), **rest}


class Oracle:
    def __init__(self, excluded=DEFAULT_EXCLUDED):
        self.runs = {}
        self.excluded = excluded
        self.excluded_count = 0

    def apply_all(self, events):
        for event in events:
            self.apply(event)
        return self

    def apply(self, event):
        """The effect of one accepted event."""
        kind = event["type"]
        if kind in self.excluded and kind not in LIFECYCLE:
            self.excluded_count += 1
            return
        run = self.runs.setdefault(event["run_id"], ModelRun(event["run_id"]))
        if "id" in event:
            if event["id"] in run.ids:
                run.duplicates += 1
                return
            run.ids.add(event["id"])
        before = run.status
        changed = conflict = False
        revived = False
        if kind in ("run_queued", "run_started"):
            filled, conflict = self._fill(run, event)
            changed = filled
        self._note(run, event)
        if kind == "run_queued":
            if before == "":
                run.status = "queued"
        elif kind == "run_lost":
            if before in ("", "queued", "running"):
                run.status, run.finalized_at = "stuck", event.get("at", RECEIVED)
        elif kind in ("run_completed", "run_failed"):
            conflict, revived = self._terminal(run, event)
        elif before in ("", "queued", "stuck"):
            revived = before == "stuck"
            if revived:
                run.error = run.finalized_at = run.job_state = None
            run.status = "running"
        elif kind == "run_started" and before in FINISHED:
            conflict = True
        if run.host is None and (kind == "run_started" or (run.status == "running" and before != "running")):
            run.host, changed = DAEMONS, True
        changed = changed or run.status != before
        run.conflicts += conflict
        if kind == "run_heartbeat" and run.status == before and "usage" not in event:
            run.beats += 1
            run.ids.discard(event.get("id"))  # a resend of it has no effect, and is not told apart
            return
        effect = "revived" if revived else "conflict" if conflict else "applied" if changed else "recorded"
        run.history.append(Entry(kind, payload_of(event), effect, event.get("id"), event.get("at")))
        if revived:
            run.history.append(Entry("run_revived", None, None))

    def stuck(self, run_id):
        """Reconciliation marked the run."""
        run = self.runs[run_id]
        assert run.status == "running"
        run.status = "stuck"
        run.finalized_at = RECEIVED
        run.history.append(Entry("run_stuck", None, None))

    @staticmethod
    def _fill(run, event):
        """Fills what no event gave yet. Returns (something was filled, the attempt contradicts)."""
        filled = conflict = False
        if "council" in event and not run.council_given:
            run.council, run.council_given, filled = event["council"], True, True
        if "attempt" in event:
            if not run.attempt_given:
                run.attempt, run.attempt_given, filled = event["attempt"], True, True
            elif run.attempt != event["attempt"]:
                conflict = True
        if "parent_attempt_run_id" in event and run.parent_attempt_run_id is None:
            run.parent_attempt_run_id, filled = event["parent_attempt_run_id"], True
        job_id, number = job_of(event)
        # Both belong together: of another queue or job nothing is taken.
        agrees = run.queue in (None, event.get("queue", run.queue)) and (job_id is None or run.job_id in (None, job_id))
        if agrees and "queue" in event and run.queue is None:
            run.queue, filled = event["queue"], True
        if agrees and job_id is not None and run.job_id is None:
            run.job_id, run.oban_job_id, filled = job_id, number, True
        if "input" in event and run.input is None:
            run.input, filled = as_map(event["input"]), True
        for name, (column, longest) in PLACE.items():
            said = event.get(name)
            if isinstance(said, str) and 1 <= len(said.encode()) <= longest and getattr(run, column) is None:
                setattr(run, column, said)
                filled = True
        if event["type"] == "run_started" and run.started_at is None:
            run.started_at, filled = event.get("at", RECEIVED), True
        return filled, conflict

    @staticmethod
    def _note(run, event):
        """What any event may say of how the run is doing."""
        if event["type"] in ("run_started", "run_heartbeat") and "expires_in" in event and run.status not in FINISHED:
            run.expires_in = event["expires_in"]
        if event.get("usage"):
            run.usage = dict(run.usage or {})
            for key, value in event["usage"].items():
                run.usage[key] = Decimal(str(run.usage.get(key, 0))) + Decimal(str(value))
        if "progress" in event:
            run.progress = {key: value for key, value in event["progress"].items() if key in ("done", "total", "unit")}

    @staticmethod
    def _terminal(run, event):
        """Returns (conflict, revived)."""
        errors = event.get("errors") if event["type"] == "run_failed" else None
        if event["type"] == "run_completed":
            status = "completed"
        else:
            status = "cancelled" if errors is not None and is_cancelled(errors) else "failed"
        result = as_map(event["result"]) if "result" in event else None
        error = None if errors is None else {"errors": errors}
        if run.status in FINISHED:
            same = run.status == status and same_json(run.result, result) and same_json(run.error, error)
            return not same, False
        revived = run.status == "stuck"
        run.status, run.result, run.error = status, result, error
        run.finalized_at = event.get("at", RECEIVED)
        run.job_state = event.get("job_state")
        return False, revived

    # ---- comparing with a database

    def check(self, database, prefix="council_ex_", subset=False):
        """Every row, every seq, every payload. With subset, rows of other runs may be there too."""
        rows, histories = database.runs(prefix), database.events(prefix)
        if not subset:
            for what, found in (("row", rows), ("history", histories)):
                assert set(found) == set(self.runs), f"with a {what} or without, unexpectedly: {set(found) ^ set(self.runs)}"
        for run_id, run in self.runs.items():
            self._check_row(run, rows[run_id])
            self._check_history(run, histories.get(run_id, []))

    def _check_row(self, run, row):
        def differs(name, expected):
            return f"{run.run_id}: {name} is {row[name]!r}, must be {expected!r}"
        for name in ("status", "council", "attempt", "parent_attempt_run_id", "oban_job_id", "queue", "job_id", "expires_in"):
            if name not in row:
                continue  # a table that an older daemon made
            assert same_json(row[name], getattr(run, name)), differs(name, getattr(run, name))
        for name in ("usage", "progress"):
            if name in row:
                found = json.loads(row[name], parse_float=Decimal) if isinstance(row[name], str) else row[name]
                assert same_json(found, exact(getattr(run, name))), differs(name, getattr(run, name))
        for name, _ in PLACE.values():
            if name not in row:
                continue
            expected = getattr(run, name)
            assert row[name] == expected or (expected is DAEMONS and row[name]), differs(name, expected)
        if run.job_state is not None:
            name = "oban_job_state_at_finalize"
            assert row[name] == run.job_state, differs(name, run.job_state)
        for name in ("input", "result") + (() if run.status == "stuck" else ("error",)):
            assert same_json(row[name], exact(getattr(run, name))), differs(name, getattr(run, name))
        for name in ("started_at", "finalized_at"):
            expected = getattr(run, name)
            if expected is RECEIVED:
                assert row[name] is not None, differs(name, "set")
            else:
                assert parse_time(row[name]) == parse_time(expected), differs(name, expected)
        for name in ("inserted_at", "updated_at"):
            assert row[name] is not None, differs(name, "set")

    @staticmethod
    def _check_history(run, entries):
        where = f"history of {run.run_id}"
        found = [(int(entry["seq"]), entry["type"]) for entry in entries]
        expected = [(seq, entry.type) for seq, entry in enumerate(run.history, 1)]
        assert found == expected, f"{where} is {found}, must be {expected}"
        for found, expected in zip(entries, run.history):
            at = f"{where}, seq {found['seq']}, {expected.type}"
            if expected.payload is not None:
                assert same_json(found["payload"], exact(expected.payload)), \
                    f"{at}: payload is {found['payload']!r}, must be {expected.payload!r}"
            if expected.effect is not None:
                for name in ("effect", "event_id"):
                    assert found[name] == getattr(expected, name), f"{at}: {name} is {found[name]!r}, must be {getattr(expected, name)!r}"
                if expected.at is not None:
                    assert parse_time(found["at"]) == parse_time(expected.at), f"{at}: at is {found['at']!r}, must be {expected.at!r}"

    def totals(self):
        """applied and duplicate, as the ledger of one recorder that started with an empty database must show them."""
        return {
            "applied": sum(run.beats + sum(entry.type not in ("run_stuck", "run_revived") for entry in run.history)
                           for run in self.runs.values()),
            "duplicate": sum(run.duplicates for run in self.runs.values()),
            "excluded": self.excluded_count,
        }


def exact(value):
    """Python's floats as the decimals they were sent as."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, dict):
        return {key: exact(element) for key, element in value.items()}
    if isinstance(value, list):
        return [exact(element) for element in value]
    return value


def accepted_prefix(sent, acked, stored_ids, excluded=DEFAULT_EXCLUDED):
    """How many of a connection's events (all with ids) have an effect that is stored: everything acknowledged must have, and
    what is stored beyond must be an unbroken continuation of what was sent."""
    kept = len(sent)
    for position, event in enumerate(sent, 1):
        if event["type"] not in excluded and event["id"] not in stored_ids:
            assert position > acked, f"line {position} was acknowledged and is lost: {event}"
            kept = position - 1
            break
    earlier_ids = {event["id"] for event in sent[:kept]}
    for event in sent[kept:]:
        assert event["id"] in earlier_ids or event["id"] not in stored_ids, f"stored although an earlier one is not: {event}"
    return kept
