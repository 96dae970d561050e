"""A spool whose files are taken away under the daemon, and one that is there twice: a copy must not be taken for the original."""

import re
import shutil
import subprocess
import unittest

from harness import Daemon, SqliteDatabase, merged, shared_cluster, temporary_folder, wait_until

REFUSED = r"the spool cannot accept events, all are refused"
NOTICED = r"the spool can no longer be used"
DOUBT = r"the recorder id is in doubt, events are spooled"
NEW_ID = r"one of the two spools is a copy; taking a new id"
LOST = r"(?i)is lost|are lost|has forgotten|dead letter"


def started(run_id, **more):
    return {"type": "run_started", "run_id": run_id, "council": "demo", **more}


def copy_of(server, **config):
    """Another daemon on a copy of that one's spool, as it is now, and on the same database."""
    folder = temporary_folder()
    subprocess.run(["cp", "-a", str(server.spool_path), str(folder / "spool")], check=True)
    other = Daemon(server.database_url, folder=folder)
    other.config = merged(other.config, {section: values for section, values in server.config.items()
                                         if section not in ("socket", "control", "spool")} | config)
    return other


class FilesGone(unittest.TestCase):
    def setUp(self):
        self.server = Daemon()
        self.addCleanup(self.server.close)
        self.server.start()
        self.server.send(started("before", id="1"))

    def refused(self, run_id):
        with self.server.client() as client:
            client.send(started(run_id))
            self.assertEqual({1: "unavailable"}, client.codes())

    def check_latched(self, *words):
        status = self.server.status()["spool"]
        self.assertTrue(status["failed"])
        for word in words:
            self.assertIn(word, status["failure"])
        self.assertEqual(503, self.server.control.get("/readyz").status)
        errors = self.server.log_lines("error")
        for line in errors:
            self.assertIn(str(self.server.spool_path), line)
        for pattern in (REFUSED, NOTICED):  # by whoever appends, and by the look of each second
            self.assertLessEqual(len([line for line in errors if re.search(pattern, line)]), 1, errors)
        self.assertTrue(errors)

    def check_all_is_applied(self, *run_ids):
        """What was acknowledged before is applied by the stop, if not earlier."""
        self.assertEqual(0, self.server.stop(), self.server.log()[-2000:])
        self.assertEqual(sorted(run_ids), sorted(SqliteDatabase(self.server.sqlite_path).runs()))

    def test_a_deleted_folder_takes_nothing_more_and_what_was_acknowledged_is_applied(self):
        shutil.rmtree(self.server.spool_path)
        self.refused("late")
        self.refused("later")
        self.check_latched("deleted or moved away", "put the folder back")
        self.check_all_is_applied("before")

    def test_an_idle_daemon_notices(self):
        shutil.rmtree(self.server.spool_path)
        wait_until(lambda: self.server.control.get("/readyz").status == 503, "the daemon to notice")
        self.check_latched("deleted or moved away")

    def test_a_replaced_folder_is_left_alone_and_the_old_one_is_used_once_it_is_back(self):
        old = self.server.folder / "old"
        self.server.spool_path.rename(old)
        self.server.spool_path.mkdir()
        self.refused("late")
        self.check_latched("was replaced")
        self.assertEqual([], list(self.server.spool_path.iterdir()))
        self.check_all_is_applied("before")
        self.server.spool_path.rmdir()
        old.rename(self.server.spool_path)
        self.server.start()
        self.server.send(started("after"))
        self.assertEqual(2, self.server.wait_applied()["applied"])

    def test_no_second_daemon_starts_beside_one_whose_lock_file_is_gone(self):
        (self.server.spool_path / "lock").unlink()
        other = Daemon(folder=temporary_folder(), config={"spool": {"path": self.server.spool_path}})
        self.addCleanup(other.close)
        done = other.run()
        self.assertEqual(69, done.returncode, done.stderr)
        self.assertIn(str(self.server.spool_path), done.stderr)
        self.server.wait_for_log(r"lock file \S+ was deleted or replaced")
        self.assertEqual(self.server.process.pid, int((self.server.spool_path / "lock").read_text()))
        self.assertEqual(69, other.run().returncode)
        self.server.send(started("after"))


class SocketsGone(unittest.TestCase):
    """The same of a path that is no file: whoever listens does not notice by himself."""

    def test_a_deleted_or_replaced_socket_is_logged_once(self):
        server = Daemon()
        self.addCleanup(server.close)
        server.start()
        server.wait_for_log("run-recorderd accepts events")  # from here on the paths are watched
        server.socket_path.unlink()
        server.wait_for_log(r"error the event socket was deleted or replaced[^\n]*" + re.escape(str(server.socket_path)))
        self.assertEqual(200, server.control.get("/healthz").status)
        server.control_path.rename(server.folder / "elsewhere.sock")
        server.wait_for_log(r"error the control socket was deleted or replaced")
        (server.folder / "elsewhere.sock").rename(server.control_path)
        server.wait_for_log(r"the control socket is back")
        self.assertEqual(2, len(re.findall("was deleted or replaced", server.log())))
        self.assertEqual(0, server.stop())


