"""What every test here has under pytest: daemons that are gone at its end and whose ledgers add up, their logs in the report
of a failure, one PostgreSQL cluster for each worker, and the names that `./dev test --filter REGEX` picks from.

Every test may run beside any other: it makes what it needs in folders of its own and waits for the thing itself.
"""

import os
import re
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.register_assert_rewrite("harness", "load", "oracle", "queues", "torture_check", "torture_fault", "torture_trial")

import harness  # noqa: E402

# As in a shell of a person's, also where this was started in the background: what a test starts inherits ignored signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# With a sanitizer the daemon is several times slower: the tests that drive all of its code, and the loads in a smaller form.
SANITIZED = {"": None, "thread": {"protocol", "durability"},
             "address": {"protocol", "durability", "start", "reconcile", "reconcile_queue", "cli_emit", "cli_exec", "cli_logs"}}
# With the static tool in the tool's place (`./dev static --test`): what it is for, and what is only its own.
STATIC = {"static_tool", "cli_emit", "cli_exec", "cli_logs", "cli_queries", "unsent"}

# Begun first, because they take longest: the others fill what is left of the time.
LONG = re.compile(r"^process\.(torture|soak|missing_index|reading_memory|memory_of_writing|durability)\b")


def pytest_addoption(parser):
    parser.addoption("--filter", default="", metavar="REGEX", help="only the tests in whose name (process.FILE.TEST) it is found")
    parser.addoption("--figures", metavar="FILE", help="a table of what the tests record with record_property('figures', {...})")


def pytest_xdist_auto_num_workers():
    """-n auto: most of the time of a test is waiting."""
    return (2 if harness.SANITIZER else 3) * os.cpu_count()


def full_name(item):
    """As process.prune.test_mistakes_are_named[sqlite], the name in the reports of the test."""
    file = re.sub(r"^test_", "", item.path.stem)
    return ".".join(["process", file, *item.nodeid.split("::")[1:]])


def pytest_collection_modifyitems(config, items):
    wanted = re.compile(config.getoption("--filter"))
    sanitized = SANITIZED[harness.SANITIZER]

    def is_wanted(item):
        name = full_name(item)
        file = name.split(".")[1]
        of_build = file in STATIC if harness.STATIC else file != "static_tool"
        return wanted.search(name) and of_build and (sanitized is None or file in sanitized)

    chosen = [item for item in items if is_wanted(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = sorted(chosen, key=lambda item: not LONG.match(full_name(item)))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """The logs of a failed test's daemons stand in its report."""
    report = (yield).get_result()
    if report.failed:
        for daemon in getattr(item, "daemons", ()):
            report.sections.append((f"log of the daemon in {daemon.folder}", daemon.log()[-6000:]))


class Figures:
    """Where the workers' reports come together: the figures of all tests, as a file."""

    def __init__(self, path):
        self.path, self.rows = Path(path), []

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            self.rows += [value for name, value in report.user_properties if name == "figures"]

    def pytest_sessionfinish(self):
        columns = list(self.rows[0]) if self.rows else []
        lines = [columns, ["---"] * len(columns), *([f"{row[name]:,}" if isinstance(row[name], int) else row[name] for name in columns]
                                                    for row in self.rows)]
        self.path.write_text("".join(f"| {' | '.join(line)} |\n" for line in lines), encoding="utf-8")


def pytest_configure(config):
    if (path := config.getoption("--figures")) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Figures(path))


def pytest_sessionfinish():
    harness.close_shared_cluster()
    harness.remove_temporary_folders()


# ---- fixtures

@pytest.fixture
def kind():
    """The database of `servers`; on_postgres and on_both choose it."""
    return "sqlite"


@pytest.fixture
def cluster():
    """The PostgreSQL cluster of this worker. A test may stop it, and starts it again."""
    return harness.shared_cluster()


@pytest.fixture
def at_end():
    """at_end(function, ...) has it called at the end, after a look at the ledgers, the last one first."""
    with ExitStack() as ends:
        yield ends.callback


@pytest.fixture
def postgres_database(at_end):
    """postgres_database() is an empty database in the cluster."""
    def make():
        database = harness.shared_cluster().create_fresh_database()
        at_end(database.drop)
        return database
    return make


@pytest.fixture
def make_database(kind, postgres_database):
    """make_database(folder) is an empty database of the kind, in that folder or in the cluster."""
    return lambda folder: harness.SqliteDatabase(folder / "run-recorder.db") if kind == "sqlite" else postgres_database()


@pytest.fixture
def daemons(request, make_database, at_end):
    """daemons(...) is a Daemon that the test starts; at the end the ledger of each that runs adds up, and all are ended, before
    their databases go."""
    made = request.node.daemons = []

    def make(*args, **options):
        daemon = harness.Daemon(*args, **options)
        made.append(daemon)
        at_end(daemon.close)
        return daemon

    yield make
    for daemon in made:
        if daemon.accepts_requests():
            daemon.check_ledger()


@pytest.fixture
def servers(daemons, make_database):
    """servers(config, ...) is a Daemon with a database of the kind as its `database`."""
    def make(config=None, **options):
        folder = harness.temporary_folder()
        database = make_database(folder)
        daemon = daemons(database.url, config=config, folder=folder, **options)
        daemon.database = database
        return daemon
    return make


@pytest.fixture
def worker(at_end):
    """worker() is a process that lives until its end(), or that of the test."""
    def make():
        process = subprocess.Popen(["sleep", "1000"])

        def end():
            process.kill()
            process.wait()
        at_end(end)
        process.end = end
        return process
    return make
