"""run-recorder exec: the command passes through untouched, and its run is recorded, the daemon being there or not."""

import contextlib
import ctypes
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time

import pytest

from harness import ASKED_TO_STOP, DEADLINE_S, TOOL, Terminal, clean_environment, temporary_folder, wait_until

SH = ("sh", "-c")
PR_SET_CHILD_SUBREAPER = 36
# Leaves an orphan behind that ends at once, and succeeds when that has been reaped.
LEAVING_AN_ORPHAN = """
import os, sys, time
reading, writing = os.pipe()
if os.fork() == 0:
    orphan = os.fork()
    if orphan == 0:
        os._exit(0)
    os.write(writing, str(orphan).encode())
    os._exit(0)
os.wait()
orphan = int(os.read(reading, 20))
end = time.monotonic() + float(sys.argv[1])
while os.path.exists(f"/proc/{orphan}"):
    if time.monotonic() > end:
        sys.exit(9)
    time.sleep(0.01)
"""


def processes_of_group(group):
    """The name and pid of exec, of the process beside it, and of the command, once all have their own names."""
    def found():
        all_of_it = []
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if entry.isdigit() and os.getpgid(int(entry)) == group:
                    with open(f"/proc/{entry}/comm", encoding="utf-8") as comm:
                        all_of_it.append((comm.read().strip(), int(entry)))
        names = [name for name, _ in all_of_it]
        return all_of_it if len(names) == 3 and "exec-sidecar" in names else None
    return wait_until(found, "three processes in the group")


