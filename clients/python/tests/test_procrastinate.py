"""Procrastinate's real worker on its own database in memory. Skipped where Procrastinate, which Debian does not have, is not
installed."""
import asyncio
import importlib.util
import unittest

from run_recorder import Recorder

from .daemon import WithDaemon


@unittest.skipUnless(importlib.util.find_spec("procrastinate"), "procrastinate is not installed")
class Procrastinate(WithDaemon):
    def test_each_outcome_is_as_procrastinate_has_it(self):
        import procrastinate
        from procrastinate import testing

        from run_recorder.procrastinate import recorded, run_id
        app = procrastinate.App(connector=testing.InMemoryConnector())

        @app.task(name="good")
        async def good():
            return {"rows": 3}

        @app.task(name="in_a_thread")
        def in_a_thread():
            return 5

        @app.task(name="bad", retry=1)
        async def bad():
            raise ValueError("no")

        @app.task(name="aborted")
        async def aborted():
            raise procrastinate.exceptions.JobAborted

        async def work(recorder):
            async with app.open_async():
                ids = [await task.defer_async() for task in (good, in_a_thread, bad, aborted)]
                await app.run_worker_async(wait=False, worker_middleware=[recorded(recorder=recorder)])
                return ids
        with Recorder(self.socket, flush_timeout=60) as recorder:
            good_id, thread_id, bad_id, aborted_id = asyncio.run(work(recorder))
        self.assertEqual(self.wait_for(run_id(good_id), "completed")["result"], {"rows": 3})
        self.assertEqual(self.wait_for(run_id(thread_id), "completed")["job_id"], str(thread_id))
        self.assertEqual(self.wait_for(run_id(bad_id), "failed")["error"]["errors"][0]["message"], "no")
        again = self.wait_for(run_id(bad_id, 1), "failed")
        self.assertEqual((again["attempt"], again["parent_attempt_run_id"]), (2, run_id(bad_id)))
        self.wait_for(run_id(aborted_id), "cancelled")
