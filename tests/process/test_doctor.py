"""run-recorder doctor: what it says of an installation that is fine, and of one where something is wrong."""

import json
import os
import re
import subprocess

import pytest

from databases import on_both, on_postgres
from harness import DEADLINE_S, SqliteDatabase, TOOL, as_root, merged, wait_until
from queues import SqliteQueue


def examine(server, *flags, status, config=None):
    done = subprocess.run([str(TOOL), "doctor", "--json", "--config", str(config or server.config_path), *flags],
                          capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=server.environment())
    assert done.returncode == status, done.stdout + done.stderr
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    for finding in findings:
        assert set(finding) == {"check", "ok", "found", "advice"}
        if not finding["ok"]:
            assert finding["advice"], finding  # one that is fine and has advice is a warning
    return findings


def failed(findings):
    return {finding["check"]: finding for finding in findings if not finding["ok"]}


def started(servers, config=None):
    server = servers(config)
    server.start()
    server.send({"type": "run_started", "run_id": "r1"})
    server.wait_applied()
    return server


@on_both
def test_all_is_fine(servers):
    server = started(servers)
    # Where /tmp is in memory, as on Debian 13, there is a warning of that besides.
    fine = [finding for finding in examine(server, status=0) if not finding["advice"]]
    assert [finding["check"] for finding in fine] == ["configuration", "event socket", "control socket", "daemon",
                                                      "accepting", "dead letters", "database", "queue", "spool", "files", "disk",
                                                      "clock"]
    words = subprocess.run([str(TOOL), "doctor", "--config", str(server.config_path)], capture_output=True, text=True,
                           timeout=DEADLINE_S, check=False, env=server.environment())
    assert (words.returncode, words.stderr) == (0, "")
    assert words.stdout.count("fine: ") == len(fine)


@on_both
def test_without_a_daemon_the_rest_is_checked(servers):
    server = started(servers)
    server.stop()
    wrong = failed(findings := examine(server, status=1))
    assert set(wrong) == {"event socket", "control socket"}
    assert "systemctl start" in wrong["event socket"]["advice"]
    assert {"database", "queue", "spool", "disk"} <= {finding["check"] for finding in findings}


@on_both
def test_mistakes_of_the_configuration_are_findings(servers):
    server = started(servers)
    broken = server.folder / "broken.toml"
    broken.write_text("[spool]\nkeeep = 5\n[limits]\ndepth = 1\n")
    findings = [finding for finding in examine(server, status=1, config=broken)
                if finding["check"] == "configuration"]
    assert len(findings) == 2
    assert "broken.toml:2" in findings[0]["found"]


@on_both
def test_a_damaged_spool_and_a_missing_queue_are_found(servers):
    server = started(servers, {"reconcile.queue": {"kind": "oban", "table": "no_such_jobs"}})
    server.stop()
    segment = max(server.spool_path.glob("*.seg"), key=lambda path: path.stat().st_size)
    bytes_ = bytearray(segment.read_bytes())
    bytes_[:64] = bytes(64)
    segment.write_bytes(bytes_)
    wrong = failed(examine(server, status=1))
    assert "no_such_jobs" in wrong["queue"]["found"]
    assert "spool" in wrong


@on_both
def test_each_queue_is_checked_by_its_name(servers):
    server = started(servers)
    jobs = SqliteDatabase(server.folder / "jobs.db")
    SqliteQueue(jobs)
    server.config = merged(server.config, {
        "queues.default": {"kind": "oban", "url": jobs.url}, "queues.mailers": {"kind": "oban", "url": jobs.url, "table": "mails"},
        'queues."a b"': {"kind": "oban", "url": f"sqlite:{server.folder}/nowhere.db"}, "queues.off": {"kind": "none"}})
    server.restart()
    findings = {finding["check"]: finding for finding in examine(server, status=1)}
    queues = {check: finding["ok"] for check, finding in findings.items() if check.startswith("queue")}
    assert queues == {"queue default": True, "queue mailers": False, 'queue "a b"': False}
    assert "mails" in findings["queue mailers"]["found"]
    assert "[queues.mailers]" in findings["queue mailers"]["advice"]
    checked = server.run("--check")
    assert checked.returncode == 69, checked.stdout
    assert re.search(r"(?m)^queue default +fine: oban_jobs in sqlite:", checked.stdout)
    assert re.search(r"(?m)^queue mailers +queue: .*mails", checked.stdout)


@on_both
def test_too_little_room_on_the_disk_is_found(servers):
    server = started(servers)
    wrong = failed(examine(server, "--spool-min-free", "1000000GiB", status=1))
    assert set(wrong) == {"disk"}
    assert "min_free" in wrong["disk"]["found"]


@pytest.mark.skipif(not as_root(), reason="needs to become another user")
def test_permission_denied_names_the_group(servers):
    server = started(servers, {"control": {"group": "daemon", "mode": "0660"}})
    server.config_path.chmod(0o644)
    done = subprocess.run([str(TOOL), "doctor", "--json", "--config", str(server.config_path)], capture_output=True,
                          text=True, timeout=DEADLINE_S, check=False, env=server.environment(), user="nobody",
                          group="nogroup", extra_groups=[])
    if done.returncode == 126 or not os.access(TOOL, os.X_OK):
        pytest.skip("another user cannot run the programs from here")
    wrong = failed(json.loads(line) for line in done.stdout.splitlines())
    assert "usermod -aG daemon nobody" in wrong["control socket"]["advice"]


@on_postgres
def test_a_database_that_is_away_is_found(servers, cluster):
    server = started(servers)
    server.config["database"]["url"] = cluster.url("nowhere")
    server.restart()
    wait_until(lambda: server.status()["database"]["state"] == "away", "the database to be away")
    wrong = failed(examine(server, status=1))
    assert set(wrong) == {"database"}
    assert "nowhere" in wrong["database"]["found"]
