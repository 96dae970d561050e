"""The words of the tool's command line: commands and flags that are mistyped, `exec` without --, help, version, and what a mistake in
the configuration leaves undisturbed."""

import os
import re
import signal
import socket
import subprocess
import time

import pytest

from harness import DEADLINE_S, DAEMON, TOOL, clean_environment, temporary_folder, wait_until
from test_cli_exec import Terminal
from test_manual import all_commands, help_of


def run_tool(*arguments, **options):
    return subprocess.run([str(TOOL), *map(str, arguments)], capture_output=True, text=True, timeout=DEADLINE_S, check=False,
                          stdin=subprocess.DEVNULL, env=clean_environment(**options.pop("env", {})), **options)


def refusal(*arguments):
    """What is said of a wrong command line, whose exit status is 2."""
    done = run_tool(*arguments)
    assert (done.returncode, done.stdout) == (2, ""), arguments
    return done.stderr


# ---- mistakes


def test_a_mistyped_command_or_flag_is_told_from_what_is_near():
    for words, said in ((("lst",), "unknown command lst; did you mean list?"),
                        (("--json", "lst"), "unknown command lst; did you mean list?"),
                        (("nonsense",), "unknown command nonsense\n"),
                        (("nonsense", "--help"), "unknown command nonsense\n"),
                        (("spool", "lst"), "unknown command spool lst; did you mean spool list?"),
                        (("help", "dead-leters"), "unknown command dead-leters; did you mean dead-letters?"),
                        (("list", "--statu", "failed"), "unknown argument --statu; did you mean --status?"),
                        (("list", "--contrl=x"), "unknown argument --contrl; did you mean --control?"),
                        (("--log-lvel", "info", "list"), "unknown argument --log-lvel; did you mean --log-level?"),
                        (("--database-urll", "x", "list"), "unknown argument --database-urll; did you mean --database-url?"),
                        (("exec", "--concil", "x", "true"), "unknown argument --concil; did you mean --council?"),
                        (("list", "--nothing-like-it"), "unknown argument --nothing-like-it\n")):
        assert said in refusal(*words), words


def test_a_flag_has_one_value_and_a_switch_has_none():
    for words, said in ((("list", "--limit", "3", "--limit", "4"), "--limit: given twice"),
                        (("emit", "--type", "x", "--type=y", "--run-id", "r"), "--type: given twice"),
                        (("exec", "--parent", "x", "--parent-attempt-run-id", "y", "true"), "--parent-attempt-run-id: given twice"),
                        (("list", "--control", "x", "--control", "y"), "--control: given twice"),
                        (("list", "--log-level", "info", "--log-level=info"), "--log-level: given twice"),
                        (("list", "--limit"), "--limit: a value is missing"),
                        (("exec", "--council", "--", "true"), "--council: a value is missing"),
                        (("list", "--log-level"), "--log-level: a value is missing"),
                        (("list", "--json=yes"), "--json: takes no value"),
                        (("list", "--all=no"), "--all: takes no value"),
                        (("exec", "--record-args=1", "true"), "--record-args: takes no value")):
        assert said in refusal(*words), words
    for words, said in ((("--log-level", "info", "--log-level", "info"), "--log-level: given twice"),
                        (("--check", "--check"), "--check: given twice"), (("--log-level",), "--log-level: a value is missing")):
        done = subprocess.run([str(DAEMON), *words], capture_output=True, text=True, timeout=DEADLINE_S, check=False,
                              env=clean_environment())
        assert (done.returncode, done.stdout) == (2, ""), words
        assert said in done.stderr


def test_a_status_may_be_given_several_times(servers):
    server = servers().start().wait_tables()
    server.send({"type": "run_failed", "run_id": "f"}, {"type": "run_completed", "run_id": "c"})
    for flags in (("--status", "failed,completed"), ("--status", "failed", "--status", "completed")):
        assert server.tool("list", "--json", *flags).stdout.count("\n") == 2


def test_a_duration_is_named_with_its_flag():
    for words in (("emit", "--wait", "1"), ("emit", "--wait", "soon"), ("list", "--interval", "0s"), ("watch", "--interval", "-1s"),
                  ("exec", "--retry-delay", "5", "true"), ("prune", "--older-than", "5")):
        assert re.search(rf'{words[1]}: invalid value "{words[2]}": must be a duration', refusal(*words)), words


