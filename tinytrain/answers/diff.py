# SPDX-License-Identifier: Apache-2.0
"""`tinytrain diff`: what two compiled projects differ in: what was chosen, sizes, parameters, files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinytrain.device.project import Project
from tinytrain.errors import printable
from tinytrain.report.text import table

_APART = ("files", "parameters")                          # of a manifest: shown in their own way
_BINARY = (".onnx", ".npz")
_LONGEST = 60                                             # characters of a value


@dataclass(frozen=True)
class Difference:
    """A key of the manifests, a parameter or a file, and what the two projects have there: "none" where one has no such key."""

    what: str
    first: str
    second: str
    change: str = ""


def differences(first: Project, second: Project) -> tuple[list[Difference], int]:
    """(in the order of the manifest, how many of the files that the compiler wrote are alike); none where the two are the same, apart from
    what was built or learned in them.

    Raises OutputError for a file that is no longer there.
    """
    a, b = (_manifest(project) for project in (first, second))
    mine, yours = (_contents(project) for project in (first, second))
    same = sum(yours.get(name) == content for name, content in mine.items())
    return [*_keys(a, b), *_parameters(a, b), *_files(mine, yours)], same


def diff_text(found: list[Difference], first: Path, second: Path, same: int) -> str:
    if not found:
        return f"{first} and {second} are the same: {same} files."
    rows = [["", str(first), str(second), ""]]
    rows += [[one.what, _short(one.first), _short(one.second), one.change] for one in found]
    return f"{table([[*map(printable, row)] for row in rows])}\n{same} files are the same."


def _contents(project: Project) -> dict[str, bytes]:
    """As they are now: those of a trusted project may have been changed since."""
    return {name: project.content(name) for name in project.manifest.files}


def _manifest(project: Project) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((project.folder / "manifest.json").read_text(encoding="utf-8"))
    return made


def _keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    flat = [dict(_flat({key: value for key, value in manifest.items() if key not in _APART})) for manifest in (a, b)]
    for key in dict.fromkeys((*flat[0], *flat[1])):
        one, other = (each.get(key) for each in flat)
        if one != other:
            numbers = [value for value in (one, other) if isinstance(value, (int, float)) and not isinstance(value, bool)]
            change = f"{numbers[1] - numbers[0]:+,.6g}" if len(numbers) == 2 else ""
            yield Difference(key, _said(one), _said(other), change)


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(`memory.arena_bytes`, its value) for all that is no table."""
    if isinstance(value, dict) and value:
        for inner, each in value.items():
            yield from _flat(each, f"{key}.{inner}" if key else inner)
    else:
        yield key, value


def _parameters(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    """What only one of them trains, and what they train of different sizes."""
    shapes = [{item["key"]: item["shape"] for item in manifest["parameters"]} for manifest in (a, b)]
    for key in dict.fromkeys((*shapes[0], *shapes[1])):
        one, other = ("trained " + "×".join(map(str, each[key])) if key in each else "not trained" for each in shapes)
        if one != other:
            yield Difference(key, one, other)


def _files(mine: Mapping[str, bytes], yours: Mapping[str, bytes]) -> Iterator[Difference]:
    for name in sorted({*mine, *yours}):
        if mine.get(name) == yours.get(name):
            continue
        contents = [each.get(name, b"") for each in (mine, yours)]
        if name.endswith(_BINARY):
            first_size, second_size = (f"{len(content):,} B" for content in contents)
            yield Difference(name, first_size, second_size, "differs")
        else:
            one, other = (Counter(content.splitlines()) for content in contents)
            gone, new = (one - other).total(), (other - one).total()
            change = f"{gone:,} lines gone, {new:,} new" if gone or new else "lines in another order, or other ends of lines"
            yield Difference(name, f"{one.total():,} lines", f"{other.total():,} lines", change)


def _said(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
