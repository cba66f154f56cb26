# SPDX-License-Identifier: Apache-2.0
"""Attention between int8 tensors: both products stay integers, as onnxruntime has them, and its projections learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from ctypes_model import Library, assert_learns_as_reference
from frontend_models import f32, i64, infer, op_names, scalar
from quant_models import Qdq, true_layers

from tinytrain.compiler import Options, compile_model

TOKENS, HEADS, SIZE = 5, 2, 4


def attention(uint8: bool) -> Qdq:
    """x (1, 5, 8) -> y (1, 5, 8): projections in int8, and between them what is quantised of F.scaled_dot_product_attention."""
    net, width = Qdq(uint8), HEADS * SIZE
    net.arrays |= {"apart": i64(1, TOKENS, HEADS, SIZE), "together": i64(1, TOKENS, width), "root": scalar(SIZE**-0.5)}
    x = net.quantised("x")
    for letter in "qkv":
        w = net.weight(f"w{letter}", width, width, axis=1)
        d = net.quantised(net.add("MatMul", f"{x} {w}", f"{letter}0"))
        perm = [0, 2, 3, 1] if letter == "k" else [0, 2, 1, 3]
        net.add("Transpose", net.add("Reshape", f"{d} apart", f"{letter}2"), f"{letter}3", perm=perm)
    s = net.quantised(net.add("MatMul", "q3 k3", "s0"), -4.0, 4.0)
    p = net.quantised(net.add("Softmax", net.add("Mul", f"{s} root", "s1"), "p0", axis=-1), 0.0, 1.0)
    h = net.quantised(net.add("MatMul", f"{p} v3", "h0"))
    h = net.add("Reshape", f"{net.add('Transpose', h, 'h1', perm=[0, 2, 1, 3])} together", "h2")
    net.quantised(net.add("MatMul", f"{h} {net.weight('wo', width, width, axis=1)}", "o"), name="y")
    return net


def test_products_of_int8(tmp_path: Path) -> None:
    for uint8 in (False, True):
        net = attention(uint8)
        prepared, imported = net.load(tmp_path, (1, TOKENS, HEADS * SIZE))
        assert op_names(imported).count("matmul") == 2
        assert not {"MatMul_s0", "MatMul_h0"} & set(imported.float_islands)
        assert "transpose" not in op_names(imported)
        sample = f32(1, TOKENS, HEADS * SIZE)
        want = true_layers(prepared.model, sample)["y"]
        steps = np.abs(infer(imported, sample) - want) / float(net.arrays["o_s"])
        assert (steps < 1.5).mean() > 0.9
        assert steps.max() < 4


def test_it_learns_as_the_reference(tmp_path: Path) -> None:
    onnx.save(attention(False).model((1, TOKENS, HEADS * SIZE)), tmp_path / "m.onnx")
    compiled = compile_model(tmp_path / "m.onnx", Options(loss="mse", exact_seconds=0.0))
    assert_learns_as_reference(Library(compiled, tmp_path, "-O1"), steps=3)