# ---- help and version


def test_help_is_a_command_for_each_command():
    assert run_tool("help").stdout == help_of(TOOL)
    for _, words in all_commands():
        done = run_tool("help", *words)
        assert (done.returncode, done.stdout, done.stderr) == (0, help_of(TOOL, *words), ""), words
    assert run_tool("help", "spool").stdout == help_of(TOOL, "spool")


def test_version_is_a_command():
    assert run_tool("version").stdout == run_tool("--version").stdout


# ---- exec


def test_exec_takes_its_command_without_dashes(servers):
    server = servers().start().wait_tables()
    show = ("sh", "-c", 'echo "$@"', "sh")
    for number, (flags, words) in enumerate(((("--council", "x"), ("a",)), ((), ("--help", "--json", "-f")), (("--tail=0",), ("--",)),
                                             (("--council", "list", "--record-args"), ("--council", "y")),
                                             (("--log-level", "error"), ("--log-level",)), ((), ("exec", "--", "x")))):
        done = server.tool("exec", "--run-id", f"r{number}", *flags, *show, *words)
        assert (done.returncode, done.stdout) == (0, " ".join(words) + "\n"), done.stderr
        assert server.control.run(f"r{number}")["status"] == "completed"
    assert server.control.run("r0")["council"] == "x"
    assert server.control.run("r3")["input"]["args"][-2:] == ["--council", "y"]
    # As before, behind the dashes; with flags of every command before and after the word exec.
    done = server.tool("--log-level", "error", "exec", "--run-id", "d", "--socket", server.socket_path, "--", "echo", "--", "x")
    assert (done.returncode, done.stdout) == (0, "-- x\n")
    assert server.control.run("d")["council"] == "echo"


# ---- the configuration


@pytest.fixture
def mistaken(servers):
    """A healthy daemon, and a file beside it with a mistake in a section of the daemon's."""
    server = servers().start().wait_tables()
    path = server.folder / "mistaken.toml"
    path.write_text(server.config_path.read_text().replace("[reconcile]", "[reconcile]\ngrce = \"1s\"\nsilent_after = 3"))
    return server, path


def by_file(path, *arguments, **environment):
    return run_tool("--config", path, *arguments, env=environment)


def test_a_mistake_that_is_the_daemons_keeps_no_command_from_its_work(mistaken):
    server, path = mistaken
    event = ("emit", "--type", "run_started", "--run-id", "r1")
    for words in (event, ("list",), ("status",), ("show", "r1"), ("spool", "list"), ("exec", "true")):
        done = by_file(path, *words)
        assert done.returncode == 0, (words, done.stderr)
        said = [line for line in done.stderr.splitlines() if "the daemon would not start with this configuration" in line]
        assert len(said) == 1, (words, done.stderr)
        assert f"{path}:" in said[0]
        assert "unknown key; did you mean reconcile.grace? (and 1 more mistake" in said[0]
    assert f"; using {server.socket_path}\n" in by_file(path, *event).stderr
    assert f"; using {server.control_path}\n" in by_file(path, "list").stderr
    done = run_tool("list", "--control", server.control_path, env={"RUN_RECORDER_LIMITS_DEPTH": "1"})
    assert done.returncode == 0
    assert "environment RUN_RECORDER_LIMITS_DEPTH" in done.stderr


def test_a_mistake_in_the_path_that_a_command_needs_is_one(mistaken):
    server, path = mistaken
    path.write_text(path.read_text().replace(f'"{server.control_path}"', "3"))
    assert by_file(path, "list").returncode == 78
    assert by_file(path, "emit", "--type", "x", "--run-id", "r1").returncode == 0
    assert by_file(path, "list", "--control", server.control_path).returncode == 0
    path.write_text(server.config_path.read_text().replace(f'"{server.socket_path}"', '""'))
    assert by_file(path, "emit", "--type", "x", "--run-id", "r1").returncode == 78
    assert by_file(path, "emit", "--type", "x", "--run-id", "r1", "--socket", server.socket_path).returncode == 0
    assert by_file(path, "list").returncode == 0
    # What stands on the command line itself is no mistake of the daemon's.
    assert by_file(server.config_path, "list", "--limits-depth", "1").returncode == 78


