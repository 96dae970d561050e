"""Acknowledged means durable: restarts, kill -9 under load, a database that comes and goes, signals under load. Each test
ends with the independent model over every row and every entry of the history, and with the ledger."""

import resource
import signal
import unittest
from contextlib import contextmanager

from harness import SANITIZER, Gone, OnPostgres, OnSqlite, ProcessTest, wait_until
from load import EVENTS_PER_SENDER, SENDERS, Sender, all_done, pump_until
from oracle import DEFAULT_EXCLUDED, Oracle, accepted_prefix
from workload import stream


class Durability:
    """The same on both databases."""

    def load(self, server, seed):
        senders = [Sender(server, stream(seed, EVENTS_PER_SENDER, f"s{number}")) for number in range(SENDERS)]
        for sender in senders:
            self.addCleanup(sender.close)
            sender.connect()
        return senders

    def check_everything(self, server, senders):
        """All of it was accepted and applied, exactly once."""
        server.wait_applied()
        oracle = Oracle()
        for sender in senders:
            self.assertTrue(sender.done)
            oracle.apply_all(sender.events)
        oracle.check(server.database)
        status = server.check_ledger()
        self.assertEqual(status["applied"], oracle.totals()["applied"])
        self.assertGreaterEqual(status["duplicate"], oracle.totals()["duplicate"])
        self.assertEqual(status["dead_letters"], 0)
        return oracle

    def test_restart_keeps_rows_ledger_and_identity(self):
        server = self.daemon_with_database().start()
        first = [{"type": "run_started", "run_id": "a", "id": "1"}, {"type": "run_started", "run_id": "b"}]
        server.send(*first)
        server.wait_applied()
        before = server.status()
        server.restart()
        second = [{"type": "run_completed", "run_id": "a", "result": 1}, {"type": "run_started", "run_id": "a", "id": "1"}]
        server.send(*second)
        server.wait_applied()
        after = server.check_ledger()
        self.assertEqual((after["accepted"], after["applied"], after["duplicate"]), (before["accepted"] + 2, 3, 1))
        oracle = Oracle().apply_all(first + second[:1])
        self.assertEqual(server.database.runs()["a"]["status"], "completed")
        recorders = server.database.rows("SELECT * FROM council_ex_recorders")
        self.assertEqual(len(recorders), 1)
        self.assertEqual(oracle.runs["a"].status, "completed")

    def test_kill_9_under_load_loses_nothing_and_applies_nothing_twice(self):
        server = self.daemon_with_database().start()
        senders = self.load(server, 1)
        total = EVENTS_PER_SENDER * SENDERS
        for share in (0.15, 0.4, 0.6):
            pump_until(senders, lambda: sum(sender.settled for sender in senders) > share * total)
            server.kill()
            self.drain_answers(senders)
            server.start()
            for sender in senders:
                sender.connect()
        # The last time nobody resends: what was acknowledged is there, and of the rest an unbroken beginning.
        pump_until(senders, lambda: sum(sender.settled for sender in senders) > 0.85 * total)
        server.kill()
        self.drain_answers(senders)
        server.start()
        server.wait_applied()
        histories = server.database.events()
        oracle = Oracle()
        acknowledged = found = 0
        for sender in senders:
            mine = {event["run_id"] for event in sender.events}
            ids = {entry["event_id"] for run_id in mine for entry in histories.get(run_id, [])}
            count = accepted_prefix(sender.sent(), sender.settled, ids, DEFAULT_EXCLUDED)
            oracle.apply_all(sender.events[:count])
            acknowledged += sender.settled
            found += count
        # A run of which only excluded or no events came has no row.
        oracle.runs = {run_id: run for run_id, run in oracle.runs.items() if run.history}
        oracle.check(server.database)
        status = server.check_ledger()
        self.assertEqual(status["applied"], oracle.totals()["applied"])
        self.assertGreaterEqual(acknowledged, 0.85 * total)
        print(f"kill -9 x 4 on {server.database.kind}: {acknowledged} events acknowledged, {found} found, 0 lost, 0 twice")

    @staticmethod
    def drain_answers(senders):
        """What the daemon had answered before it died counts."""
        for sender in senders:
            try:
                while not sender.done:
                    sender.step()
            except Gone:
                pass

    def test_sigterm_under_load_settles_what_was_read_and_exits_0(self):
        server = self.daemon_with_database().start()
        senders = self.load(server, 2)
        pump_until(senders, lambda: sum(sender.settled for sender in senders) > EVENTS_PER_SENDER)
        server.signal(signal.SIGTERM)
        self.drain_answers(senders)
        self.assertEqual(server.wait(), 0)
        server.start()
        for sender in senders:
            sender.connect()
        pump_until(senders, all_done(senders))
        self.check_everything(server, senders)

    def test_an_outage_in_the_middle_of_a_load_is_caught_up(self):
        server = self.daemon_with_database().start()
        senders = self.load(server, 3)
        pump_until(senders, lambda: sum(sender.settled for sender in senders) > EVENTS_PER_SENDER)
        with self.database_away(server):
            before = server.status()["accepted"]
            pump_until(senders, lambda: server.status()["accepted"] > before + EVENTS_PER_SENDER)
            self.assertGreater(server.check_ledger()["waiting"], 0)
            server.kill()  # the backlog is on disk, and so is the ledger
            self.drain_answers(senders)
            server.start()
            for sender in senders:
                sender.connect()
            pump_until(senders, all_done(senders))
            self.assertGreater(server.check_ledger()["waiting"], 0)
        self.check_everything(server, senders)

    def test_a_read_over_the_control_socket_sees_what_was_acknowledged_before(self):
        server = self.daemon_with_database().start().wait_tables()
        with server.client() as client:
            for number in range(50):
                client.send({"type": "run_started", "run_id": f"r{number}", "council": "c"})
                self.assertEqual(server.control.request("GET", f"/v1/runs/r{number}").status, 200)

    def test_drain_empties_the_spool(self):
        server = self.daemon_with_database().start()
        with self.database_away(server):
            server.send(*[{"type": "run_started", "run_id": f"r{number}"} for number in range(500)])
            server.kill()
        done = server.run("--drain")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(server.database.runs()), 500)
        server.start()
        self.assertEqual(server.check_ledger()["applied"], 500)

    def test_memory_stays_bounded_with_1000_connections_and_a_backlog(self):
        if SANITIZER:
            self.skipTest("a sanitizer's memory is its own")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 2500:
            self.skipTest("the limit of open files is too low")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2500), hard))
        server = self.daemon_with_database({"limits": {"connections": 1100}}).start()
        clients = []
        for _ in range(1000):
            client = server.client()
            self.addCleanup(client.close)
            clients.append(client)
        with self.database_away(server):
            for batch in range(40):
                senders = clients[batch % 10::10]
                for client in senders:
                    client.queue(*[{"type": "note", "run_id": f"r{batch}", "id": f"{id(client)}-{batch}-{number}",
                                    "text": "x" * 700} for number in range(20)])
                for client in senders:
                    client.settle()
            backlog = server.status()["waiting"]
            self.assertEqual(backlog, 40 * 100 * 20)
            idle_kib = server.rss_kib()
        server.wait_applied()
        peak_kib = server.rss_kib("VmHWM")
        print(f"1,000 connections and a backlog of {backlog} events on {server.database.kind}: {idle_kib // 1024} MiB resident,"
              f" {peak_kib // 1024} MiB at most")
        self.assertLessEqual(peak_kib, 64 * 1024)
        server.check_ledger()


