"""run-recorder's commands that look and act over the control socket: list, show, events, chain, explain, reconcile, dead-letters,
spool, status, stats, watch; tables, --json, exit codes."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time

import pytest

from databases import on_both
from harness import DEADLINE_S, TOOL, clean_environment, temporary_folder
from test_manual import all_commands, help_of


def json_lines(text):
    return [json.loads(line) for line in text.split("\n") if line.strip()]


# ---- what they say


@pytest.fixture
def server(servers):
    return servers({"reconcile": {"grace": "1ms", "interval": "0s"}}).start().wait_boot_pass()


def tool(server, *arguments, status=0, **options):
    done = server.tool(*arguments, **options)
    assert done.returncode == status, (arguments, done.stdout, done.stderr)
    return done


def json_of(server, *arguments, **options):
    return json_lines(tool(server, *arguments, "--json", **options).stdout)


def send_some(server):
    server.send(
        {"type": "run_started", "run_id": "a", "council": "backup", "input": {"n": 1}, "at": "2020-01-02T03:04:05Z"},
        {"type": "run_completed", "run_id": "a", "result": {"files": 42}, "at": "2020-01-02T03:04:07Z"},
        {"type": "run_started", "run_id": "b/1 ü", "council": "import", "oban_job_id": 7},
        {"type": "run_failed", "run_id": "b/1 ü", "errors": [{"kind": "exit", "message": "exited with status 3"}]},
        {"type": "run_started", "run_id": "b2", "council": "import", "oban_job_id": 7, "attempt": 2,
         "parent_attempt_run_id": "b/1 ü"},
        {"type": "progress", "run_id": "b2", "payload": {"big": 1e300}},
        {"type": "run_queued", "run_id": "c", "council": "later"})


def test_list_shows_a_table_and_with_json_the_daemons_objects(server):
    send_some(server)
    lines = tool(server, "list", env={"TZ": "XXX-2"}).stdout.splitlines()
    assert lines[0].split() == ["RUN", "NAME", "STATUS", "NOTE", "STARTED", "TOOK", "ATTEMPT", "JOB"]
    assert re.search(r"^a +backup +completed +2020-01-02 05:04:05\+02:00 +2\.0 s +1$", lines[-1])
    assert "exited with status 3" in "\n".join(lines)
    served = server.control.ok("GET", "/v1/runs")["runs"]
    assert json_of(server, "list") == served


def test_list_filters_and_pages(server):
    send_some(server)

    def ids(*flags):
        return [run["run_id"] for run in json_of(server, "list", *flags)]
    assert ids("--status", "failed,queued") == ["c", "b/1 ü"]
    assert ids("--status", "failed", "--status", "completed") == ["b/1 ü", "a"]
    assert ids("--council", "import") == ["b2", "b/1 ü"]
    assert ids("--oban-job-id", 7) == ["b2", "b/1 ü"]
    assert ids("--limit", 2) == ["c", "b2"]
    assert ids("--all") == ["c", "b2", "b/1 ü", "a"]
    assert ids("--since", "1h") == ["c", "b2", "b/1 ü"]
    assert ids("--since", "1h", "--by", "recorded") == ["c", "b2", "b/1 ü", "a"]
    assert ids("--since", "2999-01-01T00:00:00Z") == []
    assert "there are more" in tool(server, "list", "--limit", 2).stderr
    assert "no such runs" in tool(server, "list", "--council", "none").stderr
    assert "status" in tool(server, "list", "--status", "dead", status=2).stderr
    assert "yesterday" in tool(server, "list", "--since", "soon", status=2).stderr


def test_runs_are_found_by_their_names(server):
    send_some(server)

    def names(*flags):
        return sorted({run["council"] for run in json_of(server, "list", *flags)})
    for flag in ("--council", "--name"):
        assert names(flag, "import") == ["import"]
        assert names(flag, "*port") == ["import"]
        assert names(flag, "?????") == ["later"]
        assert names(flag, "Import*") == []
    assert "--council" in tool(server, "list", "--name", "import", "--council", "import", status=2).stderr
    assert {row["council"] for row in json_of(server, "stats", "--name", "b*")} == {"backup"}


def test_a_name_that_nobody_has_is_said(server):
    send_some(server)
    done = tool(server, "list", "--name", "bakcup")
    assert done.stdout.splitlines()[1:] == []
    assert 'no run named "bakcup" is recorded; did you mean "backup"?' in done.stderr
    assert 'no recorded run\'s name fits "x*"' in tool(server, "list", "--name", "x*").stderr
    # There are such runs, only not those that are asked for.
    stderr = tool(server, "list", "--name", "backup", "--status", "failed").stderr
    assert "no such runs" in stderr and "recorded" not in stderr


@on_both
def test_runs_are_found_by_how_they_ended(server):
    send_some(server)
    tool(server, "exec", "--run-id", "seven", "--name", "script", "--", "sh", "-c", "echo No space left >&2; exit 7", status=7)
    tool(server, "exec", "--run-id", "done", "--name", "script", "--", "true")

    def ids(*flags):
        return sorted(run["run_id"] for run in json_of(server, "list", *flags))
    assert ids("--exit-code", 7) == ["seven"]
    assert ids("--exit-code", 0) == ["done"]
    assert ids("--error", "no SPACE") == ["seven"]
    assert ids("--error", "status") == ["b/1 ü", "seven"]
    assert ids("--longer-than", "1s", "--name", "backup") == ["a"]
    assert ids("--longer-than", "2s", "--name", "backup") == []
    assert "300" in tool(server, "list", "--exit-code", 300, status=2).stderr


def test_columns_and_order_are_chosen(server):
    send_some(server)
    lines = tool(server, "list", "--columns", "attempt,run,council", "--sort", "run").stdout.splitlines()
    assert lines[0].split() == ["ATTEMPT", "RUN", "NAME"]
    assert [line.split()[1] for line in lines[1:]] == ["a", "b/1", "b2", "c"]
    assert [run["run_id"] for run in json_of(server, "list", "--sort", "-attempt")][0] == "b2"
    assert [run["run_id"] for run in json_of(server, "list", "--sort", "-took")][0] == "a"
    assert "--sort" in tool(server, "list", "--sort", "took", "--follow", status=2).stderr
    for flag in ("--columns", "--sort"):
        stderr = tool(server, "list", flag, "nope", status=2).stderr
        assert f'{flag}: invalid value "nope": must be one of run, name, status, note, started, took' in stderr


def test_times_are_local(server):
    send_some(server)
    zone = {"TZ": "XXX-14"}  # where the day began 14 hours earlier

    def ids(*flags, env=zone):
        return [run["run_id"] for run in json_of(server, "list", *flags, env=env)]
    assert ids("--since", "2020-01-02 17:04:05", "--until", "2020-01-02 17:04:06") == ["a"]
    assert ids("--since", "2020-01-02 17:04:06", "--until", "2020-01-03") == []
    assert ids("--since", "2020-01-02 03:04:05", "--until", "2020-01-02 03:04:06", "--utc") == ["a"]
    assert ids("--since", "2020-01-02 03:04:05 UTC", "--until", "2020-01-02 03:04:06 UTC") == ["a"]
    assert "2020-01-02 17:04:05" in tool(server, "show", "a", env=zone).stdout
    assert "2020-01-02 03:04:05 UTC" in tool(server, "show", "a", "--utc", env=zone).stdout
    assert json_of(server, "show", "a", env=zone)[0]["started_at"] == "2020-01-02T03:04:05.000000Z"
    # A command gets its zone as it was.
    assert tool(server, "exec", "--", "sh", "-c", "echo $TZ", "--utc", env=zone).stdout == "XXX-14\n"


@on_both
def test_the_beginning_of_an_id_is_enough(server):
    one, other = "9c8b7a6d-1111-4222-8333-444455556666", "9c8b7a6d-1122-4222-8333-444455556666"
    server.send(*({"type": "run_started", "run_id": run_id, "council": "c"} for run_id in (one, other, "r1", "r10", "_%")))
    for command in ("show", "events", "chain", "explain"):
        assert json_of(server, command, "9c8b7a6d-1111")[0]["run_id"] == one
        done = tool(server, command, "9c8b", status=1)
        assert one in done.stderr and other in done.stderr and done.stdout == ""
        assert json_of(server, command, "r1")[0]["run_id"] == "r1"
        assert "nobody" in tool(server, command, "nobody", status=1).stderr
    assert json_of(server, "show", "_")[0]["run_id"] == "_%"
    assert json_of(server, "show", "9c8b7a6d-11…", status=1) == []
    assert json_of(server, "show", "9c8b7a6d-111…")[0]["run_id"] == one
    server.send(*({"type": "run_started", "run_id": f"many{n}"} for n in range(7)))
    assert re.search(r"(many\d, ){4}many\d …$", tool(server, "show", "many", status=1).stderr.strip())


def test_the_beginning_of_a_passs_id_is_enough(server):
    stuck_run(server)
    report = json_of(server, "reconcile")[0]
    assert report["marked"] == 1
    others = [one["pass_id"] for one in json_of(server, "reconciliations") if one["pass_id"] != report["pass_id"]]
    beginning = next(report["pass_id"][:length] for length in range(8, 37)
                     if not any(other.startswith(report["pass_id"][:length]) for other in others))
    assert [run["run_id"] for run in json_of(server, "list", "--pass", beginning)] == ["gone"]
    assert json_of(server, "reconcile", "--undo", beginning)[0]["undone"] == 1
    assert others and "several passes" in tool(server, "reconcile", "--undo", report["pass_id"][:1], status=1).stderr
    assert "several passes" in tool(server, "list", "--pass", report["pass_id"][:1], status=1).stderr


@on_both
def test_a_cursor_of_the_other_order_is_refused(server):
    send_some(server)
    for order, other in (("started", "recorded"), ("recorded", "started")):
        cursor = server.control.ok("GET", f"/v1/runs?by={order}&limit=1")["next"]
        assert cursor
        assert len(server.control.ok("GET", f"/v1/runs?by={order}&limit=1&cursor={cursor}")["runs"]) == 1
        refused = server.control.request("GET", f"/v1/runs?by={other}&cursor={cursor}")
        assert refused.status == 400
        assert f"a list with by={order}; begin again without it" in refused.text
    assert server.control.request("GET", "/v1/runs?by=name").status == 400


def bring_reports(server):
    time = "2026-01-02T03:04:05.000000Z"
    runs = (("text", "running", {"queue": "mail", "job_id": "9f8c", "expires_in": 300, "parent_attempt_run_id": "before",
                                 "usage": {"input_tokens": 1234567, "output_tokens": 890, "cost_usd": 0.125},
                                 "progress": {"done": 29, "total": 100, "unit": "rows"}}),
            ("number", "completed", {"job_id": "7", "oban_job_id": 7, "finalized_at": time,
                                     "usage": {"input_tokens": 3, "cost_usd": 0.1, "pages": 2}, "progress": {"done": 3}}),
            ("application", "running", {"oban_job_id": 7}))
    lines = [{"run": {"run_id": run_id, "council": "mails", "status": status, "inserted_at": time, "updated_at": time,
                      "last_event_at": time, "started_at": time, "last_seq": 0, **row}, "events": []} for run_id, status, row in runs]
    tool(server, "import", input="\n".join(map(json.dumps, lines)))


def test_runs_are_found_by_job_and_queue(server):
    bring_reports(server)

    def ids(*flags):
        return sorted(run["run_id"] for run in json_of(server, "list", *flags))
    assert ids("--job", "9f8c") == ["text"]
    assert ids("--job", 7) == ["application", "number"]
    assert ids("--job", "07") == []
    assert ids("--queue", "mail") == ["text"]
    assert ids("--queue", "default") == ["application", "number"]
    served = server.control.ok("GET", "/v1/runs?job=9f8c&queue=mail")["runs"]
    assert [(run["queue"], run["job_id"], run["expires_in"]) for run in served] == [("mail", "9f8c", 300)]
    assert "job, queue" in server.control.request("GET", "/v1/runs?jobs=7").text


def test_usage_and_progress_are_shown(server):
    bring_reports(server)
    shown = tool(server, "show", "text").stdout
    for words in (r"queue +mail", r"job +9f8c", r"progress +29 of 100 rows \(29 %\)", r"expires +5 min after its last event",
                  r"  input_tokens +1,234,567", r"  cost_usd +0\.125"):
        assert re.search(rf"(?m)^{words}$", shown)
    assert re.search(r"(?m)^text +mails +running +29 of 100 rows \(29 %\) .* 9f8c$", tool(server, "list", "--queue", "mail").stdout)
    wide = tool(server, "list", "--wide").stdout
    assert re.split(r"  +", wide.splitlines()[0].strip()) == [
        "RUN", "NAME", "STATUS", "NOTE", "STARTED", "TOOK", "ATTEMPT", "JOB", "QUEUE", "HOST", "PARENT", "RECORDED", "LAST EVENT",
        "PROGRESS", "USAGE"]
    assert re.search(r"(?m)^text .* mail +before .* 29 of 100 rows \(29 %\) +input_tokens 1,234,567, output_tokens 890, ", wide)
    assert re.search(r"(?m)^number .* 3 +input_tokens 3, cost_usd 0\.1, pages 2$", wide)
    run = json_of(server, "list", "--wide", "--job", "9f8c")[0]
    assert run["progress"] == {"done": 29, "total": 100, "unit": "rows"}
    assert run["usage"] == {"input_tokens": 1234567, "output_tokens": 890, "cost_usd": 0.125}


def test_stats_sum_up_what_was_used(server):
    send_some(server)
    assert "TOKENS" not in tool(server, "stats").stdout
    bring_reports(server)
    stats = tool(server, "stats").stdout
    assert "TOKENS IN  TOKENS OUT  COST USD" in stats
    assert re.search(r"(?m)^mails .* 1,234,570 +890 +0\.225 ", stats)
    used = {one["council"]: one["usage"] for one in json_of(server, "stats")}
    assert used["mails"] == {"input_tokens": 1234570, "output_tokens": 890, "cost_usd": 0.225, "pages": 2}
    assert used["backup"] is None


def test_more_runs_than_a_page_come_in_order_and_once(server):
    server.send(*({"type": "run_queued", "run_id": f"r{n:04}"} for n in range(950)))
    assert [run["run_id"] for run in json_of(server, "list", "--all")] == [f"r{n:04}" for n in reversed(range(950))]
    assert len(json_of(server, "list", "--limit", 450)) == 450
    assert len(tool(server, "list", "--all").stdout.splitlines()) == 951


def test_a_truncated_chain_is_reported(server):
    attempts = [{"type": "run_started", "run_id": f"r{n}", "council": "c", **({"parent_attempt_run_id": f"r{n - 1}"} if n else {})}
                for n in range(1_001)]
    server.send(*attempts[:-1])
    assert tool(server, "chain", "r0").stderr == ""
    server.send(attempts[-1])
    for arguments in (("chain", "r0"), ("chain", "r0", "--json")):
        done = tool(server, *arguments)
        assert "more attempts than the 1000 nearest to r0" in done.stderr
        assert "r1000" not in done.stdout
    assert "r1000" in tool(server, "chain", "r999").stdout


def test_show_events_and_chain_of_a_run_with_any_id(server):
    send_some(server)
    shown = tool(server, "show", "b/1 ü").stdout
    assert re.search(r"(?m)^status +failed$", shown)
    assert re.search(r"(?m)^because +exited with status 3$", shown)
    assert json_of(server, "show", "b/1 ü")[0]["run_id"] == "b/1 ü"
    assert '"files": 42' in tool(server, "show", "a").stdout
    assert re.search(r"2 +2020-01-02 03:04:07\.000\+00:00 +\+2\.0 s +run_completed +applied",
                     tool(server, "events", "a", "--utc").stdout)
    assert [event["type"] for event in json_of(server, "events", "b2")] == ["run_started", "progress"]
    assert [run["run_id"] for run in json_of(server, "chain", "b2")] == ["b/1 ü", "b2"]
    assert re.search(r"(?s)b/1 ü.*failed.*b2.*running", tool(server, "chain", "b/1 ü").stdout)


def test_not_found_ends_with_1(server):
    for command in ("show", "events", "chain", "explain"):
        done = tool(server, command, "nobody", status=1)
        assert "nobody" in done.stderr
        assert done.stdout == ""
    tool(server, "reconcile", "--undo", "nobody", status=1)
    for action in ("show", "retry", "delete"):
        tool(server, "dead-letters", action, "17", status=1)


def test_stored_text_does_not_reach_the_terminal_as_commands(server):
    server.send({"type": "run_started", "run_id": "evil\x1b[2J", "council": "a\nb\x07\u202e"})
    for arguments in (("list",), ("show", "evil\x1b[2J"), ("events", "evil\x1b[2J"), ("stats",)):
        text = tool(server, *arguments).stdout
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
        assert re.search(r"\\x1b\[2J|a\\nb\\(x07|u0007)", text)


def stuck_run(server, *run_ids):
    """Nobody is left of it, and only a pass that is asked for finds it: the grace is long, and over by the row's time."""
    server.config["reconcile"]["grace"] = "1h"
    server.restart()
    server.wait_boot_pass()
    for run_id in run_ids or ("gone",):
        with subprocess.Popen(["true"]) as worker:
            worker.wait()
        tool(server, "emit", "--type", "run_started", "--run-id", run_id, "--council", "lost", "--worker-pid", worker.pid)
    server.wait_applied()
    let_the_grace_pass(server)