def full_pipe():
    """A pipe that takes nothing more, and how much is in it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    size = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            size += os.write(writing, b"." * 4096)
    os.set_blocking(writing, True)
    return reading, writing, size


def read_to_end(fd):
    with open(fd, "rb") as stream:
        return stream.read()


# ---- with a daemon


@pytest.fixture
def server(servers):
    return servers({"reconcile": {"grace": "1ms", "interval": "0s"}}).start().wait_boot_pass()


@pytest.fixture
def spawn(server, at_end):
    """spawn(...) starts exec; `through` is a command that becomes it."""
    def make(*arguments, through=(), **options):
        process = subprocess.Popen([*through, str(TOOL), "exec", "--socket", str(server.socket_path), *arguments],
                                   env=clean_environment(), text=True, **options)
        at_end(process.wait)
        at_end(process.kill)
        return process
    return make


def error_of(server, run_id):
    run = server.control.run(run_id)
    assert run["status"] in ("failed", "cancelled")
    assert len(run["error"]["errors"]) == 1
    return run["error"]["errors"][0]


def wait_for_run(server, run_id, status):
    def there():
        answer = server.control.get(f"/v1/runs/{run_id}")
        return answer.status == 200 and answer.json["status"] == status
    wait_until(there, f"run {run_id} to be {status}")


def test_success_is_recorded_and_nothing_is_added_to_the_output(server):
    done = server.tool("exec", "--run-id", "r1", "--", *SH, 'cat; echo "$1" >&2', "sh", "to stderr", input="to stdin\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "to stdin\n", "to stderr\n")
    run = server.control.run("r1")
    assert (run["status"], run["council"], run["attempt"]) == ("completed", "sh", 1)
    assert run["input"] == {"command": "sh"}
    assert run["result"]["exit_status"] == 0
    assert run["result"]["duration_ms"] >= 0


def test_the_started_event_names_the_command_itself_as_the_worker(server, spawn):
    process = spawn("--run-id", "r1", "--", *SH, "echo $$; read line", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pid = process.stdout.readline().strip()
    wait_for_run(server, "r1", "running")
    assert f":{pid}:" in server.control.run("r1")["worker_process"]
    process.communicate("\n", timeout=DEADLINE_S)


def test_the_command_finds_its_run_and_the_socket_in_its_environment(server):
    done = server.tool("exec", "--run-id", "r1", "--", "env")
    assert "RUN_RECORDER_RUN_ID=r1\n" in done.stdout
    assert f"RUN_RECORDER_SOCKET_PATH={server.socket_path}\n" in done.stdout


def test_failure_keeps_the_status_and_the_end_of_standard_error(server):
    process = subprocess.run([str(TOOL), "exec", "--socket", str(server.socket_path), "--run-id", "r1", "--council",
                              "import", "--tail", "2", "--", *SH, r"printf 'one\ntwo\nth\377ree\000\nfour' >&2; exit 3"],
                             capture_output=True, env=clean_environment(), timeout=DEADLINE_S, check=False)
    assert (process.returncode, process.stderr) == (3, b"one\ntwo\nth\xffree\0\nfour")
    run = server.control.run("r1")
    assert (run["status"], run["council"]) == ("failed", "import")
    error = error_of(server, "r1")
    assert (error["kind"], error["exit_status"], error["message"]) == ("exit", 3, "exited with status 3")
    assert error["stderr_tail"] == ["th\ufffdree", "four"]


def test_death_by_signal_is_passed_on_and_named(server):
    done = server.tool("exec", "--run-id", "r1", "--", *SH, "kill -9 $$")
    assert done.returncode == -signal.SIGKILL
    error = error_of(server, "r1")
    assert (error["kind"], error["signal"], error["signal_number"]) == ("signal", "SIGKILL", 9)
    assert server.control.run("r1")["status"] == "failed"


def test_a_command_that_cannot_be_run_is_127_or_126_and_recorded(server):
    folder = temporary_folder()
    (folder / "plain").write_text("x")
    for command, status in ((folder / "nothing", 127), ("no-such-command", 127), (folder / "plain", 126)):
        run_id = f"r-{command}".replace("/", "_")
        done = server.tool("exec", "--run-id", run_id, "--", command)
        assert done.returncode == status, done.stderr
        assert "could not be run" in done.stderr
        assert error_of(server, run_id)["exit_status"] == status


def test_a_folder_of_the_path_that_is_closed_makes_nothing_found(at_end):
    closed = temporary_folder()
    closed.chmod(0)
    at_end(closed.rmdir)
    done = subprocess.run([str(TOOL), "exec", "--socket", "/nonexistent", "--", "no-such-command"], capture_output=True,
                          text=True, timeout=DEADLINE_S, check=False, user="nobody" if os.getuid() == 0 else None,
                          env=clean_environment(PATH=f"/usr/bin:{closed}"))
    assert done.returncode == 127, done.stderr
    assert "No such file" in done.stderr


def test_a_stop_signal_is_passed_on_and_recorded_as_cancelled(server, spawn):
    process = spawn("--run-id", "r1", "--retries", "3", "--", *SH, "echo ready; exec sleep 1000", stdout=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == -signal.SIGTERM
    run = server.control.run("r1")
    assert run["status"] == "cancelled"
    assert error_of(server, "r1")["kind"] == "cancelled"
    assert len(server.control.ok("GET", "/v1/runs")["runs"]) == 1, "a cancelled run is not tried again"


def test_a_command_that_handles_the_signal_and_succeeds_is_completed(server, spawn):
    process = spawn("--run-id", "r1", "--", *SH, "trap 'exit 0' TERM; echo ready; while :; do read x; done",
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(BrokenPipeError):  # a shell whose read is interrupted has ended already
        os.write(process.stdin.fileno(), b"\n")
    assert process.wait(DEADLINE_S) == 0
    assert server.control.run("r1")["status"] == "completed"


def test_other_signals_reach_the_command_too(spawn):
    process = spawn("--", sys.executable, "-c",
                    "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {10, 12, 34}); print('ready', flush=True); "
                    "print(sorted(int(signal.sigwait({10, 12, 34})) for _ in range(3)))", stdout=subprocess.PIPE)
    process.stdout.readline()
    for number in (signal.SIGUSR1, signal.SIGUSR2, 34):
        process.send_signal(number)
    assert process.stdout.readline() == "[10, 12, 34]\n"


def test_ignored_signals_stay_ignored(server):
    done = server.tool("exec", "--", "grep", "SigIgn", "/proc/self/status")
    process = subprocess.run(["nohup", str(TOOL), "exec", "--socket", str(server.socket_path), "--", "grep", "SigIgn",
                              "/proc/self/status"], capture_output=True, text=True, env=clean_environment(), check=False,
                             stdin=subprocess.DEVNULL, timeout=DEADLINE_S)
    plain, ignoring = (int(text.split()[1], 16) for text in (done.stdout, process.stdout))
    assert plain & 1 == 0
    assert ignoring & 1 == 1, "SIGHUP under nohup"


def test_retries_make_a_chain_of_attempts(server):
    marker = temporary_folder() / "marker"
    done = server.tool("exec", "--run-id", "first", "--retries", 3, "--retry-delay", "0s", "--", *SH,
                       f'test -e {marker} && test -e {marker}2 && exit 0; test -e {marker} && touch {marker}2; touch {marker}; '
                       "exit 4")
    assert done.returncode == 0, done.stderr
    chain = server.control.ok("GET", "/v1/runs/first/chain")["runs"]
    assert [(run["attempt"], run["status"]) for run in chain] == [(1, "failed"), (2, "failed"), (3, "completed")]
    assert [run["parent_attempt_run_id"] for run in chain] == [None, "first", chain[1]["run_id"]]


def test_retries_end_with_the_last_status(server):
    done = server.tool("exec", "--retries", 1, "--retry-delay", "0s", "--attempt", 5, "--", *SH, "exit 9")
    assert done.returncode == 9
    runs = server.control.ok("GET", "/v1/runs")["runs"]
    assert sorted(run["attempt"] for run in runs) == [5, 6]


def test_queue_and_job_are_passed_on_to_every_attempt(server):
    done = server.tool("exec", "--queue", "river", "--job-id", "a-7", "--run-id", "r1", "--retries", "1", "--retry-delay", "1ms",
                       "--", "false")
    assert done.returncode == 1
    chain = server.control.ok("GET", "/v1/runs/r1/chain")["runs"]
    assert len(chain) == 2
    for run in chain:
        started = server.control.ok("GET", f"/v1/runs/{run['run_id']}/events")["events"][0]["payload"]
        assert (started["queue"], started["job_id"]) == ("river", "a-7")


def test_arguments_are_stored_only_when_asked(server):
    server.tool("exec", "--run-id", "quiet", "--", "echo", "--password=secret")
    server.tool("exec", "--run-id", "open", "--record-args", "--", "echo", "--verbose")
    server.tool("exec", "--run-id", "own", "--input", '{"n":1.50}', "--", "echo", "--password=secret")
    assert server.control.run("quiet")["input"] == {"command": "echo"}
    assert server.control.run("open")["input"] == {"command": "echo", "args": ["--verbose"]}
    assert '"n":1.50' in server.control.get("/v1/runs/own").text.replace(" ", "")
    assert "secret" not in json.dumps([server.control.run("quiet"), server.control.run("own")], default=str)


def test_an_empty_tail_leaves_standard_error_alone(server):
    with open(os.devnull, "w", encoding="utf-8") as null:
        done = subprocess.run([str(TOOL), "exec", "--socket", str(server.socket_path), "--tail", "0", "--",
                               "readlink", "/proc/self/fd/2"], stdout=subprocess.PIPE, stderr=null, text=True,
                              env=clean_environment(), timeout=DEADLINE_S, check=False)
    assert done.stdout == "/dev/null\n"


def test_much_standard_error_passes_through_in_full(server):
    done = subprocess.run([str(TOOL), "exec", "--socket", str(server.socket_path), "--run-id", "r1", "--",
                           *SH, "yes 'a line' | head -c 5000000 >&2; echo >&2; echo end >&2; exit 1"], capture_output=True,
                          env=clean_environment(), timeout=DEADLINE_S, check=False)
    assert len(done.stderr) == 5_000_005
    assert done.stderr.endswith(b"end\n")
    assert error_of(server, "r1")["stderr_tail"][-1] == "end"


def test_a_reader_of_standard_error_that_stalls_does_not_keep_signals_away(server, spawn):
    reading, writing = os.pipe()
    process = spawn("--run-id", "r1", "--", *SH, "echo ready; yes >&2", stdout=subprocess.PIPE, stderr=writing)
    os.close(writing)
    process.stdout.readline()
    wait_until(lambda: select.select([reading], [], [], 0)[0], "the pipe to fill")
    process.send_signal(signal.SIGTERM)
    wait_for_run(server, "r1", "cancelled")
    os.close(reading)
    assert process.wait(DEADLINE_S) == -signal.SIGTERM


def test_orphans_of_a_command_may_keep_writing(server, spawn, at_end):
    reading, writing = os.pipe()
    at_end(os.close, reading)
    process = spawn("--run-id", "r1", "--", *SH, f"(read line </dev/fd/{reading}; echo late >&2) & exit 0",
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(reading,))
    assert process.wait(DEADLINE_S) == 0
    assert server.control.run("r1")["status"] == "completed"
    os.write(writing, b"\n")
    os.close(writing)
    assert process.stderr.read() == "late\n"


def test_the_end_is_sent_while_standard_error_is_not_read(server, spawn):
    reading, writing, size = full_pipe()
    process = spawn("--run-id", "r1", "--", *SH, "echo last words >&2; exit 3", stderr=writing)
    os.close(writing)
    assert process.wait(DEADLINE_S) == 3
    assert error_of(server, "r1")["stderr_tail"] == ["last words"]
    assert read_to_end(reading)[size:] == b"last words\n", "carried on when it is read after all"


def test_the_end_is_sent_while_the_terminal_is_not_read(server, spawn):
    reading, writing = pty.openpty()
    # More than the terminal takes, and less than that and a pipe together.
    process = spawn("--run-id", "r1", "--", *SH, "head -c 50000 /dev/zero | tr '\\0' x >&2; exit 3", stderr=writing,
                    stdin=subprocess.DEVNULL, start_new_session=True)
    os.close(writing)
    wait_for_run(server, "r1", "failed")
    assert process.wait(DEADLINE_S) == 3
    output = b""
    with contextlib.suppress(OSError):  # EIO: all that held the terminal have ended
        while data := os.read(reading, 65536):
            output += data
    os.close(reading)
    assert output.count(b"x") == 50_000


def test_an_unread_warning_does_not_stop_the_command(server):
    reading, writing, _ = full_pipe()
    process = subprocess.Popen([str(TOOL), "exec", "--socket", str(server.socket_path), "--run-id", "r1", "--", "true"],
                               env=clean_environment(RUN_RECORDER_NONSENSE="1"), stderr=writing)
    os.close(writing)
    assert process.wait(DEADLINE_S) == 0
    assert server.control.run("r1")["status"] == "completed"
    assert b"RUN_RECORDER_NONSENSE" in read_to_end(reading)


def test_what_the_command_writes_survives_a_kill_of_exec(spawn):
    process = spawn("--run-id", "r1", "--", *SH, "echo ready; read line; echo late >&2; echo survived",
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.wait(DEADLINE_S)
    assert process.communicate("\n", timeout=DEADLINE_S) == ("survived\n", "late\n")


def test_a_disk_that_is_full_does_not_end_the_command(server, spawn):
    with open("/dev/full", "wb") as full:
        process = spawn("--run-id", "r1", "--", *SH, "for i in $(seq 3000); do echo $i >&2; done; exit 5", stderr=full)
        assert process.wait(DEADLINE_S) == 5
    assert error_of(server, "r1")["stderr_tail"][-1] == "3000"


def test_the_exit_status_is_the_commands_while_its_standard_error_is_not_read(server, spawn):
    reading, writing = os.pipe()
    os.close(reading)
    process = spawn("--run-id", "r1", "--", *SH, "echo gone >&2; exit 3", stderr=writing)
    os.close(writing)
    assert process.wait(DEADLINE_S) == 3
    assert error_of(server, "r1")["exit_status"] == 3


def test_it_reaps_the_orphans_that_it_inherits(spawn):
    def inherit():
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    process = spawn("--run-id", "r1", "--", sys.executable, "-c", LEAVING_AN_ORPHAN, str(DEADLINE_S / 3),
                    preexec_fn=inherit)
    assert process.wait(DEADLINE_S) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to make a PID namespace")
def test_as_process_1_it_reaps_orphans_and_stops_when_asked(server):
    done = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", str(TOOL), "exec", "--socket",
                           str(server.socket_path), "--run-id", "r1", "--", sys.executable, "-c", LEAVING_AN_ORPHAN,
                           str(DEADLINE_S / 3)], env=clean_environment(), timeout=DEADLINE_S, check=False)
    assert done.returncode == 0
    with subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", str(TOOL), "exec", "--run-id", "r2",
                           "--socket", str(server.socket_path), "--", *SH, "echo ready; kill -TERM 1; exec sleep 1000"],
                          stdout=subprocess.PIPE, text=True, env=clean_environment()) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            assert process.wait(DEADLINE_S) == 128 + signal.SIGTERM
        finally:
            process.kill()
    assert server.control.run("r2")["status"] == "cancelled"


def closed(closing):
    """What starts a command with standard streams closed, as `<&-` says."""
    return (*SH, f'exec "$@" {closing}', "sh")


def test_closed_standard_streams_are_closed_for_the_command_and_nothing_hangs(server, spawn):
    seen = temporary_folder() / "seen"
    look = ("import os\ndef is_open(fd):\n try: return os.fstat(fd) is not None\n except OSError: return False\n"
            "found = [fd for fd in (0, 1, 2) if is_open(fd)]\n"
            f"os.write(os.open({str(seen)!r}, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), str(found).encode())\n"
            "if 2 in found: os.write(2, b'words')\nos._exit(3)")
    for closing, tail, still_open in (("<&-", 20, [1, 2]), (">&-", 20, [0, 2]), ("2>&-", 20, [0, 1, 2]), ("2>&-", 0, [0, 1]),
                                      ("<&- >&- 2>&-", 20, [2]), ("<&- >&- 2>&-", 0, [])):
        run_id = f"r{closing}{tail}"
        process = spawn("--run-id", run_id, "--tail", str(tail), "--", sys.executable, "-c", look, through=closed(closing))
        assert process.wait(DEADLINE_S) == 3, run_id
        assert json.loads(seen.read_text()) == still_open, run_id
        assert error_of(server, run_id)["stderr_tail"] == (["words"] if tail else []), run_id


def test_with_closed_standard_streams_it_stops_when_asked(server, spawn):
    for run_id, closing in (("in", "<&-"), ("out", ">&-"), ("error", "2>&-"), ("all", "<&- >&- 2>&-")):
        process = spawn("--run-id", run_id, "--", "sleep", "1000", through=closed(closing))
        wait_for_run(server, run_id, "running")
        process.terminate()
        assert process.wait(DEADLINE_S) == -signal.SIGTERM, closing


def spawn_in_group(spawn):
    process = spawn("--", sys.executable, "-c", ASKED_TO_STOP, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == "ready\n"
    return process


def rest(process):
    process.send_signal(signal.SIGPWR)
    return process.stdout.read()


def test_a_signal_to_exec_alone_reaches_the_command_once(spawn):
    process = spawn_in_group(spawn)
    process.terminate()
    assert rest(process) == "asked\n"


def test_a_signal_to_the_process_group_reaches_the_command_once(spawn):
    process = spawn_in_group(spawn)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.stdout.readline() == "asked\n"
    assert rest(process) == ""


def test_a_signal_to_exec_and_then_to_its_group_reaches_the_command_once(spawn):
    """As timeout(1) sends it."""
    process = spawn_in_group(spawn)
    process.send_signal(signal.SIGSTOP)
    process.terminate()
    os.killpg(process.pid, signal.SIGTERM)
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGCONT)
    assert rest(process) == ""


@pytest.mark.parametrize("exec_first", (True, False))
def test_a_signal_to_one_process_after_the_other_reaches_the_command_once(spawn, exec_first):
    """As systemd sends it to a control group: to the main process first, or last."""
    process = spawn_in_group(spawn)
    others = [pid for _, pid in processes_of_group(process.pid) if pid != process.pid]
    # Stopped, exec acts when all have the signal, however long that takes.
    process.send_signal(signal.SIGSTOP)
    for pid in ((process.pid, *others) if exec_first else (*reversed(others), process.pid)):
        os.kill(pid, signal.SIGTERM)
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGCONT)
    assert rest(process) == ""


def test_a_signal_that_went_to_programs_by_name_still_reaches_the_command(spawn):
    process = spawn("--", *SH, "echo ready; exec sleep 1000", stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == "ready\n"
    for name, pid in processes_of_group(process.pid):
        if name in ("run-recorder", "exec-sidecar"):
            os.kill(pid, signal.SIGTERM)
    assert process.wait(DEADLINE_S) == -signal.SIGTERM


def test_the_process_beside_it_has_a_name_of_its_own(spawn):
    process = spawn("--", *SH, "echo ready; exec sleep 1000", stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == "ready\n"
    beside = dict(processes_of_group(process.pid))["exec-sidecar"]

    def renamed():
        with open(f"/proc/{beside}/cmdline", "rb") as words:
            return words.read().strip(b"\0") == b"exec-sidecar"
    wait_until(renamed, "its command line")
    process.terminate()
    process.wait(DEADLINE_S)
    wait_until(lambda: not os.path.exists(f"/proc/{beside}"), "it to end with the others")


def test_pipes_end_where_the_command_closes_them(spawn):
    process = spawn("--", *SH, "exec >&-; read line", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.read() == ""
    assert process.poll() is None
    process.communicate("\n", timeout=DEADLINE_S)


def test_usage_mistakes_end_with_2_before_anything_runs(server):
    marker = temporary_folder() / "marker"
    for flags in (("--retries", "-1"), ("--retry-delay", "soon"), ("--input", "{no"), ("--council", ""),
                  ("--run-id", "x" * 256), ("--input", "1", "--record-args"), ("--nonsense",), ("--attempt", "0"),
                  ("--queue", "q" * 65), ("--job-id", ""), ("--job-id", "7", "--oban-job-id", "8")):
        done = server.tool("exec", *flags, "--", "touch", marker)
        assert done.returncode == 2, (flags, done.stderr)
        assert server.tool("exec", *flags, "touch", marker).returncode == 2, flags
    for words in ((), ("--",), ("--council", "x"), ("--council", "x", "--")):
        assert "exec needs a command" in server.tool("exec", *words).stderr, words
    assert not marker.exists()


def test_the_run_of_a_killed_exec_is_found_by_its_commands_process(server, spawn):
    process = spawn("--run-id", "r1", "--", *SH, "echo $$; exec sleep 1000", stdout=subprocess.PIPE)
    pid = int(process.stdout.readline())
    wait_for_run(server, "r1", "running")
    process.kill()
    process.wait(DEADLINE_S)
    explained = server.control.ok("GET", "/v1/runs/r1/explain")
    assert explained["verdict"] != "stuck"
    os.kill(pid, signal.SIGKILL)

    def is_stuck():
        return server.control.ok("GET", "/v1/runs/r1/explain")["verdict"] == "stuck"
    wait_until(is_stuck, "the run to be judged stuck")


# ---- --timeout
# A command that has to be ready before its time is over gets so much of it that also a busy machine has started it.
READY_IN = "8s"


def ended(pid):
    """Also where nobody has waited for it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_a_command_whose_time_is_over_is_ended_with_all_that_is_below_it(server):
    done = server.tool("exec", "--run-id", "r1", "--timeout", "300ms", "--", *SH,
                       "sh -c 'sleep 1000 & echo $!; wait' & echo $!; wait; echo never")
    assert done.returncode == 124
    assert "sh did not end within 300ms: sending SIGTERM\n" in done.stderr
    for pid in done.stdout.split():
        wait_until(lambda: ended(pid), f"the end of {pid}")
    run, error = server.control.run("r1"), error_of(server, "r1")
    assert (run["status"], error["kind"], error["message"]) == ("failed", "timeout", "did not end within 300ms")
    assert (error["signal"], error["timeout_ms"], error["duration_ms"] >= 300) == ("SIGTERM", 300, True)


