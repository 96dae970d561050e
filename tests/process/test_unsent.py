"""Events that exec could not send: kept in a file of the user's, sent by the next exec or emit that reaches the daemon, in their
order, once."""

import fcntl
import json
import os
import pwd
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from harness import DEADLINE_S, TOOL, clean_environment, temporary_folder, wait_until
from test_cli_emit import ScriptedServer, acked, refused

SH = ("sh", "-c")


class User:
    """Whoever runs exec and emit, with a folder of its own for what is not sent."""

    def __init__(self, socket_path, state=None):
        self.state = Path(state or temporary_folder())
        self.socket_path = str(socket_path)
        self.folder = self.state / "run-recorder" / "unsent"
        self.file = self.folder / (self.socket_path.replace("/", "+") + ".ndjson")

    def environment(self):
        return clean_environment(XDG_STATE_HOME=str(self.state))

    def run(self, command, *arguments, **options):
        return subprocess.run([str(TOOL), command, "--socket", self.socket_path, *arguments], capture_output=True, text=True,
                              timeout=DEADLINE_S, check=False, env=self.environment(), **options)

    def exec(self, run_id, script):
        return self.run("exec", "--run-id", run_id, *SH, script)

    def leave(self, unique, *lines, end="\n"):
        """As a client in another language does at its end."""
        self.folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        left = self.file.with_name(f"{self.file.name.removesuffix('.ndjson')}@{unique}.ndjson")
        left.write_text("\n".join(lines) + end)
        left.chmod(0o600)
        return left

    def lines(self):
        return [json.loads(line) for line in self.file.read_text().splitlines()]


@pytest.fixture
def server(servers):
    return servers()


@pytest.fixture
def user(server):
    return User(server.socket_path)


def statuses(server):
    server.wait_applied()
    return {run["run_id"]: run["status"] for run in server.control.ok("GET", "/v1/runs")["runs"]}


# ---- kept


