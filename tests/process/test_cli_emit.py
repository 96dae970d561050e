"""run-recorder emit: events from flags and from standard input, refusals by line, resending, exit codes."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from harness import DEADLINE_S, TOOL, StandingPipe, clean_environment, temporary_folder, wait_until


class ScriptedServer:
    """A line server that answers as a test says: `answer(connection, line, text)` gives the bytes to send, or None to close the
    connection. For what a real daemon does only rarely: to break off, to be full, to say nothing."""

    def __init__(self, answer, path=None):
        self.path = path or temporary_folder() / "events.sock"
        self.answer = answer
        self.lines = []
        self.connections = 0
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        self.listener.listen()
        self.accepting = threading.Thread(target=self._accept, daemon=True)
        self.accepting.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection, number):
        with connection, connection.makefile("rb") as lines:
            for line, text in enumerate(lines, 1):
                reply = self.answer(number, line, text)
                if reply is None:
                    return
                self.lines.append((number, json.loads(text)))
                try:
                    connection.sendall(reply)
                except OSError:
                    return

    def emit(self, *arguments, input=None):
        return subprocess.run([str(TOOL), "emit", "--socket", str(self.path), *arguments], input=input, capture_output=True,
                              text=True, timeout=DEADLINE_S, check=False, env=clean_environment())

    def close(self):
        with contextlib.suppress(OSError):  # closed already
            self.listener.shutdown(socket.SHUT_RDWR)
        self.accepting.join()  # else it may accept at a descriptor that is somebody else's by then
        self.listener.close()


def take_interrupts():
    """As in the foreground, wherever the tests run: a shell keeps ignoring what it finds ignored."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def acked(line):
    return b'{"acked":%d}\n' % line


def refused(line, code):
    return b'{"error":{"line":%d,"code":"%s","message":"as the test says"}}\n' % (line, code) + acked(line)


def numbered(count):
    return "".join(f'{{"type":"progress","run_id":"r{i % 7}","payload":{{"n":{i}}}}}\n' for i in range(count))


# ---- to a daemon


@pytest.fixture
def server(servers):
    return servers({"reconcile": {"grace": "1ms"}}).start().wait_boot_pass()


def test_flags_make_one_event_with_every_field(server):
    done = server.tool("emit", "--type", "run_started", "--run-id", "r/1 ü", "--id", "e1", "--at", "2026-01-02T03:04:05+01:00",
                       "--council", "demo", "--input", '{"big":\n 12345678901234567890.5}', "--attempt", 2,
                       "--parent-attempt-run-id", "r0", "--oban-job-id", 7)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = server.tool("emit", "--type", "run_failed", "--run-id", "r/1 ü", "--errors", '[{"kind":"exit","message":"no"}]',
                       "--result", "null")
    assert done.returncode == 0, done.stderr
    server.wait_applied()
    run = server.control.run("r/1 ü")
    assert ((run["status"], run["council"], run["attempt"], run["parent_attempt_run_id"], run["oban_job_id"])
            == ("failed", "demo", 2, "r0", 7))
    assert run["started_at"] == "2026-01-02T02:04:05.000000Z"
    assert "12345678901234567890.5" in server.control.get("/v1/runs/r%2F1%20%C3%BC").text
    assert run["error"] == {"errors": [{"kind": "exit", "message": "no"}]}


def test_the_caller_is_the_worker_unless_told_otherwise(server):
    assert server.tool("emit", "--type", "run_started", "--run-id", "caller").returncode == 0
    assert server.tool("emit", "--type", "run_started", "--run-id", "none", "--no-worker-pid").returncode == 0
    assert server.tool("emit", "--type", "run_started", "--run-id", "named", "--worker-pid", os.getppid()).returncode == 0
    server.wait_applied()
    assert f":{os.getpid()}:" in server.control.run("caller")["worker_process"]
    assert server.control.run("none")["worker_process"] is None
    assert f":{os.getppid()}:" in server.control.run("named")["worker_process"]


