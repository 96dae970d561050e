"""Retention: finished runs go when their time is over, chains together, beside live ingestion, and do not come back."""

import json
import signal
import threading
import unittest

from harness import OnPostgres, OnSqlite, ProcessTest, wait_until


class Prune:
    def server(self, retention=None, **config):
        server = self.daemon_with_database({"retention": {"interval": "0s", **(retention or {})},
                                            "reconcile": {"interval": "0s", "grace": "1h"}, **config})
        return server.start()

    def age(self, server, days, where="true"):
        """Makes rows look as if all about them had happened days ago."""
        past = (f"now() - interval '{days} days'" if server.database.kind == "postgresql"
                else f"strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '-{days} days')")
        server.database.execute(f"UPDATE council_ex_runs SET inserted_at = {past}, updated_at = {past}, "
                                f"last_event_at = {past} WHERE {where};")

    @staticmethod
    def run_of(run_id, council="demo", end="run_completed", **started):
        events = [{"type": "run_started", "run_id": run_id, "id": f"{run_id}-s", "council": council, **started}]
        if end:
            events.append({"type": end, "run_id": run_id, "id": f"{run_id}-e"})
        return events

    def prune(self, server, *flags, status=0):
        done = server.tool("prune", "--json", *flags)
        self.assertEqual(done.returncode, status, done.stderr)
        return json.loads(done.stdout)

    def ids(self, server):
        return sorted(server.database.runs())

    def test_only_what_is_finished_and_old_goes_and_dry_run_only_counts(self):
        server = self.server({"keep": "30d"})
        server.send(*self.run_of("old"), *self.run_of("young"), *self.run_of("active", end=None))
        server.wait_applied()
        self.age(server, 40, "run_id <> 'young'")
        self.assertEqual(self.prune(server, "--dry-run"),
                         {"dry_run": True, "examined": 2, "runs": 1, "events": 2, "kept": 0, "nothing_due": False})
        self.assertEqual(self.ids(server), ["active", "old", "young"])
        self.assertEqual(self.prune(server)["runs"], 1)
        self.assertEqual(self.ids(server), ["active", "young"])
        self.assertEqual(sorted(server.database.events()), ["active", "young"])
        self.assertEqual(self.prune(server)["runs"], 0)
        self.assertIn("run_recorder_pruned_runs_total 1\n", server.control.get("/metrics").text)

    def test_times_by_status_and_council(self):
        server = self.server({"keep": "10d", "failed": "0s"}, **{"retention.councils": {'"My.Nightly"': "1d", "audit": "0s"}})
        server.send(*self.run_of("done"), *self.run_of("failed", end="run_failed"),
                    *self.run_of("nightly", council="My.Nightly", end="run_failed"), *self.run_of("audit", council="audit"))
        server.wait_applied()
        self.age(server, 5)
        self.assertEqual(self.prune(server)["runs"], 1)
        self.assertEqual(self.ids(server), ["audit", "done", "failed"])
        self.age(server, 20)
        self.assertEqual(self.prune(server)["runs"], 1)
        self.assertEqual(self.ids(server), ["audit", "failed"])
        self.assertEqual(self.prune(server, "--older-than", "1d", "--status", "failed")["runs"], 1)
        self.assertEqual(self.ids(server), ["audit"])
        self.assertEqual(self.prune(server, "--older-than", "1d", "--council", "other")["runs"], 0)

    def test_a_chain_goes_together_whichever_way_it_is_linked(self):
        server = self.server({"keep": "10d"})
        for form in ("root", "before"):
            server.send(*self.run_of(f"{form}-1", end="run_failed"),
                        *self.run_of(f"{form}-2", end="run_failed", attempt=2, parent_attempt_run_id=f"{form}-1"),
                        *self.run_of(f"{form}-3", end=None, attempt=3,
                                     parent_attempt_run_id=f"{form}-1" if form == "root" else f"{form}-2"))
        server.wait_applied()
        self.age(server, 20)
        report = self.prune(server)
        self.assertEqual((report["runs"], report["kept"]), (0, 4))
        server.send({"type": "run_completed", "run_id": "root-3"}, {"type": "run_completed", "run_id": "before-3"})
        server.wait_applied()
        self.assertEqual(self.prune(server)["runs"], 0, "the last attempts are young")
        self.age(server, 20, "run_id <> 'before-3'")
        self.assertEqual(self.prune(server, "--dry-run")["runs"], 3)
        self.assertEqual(self.prune(server)["runs"], 3)
        self.assertEqual(self.ids(server), ["before-1", "before-2", "before-3"])

    def test_a_resent_event_does_not_revive_a_removed_run(self):
        server = self.server({"keep": "10d"})
        events = self.run_of("gone")
        server.send(*events)
        server.wait_applied()
        self.age(server, 20)
        self.assertEqual(self.prune(server)["runs"], 1)
        # As it was sent, without ids, out of order, and in one batch with a run that is new.
        server.send(events[0], *self.run_of("new"), events[1], {"type": "run_completed", "run_id": "gone"},
                    {"type": "note", "run_id": "gone"}, {"type": "run_started", "run_id": "gone"})
        status = server.wait_applied()
        self.assertEqual(self.ids(server), ["new"])
        self.assertEqual(sorted(server.database.events()), ["new"])
        self.assertEqual(status["duplicate"], 5)
        server.check_ledger()
        server.restart()
        server.send(events[0])
        self.assertEqual(server.wait_applied()["duplicate"], 6)
        self.assertEqual(self.ids(server), ["new"])

    def test_the_daemon_prunes_at_intervals_and_after_a_reload(self):
        server = self.server({"keep": "0s"})
        server.send(*self.run_of("old"))
        server.wait_applied()
        self.age(server, 20)
        said = server.tool("prune")
        self.assertIn("for ever", said.stderr)
        self.assertEqual(self.ids(server), ["old"])
        server.config["retention"] = {"keep": "10d", "interval": "50ms"}
        server.write_config()
        server.signal(signal.SIGHUP)
        server.wait_for_log("removed finished runs past their retention.*runs=1")
        self.assertEqual(self.ids(server), [])

    def test_thousands_go_while_events_come(self):
        server = self.server({"keep": "10d"})
        for first in range(0, 3000, 500):
            server.send(*(event for n in range(first, first + 500) for event in self.run_of(f"old-{n:05}")))
        server.wait_applied()
        self.age(server, 20)
        with server.client() as client:
            done = []
            pruning = threading.Thread(target=lambda: done.append(self.prune(server)))
            pruning.start()
            sent = 0
            while not done:
                client.send(*self.run_of(f"new-{sent:05}"))
                sent += 1
            pruning.join()
        self.assertEqual((done[0]["runs"], done[0]["events"], done[0]["kept"]), (3000, 6000, 0))
        server.wait_applied()
        self.assertEqual(self.ids(server), [f"new-{n:05}" for n in range(sent)])
        self.assertGreater(sent, 0)
        server.check_ledger()

    def test_mistakes_are_named(self):
        server = self.server()
        server.send(*self.run_of("r"))
        server.wait_applied()
        for body, word in (({"older_than": "5"}, "older_than"), ({"status": ["running"]}, "status"),
                           ({"dry": True}, "dry_run"), ({"limit": 0}, "limit"), ({"cursor": "x", "older_than": "1d"}, "cursor")):
            answer = server.control.post("/v1/prune", body)
            self.assertEqual(answer.status, 400, answer)
            self.assertIn(word, answer.json["error"]["message"])
        self.assertEqual(server.control.get("/v1/prune").status, 405)


class PruneOnSqlite(Prune, OnSqlite, ProcessTest):
    pass


class PruneOnPostgres(Prune, OnPostgres, ProcessTest):
    def test_a_role_that_may_not_delete_is_reported(self):
        server = self.server({"keep": "10d"})
        server.send(*self.run_of("old"))
        server.wait_applied()
        self.age(server, 20)
        server.database.execute("CREATE ROLE no_pruner LOGIN; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO "
                                "no_pruner; GRANT DELETE ON council_ex_dead_letters, council_ex_leases, council_ex_pruned TO "
                                "no_pruner;")
        server.config["database"].update(url=self.cluster.url(server.database.name, "no_pruner"), migrate=False)
        server.restart()
        done = wait_until(lambda: (tried := server.tool("prune")).returncode != 69 and tried, "the database")
        self.assertEqual(done.returncode, 1)
        self.assertIn("permission denied", done.stderr)
        self.assertIn("DELETE", done.stderr)
        self.assertEqual(self.ids(server), ["old"])
        server.send(*self.run_of("goes-on"))
        server.wait_applied()


if __name__ == "__main__":
    unittest.main(verbosity=2)
