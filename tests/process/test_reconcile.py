"""Reconciliation by processes, senders and time, on both databases: every verdict that needs no queue."""

import json
import os
import signal
import subprocess
import sys
import unittest
from pathlib import Path

from harness import TOOL, OnPostgres, OnSqlite, ProcessTest, as_root, merged, wait_until
from oracle import Oracle

SENDER = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.stdin.buffer.read())
s.shutdown(socket.SHUT_WR)
answers = s.makefile().read()
assert '"error"' not in answers, answers
"""

# The first process of a PID namespace: starts a worker there, and names it by the pid that it has there.
NAMESPACE_WORKER = """
import json, signal, socket, subprocess, sys
worker = subprocess.Popen(["sleep", "1000"])
assert worker.pid < 100, worker.pid
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
event = {"type": "run_started", "run_id": "contained", "worker_pid": worker.pid}
s.sendall(json.dumps(event).encode() + b"\\n")
assert s.recv(100) == b'{"acked":1}\\n'
print("sent", flush=True)
signal.pause()
"""


def send_and_exit(server, *events):
    """A sender that is gone when this returns."""
    lines = "".join(json.dumps(event) + "\n" for event in events)
    subprocess.run([sys.executable, "-c", SENDER, str(server.socket_path)], input=lines, text=True, check=True)


def started(run_id, **fields):
    return {"type": "run_started", "run_id": run_id, "council": "demo", **fields}


def worker(test):
    process = subprocess.Popen(["sleep", "1000"])

    def end():
        process.kill()
        process.wait()
    test.addCleanup(end)
    process.end = end
    return process


def check_counts(test, report):
    """The counts of a report add up (the contract's section 6)."""
    test.assertEqual(report["examined"],
                     sum(report[part] for part in ("alive", "stuck", "unknown", "raced", "foreign")), report)
    test.assertEqual(sum(report["reasons"].values()), report["examined"] - report["alive"], report)
    if not report.get("truncated"):
        test.assertEqual(len(report["runs"]), report["examined"] - report["alive"], report)
    for name in ("pass_id", "trigger", "dry_run", "stopped", "started_at", "finished_at", "marked", "deferred"):
        test.assertIn(name, report)
    for run in report["runs"]:
        for name in ("run_id", "council", "attempt", "oban_job_id", "age_seconds", "verdict", "reason"):
            test.assertIn(name, run)


def verdicts(report):
    return {run["run_id"]: (run["verdict"], run["reason"]) for run in report["runs"]}


MACHINE_ID = Path("/etc/machine-id")
NOW = {"reconcile": {"grace": "1ms"}}


class Reconcile:
    def reconcile(self, server, **options):
        report = server.control.reconcile(**options)
        check_counts(self, report)
        return report

    def found(self, server):
        """The report of the pass that marked something: the one that the end of a process brought, or one asked for here."""
        def marked():
            self.reconcile(server)
            reports = [report for report in server.database.reports().values() if report and report["marked"]]
            return sorted(reports, key=lambda report: report["started_at"])
        report = wait_until(marked, "a pass that marks something")[-1]
        check_counts(self, report)
        return report

    def start(self, config=None):
        """A daemon whose boot pass is over, so that what follows is not judged by it."""
        server = self.daemon_with_database(merged(NOW, config)).start().wait_boot_pass()
        self.boot_report(server)
        return server

    def boot_report(self, server):
        return wait_until(lambda: (found := self.boot_reports(server)) and found[0], "the boot report")

    def boot_reports(self, server):
        try:
            rows = server.database.reports().values()
        except Exception:  # the table is not there yet
            return []
        reports = [report for report in rows if report and report.get("finished_at") and report["trigger"] == "boot"]
        return sorted(reports, key=lambda report: report["started_at"])

    def test_a_killed_worker_is_found_with_evidence_in_row_log_table_and_list(self):
        server = self.start()
        dead, living = worker(self), worker(self)
        events = [started("dead", worker_pid=dead.pid, attempt=2), started("alive", worker_pid=living.pid)]
        server.send(*events)
        server.wait_applied()
        dead.end()
        report = self.found(server)
        self.assertIn(report["trigger"], ("request", "process_end"))
        self.assertEqual((report["dry_run"], report["marked"]), (False, 1))
        self.assertEqual(verdicts(report), {"dead": ("stuck", "process_gone")})
        row = server.database.runs()["dead"]
        self.assertEqual(row["status"], "stuck")
        self.assertIsNotNone(row["finalized_at"])
        self.assertEqual((row["error"]["kind"], row["error"]["reason"], row["error"]["pass_id"]),
                         ("stuck", "process_gone", report["pass_id"]))
        self.assertIn("message", row["error"])
        oracle = Oracle().apply_all(events)
        oracle.stuck("dead")
        oracle.check(server.database)
        self.assertEqual(server.database.events()["dead"][-1]["payload"]["reason"], "process_gone")
        server.wait_for_log(r"dead.*process_gone|process_gone.*dead")
        server.wait_for_log(report["pass_id"])
        self.assertEqual(server.database.reports()[report["pass_id"]]["marked"], 1)
        listed = server.control.ok("GET", f"/v1/runs?pass={report['pass_id']}")["runs"]
        self.assertEqual([run["run_id"] for run in listed], ["dead"])

    def test_a_killed_worker_is_found_without_a_requested_pass(self):
        server = self.start({"reconcile": {"grace": "1s", "interval": "0s"}})
        process = worker(self)
        send_and_exit(server, started("killed", worker_pid=process.pid))
        server.wait_applied()
        process.end()
        row = wait_until(lambda: (row := server.database.runs()["killed"])["status"] == "stuck" and row, "the finding")
        self.assertEqual(row["error"]["reason"], "process_gone")
        # The report gets its counts when the pass ends, which is after its last mark.
        report = wait_until(lambda: (report := server.database.reports()[row["error"]["pass_id"]])["marked"] and report,
                            "the pass to end")
        self.assertEqual((report["trigger"], report["marked"]), ("process_end", 1))

    def test_a_worker_that_died_while_the_daemon_was_down_is_in_the_boot_report(self):
        server = self.start()
        process = worker(self)
        send_and_exit(server, started("orphan", worker_pid=process.pid), started("unvouched"))
        server.wait_applied()
        server.stop()
        process.end()
        server.start()
        wait_until(lambda: server.database.runs()["orphan"]["status"] == "stuck", "the boot pass")
        rows = server.database.runs()
        self.assertEqual((rows["orphan"]["error"]["reason"], rows["unvouched"]["error"]["reason"]),
                         ("process_gone", "no_live_worker"))
        reports = wait_until(lambda: [report for report in self.boot_reports(server) if report["marked"] == 2],
                             "the boot report")
        check_counts(self, reports[0])

    def test_a_boot_pass_that_comes_late_judges_what_came_after_the_boot_like_any_other(self):
        """Another daemon's pass delays it; meanwhile a run begins whose sender goes."""
        server = self.start()
        send_and_exit(server, started("before"))
        server.wait_applied()
        server.stop()
        server.database.execute("DELETE FROM council_ex_leases; INSERT INTO council_ex_leases (name, holder, expires_at) "
                                "VALUES ('reconcile', 'another', '2999-01-01T00:00:00.000000Z')")
        server.start()
        send_and_exit(server, started("after"))
        server.wait_applied()
        server.database.execute("DELETE FROM council_ex_leases")
        row = wait_until(lambda: (row := server.database.runs()["before"])["status"] == "stuck" and row, "the boot pass")
        self.assertEqual(row["error"]["reason"], "no_live_worker")
        self.assertEqual(verdicts(self.reconcile(server)), {"after": ("unknown", "no_evidence")})
        self.assertEqual(server.database.runs()["after"]["status"], "running")

    def test_healthy_commands_are_not_found_by_passes_back_to_back(self):
        """They last a little longer than the grace, so that a pass looks at each of them just when it ends."""
        server = self.start({"reconcile": {"grace": "3s"}})
        environment = {**server.environment(), "RUN_RECORDER_SOCKET_PATH": str(server.socket_path)}
        commands = []
        for number in range(25):
            command = subprocess.Popen([str(TOOL), "exec", "--council", "demo", "--", "sleep", f"{3.1 + number / 20:.2f}"],
                                       env=environment, stdin=subprocess.DEVNULL)
            self.addCleanup(lambda process=command: process.poll() is None and process.kill())
            commands.append(command)
        passes = 0
        while any(command.poll() is None for command in commands):
            answer = server.control.post("/v1/reconcile")
            self.assertIn(answer.status, (200, 409), answer)
            passes += answer.status == 200
        self.assertEqual({command.wait() for command in commands}, {0})
        server.wait_applied()
        histories = server.database.events()
        self.assertEqual(len(histories), len(commands))
        self.assertEqual({tuple(event["type"] for event in history) for history in histories.values()},
                         {("run_started", "run_completed")})
        print(f"{passes} passes on {server.database.kind}")

    def test_a_later_event_corrects_a_finding_and_both_stay_visible(self):
        server = self.start()
        process = worker(self)
        send_and_exit(server, started("back", worker_pid=process.pid))
        server.wait_applied()
        process.end()
        self.assertEqual(self.found(server)["marked"], 1)
        oracle = Oracle().apply_all([started("back", worker_pid=process.pid)])
        oracle.stuck("back")
        late = {"type": "run_completed", "run_id": "back", "result": {"ok": True}}
        server.send(late)
        oracle.apply(late)
        server.wait_applied()
        oracle.check(server.database)
        row = server.database.runs()["back"]
        self.assertEqual((row["status"], row["error"]), ("completed", None))

    def test_what_counts_as_alive(self):
        server = self.start()
        self.assertEqual(self.boot_report(server)["examined"], 0)
        send_and_exit(server, started("nobody"))
        server.send(started("sender-lives"))  # this process
        server.wait_applied()
        report = self.reconcile(server)
        self.assertEqual(verdicts(report), {"nobody": ("unknown", "no_evidence")})
        self.assertEqual((report["alive"], report["marked"]), (1, 0))
        report = self.reconcile(server, unvouched=True, dry_run=True)
        self.assertEqual(verdicts(report), {"nobody": ("stuck", "no_live_worker")})
        self.assertEqual((report["dry_run"], report["marked"]), (True, 0))
        self.assertEqual(server.database.runs()["nobody"]["status"], "running")
        report = self.reconcile(server, unvouched=True)
        self.assertEqual(report["marked"], 1)
        self.assertEqual(server.database.runs()["nobody"]["error"]["reason"], "no_live_worker")

    def test_a_silent_run_becomes_stuck(self):
        server = self.start({"reconcile": {"silent_after": "2ms"}})
        send_and_exit(server, started("silent"))
        server.wait_applied()
        wait_until(lambda: self.reconcile(server) and server.database.runs()["silent"]["status"] == "stuck", "the finding")
        self.assertEqual(server.database.runs()["silent"]["error"]["reason"], "silent")

    def test_within_the_grace_nothing_is_examined_and_a_second_boot_pass_follows(self):
        server = self.start({"reconcile": {"grace": "1h"}})
        process = worker(self)
        send_and_exit(server, started("fresh", worker_pid=process.pid))
        server.wait_applied()
        process.end()
        report = self.reconcile(server)
        self.assertEqual((report["examined"], report["deferred"]), (0, 1))
        server.stop()
        server.config["reconcile"]["grace"] = "8s"
        now = "strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')" if server.database.kind == "sqlite" else "now()"
        server.database.execute(f"UPDATE council_ex_runs SET last_event_at = {now}")  # only the start has to be quick
        server.start()
        wait_until(lambda: server.database.runs()["fresh"]["status"] == "stuck", "the second boot pass")
        reports = wait_until(lambda: (found := self.boot_reports(server)) and found[-1]["marked"] == 1 and found, "its report")
        self.assertEqual([report["deferred"] for report in reports], [0, 1, 0])
        for report in reports:
            check_counts(self, report)

    def test_passes_are_made_at_intervals(self):
        server = self.start({"reconcile": {"interval": "1s"}})
        process = worker(self)
        send_and_exit(server, started("later", worker_pid=process.pid))
        server.wait_applied()
        process.end()
        wait_until(lambda: server.database.runs()["later"]["status"] == "stuck", "an interval pass")
        wait_until(lambda: any(report and report["trigger"] == "interval" for report in server.database.reports().values()),
                   "the report of an interval pass")

    def test_another_boot_of_this_machine_is_gone_and_another_machine_is_no_evidence(self):
        server = self.start()
        process = worker(self)
        send_and_exit(server, started("rebooted", worker_pid=process.pid), started("elsewhere", worker_pid=process.pid))
        server.wait_applied()
        identity = server.database.runs()["rebooted"]["worker_process"]
        machine, boot, rest = identity.split(":", 2)
        other = "f" * len(boot)
        server.stop()
        server.database.execute(
            f"UPDATE council_ex_runs SET worker_process = '{machine}:{other}:{rest}' WHERE run_id = 'rebooted';"
            f"UPDATE council_ex_runs SET worker_process = '{other}:{other}:{rest}' WHERE run_id = 'elsewhere'")
        server.start()
        wait_until(lambda: server.database.runs()["rebooted"]["status"] == "stuck", "the boot pass")
        rows = server.database.runs()
        # Without a machine id another boot cannot be told from another machine.
        known = MACHINE_ID.exists() and MACHINE_ID.stat().st_size > 1
        rebooted = "process_gone" if known else "no_live_worker"
        self.assertEqual((rows["rebooted"]["error"]["reason"], rows["elsewhere"]["error"]["reason"]),
                         (rebooted, "no_live_worker"))

    def test_a_pid_that_never_was_and_one_that_is_reused_are_gone(self):
        server = self.start()
        process = worker(self)
        process.end()
        send_and_exit(server, started("never", worker_pid=process.pid))
        living = worker(self)
        send_and_exit(server, started("reused", worker_pid=living.pid))
        server.wait_applied()
        identity = server.database.runs()["reused"]["worker_process"]
        server.database.execute(f"UPDATE council_ex_runs SET worker_process = '{identity}0' WHERE run_id = 'reused'")
        self.reconcile(server)
        both = "SELECT count(*) AS n FROM council_ex_runs WHERE status = 'stuck'"
        wait_until(lambda: server.database.rows(both)[0]["n"] == 2, "both to be found")
        rows = server.database.runs()
        self.assertEqual({run_id: row["error"]["reason"] for run_id, row in rows.items()},
                         {"never": "process_gone", "reused": "process_gone"})

    @unittest.skipUnless(as_root(), "needs to make a PID namespace")
    def test_a_worker_in_another_pid_namespace(self):
        server = self.start()
        inside = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c",
                                   NAMESPACE_WORKER, str(server.socket_path)], stdout=subprocess.PIPE, text=True)
        self.addCleanup(inside.stdout.close)
        self.addCleanup(inside.wait)
        self.addCleanup(inside.kill)
        self.assertEqual(inside.stdout.readline(), "sent\n")
        server.wait_applied()
        report = self.reconcile(server)
        self.assertEqual((report["alive"], report["marked"]), (1, 0), report)
        inside.kill()
        inside.wait()
        self.found(server)
        self.assertEqual(server.database.runs()["contained"]["error"]["reason"], "process_gone")

    def test_undo_returns_the_rows_of_a_pass_unless_they_moved(self):
        server = self.start()
        process = worker(self)
        events = [started(f"r{number}", worker_pid=process.pid) for number in range(3)]
        send_and_exit(server, *events)
        server.wait_applied()
        server.stop()
        process.end()  # unseen: no pass over an ended worker comes later and finds the rows again
        server.start().wait_boot_pass()
        pass_id = self.found(server)["pass_id"]
        server.send({"type": "run_completed", "run_id": "r2"})
        server.wait_applied()
        answer = server.control.post(f"/v1/reconciliations/{pass_id}/undo")
        self.assertEqual(answer.status, 200, answer)
        rows = server.database.runs()
        self.assertEqual([rows[run_id]["status"] for run_id in ("r0", "r1", "r2")], ["running", "running", "completed"])
        for name in ("error", "finalized_at", "oban_job_state_at_finalize"):
            self.assertIsNone(rows["r0"][name])
        history = server.database.events()["r0"]
        self.assertEqual([entry["type"] for entry in history], ["run_started", "run_stuck", "run_revived"])
        self.assertIn(pass_id, json.dumps(history[-1], default=str))
        self.assertEqual(server.control.post("/v1/reconciliations/00000000-0000-0000-0000-000000000000/undo").status, 404)

    def test_explain_answers_rule_by_rule(self):
        server = self.start({"reconcile": {"grace": "1h"}})
        process = worker(self)
        send_and_exit(server, started("why", worker_pid=process.pid))
        server.wait_applied()
        process.end()
        answer = server.control.get("/v1/runs/why/explain")
        self.assertEqual(answer.status, 200)
        self.assertIn("process_gone", answer.text)
        self.assertIn(str(process.pid), answer.text)
        self.assertEqual(server.database.runs()["why"]["status"], "running")
        self.assertEqual(server.control.get("/v1/runs/not-there/explain").status, 404)

    def test_the_breaker_stops_a_pass_that_would_mark_more(self):
        server = self.start({"reconcile": {"max_stuck": 2}})
        process = worker(self)
        send_and_exit(server, *[started(f"r{number}", worker_pid=process.pid) for number in range(3)])
        server.wait_applied()
        process.end()
        report = self.reconcile(server)
        self.assertTrue(report["stopped"])
        self.assertEqual(report["marked"], 0)
        self.assertEqual({row["status"] for row in server.database.runs().values()}, {"running"})
        server.wait_for_log("--force")
        report = self.reconcile(server, force=True)
        self.assertEqual((report["stopped"], report["marked"]), (False, 3))

    def test_a_completion_that_waits_in_the_spool_is_applied_before_anything_is_judged(self):
        server = self.start()
        process = worker(self)
        events = [started("finished", worker_pid=process.pid), {"type": "run_completed", "run_id": "finished", "result": 1}]
        send_and_exit(server, events[0])
        server.wait_applied()
        with self.database_away(server):
            send_and_exit(server, events[1])
            process.end()
            server.kill()
            server.start()
            self.assertGreaterEqual(server.check_ledger()["waiting"], 1)
        server.wait_applied()
        self.boot_report(server)
        Oracle().apply_all(events).check(server.database)
        self.assertEqual(self.reconcile(server)["examined"], 0)

    def test_a_requested_pass_gives_up_while_the_database_is_away(self):
        server = self.start()
        send_and_exit(server, started("a"))
        server.wait_applied()
        with self.database_away(server):
            send_and_exit(server, started("b"))
            self.assertEqual(server.control.post("/v1/reconcile", {}).status, 503)
        server.wait_applied()
        self.reconcile(server)

    def test_many_rows_are_marked_in_bounded_batches_and_the_report_is_bounded(self):
        server = self.start({"reconcile": {"log_rows": 10}})
        process = worker(self)
        send_and_exit(server, *[started(f"r{number}", worker_pid=process.pid) for number in range(5_000)])
        server.wait_applied()
        process.end()
        report = self.found(server)
        self.assertEqual((report["marked"], report["examined"]), (5_000, 5_000))
        self.assertEqual(server.database.rows("SELECT count(*) AS n FROM council_ex_runs WHERE status = 'stuck'")[0]["n"], 5_000)
        self.assertLessEqual(server.log().count("run=r"), 5_000)
        self.assertTrue(report["truncated"])
        self.assertEqual(len(server.tool("list", "--pass", report["pass_id"], "--json").stdout.splitlines()), 5_000)

    def test_a_living_daemon_is_the_sender_of_nothing_it_forgot(self):
        """Runs are alive while the connection of their events is open."""
        server = self.start()
        with server.client() as client:
            client.send(started("open"))
            server.wait_applied()
            self.assertEqual(self.reconcile(server, unvouched=True)["alive"], 1)


