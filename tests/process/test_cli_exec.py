"""run-recorder exec: the command passes through untouched, and its run is recorded, the daemon being there or not."""

import contextlib
import ctypes
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
import unittest

from harness import DEADLINE_S, TOOL, OnSqlite, ProcessTest, temporary_folder, wait_until

SH = ("sh", "-c")
PR_SET_CHILD_SUBREAPER = 36
# Says each of its SIGTERMs. SIGPWR comes behind all of them, as exec passes signals on in their order: then it ends.
ASKED_TO_STOP = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"asked\\n"))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPWR})
os.write(1, b"ready\\n")
signal.sigwaitinfo({signal.SIGPWR})
for _ in range(10):  # a handler that is due runs now at the latest
    pass
"""
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


def tool_environment(**more):
    return {**{key: value for key, value in os.environ.items() if not key.startswith("RUN_RECORDER_")}, **more}


class ExecWithDaemon(OnSqlite, ProcessTest):
    def setUp(self):
        super().setUp()
        self.server = self.daemon_with_database({"reconcile": {"grace": "1ms", "interval": "0s"}}).start().wait_boot_pass()

    def exec(self, *arguments, **options):
        return self.server.tool("exec", *arguments, **options)

    def spawn(self, *arguments, **options):
        process = subprocess.Popen([str(TOOL), "exec", "--socket", str(self.server.socket_path), *arguments],
                                   env=tool_environment(), text=True, **options)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def run_of(self, run_id):
        return self.server.control.run(run_id)

    def error_of(self, run_id):
        run = self.run_of(run_id)
        self.assertIn(run["status"], ("failed", "cancelled"))
        self.assertEqual(len(run["error"]["errors"]), 1)
        return run["error"]["errors"][0]

    def wait_for_run(self, run_id, status):
        def there():
            answer = self.server.control.get(f"/v1/runs/{run_id}")
            return answer.status == 200 and answer.json["status"] == status
        wait_until(there, f"run {run_id} to be {status}")

    def test_success_is_recorded_and_nothing_is_added_to_the_output(self):
        done = self.exec("--run-id", "r1", "--", *SH, 'cat; echo "$1" >&2', "sh", "to stderr", input="to stdin\n")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "to stdin\n", "to stderr\n"))
        run = self.run_of("r1")
        self.assertEqual((run["status"], run["council"], run["attempt"]), ("completed", "sh", 1))
        self.assertEqual(run["input"], {"command": "sh"})
        self.assertEqual(run["result"]["exit_status"], 0)
        self.assertGreaterEqual(run["result"]["duration_ms"], 0)

    def test_the_started_event_names_the_command_itself_as_the_worker(self):
        process = self.spawn("--run-id", "r1", "--", *SH, "echo $$; read line", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        pid = process.stdout.readline().strip()
        self.wait_for_run("r1", "running")
        self.assertIn(f":{pid}:", self.run_of("r1")["worker_process"])
        process.communicate("\n", timeout=DEADLINE_S)

    def test_the_command_finds_its_run_and_the_socket_in_its_environment(self):
        done = self.exec("--run-id", "r1", "--", "env")
        self.assertIn("RUN_RECORDER_RUN_ID=r1\n", done.stdout)
        self.assertIn(f"RUN_RECORDER_SOCKET_PATH={self.server.socket_path}\n", done.stdout)

    def test_failure_keeps_the_status_and_the_end_of_standard_error(self):
        process = subprocess.run([str(TOOL), "exec", "--socket", str(self.server.socket_path), "--run-id", "r1", "--council",
                                  "import", "--tail", "2", "--", *SH, r"printf 'one\ntwo\nth\377ree\000\nfour' >&2; exit 3"],
                                 capture_output=True, env=tool_environment(), timeout=DEADLINE_S, check=False)
        self.assertEqual((process.returncode, process.stderr), (3, b"one\ntwo\nth\xffree\0\nfour"))
        run = self.run_of("r1")
        self.assertEqual((run["status"], run["council"]), ("failed", "import"))
        error = self.error_of("r1")
        self.assertEqual((error["kind"], error["exit_status"], error["message"]), ("exit", 3, "exited with status 3"))
        self.assertEqual(error["stderr_tail"], ["th\ufffdree", "four"])

    def test_death_by_signal_is_passed_on_and_named(self):
        done = self.exec("--run-id", "r1", "--", *SH, "kill -9 $$")
        self.assertEqual(done.returncode, -signal.SIGKILL)
        error = self.error_of("r1")
        self.assertEqual((error["kind"], error["signal"], error["signal_number"]), ("signal", "SIGKILL", 9))
        self.assertEqual(self.run_of("r1")["status"], "failed")

    def test_a_command_that_cannot_be_run_is_127_or_126_and_recorded(self):
        folder = temporary_folder()
        (folder / "plain").write_text("x")
        for command, status in ((folder / "nothing", 127), ("no-such-command", 127), (folder / "plain", 126)):
            run_id = f"r-{command}".replace("/", "_")
            done = self.exec("--run-id", run_id, "--", command)
            self.assertEqual(done.returncode, status, done.stderr)
            self.assertIn("could not be run", done.stderr)
            self.assertEqual(self.error_of(run_id)["exit_status"], status)

    def test_a_folder_of_the_path_that_is_closed_makes_nothing_found(self):
        closed = temporary_folder()
        closed.chmod(0)
        self.addCleanup(closed.rmdir)
        done = subprocess.run([str(TOOL), "exec", "--socket", "/nonexistent", "--", "no-such-command"], capture_output=True,
                              text=True, timeout=DEADLINE_S, check=False, user="nobody" if os.getuid() == 0 else None,
                              env=tool_environment(PATH=f"/usr/bin:{closed}"))
        self.assertEqual(done.returncode, 127, done.stderr)
        self.assertIn("No such file", done.stderr)

    def test_a_stop_signal_is_passed_on_and_recorded_as_cancelled(self):
        process = self.spawn("--run-id", "r1", "--retries", "3", "--", *SH, "echo ready; exec sleep 1000", stdout=subprocess.PIPE)
        self.assertEqual(process.stdout.readline(), "ready\n")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(DEADLINE_S), -signal.SIGTERM)
        run = self.run_of("r1")
        self.assertEqual(run["status"], "cancelled")
        self.assertEqual(self.error_of("r1")["kind"], "cancelled")
        self.assertEqual(len(self.server.control.ok("GET", "/v1/runs")["runs"]), 1, "a cancelled run is not tried again")

    def test_a_command_that_handles_the_signal_and_succeeds_is_completed(self):
        process = self.spawn("--run-id", "r1", "--", *SH, "trap 'exit 0' TERM; echo ready; while :; do read x; done",
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(BrokenPipeError):  # a shell whose read is interrupted has ended already
            os.write(process.stdin.fileno(), b"\n")
        self.assertEqual(process.wait(DEADLINE_S), 0)
        self.assertEqual(self.run_of("r1")["status"], "completed")

    def test_other_signals_reach_the_command_too(self):
        process = self.spawn("--", sys.executable, "-c",
                             "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {10, 12, 34}); print('ready', flush=True); "
                             "print(sorted(int(signal.sigwait({10, 12, 34})) for _ in range(3)))", stdout=subprocess.PIPE)
        process.stdout.readline()
        for number in (signal.SIGUSR1, signal.SIGUSR2, 34):
            process.send_signal(number)
        self.assertEqual(process.stdout.readline(), "[10, 12, 34]\n")

    def test_ignored_signals_stay_ignored(self):
        done = self.server.tool("exec", "--", "grep", "SigIgn", "/proc/self/status")
        process = subprocess.run(["nohup", str(TOOL), "exec", "--socket", str(self.server.socket_path), "--", "grep", "SigIgn",
                                  "/proc/self/status"], capture_output=True, text=True, env=tool_environment(), check=False,
                                 stdin=subprocess.DEVNULL, timeout=DEADLINE_S)
        plain, ignoring = (int(text.split()[1], 16) for text in (done.stdout, process.stdout))
        self.assertEqual(plain & 1, 0)
        self.assertEqual(ignoring & 1, 1, "SIGHUP under nohup")

    def test_retries_make_a_chain_of_attempts(self):
        marker = temporary_folder() / "marker"
        done = self.exec("--run-id", "first", "--retries", 3, "--retry-delay", "0s", "--", *SH,
                         f'test -e {marker} && test -e {marker}2 && exit 0; test -e {marker} && touch {marker}2; touch {marker}; '
                         "exit 4")
        self.assertEqual(done.returncode, 0, done.stderr)
        chain = self.server.control.ok("GET", "/v1/runs/first/chain")["runs"]
        self.assertEqual([(run["attempt"], run["status"]) for run in chain],
                         [(1, "failed"), (2, "failed"), (3, "completed")])
        self.assertEqual([run["parent_attempt_run_id"] for run in chain], [None, "first", chain[1]["run_id"]])

    def test_retries_end_with_the_last_status(self):
        done = self.exec("--retries", 1, "--retry-delay", "0s", "--attempt", 5, "--", *SH, "exit 9")
        self.assertEqual(done.returncode, 9)
        runs = self.server.control.ok("GET", "/v1/runs")["runs"]
        self.assertEqual(sorted(run["attempt"] for run in runs), [5, 6])

    def test_queue_and_job_are_passed_on_to_every_attempt(self):
        done = self.exec("--queue", "river", "--job-id", "a-7", "--run-id", "r1", "--retries", "1", "--retry-delay", "1ms", "--",
                         "false")
        self.assertEqual(done.returncode, 1)
        chain = self.server.control.ok("GET", "/v1/runs/r1/chain")["runs"]
        self.assertEqual(len(chain), 2)
        for run in chain:
            started = self.server.control.ok("GET", f"/v1/runs/{run['run_id']}/events")["events"][0]["payload"]
            self.assertEqual((started["queue"], started["job_id"]), ("river", "a-7"))

    def test_arguments_are_stored_only_when_asked(self):
        self.exec("--run-id", "quiet", "--", "echo", "--password=secret")
        self.exec("--run-id", "open", "--record-args", "--", "echo", "--verbose")
        self.exec("--run-id", "own", "--input", '{"n":1.50}', "--", "echo", "--password=secret")
        self.assertEqual(self.run_of("quiet")["input"], {"command": "echo"})
        self.assertEqual(self.run_of("open")["input"], {"command": "echo", "args": ["--verbose"]})
        self.assertIn('"n":1.50', self.server.control.get("/v1/runs/own").text.replace(" ", ""))
        self.assertNotIn("secret", json.dumps([self.run_of("quiet"), self.run_of("own")], default=str))

    def test_an_empty_tail_leaves_standard_error_alone(self):
        with open(os.devnull, "w", encoding="utf-8") as null:
            done = subprocess.run([str(TOOL), "exec", "--socket", str(self.server.socket_path), "--tail", "0", "--",
                                   "readlink", "/proc/self/fd/2"], stdout=subprocess.PIPE, stderr=null, text=True,
                                  env=tool_environment(), timeout=DEADLINE_S, check=False)
        self.assertEqual(done.stdout, "/dev/null\n")

    def test_much_standard_error_passes_through_in_full(self):
        done = subprocess.run([str(TOOL), "exec", "--socket", str(self.server.socket_path), "--run-id", "r1", "--",
                               *SH, "yes 'a line' | head -c 5000000 >&2; echo >&2; echo end >&2; exit 1"], capture_output=True,
                              env=tool_environment(), timeout=DEADLINE_S, check=False)
        self.assertEqual(len(done.stderr), 5_000_005)
        self.assertTrue(done.stderr.endswith(b"end\n"))
        self.assertEqual(self.error_of("r1")["stderr_tail"][-1], "end")

    def test_a_reader_of_standard_error_that_stalls_does_not_keep_signals_away(self):
        reading, writing = os.pipe()
        process = self.spawn("--run-id", "r1", "--", *SH, "echo ready; yes >&2", stdout=subprocess.PIPE, stderr=writing)
        os.close(writing)
        process.stdout.readline()
        wait_until(lambda: select.select([reading], [], [], 0)[0], "the pipe to fill")
        process.send_signal(signal.SIGTERM)
        self.wait_for_run("r1", "cancelled")
        os.close(reading)
        self.assertEqual(process.wait(DEADLINE_S), -signal.SIGTERM)

    def test_orphans_of_a_command_may_keep_writing(self):
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        process = self.spawn("--run-id", "r1", "--", *SH, f"(read line </dev/fd/{reading}; echo late >&2) & exit 0",
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(reading,))
        self.assertEqual(process.wait(DEADLINE_S), 0)
        self.assertEqual(self.run_of("r1")["status"], "completed")
        os.write(writing, b"\n")
        os.close(writing)
        self.assertEqual(process.stderr.read(), "late\n")

    def test_the_end_is_sent_while_standard_error_is_not_read(self):
        reading, writing, size = full_pipe()
        process = self.spawn("--run-id", "r1", "--", *SH, "echo last words >&2; exit 3", stderr=writing)
        os.close(writing)
        self.assertEqual(process.wait(DEADLINE_S), 3)
        self.assertEqual(self.error_of("r1")["stderr_tail"], ["last words"])
        self.assertEqual(read_to_end(reading)[size:], b"last words\n", "carried on when it is read after all")

    def test_the_end_is_sent_while_the_terminal_is_not_read(self):
        reading, writing = pty.openpty()
        # More than the terminal takes, and less than that and a pipe together.
        process = self.spawn("--run-id", "r1", "--", *SH, "head -c 50000 /dev/zero | tr '\\0' x >&2; exit 3", stderr=writing,
                             stdin=subprocess.DEVNULL, start_new_session=True)
        os.close(writing)
        self.wait_for_run("r1", "failed")
        self.assertEqual(process.wait(DEADLINE_S), 3)
        output = b""
        with contextlib.suppress(OSError):  # EIO: all that held the terminal have ended
            while data := os.read(reading, 65536):
                output += data
        os.close(reading)
        self.assertEqual(output.count(b"x"), 50_000)

    def test_an_unread_warning_does_not_stop_the_command(self):
        reading, writing, _ = full_pipe()
        process = subprocess.Popen([str(TOOL), "exec", "--socket", str(self.server.socket_path), "--run-id", "r1", "--", "true"],
                                   env=tool_environment(RUN_RECORDER_NONSENSE="1"), stderr=writing)
        os.close(writing)
        self.assertEqual(process.wait(DEADLINE_S), 0)
        self.assertEqual(self.run_of("r1")["status"], "completed")
        self.assertIn(b"RUN_RECORDER_NONSENSE", read_to_end(reading))

    def test_what_the_command_writes_survives_a_kill_of_exec(self):
        process = self.spawn("--run-id", "r1", "--", *SH, "echo ready; read line; echo late >&2; echo survived",
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(process.stdout.readline(), "ready\n")
        process.kill()
        process.wait(DEADLINE_S)
        self.assertEqual(process.communicate("\n", timeout=DEADLINE_S), ("survived\n", "late\n"))

    def test_a_disk_that_is_full_does_not_end_the_command(self):
        with open("/dev/full", "wb") as full:
            process = self.spawn("--run-id", "r1", "--", *SH, "for i in $(seq 3000); do echo $i >&2; done; exit 5", stderr=full)
            self.assertEqual(process.wait(DEADLINE_S), 5)
        self.assertEqual(self.error_of("r1")["stderr_tail"][-1], "3000")

    def test_the_exit_status_is_the_commands_while_its_standard_error_is_not_read(self):
        reading, writing = os.pipe()
        os.close(reading)
        process = self.spawn("--run-id", "r1", "--", *SH, "echo gone >&2; exit 3", stderr=writing)
        os.close(writing)
        self.assertEqual(process.wait(DEADLINE_S), 3)
        self.assertEqual(self.error_of("r1")["exit_status"], 3)

    def test_it_reaps_the_orphans_that_it_inherits(self):
        def inherit():
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        process = self.spawn("--run-id", "r1", "--", sys.executable, "-c", LEAVING_AN_ORPHAN, str(DEADLINE_S / 3),
                             preexec_fn=inherit)
        self.assertEqual(process.wait(DEADLINE_S), 0)

    @unittest.skipIf(os.getuid() != 0, "needs root, to make a PID namespace")
    def test_as_process_1_it_reaps_orphans_and_stops_when_asked(self):
        done = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", str(TOOL), "exec", "--socket",
                               str(self.server.socket_path), "--run-id", "r1", "--", sys.executable, "-c", LEAVING_AN_ORPHAN,
                               str(DEADLINE_S / 3)], env=tool_environment(), timeout=DEADLINE_S, check=False)
        self.assertEqual(done.returncode, 0)
        with subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", str(TOOL), "exec", "--run-id", "r2",
                               "--socket", str(self.server.socket_path), "--", *SH, "echo ready; kill -TERM 1; exec sleep 1000"],
                              stdout=subprocess.PIPE, text=True, env=tool_environment()) as process:
            try:
                self.assertEqual(process.stdout.readline(), "ready\n")
                self.assertEqual(process.wait(DEADLINE_S), 128 + signal.SIGTERM)
            finally:
                process.kill()
        self.assertEqual(self.run_of("r2")["status"], "cancelled")

    def closed(self, closing, *command):
        """Starts exec with standard streams closed, as `<&-` says."""
        process = subprocess.Popen([*SH, f'exec "$@" {closing}', "sh", str(TOOL), "exec", "--socket",
                                    str(self.server.socket_path), *command], env=tool_environment())
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_closed_standard_streams_are_closed_for_the_command_and_nothing_hangs(self):
        seen = temporary_folder() / "seen"
        look = ("import os\ndef is_open(fd):\n try: return os.fstat(fd) is not None\n except OSError: return False\n"
                "found = [fd for fd in (0, 1, 2) if is_open(fd)]\n"
                f"os.write(os.open({str(seen)!r}, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), str(found).encode())\n"
                "if 2 in found: os.write(2, b'words')\nos._exit(3)")
        for closing, tail, still_open in (("<&-", 20, [1, 2]), (">&-", 20, [0, 2]), ("2>&-", 20, [0, 1, 2]), ("2>&-", 0, [0, 1]),
                                          ("<&- >&- 2>&-", 20, [2]), ("<&- >&- 2>&-", 0, [])):
            with self.subTest(closing=closing, tail=tail):
                process = self.closed(closing, "--run-id", f"r{closing}{tail}", "--tail", str(tail), "--", sys.executable, "-c", look)
                self.assertEqual(process.wait(DEADLINE_S), 3)
                self.assertEqual(json.loads(seen.read_text()), still_open)
                self.assertEqual(self.error_of(f"r{closing}{tail}")["stderr_tail"], ["words"] if tail else [])

    def test_with_closed_standard_streams_it_stops_when_asked(self):
        for run_id, closing in (("in", "<&-"), ("out", ">&-"), ("error", "2>&-"), ("all", "<&- >&- 2>&-")):
            with self.subTest(closing=closing):
                process = self.closed(closing, "--run-id", run_id, "--", "sleep", "1000")
                self.wait_for_run(run_id, "running")
                process.terminate()
                self.assertEqual(process.wait(DEADLINE_S), -signal.SIGTERM)

    def spawn_in_group(self):
        process = self.spawn("--", sys.executable, "-c", ASKED_TO_STOP, stdout=subprocess.PIPE, start_new_session=True)
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process

    def rest(self, process):
        process.send_signal(signal.SIGPWR)
        return process.stdout.read()

    def test_a_signal_to_exec_alone_reaches_the_command_once(self):
        process = self.spawn_in_group()
        process.terminate()
        self.assertEqual(self.rest(process), "asked\n")

    def test_a_signal_to_the_process_group_reaches_the_command_once(self):
        process = self.spawn_in_group()
        os.killpg(process.pid, signal.SIGTERM)
        self.assertEqual(process.stdout.readline(), "asked\n")
        self.assertEqual(self.rest(process), "")

    def test_a_signal_to_exec_and_then_to_its_group_reaches_the_command_once(self):
        """As timeout(1) sends it."""
        process = self.spawn_in_group()
        process.send_signal(signal.SIGSTOP)
        process.terminate()
        os.killpg(process.pid, signal.SIGTERM)
        self.assertEqual(process.stdout.readline(), "asked\n")
        process.send_signal(signal.SIGCONT)
        self.assertEqual(self.rest(process), "")

    def test_a_signal_to_one_process_after_the_other_reaches_the_command_once(self):
        """As systemd sends it to a control group: to the main process first, or last."""
        for exec_first in (True, False):
            with self.subTest(exec_first=exec_first):
                process = self.spawn_in_group()
                others = [pid for _, pid in processes_of_group(process.pid) if pid != process.pid]
                # Stopped, exec acts when all have the signal, however long that takes.
                process.send_signal(signal.SIGSTOP)
                for pid in ((process.pid, *others) if exec_first else (*reversed(others), process.pid)):
                    os.kill(pid, signal.SIGTERM)
                self.assertEqual(process.stdout.readline(), "asked\n")
                process.send_signal(signal.SIGCONT)
                self.assertEqual(self.rest(process), "")

    def test_a_signal_that_went_to_programs_by_name_still_reaches_the_command(self):
        process = self.spawn("--", *SH, "echo ready; exec sleep 1000", stdout=subprocess.PIPE, start_new_session=True)
        self.assertEqual(process.stdout.readline(), "ready\n")
        for name, pid in processes_of_group(process.pid):
            if name in ("run-recorder", "exec-sidecar"):
                os.kill(pid, signal.SIGTERM)
        self.assertEqual(process.wait(DEADLINE_S), -signal.SIGTERM)

    def test_the_process_beside_it_has_a_name_of_its_own(self):
        process = self.spawn("--", *SH, "echo ready; exec sleep 1000", stdout=subprocess.PIPE, start_new_session=True)
        self.assertEqual(process.stdout.readline(), "ready\n")
        beside = dict(processes_of_group(process.pid))["exec-sidecar"]

        def renamed():
            with open(f"/proc/{beside}/cmdline", "rb") as words:
                return words.read().strip(b"\0") == b"exec-sidecar"
        wait_until(renamed, "its command line")
        process.terminate()
        process.wait(DEADLINE_S)
        wait_until(lambda: not os.path.exists(f"/proc/{beside}"), "it to end with the others")

    def test_pipes_end_where_the_command_closes_them(self):
        process = self.spawn("--", *SH, "exec >&-; read line", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.assertEqual(process.stdout.read(), "")
        self.assertIsNone(process.poll())
        process.communicate("\n", timeout=DEADLINE_S)

    def test_usage_mistakes_end_with_2_before_anything_runs(self):
        marker = temporary_folder() / "marker"
        for flags in (("--retries", "-1"), ("--retry-delay", "soon"), ("--input", "{no"), ("--council", ""),
                      ("--run-id", "x" * 256), ("--input", "1", "--record-args"), ("--nonsense",), ("--attempt", "0"),
                      ("--queue", "q" * 65), ("--job-id", ""), ("--job-id", "7", "--oban-job-id", "8")):
            done = self.exec(*flags, "--", "touch", marker)
            self.assertEqual(done.returncode, 2, (flags, done.stderr))
        self.assertEqual(self.exec("touch", marker).returncode, 2)
        self.assertEqual(self.exec("--").returncode, 2)
        self.assertFalse(marker.exists())

    def test_the_run_of_a_killed_exec_is_found_by_its_commands_process(self):
        process = self.spawn("--run-id", "r1", "--", *SH, "echo $$; exec sleep 1000", stdout=subprocess.PIPE)
        pid = int(process.stdout.readline())
        self.wait_for_run("r1", "running")
        process.kill()
        process.wait(DEADLINE_S)
        explained = self.server.control.ok("GET", "/v1/runs/r1/explain")
        self.assertNotEqual(explained["verdict"], "stuck")
        os.kill(pid, signal.SIGKILL)

        def is_stuck():
            return self.server.control.ok("GET", "/v1/runs/r1/explain")["verdict"] == "stuck"
        wait_until(is_stuck, "the run to be judged stuck")

    def test_a_broken_configuration_does_not_keep_the_command_from_running(self):
        broken = temporary_folder() / "broken.toml"
        broken.write_text("[nonsense]\nx = 1\n")
        done = self.server.tool("--config", broken, "exec", "--", "echo", "ran")
        self.assertEqual((done.returncode, done.stdout), (0, "ran\n"))
        self.assertIn("nonsense", done.stderr)


class ExecOnTerminal(OnSqlite, ProcessTest):
    """Keys and job control."""

    def start(self, *argv):
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(argv[0], argv, tool_environment(TERM="dumb"))
        self.addCleanup(os.close, terminal)
        self.output = b""
        return pid, terminal

    def read_until(self, terminal, words):
        end = time.monotonic() + DEADLINE_S
        while words not in self.output:
            self.assertLess(time.monotonic(), end, f"{words} in {self.output}")
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    self.output += os.read(terminal, 65536)
                except OSError:
                    self.fail(f"the terminal closed before {words}: {self.output}")
        self.output = self.output.split(words, 1)[1]

    def test_a_key_reaches_the_command_once(self):
        server = self.daemon_with_database().start()
        program = ("import signal,sys\nn=0\ndef count(*_):\n global n\n n+=1\nsignal.signal(2,count)\nprint('ready',flush=True)\n"
                   "sys.stdin.readline()\nprint('interrupted',n,'times',flush=True)\nsys.exit(5)")
        pid, terminal = self.start(str(TOOL), "exec", "--socket", str(server.socket_path), "--run-id", "r1", "--",
                                   sys.executable, "-c", program)
        self.read_until(terminal, b"ready")
        os.write(terminal, b"\x03")
        self.read_until(terminal, b"^C")
        os.write(terminal, b"\n")
        self.read_until(terminal, b"interrupted 1 times")
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 5)
        self.assertEqual(server.control.run("r1")["status"], "cancelled")

    def test_stopping_and_continuing_work_as_without_exec(self):
        server = self.daemon_with_database().start()
        pid, terminal = self.start("/bin/bash", "--norc", "-i")
        os.write(terminal, f"PS1=''; {TOOL} exec --socket {server.socket_path} --run-id r1 -- "
                           "sh -c 'echo rea''dy; read x; exit 6'\n".encode())
        self.read_until(terminal, b"ready\r\n")
        os.write(terminal, b"\x1a")
        self.read_until(terminal, b"Stopped")
        os.write(terminal, b"fg\n")
        self.read_until(terminal, b"exec --socket")
        os.write(terminal, b"\necho sta''tus=$?\n")
        self.read_until(terminal, b"status=6")
        os.write(terminal, b"exit\n")
        os.waitpid(pid, 0)
        self.assertEqual(server.control.run("r1")["status"], "failed")


class ExecWithoutDaemon(OnSqlite, ProcessTest):
    def exec(self, path, *arguments):
        return subprocess.run([str(TOOL), "exec", "--socket", str(path), *arguments], capture_output=True, text=True,
                              env=tool_environment(), timeout=DEADLINE_S, check=False)

    def test_the_command_runs_and_its_events_can_be_emitted_later(self):
        server = self.daemon_with_database()
        done = self.exec(server.socket_path, "--run-id", "r1", "--retries", "1", "--retry-delay", "0s", "--", *SH,
                         "echo out; echo err >&2; exit 3")
        self.assertEqual((done.returncode, done.stdout), (3, "out\nout\n"))
        self.assertEqual(done.stderr.count("the daemon is away"), 1)
        unsent = [line for line in done.stderr.splitlines() if line.startswith("{")]
        self.assertEqual([json.loads(line)["type"] for line in unsent], ["run_started", "run_failed"] * 2)
        server.start()
        self.assertEqual(server.tool("emit", input="\n".join(unsent)).returncode, 0)
        self.assertEqual(server.tool("emit", input="\n".join(unsent)).returncode, 0)
        status = server.wait_applied()
        self.assertEqual((status["applied"], status["duplicate"]), (4, 4))
        chain = server.control.ok("GET", "/v1/runs/r1/chain")["runs"]
        self.assertEqual([run["status"] for run in chain], ["failed", "failed"])

    def test_a_daemon_that_comes_while_the_command_runs_gets_everything(self):
        server = self.daemon_with_database()
        with subprocess.Popen([str(TOOL), "exec", "--socket", str(server.socket_path), "--run-id", "r1", "--", *SH,
                               "echo ready; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, env=tool_environment()) as process:
            self.assertEqual(process.stdout.readline(), "ready\n")
            server.start()

            def started():
                return server.control.get("/v1/runs/r1").status == 200
            wait_until(started, "the started event to arrive while the command runs")
            self.assertEqual(server.control.run("r1")["status"], "running")
            _, stderr = process.communicate("\n", timeout=DEADLINE_S)
        self.assertEqual(process.returncode, 0)
        self.assertNotIn("{", stderr)
        self.assertEqual(server.control.run("r1")["status"], "completed")

    def test_a_daemon_that_restarts_while_the_command_runs_misses_nothing(self):
        server = self.daemon_with_database().start()
        with subprocess.Popen([str(TOOL), "exec", "--socket", str(server.socket_path), "--run-id", "r1", "--", *SH,
                               "echo ready; read line; exit 1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, env=tool_environment()) as process:
            process.stdout.readline()
            wait_until(lambda: server.control.get("/v1/runs/r1").status == 200, "the run to be there")
            server.restart()
            _, stderr = process.communicate("\n", timeout=DEADLINE_S)
        self.assertEqual((process.returncode, stderr), (1, ""))
        self.assertEqual(server.control.run("r1")["status"], "failed")

    def test_asked_to_stop_before_the_daemon_answers_it_says_so(self):
        path = temporary_folder() / "events.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen()
            with subprocess.Popen([str(TOOL), "exec", "--socket", str(path), "--run-id", "r1", "--", *SH,
                                   "echo ready; exec sleep 1000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  env=tool_environment()) as process:
                connection, _ = listener.accept()
                with connection, connection.makefile("rb") as lines:
                    process.stdout.readline()
                    self.assertEqual(json.loads(lines.readline())["type"], "run_started")
                    process.terminate()
                    self.assertEqual(json.loads(lines.readline())["type"], "run_failed")
                    process.terminate()
                    try:
                        _, stderr = process.communicate(timeout=DEADLINE_S)
                    finally:
                        process.kill()
        self.assertEqual(process.returncode, -signal.SIGTERM)
        self.assertRegex(stderr, "asked to stop by SIGTERM before the daemon had answered; the events not acknowledged, for "
                                 "run-recorder emit:")
        unsent = [json.loads(line)["type"] for line in stderr.splitlines() if line.startswith("{")]
        self.assertEqual(unsent, ["run_started", "run_failed"])

    def test_unsent_events_are_printed_by_the_sidecar_to_a_stalled_reader(self):
        reading, writing, size = full_pipe()
        with subprocess.Popen([str(TOOL), "exec", "--socket", str(temporary_folder() / "none.sock"), "--tail", "0", "--run-id",
                               "r1", "--", "true"], stderr=writing, env=tool_environment()) as process:
            os.close(writing)
            try:
                self.assertEqual(process.wait(DEADLINE_S), 0)
            finally:
                process.kill()
        lines = read_to_end(reading)[size:].decode().splitlines()
        self.assertEqual([json.loads(line)["type"] for line in lines if line.startswith("{")], ["run_started", "run_completed"])

    def test_while_it_waits_it_costs_no_processor_time(self):
        process = subprocess.Popen([str(TOOL), "exec", "--socket", str(temporary_folder() / "none.sock"), "--", *SH,
                                    "echo ready; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=tool_environment())
        process.stdout.readline()

        def ticks():
            with open(f"/proc/{process.pid}/stat", encoding="utf-8") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            return int(fields[11]) + int(fields[12])
        before, began = ticks(), time.monotonic()
        wait_until(lambda: time.monotonic() - began > 1, "a second to pass")
        self.assertLess(ticks() - before, 20, "of about 100 ticks a second")
        process.communicate("\n", timeout=DEADLINE_S)


if __name__ == "__main__":
    unittest.main()