def start_script(server, at_end, name, text, program=("bash",)):
    """Starts a script that says "sent" when it has sent, and then waits for a line."""
    path = server.folder / name
    path.write_text(text)
    process = subprocess.Popen([*program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env={**clean_environment(), "RUN_RECORDER_SOCKET_PATH": str(server.socket_path),
                                    "EMIT": f"{TOOL} emit --type run_started --run-id {name}", "TOOL": str(TOOL),
                                    "RUN": name}, preexec_fn=take_interrupts)
    at_end(lambda: (process.kill(), process.wait(), process.stdin.close(), process.stdout.close()))
    return process


def wait_sent(process, name):
    line = process.stdout.readline()
    while line and line != "sent\n":  # what a terminal of script(1) says goes before it
        line = process.stdout.readline()
    assert line == "sent\n", name


def worker_of(server, run_id):
    worker = server.control.run(run_id)["worker_process"]
    return int(worker.split(":")[3]) if worker else None


def status_of(server, run_id):
    return server.control.run(run_id)["status"]


def test_by_default_the_worker_is_a_process_that_outlives_the_command(server, at_end):
    shell = {
        "direct": "$EMIT",
        "timeout": "timeout 60 $EMIT",
        "one-command": 'sh -c "$EMIT; :"; :',
        "letters": 'bash -euo pipefail -c "$EMIT; :"; :',
        "env": "env A=1 timeout 60 env $EMIT",
        "xargs": 'echo --type run_started --run-id "$RUN" | xargs "$TOOL" emit',
        "setsid": "setsid --wait $EMIT",
        "flock": 'flock "$0" $EMIT',
        "script": 'script -qec "$EMIT" /dev/null </dev/null',
        "subshell": "( $EMIT; : )",
        "substitution": "got=$( $EMIT; : )",
        "pipeline": "$EMIT | cat",
        "end-of-pipeline": '''( printf '{"type":"run_started","run_id":"%s"}' "$RUN" ) | "$TOOL" emit''',
        "loop": 'echo "$RUN" | while read -r run; do "$TOOL" emit --type run_started --run-id "$run"; :; done',
        "function": "begin() { $EMIT; }; begin",
    }
    python = {
        "system": 'os.system(os.environ["EMIT"] + "; :")',
        "shell-true": 'subprocess.run(os.environ["EMIT"] + "; :", shell=True)',
        "list": 'subprocess.run(os.environ["EMIT"].split())',
    }
    scripts = {f"{program}-{name}": start_script(server, at_end, f"{program}-{name}", f"{line}\necho sent\nread -r line\n",
                                                 (program,))
               for program in ("bash", "sh") for name, line in shell.items()}
    for name, line in python.items():
        scripts[name] = start_script(server, at_end, name, f'import os, subprocess\n{line}\nprint("sent", flush=True)\ninput()\n',
                                     (sys.executable,))
    for name, process in scripts.items():
        wait_sent(process, name)
    server.wait_applied()
    assert {name: worker_of(server, name) for name in scripts} == {name: process.pid for name, process in scripts.items()}
    server.control.reconcile()
    assert {name: status_of(server, name) for name in scripts} == dict.fromkeys(scripts, "running")
    for process in scripts.values():
        process.kill()
        process.wait(DEADLINE_S)

    def all_found():
        server.control.reconcile()
        return all(status_of(server, name) == "stuck" for name in scripts)
    wait_until(all_found, "the runs of killed scripts to be stuck")
    for name in scripts:
        assert server.control.run(name)["error"]["reason"] == "process_gone", name


def test_a_function_in_the_background_does_not_depend_on_its_script(server, at_end):
    process = start_script(server, at_end, "function", "work() { $EMIT; echo sent; read -r line <&3; }\nexec 3<&0\nwork &\nwait\n")
    wait_sent(process, "function")
    process.kill()
    process.wait(DEADLINE_S)
    server.wait_applied()
    server.control.reconcile()
    assert (status_of(server, "function"), worker_of(server, "function")) == ("running", os.getpid())


def test_inside_of_exec_its_run_keeps_the_worker_that_exec_names(server, at_end):
    inner = server.folder / "inner.sh"
    inner.write_text("""printf '%s\\n' '{"type":"tick","run_id":"outer"}' '{"type":"run_started","run_id":"other"}' | "$TOOL" emit
                            "$TOOL" emit --type tick\n""")
    outer = start_script(server, at_end, "outer", f'bash {inner}\necho sent\nread -r line\n',
                         (str(TOOL), "exec", "--run-id", "outer", "--", "bash"))
    wait_sent(outer, "outer")
    server.wait_applied()
    server.control.reconcile()
    assert (status_of(server, "outer"), status_of(server, "other")) == ("running", "stuck")
    assert worker_of(server, "outer") != worker_of(server, "other")
    assert outer.communicate("\n", timeout=DEADLINE_S)[0] == ""
    server.wait_applied()
    assert status_of(server, "outer") == "completed"


def test_a_heartbeat_names_no_process_unless_told(server):
    for run_id, arguments, worker in (("r1", (), None), ("r2", ("--worker-pid", os.getpid()), os.getpid())):
        assert server.tool("emit", "--type", "run_heartbeat", "--run-id", run_id, *arguments).returncode == 0
        server.wait_applied()
        assert worker_of(server, run_id) == worker
    assert server.tool("emit", "--type", "run_started", "--run-id", "r3").returncode == 0
    assert server.tool("emit", "--type", "run_heartbeat", "--run-id", "r3").returncode == 0
    server.wait_applied()
    assert worker_of(server, "r3") == os.getpid()


def test_inside_of_exec_an_event_is_about_its_run(server):
    done = server.tool("exec", "--run-id", "outer", "--", str(TOOL), "emit", "--type", "progress", "--payload", '{"n":1}')
    assert done.returncode == 0, done.stderr
    server.wait_applied()
    types = [event["type"] for event in server.control.ok("GET", "/v1/runs/outer/events")["events"]]
    # Two connections, which have no order between them: the command may be quicker than the word that it began.
    assert sorted(types) == ["progress", "run_completed", "run_started"]


def test_standard_input_names_the_lines_refused_and_keeps_the_others(server):
    done = server.tool("emit", input='{"type":"run_started","run_id":"a"}\n'
                       '\n   \r\n'
                       'not json\n'
                       '{"type":"run_started"}\n'
                       '{"type":"run_completed","run_id":"a","result":1.10}\r\n'
                       '[1]\n'
                       '{"type":"run_started","run_id":"b"}')
    assert done.returncode == 1
    assert "line 4: invalid_json: " in done.stderr
    assert re.search(r"line 5: invalid_event: .*run_id", done.stderr)
    assert "line 7: invalid_event: " in done.stderr
    assert "line 1:" not in done.stderr
    assert "3 events acknowledged, 3 refused" in done.stderr
    server.wait_applied()
    assert server.control.run("a")["status"] == "completed"
    assert server.control.run("b")["status"] == "running"


def spawn(server, at_end, stderr, **more):
    process = subprocess.Popen([str(TOOL), "emit", "--socket", str(server.socket_path)], stdin=subprocess.PIPE,
                               stderr=stderr, text=True, env={**clean_environment(), **more})
    at_end(lambda: (process.kill(), process.wait(), process.stdin.close()))
    return process


def write_line(server, process, line, run_id):
    process.stdin.write(line + f'{{"type":"run_started","run_id":"{run_id}"}}\n')
    process.stdin.flush()
    wait_until(lambda: server.control.get(f"/v1/runs/{run_id}").status == 200, f"run {run_id}")


def test_a_stalled_reader_of_standard_error_does_not_stop_events(server, at_end):
    pipe = StandingPipe()
    at_end(pipe.close)
    process = spawn(server, at_end, pipe.fill().write, RUN_RECORDER_NONSENSE="1")
    write_line(server, process, "not json\n", "first")
    write_line(server, process, "not json\n", "second")
    process.stdin.close()
    wait_until(lambda: pipe.read().endswith("2 events acknowledged, 2 refused\n"), "the words")
    assert process.wait(DEADLINE_S) == 1
    assert re.search(r"(?s)RUN_RECORDER_NONSENSE.*line 1: invalid_json.*line 3: invalid_json", pipe.text)


def test_a_closed_standard_error_pipe_does_not_stop_events(server, at_end):
    reading, writing = os.pipe()
    os.close(reading)
    process = spawn(server, at_end, writing)
    os.close(writing)
    write_line(server, process, "not json\n", "first")
    write_line(server, process, "not json\n", "second")
    process.stdin.close()
    assert process.wait(DEADLINE_S) == 1


def test_a_byte_order_mark_in_front_of_a_line_is_named(server):
    with server.client() as client:
        client.queue_bytes(b'\xef\xbb\xbf{"type":"run_started","run_id":"r1"}\n{"type":"run_started","run_id":"r2"}\n')
        client.settle(2)
        assert client.codes() == {1: "invalid_json"}
        assert "byte order mark" in client.refusals[1]["message"]


def test_many_lines_arrive_exactly_once_and_in_order(server):
    count = 20_000
    done = server.tool("emit", input=numbered(count))
    assert (done.returncode, done.stderr) == (0, "")
    status = server.wait_applied()
    assert status["applied"] == count
    assert status["duplicate"] == 0
    numbers = [int(event["payload"]["n"]) for event in server.database.events()["r3"]]
    assert numbers == list(range(3, count, 7))


def test_a_line_that_is_too_long_is_refused_and_the_next_is_not(server):
    long = json.dumps({"type": "progress", "run_id": "r1", "payload": {"text": "x" * (2 << 20)}})
    endless = "y" * (17 << 20)
    done = server.tool("emit", input=f'{long}\n{endless}\n{{"type":"run_started","run_id":"r1"}}\n')
    assert done.returncode == 1
    assert "line 1: too_large: " in done.stderr
    assert "line 2: too_large: " in done.stderr
    assert "1 event acknowledged" in done.stderr


def test_usage_mistakes_end_with_2_and_send_nothing(server):
    for arguments in (("--run-id", "r1"), ("--type", "x"), ("--type", "x", "--run-id", "r", "--payload", "{no"),
                      ("--type", "x", "--run-id", "r", "--attempt", "many"), ("--nonsense",), ("positional",),
                      ("--worker-pid", "5", "--no-worker-pid"), ("--wait", "soon"),
                      ("--type", "x", "--run-id", "r", "--usage", "12 tokens"), ("--queue", "default"),
                      ("--type", "x", "--run-id", "r", "--progress", "3/"), ("--type", "x", "--run-id", "r", "--progress", "half"),
                      ("--type", "run_started", "--run-id", "r", "--host", ""),
                      ("--type", "run_started", "--run-id", "r", "--cwd", "/" * 1025),
                      ("--type", "x", "--run-id", "r", "--progress", "-1/3"), ("--type", "x", "--run-id", "r", "--progress", "1/-3"),
                      ("--type", "x", "--run-id", "r", "--progress", '{"done":-1}'),
                      ("--type", "x", "--run-id", "r", "--progress", '{"total":3}'), ("--type", "x", "--run-id", "r", "--progress", "3"),
                      ("--type", "x", "--run-id", "r", "--expires-in", "soon"),
                      ("--type", "x", "--run-id", "r", "--expires-in", "1500ms")):
        done = server.tool("emit", *arguments, input="")
        assert done.returncode == 2, (arguments, done.stderr)
        assert done.stderr, arguments
    assert server.status()["accepted"] == 0


def test_an_event_that_is_refused_ends_with_1_and_says_why(server):
    done = server.tool("emit", "--type", "run_stuck", "--run-id", "r1")
    assert done.returncode == 1
    assert "refused: invalid_event: " in done.stderr


def test_a_restart_of_the_daemon_in_the_middle_loses_and_doubles_nothing(server):
    with subprocess.Popen([str(TOOL), "emit", "--socket", str(server.socket_path), "--wait", "60s"],
                          stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment()) as emit:
        lines = numbered(6_000).splitlines(keepends=True)
        for part in range(3):
            emit.stdin.write("".join(lines[part * 2_000:(part + 1) * 2_000]))
            emit.stdin.flush()
            wait_until(lambda: server.status()["accepted"] > part * 2_000, "some events to be accepted")
            server.kill()
            server.start()
        _, stderr = emit.communicate(timeout=DEADLINE_S)
        assert (emit.returncode, stderr) == (0, "")
    status = server.wait_applied()
    assert status["applied"] == 6_000
    numbers = sorted(int(event["payload"]["n"]) for events in server.database.events().values() for event in events)
    assert numbers == list(range(6_000))


# ---- to a scripted server


@pytest.fixture
def scripted(at_end):
    """scripted(answer) is a ScriptedServer."""
    def make(answer):
        server = ScriptedServer(answer)
        at_end(server.close)
        return server
    return make


def test_without_a_daemon_it_ends_with_69_at_once():
    folder = temporary_folder()
    stale = folder / "stale.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(stale))
    for path in (folder / "nothing.sock", stale):
        for arguments, text in ((("--type", "x", "--run-id", "r"), None), ((), '{"type":"x","run_id":"r"}\n')):
            done = subprocess.run([str(TOOL), "emit", "--socket", str(path), *arguments], input=text, text=True,
                                  capture_output=True, timeout=DEADLINE_S, check=False, env=clean_environment())
            assert done.returncode == 69, done.stderr
            assert str(path) in done.stderr


def test_every_field_has_a_flag(scripted):
    server = scripted(lambda _, line, text: acked(line))
    for flags, fields in (
            (("run_started", "--queue", "river", "--job-id", "a-7", "--expires-in", "90"),
             {"queue": "river", "job_id": "a-7", "expires_in": 90}),
            (("run_queued", "--host", "h1", "--unit", "a.service", "--user", "worker", "--cwd", "/srv", "--command", "make all"),
             {"host": "h1", "unit": "a.service", "user": "worker", "cwd": "/srv", "command": "make all"}),
            (("run_heartbeat", "--expires-in", "5m", "--progress", "3/10", "--usage", '{"input_tokens":\n12}'),
             {"expires_in": 300, "progress": {"done": 3, "total": 10}, "usage": {"input_tokens": 12}}),
            (("run_completed", "--job-state", "completed"), {"job_state": "completed"}),
            (("run_lost", "--message", 'no "outcome"'), {"message": 'no "outcome"'}),
            (("tick", "--progress", '{"done":1,"unit":"files"}'), {"progress": {"done": 1, "unit": "files"}})):
        done = server.emit("--no-worker-pid", "--run-id", "r1", "--id", "e1", "--type", *flags)
        assert done.returncode == 0, done.stderr
        assert server.lines[-1][1] == {"type": flags[0], "run_id": "r1", "id": "e1", **fields}


def test_what_was_not_acknowledged_is_sent_again_with_the_same_ids(scripted):
    # The first three connections break off at their 20th line, having settled 10.
    def answer(connection, line, _):
        if connection > 3:
            return acked(line)
        return None if line == 20 else acked(line) if line <= 10 else b""
    server = scripted(answer)
    done = server.emit(input=numbered(100))
    assert (done.returncode, done.stderr) == (0, "")
    assert server.connections == 4
    ids = {}
    for _, event in server.lines:
        ids.setdefault(event["payload"]["n"], set()).add(event["id"])
    assert set(ids) == set(range(100))
    assert all(len(found) == 1 for found in ids.values()), "a resent event kept its id"


def test_lines_that_were_read_are_sent_when_one_answer_settles_all_before_them(scripted):
    """More lines than are on their way at a time, all of them read; nothing comes from standard input any more."""
    sent = 9_000
    server = scripted(lambda _, line, text: acked(line) if line % 4_096 == 0 or line == sent else b"")
    done = server.emit("--wait", "60s", input="{}\n" * sent)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(server.lines) == sent


def test_a_full_spool_is_tried_again_until_there_is_room(scripted):
    server = scripted(lambda _, line, text: refused(line, b"spool_full") if line <= 5 else acked(line))
    done = server.emit(input=numbered(3))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(server.lines) > 3
    assert {event["payload"]["n"] for _, event in server.lines} == {0, 1, 2}


def test_a_full_spool_is_no_daemon_that_is_away_however_much_waits_behind(scripted):
    server = scripted(lambda _, line, text: refused(line, b"spool_full"))
    line = '{"type":"x","run_id":"r","payload":{"text":"%s"}}\n' % ("x" * 1000)
    for lines in (1, 2_000):  # more than is sent at once
        done = server.emit("--wait", "3s", input=line * lines)
        assert done.returncode == 1, done.stderr[-300:]
        assert "line 1: spool_full: as the test says" in done.stderr
        assert "0 events acknowledged" in done.stderr and "stopped: line 1 and what follows it was not acknowledged" in done.stderr


def test_a_spool_that_stays_full_is_given_up_and_the_lines_are_named(scripted):
    server = scripted(lambda _, line, text: refused(line, b"spool_full"))
    for wait in ("0s", "2s"):
        done = server.emit("--wait", wait, input=numbered(2))
        assert done.returncode == 1, done.stderr
        assert "line 1: spool_full: as the test says" in done.stderr
        assert "line 2: spool_full: as the test says" in done.stderr


def test_waiting_for_a_lost_daemon_ends(scripted):
    server = None

    def answer(_, line, text):
        if line == 3:
            server.close()
            os.unlink(server.path)
            return None
        return acked(line)
    server = scripted(answer)
    done = server.emit("--wait", "3s", input=numbered(5))
    assert done.returncode == 69, done.stderr
    assert "line 3 and what follows it was not acknowledged" in done.stderr


def test_a_sender_that_may_not_send_ends_with_1():
    folder = temporary_folder()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(folder / "events.sock"))
        listener.listen()
        with subprocess.Popen([str(TOOL), "emit", "--socket", str(folder / "events.sock"), "--type", "x", "--run-id", "r"],
                              stderr=subprocess.PIPE, text=True, env=clean_environment()) as emit:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b'{"error":{"line":0,"code":"forbidden","message":"user x may not send"}}\n')
            _, stderr = emit.communicate(timeout=DEADLINE_S)
    assert emit.returncode == 1, stderr
    assert "user x may not send" in stderr


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
def test_a_socket_closed_to_this_user_ends_with_1(scripted):
    server = scripted(lambda _, line, text: acked(line))
    os.chmod(server.path, 0o600)
    done = subprocess.run([str(TOOL), "emit", "--socket", str(server.path), "--type", "x", "--run-id", "r"], user="nobody",
                          group="nogroup", extra_groups=[],
                          capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=clean_environment())
    assert done.returncode == 1, done.stderr
    assert "may not send" in done.stderr


