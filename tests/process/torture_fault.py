"""What a fault is, and the table of all of them: one row each, by the name that `--only` takes and the figures are under.

To add one: write a class in a file torture_NAME.py, derive it from Fault, decorate it with @row, and name the file in FILES
below. Mostly `strike()` is enough: it injects the fault once while events flow, heals what it broke (or leaves that to
`heal()`), and returns. run() does the rest: a daemon, its database, senders, some strikes, and the comparison with the model
(Trial.check). Where that is not the shape of it, override run() and call trial.check() at the end; count what was injected with
`trial.figures.injected += 1`.

    @row
    class BackendsTerminated(Fault):
        name = "pg-terminate"
        title = "`pg_terminate_backend` under load"
        databases = ("postgresql",)

        def strike(self, trial):
            trial.cluster.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname <> 'postgres'")

What a violation is: an AssertionError, from wherever it comes. What cannot be tried here (not root, no mount) is said by
`unavailable()`, and the row then stands in the table with that reason.
"""

from dataclasses import dataclass

# The files with rows, in the order of the table.
FILES = ("torture_kill", "torture_power", "torture_disk", "torture_postgres", "torture_failover", "torture_clock",
         "torture_hosts", "torture_neighbours")

FAULTS = []


def row(fault_class):
    """Adds a fault to the table."""
    assert fault_class.name and fault_class.title, fault_class
    assert fault_class.name not in {fault.name for fault in FAULTS}, fault_class.name
    FAULTS.append(fault_class())
    return fault_class


def load_table():
    for file in FILES:
        __import__(file)
    return FAULTS


@dataclass
class Figures:
    rounds: int = 0
    injected: int = 0
    sent: int = 0          # events, each counted once however often it was sent
    acknowledged: int = 0  # of these
    found: int = 0         # of the acknowledged ones
    duplicated: int = 0    # entries of the history that are there once too often
    lost: int = 0          # acknowledged and not found
    refused: int = 0       # answers that told the sender to come again
    destroyed: int = 0     # acknowledged, destroyed by the fault itself, and each named as a dead letter

    def add(self, other):
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


class Fault:
    name = ""
    title = ""
    databases = ("sqlite", "postgresql")
    bounded = True          # also in `./dev test`
    own_cluster = False     # what it does to the PostgreSQL server is not for other rounds to see
    cluster_settings = {}   # with own_cluster
    config = {}             # over the daemon's
    senders = (2, 9)        # how many connections, from, to (exclusive)
    events = (600, 4_000)   # per round: small scale, full scale
    strikes = (3, 12)       # small scale, full scale

    def unavailable(self):
        """Why this cannot be tried here; empty where it can."""
        return ""

    def prepare(self, trial):
        """Before the daemon is started for the first time."""

    def strike(self, trial):
        """Injects the fault once, under load."""
        raise NotImplementedError(self.name)

    def heal(self, trial):
        """After the last strike: whatever is still broken is whole again."""

    def run(self, trial):
        """One round."""
        trial.start()
        self.strike_under_load(trial)
        self.heal(trial)
        trial.send_all()
        trial.check()

    def strike_under_load(self, trial, after_strike=None):
        trial.open_senders()
        strikes = self.scaled(trial, self.strikes)
        for number in range(strikes):
            trial.advance_to((number + trial.random.random()) / (strikes + 1))
            self.strike(trial)
            trial.figures.injected += 1
            if after_strike:
                after_strike()

    @staticmethod
    def scaled(trial, small_and_full):
        return small_and_full[1 if trial.full else 0]
