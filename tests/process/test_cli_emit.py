"""run-recorder emit: events from flags and from standard input, refusals by line, resending, exit codes."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

from harness import DEADLINE_S, TOOL, OnSqlite, ProcessTest, StandingPipe, temporary_folder, wait_until


class ScriptedServer:
    """A line server that answers as a test says: `answer(connection, line, text)` gives the bytes to send, or None to close the
    connection. For what a real daemon does only rarely: to break off, to be full, to say nothing."""

    def __init__(self, answer):
        self.path = temporary_folder() / "events.sock"
        self.answer = answer
        self.lines = []
        self.connections = 0
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        self.listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

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
        self.listener.close()


def take_interrupts():
    """As in the foreground, wherever the tests run: a shell keeps ignoring what it finds ignored."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def clean_environment():
    return {key: value for key, value in os.environ.items() if not key.startswith("RUN_RECORDER_")}


def acked(line):
    return b'{"acked":%d}\n' % line


def refused(line, code):
    return b'{"error":{"line":%d,"code":"%s","message":"as the test says"}}\n' % (line, code) + acked(line)


def numbered(count):
    return "".join(f'{{"type":"progress","run_id":"r{i % 7}","payload":{{"n":{i}}}}}\n' for i in range(count))


class EmitToDaemon(OnSqlite, ProcessTest):
    def setUp(self):
        super().setUp()
        self.server = self.daemon_with_database({"reconcile": {"grace": "1ms"}}).start().wait_boot_pass()

    def emit(self, *arguments, **options):
        return self.server.tool("emit", *arguments, **options)

    def test_flags_make_one_event_with_every_field(self):
        done = self.emit("--type", "run_started", "--run-id", "r/1 ü", "--id", "e1", "--at", "2026-01-02T03:04:05+01:00",
                         "--council", "demo", "--input", '{"big":\n 12345678901234567890.5}', "--attempt", 2,
                         "--parent-attempt-run-id", "r0", "--oban-job-id", 7)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        done = self.emit("--type", "run_failed", "--run-id", "r/1 ü", "--errors", '[{"kind":"exit","message":"no"}]',
                         "--result", "null")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.server.wait_applied()
        run = self.server.control.run("r/1 ü")
        self.assertEqual((run["status"], run["council"], run["attempt"], run["parent_attempt_run_id"], run["oban_job_id"]),
                         ("failed", "demo", 2, "r0", 7))
        self.assertEqual(run["started_at"], "2026-01-02T02:04:05.000000Z")
        self.assertIn("12345678901234567890.5", self.server.control.get("/v1/runs/r%2F1%20%C3%BC").text)
        self.assertEqual(run["error"], {"errors": [{"kind": "exit", "message": "no"}]})

    def test_the_caller_is_the_worker_unless_told_otherwise(self):
        self.assertEqual(self.emit("--type", "run_started", "--run-id", "caller").returncode, 0)
        self.assertEqual(self.emit("--type", "run_started", "--run-id", "none", "--no-worker-pid").returncode, 0)
        self.assertEqual(self.emit("--type", "run_started", "--run-id", "named", "--worker-pid", os.getppid()).returncode, 0)
        self.server.wait_applied()
        self.assertIn(f":{os.getpid()}:", self.server.control.run("caller")["worker_process"])
        self.assertIsNone(self.server.control.run("none")["worker_process"])
        self.assertIn(f":{os.getppid()}:", self.server.control.run("named")["worker_process"])

    def start_script(self, name, text, program=("bash",)):
        """Starts a script that says "sent" when it has sent, and then waits for a line."""
        path = self.server.folder / name
        path.write_text(text)
        process = subprocess.Popen([*program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                   env={**clean_environment(), "RUN_RECORDER_SOCKET_PATH": str(self.server.socket_path),
                                        "EMIT": f"{TOOL} emit --type run_started --run-id {name}", "TOOL": str(TOOL),
                                        "RUN": name}, preexec_fn=take_interrupts)
        self.addCleanup(lambda: (process.kill(), process.wait(), process.stdin.close(), process.stdout.close()))
        return process

    def wait_sent(self, process, name):
        line = process.stdout.readline()
        while line and line != "sent\n":  # what a terminal of script(1) says goes before it
            line = process.stdout.readline()
        self.assertEqual(line, "sent\n", name)

    def worker_of(self, run_id):
        worker = self.server.control.run(run_id)["worker_process"]
        return int(worker.split(":")[3]) if worker else None

    def status_of(self, run_id):
        return self.server.control.run(run_id)["status"]

    def test_by_default_the_worker_is_a_process_that_outlives_the_command(self):
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
        scripts = {f"{program}-{name}": self.start_script(f"{program}-{name}", f"{line}\necho sent\nread -r line\n", (program,))
                   for program in ("bash", "sh") for name, line in shell.items()}
        for name, line in python.items():
            scripts[name] = self.start_script(name, f'import os, subprocess\n{line}\nprint("sent", flush=True)\ninput()\n',
                                              (sys.executable,))
        for name, process in scripts.items():
            self.wait_sent(process, name)
        self.server.wait_applied()
        self.assertEqual({name: self.worker_of(name) for name in scripts}, {name: process.pid for name, process in scripts.items()})
        self.server.control.reconcile()
        self.assertEqual({name: self.status_of(name) for name in scripts}, dict.fromkeys(scripts, "running"))
        for process in scripts.values():
            process.kill()
            process.wait(DEADLINE_S)

        def all_found():
            self.server.control.reconcile()
            return all(self.status_of(name) == "stuck" for name in scripts)
        wait_until(all_found, "the runs of killed scripts to be stuck")
        for name in scripts:
            self.assertEqual(self.server.control.run(name)["error"]["reason"], "process_gone", name)

    def test_a_function_in_the_background_does_not_depend_on_its_script(self):
        process = self.start_script("function", "work() { $EMIT; echo sent; read -r line <&3; }\nexec 3<&0\nwork &\nwait\n")
        self.wait_sent(process, "function")
        process.kill()
        process.wait(DEADLINE_S)
        self.server.wait_applied()
        self.server.control.reconcile()
        self.assertEqual((self.status_of("function"), self.worker_of("function")), ("running", os.getpid()))

    def test_inside_of_exec_its_run_keeps_the_worker_that_exec_names(self):
        inner = self.server.folder / "inner.sh"
        inner.write_text("""printf '%s\\n' '{"type":"tick","run_id":"outer"}' '{"type":"run_started","run_id":"other"}' | "$TOOL" emit
                            "$TOOL" emit --type tick\n""")
        outer = self.start_script("outer", f'bash {inner}\necho sent\nread -r line\n',
                                  (str(TOOL), "exec", "--run-id", "outer", "--", "bash"))
        self.wait_sent(outer, "outer")
        self.server.wait_applied()
        self.server.control.reconcile()
        self.assertEqual((self.status_of("outer"), self.status_of("other")), ("running", "stuck"))
        self.assertNotEqual(self.worker_of("outer"), self.worker_of("other"))
        self.assertEqual(outer.communicate("\n", timeout=DEADLINE_S)[0], "")
        self.server.wait_applied()
        self.assertEqual(self.status_of("outer"), "completed")

    def test_a_heartbeat_names_no_process_unless_told(self):
        for run_id, arguments, worker in (("r1", (), None), ("r2", ("--worker-pid", os.getpid()), os.getpid())):
            self.assertEqual(self.emit("--type", "run_heartbeat", "--run-id", run_id, *arguments).returncode, 0)
            self.server.wait_applied()
            self.assertEqual(self.worker_of(run_id), worker)
        self.assertEqual(self.emit("--type", "run_started", "--run-id", "r3").returncode, 0)
        self.assertEqual(self.emit("--type", "run_heartbeat", "--run-id", "r3").returncode, 0)
        self.server.wait_applied()
        self.assertEqual(self.worker_of("r3"), os.getpid())

    def test_inside_of_exec_an_event_is_about_its_run(self):
        done = self.server.tool("exec", "--run-id", "outer", "--", str(TOOL), "emit", "--type", "progress", "--payload", '{"n":1}')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.server.wait_applied()
        types = [event["type"] for event in self.server.control.ok("GET", "/v1/runs/outer/events")["events"]]
        # Two connections, which have no order between them: the command may be quicker than the word that it began.
        self.assertCountEqual(types, ["run_started", "progress", "run_completed"])

    def test_standard_input_names_the_lines_refused_and_keeps_the_others(self):
        done = self.emit(input='{"type":"run_started","run_id":"a"}\n'
                               '\n   \r\n'
                               'not json\n'
                               '{"type":"run_started"}\n'
                               '{"type":"run_completed","run_id":"a","result":1.10}\r\n'
                               '[1]\n'
                               '{"type":"run_started","run_id":"b"}')
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"line 4: invalid_json: ")
        self.assertRegex(done.stderr, r"line 5: invalid_event: .*run_id")
        self.assertRegex(done.stderr, r"line 7: invalid_event: ")
        self.assertNotIn("line 1:", done.stderr)
        self.assertIn("3 events acknowledged, 3 refused", done.stderr)
        self.server.wait_applied()
        self.assertEqual(self.server.control.run("a")["status"], "completed")
        self.assertEqual(self.server.control.run("b")["status"], "running")

    def spawn(self, stderr, **more):
        process = subprocess.Popen([str(TOOL), "emit", "--socket", str(self.server.socket_path)], stdin=subprocess.PIPE,
                                   stderr=stderr, text=True, env={**clean_environment(), **more})
        self.addCleanup(lambda: (process.kill(), process.wait(), process.stdin.close()))
        return process

    def write_line(self, process, line, run_id):
        process.stdin.write(line + f'{{"type":"run_started","run_id":"{run_id}"}}\n')
        process.stdin.flush()
        wait_until(lambda: self.server.control.get(f"/v1/runs/{run_id}").status == 200, f"run {run_id}")

    def test_a_stalled_reader_of_standard_error_does_not_stop_events(self):
        pipe = StandingPipe()
        self.addCleanup(pipe.close)
        process = self.spawn(pipe.fill().write, RUN_RECORDER_NONSENSE="1")
        self.write_line(process, "not json\n", "first")
        self.write_line(process, "not json\n", "second")
        process.stdin.close()
        wait_until(lambda: pipe.read().endswith("2 events acknowledged, 2 refused\n"), "the words")
        self.assertEqual(process.wait(DEADLINE_S), 1)
        self.assertRegex(pipe.text, r"(?s)RUN_RECORDER_NONSENSE.*line 1: invalid_json.*line 3: invalid_json")

    def test_a_closed_standard_error_pipe_does_not_stop_events(self):
        reading, writing = os.pipe()
        os.close(reading)
        process = self.spawn(writing)
        os.close(writing)
        self.write_line(process, "not json\n", "first")
        self.write_line(process, "not json\n", "second")
        process.stdin.close()
        self.assertEqual(process.wait(DEADLINE_S), 1)

    def test_a_byte_order_mark_in_front_of_a_line_is_named(self):
        with self.server.client() as client:
            client.queue_bytes(b'\xef\xbb\xbf{"type":"run_started","run_id":"r1"}\n{"type":"run_started","run_id":"r2"}\n')
            client.settle(2)
            self.assertEqual(client.codes(), {1: "invalid_json"})
            self.assertIn("byte order mark", client.refusals[1]["message"])

    def test_many_lines_arrive_exactly_once_and_in_order(self):
        count = 20_000
        done = self.emit(input=numbered(count))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        status = self.server.wait_applied()
        self.assertEqual(status["applied"], count)
        self.assertEqual(status["duplicate"], 0)
        numbers = [int(event["payload"]["n"]) for event in self.server.database.events()["r3"]]
        self.assertEqual(numbers, list(range(3, count, 7)))

    def test_a_line_that_is_too_long_is_refused_and_the_next_is_not(self):
        long = json.dumps({"type": "progress", "run_id": "r1", "payload": {"text": "x" * (2 << 20)}})
        endless = "y" * (17 << 20)
        done = self.emit(input=f'{long}\n{endless}\n{{"type":"run_started","run_id":"r1"}}\n')
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"line 1: too_large: ")
        self.assertRegex(done.stderr, r"line 2: too_large: ")
        self.assertIn("1 event acknowledged", done.stderr)

    def test_usage_mistakes_end_with_2_and_send_nothing(self):
        for arguments in (("--run-id", "r1"), ("--type", "x"), ("--type", "x", "--run-id", "r", "--payload", "{no"),
                          ("--type", "x", "--run-id", "r", "--attempt", "many"), ("--nonsense",), ("positional",),
                          ("--worker-pid", "5", "--no-worker-pid"), ("--wait", "soon"),
                          ("--type", "x", "--run-id", "r", "--usage", "12 tokens"), ("--queue", "default"),
                          ("--type", "x", "--run-id", "r", "--progress", "3/"), ("--type", "x", "--run-id", "r", "--progress", "half"),
                          ("--type", "x", "--run-id", "r", "--expires-in", "soon"),
                          ("--type", "x", "--run-id", "r", "--expires-in", "1500ms")):
            done = self.emit(*arguments, input="")
            self.assertEqual(done.returncode, 2, (arguments, done.stderr))
            self.assertTrue(done.stderr, arguments)
        self.assertEqual(self.server.status()["accepted"], 0)

    def test_an_event_that_is_refused_ends_with_1_and_says_why(self):
        done = self.emit("--type", "run_stuck", "--run-id", "r1")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "refused: invalid_event: ")

    def test_a_restart_of_the_daemon_in_the_middle_loses_and_doubles_nothing(self):
        with subprocess.Popen([str(TOOL), "emit", "--socket", str(self.server.socket_path), "--wait", "60s"],
                              stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment()) as emit:
            lines = numbered(6_000).splitlines(keepends=True)
            for part in range(3):
                emit.stdin.write("".join(lines[part * 2_000:(part + 1) * 2_000]))
                emit.stdin.flush()
                wait_until(lambda: self.server.status()["accepted"] > part * 2_000, "some events to be accepted")
                self.server.kill()
                self.server.start()
            _, stderr = emit.communicate(timeout=DEADLINE_S)
            self.assertEqual((emit.returncode, stderr), (0, ""))
        status = self.server.wait_applied()
        self.assertEqual(status["applied"], 6_000)
        numbers = sorted(int(event["payload"]["n"]) for events in self.server.database.events().values() for event in events)
        self.assertEqual(numbers, list(range(6_000)))


