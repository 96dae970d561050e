"""What values become. Pure."""
import collections
import dataclasses
import datetime
import decimal
import enum
import json
import linecache
import math
import os
import pathlib
import pwd
import unittest
import uuid
from unittest import mock

from run_recorder import _errors, _event, _unsent, _values


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

    def test_what_cannot_fit_is_never_walked_slowly(self):
        shared, askew = [1], {"a": 1}
        for _ in range(50):
            shared, askew = [shared, shared], {"a": askew, "b": [askew]}
        late = [*([1, 2] for _ in range(400_000)), datetime.date(2026, 1, 2)]
        with mock.patch.multiple(_values, _Plain=None, _dump=None):
            for value in ([[1, 2] for _ in range(400_000)], [[0] * 1000 for _ in range(1100)], shared, askew, late, [None] * 600_000):
                with self.assertRaises(_values.TooLarge):
                    _values.encode({"payload": value}, 1 << 20)

    def test_what_fits_to_the_byte_is_taken_and_no_more(self):
        class Text(str):
            pass
        plain = (5, "é", [], [[]], [1, [2, 3], {}], {"": 0}, {"a": [None, True, 1.5], "b": ""}, [0.5] * 9, ["x"] * 9)
        slow = (math.nan, [Text("ab"), 1], {1: 2, None: 3}, [datetime.date(2026, 1, 2)], [b"\xff\xff", b"\xe2\x82"], [0.5] * 9 + [Text("")],
                [Point(1, 2)], {3}, decimal.Decimal("1.10"), ["\ud800"], [10 ** 400], [object()])
        for value in (*plain, *slow):
            line = _values.encode(value, 1 << 20)
            self.assertEqual(_values.encode(value, len(line)), line)
            with self.assertRaises(_values.TooLarge):
                _values.encode(value, len(line) - 1)

    def test_a_cycle_that_branches_fits(self):
        branches = []
        branches += [branches, branches]
        self.assertEqual(become(branches), ["[cycle]", "[cycle]"])

    def test_what_raises_is_named_whatever_it_raises(self):
        class Panic(BaseException):
            pass

        def panic(*_):
            raise Panic
        raising = [type("Raising", (base,), {name: panic})() for base, name in (
            (object, "__repr__"), (object, "__str__"), (dict, "__len__"), (dict, "items"), (list, "__iter__"))]
        self.assertEqual(become([*raising, type("Raising", (), {"__class__": property(panic)})()]), ["[unreadable: Panic]"] * 6)
        self.assertEqual(become(type("Number", (float,), {"__float__": panic})(1.5)), 1.5)
        self.assertEqual(_values.text_of(raising[0]), "[unreadable: Panic]")
        for ending in (KeyboardInterrupt, SystemExit, GeneratorExit):
            def end(_, ending=ending):
                raise ending
            with self.assertRaises(ending):
                _values.encode([type("Ending", (), {"__repr__": end})()], 1000)

    def test_what_has_no_end_is_too_large(self):
        class Endless(list):
            def __iter__(self):
                while True:
                    yield "x" * 1000
        with self.assertRaises(_values.TooLarge):
            _values.encode(Endless(), 100_000)


