"""The layers hold: a folder of lib/ includes only folders that its CMake target links, every link goes downwards, and
nothing above lib/ is included from below. Locks are those of base/mutex.h."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# From the bottom up; a folder may use only those of earlier lines.
LAYERS = (
    ("base",),
    ("run", "process", "schedule"),
    ("spool", "config", "database"),
    ("protocol", "store", "queue", "net"),
    ("server", "recorder"),
    ("reconcile", "retention", "expect"),
    ("control",),
)
RANK = {folder: rank for rank, layer in enumerate(LAYERS) for folder in layer}


def included_folders(folder):
    """(file, included folder) for every include of a header of ours."""
    found = []
    for path in sorted([*folder.rglob("*.h"), *folder.rglob("*.cc")]):
        for name in re.findall(r'^#include "([^"]+)"', path.read_text(), re.M):
            found.append((path.relative_to(ROOT), name.split("/")[0] if "/" in name else ""))
    return found


def links():
    """What each library's CMakeLists.txt links of ours."""
    result = {}
    for folder in RANK:
        text = (ROOT / "lib" / folder / "CMakeLists.txt").read_text()
        result[folder] = {name for name in re.findall(r"\brr_([a-z]+)\b", text) if name not in ("library", "flags", folder)}
    return result


def reachable(folder, graph):
    seen, todo = set(), [folder]
    while todo:
        for below in graph[todo.pop()]:
            if below not in seen:
                seen.add(below)
                todo.append(below)
    return seen


def test_every_folder_of_lib_has_its_place():
    assert {path.name for path in (ROOT / "lib").iterdir() if path.is_dir()} == set(RANK)


def test_links_go_downwards():
    for folder, below in links().items():
        for other in below:
            assert RANK[other] < RANK[folder], f"lib/{folder} links lib/{other}, which is not below it"


def test_includes_go_only_where_links_go():
    graph = links()
    for folder in RANK:
        allowed = reachable(folder, graph) | {folder}
        for path, included in included_folders(ROOT / "lib" / folder):
            assert included in allowed, f"{path} includes {included}/, which lib/{folder} does not link"


def test_locks_are_those_the_compiler_checks():
    plain = re.compile(r"std::(\w*mutex|lock_guard|unique_lock|scoped_lock|shared_lock|condition_variable\w*)\b")
    for folder in ("lib", "daemon", "cli"):
        for path in sorted([*(ROOT / folder).rglob("*.h"), *(ROOT / folder).rglob("*.cc")]):
            if path != ROOT / "lib/base/mutex.h":
                assert not plain.search(path.read_text()), f"{path.relative_to(ROOT)}: use Mutex, MutexLock, Condition of base/mutex.h"


def test_the_tool_does_not_link_the_recorder():
    for path, included in included_folders(ROOT / "cli"):
        assert included not in ("store", "queue", "recorder", "reconcile", "retention", "server", "database"), \
            f"{path} includes {included}/"