def test_a_command_that_ends_in_time_is_let_be(server):
    done = server.tool("exec", "--run-id", "r1", "--timeout", "1h", "--", *SH, "exit 3")
    assert (done.returncode, done.stderr) == (3, "")
    assert error_of(server, "r1")["kind"] == "exit"


def test_one_that_ignores_the_request_is_killed_with_all_that_is_below_it(server):
    done = server.tool("exec", "--run-id", "r1", "--timeout", READY_IN, "--kill-after", "200ms", "--", *SH,
                       "trap '' TERM; sh -c 'echo $$; while :; do sleep 1000; done' & echo $!; while :; do sleep 1000; done")
    assert done.returncode == 124
    assert "sh still runs 200ms later: sending SIGKILL\n" in done.stderr
    for pid in done.stdout.split():
        wait_until(lambda: ended(pid), f"the end of {pid}")
    error = error_of(server, "r1")
    assert (error["kind"], error["signal"]) == ("timeout", "SIGKILL")


def test_what_outlives_the_command_that_was_ended_is_killed_before_the_next_attempt(server):
    ready = temporary_folder() / "ready"
    script = f"(trap '' TERM; echo $$ >>{ready}; while :; do sleep 1000; done) & cat {ready} 2>/dev/null; wait"
    started = time.monotonic()
    done = server.tool("exec", "--timeout", READY_IN, "--kill-after", "500ms", "--retries", "1", "--retry-delay", "0s", "--",
                       sys.executable, "-c", f"import os,signal,subprocess\nsubprocess.Popen(['sh','-c',{script!r}])\nsignal.pause()")
    assert done.returncode == 124
    assert time.monotonic() - started >= 17, "each attempt had its time, and what was left of it"
    pids = ready.read_text().split()
    assert len(pids) == 2
    for pid in pids:
        wait_until(lambda: ended(pid), f"the end of {pid}")


