"""run-recorder exec --log-dir and logs: what a run writes passes through as before, is kept in a file of its own, bounded, and is found
again by the run."""

import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from harness import ASKED_TO_STOP, DEADLINE_S, TOOL, Terminal, clean_environment, temporary_folder, wait_until

SH = ("sh", "-c")


@pytest.fixture
def server(servers):
    return servers({"reconcile": {"grace": "1ms", "interval": "0s"}}).start().wait_boot_pass()


@pytest.fixture
def logs():
    """The folder of the logs, not there yet."""
    return temporary_folder() / "logs"


@pytest.fixture
def spawn(server, logs, at_end):
    def make(*arguments, through=(), **options):
        process = subprocess.Popen([*through, str(TOOL), "exec", "--socket", str(server.socket_path), "--log-dir", str(logs),
                                    *arguments], env=clean_environment(), text=True, **options)
        at_end(process.wait)
        at_end(process.kill)
        return process
    return make


def record(server, logs, run_id, script, *flags, **options):
    return server.tool("exec", "--run-id", run_id, "--log-dir", logs, *flags, "--", *SH, script, **options)


def shown(server, *arguments, status=0):
    done = server.tool("logs", *arguments)
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


# ---- written


def test_both_streams_pass_through_and_are_kept_and_found_by_the_run(server, logs):
    done = record(server, logs, "run-1", "echo out; echo err >&2; printf 'no end'; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\nno end", "err\n")
    log = logs / "run-1.log"
    assert log.read_text() == "out\nerr\nno end"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (logs, log)] == [0o700, 0o600]
    events = server.control.ok("GET", "/v1/runs/run-1/events")["events"]
    assert events[0]["payload"]["log"] == str(log)
    assert server.control.run("run-1")["error"]["errors"][0]["stderr_tail"] == ["err"]
    for words in (("run-1",), ("run",), ("run-1", "--follow"), ("run", "--log-dir", logs)):
        assert shown(server, *words) == "out\nerr\nno end", words


def test_in_a_folder_it_is_found_without_a_daemon(logs):
    def tool(*arguments):
        return subprocess.run([str(TOOL), *map(str, arguments)], capture_output=True, text=True, timeout=DEADLINE_S, check=False,
                              env=clean_environment(RUN_RECORDER_SOCKET_PATH="/nonexistent", RUN_RECORDER_CONTROL_PATH="/nonexistent2"))
    for run_id in ("ab-1", "ab-2"):
        assert tool("exec", "--run-id", run_id, "--log-dir", logs, "echo", run_id).stdout == f"{run_id}\n"
    assert tool("logs", "--log-dir", logs, "ab-2").stdout == "ab-2\n"
    several = tool("logs", "--log-dir", logs, "ab")
    assert (several.returncode, several.stdout) == (1, "")
    assert f"the logs of 2 runs in {logs} begin with ab: ab-1, ab-2\n" in several.stderr
    none = tool("logs", "--log-dir", logs, "b")
    assert (none.returncode, none.stderr) == (1, f"run-recorder: no log of a run b is in {logs}\n")
    assert tool("logs", "ab-2").returncode == 69


def test_a_relative_folder_is_below_the_one_in_which_exec_began(server):
    folder = temporary_folder()
    subprocess.run([str(TOOL), "exec", "--socket", str(server.socket_path), "--run-id", "r1", "--log-dir", "a/../b", *SH, "cd /; echo x"],
                   check=True, timeout=DEADLINE_S, env=clean_environment(), cwd=folder, stdout=subprocess.DEVNULL)
    assert (folder / "b" / "r1.log").read_text() == "x\n"
    assert shown(server, "r1") == "x\n"


def test_whatever_a_run_is_called_its_log_is_a_file_of_the_folder(server, logs):
    ids = ["../outside", "..", ".", "/etc/passwd", "a b/ü", "x@2", "n" * 255, "ü" * 127]
    for run_id in ids:
        assert record(server, logs, run_id, f"echo {len(run_id)}").returncode == 0
    files = sorted(path.name for path in logs.iterdir())
    assert len(files) == len(ids)
    assert all(name.endswith(".log") and not name.startswith(".") for name in files)
    assert [path.name for path in logs.parent.iterdir()] == ["logs"]
    for run_id in ids:
        assert shown(server, run_id) == f"{len(run_id)}\n", run_id
        assert shown(server, run_id, "--log-dir", logs) == f"{len(run_id)}\n", run_id