def test_lines_go_out_as_they_come(scripted):
    server = scripted(lambda _, line, text: acked(line))
    with subprocess.Popen([str(TOOL), "emit", "--socket", str(server.path)], stdin=subprocess.PIPE, text=True,
                          env=clean_environment()) as emit:
        for count in (1, 2, 3):
            emit.stdin.write(f'{{"type":"x","run_id":"r{count}"}}\n')
            emit.stdin.flush()
            wait_until(lambda: len(server.lines) == count, "the line to arrive while standard input stays open")
        emit.stdin.close()
        assert emit.wait(DEADLINE_S) == 0


def test_waiting_for_a_hung_daemon_ends():
    path = temporary_folder() / "events.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        took = []
        for _ in range(3):  # what a busy machine may add; without the bound each takes ten seconds
            began = time.monotonic()
            done = subprocess.run([str(TOOL), "emit", "--socket", str(path), "--wait", "1s", "--type", "x", "--run-id", "r"],
                                  capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=clean_environment())
            took.append(time.monotonic() - began)
            assert done.returncode == 69, done.stderr
            assert "the daemon has not answered for" in done.stderr
            if took[-1] < 9:
                break
    assert min(took) < 9


def closed(closing, server, *arguments, input=None):
    return subprocess.run(["sh", "-c", f'exec "$@" {closing}', "sh", str(TOOL), "emit", "--socket", str(server.path),
                           *arguments], input=input, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=DEADLINE_S, check=False, env=clean_environment())


