"""Whose files a daemon makes and finds: root beside another user's spool, files with a wrong owner or mode, sockets that a drain
does not need, folders that cannot be made."""

import json
import os
import pwd
import subprocess

import pytest

from harness import DAEMON, DEADLINE_S, TOOL, as_root, clean_environment

OWNER = "nobody"
needs_root = pytest.mark.skipif(not as_root(), reason="needs to be root")


def owners_below(folder):
    return {pwd.getpwuid(os.lstat(os.path.join(parent, name)).st_uid).pw_name
            for parent, folders, files in os.walk(folder) for name in (*folders, *files)}


def of_nobody(servers, **options):
    """A daemon of another user, which that user can run from here."""
    server = servers(user=OWNER, **options)
    server.write_config()
    server.config_path.chmod(0o644)
    tried = subprocess.run([str(DAEMON), "--version"], capture_output=True, user=OWNER, check=False) \
        if os.access(DAEMON, os.X_OK) else None
    if tried is None or tried.returncode != 0:
        pytest.skip("another user cannot run the programs from here")
    return server


@pytest.fixture
def theirs(servers):
    """That has run, and has an event in its spool."""
    server = of_nobody(servers)
    server.start()
    server.send({"type": "run_started", "run_id": "r1"})
    server.wait_applied()
    assert server.stop() == 0
    return server


@needs_root
def test_every_action_of_root_acts_as_the_owner_of_the_spool(theirs):
    for action in ("--check", "--migrate", "--drain", "--adopt-spool"):
        done = theirs.run(action)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr.count(f"acting as {OWNER}, whom the spool {theirs.spool_path} belongs to") == 1, action
    made = owners_below(theirs.spool_path) | {pwd.getpwuid(path.stat().st_uid).pw_name
                                              for path in theirs.folder.glob("run-recorder.db*")}
    assert made == {OWNER}
    theirs.start()
    theirs.send({"type": "run_completed", "run_id": "r1"})
    theirs.wait_applied()


@needs_root
def test_a_daemon_that_root_starts_serves_as_the_owner(theirs):
    theirs.user = None
    theirs.start()
    theirs.wait_for_log(f"acting as {OWNER}")
    theirs.send({"type": "run_completed", "run_id": "r1"})
    theirs.wait_applied()
    assert theirs.stop() == 0
    assert owners_below(theirs.spool_path) == {OWNER}
    assert theirs.socket_path.parent.stat().st_uid == pwd.getpwnam(OWNER).pw_uid


@needs_root
def test_before_there_is_a_spool_its_folder_says_whose_it_will_be(servers):
    server = of_nobody(servers)
    done = server.run("--drain")
    assert done.returncode == 0, done.stderr
    assert owners_below(server.spool_path) == {OWNER}


@needs_root
def test_where_root_may_not_become_the_owner_the_command_is_said(theirs):
    before = sorted(path.name for path in theirs.spool_path.iterdir())
    done = subprocess.run(["setpriv", "--bounding-set=-setuid", "--inh-caps=-setuid", str(DAEMON), "--config", str(theirs.config_path),
                           "--drain"], capture_output=True, text=True, timeout=DEADLINE_S, env=theirs.environment(), check=False)
    assert done.returncode == 69, done.stderr
    assert f"runuser -u {OWNER} -- run-recorderd --config {theirs.config_path} --drain" in done.stderr
    assert sorted(path.name for path in theirs.spool_path.iterdir()) == before


def doctor(server):
    done = subprocess.run([str(TOOL), "doctor", "--json", "--config", str(server.config_path)], capture_output=True, text=True,
                          timeout=DEADLINE_S, env=server.environment(), check=False)
    return done.returncode, {line["check"]: line for line in map(json.loads, done.stdout.splitlines())}


@needs_root
def test_a_segment_of_root_is_named_with_the_command_that_repairs_it(theirs):
    segment = max(theirs.spool_path.glob("*.seg"))
    os.chown(segment, 0, 0)
    command = f"as root: chown {OWNER}: {segment}"
    for action in ((), ("--drain",)):
        done = theirs.run(*action)
        assert done.returncode == 69, action
        assert f"{segment} belongs to root and has mode 0600: {OWNER} cannot work with it; {command}" in done.stderr
    checked = theirs.run("--check")
    assert (checked.returncode, command in checked.stdout) == (69, True), checked.stdout
    status, findings = doctor(theirs)
    assert (status, findings["files"]["ok"]) == (1, False)
    assert findings["files"]["advice"].startswith(command)
    subprocess.run(command.removeprefix("as root: ").split(), check=True)
    assert theirs.run("--drain").returncode == 0