class Errors(unittest.TestCase):
    def raised(self, error, depth=0):
        def deeper(left):
            if left:
                deeper(left - 1)
            raise error
        try:
            deeper(depth)
        except BaseException as caught:
            return caught

    def test_only_the_innermost_frames_are_read(self):
        error = self.raised(ValueError("deep"), 500)
        with mock.patch.object(linecache, "getline", side_effect=linecache.getline) as getline:
            text = _errors.error_of(error)["stacktrace"]
        self.assertLessEqual(getline.call_count, 3 * _errors.MAX_FRAMES)
        self.assertTrue(text.startswith("Traceback"), text)
        self.assertTrue(text.endswith("ValueError: deep\n"), text)

    def test_a_long_message_is_cut_before_it_is_looked_at(self):
        lengths = []

        def watched(text):
            lengths.append(len(text))
            return text
        with mock.patch.object(_values, "clean_text", watched):
            found = _errors.error_of(self.raised(ValueError("line\n" * 200_000)))
        self.assertLessEqual(max(lengths), _errors.MAX_MESSAGE_CHARACTERS)
        self.assertEqual(len(found["message"]), _errors.MAX_MESSAGE_CHARACTERS)
        self.assertIn("raise error", found["stacktrace"])

    def test_a_long_chain_is_read_from_its_end(self):
        read = []

        class Counted(Exception):
            def __str__(self):
                read.append(1)
                return str(self.args[0])
        error = ValueError("first")
        for number in range(500):
            after = self.raised(Counted(number))
            after.__context__, error = error, after
        text = _errors.error_of(error)["stacktrace"]
        self.assertLessEqual(len(read), _errors.MAX_EXCEPTIONS + 1)
        self.assertIn("During handling of the above exception", text)
        self.assertTrue(text.endswith("Counted: 499\n"), text)
        self.assertLessEqual(len(text.encode()), _errors.MAX_STACKTRACE_BYTES)

    def test_whatever_stands_beside_it_leaves_the_stacktrace(self):
        class Odd(Exception):
            def __getattr__(self, name):
                raise LookupError(name)
        many = ValueError("two failed")
        for many.exceptions in (["disk full"], [{"code": 1}], [(ValueError, ValueError("x"), None)], 7):
            self.assertIn("raise error", _errors.error_of(self.raised(many))["stacktrace"])
        self.assertTrue(_errors.error_of(self.raised(Odd("odd")))["stacktrace"].endswith("<locals>.Odd: odd\n"))

    def test_frames_that_are_left_out_are_said_and_a_circle_is_read_once(self):
        text = _errors.error_of(self.raised(ValueError("deep"), 500))["stacktrace"]
        self.assertIn(f"  [{502 - _errors.MAX_FRAMES} frames before these]\n", text)
        self.assertNotIn("before these", _errors.error_of(self.raised(ValueError("not"), 40))["stacktrace"])
        one, other = self.raised(ValueError("one")), self.raised(ValueError("other"))
        one.__context__, other.__context__ = other, one
        text = _errors.error_of(one)["stacktrace"]
        self.assertEqual((text.count("ValueError: one"), text.count("ValueError: other")), (1, 1))

    def test_causes_notes_and_groups_are_in_it(self):
        try:
            try:
                raise self.raised(ValueError("cause"))
            except ValueError as cause:
                raise LookupError("effect") from cause
        except LookupError as error:
            error.__notes__ = ["noted"]
            error.exceptions = (self.raised(TypeError("member")),)
            text = _errors.error_of(error)["stacktrace"]
        for part in ("ValueError: cause\n", "direct cause of the following", "LookupError: effect\nnoted\n",
                     "of which: TypeError: member\n"):
            self.assertIn(part, text)


class Unsent(unittest.TestCase):
    def test_the_name_of_a_path_is_made_from_its_bytes(self):
        self.assertEqual(_unsent.name_of(os.fsdecode(b"/tmp/\xff a.sock")), "+tmp+%FF%20a.sock")
        self.assertEqual(_unsent.name_of("/tmp/é~.sock"), "+tmp+%C3%A9~.sock")

    def test_the_home_is_known_without_home(self):
        home = pwd.getpwuid(os.geteuid()).pw_dir
        own = pathlib.Path(home, ".local/state/run-recorder/unsent")
        for environment, wanted in (({}, own), ({"HOME": "relative", "XDG_STATE_HOME": "relative"}, own), ({"HOME": ""}, own),
                                    ({"HOME": "/h", "XDG_STATE_HOME": "x"}, pathlib.Path("/h/.local/state/run-recorder/unsent")),
                                    ({"XDG_STATE_HOME": "/s"}, pathlib.Path("/s/run-recorder/unsent"))):
            with mock.patch.dict(os.environ, environment, clear=True):
                self.assertEqual(_unsent.folder(), wanted)
        with mock.patch.dict(os.environ, {}, clear=True), mock.patch.object(pwd, "getpwuid", side_effect=KeyError):
            self.assertIsNone(_unsent.folder())


class Events(unittest.TestCase):
    def test_errors_that_cannot_be_read_are_named(self):
        class Raises(list):
            def __iter__(self):
                raise KeyError
        self.assertEqual(self.make("run_failed", errors=Raises([1]))["errors"], ["[unreadable: KeyError]"])

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
