# SPDX-License-Identifier: Apache-2.0
"""What the page shows, as one JSON object (docs/page.md): compiled projects with their manifests, boards and files."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinytrain.device.manifest import EXPECTED, Manifest
from tinytrain.emit.plan_json import FORMAT as PLAN_FORMAT
from tinytrain.errors import OutputError
from tinytrain.reading import read_limited, reading
from tinytrain.report.teaching import Teaching

if TYPE_CHECKING:
    from tinytrain.device.project import Project
    from tinytrain.target.board import Board

FORMAT = 1                                                # as in shell.js
SWEEP_FORMAT = 1
MOST_BYTES = 16 << 20                                     # of a file of a sweep
_SWEEP = "a report of a sweep"


def project_json(
    projects: Sequence[Project], *, sweep: Path | None = None, addresses: Sequence[str | None] | None = None
) -> dict[str, Any]:
    """Projects side by side; `sweep` is a file of `tinytrain search --report`, `addresses` are those of the sockets to the projects'
    devices, where the page is served.

    Raises OutputError where a folder or a file was made by another version.
    """
    addresses = addresses or [None] * len(projects)
    return {
        "format": FORMAT,
        "builds": [_build(project, address) for project, address in zip(projects, addresses, strict=True)],
        "sweep": None if sweep is None else _of_format(sweep, read_limited(sweep, MOST_BYTES, _SWEEP, OutputError), _SWEEP, SWEEP_FORMAT,
                                                       "Make it again with `tinytrain search --sweep … --report FILE`."),
    }


def _build(project: Project, address: str | None) -> dict[str, Any]:
    teaching = Teaching.of(project)
    path = project.folder / "manifest.json"
    with reading(path, EXPECTED, OutputError):
        manifest = json.loads(Manifest.read_bytes(path), parse_constant=_no_number)
    files = {} if teaching.why_not else {"model.wasm": teaching.module, "learned.onnx": teaching.learned}
    return {
        "folder": project.folder.resolve().name,
        "manifest": manifest,
        "plan": _plan(project),
        "board": board_json(project.board),
        "firmware": _firmware(project),
        "device": address and {"address": address, "name": project.device_name},
        "files": {name: base64.b64encode(data).decode() for name, data in files.items()},
        "teaching": {"why_not": teaching.why_not, "places": list(teaching.places)},
    }


def _plan(project: Project) -> dict[str, Any]:
    """What the compiler said of its plan. Raises OutputError where that was another version's, or is no such file."""
    path = project.folder / "plan.json"
    hint = "Make the project again with `tinytrain compile`."
    if "plan.json" not in project.manifest.files:
        raise OutputError(f"{project.folder} was compiled by a version of tinytrain that wrote no plan.json.", hint=hint)
    return _of_format(path, project.content("plan.json"), "the plan of a compiled project", PLAN_FORMAT, hint)


def _of_format(path: Path, data: bytes, expected: str, known: int, hint: str) -> dict[str, Any]:
    """A JSON object that says its format. Raises OutputError where that is another one, or where there is none."""
    with reading(path, expected, OutputError, hint=hint):
        content: dict[str, Any] = json.loads(data, parse_constant=_no_number)
        found = content["format"]
    if found != known:
        raise OutputError(f"{path} has format {found}; this version of tinytrain reads {known}.", hint=hint)
    return content


def _no_number(name: str) -> None:
    """NaN and infinities, which Python reads and no browser does."""
    raise ValueError(f"{name} is no JSON")


def _firmware(project: Project) -> dict[str, Any] | None:
    """What the linker made of it, where it was built."""
    if project.board.is_host or not (project.folder / "build" / f"{project.manifest.name}{project.board.toolchain.suffix}").is_file():
        return None
    sizes = project.sizes()
    return {"flash_bytes": sizes.flash_bytes, "ram_bytes": sizes.ram_bytes, "by_memory": sizes.by_memory}


def board_json(board: Board) -> dict[str, Any]:
    """What a page says of a board."""
    return {
        "name": board.name, "title": board.title, "core": board.core, "clock_hz": board.clock_hz, "host": board.is_host,
        "memories": [{"name": m.name, "kind": m.kind, "bytes": m.bytes} for m in board.memories],
    }
