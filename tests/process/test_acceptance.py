"""Whether events are accepted, and why not: the status and its exit status, metrics, readiness, the log, the service manager and
the sender that is refused all say the same, before the first event meets it."""

import json
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

from harness import DAEMON, wait_until

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "run-recorder.service"
FULL_DISK = r" error the disk under the spool is full, all events are refused"


def shown_by(server):
    """What `run-recorder status` and its JSON say, with their one exit status."""
    people, program = server.tool("status"), server.tool("status", "--json")
    assert people.returncode == program.returncode, people.stderr + program.stderr
    return people.returncode, people.stdout, json.loads(program.stdout)


def line_of(server, pattern):
    """The one line of the log with it."""
    server.wait_for_log(pattern)
    line, = [line for line in server.log().splitlines() if re.search(pattern, line)]
    return line


def accepting_metrics(server):
    text = server.control.get("/metrics").text
    return {events: int(value) for events, value in re.findall(r'^run_recorder_accepting\{events="(\w+)"\} (\d)$', text, re.M)}


def free_bytes(server):
    disk = os.statvfs(server.folder)
    return disk.f_bavail * disk.f_frsize


def reload_with(server, section, **keys):
    server.config[section] = {**server.config.get(section, {}), **keys}
    server.write_config()
    mark = len(server.log())
    server.signal(signal.SIGHUP)
    server.wait_for_log("reloaded", after=mark)


def refusal(server, event):
    """What a sender is told."""
    with server.client() as client:
        client.send(event)
        return client.refusals.get(1)


def test_too_little_disk_is_seen_before_an_event_is_refused(servers):
    server = servers({"spool": {"min_free": "1000TiB"}}).start()
    line = line_of(server, FULL_DISK)
    assert 'limit="[spool] min_free"' in line and f"path={server.spool_path}" in line
    assert re.search(r"\bfree_bytes=\d+", line) and f"min_free={1000 << 40}" in line
    status, text, told = shown_by(server)
    accepting = told["accepting"]
    assert (accepting["state"], accepting["reason"], accepting["limit"]) == ("refusing", "min_free", "[spool] min_free")
    assert accepting["path"] == str(server.spool_path)
    assert accepting["min_free"] == 1000 << 40 and 0 < accepting["free_bytes"] < 1000 << 40
    assert status == 1
    assert re.search(r"^accepting +too little disk: .* \[spool\] min_free is 1000 TiB$", text, re.M), text
    assert accepting_metrics(server) == {"lifecycle": 0, "other": 0}
    served = server.control.get("/metrics").text
    assert f"\nrun_recorder_spool_min_free_bytes {1000 << 40}\n" in served
    assert re.search(r"^run_recorder_spool_disk_free_bytes [1-9]\d*$", served, re.M)
    answer = server.control.get("/readyz")
    assert answer.status == 503 and "min_free" in answer.json["error"]["message"]
    assert server.control.get("/healthz").status == 200
    refused = refusal(server, {"type": "run_started", "run_id": "r1"})
    assert refused["code"] == "spool_full"
    assert refused["message"].startswith("too little disk: ") and str(server.spool_path) in refused["message"]
    done = server.tool("emit", "--type", "run_started", "--run-id", "r1")
    assert done.returncode == 1 and "too little disk: " in done.stderr, done.stderr
    done = server.tool("exec", "--", "true")
    assert done.returncode == 0 and "too little disk: " in done.stderr, done.stderr
    assert line_of(server, FULL_DISK) == line
    reload_with(server, "spool", min_free="0B")
    wait_until(lambda: server.status()["accepting"]["state"] == "accepting", "it to be seen")
    server.send({"type": "run_started", "run_id": "r1"})
    status, text, told = shown_by(server)
    assert (status, told["accepting"]["reason"], told["accepting"]["message"]) == (0, None, None)
    assert re.search(r"^accepting +all events$", text, re.M), text
    assert accepting_metrics(server) == {"lifecycle": 1, "other": 1}
    assert server.control.get("/readyz").json == {"status": "ok"}
    server.wait_for_log("the spool has room again")


def test_a_disk_that_runs_low_is_said_while_events_are_accepted(servers):
    server = servers({"spool": {"min_free": "0B"}}).start()
    assert server.status()["accepting"]["disk_low"] is False
    reload_with(server, "spool", min_free=f"{free_bytes(server) * 2 // 3}B")
    server.wait_for_log(r" warning the disk under the spool runs low: .* free under ")
    status, text, told = shown_by(server)
    assert (status, told["accepting"]["state"], told["accepting"]["disk_low"]) == (0, "accepting", True)
    assert re.search(r"^disk +runs low: ", text, re.M), text
    assert "; the disk runs low: " in told["status"]
    server.send({"type": "run_started", "run_id": "r1"})
    reload_with(server, "spool", min_free="1KiB")
    server.wait_for_log(r" info the disk under the spool is no longer low")
    assert server.status()["accepting"]["disk_low"] is False


def test_a_reload_that_takes_kept_events_from_the_spool_says_so(servers):
    server = servers({"spool": {"min_free": "0B", "max_bytes": "1MiB", "keep": "1h"}}).start()
    server.send(*[{"type": "note", "run_id": "r", "x": "y" * 1000} for _ in range(200)])
    server.wait_applied()
    kept = server.status()["spool"]["kept_bytes"]
    reload_with(server, "spool", min_free="1KiB")
    assert "leave the spool" not in server.log()
    reload_with(server, "spool", min_free="1000TiB")
    line = line_of(server, r" warning applied events leave the spool before \[spool\] keep has passed, for the new limits")
    assert 'limit="[spool] min_free"' in line and f"min_free={1000 << 40}" in line and re.search(r" free_bytes=[1-9]", line), line
    assert 0 < int(re.search(r"kept_bytes=(\d+)", line)[1]) <= kept