def test_a_run_that_comes_again_has_a_log_of_its_own(server, logs):
    for number in (1, 2, 3):
        record(server, logs, "again", f"echo {number}")
    assert sorted(path.name for path in logs.iterdir()) == ["again.log", "again@2.log", "again@3.log"]
    assert shown(server, "again", "--log-dir", logs) == "3\n"


def test_each_attempt_has_a_log_of_its_own(server, logs):
    marker = temporary_folder() / "marker"
    done = record(server, logs, "r1", f"test -e {marker} && echo second && exit 0; touch {marker}; echo first; exit 1",
                  "--retries", "1", "--retry-delay", "0s")
    assert (done.returncode, done.stdout) == (0, "first\nsecond\n")
    chain = server.control.ok("GET", "/v1/runs/r1/chain")["runs"]
    assert [shown(server, run["run_id"]) for run in chain] == ["first\n", "second\n"]


def test_lines_of_one_stream_are_not_torn_by_the_other(server, logs):
    program = ("import os, threading\n"
               "def write(fd, letter):\n"
               " for n in range(3000): os.write(fd, (letter * (n % 97 + 1) + '\\n').encode() * 3)\n"
               "both = [threading.Thread(target=write, args=one) for one in ((1, 'o'), (2, 'e'))]\n"
               "for one in both: one.start()\n"
               "for one in both: one.join()\n")
    done = server.tool("exec", "--run-id", "r1", "--log-dir", logs, "--", sys.executable, "-c", program)
    lines = (logs / "r1.log").read_text().splitlines()
    assert [line for line in lines if line.startswith("o")] == done.stdout.splitlines()
    assert [line for line in lines if line.startswith("e")] == done.stderr.splitlines()
    assert len(lines) == 18_000
    assert all(len(set(line)) == 1 for line in lines)


def test_bytes_are_kept_as_they_are(server, logs):
    every = bytes(range(256)) * 40
    done = subprocess.run([str(TOOL), "exec", "--socket", str(server.socket_path), "--run-id", "r1", "--log-dir", str(logs), "cat"],
                          input=every, capture_output=True, env=clean_environment(), timeout=DEADLINE_S, check=True)
    assert done.stdout == every
    assert (logs / "r1.log").read_bytes() == every
    assert subprocess.run([str(TOOL), "--control", str(server.control_path), "logs", "r1"], capture_output=True, timeout=DEADLINE_S,
                          env=clean_environment(), check=True).stdout == every


def test_the_beginning_and_the_end_of_much_are_kept(server, logs):
    done = record(server, logs, "r1", "seq -f 'line %.0f' 20000", "--log-bytes", "16KiB")
    assert done.stdout.count("\n") == 20_000
    assert (logs / "r1.log").stat().st_size <= 16 << 10
    lines = (logs / "r1.log").read_text().splitlines()
    own = [at for at, line in enumerate(lines) if line.startswith("run-recorder: ")]
    full, left_out = own
    assert lines[full] == "run-recorder: the log is full; its end follows when the command has ended"
    assert lines[:full] == [f"line {number}" for number in range(1, full + 1)]
    after = lines[left_out + 1:]
    assert after == [f"line {number}" for number in range(20_001 - len(after), 20_001)]
    assert min(full, len(after)) > 200
    number = int(re.fullmatch("run-recorder: ([0-9,]+) bytes left out here", lines[left_out])[1].replace(",", ""))
    missing = sum(len(f"line {n}\n") for n in range(full + 1, 20_001 - len(after)))
    assert number == missing


def test_what_fits_just_so_is_kept_whole(server, logs):
    done = record(server, logs, "r1", "head -c 15000 /dev/zero | tr '\\0' x", "--log-bytes", "16KiB")
    assert (logs / "r1.log").read_text() == done.stdout


