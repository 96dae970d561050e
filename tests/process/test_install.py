"""What `cmake --install` puts where, with a prefix of its own and as a package does it (DESTDIR, /usr); versions of packages."""

import itertools
import os
import re
import subprocess
from pathlib import Path

import pytest

from harness import BIN

BUILD = BIN.parent
DEV = Path(__file__).resolve().parents[2] / "dev"


def install(prefix, **environment):
    subprocess.run(["cmake", "--install", str(BUILD), "--prefix", str(prefix)], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, **environment})


@pytest.mark.parametrize("folder, etc", [("opt/recorder", "opt/recorder/etc"), ("usr", "etc")])
def test_everything_lies_where_the_prefix_says(tmp_path, folder, etc):
    """Where DESTDIR is set, the prefix is the one on the machine it is for."""
    install(f"/{folder}", DESTDIR=str(tmp_path))
    at = tmp_path / folder
    for path in ("bin/run-recorderd", "bin/run-recorder", "lib/systemd/system/run-recorder.socket", "lib/sysusers.d/run-recorder.conf",
                 "share/man/man8/run-recorderd.8.gz", "share/bash-completion/completions/run-recorder",
                 "share/bash-completion/completions/run-recorderd", "share/run-recorder/migrations/sqlite/0001_tables.sql",
                 "share/run-recorder/clients/README.md", "share/run-recorder/clients/python/run_recorder/__init__.py",
                 "share/run-recorder/clients/go/go.mod", "share/doc/run-recorder/README.md",
                 "share/doc/run-recorder/examples/prometheus-alerts.yml",
                 "share/doc/run-recorder/examples/grafana-dashboard.json",
                 "share/doc/run-recorder/examples/grafana-dashboard-jobs.json"):
        assert (at / path).exists(), path
    clients = (at / "share/run-recorder/clients").rglob("*")
    assert not [path for path in clients if "test" in path.name or path.name.startswith(".")]
    assert (tmp_path / etc / "run-recorder/run-recorder.toml").exists()
    unit = (at / "lib/systemd/system/run-recorder.service").read_text()
    assert f"ExecStart=/{folder}/bin/run-recorderd\n" in unit
    assert (f"RUN_RECORDER_CONFIG=/{etc}/run-recorder/run-recorder.toml" in unit) == (folder != "usr")
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(at)]
    assert all(path.is_relative_to(tmp_path / etc) for path in outside)


def test_a_prefix_of_an_ordinary_user(tmp_path):
    install(tmp_path / "home")
    assert (tmp_path / "home/etc/run-recorder/run-recorder.toml").exists()
    assert os.access(tmp_path / "home/bin/run-recorder", os.X_OK)


def test_the_package_for_the_next_debian_is_an_upgrade_and_the_next_version_of_ours_too():
    suffixes = re.findall(r"\) printf '([^']*deb[^']*)' ;;", DEV.read_text())
    assert [re.search("[0-9]+", suffix)[0] for suffix in suffixes] == ["12", "13"]
    for older, newer in itertools.pairwise(["0.1.0", *(f"0.1.0{suffix}" for suffix in suffixes), "0.1.1"]):
        subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=True)


@pytest.mark.parametrize("command", ["package", "system"])
def test_a_release_that_is_not_known_is_refused(command):
    refused = subprocess.run([DEV, command, "--release", "../.."], capture_output=True, text=True)
    assert (refused.returncode, refused.stderr) == (1, "dev: --release: unknown release '../..' (bookworm, trixie)\n")
