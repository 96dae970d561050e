"""export and import: all runs with their history from one database to the other and back, every column as it was."""

import json
import subprocess
import unittest

from harness import TOOL, OnPostgres, ProcessTest, SqliteDatabase, parse_time, same_json, wait_until

TIMES = ("started_at", "finalized_at", "inserted_at", "updated_at", "last_event_at", "at", "received_at")
FLAGS = ("council_given", "attempt_given")


class Move(OnPostgres, ProcessTest):
    def on_sqlite(self, grace="1h"):  # where no finding is to change it meanwhile
        server = self.daemon(config={"reconcile": {"interval": "0s", "grace": grace}})
        server.database = SqliteDatabase(server.sqlite_path)
        return self.begin(server)

    def on_postgres(self):
        server = self.daemon_with_database({"reconcile": {"interval": "0s", "grace": "1h"}})
        return self.begin(server)

    def begin(self, server):
        server.start()
        server.send({"type": "note", "run_id": f"begin-{server.database.kind}"})
        server.wait_applied()
        server.wait_boot_pass()
        server.database.execute("DELETE FROM council_ex_runs; DELETE FROM council_ex_run_events;")
        return server

    @staticmethod
    def record_all_kinds(server):
        numbers = b'{"type":"run_completed","run_id":"exact","id":"e2","result":{"n":12345678901234567890.123456789,"e":1e300}}'
        server.send({"type": "run_started", "run_id": "exact", "id": "e1", "council": 'quote " ü \n', "input": [1, None],
                     "at": "2026-01-02T03:04:05.678901+01:00", "oban_job_id": 7, "attempt": 2}, numbers,
                    {"type": "run_queued", "run_id": "queued"},
                    {"type": "run_started", "run_id": "a/b c"}, {"type": "step", "run_id": "a/b c", "payload": {"x": "\u00e9"}},
                    {"type": "run_failed", "run_id": "a/b c", "errors": ["cancelled"]},
                    {"type": "run_completed", "run_id": "a/b c", "id": "conflict"},
                    {"type": "run_started", "run_id": "child", "parent_attempt_run_id": "a/b c", "worker_pid": 4194303},
                    *({"type": "run_completed", "run_id": f"many-{n:04}", "id": "x", "result": n} for n in range(450)),
                    *({"type": "tick", "run_id": "long", "payload": {"n": n}} for n in range(2300)))
        server.wait_applied()

    def tool(self, server, *arguments, status=0, **options):
        done = server.tool(*arguments, **options)
        self.assertEqual(done.returncode, status, (done.stdout[-500:], done.stderr[-2000:]))
        return done

    def check_same(self, first, second):
        def normal(row, table):
            row = dict(row)
            if table == "events":
                del row["id"]
                row["pass_id"] = row["pass_id"] or None
            for name in TIMES:
                if name in row:
                    row[name] = parse_time(row[name])
            for name in FLAGS:
                if name in row:
                    row[name] = bool(row[name])
            return row
        runs, others = first.database.runs(), second.database.runs()
        self.assertEqual(set(runs), set(others))
        histories, other_histories = first.database.events(), second.database.events()
        self.assertEqual(set(histories), set(other_histories))
        pairs = [(normal(run, "runs"), normal(others[run_id], "runs")) for run_id, run in runs.items()]
        for run_id, history in histories.items():
            self.assertEqual(len(history), len(other_histories[run_id]))
            pairs += [(normal(a, "events"), normal(b, "events")) for a, b in zip(history, other_histories[run_id])]
        for a, b in pairs:
            self.assertEqual(set(a), set(b))
            for column in a:
                same = a[column] == b[column] if column in TIMES else same_json(a[column], b[column])
                self.assertTrue(same, (column, a[column], b[column]))

    def move(self, first, second):
        self.record_all_kinds(first)
        if first.config["reconcile"]["grace"] == "1ms":
            wait_until(lambda: first.tool("reconcile") and first.database.runs()["child"]["status"] == "stuck", "the finding")
        first.tool("reconcile")
        text = self.tool(first, "export").stdout
        lines = [json.loads(line) for line in text.splitlines()]
        self.assertEqual(sum("run" in line for line in lines), 455)
        self.assertEqual((list(lines[0]), lines[-1]), (["export"], {"end": True}))
        others = sum(not line.keys() & {"run", "run_id", "export", "end"} for line in lines)
        self.assert_imported(second, text, imported=455, others=others)
        self.check_same(first, second)
        self.assert_imported(second, text, present=455, others=others)
        self.check_same(first, second)
        return text

    def assert_imported(self, server, text, status=0, **counts):
        """Imports the text; returns each line's outcome."""
        *lines, summary = map(json.loads, self.tool(server, "import", "--json", input=text, status=status).stdout.splitlines())
        self.assertEqual(summary, {"imported": 0, "present": 0, "others": 0, "refused": 0, **counts})
        return lines

    def test_from_sqlite_to_postgresql_and_back(self):
        first, second, third = self.on_sqlite("1ms"), self.on_postgres(), self.on_sqlite()
        self.move(first, second)
        self.tool(third, "import", input=self.tool(second, "export").stdout)
        self.check_same(first, third)
        self.assertIn("stuck", {run["status"] for run in second.database.runs().values()})
        # The runs go on where they are now.
        second.send({"type": "run_completed", "run_id": "child"}, {"type": "run_completed", "run_id": "exact", "id": "e2"})
        second.wait_applied()
        self.assertEqual(second.control.run("child")["status"], "completed")
        self.assertEqual(len(second.database.events()["exact"]), 2)

    def test_from_postgresql_to_sqlite(self):
        self.move(self.on_postgres(), self.on_sqlite())

    def test_an_existing_run_that_differs_is_named_and_stays(self):
        first, second = self.on_sqlite(), self.on_postgres()
        for server in (first, second):
            server.send({"type": "run_started", "run_id": "both", "council": server.database.kind})
        first.send({"type": "run_started", "run_id": "one"})
        first.wait_applied()
        second.wait_applied()
        done = self.tool(second, "import", input=self.tool(first, "export").stdout, status=1)
        self.assertIn("run both: exists already and differs", done.stderr)
        self.assertIn("1 run imported; 0 there already, 1 refused", done.stdout)
        self.assertEqual(second.control.run("both")["council"], "postgresql")
        self.assertEqual(second.control.run("one")["status"], "running")

    @staticmethod
    def run_line(run_id, events=1, **run):
        time = "2026-01-02T03:04:05.000000Z"
        row = {"run_id": run_id, "council": "c", "status": "running", "inserted_at": time, "updated_at": time, "last_seq": events}
        history = [{"run_id": run_id, "seq": seq, "type": "note", "inserted_at": time, "effect": "recorded"}
                   for seq in range(1, events + 1)]
        return {"run": {**row, **run}, "events": history}

    def test_each_line_is_judged_by_itself(self):
        """What the contract does not allow is refused by its line, its field and what is allowed; all others are taken."""
        def line(run_id="bad", events=1, event=None, **run):
            made = self.run_line(run_id, events, **run)
            made["events"][-1:] = [{**made["events"][-1], **(event or {})}] if made["events"] else []
            return made
        bad = ((line("x" * 256), "run_id"), (line(""), "run_id"), (line(council=""), "council"), (line(council="c" * 256), "council"),
               (line(status="done"), "status"), (line(attempt=0), "attempt: must be a whole number from 1 to 2147483647"),
               (line(attempt=2**31), "attempt"), (line(parent_attempt_run_id="p" * 256), "parent_attempt_run_id"),
               (line(oban_job_id=0), "oban_job_id"), (line(queue=""), "queue"), (line(job_id=7), "job_id"),
               (line(expires_in=0), "expires_in"), (line(usage=[1]), "usage: must be an object or null"),
               (line(usage={"u" * 16_384: 1}), "usage: must be an object of at most 16384 bytes"), (line(progress=3), "progress"),
               (line(input=[1]), "input: must be an object or null"),
               (line(started_at="yesterday"), "started_at"), (line(inserted_at=None), "inserted_at"),
               (line(finalized_at="2026-01-02T03:04:05Z"), "finalized_at: must be null, where status is running"),
               (line(status="failed"), "finalized_at: must be a time, where status is failed"),
               (line(last_seq=2), "last_seq: must be 1"), (line(events=3, last_seq=2), "last_seq"),
               (line(events=2, event={"seq": 3}), "seq (3): must be 2"), (line(event={"seq": 2}, last_seq=2), "entries 1 to last_seq"),
               (line(event={"seq": 0}), "seq"), (line(event={"type": "Step"}), "type of an event"),
               (line(event={"type": "t" * 65}), "type"), (line(event={"type": ""}), "type"), (line(event={"run_id": "other"}), "run_id"),
               (line(event={"event_id": "i" * 65}), "event_id"), (line(event={"effect": "great"}), "effect"),
               (line(event={"payload": 1}), "payload"), (line(council="nul \0"), "u0000"), ({"runs": []}, "unknown line"),
               ("nonsense", "not JSON"), ([], "not a JSON object"))
        for make in (self.on_sqlite, self.on_postgres):
            server = make()
            texts = []
            for number, (text, _) in enumerate(bad):
                texts += [json.dumps(self.run_line(f"good-{number}")), text if isinstance(text, str) else json.dumps(text)]
            outcomes = self.assert_imported(server, "\n".join(texts), status=1, imported=len(bad), refused=len(bad))
            by_line = {outcome["line"]: outcome for outcome in outcomes}
            for number, (_, words) in enumerate(bad):
                self.assertEqual(by_line[2 * number + 1]["outcome"], "imported")
                self.assertEqual(by_line[2 * number + 2]["outcome"], "refused", words)
                self.assertIn(words, by_line[2 * number + 2]["reason"])
            self.assertEqual(set(server.database.runs()), {f"good-{number}" for number in range(len(bad))})
            done = self.tool(server, "import", input="\n".join(texts), status=1)
            self.assertIn(f"0 runs imported; {len(bad)} there already, {len(bad)} refused", done.stdout)
            self.assertRegex(done.stderr, r"line 12: run bad: attempt: must be a whole number from 1 to 2147483647")

    def test_the_longest_of_everything_is_taken(self):
        line = self.run_line("r" * 255, council="c" * 255, attempt=2**31 - 1, oban_job_id=2**63 - 1,
                             parent_attempt_run_id="line\n\\.\nand \u2028 more")
        line["events"][0].update({"type": "t" + "." * 63, "event_id": "i" * 64})
        for make in (self.on_sqlite, self.on_postgres):
            self.assert_imported(make(), json.dumps(line), imported=1)

    REPORTS = {"queue": "e-mail", "job_id": "9f8c", "expires_in": 2_678_400,
               "usage": {"input_tokens": 12345678901234567890, "cost_usd": 0.12}, "progress": {"done": 3, "total": 10, "unit": "rows"}}

    def test_job_expiry_usage_and_progress_move_too(self):
        first, second, third = self.on_sqlite(), self.on_postgres(), self.on_sqlite()
        self.assert_imported(first, json.dumps(self.run_line("r", **self.REPORTS)), imported=1)
        self.tool(second, "import", input=self.tool(first, "export").stdout)
        self.tool(third, "import", input=self.tool(second, "export").stdout)
        for server in (first, second, third):
            run = server.control.run("r")
            self.assertEqual({column: run[column] for column in self.REPORTS}, self.REPORTS)
        self.tool(third, "import", input=self.tool(first, "export").stdout)  # there already, and the same

    def test_a_removed_run_may_be_brought_back(self):
        server = self.on_postgres()
        server.send({"type": "run_completed", "run_id": "r", "id": "e"})
        server.wait_applied()
        lines = [line for line in self.tool(server, "export").stdout.splitlines() if "recorder" not in json.loads(line)]
        self.tool(server, "prune", "--older-than", "1ms")
        self.assertEqual(server.database.runs(), {})
        self.tool(server, "import", input="\n".join(lines))
        self.assertEqual(set(server.database.runs()), {"r"})
        server.send({"type": "note", "run_id": "r"})
        server.wait_applied()
        self.assertEqual(len(server.database.events()["r"]), 2)

    # ---- large histories

    @staticmethod
    def record_large(server, entries=40):
        payload = "x" * 150_000
        server.send({"type": "run_started", "run_id": "large"}, *({"type": "part", "run_id": "large", "payload": {"n": n, "x": payload}}
                                                                  for n in range(entries - 1)))
        server.send({"type": "run_started", "run_id": "small"})
        server.wait_applied()

    def test_a_large_run_comes_in_parts_and_appears_as_a_whole(self):
        for first, second in ((self.on_sqlite(), self.on_postgres()), (self.on_postgres(), self.on_sqlite())):
            self.record_large(first)
            text = self.tool(first, "export").stdout
            parts = [line for line in text.splitlines() if '"large"' in line]
            self.assertGreater(len(parts), 3)
            self.assertLess(max(map(len, parts)), 2_000_000)
            # Cut off in the middle: nobody sees the run, and it is named.
            upto = text.index(parts[3])
            done = self.tool(second, "import", input=text[:upto], status=1)
            self.assertIn("run large: is cut off", done.stderr)
            self.assertIn("the export is cut off before its last line", done.stderr)
            self.assertEqual(second.database.runs(), {})
            # Again, as a whole: goes on where it was.
            self.tool(second, "import", input=text)
            self.check_same(first, second)
            lines = self.assert_imported(second, text, present=2, others=text.count('{"reconciliation"') + text.count('{"recorder"'))
            self.assertEqual([line["outcome"] for line in lines if line.get("run_id") == "large"], ["present"])

    def test_a_long_line_of_an_older_version_is_taken(self):
        first, second = self.on_sqlite(), self.on_postgres()
        self.record_large(first)
        history = [event for event in first.control.ok("GET", "/v1/runs/large/events?limit=1")["events"]]
        events, cursor = [], ""
        while cursor is not None:
            page = first.control.ok("GET", f"/v1/runs/large/events?limit=1000{cursor and '&cursor=' + cursor}")
            events, cursor = events + page["events"], page["next"]
        self.assertEqual(events[:1], history)
        old = json.dumps({"run": first.control.run("large"), "events": events}, default=float)
        self.assertGreater(len(old), 5_000_000)
        self.assert_imported(second, old + "\n", imported=1)
        self.assertEqual(len(second.database.events()["large"]), 40)
        self.assert_imported(second, old + "\n", present=1)

    def test_an_event_of_a_run_that_is_half_there_is_not_lost(self):
        first, second = self.on_sqlite(), self.on_postgres()
        self.record_large(first)
        text = self.tool(first, "export").stdout
        parts = [line for line in text.splitlines() if '"large"' in line]
        self.tool(second, "import", input=text[:text.index(parts[3])], status=1)
        second.send({"type": "run_completed", "run_id": "large", "id": "end"})
        wait_until(lambda: second.status()["dead_letters"] == 1, "the dead letter")
        self.tool(second, "import", input=text)
        letter = second.control.ok("GET", "/v1/dead-letters")["dead_letters"][0]
        self.assertEqual(second.control.ok("POST", f"/v1/dead-letters/{int(letter['id'])}/retry")["outcome"], "applied")
        self.assertEqual(second.control.run("large")["status"], "completed")

    # ---- what else moves

    def test_all_that_a_recorder_needs_moves_with_the_runs(self):
        """The daemon goes on with its spool on the other database: nothing is applied twice, nothing is forgotten."""
        names = ("plain", "line\n\\.\nin it", "tab\tand \\ and \u2028", "\u00e9\U0001f600")
        for source, target in ((self.on_sqlite, self.on_postgres), (self.on_postgres, self.on_sqlite)):
            first, second = source(), target()
            first.send({"type": "run_completed", "run_id": "gone\n\\.", "id": "g"}, {"type": "run_completed", "run_id": "gone 2"})
            first.wait_applied()
            self.tool(first, "prune", "--older-than", "1ms")
            first.send(*({"type": "run_started", "run_id": name} for name in names))
            first.wait_applied()
            refuse = self.refuse(first, "poison")
            first.send({"type": "run_started", "run_id": "poison", "id": "p"})
            wait_until(lambda: first.status()["dead_letters"] == 1, "the dead letter")
            first.database.execute(refuse)
            first.tool("reconcile")
            before = first.status()
            text = self.tool(first, "export").stdout
            self.tool(second, "import", input=text)
            self.tool(second, "import", input=text)
            self.check_same(first, second)
            self.assertEqual({row["run_id"] for row in second.database.rows("SELECT * FROM council_ex_pruned")}, {"gone\n\\.", "gone 2"})
            self.assertEqual(len(second.database.rows("SELECT * FROM council_ex_dead_letters")), 1)
            self.assertLessEqual(set(first.database.reports()), set(second.database.reports()))
            first.stop()
            second.stop()
            first.config["database"]["url"] = second.database.url
            first.database = second.database
            first.start()
            first.send({"type": "run_completed", "run_id": "gone\n\\.", "id": "g"}, {"type": "run_completed", "run_id": names[1]})
            first.wait_applied()
            after = first.status()
            self.assertEqual((after["recorder"], after["accepted"], after["forgotten"]), (before["recorder"], before["accepted"] + 2, 0))
            self.assertEqual((after["duplicate"], after["dead_letters"]), (before["duplicate"] + 1, 1))
            self.assertEqual([event["seq"] for event in first.database.events()[names[1]]], [1, 2])
            letter = first.control.ok("GET", "/v1/dead-letters")["dead_letters"][0]
            self.assertEqual(first.control.ok("POST", f"/v1/dead-letters/{int(letter['id'])}/retry")["outcome"], "applied")
            first.stop()

    @staticmethod
    def refuse(server, run_id):
        """From now on no row of that run can be written; returns what ends it."""
        if server.database.kind == "sqlite":
            server.database.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON council_ex_runs WHEN NEW.run_id = '{run_id}' "
                                    "BEGIN SELECT RAISE(ABORT, 'no'); END")
            return "DROP TRIGGER refuse"
        server.database.execute(f"ALTER TABLE council_ex_runs ADD CONSTRAINT refuse CHECK (run_id <> '{run_id}') NOT VALID")
        return "ALTER TABLE council_ex_runs DROP CONSTRAINT refuse"

    def test_a_recorder_with_a_position_is_left_alone(self):
        server = self.on_postgres()
        server.send({"type": "run_started", "run_id": "r"})
        server.wait_applied()
        text = self.tool(server, "export").stdout
        server.send({"type": "note", "run_id": "other"})
        server.wait_applied()
        done = self.tool(server, "import", input=text, status=1)
        self.assertRegex(done.stderr, r"line 2: exists already and differs")
        server.check_ledger()

    # ---- interruptions

    def test_export_and_import_survive_killed_daemons(self):
        first, second = self.on_sqlite(), self.on_postgres()
        self.record_all_kinds(first)
        self.record_large(first)
        tools = [[str(TOOL), "--control", str(server.control_path), word] for server, word in ((first, "export"), (second, "import"))]
        with subprocess.Popen(tools[0], stdout=subprocess.PIPE, env=first.environment(), stderr=subprocess.DEVNULL) as out:
            with subprocess.Popen(tools[1], stdin=out.stdout, env=second.environment(), stdout=subprocess.PIPE, text=True) as into:
                out.stdout.close()
                wait_until(lambda: len(second.database.runs()) > 20, "the first runs")
                for server in (second, first):
                    server.kill()
                    server.start()
                said = into.communicate()[0]
        self.assertEqual((out.returncode, into.returncode), (0, 0), said)
        self.check_same(first, second)

    def test_a_killed_import_is_repeated(self):
        first, second = self.on_sqlite(), self.on_postgres()
        self.record_all_kinds(first)
        self.record_large(first)
        text = self.tool(first, "export").stdout
        with subprocess.Popen([str(TOOL), "--control", str(second.control_path), "import"], stdin=subprocess.PIPE,
                              env=second.environment(), stdout=subprocess.DEVNULL) as tool:
            tool.stdin.write(text[:len(text) // 2].encode())
            tool.stdin.flush()
            wait_until(lambda: len(second.database.runs()) > 20, "the first runs")
            tool.kill()
        self.tool(second, "import", input=text)
        self.check_same(first, second)

    def test_an_export_continues_at_a_cursor(self):
        server = self.on_sqlite()
        self.record_all_kinds(server)
        self.record_large(server)
        text = self.tool(server, "export").stdout
        for lines in (1, 2, 3, 7, 200):
            page = server.control.ok("GET", f"/v1/export?limit={lines}")
            rest = self.tool(server, "export", "--cursor", page["next"]).stdout
            self.assertEqual(text.splitlines()[len(page["lines"]):], rest.splitlines())
        self.assertEqual(server.control.get("/v1/export?cursor=x").status, 400)


if __name__ == "__main__":
    unittest.main(verbosity=2)
