"""The static tool (`./dev static`) in a root that has nothing else: no library, no /proc, no /etc, no time zones."""

import json
import os
import re
import shutil
import struct
import subprocess

import pytest

from harness import DEADLINE_S, TOOL, clean_environment, temporary_folder

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root, for chroot")

MOST_BYTES = 6 << 20
PT_DYNAMIC, PT_INTERP = 2, 3
TOOL_INSIDE = "/run-recorder"


@pytest.fixture
def root():
    """The tool, and the folder for the sockets at its usual place."""
    folder = temporary_folder()
    shutil.copy(TOOL, folder)
    (folder / "run/run-recorder").mkdir(parents=True)
    return folder


@pytest.fixture
def server(daemons, root):
    return daemons(folder=root / "run/run-recorder", config={"database": {"url": f"sqlite:{temporary_folder() / 'runs.db'}"}})


def run(root, *arguments, input=None, **environment):
    return subprocess.run(["chroot", str(root), TOOL_INSIDE, *arguments], input=input, capture_output=True, text=True,
                          timeout=DEADLINE_S, check=False, env={"PATH": os.environ["PATH"], **environment})


def runs(server):
    server.wait_applied()
    return {one["run_id"]: one for one in server.control.ok("GET", "/v1/runs")["runs"]}


def segment_types(program):
    """Of the ELF's program headers (elf(5), 64 bits, this machine's byte order)."""
    image = program.read_bytes()
    assert image[:5] == b"\x7fELF\x02"
    at, = struct.unpack_from("@Q", image, 32)
    size, count = struct.unpack_from("@HH", image, 54)
    return [struct.unpack_from("@I", image, at + size * i)[0] for i in range(count)]


def test_it_is_one_small_file_that_loads_no_other():
    assert not {PT_DYNAMIC, PT_INTERP} & set(segment_types(TOOL))
    assert TOOL.stat().st_size < MOST_BYTES


def test_emit_and_exec_record(root, server):
    server.start()
    lines = '{"type":"run_started","run_id":"by-line"}\n{"type":"run_completed","run_id":"by-line"}\n'
    assert run(root, "emit", input=lines).returncode == 0
    assert run(root, "emit", "--type", "run_started", "--run-id", "by-flag", "--name", "Größe 数").returncode == 0
    done = run(root, "exec", "--run-id", "done", TOOL_INSIDE, "version")
    assert (done.returncode, done.stdout, done.stderr) == (0, subprocess.check_output([TOOL, "version"], text=True), "")
    failed = run(root, "exec", "--run-id", "failed", TOOL_INSIDE, "no-such-command")
    assert (failed.returncode, "unknown command no-such-command" in failed.stderr) == (2, True)
    assert run(root, "exec", "--run-id", "absent", "/no/such/program").returncode == 127
    recorded = runs(server)
    assert {run_id: one["status"] for run_id, one in recorded.items()} == {
        "by-line": "completed", "by-flag": "running", "done": "completed", "failed": "failed", "absent": "failed"}
    assert recorded["by-flag"]["council"] == "Größe 数"
    assert "unknown command" in json.dumps(recorded["failed"]["error"])


def test_what_cannot_be_sent_is_printed_kept_and_sent_later(root, server):
    (root / "home").mkdir()
    away = run(root, "exec", "--run-id", "r1", TOOL_INSIDE, "version", HOME="/home")
    assert away.returncode == 0
    assert [json.loads(line)["type"] for line in away.stderr.splitlines() if line.startswith("{")] == ["run_started", "run_completed"]
    kept = "/home/.local/state/run-recorder/unsent/+run+run-recorder+events.sock.ndjson"
    assert f"they are kept in {kept};" in away.stderr
    server.start()
    assert run(root, "exec", "--run-id", "r2", TOOL_INSIDE, "version", HOME="/home").returncode == 0
    assert {run_id: one["status"] for run_id, one in runs(server).items()} == {"r1": "completed", "r2": "completed"}


@pytest.mark.parametrize("users, kept", [
    ("root:x:0:0::/home:/bin/sh\n", "they are kept in /home/.local/state/run-recorder/unsent/"),
    ("somebody:x:7:7::/home:/bin/sh\n", "they are kept in no file: "), (None, "they are kept in no file: ")])
def test_users_are_those_of_the_file(root, users, kept):
    (root / "home").mkdir()
    (root / "etc").mkdir()
    if users:
        (root / "etc/passwd").write_text(users)
    away = run(root, "exec", TOOL_INSIDE, "version")
    assert (away.returncode, kept in away.stderr) == (0, True), away.stderr


def test_it_asks_the_daemon_too(root, server):
    server.start()
    run(root, "exec", "--run-id", "r1", "--name", "nightly", TOOL_INSIDE, "version")
    recorded = runs(server)
    listed = run(root, "list", TZ="Europe/Berlin")  # a zone that is not there is UTC
    assert listed.returncode == 0, listed.stderr
    started = recorded["r1"]["started_at"].replace("T", " ")[:19]
    assert re.search(rf"^r1 +nightly +completed +{started}\+00:00 ", listed.stdout, re.M), (started, listed.stdout)
    assert run(root, "show", "r1").returncode == 0
    assert run(root, "status").returncode == 0


def test_what_needs_other_programs_says_so(root, server):
    server.start()
    done = run(root, "admin", "check")
    assert (done.returncode, done.stdout) == (69, "")
    assert "run-recorderd" in done.stderr


def test_no_library_is_loaded_where_there_are_some(root):
    """On a host whose users come from NSS, and whose libraries and locales may be another glibc's."""
    tool, trace = root / "run-recorder", root / "trace"
    environment = clean_environment()
    for variable in ("HOME", "XDG_STATE_HOME"):
        environment.pop(variable, None)
    done = subprocess.run(["strace", "-f", "-qq", "-u", "nobody", "-o", str(trace), "-e", "trace=open,openat", str(tool), "exec",
                           "--socket", str(root / "events.sock"), str(tool), "list", "--control", str(root / "control.sock")],
                          capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=environment)
    assert done.returncode == 69, done.stderr  # the daemon is away
    opened = re.findall(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]*)"', trace.read_text())
    assert "/etc/passwd" in opened
    assert [path for path in opened if re.search(r"\.so\b|nsswitch|locale|gconv", path)] == []
