# SPDX-License-Identifier: Apache-2.0
"""Networks of ops that move elements, and an embedding: in C they learn what they learn in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend_models import f32, i64, model_of, scalar
from frontend_models import node as n
from test_traces import assert_reference, compiled, trace

from tinytrain.emit.golden import golden_vectors
from tinytrain.gradient.update import Optimiser


def moves() -> onnx.ModelProto:
    nodes = [
        n("Conv", "x w b", "c", pads=[1, 1, 1, 1]), onnx.helper.make_node("Resize", ["c", "", "s"], ["u"], mode="linear"),
        n("Slice", "u s0 e0 a0 t0", "v"), n("Split", "v", "p q", axis=1, num_outputs=2), n("Pad", "p pp", "pd", mode="reflect"),
        n("Add", "pd qp", "ad"), n("Pad", "q pp", "qp"), n("Conv", "ad w2", "c2"), n("DepthToSpace", "c2", "d", blocksize=2),
        n("GridSample", "d g", "gs"), n("Less", "gs k", "l"), n("Where", "l gs k", "wh"), n("Gather", "wh gi", "gg", axis=3),
        n("Flatten", "gg", "f"), n("Gemm", "f fw fb"),
    ]
    arrays = {
        "w": 0.3 * f32(6, 2, 3, 3), "b": f32(6), "s": np.float32([1, 1, 1.5, 2]), "s0": i64(0, -1), "e0": i64(99, -99), "a0": i64(2, 3),
        "t0": i64(1, -2), "pp": i64(0, 0, 1, 1, 0, 0, 1, 1), "w2": 0.3 * f32(8, 3, 3, 3), "g": 0.6 * f32(1, 5, 6, 2), "k": scalar(0.5),
        "gi": i64(0, 2, 5, 5), "fw": 0.2 * f32(40, 3), "fb": f32(3),
    }
    return model_of(nodes, arrays, (1, 2, 6, 6), 20)


def embedding() -> onnx.ModelProto:
    nodes = [n("Cast", "x", "i", to=7), n("Gather", "t i", "e"), n("Flatten", "e", "f"), n("Gemm", "f w")]
    return model_of(nodes, {"t": f32(11, 5), "w": f32(30, 3)}, (1, 6), 18)


@pytest.mark.parametrize("make", [moves, embedding])
def test_learns_in_c(make: object, tmp_path: Path) -> None:
    assert callable(make)
    onnx.save(make(), tmp_path / "m.onnx")
    program = compiled(tmp_path / "m.onnx", "host", Optimiser(0.01, momentum=0.5))
    golden = golden_vectors(program.program, 4)
    assert_reference(trace(program, golden, tmp_path / "out"), golden)
