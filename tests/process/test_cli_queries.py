"""run-recorder's commands that look and act over the control socket: list, show, events, chain, explain, reconcile, dead-letters,
spool, status, stats, watch; tables, --json, exit codes."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time
import unittest

from harness import DEADLINE_S, TOOL, OnSqlite, ProcessTest, temporary_folder, wait_until

ALL_COMMANDS = ("list", "show r1", "events r1", "chain r1", "explain r1", "reconcile", "reconcile --undo p", "reconciliations",
                "dead-letters list", "dead-letters show 1", "dead-letters retry 1", "dead-letters delete 1", "status", "stats",
                "watch", "list --follow")


def clean_environment(**more):
    return {**{key: value for key, value in os.environ.items() if not key.startswith("RUN_RECORDER_")}, **more}


def json_lines(text):
    return [json.loads(line) for line in text.split("\n") if line.strip()]


class Queries(OnSqlite, ProcessTest):
    def setUp(self):
        super().setUp()
        self.server = self.daemon_with_database({"reconcile": {"grace": "1ms", "interval": "0s"}}).start().wait_boot_pass()

    def tool(self, *arguments, status=0, **options):
        done = self.server.tool(*arguments, **options)
        self.assertEqual(done.returncode, status, (arguments, done.stdout, done.stderr))
        return done

    def json(self, *arguments, **options):
        return json_lines(self.tool(*arguments, "--json", **options).stdout)

    def send_some(self):
        self.server.send(
            {"type": "run_started", "run_id": "a", "council": "backup", "input": {"n": 1}, "at": "2026-01-02T03:04:05Z"},
            {"type": "run_completed", "run_id": "a", "result": {"files": 42}, "at": "2026-01-02T03:04:07Z"},
            {"type": "run_started", "run_id": "b/1 ü", "council": "import", "oban_job_id": 7},
            {"type": "run_failed", "run_id": "b/1 ü", "errors": [{"kind": "exit", "message": "exited with status 3"}]},
            {"type": "run_started", "run_id": "b2", "council": "import", "oban_job_id": 7, "attempt": 2,
             "parent_attempt_run_id": "b/1 ü"},
            {"type": "progress", "run_id": "b2", "payload": {"big": 1e300}},
            {"type": "run_queued", "run_id": "c", "council": "later"})

    def test_list_shows_a_table_and_with_json_the_daemons_objects(self):
        self.send_some()
        lines = self.tool("list").stdout.splitlines()
        self.assertEqual(lines[0].split(), ["RUN", "COUNCIL", "STATUS", "ATTEMPT", "JOB", "STARTED", "TOOK", "NOTE"])
        self.assertRegex(lines[-1], r"^a +backup +completed +1 .* ago +2\.0 s$")
        self.assertIn("exited with status 3", "\n".join(lines))
        served = self.server.control.ok("GET", "/v1/runs")["runs"]
        self.assertEqual(self.json("list"), served)

    def test_list_filters_and_pages(self):
        self.send_some()

        def ids(*flags):
            return [run["run_id"] for run in self.json("list", *flags)]
        self.assertEqual(ids("--status", "failed,queued"), ["c", "b/1 ü"])
        self.assertEqual(ids("--status", "failed", "--status", "completed"), ["b/1 ü", "a"])
        self.assertEqual(ids("--council", "import"), ["b2", "b/1 ü"])
        self.assertEqual(ids("--oban-job-id", 7), ["b2", "b/1 ü"])
        self.assertEqual(ids("--limit", 2), ["c", "b2"])
        self.assertEqual(ids("--all"), ["c", "b2", "b/1 ü", "a"])
        self.assertEqual(ids("--since", "1h"), ["c", "b2", "b/1 ü", "a"])
        self.assertEqual(ids("--since", "2999-01-01T00:00:00Z"), [])
        self.assertIn("there are more", self.tool("list", "--limit", 2).stderr)
        self.assertIn("no such runs", self.tool("list", "--council", "none").stderr)
        self.assertIn("status", self.tool("list", "--status", "dead", status=2).stderr)
        self.tool("list", "--since", "yesterday", status=2)

    def bring_reports(self):
        time = "2026-01-02T03:04:05.000000Z"
        runs = (("text", "running", {"queue": "mail", "job_id": "9f8c", "expires_in": 300, "parent_attempt_run_id": "before",
                                     "usage": {"input_tokens": 1234567, "output_tokens": 890, "cost_usd": 0.125},
                                     "progress": {"done": 29, "total": 100, "unit": "rows"}}),
                ("number", "completed", {"job_id": "7", "oban_job_id": 7, "finalized_at": time,
                                         "usage": {"input_tokens": 3, "cost_usd": 0.1, "pages": 2}, "progress": {"done": 3}}),
                ("application", "running", {"oban_job_id": 7}))
        lines = [{"run": {"run_id": run_id, "council": "mails", "status": status, "inserted_at": time, "updated_at": time,
                          "last_event_at": time, "started_at": time, "last_seq": 0, **row}, "events": []} for run_id, status, row in runs]
        self.tool("import", input="\n".join(map(json.dumps, lines)))

    def test_runs_are_found_by_job_and_queue(self):
        self.bring_reports()

        def ids(*flags):
            return sorted(run["run_id"] for run in self.json("list", *flags))
        self.assertEqual(ids("--job", "9f8c"), ["text"])
        self.assertEqual(ids("--job", 7), ["application", "number"])
        self.assertEqual(ids("--job", "07"), [])
        self.assertEqual(ids("--queue", "mail"), ["text"])
        self.assertEqual(ids("--queue", "default"), ["application", "number"])
        served = self.server.control.ok("GET", "/v1/runs?job=9f8c&queue=mail")["runs"]
        self.assertEqual([(run["queue"], run["job_id"], run["expires_in"]) for run in served], [("mail", "9f8c", 300)])
        self.assertIn("job, queue", self.server.control.request("GET", "/v1/runs?jobs=7").text)

    def test_usage_and_progress_are_shown(self):
        self.bring_reports()
        shown = self.tool("show", "text").stdout
        for words in (r"queue +mail", r"job +9f8c", r"progress +29 of 100 rows \(29 %\)", r"expires +5 min after its last event",
                      r"  input_tokens +1,234,567", r"  cost_usd +0\.125"):
            self.assertRegex(shown, rf"(?m)^{words}$")
        self.assertRegex(self.tool("list", "--queue", "mail").stdout, r"(?m)^text .* 9f8c .* 29 of 100 rows \(29 %\)$")
        wide = self.tool("list", "--wide").stdout
        self.assertEqual(re.split(r"  +", wide.splitlines()[0].strip()),
                         ["RUN", "COUNCIL", "STATUS", "ATTEMPT", "JOB", "STARTED", "TOOK", "QUEUE", "PARENT", "RECORDED", "LAST EVENT",
                          "PROGRESS", "USAGE", "NOTE"])
        self.assertRegex(wide, r"(?m)^text .* mail +before .* 29 of 100 rows \(29 %\) +input_tokens 1,234,567, output_tokens 890, ")
        self.assertRegex(wide, r"(?m)^number .* 3 +input_tokens 3, cost_usd 0\.1, pages 2$")
        run = self.json("list", "--wide", "--job", "9f8c")[0]
        self.assertEqual(run["progress"], {"done": 29, "total": 100, "unit": "rows"})
        self.assertEqual(run["usage"], {"input_tokens": 1234567, "output_tokens": 890, "cost_usd": 0.125})

    def test_stats_sum_up_what_was_used(self):
        self.send_some()
        self.assertNotIn("TOKENS", self.tool("stats").stdout)
        self.bring_reports()
        stats = self.tool("stats").stdout
        self.assertIn("TOKENS IN  TOKENS OUT  COST USD", stats)
        self.assertRegex(stats, r"(?m)^mails .* 1,234,570 +890 +0\.225 ")
        used = {one["council"]: one["usage"] for one in self.json("stats")}
        self.assertEqual(used["mails"], {"input_tokens": 1234570, "output_tokens": 890, "cost_usd": 0.225, "pages": 2})
        self.assertIsNone(used["backup"])

    def test_more_runs_than_a_page_come_in_order_and_once(self):
        self.server.send(*({"type": "run_queued", "run_id": f"r{n:04}"} for n in range(950)))
        self.assertEqual([run["run_id"] for run in self.json("list", "--all")], [f"r{n:04}" for n in reversed(range(950))])
        self.assertEqual(len(self.json("list", "--limit", 450)), 450)
        self.assertEqual(len(self.tool("list", "--all").stdout.splitlines()), 951)

    def test_a_truncated_chain_is_reported(self):
        attempts = [{"type": "run_started", "run_id": f"r{n}", "council": "c", **({"parent_attempt_run_id": f"r{n - 1}"} if n else {})}
                    for n in range(1_001)]
        self.server.send(*attempts[:-1])
        self.assertEqual(self.tool("chain", "r0").stderr, "")
        self.server.send(attempts[-1])
        for arguments in (("chain", "r0"), ("chain", "r0", "--json")):
            done = self.tool(*arguments)
            self.assertIn("more attempts than the 1000 nearest to r0", done.stderr)
            self.assertNotIn("r1000", done.stdout)
        self.assertIn("r1000", self.tool("chain", "r999").stdout)

    def test_show_events_and_chain_of_a_run_with_any_id(self):
        self.send_some()
        shown = self.tool("show", "b/1 ü").stdout
        self.assertRegex(shown, r"(?m)^status +failed$")
        self.assertRegex(shown, r"(?m)^because +exited with status 3$")
        self.assertEqual(self.json("show", "b/1 ü")[0]["run_id"], "b/1 ü")
        self.assertIn('"files": 42', self.tool("show", "a").stdout)
        self.assertRegex(self.tool("events", "a").stdout, r"2 +2026-01-02 03:04:07\.000Z +\+2\.0 s +run_completed +applied")
        self.assertEqual([event["type"] for event in self.json("events", "b2")], ["run_started", "progress"])
        self.assertEqual([run["run_id"] for run in self.json("chain", "b2")], ["b/1 ü", "b2"])
        self.assertRegex(self.tool("chain", "b/1 ü").stdout, r"(?s)b/1 ü.*failed.*b2.*running")

    def test_not_found_ends_with_1(self):
        for command in ("show", "events", "chain", "explain"):
            done = self.tool(command, "nobody", status=1)
            self.assertIn("nobody", done.stderr)
            self.assertEqual(done.stdout, "")
        self.tool("reconcile", "--undo", "nobody", status=1)
        for action in ("show", "retry", "delete"):
            self.tool("dead-letters", action, "17", status=1)

    def test_stored_text_does_not_reach_the_terminal_as_commands(self):
        self.server.send({"type": "run_started", "run_id": "evil\x1b[2J", "council": "a\nb\x07\u202e"})
        for arguments in (("list",), ("show", "evil\x1b[2J"), ("events", "evil\x1b[2J"), ("stats",)):
            text = self.tool(*arguments).stdout
            self.assertNotRegex(text, "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")
            self.assertRegex(text, r"\\x1b\[2J|a\\nb\\(x07|u0007)")

    def stuck_run(self, *run_ids):
        """Nobody is left of it, and only a pass that is asked for finds it: the grace is long, and over by the row's time."""
        self.server.config["reconcile"]["grace"] = "1h"
        self.server.restart()
        self.server.wait_boot_pass()
        for run_id in run_ids or ("gone",):
            with subprocess.Popen(["true"]) as worker:
                worker.wait()
            self.tool("emit", "--type", "run_started", "--run-id", run_id, "--council", "lost", "--worker-pid", worker.pid)
        self.server.wait_applied()
        self.let_the_grace_pass()

    def let_the_grace_pass(self):
        self.server.database.execute("UPDATE council_ex_runs SET last_event_at = '2026-01-02T03:04:05.000000Z'")

    def test_explain_names_each_rule_and_the_verdict(self):
        self.stuck_run()
        text = self.tool("explain", "gone").stdout
        self.assertRegex(text, r"(?m)^verdict +stuck, process_gone$")
        self.assertRegex(text, r"(?m)^ +2 +worker_process +stuck +process_gone ")
        self.assertEqual(self.json("explain", "gone")[0]["verdict"], "stuck")

    def test_reconcile_reports_marks_and_is_undone(self):
        self.stuck_run()
        dry = self.tool("reconcile", "--dry-run").stdout
        self.assertRegex(dry, r"(?m)^marked stuck +none \(a dry run\)$")
        self.assertEqual(self.server.control.run("gone")["status"], "running")
        text = self.tool("reconcile").stdout
        self.assertRegex(text, r"(?m)^marked stuck +1$")
        self.assertRegex(text, r"(?m)^gone +lost .* stuck +process_gone$")
        self.assertEqual(self.server.control.run("gone")["status"], "stuck")
        passes = self.json("reconciliations")
        marking = [one["pass_id"] for one in passes if one["report"]["marked"] == 1]
        self.assertEqual(len(marking), 1)
        self.assertEqual([run["run_id"] for run in self.json("list", "--pass", marking[0])], ["gone"])
        self.assertIn(marking[0], self.tool("reconciliations").stdout)
        self.assertEqual(self.json("reconcile", "--undo", marking[0]), [{"pass_id": marking[0], "undone": 1, "moved": 0}])
        self.assertEqual(self.server.control.run("gone")["status"], "running")
        self.let_the_grace_pass()
        report = self.json("reconcile")[0]
        self.assertEqual((report["trigger"], report["marked"], report["reasons"]), ("request", 1, {"process_gone": 1}))
        self.tool("reconcile", "--undo", "x", "--dry-run", status=2)

    def test_the_breaker_stops_a_pass_and_force_overrides_it(self):
        self.stuck_run("gone", "gone2")
        self.server.config["reconcile"]["max_stuck"] = 1
        self.server.restart()
        self.server.wait_boot_pass()
        self.assertIn("--force", self.tool("reconcile", status=1).stderr)
        self.assertEqual(self.server.control.run("gone")["status"], "running")
        self.assertEqual(self.json("reconcile", "--force")[0]["marked"], 2)

    def test_status_adds_up_for_people_and_programs(self):
        self.send_some()
        self.server.wait_applied()
        text = self.tool("status").stdout
        self.assertIn("7 accepted = 7 applied + 0 duplicate + 0 waiting + 0 dead + 0 removed", text)
        self.assertRegex(text, r"(?m)^database +up since ")
        self.assertEqual(self.json("status")[0]["accepted"], 7)

    def test_stats_count_by_council(self):
        self.send_some()
        stats = {row["council"]: row for row in self.json("stats")}
        self.assertEqual(set(stats), {"backup", "import", "later"})
        self.assertEqual((stats["import"]["runs"], stats["import"]["failed"], stats["import"]["running"]), (2, 1, 1))
        self.assertEqual((stats["backup"]["p50_ms"], stats["backup"]["max_ms"]), (2000, 2000))
        self.assertRegex(self.tool("stats").stdout, r"(?m)^backup +1 +1 +- .* 2\.0 s ")

    def test_spool_is_read_beside_the_daemon_and_without_it(self):
        self.send_some()
        self.server.wait_applied()
        flags = ("--spool-path", self.server.spool_path)
        for _ in range(2):
            report = self.json("spool", "verify", *flags)[0]
            self.assertEqual((report["records"], report["sound"], report["lost_records"]), (7, True, 0))
            self.assertEqual(report["holder_pid"] is not None, self.server.alive())
            self.assertIn("every record is whole", self.tool("spool", "verify", *flags).stdout)
            self.assertEqual(self.json("spool", "status", *flags)[0]["id"], report["id"])
            self.assertIn("recorder", self.tool("spool", "status", *flags).stdout)
            self.assertEqual(len(self.json("spool", "list", *flags)), len(report["segments"]))
            self.assertIn("SEGMENT", self.tool("spool", "list", *flags).stdout)
            records = self.json("spool", "records", *flags)
            self.assertEqual([record["seq"] for record in records], list(range(1, 8)))
            self.assertEqual(records[0]["event"]["run_id"], "a")
            self.assertEqual(len(self.json("spool", "records", "--from", 6, *flags)), 2)
            self.server.stop()
        self.tool("spool", "status", "--spool-path", self.server.folder / "nothing", status=69)
        segment = max(self.server.spool_path.glob("*.seg"), key=lambda path: path.stat().st_size)
        with open(segment, "r+b") as file:
            file.seek(segment.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 0xFF]))
        self.assertIn("damaged", self.tool("spool", "verify", *flags, status=1).stdout)

    def test_list_follow_prints_each_change_as_it_comes(self):
        self.server.send({"type": "run_started", "run_id": "old"})
        with subprocess.Popen([str(TOOL), "list", "--follow", "--json", "--interval", "20ms", "--control",
                               str(self.server.control_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=clean_environment()) as follow:
            def next_change():
                run = json.loads(follow.stdout.readline())
                return run["run_id"], run["status"]
            self.assertEqual(next_change(), ("old", "running"))
            self.server.send({"type": "run_started", "run_id": "new"})
            self.assertEqual(next_change(), ("new", "running"))
            self.server.restart()
            self.server.send({"type": "run_completed", "run_id": "old"})
            self.assertEqual(next_change(), ("old", "completed"))
            follow.send_signal(signal.SIGINT)
            self.assertEqual(follow.wait(DEADLINE_S), -signal.SIGINT)

    def test_list_follow_and_watch_end_with_the_reader_of_their_output(self):
        self.server.send({"type": "run_started", "run_id": "r1"})
        for command in (("list", "--follow"), ("watch",)):
            with subprocess.Popen([str(TOOL), *command, "--json", "--interval", "1h", "--control", str(self.server.control_path)],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment()) as follow:
                try:
                    self.assertIn("r1", follow.stdout.readline())
                    follow.stdout.close()
                    self.assertEqual(follow.wait(DEADLINE_S), -signal.SIGPIPE)
                    self.assertEqual(follow.stderr.read(), "")
                finally:
                    follow.kill()

    def test_a_closed_standard_output_is_an_error(self):
        self.server.send({"type": "run_started", "run_id": "r1"})
        for command in ("list", "list --follow", "watch", "status", "stats"):
            done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", str(TOOL), *command.split(), "--control",
                                   str(self.server.control_path)], stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S,
                                  check=False, env=clean_environment())
            self.assertIn(done.returncode, (1, -signal.SIGPIPE), (command, done.stderr))

    def test_a_closed_pipe_ends_it_quietly(self):
        self.server.send(*({"type": "run_queued", "run_id": f"r{n}"} for n in range(2_000)))
        with subprocess.Popen([str(TOOL), "list", "--all", "--json", "--control", str(self.server.control_path)],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment()) as process:
            process.stdout.readline()
            process.stdout.close()
            self.assertEqual((process.wait(DEADLINE_S), process.stderr.read()), (-signal.SIGPIPE, b""))

    def test_a_full_disk_is_an_error(self):
        self.send_some()
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([str(TOOL), "list", "--control", str(self.server.control_path)], stdout=full,
                                  stderr=subprocess.PIPE, text=True, env=clean_environment(), timeout=DEADLINE_S, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("standard output", done.stderr)


class Terminal(OnSqlite, ProcessTest):
    """What is different on a terminal."""

    def on_terminal(self, server, *arguments, columns=100, wait_for=None, **environment):
        pid, terminal = pty.fork()
        if pid == 0:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            os.execve(str(TOOL), [str(TOOL), *arguments, "--control", str(server.control_path)],
                      clean_environment(TERM="xterm", **environment))
        output, end = b"", time.monotonic() + DEADLINE_S
        while wait_for is None or wait_for not in output:
            self.assertLess(time.monotonic(), end, output)
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            try:
                output += os.read(terminal, 65536)
            except OSError:
                break
        if wait_for is not None:
            os.kill(pid, signal.SIGTERM)
        os.close(terminal)
        os.waitpid(pid, 0)
        return output.decode()

    def test_stored_text_cannot_control_the_terminal(self):
        server = self.daemon_with_database().start()
        commands = "\x7f\x80\x85\x9b\x9f\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069\ufeff"
        event = {"type": "run_failed", "run_id": f"r{commands}1", "errors": [f"e{commands}1"]}
        server.send(event, {"type": "run_started", "run_id": "c", "council": f"c{commands}1"})
        server.wait_applied()
        for arguments in (("list",), ("list", "--json"), ("show", event["run_id"], "--json"),
                          ("events", event["run_id"], "--json"), ("spool", "records", "--spool-path", str(server.spool_path)),
                          ("spool", "records", "--json", "--spool-path", str(server.spool_path)), ("stats",),
                          ("stats", "--json"), ("show", f"none{commands}")):
            shown = self.on_terminal(server, *arguments, columns=400, NO_COLOR="1")
            self.assertEqual([c for c in commands if c in shown], [], (arguments, shown))
        # Read back from the terminal it is the JSON that a program gets, byte for byte, through a pipe.
        on_terminal = self.on_terminal(server, "list", "--json")
        piped = server.tool("list", "--json").stdout
        self.assertEqual(json_lines(on_terminal), json_lines(piped))
        self.assertIn("\u202e", piped)

    def test_tables_fit_and_have_colours_unless_no_color(self):
        server = self.daemon_with_database().start()
        server.send({"type": "run_started", "run_id": "r1", "council": "a-council-with-a-long-name-" * 5},
                    {"type": "run_failed", "run_id": "r1", "errors": ["a long story about what went wrong " * 5]})
        coloured = self.on_terminal(server, "list")
        self.assertIn("\x1b[31mfailed", coloured)
        plain = self.on_terminal(server, "list", NO_COLOR="1")
        self.assertNotIn("\x1b", plain)
        for columns in (60, 80, 100, 200):
            text = self.on_terminal(server, "list", columns=columns, NO_COLOR="1")
            self.assertLessEqual(max(len(line) for line in text.splitlines()), columns)
            self.assertIn("failed", text)
        self.assertEqual(re.sub(r"\x1b\[\d+m", "", coloured), plain)
        self.assertNotIn("\x1b", server.tool("list").stdout)

    def test_all_tables_fit_with_ids_as_they_are_in_practice(self):
        server = self.daemon_with_database({"reconcile": {"grace": "1ms"}}).start()
        wait_until(lambda: server.status()["reconciliation"]["boot_done"], "the boot pass")
        first, second = "01a20a80-56a7-764a-83ec-000000000001", "01a20a80-56a7-764a-83ec-000000000002"
        council = "MyApp.Councils.NightlyReport"
        error = {"kind": "exit", "message": "exited with status 3: there is no space left on that device any more"}
        server.send({"type": "run_started", "run_id": first, "council": council, "oban_job_id": 1002, "at": "2026-01-02T03:00:00Z"},
                    {"type": "run_failed", "run_id": first, "errors": [error], "at": "2026-01-02T03:05:36Z"},
                    {"type": "run_started", "run_id": second, "council": council, "attempt": 2, "worker_pid": 999999999,
                     "parent_attempt_run_id": first, "at": "2026-01-02T03:10:00Z"})
        server.wait_applied()
        for columns in (60, 80, 120):
            for command in ("list", f"chain {first}", f"events {first}", "stats", "reconcile --dry-run", "status", f"explain {first}",
                            "dead-letters list"):
                text = self.on_terminal(server, *command.split(), columns=columns, NO_COLOR="1")
                widest = max(text.splitlines(), key=len)
                if columns > 60 or command.split()[0] in ("list", "chain", "events"):
                    self.assertLessEqual(len(widest), columns, (command, widest))
        self.assertIn("TIMELINE", self.on_terminal(server, "events", first, columns=80, NO_COLOR="1"))
        self.assertIn("█", self.on_terminal(server, "chain", first, columns=80, NO_COLOR="1"))
        self.assertIn("█", self.on_terminal(server, "stats", columns=80, NO_COLOR="1"))

    def test_watch_refreshes_the_newest_runs(self):
        server = self.daemon_with_database().start()
        server.send({"type": "run_started", "run_id": "r1", "council": "demo"})
        text = self.on_terminal(server, "watch", "--interval", "10ms", wait_for=b"\x1b[J\x1b[H")
        self.assertIn("r1", text)
        self.assertIn("1 accepted", text)


class DaemonAway(ProcessTest):
    def run_tool(self, *arguments, **options):
        return subprocess.run([str(TOOL), *map(str, arguments)], capture_output=True, text=True, timeout=DEADLINE_S, check=False,
                              stdin=subprocess.DEVNULL, env=clean_environment(**options.pop("env", {})), **options)

    def test_without_a_daemon_every_command_ends_with_69_and_names_the_socket(self):
        folder = temporary_folder()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(folder / "stale.sock"))
        for path in (folder / "none.sock", folder / "stale.sock"):
            for command in ALL_COMMANDS:
                done = self.run_tool(*command.split(), "--control", path)
                self.assertEqual(done.returncode, 69, (command, done.stderr))
                self.assertIn(str(path), done.stderr)
                self.assertEqual(done.stdout, "")

    @unittest.skipIf(os.getuid() != 0, "needs root, to become somebody else")
    def test_a_control_socket_closed_to_this_user_names_the_group(self):
        folder = temporary_folder()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(folder / "control.sock"))
            listener.listen()
            os.chmod(folder / "control.sock", 0o660)
            done = self.run_tool("list", "--control", folder / "control.sock", user="nobody", group="nogroup",
                                 extra_groups=[])
        self.assertEqual(done.returncode, 1)
        self.assertIn("the group root", done.stderr)

    def test_mistakes_in_flags_end_with_2_and_in_the_configuration_with_78(self):
        for arguments in ((), ("nonsense",), ("show",), ("list", "--limit", "0"), ("list", "extra"), ("dead-letters",),
                          ("list", "--limit", "5", "--all"), ("spool", "nonsense"), ("list", "--control"), ("list", "--status", "done"),
                          ("watch", "--status", "running,done"), ("prune", "--status", "running"),
                          ("prune", "--older-than", "0s"), ("prune", "--older-than", "old")):
            done = self.run_tool(*arguments)
            self.assertEqual((done.returncode, done.stdout), (2, ""), arguments)
            self.assertTrue(done.stderr, arguments)
        self.assertIn("there is no command nonsense", self.run_tool("nonsense").stderr)
        self.assertEqual(self.run_tool("list", env={"RUN_RECORDER_LIMITS_DEPTH": "1"}).returncode, 78)
        self.assertEqual(self.run_tool("--config", "/nonexistent.toml", "emit", "--type", "x", "--run-id", "r").returncode, 78)

    def test_every_command_has_help(self):
        names = ["", "emit", "exec", "list", "show", "events", "chain", "explain", "watch", "stats", "status", "reconcile",
                 "reconciliations", "dead-letters", "dead-letters list", "dead-letters retry", "spool", "spool verify"]
        for name in names:
            done = self.run_tool(*name.split(), "--help")
            self.assertEqual((done.returncode, done.stderr), (0, ""), name)
            self.assertIn("Usage: ", done.stdout)
        self.assertRegex(self.run_tool("--version").stdout, r"^run-recorder \d+\.\d+")


if __name__ == "__main__":
    unittest.main()
