# SPDX-License-Identifier: Apache-2.0
"""What the page shows, as one JSON object (docs/page.md): compiled projects with their manifests, boards and files."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tinytrain.device.manifest import Manifest

if TYPE_CHECKING:
    from tinytrain.device.project import Project
    from tinytrain.target.board import Board

FORMAT = 1                                                # as in shell.js


def project_json(projects: Sequence[Project], *, addresses: Sequence[str] = ()) -> dict[str, Any]:
    """Projects side by side; `addresses` are those of the sockets to their devices, where the page is served.

    Raises OutputError where a folder was made by another version of the compiler.
    """
    return {
        "format": FORMAT,
        "builds": [_build(project, address) for project, address in zip(projects, addresses or [None] * len(projects), strict=True)],
    }


def _build(project: Project, address: str | None) -> dict[str, Any]:
    return {
        "folder": project.folder.resolve().name,
        "manifest": json.loads(Manifest.read_bytes(project.folder / "manifest.json")),
        "board": _board(project.board),
        "device": address and {"address": address, "name": project.device_name},
        "files": {name: base64.b64encode(data).decode() for name, data in _files(project).items()},
    }


def _board(board: Board) -> dict[str, Any]:
    return {
        "name": board.name, "title": board.title, "core": board.core, "clock_hz": board.clock_hz, "host": board.is_host,
        "memories": [{"name": m.name, "kind": m.kind, "bytes": m.bytes} for m in board.memories],
    }


def _files(project: Project) -> dict[str, bytes]:
    """What panels need of a project besides, by name: those that train have the model, to write what was learned into."""
    return {"model.onnx": project.content("model.onnx")} if project.manifest.target is not None else {}