class DurabilityOnSqlite(OnSqlite, Durability, ProcessTest):
    @contextmanager
    def database_away(self, server):
        """Somebody else holds the file's write lock."""
        blocker = server.database._connect()
        try:
            blocker.execute("BEGIN IMMEDIATE")
            yield
        finally:
            blocker.close()


class DurabilityOnPostgres(OnPostgres, Durability, ProcessTest):
    @contextmanager
    def database_away(self, _server):
        self.cluster.stop()
        try:
            yield
        finally:
            self.cluster.start()

    def test_a_daemon_that_starts_before_its_database_serves_and_catches_up(self):
        server = self.daemon_with_database()
        events = stream(5, 500, "early")
        self.cluster.stop()
        try:
            server.start()
            server.send(*events)
            status = server.check_ledger()
            self.assertEqual(status["waiting"] + status["excluded"], 500)
            self.assertEqual(server.control.get("/v1/runs").status, 503)
        finally:
            self.cluster.start()
        server.wait_applied()
        Oracle().apply_all(events).check(server.database)

    def test_an_outage_is_logged_once_when_it_begins_and_once_when_it_ends(self):
        server = self.daemon_with_database({"log": {"format": "json"}}).start()
        server.send({"type": "run_started", "run_id": "a"})
        server.wait_applied()
        mark = len(server.log())
        self.cluster.stop()
        try:
            server.send(*[{"type": "note", "run_id": "a"} for _ in range(10)])
            server.wait_for_log(r'"error"', after=mark)
            wait_until(lambda: server.check_ledger()["waiting"] == 10, "the ledger to show the backlog")
        finally:
            self.cluster.start()
        server.wait_applied()
        errors = [line for line in server.log()[mark:].splitlines() if '"error"' in line]
        self.assertLessEqual(len(errors), 2, errors)

    def test_a_frozen_server_is_an_outage_too(self):
        server = self.daemon_with_database().start()
        server.send({"type": "run_started", "run_id": "a"})
        server.wait_applied()
        self.cluster.freeze()
        try:
            server.send(*[{"type": "note", "run_id": "a"} for _ in range(100)])
            self.assertEqual(server.check_ledger()["accepted"], 101)
            self.assertEqual(server.control.request("GET", "/healthz").status, 200)
        finally:
            self.cluster.thaw()
        server.wait_applied()
        self.assertEqual(len(server.database.events()["a"]), 101)

    def test_a_frozen_server_does_not_hold_up_the_end(self):
        server = self.daemon_with_database({"daemon": {"shutdown_timeout": "1s"}}).start()
        server.send({"type": "run_started", "run_id": "a"})
        server.wait_applied()
        self.cluster.freeze()
        try:
            server.send(*[{"type": "note", "run_id": "a"} for _ in range(100)])
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait(20), 0)  # a call to the database may take 30 s otherwise
        finally:
            self.cluster.thaw()
        server.start()
        self.assertEqual(server.wait_applied()["applied"], 101)

    def test_a_second_sigterm_exits_at_once(self):
        server = self.daemon_with_database({"daemon": {"shutdown_timeout": "1h"}}).start()
        server.send({"type": "run_started", "run_id": "a"})
        server.wait_applied()
        self.cluster.freeze()
        try:
            server.send(*[{"type": "note", "run_id": "a"} for _ in range(100)])
            server.signal(signal.SIGTERM)
            wait_until(lambda: not server._accepts(server.socket_path), "the daemon to stop accepting")
            self.assertTrue(server.alive())
            server.signal(signal.SIGTERM)
            server.wait()
        finally:
            self.cluster.thaw()
        server.start()
        self.assertEqual(server.wait_applied()["applied"], 101)

    def test_a_server_that_is_killed_again_and_again_gets_every_event_once(self):
        server = self.daemon_with_database().start()
        senders = self.load(server, 4)
        for round_number in range(1, 4):
            pump_until(senders, lambda: sum(sender.settled for sender in senders) > round_number * EVENTS_PER_SENDER)
            self.cluster.kill()
            self.cluster.start()
        pump_until(senders, all_done(senders))
        self.check_everything(server, senders)

    def test_one_bad_row_becomes_a_dead_letter_and_costs_its_neighbours_nothing(self):
        server = self.daemon_with_database().start()
        wait_until(lambda: server.control.get("/v1/runs").status == 200, "the tables")
        server.database.execute("ALTER TABLE council_ex_run_events ADD CONSTRAINT poison CHECK (payload->>'poison' IS NULL)")
        events = stream(6, 2_000, "p")
        poison = [{"type": "note", "run_id": events[0]["run_id"], "id": f"poison-{n}", "poison": "yes"} for n in range(3)]
        mixed = events[:500] + poison[:1] + events[500:1_000] + poison[1:] + events[1_000:]
        server.send(*mixed)
        status = server.wait_applied()
        self.assertEqual(status["dead_letters"], 3)
        Oracle().apply_all(events).check(server.database)
        server.check_ledger()
        letters = server.control.ok("GET", "/v1/dead-letters")["dead_letters"]
        self.assertEqual(len(letters), 3)
        server.database.execute("ALTER TABLE council_ex_run_events DROP CONSTRAINT poison")
        self.assertEqual(server.control.post(f"/v1/dead-letters/{letters[0]['id']}/retry").status, 200)
        self.assertEqual(server.control.delete(f"/v1/dead-letters/{letters[1]['id']}").status // 100, 2)
        wait_until(lambda: server.check_ledger()["dead_letters"] == 1, "the dead letters to be dealt with")
        self.assertEqual(server.check_ledger()["dead_letters_removed"], 1)


if __name__ == "__main__":
    unittest.main()
