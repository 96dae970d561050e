"""Expectations: what did not start and what lasts too long is found once, shown, and over when it is over."""

import json
import signal
from datetime import datetime, timedelta, timezone

from databases import on_both, on_postgres
from harness import wait_until


def started(servers, named, **config):
    sections = {f"expect.{name}": keys for name, keys in named.items()}
    server = servers({"reconcile": {"interval": "0s", "grace": "0s"}, **sections, **config})
    server.start()
    server.wait_boot_pass()  # until then there may be no tables
    return server


def ago(**time):
    return (datetime.now(timezone.utc) - timedelta(**time)).isoformat()


def wait_known(server):
    wait_until(lambda: server.database.rows("SELECT name FROM council_ex_expectations"), "the expectations to be known")


def expect_since(server, name, hours):
    """As if somebody had begun to look so long ago."""
    since = (f"now() - interval '{hours} hours'" if server.database.kind == "postgresql"
             else f"strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '-{hours} hours')")
    wait_known(server)
    server.database.execute(f"UPDATE council_ex_expectations SET since = {since} WHERE name = '{name}';")


def findings(server, *flags):
    done = server.tool("findings", "--json", *flags)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def expectation(server, name):
    done = server.tool("expect", "--json")
    assert done.returncode == 0, done.stderr
    return next(one for one in map(json.loads, done.stdout.splitlines()) if one["name"] == name)


def wait_findings(server, number, *flags):
    return wait_until(lambda: (found,) if len(found := findings(server, *flags)) == number else None, f"{number} findings")[0]


@on_both
def test_a_run_that_does_not_start_is_found_once_and_over_when_one_starts(servers):
    server = started(servers, {"nightly": {"council": "nightly*", "every": "24h", "margin": "10m"}})
    server.send({"type": "run_started", "run_id": "old", "council": "nightly-eu", "at": ago(hours=30)})
    assert expectation(server, "nightly")["state"] == "late", "due since somebody looks"
    expect_since(server, "nightly", 48)
    found = wait_findings(server, 1)[0]
    assert (found["kind"], found["expectation"], found["council"], found["run_id"]) == ("missed", "nightly", "nightly*", None)
    due = datetime.fromisoformat(found["due_at"].replace("Z", "+00:00"))
    assert abs(due - (datetime.now(timezone.utc) - timedelta(hours=6))) < timedelta(hours=1)
    said = expectation(server, "nightly")
    assert (said["state"], said["last_run_id"], said["every_seconds"]) == ("missed", "old", 86400)
    assert said["why"].startswith("no run started at ")
    assert 'run_recorder_expectation_missed{expectation="nightly"} 1\n' in server.control.get("/metrics").text
    assert "no run started in time" in server.log()
    table = server.tool("expect").stdout
    assert "NAME" in table and "nightly" in table and "missed" in table
    server.send({"type": "run_started", "run_id": "new", "council": "nightly"})
    wait_findings(server, 0)
    over = findings(server, "--ended")
    assert [(finding["id"], finding["ended_by"]) for finding in over] == [(found["id"], "new")]
    assert expectation(server, "nightly")["state"] == "ok"
    wait_until(lambda: 'run_recorder_open_findings{kind="missed"} 0\n' in server.control.get("/metrics").text, "the metric")
    assert 'run_recorder_opened_findings_total{kind="missed"} 1\n' in server.control.get("/metrics").text


@on_both
def test_a_run_that_lasts_too_long_is_found_until_it_ends(servers):
    server = started(servers, {"backup": {"council": "backup", "max_duration": "2h"}})
    server.send({"type": "run_started", "run_id": "long", "council": "backup", "at": ago(hours=3)},
                {"type": "run_started", "run_id": "short", "council": "backup", "at": ago(hours=1)},
                {"type": "run_started", "run_id": "other", "council": "other", "at": ago(hours=3)})
    found = wait_findings(server, 1)[0]
    assert (found["kind"], found["run_id"], found["allowed_ms"]) == ("overlong", "long", 7_200_000)
    assert expectation(server, "backup")["state"] == "overlong"
    assert "a run lasts longer than allowed" in server.log()
    server.send({"type": "run_failed", "run_id": "long", "errors": ["x"]})
    wait_findings(server, 0)
    assert findings(server, "--ended", "--kind", "overlong")[0]["ended_by"] == "failed"