def test_a_timeout_that_the_command_survives_with_success_is_a_failure(server):
    done = server.tool("exec", "--run-id", "r1", "--timeout", READY_IN, "--", sys.executable, "-c",
                       "import signal, os; signal.signal(15, lambda *_: os._exit(0)); signal.pause()")
    assert done.returncode == 124
    error = error_of(server, "r1")
    assert (error["kind"], error["exit_status"]) == ("timeout", 0)


def test_a_daemon_that_the_command_left_behind_lives_on(server, at_end):
    folder = temporary_folder()
    orphan = ("import os, time\nif os.fork() == 0:\n os.setsid()\n if os.fork():\n  os._exit(0)\n"
              f" with open('{folder}/new', 'w') as f: f.write(str(os.getpid()))\n os.rename('{folder}/new', '{folder}/pid')\n"
              f" os.dup2(os.open('/dev/null', 2), 1); os.dup2(1, 2); time.sleep(1000)\nos.wait(); time.sleep(1000)")
    done = server.tool("exec", "--timeout", READY_IN, "--", sys.executable, "-c", orphan)
    assert done.returncode == 124
    pid = int((folder / "pid").read_text())
    at_end(os.kill, pid, signal.SIGKILL)
    assert not ended(pid)


def test_each_attempt_has_its_own_time_and_the_next_may_do_it(server):
    marker = temporary_folder() / "marker"
    done = server.tool("exec", "--run-id", "r1", "--timeout", READY_IN, "--retries", "2", "--retry-delay", "0s", "--", *SH,
                       f"test -e {marker} && exit 0; touch {marker}; exec sleep 1000")
    assert done.returncode == 0, done.stderr
    assert f"sh did not end within {READY_IN}; attempt 2 of 3 follows in 0s" in done.stderr
    chain = server.control.ok("GET", "/v1/runs/r1/chain")["runs"]
    assert [run["status"] for run in chain] == ["failed", "completed"]