class Copies(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = shared_cluster()

    def daemon(self, **reconcile):
        self.database = shared_cluster().create_fresh_database()
        self.addCleanup(self.database.drop)
        server = Daemon(self.database.url, config={"reconcile": reconcile})
        self.addCleanup(server.close)
        return server.start()

    def copy(self, server, **config):
        other = copy_of(server, **config)
        self.addCleanup(other.close)
        return other

    def history(self):
        return {run_id: [entry["type"] for entry in entries] for run_id, entries in self.database.events().items()}

    def check_each_ledger(self, *servers):
        """Each daemon's `applied` is what the history has from it."""
        entries = [entry for history in self.database.events().values() for entry in history]
        for server in servers:
            status = server.check_ledger()
            self.assertEqual(status["applied"], sum(entry["recorder"] == status["recorder"] for entry in entries), status)

    def test_a_copy_beside_the_original_takes_an_id_of_its_own_and_what_both_have_is_applied_once(self):
        first = self.daemon(grace="1ms", recorder_timeout="1h")
        first.wait_boot_pass()
        first.send(started("r", at="2020-01-01T00:00:00Z"))
        first.wait_applied()
        self.cluster.stop()
        # Without ids of their own: nothing but the position tells that they were applied.
        first.send(*({"type": "step", "run_id": "r"} for _ in range(200)))
        second = self.copy(first)
        self.cluster.start()
        second.start()
        second.send(started("s"))
        second.wait_for_log(DOUBT)
        first.send(started("t"))
        second.wait_for_log(NEW_ID)
        first.wait_applied()
        second.wait_applied()
        second.wait_boot_pass()
        self.assertEqual(["run_started"] + ["step"] * 200, self.history()["r"])
        self.assertEqual(["run_started"], self.history()["s"])
        self.assertNotEqual(first.status()["recorder"], second.status()["recorder"])
        self.check_each_ledger(first, second)
        # Neither has judged what the other one's workers do.
        self.assertEqual({"running"}, {row["status"] for row in self.database.runs().values()})
        self.assertFalse(re.search(LOST, first.log() + second.log()), first.log() + second.log())
        # It stays so, for both.
        ids = [server.status()["recorder"] for server in (first, second)]
        for server in (first, second):
            server.restart()
            server.wait_applied()
        self.assertEqual(ids, [server.status()["recorder"] for server in (first, second)])

    def test_an_original_that_comes_back_beside_its_copy_gives_its_id_up(self):
        first = self.daemon(recorder_timeout="2s")
        first.send(started("r"))
        first.wait_applied()
        old = first.status()["recorder"]
        first.kill()
        second = self.copy(first)
        second.start()
        second.wait_applied()
        wait_until(lambda: second.status()["database"]["state"] == "up", "the copy to go on with the id")
        self.assertEqual(old, second.status()["recorder"])
        first.start()
        first.send({"type": "run_completed", "run_id": "r"})
        first.wait_for_log(NEW_ID)
        first.wait_applied()
        self.assertEqual(old, second.status()["recorder"])
        self.assertNotEqual(old, first.status()["recorder"])
        self.assertEqual({"r": ["run_started", "run_completed"]}, self.history())
        self.check_each_ledger(first)

    def test_a_spool_of_another_machine_is_another_recorder_at_once(self):
        first = self.daemon(recorder_timeout="1h")
        first.send(started("r"))
        first.wait_applied()
        second = self.copy(first)
        identity = second.spool_path / "identity"
        identity.write_text(re.sub(r"(?m)^place \S+", "place 0123456789abcdef", identity.read_text()))
        if not re.search(r"(?m)^place [0-9a-f]{16} ", (first.spool_path / "identity").read_text()):
            self.skipTest("this machine has no id")
        second.start()
        second.wait_for_log(r"comes from another machine, using a new recorder id")
        second.send(started("s"))
        second.wait_applied()
        self.assertNotEqual(first.status()["recorder"], second.status()["recorder"])
        self.assertEqual({"r": ["run_started"], "s": ["run_started"]}, self.history())
        self.check_each_ledger(first, second)

    def test_a_spool_that_is_moved_on_purpose_keeps_its_id(self):
        first = self.daemon(recorder_timeout="2s")
        first.send(started("r"))
        first.wait_applied()
        old = first.status()["recorder"]
        self.assertEqual(0, first.stop())
        second = self.copy(first)
        identity = second.spool_path / "identity"
        identity.write_text(re.sub(r"(?m)^place \S+", "place 0123456789abcdef", identity.read_text()))
        done = second.run("--adopt-spool")
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        self.assertIn(old, done.stdout)
        second.start()
        second.send({"type": "run_completed", "run_id": "r"})
        second.wait_applied()
        self.assertEqual(old, second.status()["recorder"])
        self.assertEqual(2, second.check_ledger()["applied"])
        self.assertEqual({"r": ["run_started", "run_completed"]}, self.history())

    def test_a_copy_of_a_live_spool_has_lost_nothing_that_the_database_has(self):
        first = self.daemon(recorder_timeout="2s")
        first.send(*(started(f"r-{number}") for number in range(50)))
        second = self.copy(first)
        first.send(*(started(f"s-{number}") for number in range(50)))
        first.wait_applied()
        # `cp -r` comes to the mark after the segment.
        shutil.copyfile(first.spool_path / "synced", second.spool_path / "synced")
        first.kill()
        second.start()
        second.send(started("t"))
        status = second.wait_applied()
        self.assertEqual((101, 0, 0), (status["applied"], status["dead_letters"], status["forgotten"]))
        self.assertEqual(101, len(self.history()))
        self.assertFalse(re.search(LOST.replace("|dead letter", ""), second.log()), second.log())
        second.check_ledger()


if __name__ == "__main__":
    unittest.main()
