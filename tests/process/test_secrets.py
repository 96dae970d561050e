"""A password appears in no message, no process list and no core; who else may read the files that hold one is said."""

import re
import shutil
import subprocess
from pathlib import Path

from harness import DAEMON, DEADLINE_S, TOOL, clean_environment, wait_until

SECRET = "hunter2"
URL = f"postgresql://recorder:{SECRET}@db.example/app"


def arguments_of(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode()


def refused(program, *arguments):
    done = subprocess.run([str(program), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=DEADLINE_S, check=False, env=clean_environment())
    assert done.returncode != 0, (arguments, done.stdout, done.stderr)
    assert SECRET not in done.stdout + done.stderr, arguments
    return done


def test_an_argument_that_is_not_known_shows_only_its_name():
    for program, before in ((DAEMON, ()), (TOOL, ()), (TOOL, ("status",)), (TOOL, ("emit",)), (TOOL, ("list", "--json"))):
        for wrong in ((f"--databse-url={URL}",), ("--databse-url", URL), (f"--database-urll={URL}",), (f"--dbpass={SECRET}",)):
            done = refused(program, *before, *wrong)
            assert done.returncode == 2
            assert wrong[0].split("=")[0] in done.stderr


def test_an_argument_in_the_wrong_place_shows_no_password():
    for wrong in (URL, f"host=db user=recorder password={SECRET}", f"recorder:{SECRET}@db", URL + "?sslpassword=" + SECRET):
        for program, before in ((DAEMON, ()), (DAEMON, ("--check",)), (TOOL, ()), (TOOL, ("list",)), (TOOL, ("show", "r1"))):
            assert refused(program, *before, wrong).returncode == 2


def test_a_value_of_another_option_shows_no_password():
    for option in ("--limit", "--since", "--status", "--interval"):
        assert refused(TOOL, "list", option, URL).returncode == 2
        assert refused(TOOL, "list", f"{option}={URL}").returncode == 2
    for option in ("--config", "--control", "--log-level", "--limits-depth", "--socket-path", "--spool-keep"):
        refused(TOOL, "list", option, URL)
    for option in ("--config", "--log-level", "--limits-depth", "--spool-keep", "--database-table-prefix"):
        refused(DAEMON, option, URL)


def test_the_tools_arguments_show_no_password(servers):
    server = servers().start()
    for flags in ((f"--database-url={URL}",), ("--reconcile-queue-url", URL)):
        tool = subprocess.Popen([str(TOOL), "emit", "--socket", str(server.socket_path), *flags], stdin=subprocess.PIPE,
                                env=clean_environment())
        try:
            shown = wait_until(lambda tool=tool: (text := arguments_of(tool.pid)) and "****" in text and text,
                               "the password to be overwritten")
            assert SECRET not in shown
            assert "recorder:*******@db.example/app" in shown
        finally:
            tool.communicate(timeout=DEADLINE_S)
        assert tool.returncode == 0


def test_doctor_gives_no_password_to_the_program_it_starts(servers):
    server = servers()
    server.write_config()
    shutil.copy2(TOOL, server.folder / "run-recorder")
    beside = server.folder / "run-recorderd"
    beside.write_text('#!/bin/sh\necho "$0 $*" >"$0.arguments"\nenv >"$0.environment"\n')
    beside.chmod(0o755)
    subprocess.run([str(server.folder / "run-recorder"), "doctor", "--config", str(server.config_path),
                    f"--database-url={URL}"], capture_output=True, timeout=DEADLINE_S, check=False,
                   env=clean_environment())
    assert Path(f"{beside}.arguments").read_text().split()[1:] == ["--check"]
    environment = Path(f"{beside}.environment").read_text().splitlines()
    assert f"RUN_RECORDER_DATABASE_URL={URL}" in environment
    assert f"RUN_RECORDER_CONFIG={server.config_path}" in environment


def test_files_that_others_may_read_are_named_and_change_no_exit_status(servers):
    server = servers({"reconcile.queue": {"kind": "none", "url": URL}})
    server.write_config()
    for mode, named in ((0o644, True), (0o604, True), (0o600, False)):
        server.config_path.chmod(mode)
        checked = server.run("--check")
        assert checked.returncode == 0, checked.stdout
        warning = re.search(rf"(?m)^warning .*config\.toml holds a password in a URL and has mode {mode:04o}: any user.*chmod 0600",
                            checked.stdout)
        assert bool(warning) == named, checked.stdout
        assert SECRET not in checked.stdout + checked.stderr
    server.start()
    server.config_path.chmod(0o644)
    done = subprocess.run([str(TOOL), "doctor", "--config", str(server.config_path)], capture_output=True, text=True,
                          timeout=DEADLINE_S, check=False, env=server.environment())
    assert done.returncode == 0, done.stdout
    assert re.search(r"secrets +warning: .*mode 0644", done.stdout)
    assert SECRET not in done.stdout + done.stderr


def test_the_unit_leaves_no_core():
    unit = Path(__file__).resolve().parents[2] / "systemd" / "run-recorder.service"
    assert "\nLimitCORE=0\n" in unit.read_text()