class EmitToScript(ProcessTest):
    def scripted(self, answer):
        server = ScriptedServer(answer)
        self.addCleanup(server.close)
        return server

    def test_without_a_daemon_it_ends_with_69_at_once(self):
        folder = temporary_folder()
        stale = folder / "stale.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(stale))
        for path in (folder / "nothing.sock", stale):
            for arguments, text in ((("--type", "x", "--run-id", "r"), None), ((), '{"type":"x","run_id":"r"}\n')):
                done = subprocess.run([str(TOOL), "emit", "--socket", str(path), *arguments], input=text, text=True,
                                      capture_output=True, timeout=DEADLINE_S, check=False, env=clean_environment())
                self.assertEqual(done.returncode, 69, done.stderr)
                self.assertIn(str(path), done.stderr)

    def test_every_field_has_a_flag(self):
        server = ScriptedServer(lambda _, line, text: acked(line))
        self.addCleanup(server.close)
        for flags, fields in (
                (("run_started", "--queue", "river", "--job-id", "a-7", "--expires-in", "90"),
                 {"queue": "river", "job_id": "a-7", "expires_in": 90}),
                (("run_heartbeat", "--expires-in", "5m", "--progress", "3/10", "--usage", '{"input_tokens":\n12}'),
                 {"expires_in": 300, "progress": {"done": 3, "total": 10}, "usage": {"input_tokens": 12}}),
                (("run_completed", "--job-state", "completed"), {"job_state": "completed"}),
                (("run_lost", "--message", 'no "outcome"'), {"message": 'no "outcome"'}),
                (("tick", "--progress", '{"done":1,"unit":"files"}'), {"progress": {"done": 1, "unit": "files"}})):
            done = server.emit("--no-worker-pid", "--run-id", "r1", "--id", "e1", "--type", *flags)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(server.lines[-1][1], {"type": flags[0], "run_id": "r1", "id": "e1", **fields})

    def test_what_was_not_acknowledged_is_sent_again_with_the_same_ids(self):
        # The first three connections break off at their 20th line, having settled 10.
        def answer(connection, line, _):
            if connection > 3:
                return acked(line)
            return None if line == 20 else acked(line) if line <= 10 else b""
        server = self.scripted(answer)
        done = server.emit(input=numbered(100))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(server.connections, 4)
        ids = {}
        for _, event in server.lines:
            ids.setdefault(event["payload"]["n"], set()).add(event["id"])
        self.assertEqual(set(ids), set(range(100)))
        self.assertTrue(all(len(found) == 1 for found in ids.values()), "a resent event kept its id")

    def test_lines_that_were_read_are_sent_when_one_answer_settles_all_before_them(self):
        """More lines than are on their way at a time, all of them read; nothing comes from standard input any more."""
        sent = 9_000
        server = self.scripted(lambda _, line, text: acked(line) if line % 4_096 == 0 or line == sent else b"")
        done = server.emit("--wait", "60s", input="{}\n" * sent)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(len(server.lines), sent)

    def test_a_full_spool_is_tried_again_until_there_is_room(self):
        server = self.scripted(lambda _, line, text: refused(line, b"spool_full") if line <= 5 else acked(line))
        done = server.emit(input=numbered(3))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertGreater(len(server.lines), 3)
        self.assertEqual({event["payload"]["n"] for _, event in server.lines}, {0, 1, 2})

    def test_a_spool_that_stays_full_is_given_up_and_the_lines_are_named(self):
        server = self.scripted(lambda _, line, text: refused(line, b"spool_full"))
        for wait in ("0s", "2s"):
            done = server.emit("--wait", wait, input=numbered(2))
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertRegex(done.stderr, "line 1: spool_full: as the test says")
            self.assertRegex(done.stderr, "line 2: spool_full: as the test says")

    def test_waiting_for_a_lost_daemon_ends(self):
        server = None

        def answer(_, line, text):
            if line == 3:
                server.close()
                os.unlink(server.path)
                return None
            return acked(line)
        server = self.scripted(answer)
        done = server.emit("--wait", "3s", input=numbered(5))
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertRegex(done.stderr, "line 3 and what follows it was not acknowledged")

    def test_a_sender_that_may_not_send_ends_with_1(self):
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
        self.assertEqual(emit.returncode, 1, stderr)
        self.assertIn("user x may not send", stderr)

    @unittest.skipIf(os.getuid() != 0, "needs root, to become somebody else")
    def test_a_socket_closed_to_this_user_ends_with_1(self):
        server = self.scripted(lambda _, line, text: acked(line))
        os.chmod(server.path, 0o600)
        done = subprocess.run([str(TOOL), "emit", "--socket", str(server.path), "--type", "x", "--run-id", "r"], user="nobody",
                              group="nogroup", extra_groups=[],
                              capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=clean_environment())
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("may not send", done.stderr)

    def test_lines_go_out_as_they_come(self):
        server = self.scripted(lambda _, line, text: acked(line))
        with subprocess.Popen([str(TOOL), "emit", "--socket", str(server.path)], stdin=subprocess.PIPE, text=True,
                              env=clean_environment()) as emit:
            for count in (1, 2, 3):
                emit.stdin.write(f'{{"type":"x","run_id":"r{count}"}}\n')
                emit.stdin.flush()
                wait_until(lambda: len(server.lines) == count, "the line to arrive while standard input stays open")
            emit.stdin.close()
            self.assertEqual(emit.wait(DEADLINE_S), 0)

    def test_waiting_for_a_hung_daemon_ends(self):
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
                self.assertEqual(done.returncode, 69, done.stderr)
                self.assertIn("the daemon has not answered for", done.stderr)
                if took[-1] < 9:
                    break
        self.assertLess(min(took), 9)

    def closed(self, closing, server, *arguments, input=None):
        return subprocess.run(["sh", "-c", f'exec "$@" {closing}', "sh", str(TOOL), "emit", "--socket", str(server.path),
                               *arguments], input=input, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=DEADLINE_S, check=False, env=clean_environment())

    def test_a_closed_standard_error_never_sends_complaints_as_events(self):
        received = []

        def answer(_, line, text):
            received.append(text)
            return refused(line, b"invalid_event") if line == 1 else acked(line)
        server = self.scripted(answer)
        done = self.closed("2>&-", server, "--wait", "0s", input=numbered(2) + "x" * (17 << 20) + "\n" + numbered(2))
        self.assertEqual(done.returncode, 1)
        self.assertEqual([json.loads(text)["type"] for text in received], ["progress"] * 4)

    def test_a_closed_standard_input_is_an_error_and_a_closed_output_is_none(self):
        server = self.scripted(lambda _, line, text: acked(line))
        done = self.closed("<&-", server)
        self.assertEqual(done.returncode, 1)
        self.assertIn("read standard input: Bad file descriptor", done.stderr)
        self.assertEqual(self.closed(">&-", server, input=numbered(1)).returncode, 0)

    def test_a_byte_order_mark_before_the_first_line_is_left_out(self):
        received = []

        def answer(_, line, text):
            received.append(text)
            return acked(line)
        server = self.scripted(answer)
        done = server.emit(input="\ufeff" + numbered(2))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual([text[:1] for text in received], [b"{", b"{"])

    def test_interrupted_it_dies_of_the_signal(self):
        server = self.scripted(lambda _, line, text: b"")
        with subprocess.Popen([str(TOOL), "emit", "--socket", str(server.path)], stdin=subprocess.PIPE, text=True,
                              env=clean_environment()) as emit:
            emit.stdin.write('{"type":"x","run_id":"r"}\n')
            emit.stdin.flush()
            wait_until(lambda: server.lines, "the line to arrive")
            emit.send_signal(signal.SIGINT)
            self.assertEqual(emit.wait(DEADLINE_S), -signal.SIGINT)


if __name__ == "__main__":
    unittest.main()
