"""The documents say what the programs do: links, keys, flags and log lines; and the example workers run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness import DAEMON, DEADLINE_S, TOOL, SqliteDatabase
from test_manual import help_of, subcommands

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(DOCS.rglob("*.md")),
]


def anchors(page):
    """As they are made of headings."""
    headings = re.findall(r"^#+\s+(.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def keys():
    """Every key as (section, name, flag), from the file that documents them."""
    found, section = [], None
    for line in (ROOT / "config" / "run-recorder.toml").read_text().splitlines():
        if match := re.fullmatch(r"\[(.+)\]", line):
            section = match[1]
        elif match := re.match(r"#([a-z_]+) = ", line):
            flag = f"--{section}-{match[1]}".replace(".", "-").replace("_", "-")
            found.append((section, match[1], flag))
    return found


def test_every_link_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            if target.startswith("http"):
                continue
            path, _, anchor = target.partition("#")
            linked = page.parent / path if path else page
            assert linked.exists(), f"{page.name}: {target}"
            if anchor:
                assert anchor in anchors(linked), f"{page.name}: {target}"


def test_the_version_is_the_same_everywhere():
    version = re.search(r"project\(run-recorder VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text())[1]
    image = re.search(r'image\.version="([^"]+)"', (ROOT / "Dockerfile").read_text())[1]
    package = re.match(r"run-recorder \(([^)]+)\)", (ROOT / "config/debian/changelog").read_text())[1]
    assert (image, package) == (version, version)


def test_sections_of_the_contract_that_the_source_cites_exist():
    sections = set(re.findall(r"^## (\d+)\.", (DOCS / "contract.md").read_text(), re.MULTILINE))
    for path in sorted(p for folder in ("lib", "cli", "daemon") for p in (ROOT / folder).rglob("*.[hc]*")):
        for cited in re.findall(r"contract section (\d+)", path.read_text()):
            assert cited in sections, path.relative_to(ROOT)


def test_every_key_is_in_help_and_manual():
    assert len(keys()) > 30
    help_text = help_of(DAEMON)
    manual = (DOCS / "man" / "run-recorder.toml.5").read_text()
    for section, name, flag in keys():
        assert f"{flag} VALUE" in help_text
        part = manual.partition(f".Ss [{section}]")[2].partition(".Ss ")[0]
        assert re.search(rf"\.It Sy .*\b{name}\b", part), f"{section}.{name}"


def test_every_command_is_in_the_manual():
    commands = subcommands(help_of(TOOL))
    assert "emit" in commands
    manual = (DOCS / "man" / "run-recorder.1").read_text()
    for command in commands:
        assert re.search(rf"\.Cm ([a-z|, -]* )?{command}\b", manual), command


def test_every_log_line_explained_is_one_that_is_logged():
    sources = "".join(path.read_text() for folder in ("lib", "daemon") for path in (ROOT / folder).rglob("*.cc"))
    sources = re.sub(r'"\s*\n\s*"', "", sources)
    table = (DOCS / "operations.md").read_text().partition("| line | what it means")[2].partition("\n\n")[0]
    lines = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert len(lines) > 20
    for cell in lines:
        for line in re.findall(r"`([^`]+)`", cell):
            words = re.sub(r"(finished|stopped): …$|…$", "", line).strip()
            assert words in sources, f"no line of the log says {words!r}"


def test_every_log_line_from_info_on_is_explained():
    table = (DOCS / "operations.md").read_text().partition("\n## The log\n")[2].partition("\n## ")[0]
    explained = [words.removesuffix("…").strip() for words in re.findall(r"`([^`]+)`", table)]
    logged = set()
    for path in sorted(path for folder in ("lib", "daemon") for path in (ROOT / folder).rglob("*.cc")):
        source = re.sub(r'"\s*\n\s*"', "", path.read_text())
        logged |= set(re.findall(r'\blog_(?:info|warning|error)\(\s*(?:fmt::format\(\s*)?"([^"{]+)', source))
    assert len(logged) > 20
    for line in sorted(logged):
        words = line.strip().rstrip(":")
        assert any(words.startswith(known) or known.startswith(words) for known in explained if known), line


@pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not installed")
def test_the_manual_pages_are_well_formed():
    for page in sorted((DOCS / "man").iterdir()):
        done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", str(page)], capture_output=True,
                              text=True, timeout=60, check=False)
        assert done.stdout + done.stderr == "", page.name


def test_each_reason_of_the_rules_is_explained_and_only_those_that_mark_a_run_ring():
    verdicts = (ROOT / "lib" / "reconcile" / "verdict.cc").read_text()
    stuck = set(re.findall(r'(?:VerdictKind::kStuck,\s*|\bstuck\()"([a-z_]+)"', verdicts))
    unknown = set(re.findall(r'VerdictKind::kUnknown,\s*"([a-z_]+)"', verdicts))
    assert stuck and unknown
    counted = re.search(r"kReasons = .*?;", (ROOT / "lib" / "reconcile" / "verdict.h").read_text(), re.DOTALL)[0]
    assert re.findall(r'"([a-z_]+)"', counted) == sorted(stuck | unknown | {"foreign", "raced"})
    contract = (DOCS / "contract.md").read_text()
    tables = re.split(r"^(Stuck|Unknown), and .*:$", (DOCS / "oban-and-councilex.md").read_text(), flags=re.MULTILINE)
    documented = {tables[i]: tables[i + 1] for i in range(1, len(tables), 2)}
    for kind, reasons in (("Stuck", stuck), ("Unknown", unknown)):
        for reason in reasons:
            assert f"`{reason}`" in contract
            assert f"\n| `{reason}` |" in documented[kind]
    silent = re.findall(r'reason!~"([a-z_|]+)"', (ROOT / "config" / "prometheus-alerts.yml").read_text())
    assert silent
    for reasons in silent:
        assert set(reasons.split("|")) == unknown | {"foreign", "raced"}


# ---- the example worker


def test_the_example_that_is_started_before_the_daemon_waits_for_it(servers, at_end):
    server = servers()
    environment = {**os.environ, "RUN_RECORDER_SOCKET_PATH": str(server.socket_path), "PYTHONPATH": str(ROOT / "clients" / "python")}
    with subprocess.Popen([sys.executable, str(DOCS / "examples" / "worker.py"), "the-run"], env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as worker:
        at_end(worker.kill)
        server.start()
        out, err = worker.communicate(timeout=3 * DEADLINE_S)
        assert (worker.returncode, out) == (0, "the-run\n"), err
    server.wait_applied()
    run = server.control.run("the-run")
    assert run["status"] == "completed"
    assert run["result"] == {"rows": 3}
    events = server.control.ok("GET", "/v1/runs/the-run/events")["events"]
    assert [event["type"] for event in events] == ["run_started", "row_done", "row_done", "row_done", "run_completed"]
    assert events[0]["payload"]["expires_in"] > 0
    assert events[-2]["payload"]["progress"] == {"done": 3, "total": 3, "unit": "rows"}


# ---- containers


IMAGE = (ROOT / "Dockerfile").read_text()
IMAGE_USER = int(re.search(r"^USER (\d+):\1$", IMAGE, re.MULTILINE)[1])
IMAGE_FOLDERS = set(json.loads(re.search(r"^VOLUME (.+)$", IMAGE, re.MULTILINE)[1]))
STAGES = re.split(r"^FROM ", IMAGE, flags=re.MULTILINE)[1:]
KUBERNETES = sorted((DOCS / "examples" / "kubernetes").iterdir())
COMPOSE = [DOCS / "examples" / name for name in ("compose.yml", "compose.postgresql.yml")]


def variables():
    return {f"RUN_RECORDER_{section}_{name}".replace(".", "_").upper() for section, name, _ in keys()}


def check_command(command):
    """Of what runs in the image: a program that is there, and a command that it has."""
    program, words = Path(command[0]).name, command[1:]
    assert f"/build/bin/{program}" in IMAGE
    assert program != "run-recorder" or words[0] in subcommands(help_of(TOOL)), command


def check_variables(names):
    assert {name for name in names if name.startswith("RUN_RECORDER_")} <= variables()


def check_files_of_comments(path):
    """Files that the commands in its comments name."""
    commands = re.findall(r"^# {5}(\S.*)$", path.read_text(), re.MULTILINE)
    names = re.findall(r"[\w./-]+\.(?:yaml|yml|py)\b", " ".join(commands))
    for name in names:
        assert (path.parent / name).exists(), f"{path.name}: {name}"


def workloads():
    """(file, kind, its Pod's spec, names of the volumes that it claims)."""
    found = []
    for path in KUBERNETES:
        for document in yaml.safe_load_all(path.read_text()):
            assert {"apiVersion", "kind", "metadata"} <= set(document), path.name
            if "template" in document.get("spec", {}):
                spec = document["spec"]
                assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"], path.name
                claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())}
                found.append((path.name, document["kind"], spec["template"]["spec"], claims))
    return found


