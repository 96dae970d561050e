"""run-recorder admin, on daemons of one's own: tests/system has it on a service of systemd."""

import json
import pwd
import re
import signal
import sqlite3
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from databases import on_both
from harness import DEADLINE_S, TOOL, as_root, wait_until

OWNER = "nobody"
needs_root = pytest.mark.skipif(not as_root(), reason="needs to be root")


def admin(server, *words, status=0, user=None, **environment):
    done = subprocess.run([str(TOOL), "admin", *map(str, words), "--config", str(server.config_path)], capture_output=True,
                          text=True, timeout=DEADLINE_S, env={**server.environment(), **environment}, check=False, user=user)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def with_runs(servers, count=3, **options):
    """A daemon that has recorded runs, and is stopped."""
    server = servers(**options)
    server.start()
    server.send(*({"type": "run_completed", "run_id": f"r{i}", "id": "e"} for i in range(count)))
    server.wait_applied()
    assert server.stop() == 0
    return server


def listed(server):
    return {run["run_id"]: run["status"] for run in server.control.ok("GET", "/v1/runs?limit=1000")["runs"]}


@on_both
def test_check_migrate_and_drain_are_the_daemons(servers):
    server = servers()
    server.write_config()
    server.spool_path.mkdir(mode=0o700)
    assert "applied " in admin(server, "migrate").stdout
    assert "CREATE TABLE" in admin(server, "migrate", "--print").stdout
    assert "database       fine" in admin(server, "check").stdout
    assert "the spool is empty: 0 applied" in admin(server, "drain").stdout


def test_drain_says_how_many_were_applied(servers, at_end):
    server = servers()
    server.start()
    at_end(lambda: None)
    # A database that goes: the events stay in the spool.
    server.send({"type": "run_started", "run_id": "before"})
    server.wait_applied()
    server.sqlite_path.chmod(0o640)
    server.stop()
    server.config["database"]["url"] = "postgresql://nobody@127.0.0.1:1/none"
    server.start()
    server.send({"type": "run_completed", "run_id": "before"}, {"type": "run_started", "run_id": "after"})
    server.config["daemon"] = {"shutdown_timeout": "1s"}
    server.stop()
    server.config["database"]["url"] = server.database_url
    server.write_config()
    assert "3 applied, 0 duplicate, 0 dead letters; 2 of them by this drain" in admin(server, "drain").stdout


@needs_root
def test_who_owns_no_spool_is_told_to_be_root(servers):
    server = with_runs(servers)
    server.config_path.chmod(0o644)
    if subprocess.run([str(TOOL), "--version"], capture_output=True, user=OWNER, check=False).returncode != 0:
        pytest.skip("another user cannot run the programs from here")
    said = admin(server, "drain", status=1, user=OWNER)
    assert f"or as root: sudo run-recorder admin drain --config {server.config_path}" in said.stderr


def backup(server, to):
    source, copy = sqlite3.connect(server.sqlite_path), sqlite3.connect(to)
    with source, copy:
        source.backup(copy)
    source.close()
    copy.close()


@pytest.mark.parametrize("user", [None, pytest.param(OWNER, marks=needs_root)])
def test_restore_puts_a_copy_in_place_and_keeps_the_one_before(servers, user):
    server = with_runs(servers, config={"spool": {"keep": "0s"}}, user=user)
    copy = server.folder / "copy.db"
    backup(server, copy)
    copy.chmod(0o600)
    server.start()
    server.send({"type": "run_started", "run_id": "later"})
    server.wait_applied()
    server.stop()
    said = admin(server, "restore", copy).stdout
    kept = re.search(r"^the database before is kept as (.*)$", said, re.MULTILINE)[1]
    with sqlite3.connect(kept) as before:
        assert before.execute("SELECT count(*) FROM council_ex_runs").fetchone() == (4,)
    server.start()
    assert set(listed(server)) >= {"r0", "r1", "r2"}
    server.send({"type": "run_started", "run_id": "new"})
    server.wait_applied()
    if user:
        owners = {pwd.getpwuid(path.stat().st_uid).pw_name for path in server.folder.glob("run-recorder.db*")}
        assert owners == {OWNER}
        assert server.sqlite_path.stat().st_mode & 0o777 == 0o640
    assert not list(server.folder.glob("*.restoring*"))