@needs_root
def test_a_database_of_root_and_one_without_its_mode_are_named(theirs):
    os.chown(theirs.sqlite_path, 0, 0)
    done = theirs.run()
    assert done.returncode == 69
    assert f"as root: chown {OWNER}: {theirs.sqlite_path}" in done.stderr
    assert theirs.run("--check").returncode == 69
    os.chown(theirs.sqlite_path, pwd.getpwnam(OWNER).pw_uid, -1)
    theirs.sqlite_path.chmod(0o440)
    done = theirs.run("--drain")
    assert done.returncode == 69
    assert f"as root: chmod u+rwX {theirs.sqlite_path}" in done.stderr
    theirs.sqlite_path.chmod(0o640)
    assert theirs.run("--drain").returncode == 0


@needs_root
def test_many_files_of_another_owner_take_one_command(theirs):
    for path in theirs.spool_path.iterdir():
        os.chown(path, 0, 0)
    done = theirs.run("--drain")
    assert done.returncode == 69
    assert f"as root: chown -R {OWNER}: {theirs.spool_path}" in done.stderr


@needs_root
def test_who_is_at_another_users_spool_is_told_to_be_that_user(theirs):
    """Not to take the files, which a daemon may be using."""
    theirs.config_path.chmod(0o644)
    command = [str(DAEMON), "--config", str(theirs.config_path), "--check"]
    if subprocess.run([str(DAEMON), "--version"], capture_output=True, user="daemon", check=False).returncode != 0:
        pytest.skip("another user cannot run the programs from here")
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, env=theirs.environment(), user="daemon",
                          check=False)
    assert done.returncode == 69, done.stdout
    assert f"daemon cannot work with it; run this as {OWNER}, or as root" in done.stdout
    assert "chown" not in done.stdout


def without_runtime_folder(folder):
    return clean_environment(HOME=str(folder), XDG_RUNTIME_DIR="", RUNTIME_DIRECTORY="", STATE_DIRECTORY="", XDG_STATE_HOME="")


@needs_root
def test_actions_need_no_folder_for_sockets(servers):
    server = of_nobody(servers)
    database, spool = f"--database-url=sqlite:{server.sqlite_path}", f"--spool-path={server.spool_path}"

    def run(*action):
        return subprocess.run([str(DAEMON), "--config", "/dev/null", *action, database, spool], capture_output=True, text=True,
                              timeout=DEADLINE_S, env=without_runtime_folder(server.folder), user=OWNER, check=False)

    for action in ("--migrate", "--drain", "--adopt-spool"):
        done = run(action)
        assert done.returncode == 0, done.stderr
        assert "RUNTIME" not in done.stdout + done.stderr
    checked = run("--check")
    assert checked.returncode == 0, checked.stdout
    assert "warning        to serve, control.path: no default: neither $RUNTIME_DIRECTORY nor $XDG_RUNTIME_DIR" in checked.stdout
    served = run()
    assert served.returncode == 78
    assert "$XDG_RUNTIME_DIR" in served.stderr


@needs_root
def test_doctor_without_a_runtime_folder_takes_the_configuration_as_right(servers):
    server = of_nobody(servers)
    server.config_path.write_text(f'[database]\nurl = "sqlite:{server.sqlite_path}"\n[spool]\npath = "{server.spool_path}"\n'
                                  f'min_free = "1MiB"\n')
    done = subprocess.run([str(TOOL), "doctor", "--json", "--config", str(server.config_path)], capture_output=True, text=True,
                          timeout=DEADLINE_S, env=without_runtime_folder(server.folder), user=OWNER, check=False)
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert [finding["ok"] for finding in findings if finding["check"] == "configuration"] == [True], done.stdout + done.stderr


def test_a_spool_that_cannot_be_made_is_no_fine_one(servers):
    server = servers()
    server.config["spool"]["path"] = "/proc/x"
    server.write_config()
    done = server.run("--check")
    assert done.returncode == 69, done.stdout
    assert "spool          /proc/x cannot be made: /proc: " in done.stdout
    status, findings = doctor(server)
    assert (status, findings["spool"]["ok"]) == (1, False)