def test_what_fell_due_before_anybody_looked_is_not_reported(servers):
    server = started(servers, {"new": {"council": "new", "cron": "* * * * *", "margin": "0s"},
                               "sign": {"council": "sign", "every": "1h", "margin": "0s"}})
    server.send({"type": "run_started", "run_id": "new", "council": "new", "at": ago(days=400)},
                {"type": "run_started", "run_id": "sign", "council": "sign", "at": ago(days=400)})
    expect_since(server, "sign", 2)
    found = wait_until(lambda: [one for one in findings(server) if one["expectation"] == "sign"], "a look")
    since = datetime.fromisoformat(expectation(server, "new")["since"].replace("Z", "+00:00"))
    assert len(found) == 1
    for finding in findings(server, "--expectation", "new"):  # a minute may have begun since
        assert datetime.fromisoformat(finding["due_at"].replace("Z", "+00:00")) > since


@on_both
def test_what_fell_due_while_no_daemon_ran_is_found_once_after_the_boot(servers):
    server = started(servers, {"nightly": {"council": "nightly", "every": "24h"}})
    server.send({"type": "run_started", "run_id": "old", "council": "nightly", "at": ago(hours=80)})
    server.wait_applied()
    wait_known(server)
    server.stop()
    expect_since(server, "nightly", 90)
    server.start()
    server.wait_boot_pass()
    found = wait_findings(server, 1)
    server.stop()
    server.start()
    server.wait_boot_pass()
    server.send({"type": "run_started", "run_id": "other", "council": "other", "at": ago(hours=3)})
    server.wait_applied()
    assert findings(server, "--ended") == found


@on_postgres
def test_of_two_daemons_one_finds_it(servers, daemons):
    expect = {"nightly": {"council": "nightly", "every": "24h"}, "backup": {"council": "backup", "max_duration": "1h"}}
    first = started(servers, expect)
    second = daemons(first.database.url, config={"reconcile": {"interval": "0s", "grace": "0s"},
                                                 **{f"expect.{name}": keys for name, keys in expect.items()}})
    second.database = first.database
    second.start()
    second.wait_boot_pass()
    expect_since(first, "nightly", 80)
    second.send({"type": "run_started", "run_id": "long", "council": "backup", "at": ago(hours=3)})
    wait_findings(first, 2)
    wait_findings(second, 2)
    opened = [server.control.get("/metrics").text.count("run_recorder_opened_findings_total") for server in (first, second)]
    assert opened == [4, 4]
    lines = [server.log().count("no run started in time") for server in (first, second)]
    assert sum(lines) == 1, "by one of them"
    first.kill()
    second.send({"type": "run_started", "run_id": "n", "council": "nightly"}, {"type": "run_completed", "run_id": "long"})
    # The lease of one that was killed ends by itself.
    second.database.execute("UPDATE council_ex_leases SET expires_at = now() WHERE name LIKE 'expect/%';")
    wait_findings(second, 0)


def test_a_reload_takes_expectations_and_leaves_them(servers):
    server = started(servers, {})
    assert server.tool("expect").stderr.startswith("run-recorder: nothing is expected")
    server.send({"type": "run_started", "run_id": "long", "council": "backup", "at": ago(hours=3)})
    server.config["expect.backup"] = {"council": "back*", "max_duration": "1h"}
    server.write_config()
    server.process.send_signal(signal.SIGHUP)
    wait_findings(server, 1)
    server.database.execute("UPDATE council_ex_expectations SET judged_at = '2026-01-01T00:00:00.000000Z';")
    del server.config["expect.backup"]
    server.write_config()
    server.process.send_signal(signal.SIGHUP)
    wait_findings(server, 0)
    assert findings(server, "--ended")[0]["ended_by"] == "changed"


def test_what_runs_usually_take_is_learned(servers):
    server = started(servers, {}, expect={"learn": True})
    events = []
    for i in range(30):
        begin = ago(hours=40 - i)
        end = (datetime.fromisoformat(begin) + timedelta(minutes=5)).isoformat()
        events += [{"type": "run_started", "run_id": f"r{i}", "council": "backup", "at": begin},
                   {"type": "run_completed", "run_id": f"r{i}", "at": end}]
    server.send(*events, {"type": "run_started", "run_id": "long", "council": "backup", "at": ago(minutes=30)},
                {"type": "run_started", "run_id": "short", "council": "backup", "at": ago(minutes=15)},
                {"type": "run_started", "run_id": "new", "council": "new", "at": ago(hours=30)})
    found = wait_findings(server, 1)[0]
    assert (found["run_id"], found["expectation"], found["allowed_ms"]) == ("long", None, 1_200_000)
