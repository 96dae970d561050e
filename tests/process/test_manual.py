"""The manual pages and docs/protocol.md name what the programs take, and nothing else: commands, flags and their
defaults, configuration keys with what is allowed of them, exit statuses, fields of events."""

import re
import subprocess
from pathlib import Path

from harness import DAEMON, TOOL

ROOT = Path(__file__).resolve().parents[2]
MAN = ROOT / "docs" / "man"


def help_of(program, *command):
    return subprocess.run([str(program), *command, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout


def page(name):
    return (MAN / name).read_text()


def subcommands(help_text):
    return re.findall(r"^  ([a-z-]+) {2,}", help_text.partition("Subcommands:")[2], re.MULTILINE)


def flags_of_help(help_text):
    """{flag: its default or None}, for the flags of a command's own."""
    options = help_text.partition("Options:")[2].partition("\n\n")[0]
    found = {}
    for names, _, default in re.findall(r"^  ((?:-\w,)?--[a-z-]+(?:,--[a-z-]+)*)( [A-Z]+(?:=(\S+))?)?", options, re.MULTILINE):
        for name in names.split(","):
            if name.startswith("--") and name != "--help":
                found[name] = default or None
    return found


def flags_of_page(text):
    return {f"--{name}" for name in re.findall(r"\bFl -([a-z][a-z-]*)", text)}


def all_commands():
    """(command, its own words) for every command and every member of a group."""
    for command in subcommands(help_of(TOOL)):
        members = subcommands(help_of(TOOL, command))
        yield from ([(command, (command, member)) for member in members] or [(command, (command,))])


# The flags of every command and of the configuration, which any section may name.
COMMON = {"--socket", "--control", "--json", "--utc", "--config", "--section-key", "--help", "--version", "--spool-path"}


# ---- the tool


def sections_of_page():
    """{command: the text of the section that its heading names it in}."""
    found = {}
    for heading, body in re.findall(r"^\.Ss (.+)\n((?:(?!\.S[sh] ).*\n)*)", page("run-recorder.1"), re.MULTILINE):
        for command in heading.split(", "):
            found[command] = body
    return found


def test_each_command_has_a_section_and_each_section_a_command():
    commands = {command for command, _ in all_commands()}
    assert len(commands) > 15
    assert set(sections_of_page()) - {"Options of every command"} == commands


def test_each_flag_is_in_its_commands_section():
    sections = sections_of_page()
    for command, words in all_commands():
        for flag in flags_of_help(help_of(TOOL, *words)):
            assert flag in flags_of_page(sections[command]), " ".join(words)


def test_the_columns_of_a_list_are_named():
    refused = subprocess.run([str(TOOL), "list", "--columns", "?"], capture_output=True, text=True, timeout=60, check=False).stderr
    names = re.search(r"must be one of (.*)", refused)[1].split(", ")
    listed = re.search(r"\(by comma: ((?:[a-z_]+,\s)+)", page("run-recorder.1"))[1].replace("\n", " ").strip(" ,").split(", ")
    assert listed == names


def test_a_section_names_no_flag_that_its_commands_do_not_take():
    taken = {}
    for command, words in all_commands():
        taken.setdefault(command, set()).update(flags_of_help(help_of(TOOL, *words)))
    by_section = {}
    for command, body in sections_of_page().items():
        by_section.setdefault(body, set()).update(taken.get(command, ()))
    for body, flags in by_section.items():
        assert flags_of_page(body) - flags - COMMON == set(), body[:60]


def test_the_common_flags_are_those_of_the_program():
    flags = set(flags_of_help(help_of(TOOL)))
    common = sections_of_page()["Options of every command"]
    assert flags_of_page(common) == flags | {"--config", "--section-key"}
    assert ".It Fl h , -help\n" in common


def test_defaults_that_help_shows_are_those_of_the_page():
    sections = sections_of_page()
    for command, words in all_commands():
        for flag, default in flags_of_help(help_of(TOOL, *words)).items():
            if default:
                assert re.search(rf"(?i)default\s+{re.escape(default)}\b", sections[command]), f"{' '.join(words)} {flag}"


# ---- the configuration


def keys_of_help():
    """{(section, name): default}, as the daemon's --help and the sections of the configuration file have them."""
    text, section, keys = help_of(DAEMON), None, {}
    for line in (ROOT / "config" / "run-recorder.toml").read_text().splitlines():
        if match := re.fullmatch(r"\[(.+)\]", line):
            section = match[1]
        elif match := re.match(r"#([a-z_]+) = ", line):
            flag = "--" + f"{section}-{match[1]}".replace(".", "-").replace("_", "-")
            keys[section, match[1]] = re.search(rf"^  {flag} VALUE\n.*\n.*Default: (.*)$", text, re.MULTILINE)[1]
    return keys


def entries_of_page():
    """{(section, name): the entry's text}."""
    entries = {}
    for heading, body in re.findall(r"^\.Ss \[([a-z.]+)\].*\n((?:(?!\.S[sh] ).*\n)*)", page("run-recorder.toml.5"), re.MULTILINE):
        for names, text in re.findall(r"^\.It (Sy .+)\n((?:(?!\.It |\.El).*\n)*)", body, re.MULTILINE):
            for name in re.findall(r"[a-z_]+", names.replace("Sy", "")):
                entries[heading, name] = text
    return entries


def test_the_page_has_the_keys_of_the_program():
    assert len(keys_of_help()) > 30
    assert set(entries_of_page()) == set(keys_of_help())
    flags = re.findall(r"^  (--[a-z-]+) VALUE$", help_of(DAEMON), re.MULTILINE)
    own = ["--" + "-".join(key).replace(".", "-").replace("_", "-") for key in keys_of_help()]
    assert sorted(flag for flag in flags if "-NAME-" not in flag) == sorted(own)


def test_each_default_is_that_of_the_program():
    entries = entries_of_page()
    for key, default in keys_of_help().items():
        text = re.sub(r"\n\.(Qq|Li|Pa) ?", " ", entries[key])
        word = default.strip('"') or "none"
        if default in ('""', "[]", "{}"):
            assert re.search(r"Default\s+(empty|\\&\s+\(none\))", text), key
        else:
            assert re.search(rf"(?i)Default\s+{re.escape(word.replace(chr(34), ''))}", text.replace('"', "")), key


# ---- the exit statuses


def exit_statuses():
    """{name: number}, from the one place that has them."""
    header = (ROOT / "lib" / "base" / "result.h").read_text()
    return {name: int(number) for name, number in re.findall(r"\bkExit(\w+) = (\d+);", header)}


def test_pages_and_help_list_the_statuses_of_the_programs():
    numbers = set(exit_statuses().values())
    assert len(numbers) == 5
    for name in ("run-recorder.1", "run-recorderd.8"):
        listed = page(name).partition(".Sh EXIT STATUS")[2].partition(".El")[0]
        assert {int(number) for number in re.findall(r"^\.It (\d+)$", listed, re.MULTILINE)} == numbers, name
    for program in (TOOL, DAEMON):
        said = re.search(r"Exit status: ([^.]+)\.", help_of(program))[1]
        # 1 is "anything else".
        assert {int(number) for number in re.findall(r"\b(\d+)\b", said)} == numbers, program
    contract = re.search(r"Exit codes: ((?:.*\n)*?)\S*.*SIGINT", (ROOT / "docs" / "contract.md").read_text())[1]
    assert {int(number) for number in re.findall(r"\b(\d+)\b", contract)} & {0, 1, 2, 69, 78} == numbers


# ---- the protocol


def event_fields():
    source = (ROOT / "lib" / "protocol" / "decode_event.cc").read_text()
    return set(re.findall(r'"([a-z_]+)"', re.search(r"kFieldNames = \{(.*?)\}", source, re.DOTALL)[1]))


def test_page_and_document_have_the_fields_that_the_decoder_knows():
    text = page("run-recorder-protocol.7").partition(".Ss Events")[2].partition(".Ss ")[0]
    of_page = set(re.findall(r"^\.It Sy ([a-z_]+)$", text, re.MULTILINE))
    table = (ROOT / "docs" / "protocol.md").read_text().partition("| field | for |")[2].partition("\n\n")[0]
    of_document = set(re.findall(r"^\| `([a-z_]+)`", table, re.MULTILINE))
    assert of_page == of_document
    assert of_page == event_fields()
