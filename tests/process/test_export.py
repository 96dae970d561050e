"""export and import: all runs with their history from one database to the other and back, every column as it was."""

import json
import unittest

from harness import OnPostgres, ProcessTest, SqliteDatabase, parse_time, same_json

TIMES = ("started_at", "finalized_at", "inserted_at", "updated_at", "last_event_at", "at", "received_at")
FLAGS = ("council_given", "attempt_given")


class Move(OnPostgres, ProcessTest):
    def on_sqlite(self):
        server = self.daemon(config={"reconcile": {"interval": "0s", "grace": "1ms"}})
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
        first.tool("reconcile")
        lines = self.tool(first, "export").stdout
        self.assertEqual(len(lines.splitlines()), 455)
        done = self.tool(second, "import", "--json", input=lines)
        self.assertEqual(json.loads(done.stdout), {"added": 455, "same": 0, "left": 0})
        self.check_same(first, second)
        again = self.tool(second, "import", "--json", input=lines)
        self.assertEqual(json.loads(again.stdout), {"added": 0, "same": 455, "left": 0})
        self.check_same(first, second)
        return lines

    def test_from_sqlite_to_postgresql_and_back(self):
        first, second, third = self.on_sqlite(), self.on_postgres(), self.on_sqlite()
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

    def test_what_is_there_already_and_differs_is_named_and_stays(self):
        first, second = self.on_sqlite(), self.on_postgres()
        for server in (first, second):
            server.send({"type": "run_started", "run_id": "both", "council": server.database.kind})
        first.send({"type": "run_started", "run_id": "one"})
        first.wait_applied()
        second.wait_applied()
        done = self.tool(second, "import", input=self.tool(first, "export").stdout, status=1)
        self.assertIn("run both: is there already, and differs", done.stderr)
        self.assertIn("1 run imported; 0 there already, 1 left out", done.stdout)
        self.assertEqual(second.control.run("both")["council"], "postgresql")
        self.assertEqual(second.control.run("one")["status"], "running")

    def test_what_is_no_export_is_refused_and_changes_nothing(self):
        server = self.on_postgres()
        for text, words in (("{}\n", "without an id"), ("nonsense\n", "line 1 is no JSON object"),
                            ('{"run":{"run_id":"x","council":"c","status":"done"},"events":[]}\n', "run x: status")):
            done = self.tool(server, "import", input=text, status=1)
            self.assertIn(words, done.stderr)
        self.assertEqual(server.database.runs(), {})

    def test_a_removed_run_may_be_brought_back(self):
        server = self.on_postgres()
        server.send({"type": "run_completed", "run_id": "r", "id": "e"})
        server.wait_applied()
        lines = self.tool(server, "export").stdout
        self.tool(server, "prune", "--older-than", "1ms")
        self.assertEqual(server.database.runs(), {})
        self.tool(server, "import", input=lines)
        self.assertEqual(set(server.database.runs()), {"r"})
        server.send({"type": "note", "run_id": "r"})
        server.wait_applied()
        self.assertEqual(len(server.database.events()["r"]), 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