def containers_of(pod):
    return pod.get("initContainers", []) + pod["containers"]


def test_the_static_tool_is_where_images_of_workers_copy_it_from():
    copied = re.search(r"COPY --from=run-recorder-tool (\S+) ", (DOCS / "tasks.md").read_text())[1]
    build, tool = (next(stage for stage in STAGES if f" AS {name}\n" in stage) for name in ("build-tool", "tool"))
    presets = {preset["name"] for preset in json.loads((ROOT / "CMakePresets.json").read_text())["configurePresets"]}
    assert re.search(r"cmake --preset (\w+) ", build)[1] in presets
    assert tool.startswith("scratch ")
    assert f"COPY --from=build-tool /build/bin/run-recorder {copied}\n" in tool
    # What is built without --target.
    assert 'ENTRYPOINT ["/usr/bin/run-recorderd"]' in STAGES[-1]


def test_the_manifests_for_kubernetes_name_what_the_image_and_the_examples_have():
    for path in KUBERNETES:
        check_files_of_comments(path)
    assert [(name, kind) for name, kind, _, _ in workloads()] == [
        ("daemonset.yaml", "DaemonSet"), ("sidecar.yaml", "StatefulSet"), ("worker.yaml", "Deployment")]
    daemons = 0
    for name, _, pod, claims in workloads():
        volumes = {volume["name"] for volume in pod["volumes"]} | claims
        mounts = {mount["name"] for container in containers_of(pod) for mount in container["volumeMounts"]}
        assert mounts == volumes, name
        for container in containers_of(pod):
            paths = {mount["mountPath"] for mount in container["volumeMounts"]}
            if container["image"] == "run-recorder":
                daemons += 1
                user = container["securityContext"]
                assert (user["runAsUser"], user["runAsGroup"]) == (IMAGE_USER, IMAGE_USER)
                assert IMAGE_FOLDERS <= paths, name
                check_variables(variable["name"] for variable in container.get("env", ()))
                for probe in ("startupProbe", "readinessProbe"):
                    if probe in container:
                        check_command(container[probe]["exec"]["command"])
            elif container["name"] == "worker":
                assert "/run/run-recorder" in paths, name
                assert IMAGE_USER in (*pod["securityContext"].get("supplementalGroups", ()), pod["securityContext"].get("fsGroup"))
    assert daemons == 2


