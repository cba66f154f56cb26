# SPDX-License-Identifier: Apache-2.0
"""What the page shows, as one JSON object (docs/page.md): compiled projects with their manifests, boards and files."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tinytrain.device.manifest import Manifest
from tinytrain.emit.plan_json import FORMAT as PLAN_FORMAT
from tinytrain.errors import OutputError
from tinytrain.reading import reading
from tinytrain.report.teaching import Teaching

if TYPE_CHECKING:
    from tinytrain.device.project import Project
    from tinytrain.target.board import Board

FORMAT = 1                                                # as in shell.js


def project_json(projects: Sequence[Project], *, addresses: Sequence[str | None] | None = None) -> dict[str, Any]:
    """Projects side by side; `addresses` are those of the sockets to their devices, where the page is served.

    Raises OutputError where a folder was made by another version of the compiler.
    """
    addresses = addresses or [None] * len(projects)
    return {"format": FORMAT, "builds": [_build(project, address) for project, address in zip(projects, addresses, strict=True)]}


def _build(project: Project, address: str | None) -> dict[str, Any]:
    teaching = Teaching.of(project)
    files = {} if teaching.why_not else {"model.wasm": teaching.module, "learned.onnx": teaching.learned}
    return {
        "folder": project.folder.resolve().name,
        "manifest": json.loads(Manifest.read_bytes(project.folder / "manifest.json")),
        "plan": _plan(project),
        "board": _board(project.board),
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
    with reading(path, "the plan of a compiled project", OutputError, hint=hint):
        plan: dict[str, Any] = json.loads(project.content("plan.json"))
        found = plan["format"]
    if found != PLAN_FORMAT:
        raise OutputError(f"{path} has format {found}; this version of tinytrain reads {PLAN_FORMAT}.", hint=hint)
    return plan


def _firmware(project: Project) -> dict[str, Any] | None:
    """What the linker made of it, where it was built."""
    if project.board.is_host or not (project.folder / "build" / f"{project.manifest.name}{project.board.toolchain.suffix}").is_file():
        return None
    sizes = project.sizes()
    return {"flash_bytes": sizes.flash_bytes, "ram_bytes": sizes.ram_bytes, "by_memory": sizes.by_memory}


def _board(board: Board) -> dict[str, Any]:
    return {
        "name": board.name, "title": board.title, "core": board.core, "clock_hz": board.clock_hz, "host": board.is_host,
        "memories": [{"name": m.name, "kind": m.kind, "bytes": m.bytes} for m in board.memories],
    }
