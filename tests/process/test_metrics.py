"""Metrics: what is served, that documents, alerts and dashboards fit it, and what each council's runs came to."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from harness import SqliteDatabase, parse_time, wait_until

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config"
HAS_PROMTOOL = shutil.which("promtool") is not None


def samples(server):
    """{'name{labels}': value}, without our prefix."""
    text = server.control.get("/metrics").text
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name.removeprefix("run_recorder_"): float(value) for name, _, value in lines}


def promtool(*arguments, input=None):
    done = subprocess.run(["promtool", *arguments], input=input, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_dashboards_and_documents_name_metrics_that_are_served(servers):
    server = servers({"expect.nightly": {"council": "*", "every": "1h"}})
    server.start()
    server.send({"type": "run_started", "run_id": "r1"})
    server.wait_applied()
    server.wait_boot_pass()  # some are served after a pass, some after a look at the expectations
    wait_until(lambda: "run_recorder_expectation_last_start_" in server.control.get("/metrics").text, "a look")
    served = server.control.get("/metrics").text
    names = set(re.findall(r"^# TYPE (\S+)", served, re.MULTILINE))
    alerts = (CONFIG / "prometheus-alerts.yml").read_text()
    dashboards = [path.read_text() for path in sorted(CONFIG.glob("grafana-dashboard*.json"))]
    for name in set(re.findall(r"run_recorder_[a-z_]+", "\n".join([alerts, *dashboards]))):
        assert {name, re.sub(r"_(bucket|sum|count)$", "", name)} & names, name
    documented = (ROOT / "docs" / "operations.md").read_text().partition("## Metrics")[2].partition("\n## ")[0]
    for name in names:
        assert name.removeprefix("run_recorder_") in documented
    if HAS_PROMTOOL:
        promtool("check", "metrics", input=served)


@pytest.mark.skipif(not HAS_PROMTOOL, reason="promtool is not installed")
def test_alerts_ring_when_they_should():
    promtool("check", "rules", str(CONFIG / "prometheus-alerts.yml"))
    promtool("test", "rules", str(ROOT / "tests" / "process" / "prometheus_alerts_test.yml"))


@pytest.mark.parametrize("path", sorted(CONFIG.glob("grafana-dashboard*.json")), ids=lambda path: path.stem)
def test_dashboards_are_whole(path, tmp_path):
    """What Grafana would show as an empty panel, or one above the other."""
    dashboard = json.loads(path.read_text())
    variables = {variable["name"] for variable in dashboard["templating"]["list"]} | {"__range", "__rate_interval"}
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["targets"], panel["title"]
        for target in panel.get("targets", ()):
            used = set(re.findall(r"\$\{?(\w+)", target["expr"]))
            assert used <= variables and "instance" in used, target["expr"]
    if HAS_PROMTOOL:
        queries = [re.sub(r"\$__\w+", "5m", target["expr"]) for panel in panels for target in panel.get("targets", ())]
        rules = [{"record": f"q{number}", "expr": query} for number, query in enumerate(queries)]
        (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
        promtool("check", "rules", str(tmp_path / "rules.yml"))


# ---- councils


def ends_of(now, council):
    return [now[f'council_runs_total{{council="{council}",outcome="{outcome}"}}']
            for outcome in ("completed", "failed", "cancelled", "stuck")]


def test_runs_are_counted_by_council(servers):
    server = servers().start()
    server.send({"type": "run_started", "run_id": "r1", "council": "import"})
    server.wait_applied()
    assert ends_of(samples(server), "import") == [0, 0, 0, 0]  # so that the first end is an increase
    server.send({"type": "run_completed", "run_id": "r1"},
                {"type": "run_started", "run_id": "r2", "council": "import"},
                {"type": "run_failed", "run_id": "r2", "errors": ["cancelled"]},
                {"type": "run_started", "run_id": "r3", "council": 'odd "name"\n\\'},
                {"type": "run_failed", "run_id": "r3", "errors": ["boom"]},
                {"type": "run_started", "run_id": "r4", "council": "import"},
                {"type": "run_lost", "run_id": "r4"},
                {"type": "run_started", "run_id": "r5", "council": "import"})
    server.wait_applied()
    now = samples(server)
    assert now['council_starts_total{council="import"}'] == 4
    assert ends_of(now, "import") == [1, 0, 1, 1]
    assert ends_of(now, r'odd \"name\"\n\\') == [0, 1, 0, 0]
    assert now['council_duration_seconds_count{council="import"}'] == 1  # neither cancelled nor lost
    if HAS_PROMTOOL:
        promtool("check", "metrics", input=server.control.get("/metrics").text)


def test_last_start_and_success_outlive_the_daemon_and_counts_do_not(servers):
    server = servers().start()
    for run_id, end in (("r1", "run_completed"), ("r2", "run_failed")):
        server.send({"type": "run_started", "run_id": run_id, "council": "import"}, {"type": end, "run_id": run_id})
    server.send({"type": "run_queued", "run_id": "r3", "council": "never"})
    server.wait_applied()
    before = samples(server)
    times = [f'council_last_{what}_timestamp_seconds{{council="import"}}' for what in ("start", "success")]
    assert before[times[1]] == parse_time(server.control.run("r1")["finalized_at"]).timestamp()
    server.stop()
    server.start().wait_boot_pass()
    after = samples(server)
    assert [after[name] for name in times] == [before[name] for name in times]
    assert ends_of(after, "import") == [0, 0, 0, 0]
    assert after['council_running{council="import"}'] == 0
    assert not any(name.startswith("council_last_") and "never" in name for name in after)


# ---- the daemon itself


def test_a_retention_that_fails_is_a_metric_until_it_works(daemons):
    server = daemons(config={"retention": {"interval": "100ms", "completed": "1ms"}})
    server.start().wait_tables()
    wait_until(lambda: "last_retention_timestamp_seconds" in samples(server), "a pass of the retention")
    assert samples(server)["retention_failing"] == 0
    database = SqliteDatabase(server.sqlite_path)
    database.execute("CREATE TRIGGER keep BEFORE DELETE ON council_ex_runs BEGIN SELECT raise(ABORT, 'kept'); END")
    server.send({"type": "run_completed", "run_id": "r1"})
    wait_until(lambda: samples(server)["retention_failing"] == 1, "the retention to fail")
    assert samples(server)["retention_failures_total"] > 0
    database.execute("DROP TRIGGER keep")
    wait_until(lambda: samples(server)["retention_failing"] == 0, "the retention to work again")
    assert samples(server)["pruned_runs_total"] == 1


def test_what_the_process_takes_is_served(servers):
    began = time.time()
    server = servers().start()
    now = samples(server)
    assert now["process_cpu_seconds_total"] > 0
    assert now["process_resident_memory_bytes"] == pytest.approx(1024 * server.rss_kib(), rel=0.3)
    assert now["process_virtual_memory_bytes"] > now["process_resident_memory_bytes"]
    assert now["process_open_fds"] == pytest.approx(server.open_files(), abs=8)
    assert now["process_max_fds"] >= now["process_open_fds"]
    assert began - 2 < now["process_start_time_seconds"] < now["start_time_seconds"] + 2
