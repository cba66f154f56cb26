# SPDX-License-Identifier: Apache-2.0
"""Products of computed operands, and attention as PyTorch's exporters write it: imported, trained, and without moves that nobody needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from frontend_models import Arrays, check, f32, i64, load, model_of, node, op_names, scalar

from tinytrain.gradient.objective import losses
from tinytrain.ir.builder import Builder
from tinytrain.ir.types import Role
from tinytrain.verify.checks import GRADIENT_RTOL, check_graph

SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "matrices": ((3, 4), (4, 5)), "heads": ((2, 3, 4), (2, 4, 5)), "left is shared": ((3, 4), (2, 4, 5)),
    "right is shared": ((2, 1, 3, 4), (1, 4, 5)), "both ways": ((3, 1, 2, 4), (1, 2, 4, 5)), "grouped": ((2, 3, 2, 4), (2, 1, 4, 5)),
    "row": ((4,), (2, 4, 5)), "column": ((2, 3, 4), (4,)), "dot": ((4,), (4,)), "ones": ((1, 1, 1), (1, 1, 6)),
}


def split(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[list[onnx.NodeProto], Arrays, tuple[int, ...]]:
    """Nodes that make p and q of these shapes from one input."""
    p, q = int(np.prod(left)), int(np.prod(right))
    nodes = [node("MatMul", "x u", "p0"), node("MatMul", "x v", "q0"), node("Reshape", "p0 ps", "p"), node("Reshape", "q0 qs", "q")]
    return nodes, {"u": f32(6, p), "v": f32(6, q), "ps": i64(*left), "qs": i64(*right)}, (1, 6)


@pytest.mark.parametrize("case", SHAPES)
def test_two_computed_operands(case: str, tmp_path: Path) -> None:
    nodes, arrays, shape = split(*SHAPES[case])
    imported = check(tmp_path, [*nodes, node("MatMul", "p q", name="mm")], arrays, shape)
    assert op_names(imported).count("matmul") == 1
    assert "broadcast" not in op_names(imported)


CONSTANTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "matrix": ((5, 3), (1, 3, 4)), "map": ((5, 3), (1, 2, 3, 4)), "row": ((3,), (1, 3, 4)), "column": ((5, 3), (3,)),
    "many": ((2, 5, 3), (1, 3, 4)),
}


@pytest.mark.parametrize("case", CONSTANTS)
def test_a_constant_on_the_left(case: str, tmp_path: Path) -> None:
    w, shape = CONSTANTS[case]
    nodes = [node("Reshape", "x s", "r"), node("MatMul", "w r")]
    imported = check(tmp_path, nodes, {"w": f32(*w), "s": i64(*shape)}, (1, int(np.prod(shape))))
    assert ("matmul" if case == "many" else "dense") in op_names(imported)
    assert set(imported.params) == {"w"}


GEMMS: dict[str, tuple[tuple[int, ...], tuple[int, ...], str, dict[str, Any]]] = {
    "plain": ((3, 4), (4, 5), "p q", {}),
    "turned": ((4, 3), (5, 4), "p q", {"transA": 1, "transB": 1}),
    "bias": ((3, 4), (4, 5), "p q c", {"alpha": 0.5, "beta": 2.0}),
    "whole": ((3, 4), (4, 5), "p q d", {}),
    "computed": ((3, 5), (4, 5), "p w q", {"transA": 1, "transB": 1, "beta": 0.5}),
    "left": ((3, 5), (4, 5), "e q", {"transB": 1}),
}


@pytest.mark.parametrize("case", GEMMS)
def test_gemm_of_computed_operands(case: str, tmp_path: Path) -> None:
    left, right, inputs, attributes = GEMMS[case]
    nodes, arrays, shape = split(left, right)
    more = {"c": f32(5), "d": f32(3, 5), "e": f32(2, 5), "w": f32(5, 3)}
    if case == "computed":
        nodes, arrays, shape = split((3, 4), (5,))
    used = {name: array for name, array in more.items() if name in inputs.split()}
    check(tmp_path, [*nodes, node("Gemm", inputs, name="g", **attributes)], arrays | used, shape)


def attention(tokens: int, heads: int, size: int, joined: bool) -> tuple[list[onnx.NodeProto], Arrays]:
    """x (1, tokens, width) -> y: F.scaled_dot_product_attention with projections; `joined`: scaled once, behind the product."""
    width = heads * size
    nodes: list[onnx.NodeProto] = []
    arrays = {"apart": i64(1, tokens, heads, size), "together": i64(1, tokens, width), "root": scalar(size**-0.25)}
    for letter in "qkv":
        nodes += [
            node("MatMul", f"x w{letter}", f"{letter}0", f"{letter}_proj"), node("Add", f"b{letter} {letter}0", f"{letter}1"),
            node("Reshape", f"{letter}1 apart", f"{letter}2"),
            node("Transpose", f"{letter}2", f"{letter}3", perm=[0, 2, 3, 1] if letter == "k" else [0, 2, 1, 3]),
        ]
        arrays |= {f"w{letter}": f32(width, width) * 0.5, f"b{letter}": f32(width)}
    if joined:
        arrays["root"] = scalar(size**-0.5)
        nodes += [node("MatMul", "q3 k3", "s0"), node("Mul", "s0 root", "s")]
    else:
        nodes += [node("Mul", "q3 root", "qr"), node("Mul", "k3 root", "kr"), node("MatMul", "qr kr", "s")]
    nodes += [
        node("Softmax", "s", "p", axis=-1), node("MatMul", "p v3", "h0"), node("Transpose", "h0", "h1", perm=[0, 2, 1, 3]),
        node("Reshape", "h1 together", "h"), node("MatMul", "h wo", "o0", "o_proj"), node("Add", "bo o0", "y"),
    ]
    return nodes, arrays | {"wo": f32(width, width) * 0.5, "bo": f32(width)}


@pytest.mark.parametrize("joined", [False, True], ids=["apart", "joined"])
def test_attention_moves_nothing(joined: bool, tmp_path: Path) -> None:
    nodes, arrays = attention(5, 3, 4, joined)
    imported = check(tmp_path, nodes, arrays, (1, 5, 12))
    assert "transpose" not in op_names(imported)
    assert op_names(imported).count("matmul") == 2
    assert {name for name in arrays if name[0] in "wb"} == set(imported.params)


def test_gradients_of_attention(tmp_path: Path) -> None:
    nodes, arrays = attention(4, 2, 3, joined=True)
    _, imported = load(tmp_path, model_of(nodes, arrays, (1, 4, 6)))
    trained = {v: Builder("p").value(v.name, v.type, Role.PARAM, v.data) for v in imported.params.values()}
    forward = imported.graph.substitute(trained)
    g = Builder("m", forward.values(), forward.nodes)
    g.inputs = list(forward.inputs)
    target = g.input("target", forward.outputs[0].shape)
    loss = g.emit(losses()["mse"](), forward.outputs[0], target)
    values = [np.random.default_rng(1).normal(size=v.shape) for v in g.inputs]
    errors = check_graph(g.graph([loss]), loss, list(trained.values()), values)
    assert {e.name for e in errors} == set(imported.params)
    for error in errors:                                  # what a key adds to all scores of a row changes no probability
        assert error.relative <= GRADIENT_RTOL or error.name == "bk", error