def let_the_grace_pass(server):
    server.database.execute("UPDATE council_ex_runs SET last_event_at = '2026-01-02T03:04:05.000000Z'")


def test_explain_names_each_rule_and_the_verdict(server):
    stuck_run(server)
    text = tool(server, "explain", "gone").stdout
    assert re.search(r"(?m)^verdict +stuck, process_gone$", text)
    assert re.search(r"(?m)^ +2 +worker_process +stuck +process_gone ", text)
    assert json_of(server, "explain", "gone")[0]["verdict"] == "stuck"


def test_reconcile_reports_marks_and_is_undone(server):
    stuck_run(server)
    dry = tool(server, "reconcile", "--dry-run").stdout
    assert re.search(r"(?m)^marked stuck +none \(a dry run\)$", dry)
    assert server.control.run("gone")["status"] == "running"
    text = tool(server, "reconcile").stdout
    assert re.search(r"(?m)^marked stuck +1$", text)
    assert re.search(r"(?m)^gone +lost .* stuck +process_gone$", text)
    assert server.control.run("gone")["status"] == "stuck"
    passes = json_of(server, "reconciliations")
    marking = [one["pass_id"] for one in passes if one["report"]["marked"] == 1]
    assert len(marking) == 1
    assert [run["run_id"] for run in json_of(server, "list", "--pass", marking[0])] == ["gone"]
    assert marking[0] in tool(server, "reconciliations").stdout
    assert json_of(server, "reconcile", "--undo", marking[0]) == [{"pass_id": marking[0], "undone": 1, "moved": 0}]
    assert server.control.run("gone")["status"] == "running"
    let_the_grace_pass(server)
    report = json_of(server, "reconcile")[0]
    assert (report["trigger"], report["marked"], report["reasons"]) == ("request", 1, {"process_gone": 1})
    tool(server, "reconcile", "--undo", "x", "--dry-run", status=2)