def test_a_spool_in_its_last_tenth_says_which_events_are_refused_and_why_they_wait(daemons):
    server = daemons("postgresql://nobody@127.0.0.1:1/none", config={"spool": {"max_bytes": "1MiB", "min_free": "0B"}}).start()
    wait_until(lambda: server.status()["database"]["state"] == "away", "the database to be away")
    with server.client() as client:
        while not client.refusals:
            client.send(*[{"type": "note", "run_id": "n", "x": "y" * 1000} for _ in range(100)])
            assert client.sent < 5000
        told = next(iter(client.refusals.values()))
        assert told["code"] == "spool_full"
        assert "the spool is full but for lifecycle events: " in told["message"]
        assert f"wait in {server.spool_path}, the database is away since 20" in told["message"]
        client.send({"type": "run_started", "run_id": "r1"})
        assert client.sent not in client.refusals
        line = line_of(server, r" error the spool is full, only events of the four lifecycle types are accepted")
        assert 'limit="[spool] max_bytes"' in line and "max_bytes=1048576" in line and "the database is away since" in line
        status, _, shown = shown_by(server)
        assert (status, shown["accepting"]["state"], shown["accepting"]["reason"]) == (1, "lifecycle_only", "max_bytes")
        assert shown["status"].startswith("ingesting lifecycle events only: the spool is full but for lifecycle events")
        assert accepting_metrics(server) == {"lifecycle": 1, "other": 0}
        ready = server.control.get("/readyz")
        assert (ready.status, ready.json["status"]) == (200, "lifecycle_only")
        assert ready.json["reason"] == server.status()["accepting"]["message"]
        before = len(client.refusals)
        while len(client.refusals) == before:
            client.send(*[{"type": "run_queued", "run_id": f"q{number}", "input": "y" * 1000} for number in range(100)])
        assert client.refusals[max(client.refusals)]["message"].startswith("the spool is full: 1")
    server.wait_for_log(r" error the spool is full, all events are refused")
    assert shown_by(server)[2]["accepting"]["state"] == "refusing"
    assert server.control.get("/readyz").status == 503
    assert accepting_metrics(server) == {"lifecycle": 0, "other": 0}
    reload_with(server, "spool", max_bytes="16MiB")
    assert shown_by(server)[2]["accepting"]["state"] == "accepting"
    server.wait_for_log("the spool has room again")


# ---- a reload that is refused


def exec_reload(server):
    """Runs the unit's commands for a reload as systemd would, up to the first that fails; its exit status."""
    commands = re.findall(r"^ExecReload=(.*)$", UNIT.read_text(), re.M)
    assert len(commands) == 2
    for command in commands:
        words = [word.replace("$MAINPID", str(server.process.pid)) for word in shlex.split(command)]
        words[0] = words[0].replace("/usr/bin/run-recorderd", str(DAEMON))
        done = subprocess.run(words, capture_output=True, text=True, check=False,
                              env={**server.environment(), "RUN_RECORDER_CONFIG": str(server.config_path)})
        if done.returncode != 0:
            return done.returncode, done.stdout + done.stderr
    return 0, ""


def test_a_reload_of_a_wrong_configuration_fails_and_reaches_nobody(servers):
    server = servers().start()
    mark = len(server.log())
    server.write_config(text='[reconcile]\ninterval = "soon"\n[nonsense]\nx = 1\n')
    status, said = exec_reload(server)
    assert status == 78
    assert "soon" in said and "nonsense" in said
    server.config["reconcile"] = {"interval": "7m"}
    server.config["daemon"] = {"shutdown_timeout": "11s"}
    server.config["spool"]["path"] = str(server.folder / "needs-a-restart")
    server.write_config()
    assert exec_reload(server) == (0, "")
    server.wait_for_log(r"some changes need a restart.*spool\.path", after=mark)
    assert "reload refused" not in server.log()[mark:]


def test_the_configuration_alone_is_checked_without_database_and_spool(daemons):
    server = daemons("postgresql://nobody@127.0.0.1:1/none")
    server.config["spool"]["path"] = "/proc/none/spool"
    server.write_config()
    done = server.run("--check-config")
    assert done.returncode == 0
    assert done.stdout == f"configuration  fine: {server.config_path}\n"
    assert server.run("--check-config", "--check").returncode == 2
    server.write_config(text='[spool]\nmin_free = "much"\n')
    done = server.run("--check-config")
    assert done.returncode == 78 and f"{server.config_path}:2" in done.stderr


def test_a_reload_that_only_the_daemon_refuses_is_told_until_one_succeeds(servers):
    server = servers().start()
    server.write_config(text='[spool]\nmin_free = "much"\n[nonsense]\nx = 1\n')
    mark = len(server.log())
    server.signal(signal.SIGHUP)
    server.wait_for_log("reload refused, nothing was changed", count=2, after=mark)
    status = wait_until(lambda: server.status()["reload_refused"] and server.status(), "the status to say so")
    assert "min_free" in status["reload_refused"] + status["status"]
    assert "(and 1 more)" in status["reload_refused"]
    assert f"; reload refused: {status['reload_refused']}" in status["status"]
    shown = server.tool("status")
    assert shown.returncode == 0, "events are accepted"
    assert re.search(r"^reload refused +.*min_free", shown.stdout, re.M), shown.stdout
    reload_with(server, "reconcile", interval="7m")
    assert server.status()["reload_refused"] is None
    assert "reload refused" not in server.status()["status"]