def test_who_asks_to_stop_after_the_timeout_ends_the_retries(server, spawn):
    process = spawn("--run-id", "r1", "--timeout", READY_IN, "--kill-after", "1h", "--retries", "3", "--retry-delay", "0s", "--",
                    sys.executable, "-c", ASKED_TO_STOP, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert [process.stdout.readline() for _ in range(2)] == ["ready\n", "asked\n"], "by the timeout"
    process.terminate()
    assert process.stdout.readline() == "asked\n", "by who stops exec"
    process.send_signal(signal.SIGPWR)
    assert process.wait(DEADLINE_S) == 124
    assert error_of(server, "r1")["kind"] == "timeout"
    assert len(server.control.ok("GET", "/v1/runs")["runs"]) == 1


def test_a_paused_commands_time_stands_still(server, spawn):
    # A group of its own: in one that nobody outside could continue, as under setsid, SIGTSTP stops nobody.
    process = spawn("--run-id", "r1", "--timeout", "5s", "--", *SH, "echo $$; read line; exit 3", stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0)
    os.kill(int(process.stdout.readline()), signal.SIGTSTP)

    def state():
        with open(f"/proc/{process.pid}/stat", encoding="utf-8") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0]
    wait_until(lambda: state() == "T", "exec to stop, too")
    stopped = time.monotonic()
    wait_until(lambda: time.monotonic() - stopped > 6, "more time than the command has")
    process.send_signal(signal.SIGCONT)
    assert process.communicate("\n", timeout=DEADLINE_S)[1] == ""
    assert process.returncode == 3


