# SPDX-License-Identifier: Apache-2.0
"""Functions of one int8 number are tables: those of onnxruntime, number by number, with the slopes of the function, also where an
exporter wrote several nodes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ctypes_model import Library, assert_learns_as_reference
from frontend_models import infer, op_names, scalar
from oracle_session import session_of
from quant_models import Qdq

from tinytrain.compiler import Gradients, Options, compile_model
from tinytrain.ir.text import graph_text
from tinytrain.ops.lookup import Lookup

EVERY = 256
FUNCTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Gelu", {}), ("Gelu", {"approximate": "tanh"}), ("Sigmoid", {}), ("Tanh", {}), ("Elu", {"alpha": 0.5}), ("Selu", {}), ("Celu", {}),
    ("Softplus", {}), ("HardSwish", {}), ("HardSigmoid", {}), ("Mish", {}), ("Erf", {}), ("Exp", {}), ("Sqrt", {}), ("LeakyRelu", {}),
    ("Abs", {}), ("Neg", {}), ("Sin", {}), ("Softsign", {}), ("ThresholdedRelu", {}),
)


def every_number(net: Qdq) -> np.ndarray:
    """One sample that holds what each of the 256 integers stands for."""
    integers = np.arange(EVERY) - 128 + net.middle
    return ((integers - int(net.arrays["x_z"])) * net.arrays["x_s"]).astype(np.float32)[None]


@pytest.mark.parametrize("uint8", [False, True], ids=["int8", "uint8"])
@pytest.mark.parametrize(("op", "attributes"), FUNCTIONS)
def test_every_number_like_onnxruntime(op: str, attributes: dict[str, Any], uint8: bool, tmp_path: Path) -> None:
    """But for those that fp32 puts on the other side of a half."""
    pytest.importorskip("onnxruntime")
    net = Qdq(uint8)
    low = 0.0 if op == "Sqrt" else -4.0
    net.quantised(net.add(op, net.quantised("x", low, 4.0), "f", **attributes), -2.0, 4.0, name="y")
    prepared, imported = net.load(tmp_path, (1, EVERY), opset=20)
    assert op_names(imported) == ["quantise", "lookup", "dequantise"]
    assert not imported.float_islands
    sample = every_number(net)
    (want,) = session_of(prepared.model).run(None, {"x": sample})
    gap = np.abs(infer(imported, sample) - want) / net.arrays["f_s"]
    assert (gap > 0.5).sum() <= 1, "more than one number in 256"
    assert gap.max() < 1.5


FORMS = {
    "silu": [("Sigmoid", "d"), ("Mul", "d 0")],
    "gelu": [("Div", "d root2"), ("Erf", "0"), ("Add", "1 one"), ("Mul", "d 2"), ("Mul", "3 half")],
    "gelu from the left": [("Mul", "half d"), ("Div", "d root2"), ("Erf", "1"), ("Add", "one 2"), ("Mul", "0 3")],
    "hard swish": [("Add", "d three"), ("Clip", "0 zero six"), ("Mul", "d 1"), ("Div", "2 six")],
    "softplus of a relu": [("Relu", "d"), ("Softplus", "0")],
    "power": [("Pow", "d three")],
}


def written_out(form: str) -> Qdq:
    net = Qdq()
    net.arrays |= {name: scalar(v) for name, v in (("root2", 2**0.5), ("one", 1), ("half", 0.5), ("zero", 0), ("three", 3), ("six", 6))}
    d = net.quantised("x", -3, 3)
    names = {"d": d}
    for number, (op, operands) in enumerate(FORMS[form]):
        names[str(number)] = net.add(op, " ".join(names.get(one, one) for one in operands.split()), f"f{number}")
    net.quantised(f"f{len(FORMS[form]) - 1}", -1, 3, name="y")
    return net


@pytest.mark.parametrize("form", FORMS)
def test_several_nodes_are_one_table(form: str, tmp_path: Path) -> None:
    net = written_out(form)
    prepared, imported = net.load(tmp_path, (1, EVERY))
    assert op_names(imported) == ["quantise", "lookup", "dequantise"]
    assert not imported.float_islands
    sample = every_number(net)
    (want,) = session_of(prepared.model).run(None, {"x": sample})
    assert (np.abs(infer(imported, sample) - want) > 1e-4).sum() <= 1


@pytest.mark.parametrize("form", FORMS)
def test_slopes_are_those_of_the_function(form: str, tmp_path: Path) -> None:
    """By differences of f itself, away from its kinks."""
    _, imported = written_out(form).load(tmp_path, (1, EVERY))
    op = next(n.op for n in imported.graph.nodes if isinstance(n.op, Lookup))
    at, step = (np.arange(-128, 128) - op.zero_in) * op.scale_in, 1e-5
    wide = (op.of.values(at + step)[0] - op.of.values(at - step)[0]) / (2 * step)
    smooth = np.abs(op.of.values(at + step)[1] - op.of.values(at - step)[1]) < 1e-3
    np.testing.assert_allclose(op.of.values(at)[1][smooth], wide[smooth], rtol=1e-6, atol=1e-6)
    assert smooth.mean() > 0.97


def test_a_function_of_two_tensors_is_no_table(tmp_path: Path) -> None:
    net = Qdq()
    d = net.quantised("x")
    e = net.quantised(net.add("Neg", d, "n"))
    net.quantised(net.add("Div", f"{d} {net.add('Exp', e, 'e')}", "f"), name="y")
    _, imported = net.load(tmp_path, (1, EVERY))
    assert op_names(imported) == ["quantise", "dequantise", "lookup", "dequantise", "exp", "div", "quantise", "dequantise"]
    assert imported.float_islands == ("Exp_e", "Div_f")


@pytest.mark.parametrize("grad", ["fp32", "int8"])
def test_learns_through_a_table(grad: Gradients, tmp_path: Path) -> None:
    """On the twin as in the reference, bit by bit."""
    net = Qdq()
    h = net.quantised(net.add("Gemm", f"{net.quantised('x')} {net.weight('w', 6, 4)} {net.bias('b', 'x', 'w', 6)}", "h0", transB=1))
    g = net.quantised(net.add("Gelu", h, "g"), -0.2, 2.0)
    net.quantised(net.add("Gemm", f"{g} {net.weight('v', 3, 6)} {net.bias('c', 'g', 'v', 3)}", "o", transB=1), name="y")
    path = tmp_path / "m.onnx"
    path.write_bytes(net.model((1, 4), opset=20).SerializeToString())
    compiled = compile_model(path, Options(grad=grad))
    text = graph_text(compiled.program.entries["train"])
    assert "lookup(" in text
    assert ("lookup_grad" if grad == "fp32" else "slope_integer") in text
    assert_learns_as_reference(Library(compiled, tmp_path, "-O1"), steps=3)