def test_the_breaker_stops_a_pass_and_force_overrides_it(server):
    stuck_run(server, "gone", "gone2")
    server.config["reconcile"]["max_stuck"] = 1
    server.restart()
    server.wait_boot_pass()
    assert "--force" in tool(server, "reconcile", status=1).stderr
    assert server.control.run("gone")["status"] == "running"
    assert json_of(server, "reconcile", "--force")[0]["marked"] == 2


def test_status_adds_up_for_people_and_programs(server):
    send_some(server)
    server.wait_applied()
    text = tool(server, "status").stdout
    assert "7 accepted = 7 applied + 0 duplicate + 0 waiting + 0 dead + 0 removed" in text
    assert re.search(r"(?m)^database +up since ", text)
    assert json_of(server, "status")[0]["accepted"] == 7


def test_stats_count_by_council(server):
    send_some(server)
    stats = {row["council"]: row for row in json_of(server, "stats")}
    assert set(stats) == {"backup", "import", "later"}
    assert (stats["import"]["runs"], stats["import"]["failed"], stats["import"]["running"]) == (2, 1, 1)
    assert (stats["backup"]["p50_ms"], stats["backup"]["max_ms"]) == (2000, 2000)
    assert re.search(r"(?m)^backup +1 +1 +- .* 2\.0 s ", tool(server, "stats").stdout)


