"""Seeded streams of events that mix what workers do: short and long runs, retries, cancellations, resends, events in the
wrong order, contradictions, other types, excluded types, results of every JSON type, large payloads."""

import random

COUNCILS = ("Billing.Invoice", "nightly-backup", "réseau/été", "demo")


def stream(seed, count, name, large_every=997):
    """`count` events of many runs, interleaved, each with an id; no other stream has the same runs."""
    source = random.Random(f"{seed}/{name}")
    open_runs, events, number = [], [], 0
    while len(events) < count:
        if len(open_runs) < 12 or source.random() < 0.1:
            number += 1
            open_runs.append(_run(source, f"{name}-{number}"))
        run = source.choice(open_runs)
        event = run.pop(0)
        if not run:
            open_runs.remove(run)
        events.append(event)
        if source.random() < 0.02:
            events.append(dict(event))  # a resend
        if len(events) % large_every == 0:
            events.append({"type": "snapshot", "run_id": event["run_id"], "id": f"large-{len(events)}",
                           "payload": {"text": "x" * source.randrange(20_000, 120_000)}})
    return events[:count]


def _run(source, run_id):
    """The events of one run, in the order they are sent, which is not always the order they should have."""
    attempt = source.randrange(1, 4)
    start = {"type": "run_started", "run_id": run_id, "council": source.choice(COUNCILS), "attempt": attempt,
             "input": _value(source)}
    if source.random() < 0.3:
        start["oban_job_id"] = source.randrange(1, 2**63)
    if attempt > 1:
        start["parent_attempt_run_id"] = f"{run_id}-original"
    if source.random() < 0.5:
        start["at"] = f"2026-01-02T03:04:{source.randrange(60):02}.{source.randrange(10**6):06}+01:00"
    if source.random() < 0.3:
        start["host"] = source.choice(("batch-1", "bätch", "", 7, "h" * 256))
        start["command"] = source.choice(("make all", None))
    events = []
    if source.random() < 0.4:
        events.append({"type": "run_queued", "run_id": run_id, "council": start["council"]})
    events.append(start)
    steps = source.randrange(60, 240) if source.random() < 0.01 else source.randrange(0, 8)
    for number in range(steps):
        kind = source.choice(("member_done", "tool.call", "member_token", "note"))
        events.append({"type": kind, "run_id": run_id, "payload": {"number": number, "value": _value(source)}, "step": number})
    ending = source.random()
    if ending < 0.5:
        events.append({"type": "run_completed", "run_id": run_id, "result": _value(source)})
    elif ending < 0.7:
        events.append({"type": "run_failed", "run_id": run_id, "errors": [{"kind": "error", "message": "naïve ✗"}]})
    elif ending < 0.8:
        events.append({"type": "run_failed", "run_id": run_id, "errors": ["no room", "cancelled"]})
    elif ending < 0.85:
        events.append({"type": "run_failed", "run_id": run_id})
    if source.random() < 0.15:
        source.shuffle(events)
    if source.random() < 0.05:
        events.append({"type": "run_completed", "run_id": run_id, "result": {"another": True}})
    if source.random() < 0.05:
        events.append({**start, "attempt": attempt + 1})
    for number, event in enumerate(events):
        event["id"] = f"{run_id}/{number}"
    return events


def _value(source):
    return source.choice((None, True, 0, -7, 2.5, 12345678901234567890, "text \u2713 \"quoted\"", "", [1, [2, {}]], {},
                          {"rows": 12, "nested": {"list": [None, "a"]}}))