def test_a_file_that_is_no_toml_leaves_the_usual_paths(servers):
    server = servers().start().wait_tables()
    broken = server.folder / "broken.toml"
    broken.write_text("not TOML\n")
    paths = {"RUN_RECORDER_SOCKET_PATH": str(server.socket_path), "RUN_RECORDER_CONTROL_PATH": str(server.control_path)}
    for words in (("emit", "--type", "x", "--run-id", "r1"), ("list",)):
        done = run_tool(*words, env={"RUN_RECORDER_CONFIG": str(broken), **paths})
        assert done.returncode == 0, done.stderr
        assert "invalid TOML" in done.stderr
        # Whoever names a file means what is in it.
        assert by_file(broken, *words).returncode == 78
        assert by_file(server.folder / "none.toml", *words).returncode == 78


# ---- spool and emit


def test_spool_looks_at_the_running_daemons_own(servers):
    server = servers().start().wait_tables()
    server.send({"type": "x", "run_id": "r1"})
    assert server.status()["spool"]["path"] == str(server.spool_path)

    def looked_there(word):
        done = run_tool("spool", word, "--control", server.control_path)
        return done.returncode == 0 and f"this is the spool of the running daemon, {server.spool_path}\n" in done.stderr
    for word in ("status", "list", "records", "verify"):
        wait_until(lambda: looked_there(word), "the daemon to say in time where its spool is")
    named = run_tool("spool", "status", "--control", server.control_path, "--spool-path", server.folder / "other")
    assert named.returncode == 69
    assert str(server.folder / "other") in named.stderr


def test_a_daemon_that_is_hung_does_not_keep_spool_waiting(servers):
    server = servers().start().wait_tables()
    server.signal(signal.SIGSTOP)
    try:
        done = run_tool("--config", server.config_path, "spool", "status")
    finally:
        server.signal(signal.SIGCONT)
    assert done.returncode == 0, done.stderr
    assert str(server.spool_path) in done.stdout


def test_emit_on_a_terminal_says_what_it_waits_for(servers, at_end):
    server = servers().start().wait_tables()
    terminal = Terminal(str(TOOL), "emit", "--socket", str(server.socket_path))
    at_end(os.close, terminal.fd)
    terminal.read_until(b"reading events from the terminal, one JSON object a line; end with Ctrl-D")
    terminal.write(b'{"type":"run_completed","run_id":"typed"}\n\x04')
    assert terminal.wait() == 0
    assert server.control.run("typed")["status"] == "completed"


# ---- --wait


def test_wait_means_also_a_daemon_that_is_away(servers):
    server = servers()
    emit = ("emit", "--type", "run_completed", "--run-id", "r1", "--socket", server.socket_path)
    done = run_tool(*emit)
    assert done.returncode == 69
    took = []
    for _ in range(3):  # what a busy machine may add
        began = time.monotonic()
        assert run_tool(*emit, "--wait", "1s").returncode == 69
        took.append(time.monotonic() - began)
    assert min(took) >= 1
    with subprocess.Popen([str(TOOL), *map(str, emit), "--wait", "1h"], stderr=subprocess.PIPE, text=True,
                          env=clean_environment()) as waiting:
        server.start()
        _, stderr = waiting.communicate(timeout=DEADLINE_S)
    assert (waiting.returncode, stderr) == (0, "")


def test_a_wait_of_months_is_no_shorter_than_an_hour():
    """More milliseconds than poll(2) takes."""
    path = temporary_folder() / "events.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        with subprocess.Popen([str(TOOL), "emit", "--socket", str(path), "--wait", "60d", "--type", "x", "--run-id", "r"],
                              stderr=subprocess.PIPE, text=True, env=clean_environment()) as emit:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                lines.readline()
                connection.sendall(b'{"acked":1}\n')
                _, stderr = emit.communicate(timeout=DEADLINE_S)
    assert (emit.returncode, stderr) == (0, "")