def test_a_stopped_command_is_ended_too(server, spawn):
    process = spawn("--run-id", "r1", "--timeout", "1s", "--kill-after", "1h", "--", *SH, "kill -STOP $$; exec sleep 1000")
    assert process.wait(DEADLINE_S) == 124
    assert error_of(server, "r1")["signal"] == "SIGTERM"


def test_who_asked_to_stop_before_the_timeout_cancelled_it(server, spawn):
    program = ("import os, signal\nsignal.signal(15, signal.SIG_IGN)\nos.kill(os.getppid(), 15)\n"
               "while True: signal.pause()\n")
    process = spawn("--run-id", "r1", "--timeout", READY_IN, "--kill-after", "100ms", "--", sys.executable, "-c", program)
    assert process.wait(DEADLINE_S) == -signal.SIGKILL
    error = error_of(server, "r1")
    assert (error["kind"], error["message"]) == ("cancelled", "asked to stop by SIGTERM, was killed by SIGKILL")


def test_a_flag_without_the_one_that_it_is_about_is_a_mistake():
    for flag, value, other in (("--kill-after", "1s", "--timeout"), ("--log-bytes", "1MiB", "--log-dir")):
        done = subprocess.run([str(TOOL), "exec", flag, value, "--", "echo", "ran"], capture_output=True, text=True, timeout=DEADLINE_S,
                              check=False, env=clean_environment())
        assert (done.returncode, done.stdout) == (2, ""), flag
        assert f"{flag} needs {other}" in done.stderr


