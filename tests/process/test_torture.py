"""The fault suite's short form: each fault once, with a fixed seed, on one of its databases. `./dev torture` is the long one."""

from itertools import islice

import pytest

from torture import Clusters, load_table, plan, run_round

SEED = 1
FAULTS = [fault for fault in load_table() if fault.bounded]
ROUNDS = [(number, fault, kind) for number, (fault, kind) in enumerate(islice(plan(FAULTS, "both", True, SEED), len(FAULTS)))]


@pytest.fixture(scope="session")
def clusters():
    clusters = Clusters()
    yield clusters
    clusters.close()


@pytest.mark.parametrize("number, fault, kind", ROUNDS, ids=[f"{fault.name}-{kind}" for _, fault, kind in ROUNDS])
def test_no_acknowledged_event_is_lost_or_applied_twice(number, fault, kind, clusters, record_property):
    if reason := fault.unavailable():
        pytest.skip(reason)
    figures, sound = run_round(number + 1, fault, kind, SEED + number, False, clusters)
    clusters.after_round(sound)
    record_property("figures", {"fault": fault.title, "database": kind, **vars(figures)})
    assert sound, "a promise was broken; what was captured says which, and the command that repeats it"