class ReconcileOnSqlite(OnSqlite, Reconcile, ProcessTest):
    def database_away(self, server):
        from test_durability import DurabilityOnSqlite
        return DurabilityOnSqlite.database_away(self, server)


class ReconcileOnPostgres(OnPostgres, Reconcile, ProcessTest):
    def database_away(self, server):
        from test_durability import DurabilityOnPostgres
        return DurabilityOnPostgres.database_away(self, server)

    def test_a_row_that_moves_while_it_is_judged_is_raced(self):
        server = self.start()
        send_and_exit(server, started("moving"))
        server.wait_applied()
        mover = subprocess.Popen(["psql", "-X", "-q", "-h", str(self.cluster.folder), "-U", "postgres", "-d",
                                  server.database.name], stdin=subprocess.PIPE, text=True)
        self.addCleanup(mover.wait)
        self.addCleanup(mover.stdin.close)
        mover.stdin.write("BEGIN; UPDATE council_ex_runs SET status = 'completed', last_seq = last_seq + 1;\n")
        mover.stdin.flush()
        locks = "SELECT wait_event_type AS w FROM pg_stat_activity WHERE datname = current_database()"
        wait_until(lambda: server.database.rows("SELECT 1 FROM pg_locks WHERE locktype = 'transactionid' AND granted"
                                                " AND pid <> pg_backend_pid()"), "the other session's change")
        request = subprocess.Popen(["curl", "-sS", "--unix-socket", str(server.control_path), "-X", "POST", "-d", '{"unvouched": true}',
                                    "http://localhost/v1/reconcile"], stdout=subprocess.PIPE, text=True)
        wait_until(lambda: any(row["w"] == "Lock" for row in server.database.rows(locks)), "the pass to wait for the row")
        mover.stdin.write("COMMIT;\n")
        mover.stdin.flush()
        report = json.loads(request.communicate()[0])
        check_counts(self, report)
        self.assertEqual((report["raced"], report["marked"]), (1, 0), report)

    def test_a_run_with_a_dead_letter_is_unknown(self):
        server = self.start()
        process = worker(self)
        server.database.execute("ALTER TABLE council_ex_run_events ADD CONSTRAINT poison CHECK (payload->>'poison' IS NULL)")
        send_and_exit(server, started("poisoned", worker_pid=process.pid),
                      {"type": "run_completed", "run_id": "poisoned", "poison": 1})
        server.wait_applied()
        process.end()
        self.assertEqual(verdicts(self.reconcile(server)), {"poisoned": ("unknown", "dead_letter")})