def test_sizes_and_folders_that_are_none_are_usage_mistakes(logs):
    for flags, said in ((("--log-bytes", "16"), '--log-bytes: invalid value "16": must be a size between 4KiB and 1TiB such as 64MiB'),
                        (("--log-bytes", "1KiB"), "must be a size between"), (("--log-dir", ""), '--log-dir: invalid value "": ')):
        done = subprocess.run([str(TOOL), "exec", "--log-dir" if flags[0] != "--log-dir" else "--tail",
                               str(logs) if flags[0] != "--log-dir" else "1", *flags, "--", "echo", "ran"], capture_output=True,
                              text=True, timeout=DEADLINE_S, check=False, env=clean_environment())
        assert (done.returncode, done.stdout) == (2, ""), flags
        assert said in done.stderr
    assert not logs.exists()


# ---- the command is not harmed


def test_a_folder_that_cannot_be_had_is_said_once_and_the_command_runs(server):
    folder = temporary_folder() / "file"
    folder.write_text("no folder")
    done = record(server, folder, "r1", "echo out; echo err >&2; exit 3", "--retries", "2", "--retry-delay", "0s")
    assert (done.returncode, done.stdout) == (3, "out\n" * 3)
    assert done.stderr.count("what the command writes is not logged: ") == 1
    assert done.stderr.count("err\n") == 3
    assert "run r1 has no log" in shown(server, "r1", status=1)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to mount a small disk")
def test_a_full_disk_is_said_once_and_the_command_runs(server, logs):
    logs.mkdir()
    done = subprocess.run(["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=64k none {logs} && "$@"', "sh", str(TOOL), "exec",
                           "--socket", str(server.socket_path), "--run-id", "r1", "--log-dir", str(logs), *SH,
                           "seq 100000; echo err >&2"], capture_output=True, text=True, timeout=DEADLINE_S, check=False,
                          env=clean_environment())
    assert done.returncode == 0
    assert done.stdout == "".join(f"{number}\n" for number in range(1, 100_001))
    assert done.stderr.count("what the command writes is not logged any more: ") == 1
    assert "No space left on device" in done.stderr
    assert server.control.run("r1")["status"] == "completed"


def test_a_limit_of_files_is_none_of_the_command(server, logs):
    done = subprocess.run(["bash", "-c", 'ulimit -f 8; exec "$@"', "bash", str(TOOL), "exec", "--socket", str(server.socket_path),
                           "--run-id", "r1", "--log-dir", str(logs), "seq", "100000"], capture_output=True, text=True,
                          timeout=DEADLINE_S, check=False, env=clean_environment())
    assert (done.returncode, done.stdout.count("\n")) == (0, 100_000)
    assert done.stderr.count("File too large") == 1
    assert (logs / "r1.log").stat().st_size == 8 * 1024
    assert server.control.run("r1")["status"] == "completed"


