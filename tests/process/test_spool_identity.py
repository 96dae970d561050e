"""A spool whose files are taken away under the daemon, and one that is there twice: a copy must not be taken for the original."""

import re
import shutil
import subprocess

import pytest

from databases import on_postgres
from harness import merged, temporary_folder, wait_until

REFUSED = r"the spool cannot accept events, all are refused"
NOTICED = r"the spool can no longer be used"
DOUBT = r"the recorder id is in doubt, events are spooled"
NEW_ID = r"one of the two spools is a copy; taking a new id"
LOST = r"(?i)is lost|are lost|has forgotten|dead letter"


def started(run_id, **more):
    return {"type": "run_started", "run_id": run_id, "council": "demo", **more}


# ---- files that are gone


@pytest.fixture
def server(servers):
    server = servers().start()
    server.send(started("before", id="1"))
    return server


def refused(server, run_id):
    with server.client() as client:
        client.send(started(run_id))
        assert client.codes() == {1: "unavailable"}


def check_latched(server, *words):
    status = server.status()["spool"]
    assert status["failed"]
    for word in words:
        assert word in status["failure"]
    assert server.control.get("/readyz").status == 503
    errors = server.log_lines("error")
    for line in errors:
        assert str(server.spool_path) in line
    for pattern in (REFUSED, NOTICED):  # by whoever appends, and by the look of each second
        assert len([line for line in errors if re.search(pattern, line)]) <= 1, errors
    assert errors


def check_all_is_applied(server, *run_ids):
    """What was acknowledged before is applied by the stop, if not earlier."""
    assert server.stop() == 0, server.log()[-2000:]
    assert sorted(server.database.runs()) == sorted(run_ids)


def test_a_deleted_folder_takes_nothing_more_and_what_was_acknowledged_is_applied(server):
    shutil.rmtree(server.spool_path)
    refused(server, "late")
    refused(server, "later")
    check_latched(server, "deleted or moved away", "put the folder back")
    check_all_is_applied(server, "before")


def test_an_idle_daemon_notices(server):
    shutil.rmtree(server.spool_path)
    wait_until(lambda: server.control.get("/readyz").status == 503, "the daemon to notice")
    check_latched(server, "deleted or moved away")


def test_a_replaced_folder_is_left_alone_and_the_old_one_is_used_once_it_is_back(server):
    old = server.folder / "old"
    server.spool_path.rename(old)
    server.spool_path.mkdir()
    refused(server, "late")
    check_latched(server, "was replaced")
    assert list(server.spool_path.iterdir()) == []
    check_all_is_applied(server, "before")
    server.spool_path.rmdir()
    old.rename(server.spool_path)
    server.start()
    server.send(started("after"))
    assert server.wait_applied()["applied"] == 2


def test_no_second_daemon_starts_beside_one_whose_lock_file_is_gone(server, daemons):
    (server.spool_path / "lock").unlink()
    other = daemons(config={"spool": {"path": server.spool_path}})
    done = other.run()
    assert done.returncode == 69, done.stderr
    assert str(server.spool_path) in done.stderr
    server.wait_for_log(r"lock file \S+ was deleted or replaced")
    assert server.process.pid == int((server.spool_path / "lock").read_text())
    assert other.run().returncode == 69
    server.send(started("after"))


def test_a_deleted_or_replaced_socket_is_logged_once(servers):
    """The same of a path that is no file: whoever listens does not notice by himself."""
    server = servers().start()
    server.wait_for_log("run-recorderd accepts events")  # from here on the paths are watched
    server.socket_path.unlink()
    server.wait_for_log(r"error the event socket was deleted or replaced[^\n]*" + re.escape(str(server.socket_path)))
    assert server.control.get("/healthz").status == 200
    server.control_path.rename(server.folder / "elsewhere.sock")
    server.wait_for_log(r"error the control socket was deleted or replaced")
    (server.folder / "elsewhere.sock").rename(server.control_path)
    server.wait_for_log(r"the control socket is back")
    assert len(re.findall("was deleted or replaced", server.log())) == 2
    assert server.stop() == 0


# ---- copies


@pytest.fixture
def copy_of(daemons):
    """copy_of(server, ...) is another daemon on a copy of that one's spool, as it is now, and on the same database."""
    def make(server, **config):
        folder = temporary_folder()
        subprocess.run(["cp", "-a", str(server.spool_path), str(folder / "spool")], check=True)
        other = daemons(server.database_url, folder=folder)
        other.config = merged(other.config, {section: values for section, values in server.config.items()
                                             if section not in ("socket", "control", "spool")} | config)
        return other
    return make


def history(server):
    return {run_id: [entry["type"] for entry in entries] for run_id, entries in server.database.events().items()}


def check_each_ledger(*daemons):
    """Each daemon's `applied` is what the history has from it."""
    entries = [entry for entries_of_run in daemons[0].database.events().values() for entry in entries_of_run]
    for daemon in daemons:
        status = daemon.check_ledger()
        assert status["applied"] == sum(entry["recorder"] == status["recorder"] for entry in entries), status


