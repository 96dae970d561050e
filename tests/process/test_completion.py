"""What the shells offer: bash, zsh and fish ask the tool itself, and the tool asks the daemon, for a second at most: on a busy machine
it may have to be asked again."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness import DEADLINE_S, TOOL, clean_environment, temporary_folder, wait_until
from test_documents import keys
from test_manual import all_commands, flags_of_help, help_of, subcommands

CONFIG = Path(__file__).resolve().parents[2] / "config"
NEEDS_ZSH = pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
NEEDS_FISH = pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")


def environment(server=None):
    paths = {} if server is None else {"RUN_RECORDER_CONTROL_PATH": str(server.control_path)}
    return clean_environment(PATH=f"{TOOL.parent}:{os.environ['PATH']}", HOME=str(temporary_folder()), **paths)


def run(*command, server=None, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True, env=environment(server), **options)


def offered(line, server=None):
    """{word: meaning} by the tool itself."""
    lines = run(str(TOOL), "--complete", *line.split(" ")[1:], server=server).stdout.splitlines()
    return dict(line.split("\t") for line in lines)


def by_bash(line, server=None, typed_words=None):
    script = (f"source {CONFIG}/bash-completion/run-recorder; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); "
              '_${1//-/_}; printf "%s\\n" "${COMPREPLY[@]}"')
    return set(run("bash", "--norc", "-c", script, "bash", *(typed_words or line.split(" ")), server=server).stdout.split())


def by_fish(line, server=None):
    script = f"source {CONFIG}/fish-completion/run-recorder.fish; complete -C {json.dumps(line)}"
    return {found.split("\t")[0] for found in run("fish", "--no-config", "-c", script, server=server).stdout.splitlines()}


def by_zsh(line, server=None):
    """The script itself, with what it says to zsh as words."""
    script = ("compadd() { while [[ $1 != -- ]]; do shift; done; shift; print -rl -- \"$@\" }; _files() { print files }; "
              "_normal() { print -r -- command \"$words[1]\" }; compset() { : }; service=$1; words=(\"$@\"); CURRENT=$#words; "
              f"source {CONFIG}/zsh-completion/_run-recorder; true")
    return set(run("zsh", "-f", "-c", script, "zsh", *line.split(" "), server=server).stdout.splitlines())


# ---- what is offered


def test_commands_come_first_and_flags_where_one_begins():
    assert list(offered("run-recorder ")) == subcommands(help_of(TOOL))
    assert all(offered("run-recorder ").values())
    settings = {"--config", *(flag for _, _, flag in keys())}
    for command, words in all_commands():
        own = set(flags_of_help(help_of(TOOL, *words)))
        assert set(offered(f"run-recorder {' '.join(words)} --")) == own | set(flags_of_help(help_of(TOOL))) | {"--help"} | settings
    assert set(offered("run-recorder dead-letters ")) == set(subcommands(help_of(TOOL, "dead-letters")))
    assert set(offered("run-recorder help dead-letters r")) == {"retry"}
    assert set(offered("run-recorder --socket s li")) == {"list"}
    assert set(offered("run-recorder spool records --fro")) == {"--from"}


def test_values_are_offered_where_a_flag_has_some():
    for line, words in {"run-recorder list --status q": {"queued"}, "run-recorder list --status failed,c": {"failed,completed",
                                                                                                          "failed,cancelled"},
                        "run-recorder list --status failed,f": set(), "run-recorder list --status=q": {"--status=queued"},
                        "run-recorder list --limit ": set(), "run-recorder list --spool-keep ": set(),
                        "run-recorder list --log-level d": {"debug"}, "run-recorder emit --type run_l": {"run_lost"},
                        "run-recorder list --columns run,na": {"run,name"}, "run-recorder list --columns name,na": set(),
                        "run-recorder list --sort too": {"took"}, "run-recorder list --sort -too": {"-took"},
                        "run-recorder list --database-migrate ": {"true", "false"}}.items():
        assert set(offered(line)) == words, line
    assert {"run", "took"} <= set(offered("run-recorder list --sort "))
    assert not any(word.startswith("-") for word in offered("run-recorder list --sort "))
    for line, what in {"run-recorder list --config ": "files", "run-recorder list --spool-path x": "folders",
                       "run-recorder exec --log-dir x": "folders", "run-recorder list --socket-group ": "groups",
                       "run-recorder exec ": "command 1", "run-recorder exec --council x sl": "command 3",
                       "run-recorder exec --council x -- ls -": "command 4",
                       "run-recorder exec ls --council ": "command 1"}.items():
        assert offered(line) == {"": what}, line


def test_names_and_ids_are_asked_from_the_daemon(servers):
    server = servers().start().wait_tables()
    server.send({"type": "run_failed", "run_id": "a:1"}, {"type": "run_started", "run_id": "b", "council": "nightly", "queue": "mail",
                                                          "job_id": "j7", "worker_pid": 999999999},
                {"type": "run_started", "run_id": "c", "council": "nightly"})
    server.wait_applied()
    report = server.control.reconcile(unvouched=True)
    for line, words in {"show ": {"a:1", "b", "c"}, "logs a": {"a:1"}, "explain a": {"a:1"}, "list --council ": {"unknown", "nightly"},
                        "list --queue m": {"mail"}, "list --job ": {"j7"}}.items():
        wait_until(lambda: set(offered(f"run-recorder {line}", server)) == words, f"{words} for {line}")
    meanings = {"a:1": "unknown", "b": "nightly", "c": "nightly"}
    wait_until(lambda: offered("run-recorder show ", server) == meanings, "the names beside the ids")
    wait_until(lambda: report["pass_id"] in offered("run-recorder reconcile --undo ", server), "the pass")
    # The daemon that the line names.
    for flags in (f"--control {server.control_path}", f"--config {server.config_path}"):
        wait_until(lambda: set(offered(f"run-recorder {flags} show a")) == {"a:1"}, flags)


def test_without_a_daemon_nothing_is_offered_and_nothing_said(servers):
    server = servers()
    done = run(str(TOOL), "--complete", "show", "", server=server)
    assert (done.stdout, done.stderr) == ("", "")
    server.start()
    server.signal(signal.SIGSTOP)
    try:
        done = run(str(TOOL), "--complete", "show", "", server=server)
    finally:
        server.signal(signal.SIGCONT)
    assert (done.stdout, done.stderr) == ("", "")


# ---- by each shell


@pytest.mark.parametrize("by", (by_bash, pytest.param(by_zsh, marks=NEEDS_ZSH), pytest.param(by_fish, marks=NEEDS_FISH)))
def test_each_shell_offers_what_the_tool_says(servers, by):
    server = servers().start().wait_tables()
    server.send({"type": "run_started", "run_id": "the-run"})
    server.wait_applied()
    wait_until(lambda: by("run-recorder show the", server) == {"the-run"}, "the run's id")
    for line in ("run-recorder ex", "run-recorder list --status failed,st", "run-recorder exec --re", "run-recorder list --log-level d"):
        words = set(offered(line))
        assert words
        assert by(line) == words, line
    assert by("run-recorder list --limit ", server) - {""} == set()
    assert {"--check", "--drain", "--log-level"} <= by("run-recorderd --", server)
    assert by("run-recorderd --log-format ", server) == {"text", "json"}


def test_bash_completes_files_and_commands_by_itself():
    assert by_bash(f"run-recorder list --config {CONFIG}/run-recorder.t") == {f"{CONFIG}/run-recorder.toml"}
    assert "sleep" in by_bash("run-recorder exec --council x slee")
    assert "sleep" in by_bash("run-recorder exec -- slee")


def test_bash_puts_together_what_it_takes_apart(servers):
    server = servers().start().wait_tables()
    server.send({"type": "run_started", "run_id": "a:1"})
    server.wait_applied()
    wait_until(lambda: by_bash("", server, ["run-recorder", "show", "a", ":", ""]) == {"1"}, "what is left of the id")
    assert by_bash("", server, ["run-recorder", "list", "--status", "=", "fa"]) == {"failed"}
    assert by_bash("", server, ["run-recorder", "list", "--status", "="]) >= {"failed", "stuck"}


@NEEDS_FISH
def test_fish_completes_files_and_commands_by_itself():
    assert f"{CONFIG}/run-recorder.toml" in by_fish(f"run-recorder list --config {CONFIG}/run-recorder.t")
    assert f"--config={CONFIG}/run-recorder.toml" in by_fish(f"run-recorder list --config={CONFIG}/run-recorder.t")
    assert "sleep" in by_fish("run-recorder exec --council x slee")


@NEEDS_ZSH
def test_zsh_completes_on_its_own_line(at_end):
    """As a person types, in a real zsh."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**environment(), "TERM": "dumb", "PS1": "% "})
    at_end(os.waitpid, pid, 0)
    at_end(os.close, terminal)
    at_end(os.kill, pid, signal.SIGKILL)
    output = b""

    def read_until(words):
        nonlocal output
        end = time.monotonic() + DEADLINE_S
        while words not in output:
            assert time.monotonic() < end, output
            if select.select([terminal], [], [], 0.1)[0]:
                output += os.read(terminal, 65536)
        output = output.split(words, 1)[1]
    os.write(terminal, f"fpath=({CONFIG}/zsh-completion $fpath); autoload -Uz compinit; compinit -u -D; print rea''dy\n".encode())
    read_until(b"ready\r\n")
    for typed, completed in ((b"expo", b"export "), (b"list --status failed,st", b"failed,stuck "),
                             (f"list --config {CONFIG}/run-recorder.t".encode(), b"/run-recorder.toml "),
                             (b"list --log-level=d", b"--log-level=debug ")):
        os.write(terminal, b"run-recorder " + typed + b"\t")
        read_until(completed)
        os.write(terminal, b"\x15")


def test_the_package_has_them_in_the_usual_places():
    installed = (CONFIG / "install.cmake").read_text()
    for source, folder in (("bash-completion/run-recorder", "bash-completion/completions"),
                           ("zsh-completion/_run-recorder", "zsh/vendor-completions"),
                           ("fish-completion/run-recorder.fish", "fish/vendor_completions.d")):
        assert f"install(FILES config/{source} DESTINATION ${{CMAKE_INSTALL_DATADIR}}/{folder}" in installed, source
        assert (CONFIG / source).exists()