def test_spool_is_read_beside_the_daemon_and_without_it(server):
    send_some(server)
    server.wait_applied()
    flags = ("--spool-path", server.spool_path)
    for _ in range(2):
        report = json_of(server, "spool", "verify", *flags)[0]
        assert (report["records"], report["sound"], report["lost_records"]) == (7, True, 0)
        assert (report["holder_pid"] is not None) == server.alive()
        assert "every record is whole" in tool(server, "spool", "verify", *flags).stdout
        assert json_of(server, "spool", "status", *flags)[0]["id"] == report["id"]
        assert "recorder" in tool(server, "spool", "status", *flags).stdout
        assert len(json_of(server, "spool", "list", *flags)) == len(report["segments"])
        assert "SEGMENT" in tool(server, "spool", "list", *flags).stdout
        records = json_of(server, "spool", "records", *flags)
        assert [record["seq"] for record in records] == list(range(1, 8))
        assert records[0]["event"]["run_id"] == "a"
        assert len(json_of(server, "spool", "records", "--from", 6, *flags)) == 2
        server.stop()
    tool(server, "spool", "status", "--spool-path", server.folder / "nothing", status=69)
    segment = max(server.spool_path.glob("*.seg"), key=lambda path: path.stat().st_size)
    with open(segment, "r+b") as file:
        file.seek(segment.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xFF]))
    assert "damaged" in tool(server, "spool", "verify", *flags, status=1).stdout


