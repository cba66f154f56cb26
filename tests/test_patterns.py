# SPDX-License-Identifier: Apache-2.0
"""What exporters write out in many nodes becomes one op that computes the same and trains in less RAM; what only looks like it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from frontend_models import Arrays, check, f32, i64, op_names, scalar
from frontend_models import node as n

from tinytrain.compiler import Options, compile_model
from tinytrain.frontend import onnx_import
from tinytrain.frontend.patterns import PATTERNS

OVER = {"axes": [-1]}
MEAN = [n("ReduceMean", "x", "m", **OVER), n("Sub", "x m", "d")]
DEVIATION = [n("ReduceMean", "s", "v", **OVER), n("Add", "v eps", "ve"), n("Sqrt", "ve", "sd")]
LOW = [n("ReduceMax", "x", "t", **OVER), n("Sub", "x t", "l"), n("Exp", "l", "e")]
ERF = [n("Div", "x r", "s"), n("Erf", "s", "f"), n("Add", "f one", "g")]
CUBIC = [
    n("Pow", "x three", "c"), n("Mul", "c k", "ck"), n("Add", "x ck", "a"), n("Mul", "h a", "ha"), n("Tanh", "ha", "th"),
    n("Add", "th one", "g"),
]
SQUARE = [
    n("Mul", "x k", "kx"), n("Mul", "kx x", "kxx"), n("Add", "one kxx", "p"), n("Mul", "x h", "hx"), n("Mul", "hx p", "ha"),
    n("Tanh", "ha", "th"), n("Add", "th one", "g"),
]
NUMBERS: Arrays = {
    "r": scalar(2**0.5), "q": scalar(0.5**0.5), "one": scalar(1), "half": scalar(0.5), "two": scalar(2),
    "three": scalar(3), "six": scalar(6), "zero": scalar(0), "k": scalar(0.044715),
    "h": scalar(0.7978845608), "eps": scalar(1e-4), "alpha": scalar(1.702),
}
CASES: dict[str, tuple[str, list[onnx.NodeProto]]] = {
    "layer norm": ("normalise", [*MEAN, n("Pow", "d two", "s"), *DEVIATION, n("Div", "d sd")]),
    "layer norm, two differences": ("normalise", [
        *MEAN, n("Sub", "x m", "d2"), n("Mul", "d2 d2", "s"), *DEVIATION, n("Reciprocal", "sd", "r1"), n("Mul", "r1 d")]),
    "rms norm": ("normalise", [n("Mul", "x x", "s"), n("ReduceMean", "s", "v", axes=[1, 2]), n("Add", "v eps", "ve"), n("Sqrt", "ve", "sd"),
                               n("Div", "x sd")]),
    "gelu, halved first": ("gelu", [n("Mul", "x half", "u"), *ERF, n("Mul", "u g")]),
    "gelu, halved last": ("gelu", [*ERF, n("Mul", "x g", "u"), n("Mul", "u half")]),
    "gelu, divided": ("gelu", [*ERF, n("Mul", "g half", "u"), n("Mul", "u x")]),
    "gelu, multiplied": ("gelu", [
        n("Mul", "q x", "s"), n("Erf", "s", "f"), n("Add", "one f", "g"), n("Div", "g two", "u"), n("Mul", "x u")]),
    "gelu, tanh of a cube": ("gelu", [*CUBIC, n("Mul", "x half", "u"), n("Mul", "u g")]),
    "gelu, tanh of squares": ("gelu", [*SQUARE, n("Mul", "x g", "u"), n("Mul", "half u")]),
    "silu": ("swish", [n("Sigmoid", "x", "s"), n("Mul", "s x")]),
    "quick gelu": ("swish", [n("Mul", "x alpha", "u"), n("Sigmoid", "u", "s"), n("Mul", "x s")]),
    "hard swish": ("hard_swish", [n("HardSigmoid", "x", "s", alpha=1 / 6), n("Mul", "x s")]),
    "hard swish, clipped": ("hard_swish", [
        n("Add", "x three", "a"), n("Clip", "a zero six", "s"), n("Mul", "x s", "u"), n("Div", "u six")]),
    "mish": ("mish", [n("Softplus", "x", "s"), n("Tanh", "s", "t"), n("Mul", "x t")]),
    "softmax": ("softmax", [*LOW, n("ReduceSum", "e last", "sum"), n("Div", "e sum")]),
    "softmax, plain": ("softmax", [n("Exp", "x", "e"), n("ReduceSum", "e last", "sum"), n("Div", "e sum")]),
    "log softmax": ("log_softmax", [*LOW, n("ReduceSum", "e last", "sum"), n("Log", "sum", "lg"), n("Sub", "l lg")]),
    "log softmax, at once": ("log_softmax", [n("ReduceLogSumExp", "x", "s", **OVER), n("Sub", "x s")]),
    "log of a softmax": ("log_softmax", [n("Softmax", "x", "s"), n("Log", "s")]),
}
LIKE: dict[str, list[onnx.NodeProto]] = {
    "an inner value is read": [n("Sigmoid", "x", "s"), n("Mul", "x s", "u"), n("Add", "u s")],
    "another number": [n("Div", "x two", "s"), n("Erf", "s", "f"), n("Add", "f one", "g"), n("Mul", "x half", "u"), n("Mul", "u g")],
    "another operand": [n("Relu", "x", "w"), n("Sigmoid", "w", "s"), n("Mul", "x s")],
    "other axes": [n("Exp", "x", "e"), n("ReduceSum", "e both", "sum"), n("Div", "e sum")],
    "the wrong way round": [n("Sigmoid", "x", "s"), n("Div", "x s")],
}


def constants(nodes: list[onnx.NodeProto]) -> Arrays:
    read = {name for node in nodes for name in node.input}
    return {name: a for name, a in {**NUMBERS, "last": i64(-1), "both": i64(1, 2)}.items() if name in read}


@pytest.mark.parametrize("name", CASES)
def test_one_op(name: str, tmp_path: Path) -> None:
    op, nodes = CASES[name]
    imported = check(tmp_path, nodes, constants(nodes), (1, 5, 7))
    assert [found for found in op_names(imported) if found != "reshape"] == [op]


@pytest.mark.parametrize("name", LIKE)
def test_what_only_looks_alike(name: str, tmp_path: Path) -> None:
    imported = check(tmp_path, LIKE[name], constants(LIKE[name]), (1, 5, 7))
    assert not {"softmax", "gelu", "swish", "normalise"} & set(op_names(imported))


def arena(nodes: list[onnx.NodeProto], folder: Path) -> int:
    around = [n("Gemm", "i w", "z"), n("Reshape", "z shape", "x"), *nodes, n("Flatten", "y", "fl"), n("Gemm", "fl w2", "out")]
    arrays = {**constants(nodes), "w": 0.1 * f32(8, 35), "w2": f32(35, 3), "shape": i64(1, 5, 7)}
    graph = onnx.helper.make_graph(
        around, "g", [onnx.helper.make_tensor_value_info("i", 1, [1, 8])], [onnx.helper.make_tensor_value_info("out", 1, [1, 3])],
        [onnx.numpy_helper.from_array(a, name) for name, a in arrays.items()],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 15)], ir_version=8), folder / "m.onnx")
    return compile_model(folder / "m.onnx", Options(exact_seconds=0)).plan.arena_bytes


@pytest.mark.parametrize("name", ["layer norm", "gelu, halved first", "gelu, tanh of a cube", "softmax"])
def test_less_ram(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_one = arena(CASES[name][1], tmp_path)

    def apart(graph: onnx.GraphProto, *_: Any) -> tuple[list[onnx.NodeProto], set[str]]:
        return list(graph.node), set()

    monkeypatch.setattr(onnx_import, "joined", apart)
    assert as_one < arena(CASES[name][1], tmp_path)


def test_every_pattern_has_a_case() -> None:
    assert {p.op.lower().replace("normalization", "") for p in PATTERNS} == {
        "layer", "rms", "gelu", "swish", "hardswish", "mish", "softmax", "logsoftmax",
    }
