"""The documents, typed: every command of README.md, docs/operations.md and docs/tasks.md, as it is written there, by whom it is for. The
plan is walk_plan.py. Run by `./dev system`; leaves a table of what was typed, and how it went, in walk.md beside the machines' root."""

import re
import sys
import unittest
from pathlib import Path

import documents
import walk_plan as plan
from machine import FOLDER, Machine
from walk import report, Situation, Step, type_step

SOURCE = Path(__file__).resolve().parents[2]


class Walk(unittest.TestCase):
    tables = []

    @classmethod
    def tearDownClass(cls):
        system = re.search('^PRETTY_NAME="(.*)"$', (FOLDER / "base/etc/os-release").read_text(), re.MULTILINE)[1]
        not_typed = "".join(f"- `{' '.join(command.split())}`: {reason}\n" for command, reason in plan.NOT_TYPED.items())
        (FOLDER / "walk.md").write_text(f"# The walk on {system}\n\n" + "\n".join(cls.tables) + f"\n## Not typed\n\n{not_typed}")

    def test_has_every_command_of_the_documents_and_no_other(self):
        texts = [(SOURCE / name).read_text() for name in plan.DOCUMENTS]
        written = {command for text in texts for command in documents.commands(text, tuple(plan.TEXTS))}
        steps = {step.text for steps in plan.CHAPTERS.values() for step in steps if isinstance(step, Step)}
        self.assertEqual(steps & set(plan.NOT_TYPED), set(), "typed all the same")
        self.assertEqual(written - steps - set(plan.NOT_TYPED), set(), "a Step of walk_plan.py is missing")
        self.assertEqual(steps | set(plan.NOT_TYPED), written, "the documents do not have it any more")
        met = {text for document in texts for text in documents.texts_met(document, tuple(plan.TEXTS))}
        self.assertEqual(met, set(plan.TEXTS), "no block begins so any more")

    def test_from_the_source_to_a_service(self):
        self.walk("From the source to a service")

    def test_a_service_on_sqlite(self):
        self.walk("A service on SQLite")

    def test_postgresql_and_removal(self):
        self.walk("PostgreSQL, and removal")

    def test_cron_and_timers(self):
        self.walk("Cron and timers")

    def test_oban(self):
        self.walk("Oban")

    def test_one_of_several_hosts(self):
        self.walk("One of several hosts")

    def test_a_postgresql_on_this_host(self):
        self.walk("A PostgreSQL on this host")

    def walk(self, chapter):
        machine = Machine()
        self.addCleanup(machine.stop)
        machine.boot()
        typed, complete = [], False
        try:
            for step in plan.CHAPTERS[chapter]:
                if isinstance(step, Situation):
                    step.what(machine)
                else:
                    typed.append(type_step(machine, step))
            complete = True
        finally:
            table = report(chapter, typed)
            self.tables.append(table)
            print(f"\n{table}", file=sys.stderr, flush=True)
            if not complete or any(one.problem for one in typed):
                print(machine.run("journalctl", "--no-pager", "-n", "60", check=False).stdout, file=sys.stderr)
        self.assertEqual([one.step.text for one in typed if one.problem], [])


if __name__ == "__main__":
    unittest.main()