def test_list_follow_prints_each_change_as_it_comes(server):
    server.send({"type": "run_started", "run_id": "old"})
    with subprocess.Popen([str(TOOL), "list", "--follow", "--json", "--interval", "20ms", "--control",
                           str(server.control_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=clean_environment()) as follow:
        def next_change():
            run = json.loads(follow.stdout.readline())
            return run["run_id"], run["status"]
        assert next_change() == ("old", "running")
        server.send({"type": "run_started", "run_id": "new"})
        assert next_change() == ("new", "running")
        server.restart()
        server.send({"type": "run_completed", "run_id": "old"})
        assert next_change() == ("old", "completed")
        follow.send_signal(signal.SIGINT)
        assert follow.wait(DEADLINE_S) == -signal.SIGINT


def test_list_follow_and_watch_end_with_the_reader_of_their_output(server):
    server.send({"type": "run_started", "run_id": "r1"})
    for command in (("list", "--follow"), ("watch",)):
        with subprocess.Popen([str(TOOL), *command, "--json", "--interval", "1h", "--control", str(server.control_path)],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment()) as follow:
            try:
                assert "r1" in follow.stdout.readline()
                follow.stdout.close()
                assert follow.wait(DEADLINE_S) == -signal.SIGPIPE
                assert follow.stderr.read() == ""
            finally:
                follow.kill()


def test_a_closed_standard_output_is_an_error(server):
    server.send({"type": "run_started", "run_id": "r1"})
    for command in ("list", "list --follow", "watch", "status", "stats"):
        done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", str(TOOL), *command.split(), "--control",
                               str(server.control_path)], stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S,
                              check=False, env=clean_environment())
        assert done.returncode in (1, -signal.SIGPIPE), (command, done.stderr)


