"""run-recorder doctor: what it says of an installation that is fine, and of one where something is wrong."""

import json
import os
import subprocess
import unittest

from harness import DEADLINE_S, OnPostgres, OnSqlite, ProcessTest, SqliteDatabase, TOOL, as_root, merged, wait_until
from queues import SqliteQueue


class Doctor:
    def examine(self, server, *flags, status, config=None):
        done = subprocess.run([str(TOOL), "doctor", "--json", "--config", str(config or server.config_path), *flags],
                              capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=server.environment())
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        findings = [json.loads(line) for line in done.stdout.splitlines()]
        for finding in findings:
            self.assertEqual(set(finding), {"check", "ok", "found", "advice"})
            if not finding["ok"]:
                self.assertTrue(finding["advice"], finding)  # one that is fine and has advice is a warning
        return findings

    @staticmethod
    def wrong(findings):
        return {finding["check"]: finding for finding in findings if not finding["ok"]}

    def started(self, config=None):
        server = self.daemon_with_database(config)
        server.start()
        server.send({"type": "run_started", "run_id": "r1"})
        server.wait_applied()
        return server

    def test_all_is_fine(self):
        server = self.started()
        findings = self.examine(server, status=0)
        self.assertEqual([finding["check"] for finding in findings],
                         ["configuration", "event socket", "control socket", "daemon", "accepting", "dead letters", "database",
                          "queue", "spool", "disk", "clock"])
        words = subprocess.run([str(TOOL), "doctor", "--config", str(server.config_path)], capture_output=True, text=True,
                               timeout=DEADLINE_S, check=False, env=server.environment())
        self.assertEqual((words.returncode, words.stderr), (0, ""))
        self.assertEqual(words.stdout.count("fine: "), len(findings))

    def test_without_a_daemon_the_rest_is_checked(self):
        server = self.started()
        server.stop()
        wrong = self.wrong(findings := self.examine(server, status=1))
        self.assertEqual(set(wrong), {"event socket", "control socket"})
        self.assertIn("systemctl start", wrong["event socket"]["advice"])
        self.assertTrue({"database", "queue", "spool", "disk"} <= {finding["check"] for finding in findings})

    def test_mistakes_of_the_configuration_are_findings(self):
        server = self.started()
        broken = server.folder / "broken.toml"
        broken.write_text("[spool]\nkeeep = 5\n[limits]\ndepth = 1\n")
        findings = [finding for finding in self.examine(server, status=1, config=broken)
                    if finding["check"] == "configuration"]
        self.assertEqual(len(findings), 2)
        self.assertIn("broken.toml:2", findings[0]["found"])

    def test_a_damaged_spool_and_a_missing_queue_are_found(self):
        server = self.started({"reconcile.queue": {"kind": "oban", "table": "no_such_jobs"}})
        server.stop()
        segment = max(server.spool_path.glob("*.seg"), key=lambda path: path.stat().st_size)
        bytes_ = bytearray(segment.read_bytes())
        bytes_[:64] = bytes(64)
        segment.write_bytes(bytes_)
        wrong = self.wrong(self.examine(server, status=1))
        self.assertIn("no_such_jobs", wrong["queue"]["found"])
        self.assertIn("spool", wrong)

    def test_each_queue_is_checked_by_its_name(self):
        server = self.started()
        jobs = SqliteDatabase(server.folder / "jobs.db")
        SqliteQueue(jobs)
        server.config = merged(server.config, {
            "queues.default": {"kind": "oban", "url": jobs.url}, "queues.mailers": {"kind": "oban", "url": jobs.url, "table": "mails"},
            'queues."a b"': {"kind": "oban", "url": f"sqlite:{server.folder}/nowhere.db"}, "queues.off": {"kind": "none"}})
        server.restart()
        findings = {finding["check"]: finding for finding in self.examine(server, status=1)}
        queues = {check: finding["ok"] for check, finding in findings.items() if check.startswith("queue")}
        self.assertEqual(queues, {"queue default": True, "queue mailers": False, 'queue "a b"': False})
        self.assertIn("mails", findings["queue mailers"]["found"])
        self.assertIn("[queues.mailers]", findings["queue mailers"]["advice"])
        checked = server.run("--check")
        self.assertEqual(checked.returncode, 69, checked.stdout)
        self.assertRegex(checked.stdout, r"(?m)^queue default +fine: oban_jobs in sqlite:")
        self.assertRegex(checked.stdout, r"(?m)^queue mailers +queue: .*mails")

    def test_too_little_room_on_the_disk_is_found(self):
        server = self.started()
        wrong = self.wrong(self.examine(server, "--spool-min-free", "1000000GiB", status=1))
        self.assertEqual(set(wrong), {"disk"})
        self.assertIn("min_free", wrong["disk"]["found"])


class DoctorOnSqlite(Doctor, OnSqlite, ProcessTest):
    @unittest.skipUnless(as_root(), "needs to become another user")
    def test_permission_denied_names_the_group(self):
        server = self.started({"control": {"group": "daemon", "mode": "0660"}})
        server.config_path.chmod(0o644)
        done = subprocess.run([str(TOOL), "doctor", "--json", "--config", str(server.config_path)], capture_output=True,
                              text=True, timeout=DEADLINE_S, check=False, env=server.environment(), user="nobody",
                              group="nogroup", extra_groups=[])
        if done.returncode == 126 or not os.access(TOOL, os.X_OK):
            self.skipTest("another user cannot run the programs from here")
        wrong = self.wrong(json.loads(line) for line in done.stdout.splitlines())
        self.assertIn("usermod -aG daemon nobody", wrong["control socket"]["advice"])


class DoctorOnPostgres(Doctor, OnPostgres, ProcessTest):
    def test_a_database_that_is_away_is_found(self):
        server = self.started()
        server.config["database"]["url"] = self.cluster.url("nowhere")
        server.restart()
        wait_until(lambda: server.status()["database"]["state"] == "away", "the database to be away")
        wrong = self.wrong(self.examine(server, status=1))
        self.assertEqual(set(wrong), {"database"})
        self.assertIn("nowhere", wrong["database"]["found"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
