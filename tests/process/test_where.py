"""Which host a run ran on, and in which unit, as which user, in which folder, with which command: from the socket, from exec and
from emit, through the rows, to list, show, explain and the filters."""

import json
import os
import pwd
import re
import socket

import pytest

from databases import on_both
from harness import temporary_folder
from oracle import Oracle
from test_take_over import TABLES

COLUMNS = ("host", "unit", "os_user", "cwd", "command")
PLACE = {"host": "batch-1", "unit": "report@1.service", "user": "reports", "cwd": "/srv/re ports", "command": "./report --all"}
SAID = ("batch-1", "report@1.service", "reports", "/srv/re ports", "./report --all")
HERE = socket.gethostname()


@pytest.fixture
def server(servers):
    return servers().start()


def started(run_id, **fields):
    return {"type": "run_started", "run_id": run_id, **fields}


def tool(server, *arguments, status=0, **options):
    done = server.tool(*arguments, **options)
    assert done.returncode == status, (done.args, done.stdout, done.stderr)
    return done


def place_of(server, run_id):
    return tuple(server.control.run(run_id)[column] for column in COLUMNS)


@on_both
def test_rows_have_what_events_said_and_else_the_recorders_host(server):
    events = [started("told", **PLACE), started("here"), {"type": "run_queued", "run_id": "waiting"},
              {"type": "run_queued", "run_id": "sent", "host": "batch-2"}, started("sent", host="batch-3", cwd="/"),
              {"type": "run_completed", "run_id": "ended"}, {"type": "step", "run_id": "step", "host": "batch-4"},
              {"type": "run_heartbeat", "run_id": "beat", "user": "nobody"}, started("told", host="batch-5", id="again")]
    server.send(*events)
    server.wait_applied()
    Oracle().apply_all(events).check(server.database)
    assert place_of(server, "told") == SAID
    for run_id in ("here", "step", "beat"):
        assert place_of(server, run_id) == (HERE, None, None, None, None)
    for run_id in ("waiting", "ended"):
        assert place_of(server, run_id) == (None,) * 5
    assert place_of(server, "sent") == ("batch-2", None, None, "/", None)
    server.send(started("waiting"))
    server.wait_applied()
    assert place_of(server, "waiting")[0] == HERE


@on_both
def test_what_is_no_name_is_kept_in_the_history_alone(server):
    odd = {"host": {"name": "h"}, "unit": 7, "user": None, "cwd": "", "command": ["make", "all"]}
    long = {"host": "h" * 256, "unit": "é" * 128, "user": "u" * 256, "cwd": "/" * 1025, "command": "c" * 1025}
    events = [started("odd", **odd), started("long", **long),
              started("longest", host="h" * 255, unit="u" * 255, user="é" * 127, cwd="/" * 1024, command="c" * 1024)]
    client = server.client()
    client.send(*events)  # all acknowledged
    server.wait_applied()
    Oracle().apply_all(events).check(server.database)
    for run_id, fields in (("odd", odd), ("long", long)):
        assert place_of(server, run_id) == (HERE, None, None, None, None)
        assert server.control.ok("GET", f"/v1/runs/{run_id}/events")["events"][0]["payload"] == fields
    assert [len(text) for text in place_of(server, "longest")] == [255, 255, 127, 1024, 1024]


def test_list_show_and_explain_say_it(server):
    server.send(started("told", at="2026-01-02T03:04:05Z", **PLACE), started("here", at="2026-01-02T03:04:06Z"))
    server.wait_applied()
    table = tool(server, "list", "--columns", "run,host,unit,user,cwd,command").stdout.splitlines()
    assert re.split(r"  +", table[0].strip()) == ["RUN", "HOST", "UNIT", "USER", "CWD", "COMMAND"]
    assert re.split(r"  +", table[2].strip()) == ["told", *SAID]
    assert table[1].split() == ["here", HERE]
    assert "HOST" in tool(server, "list", "--wide").stdout.splitlines()[0].split()
    assert "HOST" not in tool(server, "list").stdout
    shown = tool(server, "show", "told").stdout
    for name, value in zip(("host", "unit", "user", "folder", "command"), SAID):
        assert re.search(rf"(?m)^{name} +{re.escape(value)}$", shown)
    shown = tool(server, "show", "here").stdout
    assert re.search(rf"(?m)^host +{re.escape(HERE)}$", shown)
    assert not re.search(r"(?m)^(unit|user|folder|command) ", shown)
    assert re.search(r"(?m)^host +batch-1$", tool(server, "explain", "told").stdout)
    assert server.control.ok("GET", "/v1/runs/told/explain")["host"] == "batch-1"
    listed = [json.loads(line) for line in tool(server, "list", "--json").stdout.splitlines()]
    assert [tuple(run[column] for column in COLUMNS) for run in listed] == [(HERE, None, None, None, None), SAID]


@on_both
def test_runs_are_found_by_where_they_run(server):
    server.send(started("told", **PLACE), started("here", user="re_orts"), {"type": "run_queued", "run_id": "waiting"})
    server.wait_applied()

    def ids(*flags):
        return sorted(json.loads(line)["run_id"] for line in tool(server, "list", "--json", *flags).stdout.splitlines())
    assert ids("--host", "batch-1") == ids("--host", "batch*") == ids("--host", "?atch-1") == ["told"]
    assert ids("--host", "*") == ["here", "told"]
    assert ids("--host", "Batch-1") == []
    assert ids("--unit", "report@*") == ["told"]
    assert ids("--user", "reports") == ["told"]
    assert ids("--user", "re_orts") == ["here"]
    assert ids("--user", "re*", "--host", HERE) == ["here"]
    found = server.control.ok("GET", "/v1/runs?host=batch-%2A&unit=report%40%3F.service&user=reports")["runs"]
    assert [run["run_id"] for run in found] == ["told"]
    assert json.loads(tool(server, "stats", "--json", "--host", "batch-1").stdout)["runs"] == 1