def test_a_closed_pipe_ends_it_quietly(server):
    server.send(*({"type": "run_queued", "run_id": f"r{n}"} for n in range(2_000)))
    with subprocess.Popen([str(TOOL), "list", "--all", "--json", "--control", str(server.control_path)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment()) as process:
        process.stdout.readline()
        process.stdout.close()
        assert (process.wait(DEADLINE_S), process.stderr.read()) == (-signal.SIGPIPE, b"")


def test_a_full_disk_is_an_error(server):
    send_some(server)
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([str(TOOL), "list", "--control", str(server.control_path)], stdout=full,
                              stderr=subprocess.PIPE, text=True, env=clean_environment(), timeout=DEADLINE_S, check=False)
    assert done.returncode == 1
    assert "standard output" in done.stderr


# ---- what is different on a terminal


def on_terminal(server, *arguments, columns=100, wait_for=None, **environment):
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.execve(str(TOOL), [str(TOOL), *arguments, "--control", str(server.control_path)],
                  clean_environment(TERM="xterm", **environment))
    output, end = b"", time.monotonic() + DEADLINE_S
    while wait_for is None or wait_for not in output:
        assert time.monotonic() < end, output
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            output += os.read(terminal, 65536)
        except OSError:
            break
    if wait_for is not None:
        os.kill(pid, signal.SIGTERM)
    os.close(terminal)
    os.waitpid(pid, 0)
    return output.decode()


def test_stored_text_cannot_control_the_terminal(servers):
    server = servers().start()
    commands = "\x7f\x80\x85\x9b\x9f\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069\ufeff"
    event = {"type": "run_failed", "run_id": f"r{commands}1", "errors": [f"e{commands}1"]}
    server.send(event, {"type": "run_started", "run_id": "c", "council": f"c{commands}1"})
    server.wait_applied()
    for arguments in (("list",), ("list", "--json"), ("show", event["run_id"], "--json"),
                      ("events", event["run_id"], "--json"), ("spool", "records", "--spool-path", str(server.spool_path)),
                      ("spool", "records", "--json", "--spool-path", str(server.spool_path)), ("stats",),
                      ("stats", "--json"), ("show", f"none{commands}")):
        shown = on_terminal(server, *arguments, columns=400, NO_COLOR="1")
        assert [c for c in commands if c in shown] == [], (arguments, shown)
    # Read back from the terminal it is the JSON that a program gets, byte for byte, through a pipe.
    shown = on_terminal(server, "list", "--json")
    piped = server.tool("list", "--json").stdout
    assert json_lines(shown) == json_lines(piped)
    assert "\u202e" in piped


def test_tables_fit_and_have_colours_unless_no_color(servers):
    server = servers().start()
    server.send({"type": "run_started", "run_id": "r1", "council": "a-council-with-a-long-name-" * 5},
                {"type": "run_failed", "run_id": "r1", "errors": ["a long story about what went wrong " * 5]})
    coloured = on_terminal(server, "list")
    assert "\x1b[31mfailed" in coloured
    plain = on_terminal(server, "list", NO_COLOR="1")
    assert "\x1b" not in plain
    for columns in (60, 80, 100, 200):
        text = on_terminal(server, "list", columns=columns, NO_COLOR="1")
        assert max(len(line) for line in text.splitlines()) <= columns
        assert "failed" in text
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain
    assert "\x1b" not in server.tool("list").stdout


def test_all_tables_fit_with_ids_as_they_are_in_practice(servers):
    server = servers({"reconcile": {"grace": "1ms"}}).start()
    server.wait_boot_pass()
    first, second = "01a20a80-56a7-764a-83ec-000000000001", "01a20a80-56a7-764a-83ec-000000000002"
    council = "MyApp.Councils.NightlyReport"
    error = {"kind": "exit", "message": "exited with status 3: there is no space left on that device any more"}
    server.send({"type": "run_started", "run_id": first, "council": council, "oban_job_id": 1002, "at": "2026-01-02T03:00:00Z"},
                {"type": "run_failed", "run_id": first, "errors": [error], "at": "2026-01-02T03:05:36Z"},
                {"type": "run_started", "run_id": second, "council": council, "attempt": 2, "worker_pid": 999999999,
                 "parent_attempt_run_id": first, "at": "2026-01-02T03:10:00Z"})
    server.wait_applied()
    for columns in (60, 80, 120):
        for command in ("list", f"chain {first}", f"events {first}", "stats", "reconcile --dry-run", "status", f"explain {first}",
                        "dead-letters list"):
            text = on_terminal(server, *command.split(), columns=columns, NO_COLOR="1")
            widest = max(text.splitlines(), key=len)
            if columns > 60 or command.split()[0] in ("list", "chain", "events"):
                assert len(widest) <= columns, (command, widest)
    assert "TIMELINE" in on_terminal(server, "events", first, columns=80, NO_COLOR="1")
    assert "█" in on_terminal(server, "chain", first, columns=80, NO_COLOR="1")
    assert "█" in on_terminal(server, "stats", columns=80, NO_COLOR="1")


def test_at_eighty_columns_ids_are_short_and_names_and_reasons_readable(servers):
    server = servers().start()
    first, second = "9c8b7a6d-1111-4222-8333-444455556666", "0a0b7a6d-1122-4222-8333-444455556666"
    council = "MyApp.Councils.Nightly"
    server.send({"type": "run_started", "run_id": first, "council": council, "at": "2020-01-02T03:00:00Z"},
                {"type": "run_started", "run_id": second, "council": council, "at": "2020-01-02T04:00:00Z"},
                *({"type": "run_failed", "run_id": run_id, "errors": ["no space left on device"]} for run_id in (first, second)),
                {"type": "run_started", "run_id": "named-by-people", "council": council})
    server.wait_applied()
    rows = on_terminal(server, "list", columns=80, NO_COLOR="1").splitlines()
    assert rows[0].split()[:4] == ["RUN", "NAME", "STATUS", "NOTE"]
    failed = on_terminal(server, "list", "--status", "failed", columns=80, NO_COLOR="1").splitlines()
    assert failed[0].split()[:4] == ["RUN", "NAME", "STATUS", "NOTE"]
    assert "JOB" not in failed[0]
    for line, run_id in zip(failed[1:], (second, first)):
        assert line.startswith(f"{run_id[:8]}  {council[:18]}"), line
        assert "no space left on de" in line
        assert json_of(server, "show", line.split()[0])[0]["run_id"] == run_id
    assert any(row.startswith("named-by-people ") for row in rows)
    assert first in on_terminal(server, "list", columns=200, NO_COLOR="1")
    assert first in server.tool("list").stdout


def test_watch_refreshes_the_newest_runs(servers):
    server = servers().start()
    server.send({"type": "run_started", "run_id": "r1", "council": "demo"})
    text = on_terminal(server, "watch", "--interval", "10ms", wait_for=b"\x1b[J\x1b[H")
    assert "r1" in text
    assert "1 accepted" in text


# ---- without a daemon


def run_tool(*arguments, **options):
    return subprocess.run([str(TOOL), *map(str, arguments)], capture_output=True, text=True, timeout=DEADLINE_S, check=False,
                          stdin=subprocess.DEVNULL, env=clean_environment(**options.pop("env", {})), **options)


def test_without_a_daemon_every_command_ends_with_69_and_names_the_socket():
    """All but those that have another socket, or none; an import says what it did all the same."""
    commands = [(*words, "1") if " REQUIRED " in help_of(TOOL, *words) else words for command, words in all_commands()
                if command not in ("emit", "exec", "spool", "doctor", "import", "admin", "help", "version")]
    assert ("dead-letters", "retry", "1") in commands
    commands += [("reconcile", "--undo", "p"), ("list", "--follow")]
    folder = temporary_folder()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(folder / "stale.sock"))
    for path in (folder / "none.sock", folder / "stale.sock"):
        for words in commands:
            done = run_tool(*words, "--control", path)
            assert done.returncode == 69, (words, done.stderr)
            assert str(path) in done.stderr
            assert done.stdout == ""


