#!/usr/bin/env python3
"""Ids whose sequences stand behind, as a logical switch-over leaves them: nothing is given one twice, and no event is blamed.
Also run by hand: RUN_RECORDER_BIN=… python3 FILE"""

import unittest

from harness import OnPostgres, ProcessTest


def values(server, query):
    return [list(row.values()) for row in server.database.rows(query)]


class Sequences(OnPostgres, ProcessTest):
    """What a logical switch-over leaves: all rows, and sequences that stand where they began."""

    def turn_back(self, server, table):
        """So that the next id is one that is taken: they have gaps, because what is only tried uses ids up too."""
        name = f"council_ex_{table}"
        server.database.execute(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT max(id) FROM {name}), false)")

    def refuse(self, server, council):
        server.database.execute(f"ALTER TABLE council_ex_runs ADD CONSTRAINT no_{council} CHECK (council <> '{council}') NOT VALID")

    def filled(self):
        server = self.daemon_with_database().start()
        server.wait_boot_pass()
        self.refuse(server, "bad")
        for n in range(30):
            server.send({"type": "note", "run_id": f"r{n}"}, {"type": "run_started", "run_id": f"d{n}", "council": "bad"})
        status = server.wait_applied()
        self.assertEqual((status["applied"], status["dead_letters"]), (30, 30))
        return server

    def check_ids(self, server, events, letters):
        for table, count in (("run_events", events), ("dead_letters", letters)):
            self.assertEqual(values(server, f"SELECT count(*), count(DISTINCT id) AS ids FROM council_ex_{table}"), [[count, count]])

    def test_they_are_set_at_the_next_connection(self):
        server = self.filled()
        server.stop()
        self.turn_back(server, "run_events")
        self.turn_back(server, "dead_letters")
        server.start()
        server.wait_for_log("sequence.*run_events.*stood at 0")
        server.send({"type": "note", "run_id": "x"}, {"type": "run_started", "run_id": "y", "council": "bad"})
        server.wait_applied()
        self.check_ids(server, 31, 31)
        status = server.check_ledger()
        self.assertEqual((status["applied"], status["dead_letters"]), (31, 31))

    def test_they_are_set_under_a_connection_that_stays(self):
        server = self.filled()
        self.turn_back(server, "run_events")
        self.turn_back(server, "dead_letters")
        server.send({"type": "note", "run_id": "x"}, {"type": "run_started", "run_id": "y", "council": "bad"})
        server.wait_applied()
        self.check_ids(server, 31, 31)
        status = server.check_ledger()
        self.assertEqual((status["applied"], status["dead_letters"]), (31, 31))
        self.assertEqual(status["database"]["reconnects"], 0)

    def test_a_role_that_may_not_set_them_says_so_and_nothing_becomes_a_dead_letter(self):
        server = self.filled()
        server.stop()
        self.cluster.sql("postgres", "DROP ROLE IF EXISTS recorder_alone; CREATE ROLE recorder_alone LOGIN")
        server.database.execute("GRANT USAGE ON SCHEMA public TO recorder_alone; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL "
                                "TABLES IN SCHEMA public TO recorder_alone")
        self.addCleanup(server.database.execute, "DROP OWNED BY recorder_alone")
        self.turn_back(server, "run_events")
        server.config["database"].update(url=self.cluster.url(server.database.name, "recorder_alone"), migrate=False)
        server.write_config()
        server.start()
        server.send({"type": "note", "run_id": "x"})
        server.wait_for_log(r"GRANT (USAGE, )?UPDATE ON SEQUENCE")
        self.assertEqual(server.check_ledger()["dead_letters"], 30)
        server.database.execute("GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA public TO recorder_alone")
        self.assertEqual(server.wait_applied()["applied"], 31)
        self.check_ids(server, 31, 30)


if __name__ == "__main__":
    unittest.main()
