"""What values become. Pure."""
import collections
import dataclasses
import datetime
import decimal
import enum
import json
import math
import pathlib
import unittest
import uuid

from run_recorder import _event, _values


def become(value, limit=1 << 20):
    return json.loads(_values.encode(value, limit))


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: float


class Values(unittest.TestCase):
    def test_plain_values_are_as_the_interpreter_encodes_them(self):
        for value in (None, True, 1, -1.5, "é✓🚀", [], {}, [{"a": [1, "b"]}], "\\u0000", 2 ** 70, 10 ** 299):
            self.assertEqual(become(value), value)

    def test_what_json_cannot_say(self):
        self.assertEqual(become(b"ab\xffcd"), "ab\ufffdcd")
        self.assertEqual(become({"a\0": "\ud800"}), {"a\ufffd": "\ufffd"})
        self.assertEqual(become([math.nan, -math.inf]), ["NaN", "-Infinity"])
        self.assertEqual(become({2: "a", "2": "b", None: 0, False: 1}), {"2": "b", "null": 0, "false": 1})

    def test_the_languages_own_types(self):
        moment = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
        number = uuid.uuid4()
        for value, wanted in ((moment, "2026-01-02T03:04:05+00:00"), (decimal.Decimal("1.10"), "1.10"), (Colour.RED, "red"),
                              (Point(1, 2.5), {"x": 1, "y": 2.5}), ({3}, [3]), ((1, 2), [1, 2]), (collections.OrderedDict(a=1), {"a": 1}),
                              (collections.namedtuple("Pair", "a b")(1, 2), [1, 2])):
            self.assertEqual(become(value), wanted)
        self.assertIn(str(number), become(number))
        self.assertIn("/tmp/x", become(pathlib.Path("/tmp/x")))

    def test_long_integers_are_cut_without_their_text(self):
        self.assertEqual(become(10 ** 299), 10 ** 299)
        self.assertEqual(become(-(10 ** 5000)), "-1" + "0" * 299)
        self.assertEqual(become([7 * 10 ** 400]), ["7" + "0" * 299])

    def test_cycles_and_depth(self):
        one = {"n": 1}
        one["self"] = [one]
        self.assertEqual(become(one), {"n": 1, "self": ["[cycle]"]})
        twice = [1]
        self.assertEqual(become([twice, twice]), [[1], [1]])
        deep = []
        for _ in range(5000):
            deep = [deep]
        text = _values.encode(deep, 1 << 20)
        self.assertEqual(text.count(b"["), 61)
        self.assertIn(b"[too deep]", text)

    def test_what_raises_is_named(self):
        class Raises:
            def __repr__(self):
                raise KeyError("x")
        self.assertEqual(become({"a": Raises(), "b": 1}), {"a": "[unreadable: KeyError]", "b": 1})

    def test_too_large_is_known_early(self):
        for value in ("x" * 2000, ["x" * 100] * 20, {str(n): n for n in range(500)}):
            with self.assertRaises(_values.TooLarge):
                _values.encode(value, 1000)


class Events(unittest.TestCase):
    def make(self, type="run_started", run_id="r", **fields):
        _, line, is_reduced = _event.Lines(1 << 20).make(type, run_id, fields)
        self.assertEqual(b"truncated" in line, is_reduced)
        return json.loads(line)

    def test_fields_are_as_the_daemon_takes_them(self):
        event = self.make(council="é" * 200, attempt=0, oban_job_id=2 ** 63, job_id=7, queue="", expires_in=60.0, input=None, more=None)
        self.assertEqual((event["council"], event["job_id"], event["expires_in"], event["input"]), ("é" * 127, "7", 60, None))
        self.assertFalse({"attempt", "oban_job_id", "queue", "more"} & set(event))
        event = self.make("note", usage={"a": math.inf, "b": 2, "c": "3", "d": True},
                          progress={"done": 1, "total": math.nan, "unit": "x" * 99})
        self.assertEqual((event["usage"], event["progress"]), ({"b": 2}, {"done": 1, "unit": "x" * 64}))
        self.assertNotIn("progress", self.make("note", progress=5))

    def test_only_workers_name_themselves(self):
        self.assertIn("worker_pid", self.make())
        for event_type in ("run_queued", "run_heartbeat", "run_lost"):
            self.assertNotIn("worker_pid", self.make(event_type))

    def test_names_are_made_valid(self):
        self.assertEqual(self.make("Row Done!")["type"], "row_done_")
        self.assertEqual(self.make("1")["type"], "event_1")
        self.assertEqual(len(self.make("a" * 100)["type"]), 64)
        self.assertLessEqual(len(self.make(run_id="é" * 300)["run_id"].encode()), 255)
        self.assertNotEqual(self.make(run_id="é" * 300)["run_id"], self.make(run_id="é" * 301)["run_id"])
        with self.assertRaises(_event.NoRunId):
            self.make(run_id=None)

    def test_ids_are_unique_and_times_are_now(self):
        lines = _event.Lines(1 << 20)
        events = [json.loads(lines.make("note", "r", {})[1]) for _ in range(1000)]
        self.assertEqual(len({event["id"] for event in events}), 1000)
        self.assertEqual([event["at"] for event in events], sorted(event["at"] for event in events))
        self.assertEqual(uuid.UUID(_event.new_run_id()).version, 7)

    def test_too_large_is_sent_without_its_values(self):
        event = self.make("run_failed", errors=[{"kind": "E", "message": "m" * 5000, "more": "x" * (1 << 21)}] * 20, job_state="failed")
        self.assertEqual((len(event["errors"]), event["job_state"]), (10, "failed"))
        self.assertEqual({key: len(value) for key, value in event["errors"][0].items()}, {"kind": 1, "message": 1000})
        self.assertEqual(set(json.loads(_event.reduced(b'{"type":"note","run_id":"r","id":"1","payload":{"x":1},"more":1}'))),
                         {"type", "run_id", "id", "truncated"})


if __name__ == "__main__":
    unittest.main()
