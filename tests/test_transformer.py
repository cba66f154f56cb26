# SPDX-License-Identifier: Apache-2.0
"""A compact convolutional transformer, as exporters write it: its C learns what the reference learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from ctypes_model import Library, assert_learns_as_reference
from frontend_models import Arrays, f32, i64, load, model_of, node, op_names
from test_products import attention

from tinytrain.compiler import Options, compile_model

TOKENS, HEADS, SIZE = 16, 2, 4
WIDTH = HEADS * SIZE


def renamed(nodes: list[onnx.NodeProto], arrays: Arrays, prefix: str, entry: str) -> tuple[list[onnx.NodeProto], Arrays]:
    """The same nodes and arrays under names of their own, with `entry` in place of x."""
    for made in nodes:
        made.name = f"{prefix}{made.name}" if made.name else ""
        for names in (made.input, made.output):
            names[:] = [entry if name == "x" else f"{prefix}{name}" for name in names]
    return nodes, {f"{prefix}{name}": array for name, array in arrays.items()}


def layer_norm(x: str, y: str, arrays: Arrays) -> onnx.NodeProto:
    arrays |= {f"{y}_gamma": 1 + 0.1 * f32(WIDTH), f"{y}_beta": 0.1 * f32(WIDTH)}
    return node("LayerNormalization", f"{x} {y}_gamma {y}_beta", y, y)


def linear(x: str, y: str, sizes: tuple[int, int], arrays: Arrays) -> list[onnx.NodeProto]:
    arrays |= {f"{y}_weight": f32(*sizes) / np.float32(np.sqrt(sizes[0])), f"{y}_bias": 0.1 * f32(sizes[1])}
    return [node("MatMul", f"{x} {y}_weight", f"{y}_sum", y), node("Add", f"{y}_sum {y}_bias", y)]


def encoder(x: str, number: int, arrays: Arrays) -> tuple[list[onnx.NodeProto], str]:
    e = f"e{number}_"
    attended, more = renamed(*attention(TOKENS, HEADS, SIZE, joined=bool(number)), f"{e}att_", f"{e}n1")
    arrays |= more
    nodes = [
        layer_norm(x, f"{e}n1", arrays), *attended, node("Add", f"{x} {e}att_y", f"{e}h"), layer_norm(f"{e}h", f"{e}n2", arrays),
        *linear(f"{e}n2", f"{e}up", (WIDTH, 2 * WIDTH), arrays), node("Relu", f"{e}up", f"{e}r"),
        *linear(f"{e}r", f"{e}down", (2 * WIDTH, WIDTH), arrays), node("Add", f"{e}h {e}down", f"{e}y"),
    ]
    return nodes, f"{e}y"


def cct() -> onnx.ModelProto:
    """x (1, 3, 8, 8) -> y (1, 5): a tokeniser of one convolution, two encoders, pooling over the sequence by its own weights."""
    arrays = {"k": f32(WIDTH, 3, 3, 3) * 0.3, "kb": f32(WIDTH) * 0.1, "row": i64(1, WIDTH, TOKENS), "place": 0.1 * f32(1, TOKENS, WIDTH),
              "flat": i64(1, WIDTH)}
    nodes = [
        node("Conv", "x k kb", "c", "tokens", pads=[1] * 4), node("Relu", "c", "cr"),
        node("MaxPool", "cr", "cp", kernel_shape=[2, 2], strides=[2, 2]), node("Reshape", "cp row", "t0"),
        node("Transpose", "t0", "t1", perm=[0, 2, 1]), node("Add", "t1 place", "t2", "position"),
    ]
    last = "t2"
    for number in range(2):
        more, last = encoder(last, number, arrays)
        nodes += more
    nodes += [
        layer_norm(last, "n", arrays), *linear("n", "score", (WIDTH, 1), arrays), node("Softmax", "score", "share", axis=1),
        node("Transpose", "share", "turned", perm=[0, 2, 1]), node("MatMul", "turned n", "pooled"), node("Reshape", "pooled flat", "p"),
        *linear("p", "y", (WIDTH, 5), arrays),
    ]
    return model_of(nodes, arrays, (1, 3, 8, 8), opset=17)


def test_no_head_is_moved(tmp_path: Path) -> None:
    _, imported = load(tmp_path, cct())
    names = op_names(imported)
    assert names.count("matmul") == 5
    moved = {n.origin for n in imported.graph.nodes if n.op.name == "transpose"}
    assert not {origin for origin in moved if "att" in origin}, moved


@pytest.mark.parametrize("scheme", ["full", "last:4"])
def test_a_transformer_learns_as_the_reference(scheme: str, tmp_path: Path) -> None:
    onnx.save(cct(), tmp_path / "cct.onnx")
    compiled = compile_model(tmp_path / "cct.onnx", Options(scheme=scheme, loss="ce", exact_seconds=0.0))
    assert_learns_as_reference(Library(compiled, tmp_path, "-O1"), steps=3)
