"""What types a command of the documents on a machine, and says how it went."""

import os
import pty
import re
import select
import shlex
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from fcntl import ioctl
from termios import TIOCSWINSZ
from typing import Callable, Optional

from machine import architecture, DEADLINE_S, ENVIRONMENT

# What a reader replaces wherever it stands.
PLACEHOLDERS = {"WORKERS_USER": "wanda", "OPERATORS_USER": "olga", "amd64": architecture()}


@dataclass(frozen=True)
class Step:
    """text: as it stands in the document, typed by `user` in their home, or in `folder` below it. `see` is a regular expression that
    its output has (both streams), `status` how it ends. `put`: what is typed in place of a word of it; a function is given
    the machine. `stdin` is typed into it; with `keys` it is typed on a terminal, and they once `see` is there."""
    text: str
    user: str = "root"
    see: str = ""
    status: int = 0
    put: dict = field(default_factory=dict)
    stdin: str = ""
    keys: Optional[str] = None
    folder: str = ""


@dataclass(frozen=True)
class Situation:
    """What happened meanwhile, or what the reader has done by then without a command of the documents."""
    what: Callable


@dataclass(frozen=True)
class Typed:
    step: Step
    seconds: float
    problem: str  # empty where it went as it should


def command_of(step, machine):
    command = step.text
    for word, value in {**PLACEHOLDERS, **step.put}.items():
        if word in step.put and word not in command:
            raise AssertionError(f"nothing to replace in {command!r}: {word}")
        command = command.replace(word, value(machine) if callable(value) else value)
    return command


def type_step(machine, step):
    """As in a login of that user."""
    began = time.monotonic()
    folder = f"cd {shlex.quote(step.folder)}\n" if step.folder else ""
    command = ["nsenter", "-t", str(machine.leader), "-a", "--", "runuser", "--login", step.user, "-c", folder + command_of(step, machine)]
    run = type_on_terminal if step.keys is not None else type_in_script
    status, output = run(command, step)
    problem = ""
    if status != step.status:
        problem = f"exit status {status}, not {step.status}"
    elif not re.search(step.see, output):
        problem = f"no {step.see!r} in its output"
    return Typed(step, time.monotonic() - began, problem and f"{problem}\n{output}")


def type_in_script(command, step):
    # Into a file: what goes on in the background would keep a pipe open.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(command, input=step.stdin, text=True, stdout=output, stderr=output, timeout=DEADLINE_S, env=ENVIRONMENT,
                              cwd="/")
        output.seek(0)
        return done.returncode, output.read()


def type_on_terminal(command, step):
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env={**ENVIRONMENT, "TERM": "xterm"}, cwd="/")
    os.close(theirs)
    output, typed, end = b"", False, time.monotonic() + DEADLINE_S
    try:
        while time.monotonic() < end:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    part = os.read(ours, 65536)
                except OSError:  # EIO: nobody has the other end any more
                    part = b""
                if not part:
                    break
                output += part
            if not typed and re.search(step.see, output.decode(errors="replace")):
                os.write(ours, step.keys.encode())
                typed = True
        else:
            process.kill()
        return process.wait(), output.decode(errors="replace")
    finally:
        os.close(ours)


def report(title, typed):
    """A table in Markdown, and what went wrong below it."""
    lines = [f"## {title}", "", "| | as | command | seconds | |", "|---|---|---|---|---|"]
    for number, one in enumerate(typed, 1):
        command = " ".join(one.step.text.split()).replace("|", "\\|")
        replaced = {**PLACEHOLDERS, **one.step.put}.items()
        words = ", ".join(f"`{word}`" for word, value in replaced if word in one.step.text and value != word)
        went = "**failed**" if one.problem else "went well" if one.step.status == 0 else f"refused ({one.step.status}), as it should be"
        went += f"; something else for {words}" if words else ""
        lines.append(f"| {number} | {one.step.user} | `{command}` | {one.seconds:.1f} | {went} |")
    for one in typed:
        if one.problem:
            lines += ["", f"`{one.step.text}`:", "", *[f"    {line}" for line in one.problem.splitlines()]]
    return "\n".join(lines) + "\n"