def test_a_timeout_that_is_none_says_what_is_allowed():
    for value in ("0", "0s", "30", "soon", "-1s", ""):
        done = subprocess.run([str(TOOL), "exec", "--timeout", value, "--", "echo", "ran"], capture_output=True, text=True,
                              timeout=DEADLINE_S, check=False, env=clean_environment())
        assert (done.returncode, done.stdout) == (2, ""), value
        assert f'--timeout: invalid value "{value}": must be a duration above 0s such as 30s, 5m or 2h' in done.stderr


def test_a_broken_configuration_does_not_keep_the_command_from_running(server):
    broken = temporary_folder() / "broken.toml"
    broken.write_text("[nonsense]\nx = 1\n")
    done = server.tool("--config", broken, "exec", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "nonsense" in done.stderr


# ---- keys and job control


def test_a_key_reaches_the_command_once(servers, at_end):
    server = servers().start()
    program = ("import signal,sys\nn=0\ndef count(*_):\n global n\n n+=1\nsignal.signal(2,count)\nprint('ready',flush=True)\n"
               "sys.stdin.readline()\nprint('interrupted',n,'times',flush=True)\nsys.exit(5)")
    terminal = Terminal(str(TOOL), "exec", "--socket", str(server.socket_path), "--run-id", "r1", "--",
                        sys.executable, "-c", program)
    at_end(os.close, terminal.fd)
    terminal.read_until(b"ready")
    terminal.write(b"\x03")
    terminal.read_until(b"^C")
    terminal.write(b"\n")
    terminal.read_until(b"interrupted 1 times")
    assert terminal.wait() == 5
    assert server.control.run("r1")["status"] == "cancelled"


def test_stopping_and_continuing_work_as_without_exec(servers, at_end):
    server = servers().start()
    terminal = Terminal("/bin/bash", "--norc", "-i")
    at_end(os.close, terminal.fd)
    terminal.write(f"PS1=''; {TOOL} exec --socket {server.socket_path} --run-id r1 -- "
                   "sh -c 'echo rea''dy; read x; exit 6'\n".encode())
    terminal.read_until(b"ready\r\n")
    terminal.write(b"\x1a")
    terminal.read_until(b"Stopped")
    terminal.write(b"fg\n")
    terminal.read_until(b"exec --socket")
    terminal.write(b"\necho sta''tus=$?\n")
    terminal.read_until(b"status=6")
    terminal.write(b"exit\n")
    terminal.wait()
    assert server.control.run("r1")["status"] == "failed"


# ---- without a daemon


def test_the_command_runs_and_its_events_can_be_emitted_later(servers):
    server = servers()
    done = server.tool("exec", "--run-id", "r1", "--retries", "1", "--retry-delay", "0s", "--", *SH,
                       "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout) == (3, "out\nout\n")
    assert done.stderr.count("the daemon is away") == 1
    unsent = [line for line in done.stderr.splitlines() if line.startswith("{")]
    assert [json.loads(line)["type"] for line in unsent] == ["run_started", "run_failed"] * 2
    server.start()
    assert server.tool("emit", input="\n".join(unsent)).returncode == 0
    assert server.tool("emit", input="\n".join(unsent)).returncode == 0
    status = server.wait_applied()
    # The first emit also sent what exec had kept: twice is once.
    assert (status["applied"], status["duplicate"]) == (4, 8)
    chain = server.control.ok("GET", "/v1/runs/r1/chain")["runs"]
    assert [run["status"] for run in chain] == ["failed", "failed"]


def test_a_daemon_that_comes_while_the_command_runs_gets_everything(servers):
    server = servers()
    with subprocess.Popen([str(TOOL), "exec", "--socket", str(server.socket_path), "--run-id", "r1", "--", *SH,
                           "echo ready; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env=clean_environment()) as process:
        assert process.stdout.readline() == "ready\n"
        server.start()

        def started():
            return server.control.get("/v1/runs/r1").status == 200
        wait_until(started, "the started event to arrive while the command runs")
        assert server.control.run("r1")["status"] == "running"
        _, stderr = process.communicate("\n", timeout=DEADLINE_S)
    assert process.returncode == 0
    assert "{" not in stderr
    assert server.control.run("r1")["status"] == "completed"


def test_a_daemon_that_restarts_while_the_command_runs_misses_nothing(servers):
    server = servers().start()
    with subprocess.Popen([str(TOOL), "exec", "--socket", str(server.socket_path), "--run-id", "r1", "--", *SH,
                           "echo ready; read line; exit 1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env=clean_environment()) as process:
        process.stdout.readline()
        wait_until(lambda: server.control.get("/v1/runs/r1").status == 200, "the run to be there")
        server.restart()
        _, stderr = process.communicate("\n", timeout=DEADLINE_S)
    assert (process.returncode, stderr) == (1, "")
    assert server.control.run("r1")["status"] == "failed"


def test_asked_to_stop_before_the_daemon_answers_it_says_so():
    path = temporary_folder() / "events.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        with subprocess.Popen([str(TOOL), "exec", "--socket", str(path), "--run-id", "r1", "--", *SH,
                               "echo ready; exec sleep 1000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=clean_environment()) as process:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                process.stdout.readline()
                assert json.loads(lines.readline())["type"] == "run_started"
                process.terminate()
                assert json.loads(lines.readline())["type"] == "run_failed"
                process.terminate()
                try:
                    _, stderr = process.communicate(timeout=DEADLINE_S)
                finally:
                    process.kill()
    assert process.returncode == -signal.SIGTERM
    assert re.search("asked to stop by SIGTERM before the daemon had answered; the events not acknowledged, for "
                     "run-recorder emit:", stderr)
    unsent = [json.loads(line)["type"] for line in stderr.splitlines() if line.startswith("{")]
    assert unsent == ["run_started", "run_failed"]


def test_unsent_events_are_printed_by_the_sidecar_to_a_stalled_reader():
    reading, writing, size = full_pipe()
    with subprocess.Popen([str(TOOL), "exec", "--socket", str(temporary_folder() / "none.sock"), "--tail", "0", "--run-id",
                           "r1", "--", "true"], stderr=writing, env=clean_environment()) as process:
        os.close(writing)
        try:
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()
    lines = read_to_end(reading)[size:].decode().splitlines()
    assert [json.loads(line)["type"] for line in lines if line.startswith("{")] == ["run_started", "run_completed"]


def test_while_it_waits_it_costs_no_processor_time():
    process = subprocess.Popen([str(TOOL), "exec", "--socket", str(temporary_folder() / "none.sock"), "--", *SH,
                                "echo ready; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=clean_environment())
    process.stdout.readline()

    def ticks():
        with open(f"/proc/{process.pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])
    before, began = ticks(), time.monotonic()
    wait_until(lambda: time.monotonic() - began > 1, "a second to pass")
    assert ticks() - before < 20, "of about 100 ticks a second"
    process.communicate("\n", timeout=DEADLINE_S)