def test_restore_refuses_what_is_no_copy_of_such_a_database(servers):
    server = with_runs(servers)
    before = server.sqlite_path.read_bytes()
    text, other, damaged, busy = (server.folder / name for name in ("text", "other.db", "damaged.db", "busy.db"))
    text.write_text("not a database\n" * 100)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    backup(server, damaged)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2:] = b"\xff" * (len(content) - len(content) // 2)
    damaged.write_bytes(content)
    backup(server, busy)
    (server.folder / "busy.db-wal").write_bytes(b"x" * 100)
    for file, words in ((text, "not a SQLite database"), (other, "no table council_ex_runs"), (damaged, "damaged|malformed"),
                        (busy, r"busy\.db-wal"), (server.folder / "none", "No such file")):
        said = admin(server, "restore", file, status=1)
        assert re.search(words, said.stderr), said.stderr
    assert server.sqlite_path.read_bytes() == before
    assert not list(server.folder.glob("*.before-*")) + list(server.folder.glob("*.restoring*"))
    empty = server.run("--restore")
    assert empty.returncode == 1, empty.stderr


def test_two_restores_in_one_second_keep_both_databases(servers):
    server = with_runs(servers)
    copy = server.folder / "copy.db"
    backup(server, copy)
    server.stop()
    now = datetime.now(timezone.utc)
    for second in range(DEADLINE_S):
        (server.folder / f"{server.sqlite_path.name}.before-{now + timedelta(seconds=second):%Y%m%dT%H%M%S}Z").touch()
    said = admin(server, "restore", copy).stdout
    kept = re.search(r"^the database before is kept as (.*)$", said, re.MULTILINE)[1]
    assert kept.endswith("Z-2"), said
    with sqlite3.connect(kept) as before:
        assert before.execute("SELECT count(*) FROM council_ex_runs").fetchone() == (3,)


def test_restore_beside_a_running_daemon_is_refused(servers):
    server = with_runs(servers)
    copy = server.folder / "copy.db"
    backup(server, copy)
    server.start()
    said = admin(server, "restore", copy, status=69)
    assert "in use by another run-recorderd" in said.stderr
    assert len(listed(server)) == 3


@pytest.mark.parametrize("kind", ("postgresql",))
def test_restore_of_postgresql_says_what_to_do_instead(servers):
    server = with_runs(servers)
    said = admin(server, "restore", server.config_path, status=1)
    assert "pg_restore" in said.stderr


def test_move_takes_everything_to_postgresql(servers, postgres_database):
    server = with_runs(servers)
    server.start()
    server.send({"type": "run_started", "run_id": "goes-on", "id": "1"})
    server.wait_applied()
    server.stop()
    target = postgres_database()
    temporary = server.folder / "tmp"
    temporary.mkdir(mode=0o755)
    said = admin(server, "move", "--to", target.url, TMPDIR=str(temporary))
    assert f'url = "{target.url}"' in said.stdout, said.stdout
    assert not list(temporary.iterdir())
    server.config["database"]["url"] = target.url
    server.start()
    assert listed(server) == {"r0": "completed", "r1": "completed", "r2": "completed", "goes-on": "running"}
    server.send({"type": "run_completed", "run_id": "goes-on", "id": "2"})
    status = server.wait_applied()
    assert (status["applied"], status["forgotten"]) == (5, 0)


@needs_root
def test_a_move_by_root_leaves_each_file_to_its_owner(servers):
    server = with_runs(servers, user=OWNER)
    server.config_path.chmod(0o644)
    target = server.folder / "new.db"
    admin(server, "move", "--to", f"sqlite:{target}")
    made = [target, *server.spool_path.iterdir(), *server.folder.glob("run-recorder.db*")]
    assert {pwd.getpwuid(path.stat().st_uid).pw_name for path in made} == {OWNER}
    server.config["database"]["url"] = f"sqlite:{target}"
    server.start()
    assert len(listed(server)) == 3


def test_a_move_that_fails_changes_nothing_and_names_the_step(servers):
    server = with_runs(servers)
    said = admin(server, "move", "--to", "postgresql://nobody:s3cret@127.0.0.1:1/none", status=69)
    assert "the new database does not come up: away: " in said.stderr
    assert "s3cret" not in said.stdout + said.stderr
    assert "nothing is lost: the old database is as it was" in said.stderr
    server.start()
    assert len(listed(server)) == 3


def test_a_move_that_is_interrupted_ends_what_it_began(servers):
    server = with_runs(servers)
    moving = subprocess.Popen([str(TOOL), "admin", "move", "--to", "postgresql://nobody@127.0.0.1:1/none", "--config",
                               str(server.config_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=server.environment())
    children = Path(f"/proc/{moving.pid}/task/{moving.pid}/children")
    both = wait_until(lambda: len(found := children.read_text().split()) == 2 and found, "both daemons to run")
    moving.send_signal(signal.SIGINT)
    _, said = moving.communicate(timeout=DEADLINE_S)
    assert (moving.returncode, "interrupted" in said, "nothing is lost" in said) == (1, True, True), said
    assert not [pid for pid in both if Path(f"/proc/{pid}").exists()]
    server.start()
    assert len(listed(server)) == 3


def test_mistakes_in_a_move_stop_nothing(servers):
    server = with_runs(servers)
    assert "--to" in admin(server, "move", status=2).stderr
    assert "--to" in admin(server, "move", "--to", "mysql://x", status=2).stderr
    assert "in use" in admin(server, "move", "--to", server.database_url, status=2).stderr


def test_the_json_of_the_status_names_the_spool(servers):
    server = servers()
    server.start()
    assert server.status()["spool"]["path"] == str(server.spool_path)
    assert json.dumps(server.status()["spool"]["path"]).startswith('"/')


def is_alive(pid):
    """Who adopts an orphan may be slow to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@needs_root
def test_a_move_that_is_killed_leaves_no_daemon_behind(servers):
    """Nor where the daemons have become the owner of the spool, which makes the kernel forget whose child they are."""
    server = with_runs(servers, user=OWNER)
    server.config_path.chmod(0o644)
    temporary = server.folder / "tmp"
    temporary.mkdir(mode=0o755)
    moving = subprocess.Popen([str(TOOL), "admin", "move", "--config", str(server.config_path), "--to", "postgresql://n@127.0.0.1:1/n"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              env={**server.environment(), "TMPDIR": str(temporary)})
    try:
        wait_until(lambda: len(list(temporary.glob("*/*.sock"))) == 4, "both daemons listen")
        daemons = Path(f"/proc/{moving.pid}/task/{moving.pid}/children").read_text().split()
        assert len(daemons) == 2
    finally:
        moving.kill()
        moving.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in daemons), "both daemons have ended")
    server.start()
    assert len(listed(server)) == 3