def test_a_closed_standard_error_never_sends_complaints_as_events(scripted):
    received = []

    def answer(_, line, text):
        received.append(text)
        return refused(line, b"invalid_event") if line == 1 else acked(line)
    server = scripted(answer)
    done = closed("2>&-", server, "--wait", "0s", input=numbered(2) + "x" * (17 << 20) + "\n" + numbered(2))
    assert done.returncode == 1
    assert [json.loads(text)["type"] for text in received] == ["progress"] * 4


def test_a_closed_standard_input_is_an_error_and_a_closed_output_is_none(scripted):
    server = scripted(lambda _, line, text: acked(line))
    done = closed("<&-", server)
    assert done.returncode == 1
    assert "read standard input: Bad file descriptor" in done.stderr
    assert closed(">&-", server, input=numbered(1)).returncode == 0


def test_a_byte_order_mark_before_the_first_line_is_left_out(scripted):
    received = []

    def answer(_, line, text):
        received.append(text)
        return acked(line)
    server = scripted(answer)
    done = server.emit(input="\ufeff" + numbered(2))
    assert (done.returncode, done.stderr) == (0, "")
    assert [text[:1] for text in received] == [b"{", b"{"]


def test_interrupted_it_dies_of_the_signal(scripted):
    server = scripted(lambda _, line, text: b"")
    with subprocess.Popen([str(TOOL), "emit", "--socket", str(server.path)], stdin=subprocess.PIPE, text=True,
                          env=clean_environment()) as emit:
        emit.stdin.write('{"type":"x","run_id":"r"}\n')
        emit.stdin.flush()
        wait_until(lambda: server.lines, "the line to arrive")
        emit.send_signal(signal.SIGINT)
        assert emit.wait(DEADLINE_S) == -signal.SIGINT