class Hosts(OnPostgres, ProcessTest):
    """Two daemons on one database."""
    start, reconcile, found = Reconcile.start, Reconcile.reconcile, Reconcile.found
    boot_report, boot_reports = Reconcile.boot_report, Reconcile.boot_reports

    def pair(self, config=None):
        first = self.start(config)
        second = self.daemon(first.database.url, config=merged(NOW, config)).start().wait_boot_pass()
        second.database = first.database
        return first, second

    def test_the_rows_of_a_living_recorder_are_left_to_it(self):
        first, second = self.pair({"reconcile": {"grace": "1h"}})  # what ends is not looked at before
        process = worker(self)
        send_and_exit(first, started("of-first", worker_pid=process.pid))
        first.wait_applied()
        process.end()
        first.database.execute("UPDATE council_ex_runs SET last_event_at = now() - interval '2 hours'")
        report = self.reconcile(second)
        self.assertEqual((report["foreign"], report["marked"]), (1, 0))
        self.assertEqual(verdicts(report), {"of-first": ("foreign", "foreign")})
        self.assertEqual(self.reconcile(first)["marked"], 1)

    def test_the_rows_of_a_recorder_that_is_gone_are_judged_by_the_others(self):
        first, second = self.pair({"reconcile": {"recorder_timeout": "1s"}})
        process = worker(self)
        send_and_exit(first, started("without-job", worker_pid=process.pid), started("with-job", oban_job_id=5))
        first.wait_applied()
        first.kill()
        expected = {"without-job": ("stuck", "recorder_gone"), "with-job": ("unknown", "no_queue")}
        wait_until(lambda: verdicts(self.reconcile(second, dry_run=True)) == expected, "the recorder to count as gone")
        self.assertEqual(self.reconcile(second)["marked"], 1)

    def test_rows_that_no_recorder_wrote_are_judged_as_one_s_own(self):
        first, _second = self.pair()
        first.database.execute("INSERT INTO council_ex_runs (run_id, council, status, inserted_at, updated_at) VALUES "
                               "('imported', 'C', 'running', now() - interval '1 hour', now() - interval '1 hour')")
        self.assertEqual(verdicts(self.reconcile(first)), {"imported": ("unknown", "no_evidence")})

    def test_both_record_the_same_run_without_a_gap(self):
        first, second = self.pair()
        events = [{"type": "note", "run_id": "shared", "id": f"n{number}"} for number in range(400)]
        with first.client() as one, second.client() as two:
            one.queue(*events[:300])
            two.queue(*events[100:])  # 200 of them come over both
            for client in (one, two):
                client.flush()
            for client in (one, two):
                client.settle()
        first.wait_applied()
        second.wait_applied()
        history = first.database.events()["shared"]
        self.assertEqual([entry["seq"] for entry in history], list(range(1, 401)))
        self.assertEqual(sorted(entry["event_id"] for entry in history), sorted(event["id"] for event in events))
        totals = [server.check_ledger() for server in (first, second)]
        self.assertEqual(sum(status["duplicate"] for status in totals), 200)

    def test_passes_do_not_run_at_the_same_time(self):
        first, second = self.pair()
        first.database.execute("INSERT INTO council_ex_runs (run_id, council, status, inserted_at, updated_at) "
                               "SELECT 'r' || n, 'C', 'running', now() - interval '1 day', now() - interval '1 day' "
                               "FROM generate_series(1, 6000) AS n")
        requests = [subprocess.Popen(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket",
                                      str(server.control_path), "-X", "POST", "-d", '{"unvouched":true}',
                                      "http://localhost/v1/reconcile"], stdout=subprocess.PIPE, text=True)
                    for server in (first, second)]
        codes = sorted(request.communicate()[0] for request in requests)
        self.assertIn(codes, (["200", "200"], ["200", "409"]))
        self.assertEqual(first.database.rows("SELECT count(*) AS n FROM council_ex_run_events WHERE type = 'run_stuck'"),
                         [{"n": 6000}])


