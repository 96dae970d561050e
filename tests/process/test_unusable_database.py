#!/usr/bin/env python3
"""A database that can be reached and read and yet records nothing, or shows not every row: a standby, sessions that are
read-only, row level security. Also run by hand: RUN_RECORDER_BIN=… python3 FILE"""

import unittest

from harness import OnPostgres, Postgres, ProcessTest, wait_until


class UnusableDatabase(OnPostgres, ProcessTest):
    """What can be reached and read and yet records nothing, or not everything, is said by --check and by the daemon."""

    def of_a_plain_role(self):
        server = self.daemon_with_database()
        self.assertEqual(server.run("--migrate").returncode, 0)
        self.cluster.sql("postgres", "DROP ROLE IF EXISTS recorder_plain; CREATE ROLE recorder_plain LOGIN")
        server.database.execute("GRANT USAGE ON SCHEMA public TO recorder_plain; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL "
                                "TABLES IN SCHEMA public TO recorder_plain")
        self.addCleanup(self.cluster.sql, "postgres", "DROP ROLE recorder_plain")
        self.addCleanup(server.database.execute, "DROP OWNED BY recorder_plain")
        server.config["database"].update(url=self.cluster.url(server.database.name, "recorder_plain"), migrate=False)
        server.write_config()
        return server

    def test_a_policy_that_hides_rows_of_any_table_is_a_refusal(self):
        server = self.of_a_plain_role()
        self.assertEqual(server.run("--check").returncode, 0)
        for table in ("runs", "run_events", "dead_letters", "positions"):
            server.database.execute(f"ALTER TABLE council_ex_{table} ENABLE ROW LEVEL SECURITY")
            checked = server.run("--check")
            self.assertEqual(checked.returncode, 78, checked.stdout)
            self.assertRegex(checked.stdout, f"row level security.*council_ex_{table}.*BYPASSRLS")
            server.database.execute(f"ALTER TABLE council_ex_{table} DISABLE ROW LEVEL SECURITY")
        server.database.execute("ALTER TABLE council_ex_runs ENABLE ROW LEVEL SECURITY; "
                                "CREATE POLICY mine ON council_ex_runs USING (council = 'mine')")
        server.start()
        server.send({"type": "note", "run_id": "a"})
        server.wait_for_log("row level security")
        self.assertEqual(server.status()["database"]["state"], "refused")
        self.assertEqual(server.check_ledger()["waiting"], 1)
        doctor = server.tool("doctor", "--config", str(server.config_path))
        self.assertIn("row level security", doctor.stdout)
        server.database.execute("CREATE POLICY recorder ON council_ex_runs TO recorder_plain USING (true)")
        self.assertEqual(server.wait_applied()["applied"], 1)
        self.assertEqual(server.run("--check").returncode, 0)

    def test_check_reports_a_policy_that_hides_jobs(self):
        server = self.of_a_plain_role()
        server.database.execute(
            "CREATE TYPE oban_job_state AS ENUM ('available', 'executing', 'completed'); "
            "CREATE TABLE oban_jobs (id bigserial PRIMARY KEY, state oban_job_state, attempt int, errors jsonb[], inserted_at timestamp, "
            "scheduled_at timestamp, attempted_at timestamp, completed_at timestamp, cancelled_at timestamp, discarded_at timestamp); "
            "GRANT SELECT ON oban_jobs TO recorder_plain")
        server.config["reconcile.queue"] = {"kind": "oban"}
        server.write_config()
        checked = server.run("--check")
        self.assertEqual(checked.returncode, 0, checked.stdout)
        server.database.execute("ALTER TABLE oban_jobs ENABLE ROW LEVEL SECURITY")
        checked = server.run("--check")
        self.assertNotEqual(checked.returncode, 0)
        self.assertRegex(checked.stdout, "queue .*row level security.*oban_jobs")

    def test_sessions_that_are_read_only_are_a_refusal(self):
        server = self.of_a_plain_role()
        self.cluster.sql("postgres", "ALTER ROLE recorder_plain SET default_transaction_read_only = on")
        checked = server.run("--check")
        self.assertEqual(checked.returncode, 78, checked.stdout)
        self.assertIn("default_transaction_read_only", checked.stdout)
        server.start()
        server.wait_for_log("default_transaction_read_only")
        self.cluster.sql("postgres", "ALTER ROLE recorder_plain RESET default_transaction_read_only")
        server.send({"type": "note", "run_id": "a"})
        self.assertEqual(server.wait_applied()["applied"], 1)


class HotStandby(ProcessTest):
    def test_check_refuses_a_standby(self):
        primary = Postgres().start()
        self.addCleanup(primary.close)
        primary.create_database("app")
        server = self.daemon(primary.url("app"))
        self.assertEqual(server.run("--migrate").returncode, 0)
        standby = primary.standby("standby")
        self.addCleanup(standby.close)
        standby.start()
        server.config["database"]["url"] = standby.url("app")
        server.write_config()
        wait_until(lambda: server.run("--check").returncode == 69, "the standby to answer")
        checked = server.run("--check")
        self.assertRegex(checked.stdout, "database +.*hot standby")
        server.start()
        server.send({"type": "note", "run_id": "a"})
        server.wait_for_log("hot standby")
        self.assertIn("hot standby", server.status()["database"]["error"])
        self.assertIn("hot standby", server.tool("doctor", "--config", str(server.config_path)).stdout)


if __name__ == "__main__":
    unittest.main()