def test_what_was_not_sent_is_kept_for_this_user_alone_and_named(user):
    done = user.exec("r1", "exit 3")
    assert done.returncode == 3
    assert f"they are kept in {user.file}; the next exec or emit that reaches the daemon sends them\n" in done.stderr
    assert [(line["type"], line["run_id"]) for line in user.lines()] == [("run_started", "r1"), ("run_failed", "r1")]
    assert user.file.read_text() == "".join(line + "\n" for line in done.stderr.splitlines() if line.startswith("{"))
    assert stat.S_IMODE(user.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(user.folder.stat().st_mode) == 0o700
    user.exec("r2", "exit 0")
    assert [line["run_id"] for line in user.lines()] == ["r1", "r1", "r2", "r2"]


def test_each_socket_has_a_file_of_its_own(server, user):
    other = User(temporary_folder() / "other.sock", user.state)
    other.exec("elsewhere", "exit 0")
    server.start()
    assert user.exec("here", "exit 0").returncode == 0
    assert statuses(server) == {"here": "completed"}
    assert len(other.lines()) == 2


def test_where_nothing_can_be_kept_it_is_said_and_printed_all_the_same(user):
    user.folder.parent.mkdir()
    user.folder.write_text("no folder")
    done = user.exec("r1", "exit 0")
    assert done.returncode == 0
    assert len([line for line in done.stderr.splitlines() if line.startswith("{")]) == 2
    assert "they are kept in no file: " in done.stderr


def test_a_folder_that_others_may_write_to_is_not_used(user):
    user.folder.mkdir(parents=True)
    user.folder.chmod(0o777)
    assert "can be written by others" in user.exec("r1", "exit 0").stderr
    assert not user.file.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
def test_without_a_home_in_the_environment_it_is_the_users_own(user):
    nobody = pwd.getpwnam("nobody")
    environment = {key: value for key, value in user.environment().items() if key not in ("HOME", "XDG_STATE_HOME")}
    done = subprocess.run([str(TOOL), "exec", "--socket", user.socket_path, "true"], capture_output=True, text=True,
                          timeout=DEADLINE_S, check=False, env=environment, user="nobody", group=nobody.pw_gid, extra_groups=[])
    assert done.returncode == 0
    assert "they are kept in no file: " in done.stderr
    assert nobody.pw_dir in done.stderr


def test_it_does_not_grow_for_ever(user):
    user.folder.mkdir(parents=True, mode=0o700)
    with open(user.folder / "another.ndjson", "wb") as large:
        large.truncate((16 << 20) - 100)
    assert "they are kept in no file: 16 MiB of events are kept there already" in user.exec("r1", "exit 0").stderr
    assert not user.file.exists()


# ---- sent


@pytest.mark.parametrize("sender", ("exec", "emit", "emit from standard input"))
def test_the_next_that_reaches_the_daemon_sends_them_in_their_order(server, user, sender):
    user.exec("r1", "exit 3")
    user.exec("r2", "exit 0")
    kept = [line["id"] for line in user.lines()]
    server.start()
    if sender == "exec":
        done = user.exec("r3", "exit 0")
    elif sender == "emit":
        done = user.run("emit", "--type", "run_completed", "--run-id", "r3")
    else:
        done = user.run("emit", input='{"type":"run_completed","run_id":"r3"}\n')
    assert (done.returncode, done.stderr) == (0, "")
    assert not user.file.exists()
    assert statuses(server) == {"r1": "failed", "r2": "completed", "r3": "completed"}
    server.stop()
    records = server.tool("spool", "records", "--json", "--spool-path", server.spool_path).stdout.splitlines()
    assert [json.loads(record)["event"]["id"] for record in records][:4] == kept


def test_by_hand_it_works_too_and_twice_is_once(server, user):
    user.exec("r1", "exit 0")
    server.start()
    nowhere = User(server.socket_path)  # without anything kept
    with open(user.file, encoding="utf-8") as lines:
        assert nowhere.run("emit", stdin=lines).returncode == 0
    assert user.exec("r2", "exit 0").returncode == 0
    status = server.wait_applied()
    assert (status["applied"], status["duplicate"]) == (4, 2)
    assert not user.file.exists()
    server.stop()
    user.exec("r3", "exit 0")
    server.start()
    with open(user.file, encoding="utf-8") as lines:
        assert user.run("emit", stdin=lines).returncode == 0
    assert not user.file.exists(), "what is in it is acknowledged"
    assert statuses(server) == {"r1": "completed", "r2": "completed", "r3": "completed"}


def test_the_end_of_a_run_whose_daemon_died_arrives_with_the_next(server, user):
    server.start().wait_tables()
    with subprocess.Popen([str(TOOL), "exec", "--socket", user.socket_path, "--run-id", "r1", *SH, "read line; exit 4"],
                          stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=user.environment()) as process:
        wait_until(lambda: server.control.get("/v1/runs/r1").status == 200, "the run to be there")
        server.kill()
        _, stderr = process.communicate("\n", timeout=DEADLINE_S)
    assert process.returncode == 4
    assert str(user.file) in stderr
    assert [line["type"] for line in user.lines()] == ["run_failed"]
    server.start()
    assert user.exec("r2", "exit 0").returncode == 0
    assert statuses(server) == {"r1": "failed", "r2": "completed"}


def test_what_is_not_acknowledged_stays(user):
    """Three of four are acknowledged, and nothing after them."""
    user.exec("r1", "exit 0")
    user.exec("r2", "exit 0")
    ids = [line["id"] for line in user.lines()]
    server = ScriptedServer(lambda connection, line, _: acked(line) if line <= 3 else b"", user.socket_path)
    try:
        with subprocess.Popen([str(TOOL), "exec", "--socket", user.socket_path, "--run-id", "r3", *SH, "read line"],
                              stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=user.environment()) as process:
            wait_until(lambda: len(server.lines) >= 5, "the start of the run to be sent behind them")
            process.communicate("\n", timeout=DEADLINE_S)
    finally:
        server.close()
    assert process.returncode == 0
    left = user.lines()
    assert left[0]["id"] == ids[3]
    assert [line["run_id"] for line in left] == ["r2", "r3", "r3"]


def test_what_the_daemon_refuses_is_set_aside(server, user):
    user.exec("r1", "exit 0")
    with open(user.file, "a", encoding="utf-8") as file:
        file.write('{"type":"run_stuck","run_id":"r1"}\n{"type":"half')
    user.exec("r2", "exit 0")
    server.start()
    done = user.exec("r3", "exit 0")
    assert done.returncode == 0
    aside = user.file.with_suffix("").with_suffix(".sock.refused.ndjson")
    assert done.stderr.count("the daemon refused an event that was kept from earlier: ") == 2
    assert str(aside) in done.stderr
    assert aside.read_text().splitlines() == ['{"type":"run_stuck","run_id":"r1"}', '{"type":"half']
    assert not user.file.exists()
    assert statuses(server) == {"r1": "completed", "r2": "completed", "r3": "completed"}


def test_a_full_spool_sets_nothing_aside(user):
    user.exec("r1", "exit 0")
    before = user.file.read_text()
    server = ScriptedServer(lambda connection, line, _: refused(line, b"spool_full"), user.socket_path)
    try:
        done = user.run("emit", "--wait", "0s", "--type", "x", "--run-id", "r2")
    finally:
        server.close()
    assert done.returncode == 1
    assert user.file.read_text() == before


def test_while_one_sends_others_do_without(server, user):
    user.exec("r1", "exit 0")
    server.start()
    folder = os.open(user.folder, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        assert user.exec("r2", "exit 0").returncode == 0
        assert statuses(server) == {"r2": "completed"}
        assert len(user.lines()) == 2
    finally:
        os.close(folder)
    assert user.exec("r3", "exit 0").returncode == 0
    assert statuses(server) == {"r1": "completed", "r2": "completed", "r3": "completed"}


@pytest.mark.parametrize("sender", ("exec", "emit"))
def test_what_a_broken_configuration_kept_goes_to_the_daemon_of_the_repaired_one(server, user, sender):
    def run(*command, **variables):
        return subprocess.run([str(TOOL), *command], capture_output=True, text=True, timeout=DEADLINE_S, check=False,
                              env={**user.environment(), "RUN_RECORDER_CONFIG": str(server.config_path), **variables})
    server.write_config()
    right = server.config_path.read_text()
    server.config_path.write_text("[socket\n" + right)
    done = run("exec", "--run-id", "r1", *SH, "exit 3")
    assert done.returncode == 3
    kept = user.folder / ("config" + str(server.config_path).replace("/", "+") + ".ndjson")
    assert f"they are kept in {kept}; " in done.stderr
    other = run("exec", "--run-id", "other", "true", RUN_RECORDER_SOCKET_PATH=user.socket_path + ".other")
    assert f"kept in {user.file}".replace(".sock.ndjson", ".sock.other.ndjson") in other.stderr, "the environment says the socket"
    server.config_path.write_text(right)
    server.start()
    wrong_place = run("emit", "--type", "x", "--run-id", "r2", RUN_RECORDER_SOCKET_PATH=user.socket_path)
    assert wrong_place.returncode == 0
    assert kept.exists(), "whom the environment sends to one daemon has not asked the configuration"
    command = ("exec", "--run-id", "r3", "true") if sender == "exec" else ("emit", "--type", "run_completed", "--run-id", "r3")
    done = run(*command)
    assert (done.returncode, done.stderr) == (0, "")
    assert not kept.exists()
    assert statuses(server) == {"r1": "failed", "r2": "running", "r3": "completed"}


def event(run_id, kind="run_completed"):
    return json.dumps({"type": kind, "run_id": run_id, "id": f"{run_id}-{kind}"})


@pytest.mark.parametrize("sender", ("exec", "emit"))
def test_what_clients_left_is_sent_behind_ones_own_by_name_and_removed(server, user, sender):
    user.exec("r1", "exit 0")
    user.leave("2-b", event("c2", "run_started"), event("c2"), end="")
    first = user.leave("1-a", event("c1", "run_started"), "", event("c1"))
    other = User(user.socket_path + "2", user.state).leave("1-a", event("other"))
    unfinished = first.with_suffix(".new")
    unfinished.write_text(event("half"))
    strange = first.with_name(first.name.replace("1-a", "A.b"))
    strange.write_text(event("strange") + "\n")
    server.start()
    if sender == "exec":
        done = user.exec("r2", "exit 0")
    else:
        done = user.run("emit", "--type", "run_completed", "--run-id", "r2")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(user.folder.iterdir()) == sorted([other, unfinished, strange])
    assert statuses(server) == dict.fromkeys(("r1", "r2", "c1", "c2"), "completed")
    server.stop()
    records = server.tool("spool", "records", "--json", "--spool-path", server.spool_path).stdout.splitlines()
    assert [json.loads(record)["event"]["run_id"] for record in records][:6] == ["r1", "r1", "c1", "c1", "c2", "c2"]


def test_of_what_a_client_left_the_refused_is_set_aside_and_the_unsettled_stays(user):
    left = user.leave("1", event("c1", "run_started"), '{"type":"run_stuck"}', event("c1"), event("c2"))
    server = ScriptedServer(lambda connection, line, _: (acked(line) if line != 2 else refused(line, b"invalid")) if line <= 3 else b"",
                            user.socket_path)
    try:
        with subprocess.Popen([str(TOOL), "exec", "--socket", user.socket_path, "--run-id", "r1", *SH, "read line"],
                              stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=user.environment()) as process:
            wait_until(lambda: len(server.lines) >= 5, "the start of the run to be sent behind them")
            process.communicate("\n", timeout=DEADLINE_S)
    finally:
        server.close()
    assert left.read_text() == event("c2") + "\n"
    assert stat.S_IMODE(left.stat().st_mode) == 0o600
    aside = user.file.with_name(user.file.name.replace(".ndjson", ".refused.ndjson"))
    assert aside.read_text() == '{"type":"run_stuck"}\n'
    assert [line["run_id"] for line in user.lines()] == ["r1", "r1"]


def test_a_client_that_removes_its_file_meanwhile_disturbs_nobody(server, user):
    left = user.leave("1", event("c1"))
    server.start()
    with subprocess.Popen([str(TOOL), "emit", "--socket", user.socket_path], stdin=subprocess.PIPE, text=True,
                          stderr=subprocess.PIPE, env=user.environment()) as process:
        process.stdin.write(event("r1") + "\n")
        process.stdin.flush()
        wait_until(lambda: statuses(server) == {"c1": "completed", "r1": "completed"}, "both to be sent")
        left.unlink(missing_ok=True)
        _, stderr = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, stderr) == (0, "")
    assert list(user.folder.iterdir()) == []


def test_many_at_once_lose_and_double_nothing(server, user):
    def start(number):
        return subprocess.Popen([str(TOOL), "exec", "--socket", user.socket_path, "--run-id", f"r{number}", "true"],
                                stderr=subprocess.DEVNULL, env=user.environment())
    for process in [start(number) for number in range(12)]:
        assert process.wait(DEADLINE_S) == 0
    assert len(user.lines()) == 24
    server.start()
    for process in [start(number) for number in range(12, 24)]:
        assert process.wait(DEADLINE_S) == 0
    assert user.exec("last", "exit 0").returncode == 0
    assert not user.file.exists()
    assert set(statuses(server).values()) == {"completed"}
    assert len(statuses(server)) == 25
    assert server.status()["conflicts"] == 0


def test_a_killed_sender_leaves_everything_in_the_file(user):
    user.exec("r1", "exit 0")
    before = user.file.read_text()
    got = []
    server = ScriptedServer(lambda connection, line, text: got.append(text) or b"", user.socket_path)
    try:
        with subprocess.Popen([str(TOOL), "exec", "--socket", user.socket_path, "sleep", "1000"], env=user.environment(),
                              start_new_session=True) as process:
            wait_until(lambda: len(got) == 3, "all lines to be sent")
            os.killpg(process.pid, signal.SIGKILL)
    finally:
        server.close()
    assert user.file.read_text() == before