def test_a_daemon_that_hangs_is_given_up(server):
    server.signal(signal.SIGSTOP)
    try:
        asked = ("list", "status", "reconcile --dry-run", "prune --dry-run --older-than 1d", "dead-letters retry 1")
        commands = [subprocess.Popen([str(TOOL), *words.split(), "--control", str(server.control_path)], stdout=subprocess.DEVNULL,
                                     stderr=subprocess.PIPE, text=True, env=clean_environment()) for words in asked]
        for command in commands:
            _, stderr = command.communicate(timeout=DEADLINE_S)
            assert command.returncode == 69
            assert f"on {server.control_path}: its process is stopped or hangs" in stderr
    finally:
        server.signal(signal.SIGCONT)


def test_a_daemon_that_lives_may_take_longer_to_answer():
    """It answers only once it was asked whether it lives."""
    path = temporary_folder() / "control.sock"
    asked = threading.Event()

    def serve(connection):
        with connection:
            request = connection.recv(4096)
            if b"/healthz" in request:
                asked.set()
            else:
                assert asked.wait(DEADLINE_S)
            body = b'{"runs":[],"next":null}'
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    def accept(listener):
        with contextlib.suppress(OSError):  # shut down
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        accepting = threading.Thread(target=accept, args=(listener,), daemon=True)
        accepting.start()
        done = run_tool("list", "--control", path)
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()  # else it may accept at a descriptor that is somebody else's by then
    assert done.returncode == 0, done.stderr
    assert asked.is_set()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