@on_postgres
def test_a_copy_beside_the_original_takes_an_id_of_its_own_and_what_both_have_is_applied_once(servers, copy_of):
    first = servers({"reconcile": {"grace": "1ms", "recorder_timeout": "1h"}}).start()
    first.wait_boot_pass()
    first.send(started("r", at="2020-01-01T00:00:00Z"))
    first.wait_applied()
    with first.database.away():
        # Without ids of their own: nothing but the position tells that they were applied.
        first.send(*({"type": "step", "run_id": "r"} for _ in range(200)))
        second = copy_of(first)
    second.start()
    second.send(started("s"))
    second.wait_for_log(DOUBT)
    first.send(started("t"))
    second.wait_for_log(NEW_ID)
    first.wait_applied()
    second.wait_applied()
    second.wait_boot_pass()
    assert history(first)["r"] == ["run_started"] + ["step"] * 200
    assert history(first)["s"] == ["run_started"]
    assert first.status()["recorder"] != second.status()["recorder"]
    check_each_ledger(first, second)
    # Neither has judged what the other one's workers do.
    assert {row["status"] for row in first.database.runs().values()} == {"running"}
    assert not re.search(LOST, first.log() + second.log()), first.log() + second.log()
    # It stays so, for both.
    ids = [server.status()["recorder"] for server in (first, second)]
    for server in (first, second):
        server.restart()
        server.wait_applied()
    assert [server.status()["recorder"] for server in (first, second)] == ids


@on_postgres
def test_an_original_that_comes_back_beside_its_copy_gives_its_id_up(servers, copy_of):
    first = servers({"reconcile": {"recorder_timeout": "2s"}}).start()
    first.send(started("r"))
    first.wait_applied()
    old = first.status()["recorder"]
    first.kill()
    second = copy_of(first)
    second.start()
    second.wait_applied()
    wait_until(lambda: second.status()["database"]["state"] == "up", "the copy to go on with the id")
    assert second.status()["recorder"] == old
    first.start()
    first.send({"type": "run_completed", "run_id": "r"})
    first.wait_for_log(NEW_ID)
    first.wait_applied()
    assert second.status()["recorder"] == old
    assert first.status()["recorder"] != old
    assert history(first) == {"r": ["run_started", "run_completed"]}
    check_each_ledger(first)


@on_postgres
def test_a_spool_of_another_machine_is_another_recorder_at_once(servers, copy_of):
    first = servers({"reconcile": {"recorder_timeout": "1h"}}).start()
    first.send(started("r"))
    first.wait_applied()
    second = copy_of(first)
    identity = second.spool_path / "identity"
    identity.write_text(re.sub(r"(?m)^place \S+", "place 0123456789abcdef", identity.read_text()))
    if not re.search(r"(?m)^place [0-9a-f]{16} ", (first.spool_path / "identity").read_text()):
        pytest.skip("this machine has no id")
    second.start()
    second.wait_for_log(r"comes from another machine, using a new recorder id")
    second.send(started("s"))
    second.wait_applied()
    assert first.status()["recorder"] != second.status()["recorder"]
    assert history(first) == {"r": ["run_started"], "s": ["run_started"]}
    check_each_ledger(first, second)


@on_postgres
def test_a_spool_that_is_moved_on_purpose_keeps_its_id(servers, copy_of):
    first = servers({"reconcile": {"recorder_timeout": "2s"}}).start()
    first.send(started("r"))
    first.wait_applied()
    old = first.status()["recorder"]
    assert first.stop() == 0
    second = copy_of(first)
    identity = second.spool_path / "identity"
    identity.write_text(re.sub(r"(?m)^place \S+", "place 0123456789abcdef", identity.read_text()))
    done = second.run("--adopt-spool")
    assert (done.returncode, done.stderr) == (0, "")
    assert old in done.stdout
    second.start()
    second.send({"type": "run_completed", "run_id": "r"})
    second.wait_applied()
    assert second.status()["recorder"] == old
    assert second.check_ledger()["applied"] == 2
    assert history(first) == {"r": ["run_started", "run_completed"]}


@on_postgres
def test_a_copy_of_a_live_spool_has_lost_nothing_that_the_database_has(servers, copy_of):
    first = servers({"reconcile": {"recorder_timeout": "2s"}}).start()
    first.send(*(started(f"r-{number}") for number in range(50)))
    second = copy_of(first)
    first.send(*(started(f"s-{number}") for number in range(50)))
    first.wait_applied()
    # `cp -r` comes to the mark after the segment.
    shutil.copyfile(first.spool_path / "synced", second.spool_path / "synced")
    first.kill()
    second.start()
    second.send(started("t"))
    status = second.wait_applied()
    assert (status["applied"], status["dead_letters"], status["forgotten"]) == (101, 0, 0)
    assert len(history(first)) == 101
    assert not re.search(LOST.replace("|dead letter", ""), second.log()), second.log()
    second.check_ledger()