def test_the_sidecar_is_within_the_restricted_pod_security_standard():
    _, _, pod, _ = next(workload for workload in workloads() if workload[0] == "sidecar.yaml")
    assert not {"hostPID", "hostNetwork", "hostIPC"} & set(pod)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert all({"configMap", "emptyDir"} & set(volume) for volume in pod["volumes"])
    for container in containers_of(pod):
        context = container["securityContext"]
        assert (context["allowPrivilegeEscalation"], context["capabilities"]) == (False, {"drop": ["ALL"]})
        assert context["runAsUser"] != 0


def test_the_compose_files_name_what_the_image_and_the_examples_have():
    declared, used = set(), set()
    for path in COMPOSE:
        check_files_of_comments(path)
        compose = yaml.safe_load(path.read_text())
        declared |= set(compose["volumes"])
        for name, service in compose["services"].items():
            check_variables(service.get("environment", ()))
            for volume in service["volumes"]:
                source, target = volume.removesuffix(":ro").rsplit(":", 1)
                if not source.startswith((".", "/", "$")):
                    used.add(source)
                elif source.startswith("./") and source != "./database-password":  # its making is in the comment
                    assert (path.parent / source).exists(), source
                if name == "run-recorder" and source in declared:
                    assert target in IMAGE_FOLDERS
            if "user" in service:
                assert service["user"].endswith(f":{IMAGE_USER}")
    assert used == declared
    assert "database-password" in COMPOSE[1].read_text().partition("services:")[0]


# ---- the way to PostgreSQL


def test_the_way_from_sqlite_to_postgresql(daemons, postgres_database):
    server = daemons()
    sqlite = SqliteDatabase(server.sqlite_path)
    server.start()
    server.send({"type": "run_started", "run_id": "r1", "id": "a", "council": 'quote " comma , line\nend'},
                {"type": "run_started", "run_id": "r1", "id": "a"},
                {"type": "run_completed", "run_id": "r1", "result": {"exact": 1, "text": "é\n\\."}},
                {"type": "run_started", "run_id": "r2", "input": None})
    server.wait_applied()
    before = server.status()
    server.stop()
    url = postgres_database().url
    assert server.run("--drain").returncode == 0
    apart = ("--reconcile-interval", "0s", "--reconcile-grace", "24h")
    server.start(*apart)
    other = daemons(url)
    other.start(*apart).wait_tables()
    exported = server.tool("export")
    done = other.tool("import", input=exported.stdout)
    assert (exported.returncode, done.returncode) == (0, 0), exported.stderr + done.stderr
    assert "2 runs imported; 0 there already, 0 refused" in done.stdout
    other.stop()
    server.stop()

    server.config["database"]["url"] = url
    server.start()
    server.send({"type": "run_completed", "run_id": "r2", "result": 2})
    server.wait_applied()
    after = server.status()
    assert (after["accepted"], after["duplicate"], after["forgotten"]) == (before["accepted"] + 1, 1, 0)
    assert after["recorder"] == before["recorder"]
    run = server.control.run("r1")
    assert run["council"] == 'quote " comma , line\nend'
    assert run["result"] == {"exact": 1, "text": "é\n\\."}
    assert run["started_at"] == sqlite.runs()["r1"]["started_at"]
    events = server.control.ok("GET", "/v1/runs/r2/events")["events"]
    assert [event["seq"] for event in events] == [1, 2]
