"""The commands that a document has its reader type. They are

- in a code block (indented by four): in each paragraph of it the lines with a prompt, or all where none has one. A command goes on
  behind a backslash and in a here document. A paragraph that begins like one of `texts` is none of commands;
- in back quotes, in sentences and tables: what begins with one of PROGRAMS, variables before it aside, and has an argument."""

import re
from dataclasses import dataclass

PROGRAMS = ("./dev", "apt", "apt-get", "chmod", "chown", "createdb", "createuser", "crontab", "curl", "docker", "dpkg", "grep", "install",
            "journalctl", "kubectl", "mkdir", "pg_dump", "psql", "rm", "run-recorder", "run-recorderd", "runuser", "sed", "sqlite3", "sudo",
            "systemctl", "usermod")
PROMPTS = ("$ ", "# ")
DIAGRAM = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^\n((?:(?: {4}.*)?\n)+)", re.MULTILINE)
QUOTED = re.compile(r"`([^`]+)`")
COMMENT = re.compile(r" {2,}# .*$")
VARIABLE = re.compile(r"[A-Z_]+=")
HERE_DOCUMENT = re.compile(r"<<'(\w+)'")


@dataclass(frozen=True)
class Block:
    """Its commands, and the first lines of its paragraphs that have none."""
    commands: list
    texts: list


def commands(document, texts):
    """In the document's order; a command that stands there twice is there twice."""
    document = DIAGRAM.sub("", document)
    found = [(block.start(), read_block(block[1], texts).commands) for block in BLOCK.finditer(document)]
    sentences = BLOCK.sub(lambda block: "\n" * len(block[0]), document)
    for quoted in QUOTED.finditer(sentences):
        words = quoted[1].split()
        program = next((i for i, word in enumerate(words) if not VARIABLE.match(word)), len(words))
        if len(words) > program + 1 and words[program] in PROGRAMS:
            found.append((quoted.start(), [" ".join(words)]))
    return [command for _, part in sorted(found, key=lambda one: one[0]) for command in part]


def texts_met(document, texts):
    """Which of `texts` begin a paragraph of a code block."""
    return {text for block in BLOCK.finditer(DIAGRAM.sub("", document)) for text in read_block(block[1], texts).texts}


def read_block(block, texts):
    found = Block([], [])
    for paragraph in paragraphs([line[4:] for line in block.strip("\n").split("\n")]):
        text = next((text for text in texts if paragraph[0].startswith(text)), None)
        if text is not None:
            found.texts.append(text)
            continue
        prompted = any(line.startswith(PROMPTS) for line in paragraph)
        lines = iter(paragraph)
        for line in lines:
            if prompted and not line.startswith(PROMPTS):
                continue
            command = [line[2:] if prompted else line]
            while command[-1].endswith("\\"):
                command.append(next(lines))
            if here := HERE_DOCUMENT.search(line):
                while command[-1] != here[1]:
                    command.append(next(lines))
            found.commands.append("\n".join(COMMENT.sub("", part) for part in command))
    return found


def paragraphs(lines):
    """Parted by empty lines, except within a here document."""
    found, end = [[]], None
    for line in lines:
        if not line and end is None:
            found.append([])
            continue
        found[-1].append(line)
        if end is None and (here := HERE_DOCUMENT.search(line)):
            end = here[1]
        elif line == end:
            end = None
    return [paragraph for paragraph in found if paragraph]


def paragraph(document, beginning):
    """The one of a code block that begins so, as text."""
    return next("\n".join(lines) + "\n" for block in BLOCK.finditer(document)
                for lines in paragraphs([line[4:] for line in block[1].strip("\n").split("\n")]) if lines[0].startswith(beginning))
