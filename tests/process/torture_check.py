"""Holds what was answered against what is stored: every row, every seq, every payload, and the ledger."""

from harness import LEDGER_PARTS
from oracle import DEFAULT_EXCLUDED, Oracle
from torture_books import found_order
from torture_fault import Figures

DAEMONS_OWN = ("run_stuck", "run_revived")


def is_kept(event):
    """Whether the history keeps events of that type."""
    return event["type"] not in DEFAULT_EXCLUDED


def key_of(event):
    return event["run_id"], event["id"]


def compare_rows(senders, database, figures=None, destroyed_at_most=0):
    """Asserts that the database holds what the senders' books allow and nothing else. Returns the model that it equals; the
    figures are filled in any case."""
    histories = database.events()
    found = {run_id: [entry["event_id"] for entry in history if entry["type"] not in DAEMONS_OWN]
             for run_id, history in histories.items()}
    keys = {(run_id, event_id) for run_id, ids in found.items() for event_id in ids}
    figures = figures or Figures()
    lost = _count(senders, found, keys, figures)
    figures.destroyed = min(len(lost), destroyed_at_most)
    figures.lost = len(lost) - figures.destroyed
    assert len(lost) <= destroyed_at_most, \
        f"{len(lost)} acknowledged events are lost, of which the fault destroyed at most {destroyed_at_most}: {lost[:5]}"
    assert figures.duplicated == 0, f"{figures.duplicated} events are stored twice"
    for sender in senders:
        sender.check_unsettled_tails(lambda event: key_of(event) in keys, DEFAULT_EXCLUDED)
    by_run = _deliveries_by_run(senders)
    model = Oracle()
    for run_id, history in histories.items():
        deliveries = by_run.get(run_id)
        assert deliveries, f"a run that nobody sent: {run_id}"
        found_order(run_id, found[run_id], [[(event["id"], fate) for event, fate in one] for one in deliveries])
        events = {event["id"]: event for one in deliveries for event, _ in one}
        for entry in history:
            if entry["type"] == "run_stuck":
                model.stuck(run_id)  # when a pass marks a run is the daemon's affair; what follows from it is not
            elif entry["type"] != "run_revived":
                model.apply(events[entry["event_id"]])
    model.check(database)
    return model


def _deliveries_by_run(senders):
    """{run_id: for each sender that had something of it, its deliveries}"""
    by_run = {}
    for sender in senders:
        mine = {}
        for run_id, event, fate in sender.deliveries():
            if is_kept(event):
                mine.setdefault(run_id, []).append((event, fate))
        for run_id, deliveries in mine.items():
            by_run.setdefault(run_id, []).append(deliveries)
    return by_run


def _count(senders, found, keys, figures):
    lost = [event for sender in senders for position, event in enumerate(sender.events)
            if sender.accepted[position] and is_kept(event) and key_of(event) not in keys]
    figures.sent = sum(sender.next for sender in senders)
    figures.acknowledged = sum(sender.accepted_count for sender in senders)
    figures.refused = sum(sender.refused_count for sender in senders)
    figures.duplicated = sum(len(ids) for ids in found.values()) - len(keys)
    figures.lost = len(lost)
    figures.found = figures.acknowledged - figures.lost
    return lost


def check_ledger(senders, status, database, expected_dead_letters=0):
    """accepted is what was accepted by this daemon, adds up, and `applied` is what the history has from it."""
    total = sum(status[part] for part in LEDGER_PARTS)
    assert status["accepted"] == total, f"the ledger does not add up: {status}"
    fates = [fate for sender in senders for _, event, fate in sender.deliveries() if is_kept(event)]
    known, possible = fates.count(True), fates.count(True) + fates.count(None)
    assert known <= status["accepted"] <= possible, \
        f"accepted is {status['accepted']}, between {known} and {possible} were: {status}"
    entries = sum(entry["type"] not in DAEMONS_OWN and entry["recorder"] == status["recorder"]
                  for history in database.events().values() for entry in history)
    assert status["applied"] == entries, f"applied is {status['applied']}, the history has {entries}: {status}"
    dead = status["dead_letters"] + status["dead_letters_removed"]
    assert dead == expected_dead_letters, f"{dead} dead letters, {expected_dead_letters} expected: {status}"
