# SPDX-License-Identifier: Apache-2.0
"""What parameters that a method of learning added start from: they are in no ONNX file, so a project has them in a file of their own."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np

from tinytrain.ir.graph import Program
from tinytrain.ir.types import Array, Role

AUXILIARY = "auxiliary.npz"


def auxiliary_file(program: Program) -> dict[str, bytes]:
    """File name → content; nothing where a program has no such parameters."""
    added = {v.source.initializer: v.data for v in program.stored(Role.PARAM) if v.source and v.source.auxiliary and v.data is not None}
    if not added:
        return {}
    content = io.BytesIO()
    np.savez(content, **added)  # type: ignore[arg-type]
    return {AUXILIARY: content.getvalue()}


def read_auxiliary(content: bytes) -> Mapping[str, Array]:
    """Name → array. Raises what NumPy does where that is no such file."""
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return dict(stored)
