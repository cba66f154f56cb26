# SPDX-License-Identifier: Apache-2.0
"""A compiled model as a project that is nowhere on disk."""

from __future__ import annotations

from pathlib import Path

from tinytrain.compiler import Compiled, describe
from tinytrain.device.manifest import Manifest
from tinytrain.device.project import Project


def unwritten(compiled: Compiled, model: Path) -> Project:
    """What samples are read for; `model` is its ONNX file, which messages name."""
    return Project(model, Manifest.of(describe(compiled), model))