def test_a_control_socket_closed_to_this_user_names_the_group():
    folder = temporary_folder()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(folder / "control.sock"))
        listener.listen()
        os.chmod(folder / "control.sock", 0o660)
        done = run_tool("list", "--control", folder / "control.sock", user="nobody", group="nogroup",
                        extra_groups=[])
    assert done.returncode == 1
    assert "the group root" in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
def test_a_control_socket_of_its_owner_alone_names_no_group():
    folder = temporary_folder()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(folder / "control.sock"))
        os.chmod(folder / "control.sock", 0o600)
        done = run_tool("list", "--control", folder / "control.sock", user="nobody", group="nogroup", extra_groups=[])
    assert done.returncode == 1
    assert "is open to its owner alone" in done.stderr


def test_mistakes_in_flags_end_with_2_and_in_the_configuration_with_78():
    for arguments in ((), ("nonsense",), ("show",), ("list", "--limit", "0"), ("list", "extra"), ("dead-letters",),
                      ("list", "--limit", "5", "--all"), ("spool", "nonsense"), ("list", "--control"), ("list", "--status", "done"),
                      ("watch", "--status", "running,done"), ("prune", "--status", "running"),
                      ("prune", "--older-than", "0s"), ("prune", "--older-than", "old")):
        done = run_tool(*arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert done.stderr, arguments
    for flags in ((), ("--control", "/nonexistent/c"), ("--control=/nonexistent/c", "--json")):
        assert "unknown command nonsense" in run_tool(*flags, "nonsense").stderr
    assert "a command is needed" in run_tool("--control", "/nonexistent/c").stderr
    assert "spool needs one of: status, list, records, verify" in run_tool("spool").stderr
    assert '--oban-job-id: invalid value "x": must be a whole number' in run_tool("list", "--oban-job-id", "x").stderr
    assert '--limit: invalid value "0": must be between 1 and 1000000000' in run_tool("list", "--limit", "0").stderr
    assert run_tool("list", env={"RUN_RECORDER_CONTROL_PATH": ""}).returncode == 78
    assert run_tool("--config", "/nonexistent.toml", "emit", "--type", "x", "--run-id", "r").returncode == 78


def test_every_command_has_help():
    names = {(), *((command,) for command, _ in all_commands()), *(words for _, words in all_commands())}
    for words in names:
        done = run_tool(*words, "--help")
        assert (done.returncode, done.stderr) == (0, ""), words
        assert "Usage: " in done.stdout, words
    assert re.search(r"^run-recorder \d+\.\d+", run_tool("--version").stdout)