class KilledExec(OnSqlite, ProcessTest):
    def test_exec_killed_with_9_while_the_daemon_is_down_is_found_at_boot(self):
        server = self.daemon_with_database(NOW).start()
        pid_file = server.folder / "pid"
        tool = subprocess.Popen([str(os.environ["RUN_RECORDER_BIN"]) + "/run-recorder", "exec", "--council", "nightly", "--",
                                 "sh", "-c", f"echo $$ > {pid_file}; exec sleep 1000"],
                                env={**server.environment(), "RUN_RECORDER_SOCKET_PATH": str(server.socket_path)})
        self.addCleanup(tool.wait)
        self.addCleanup(tool.kill)
        pid = int(wait_until(lambda: pid_file.exists() and pid_file.read_text().strip(), "the command to run"))
        wait_until(lambda: server.control.get("/v1/runs").text.count("run_id") >= 1, "the run to be recorded")
        server.wait_applied()
        server.stop()
        tool.kill()
        tool.wait()
        os.kill(pid, signal.SIGKILL)
        server.start()
        row = wait_until(lambda: [row for row in server.database.runs().values() if row["status"] == "stuck"], "the finding")[0]
        self.assertEqual((row["council"], row["error"]["reason"]), ("nightly", "process_gone"))


if __name__ == "__main__":
    unittest.main()