def test_output_that_is_lost_is_a_failure(server, logs):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([str(TOOL), "exec", "--socket", str(server.socket_path), "--run-id", "r1", "--log-dir", str(logs), "--",
                               *SH, "echo out"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S, check=False,
                              env=clean_environment())
    assert (done.returncode, done.stderr) == (1, "run-recorder: sh could not write its standard output: No space left on device\n")
    run = server.control.run("r1")
    assert (run["status"], run["error"]["errors"][0]["kind"]) == ("failed", "output")
    assert (logs / "r1.log").read_text() == "out\n"


def test_a_reader_that_goes_ends_the_command_as_without_a_log(server, spawn):
    process = spawn("--run-id", "r1", "yes", stdout=subprocess.PIPE)
    assert process.stdout.readline() == "y\n"
    process.stdout.close()
    assert process.wait(DEADLINE_S) == -signal.SIGPIPE


def test_a_slow_reader_holds_the_command_back_and_no_signal(server, spawn):
    reading, writing = os.pipe()
    marker = temporary_folder() / "marker"
    process = spawn("--run-id", "r1", "--", *SH, f"head -c 4000000 /dev/zero; touch {marker}; sleep 1000", stdout=writing)
    os.close(writing)
    capacity = fcntl.fcntl(reading, fcntl.F_GETPIPE_SZ)

    def waiting():
        return int.from_bytes(fcntl.ioctl(reading, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)
    wait_until(lambda: waiting() >= capacity, "the pipe to fill")
    assert not marker.exists()
    process.terminate()
    assert process.wait(DEADLINE_S) == -signal.SIGTERM
    assert not marker.exists()
    with open(reading, "rb") as stream:
        passed = stream.read()
    assert set(passed) == {0}
    assert server.control.run("r1")["status"] == "cancelled"


def test_what_the_command_leaves_behind_keeps_nobody_waiting_and_may_write(server, spawn, at_end, logs):
    reading, writing = os.pipe()
    at_end(os.close, reading)
    process = spawn("--run-id", "r1", "--", *SH, f"(read line </dev/fd/{reading}; echo late; echo later >&2) & echo now",
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(reading,))
    assert process.wait(DEADLINE_S) == 0
    assert server.control.run("r1")["status"] == "completed"
    os.write(writing, b"\n")
    os.close(writing)
    assert (process.stdout.read(), process.stderr.read()) == ("now\nlate\n", "later\n")
    assert (logs / "r1.log").read_text() == "now\n", "of the run"


def test_pipes_end_where_the_command_closes_them(spawn):
    process = spawn("--", *SH, "echo x; exec >&-; read line", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.read() == "x\n"
    assert process.poll() is None
    process.communicate("\n", timeout=DEADLINE_S)


def test_what_the_command_writes_survives_a_kill_of_exec(server, spawn):
    process = spawn("--run-id", "r1", "--", *SH, "echo ready; read line; echo late >&2; echo survived", stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    wait_for_run(server, "r1")
    process.kill()
    process.wait(DEADLINE_S)
    assert shown(server, "r1", "--follow") == "ready\n", "which ends"
    assert process.communicate("\n", timeout=DEADLINE_S) == ("survived\n", "late\n")


def test_a_signal_to_the_process_group_reaches_the_command_once(spawn):
    process = spawn("--", sys.executable, "-c", ASKED_TO_STOP, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGTERM)
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGPWR)
    assert process.stdout.read() == ""


@pytest.mark.parametrize("closing", ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"))
def test_closed_streams_are_read_all_the_same(spawn, logs, closing):
    process = spawn("--run-id", "r1", "--tail", "0", "--", *SH, "echo out; echo err >&2; exit 3",
                    through=(*SH, f'exec "$@" {closing}', "sh"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert process.wait(DEADLINE_S) == 3
    assert (logs / "r1.log").read_text() == "out\nerr\n"


def test_a_command_that_cannot_be_run_has_an_empty_log(server, logs):
    assert server.tool("exec", "--run-id", "r1", "--log-dir", logs, "--", logs / "no-such-command").returncode == 127
    assert shown(server, "r1") == ""


# ---- followed


def wait_for_run(server, run_id):
    wait_until(lambda: server.control.get(f"/v1/runs/{run_id}").status == 200, f"run {run_id} to be there")


def follow(server, at_end, *arguments, **options):
    process = subprocess.Popen([str(TOOL), "--control", str(server.control_path), "logs", *map(str, arguments)], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment(), **options)
    at_end(process.wait)
    at_end(process.kill)
    return process


@pytest.mark.parametrize("by_folder", (False, True))
def test_it_is_followed_until_the_run_ends(server, spawn, logs, at_end, by_folder):
    process = spawn("--run-id", "r1", "--", *SH, "echo first; read line; echo second; printf 'what? '; read line; echo $line",
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "first\n"
    wait_for_run(server, "r1")
    follower = follow(server, at_end, "r1", "-f", *(("--log-dir", logs) if by_folder else ()))
    assert follower.stdout.readline() == "first\n"
    process.stdin.write("\n")
    process.stdin.flush()
    assert follower.stdout.read(len("second\nwhat? ")) == "second\nwhat? ", "also what has no end yet"
    assert follower.poll() is None
    process.communicate("that\n", timeout=DEADLINE_S)
    assert (follower.stdout.read(), follower.stderr.read()) == ("that\n", "")
    assert follower.wait(DEADLINE_S) == 0


def test_who_follows_ends_with_the_reader_and_says_nothing(server, spawn, at_end):
    process = spawn("--run-id", "r1", "--", *SH, "echo first; read line", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "first\n"
    wait_for_run(server, "r1")
    follower = follow(server, at_end, "r1", "--follow")
    assert follower.stdout.readline() == "first\n"
    follower.stdout.close()
    assert follower.wait(DEADLINE_S) == -signal.SIGPIPE
    assert follower.stderr.read() == ""


def test_a_log_that_was_full_is_followed_to_its_end(server, spawn, at_end):
    process = spawn("--run-id", "r1", "--log-bytes", "4KiB", "--", *SH, "seq 5000; read line; echo last", stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE)
    assert process.stdout.readline() == "1\n"
    wait_for_run(server, "r1")
    follower = follow(server, at_end, "r1", "--follow")
    assert follower.stdout.readline() == "1\n"
    process.stdin.write("\n")
    process.stdin.flush()
    process.communicate(timeout=DEADLINE_S)
    lines = follower.stdout.read().splitlines()
    assert (lines[0], lines[-1]) == ("2", "last")
    assert len([line for line in lines if line.startswith("run-recorder: ")]) == 2


# ---- not found


def test_a_run_without_a_log_and_no_run_are_said(server):
    server.tool("exec", "--run-id", "r1", "true")
    assert shown(server, "r1", status=1) == "run-recorder: run r1 has no log; exec writes one with --log-dir\n"
    assert shown(server, "r2", status=1) == "run-recorder: there is no run r2\n"


def test_a_log_that_is_not_here_says_where_it_is(server, logs):
    server.send({"type": "run_started", "run_id": "there", "host": "web7", "log": "/var/log/jobs/there.log"},
                {"type": "run_started", "run_id": "strange", "log": {"of": "another sender"}},
                {"type": "run_started", "run_id": "endless", "log": "/dev/zero"})
    server.wait_applied()
    assert shown(server, "there", status=1) == "run-recorder: the log of run there is on host web7: /var/log/jobs/there.log\n"
    assert "run strange has no log" in shown(server, "strange", status=1)
    assert "/dev/zero is no file" in shown(server, "endless", status=1)
    record(server, logs, "gone", "echo x")
    (logs / "gone.log").unlink()
    assert f"open {logs}/gone.log: No such file or directory; it was removed" in shown(server, "gone", status=1)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
def test_a_log_of_another_user_is_said(server, logs):
    record(server, logs, "r1", "echo x")
    os.chmod(server.control_path, 0o666)
    for folder in (Path(server.control_path).parent, logs.parent):
        os.chmod(folder, 0o755)
    done = subprocess.run([str(TOOL), "--control", str(server.control_path), "logs", "r1"], capture_output=True, text=True, check=False,
                          timeout=DEADLINE_S, env=clean_environment(), user="nobody", extra_groups=[])
    if "r1.log" not in done.stderr:
        pytest.skip(f"nobody may not ask the daemon: {done.stderr}")
    assert (done.returncode, done.stderr) == (1, f"run-recorder: open {logs}/r1.log: Permission denied; it is user root's\n")


def test_on_a_terminal_a_log_commands_nothing(server, logs, at_end):
    record(server, logs, "r1", r"printf '\033[31mred\tü\r\n'; printf '\303'; sleep 0.01; printf '\274 end\n'")
    terminal = Terminal(str(TOOL), "--control", str(server.control_path), "logs", "r1")
    at_end(os.close, terminal.fd)
    terminal.read_until("\\x1b[31mred\tü\r\nü end\r\n".encode())
    assert terminal.wait() == 0


def test_a_timed_out_run_has_its_log(server, logs):
    done = record(server, logs, "r1", "echo begun; sleep 1000", "--timeout", "4s")
    assert (done.returncode, done.stdout) == (124, "begun\n")
    assert shown(server, "r1") == "begun\n"
    assert server.control.run("r1")["error"]["errors"][0]["kind"] == "timeout"


def test_while_it_waits_it_costs_no_processor_time(spawn):
    process = spawn("--run-id", "r1", "--", *SH, "echo ready; exec >&-; read line", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.read() == "ready\n"

    def ticks():
        with open(f"/proc/{process.pid}/stat", encoding="utf-8") as text:
            fields = text.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])
    before, began = ticks(), time.monotonic()
    wait_until(lambda: time.monotonic() - began > 1, "a second to pass")
    assert ticks() - before < 20, "of about 100 ticks a second"
    process.communicate("\n", timeout=DEADLINE_S)