def test_the_configured_name_of_the_host_is_the_recorders(servers):
    server = servers({"daemon": {"host": "node 7"}}).start()
    server.send(started("here"), started("told", host="batch-1"))
    server.wait_applied()
    assert [place_of(server, run_id)[0] for run_id in ("here", "told")] == ["node 7", "batch-1"]
    assert server.status()["host"] == "node 7"
    assert server.database.rows("SELECT host FROM council_ex_recorders") == [{"host": "node 7"}]
    server.env["RUN_RECORDER_DAEMON_HOST"] = "node 8"
    server.restart()
    server.send(started("later"))
    server.wait_applied()
    assert [place_of(server, run_id)[0] for run_id in ("here", "later")] == ["node 7", "node 8"]


# ---- exec and emit

def own_unit():
    """As /proc says it, by the first line that is systemd's."""
    with open("/proc/self/cgroup", encoding="utf-8") as lines:
        paths = [line.strip().split(":", 2) for line in lines]
    path = next((path for _, names, path in paths if names == "name=systemd"), None) or next(
        (path for _, names, path in paths if names == ""), "")
    units = [name for name in path.split("/") if re.search(r".\.(service|scope|socket|mount|swap)$", name)]
    return units[-1] if units else None


def test_exec_says_where_its_command_runs(server):
    assert tool(server, "exec", "--run-id", "plain", "--", "sh", "-c", "exit 0").stdout == ""
    tool(server, "exec", "--run-id", "whole", "--record-args", "--", "/bin/echo", "a b", "c")
    server.wait_applied()
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert place_of(server, "plain") == (HERE, own_unit(), user, os.getcwd(), "sh")
    assert place_of(server, "whole") == (HERE, own_unit(), user, os.getcwd(), "/bin/echo 'a b' c")
    # It is not exec that says which host the daemon is on: in a container it would name that.
    assert "host" not in server.control.ok("GET", "/v1/runs/plain/events")["events"][0]["payload"]


def test_every_attempt_of_exec_says_it(server):
    tool(server, "exec", "--run-id", "r1", "--retries", 1, "--retry-delay", "1ms", "--", "false", status=1)
    runs = server.control.ok("GET", "/v1/runs/r1/chain")["runs"]
    assert [(run["host"], run["cwd"], run["command"]) for run in runs] == [(HERE, os.getcwd(), "false")] * 2


def test_events_that_are_kept_name_the_host_of_their_run(servers):
    """A home folder may be several hosts', and the daemon that gets them another one's."""
    server = servers({"daemon": {"host": "another"}})
    home = {"HOME": str(temporary_folder()), "XDG_STATE_HOME": ""}
    done = tool(server, "exec", "--run-id", "kept", "--", "true", env=home)
    assert json.dumps(HERE) in done.stderr
    server.start()
    tool(server, "exec", "--run-id", "sent", "--", "true", env=home)
    server.wait_applied()
    assert [place_of(server, run_id)[0] for run_id in ("kept", "sent")] == [HERE, "another"]
    assert server.control.run("kept")["status"] == "completed"


def test_emit_says_only_what_it_is_told(server):
    tool(server, "emit", "--type", "run_started", "--run-id", "here")
    tool(server, "emit", "--type", "run_started", "--run-id", "told",
         *(argument for name, value in PLACE.items() for argument in (f"--{name}", value)))
    server.wait_applied()
    assert place_of(server, "here") == (HERE, None, None, None, None)
    assert place_of(server, "told") == SAID


# ---- tables of an application's, and of an earlier version

@on_both
def test_an_applications_column_of_that_name_is_written_too(servers, kind):
    server = servers()
    server.database.execute(TABLES[kind]("number", "number"))
    server.database.execute("ALTER TABLE council_ex_runs ADD COLUMN host VARCHAR(64)")
    server.start()
    server.send(started("here"), started("told", **PLACE))
    server.wait_applied()
    assert place_of(server, "here") == (HERE, None, None, None, None)
    assert place_of(server, "told") == SAID


@on_both
def test_rows_of_an_earlier_version_have_no_place_and_get_the_columns(servers):
    server = servers().start()
    server.send(started("old"), {"type": "run_queued", "run_id": "waiting"})
    server.wait_applied()
    server.stop()
    for column in COLUMNS:
        server.database.execute(f"ALTER TABLE council_ex_runs DROP COLUMN {column}")
    server.database.execute("DELETE FROM council_ex_recorder_schema WHERE version >= 8")
    server.start().wait_tables()
    assert place_of(server, "old") == place_of(server, "waiting") == (None,) * 5
    server.send({"type": "step", "run_id": "old"}, {"type": "step", "run_id": "waiting"})
    server.wait_applied()
    # A run that runs already may have begun elsewhere.
    assert [place_of(server, run_id)[0] for run_id in ("old", "waiting")] == [None, HERE]
