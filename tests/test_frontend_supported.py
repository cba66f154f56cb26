# SPDX-License-Identifier: Apache-2.0
"""The table of ONNX ops says what is so: each name in it imports, in fp32 and in int8 as it says, and nothing else has a handler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from frontend_models import Arrays, f32, i64, load, norm_arrays, op_names, scalar
from frontend_models import node as n
from frontend_oracle import agrees, save
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from quant_models import Qdq

from tinytrain.frontend.call import handlers, integer_handlers
from tinytrain.frontend.onnx_import import Imported
from tinytrain.frontend.pairs import PAIRED
from tinytrain.frontend.supported import supported
from tinytrain.frontend.tabulate import TABULATED
from tinytrain.report.text import ops_text

POOL = {"kernel_shape": [2, 2]}
MAP, ROW, STEPS = (1, 3, 4, 4), (1, 4), (1, 1, 4)
# attributes, further operands, shape of x
PLAIN: dict[str, tuple[dict[str, object], Arrays, tuple[int, ...]]] = {
    "Add": ({}, {"c": f32(4)}, ROW), "AveragePool": (POOL, {}, MAP), "BatchNormalization": ({}, norm_arrays(3), MAP),
    "Clip": ({}, {"lo": scalar(-0.5), "hi": scalar(0.5)}, ROW), "Concat": ({"axis": 1}, {}, ROW),
    "Conv": ({}, {"w": f32(2, 3, 3, 3)}, MAP), "ConvTranspose": ({}, {"w": f32(3, 2, 3, 3)}, MAP), "Dropout": ({}, {}, ROW),
    "Flatten": ({}, {}, MAP), "Gemm": ({}, {"w": f32(4, 3)}, ROW),
    "GlobalAveragePool": ({}, {}, MAP), "GlobalLpPool": ({}, {}, MAP), "GlobalMaxPool": ({}, {}, MAP), "LpPool": (POOL, {}, MAP),
    "HardSigmoid": ({}, {}, ROW), "HardSwish": ({}, {}, ROW),
    "Identity": ({}, {}, ROW), "LeakyRelu": ({"alpha": 0.1}, {}, ROW), "LogSoftmax": ({}, {}, ROW), "MatMul": ({}, {"w": f32(4, 3)}, ROW),
    "MaxPool": (POOL, {}, MAP), "Mul": ({}, {"c": f32(4)}, ROW), "Pad": ({}, {"p": i64(0, 1, 0, 2)}, ROW),
    "ReduceMean": ({}, {"axes": i64(1)}, ROW), "Relu": ({}, {}, ROW), "Reshape": ({}, {"s": i64(1, 2, 2)}, ROW), "Sigmoid": ({}, {}, ROW),
    "Softmax": ({}, {}, ROW), "Squeeze": ({}, {"a": i64(1)}, (1, 1, 4)), "Sub": ({}, {"c": f32(4)}, ROW), "Tanh": ({}, {}, ROW),
    "Transpose": ({"perm": [0, 2, 1]}, {}, (1, 2, 3)), "Unsqueeze": ({}, {"a": i64(1)}, ROW),
    "Abs": ({}, {}, ROW), "Celu": ({"alpha": 0.5}, {}, ROW), "Div": ({}, {"c": f32(4)}, ROW), "Elu": ({}, {}, ROW), "Erf": ({}, {}, ROW),
    "Exp": ({}, {}, ROW), "Gelu": ({}, {}, ROW), "Log": ({}, {}, ROW), "Max": ({}, {"c": f32(4)}, ROW), "Min": ({}, {"c": f32(4)}, ROW),
    "Mish": ({}, {}, ROW), "Neg": ({}, {}, ROW), "Reciprocal": ({}, {}, ROW), "Selu": ({}, {}, ROW), "Softplus": ({}, {}, ROW),
    "Softsign": ({}, {}, ROW), "Sqrt": ({}, {}, ROW),
    "Cast": ({"to": 1}, {}, ROW), "CastLike": ({}, {"l": f32(1)}, ROW), "CenterCropPad": ({"axes": [1]}, {"s": i64(2)}, ROW),
    "Col2Im": ({}, {"s": i64(2, 2), "b": i64(2, 1)}, (1, 4, 2)),
    "Compress": ({"axis": 1}, {"m": np.array([1, 0, 1, 0], bool)}, ROW),
    "DepthToSpace": ({"blocksize": 2}, {}, (1, 4, 2, 3)), "Expand": ({}, {"s": i64(3, 4)}, ROW),
    "Gather": ({"axis": 1}, {"i": i64(2, 0)}, ROW),
    "GatherElements": ({"axis": 1}, {"i": i64(2, 0).reshape(1, 2)}, ROW), "GatherND": ({}, {"i": i64(0, 3).reshape(1, 2)}, ROW),
    "GridSample": ({}, {"g": f32(1, 2, 2, 2)}, MAP),
    "MaxUnpool": (POOL, {"i": i64(0, 4, 6, 8).reshape(1, 1, 2, 2)}, (1, 1, 2, 2)),
    "Resize": ({}, {"roi": f32(0), "s": np.float32([1, 1, 2, 2])}, MAP),
    "ReverseSequence": ({"time_axis": 1, "batch_axis": 0}, {"n": i64(3)}, ROW),
    "RoiAlign": ({}, {"r": np.float32([[0, 0, 3, 2]]), "b": i64(0)}, MAP),
    "ScatterElements": ({"axis": 1}, {"i": i64(2)[None], "u": f32(1, 1)}, ROW),
    "ScatterND": ({}, {"i": i64(0, 2)[None], "u": f32(1)}, ROW), "Slice": ({}, {"s": i64(3), "e": i64(0), "a": i64(1), "t": i64(-2)}, ROW),
    "SpaceToDepth": ({"blocksize": 2}, {}, MAP), "Split": ({"axis": 1, "num_outputs": 1}, {}, ROW),
    "TensorScatter": ({"axis": 1}, {"u": f32(1, 2), "w": i64(1)}, ROW), "Tile": ({}, {"n": i64(1, 2)}, ROW),
    "AffineGrid": ({}, {"n": i64(1, 1, 3, 2)}, (1, 2, 3)),
    "Einsum": ({"equation": "bc->cb"}, {}, ROW), "LRN": ({"size": 3}, {}, MAP),
    "OneHot": ({}, {"n": scalar(3), "v": np.float32([-1, 2])}, ROW),
    "Trilu": ({}, {}, (1, 3, 3)), "Where": ({}, {"m": np.array([1, 0, 1, 0], bool), "c": f32(4)}, ROW),
    "GRU": ({"hidden_size": 2}, {"w": f32(1, 6, 4), "r": f32(1, 6, 2)}, STEPS),
    "LSTM": ({"hidden_size": 2}, {"w": f32(1, 8, 4), "r": f32(1, 8, 2)}, STEPS),
    "RNN": ({"hidden_size": 2}, {"w": f32(1, 2, 4), "r": f32(1, 2, 2)}, STEPS),
    "ArgMax": ({"axis": 1}, {}, ROW), "ArgMin": ({"axis": 1}, {}, ROW), "Hardmax": ({}, {}, ROW), "PRelu": ({}, {"slope": f32(4)}, ROW),
    "Pow": ({}, {"c": scalar(3)}, ROW), "Shrink": ({}, {}, ROW), "Swish": ({}, {}, ROW), "ThresholdedRelu": ({}, {}, ROW),
    "TopK": ({}, {"k": i64(2)}, ROW),
    "GroupNormalization": ({"num_groups": 1}, {"g": f32(3), "b": f32(3)}, MAP), "LayerNormalization": ({}, {"g": f32(4), "b": f32(4)}, MAP),
    "InstanceNormalization": ({}, {"g": f32(3), "b": f32(3)}, MAP), "LpNormalization": ({}, {}, ROW),
    "MeanVarianceNormalization": ({}, {}, MAP), "RMSNormalization": ({}, {"g": f32(4)}, MAP),
    **{name: ({}, {}, ROW) for name in (
        "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Floor", "Round", "Sign", "Sin", "Sinh", "Tan",
    )},
    **{f"Reduce{name}": ({}, {"axes": i64(2)}, MAP) for name in (
        "L1", "L2", "LogSumExp", "Max", "Min", "Prod", "Sum", "SumSquare",
    )},
    "ReduceLogSum": ({}, {}, (1, 1)), "Mean": ({}, {"c": f32(4)}, ROW), "Sum": ({}, {"c": f32(4)}, ROW),
}
# opsets that onnxruntime does not know, or from which on there is the op
NEWER = {"GroupNormalization": 21, "RMSNormalization": 23, "Swish": 24, "TensorScatter": 24}
WEIGHTS = {"Conv": (2, 3, 3, 3), "Gemm": (4, 3), "MatMul": (4, 3)}
Q, Z = scalar(0.02), np.array(3, np.int8)
SCALED = {"s": Q, "z": Z}
WEIGHT = {"w": np.ones((4, 3), np.int8), "ws": scalar(0.01), "wz": np.array(0, np.int8)}
FILTER = WEIGHT | {"w": np.ones((2, 3, 3, 3), np.int8)}
# operands behind the integers q at scale s and zero point z
FORMS: dict[str, tuple[str, dict[str, object], Arrays, tuple[int, ...]]] = {
    "QLinearConv": ("q s z w ws wz s z", {}, FILTER, MAP), "QLinearMatMul": ("q s z w ws wz s z", {}, WEIGHT, ROW),
    "com.microsoft.QGemm": ("q s z w ws wz  s z", {}, WEIGHT, ROW), "com.microsoft.QLinearAdd": ("q s z q s z s z", {}, {}, ROW),
    "com.microsoft.QLinearMul": ("q s z q s z s z", {}, {}, ROW), "com.microsoft.QLinearConcat": ("s z q s z q s z", {"axis": 1}, {}, ROW),
    "com.microsoft.QLinearSigmoid": ("q s z s z", {}, {}, ROW), "com.microsoft.QLinearLeakyRelu": ("q s z s z", {"alpha": 0.1}, {}, ROW),
    "com.microsoft.QLinearSoftmax": ("q s z s z", {"axis": -1, "opset": 13}, {}, ROW),
    "com.microsoft.QLinearAveragePool": ("q s z s z", POOL, {}, MAP),
    "com.microsoft.QLinearGlobalAveragePool": ("q s z s z", {}, {}, MAP),
}
# of reals, and of bools
TESTS = ("Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual")
BOOLS = (*TESTS, "And", "Not", "Or", "Xor")
QDQ = {name for name in supported() if name.rpartition(".")[2] in ("QuantizeLinear", "DequantizeLinear")}


def test_the_table_is_the_handlers() -> None:
    assert {name for name, (plain, _) in supported().items() if plain} == {*handlers(), *PAIRED}
    assert {name for name, (_, integer) in supported().items() if integer} == {*integer_handlers(), *TABULATED, *FORMS, *QDQ}
    assert set(supported()) == {*PLAIN, *FORMS, *QDQ, *BOOLS}, "an op without its minimal model here"
    first, second = ops_text().split("\n\n")
    assert [line.split()[0] for line in first.splitlines()[1:]] == list(supported())
    assert "ONNX" not in second


@pytest.mark.parametrize("name", [name for name, (plain, _) in supported().items() if plain and name not in (*QDQ, *BOOLS)])
def test_op_in_fp32(name: str, tmp_path: Path) -> None:
    attributes, arrays, shape = PLAIN[name]
    operands = ["x"] * (2 if name == "Concat" else 1) + list(arrays)
    if name == "Where":
        operands = ["m", "x", "c"]
    nodes = [n(name, " ".join(operands), "y i" if name == "TopK" else "y", **attributes)]
    made = TensorProto.INT64 if name.startswith("Arg") else TensorProto.FLOAT
    path = save(tmp_path / "m.onnx", nodes, arrays, shape, opset=NEWER.get(name, 20), made=made)
    sample = np.round(f32(*shape)) if name == "OneHot" else f32(*shape)
    agrees(path, sample, np.asarray(ReferenceEvaluator(str(path)).run(None, {"x": sample})[0]) if name in NEWER else None)


@pytest.mark.parametrize("name", BOOLS)
def test_op_that_makes_bools(name: str, tmp_path: Path) -> None:
    given = ("x", "d") if name in TESTS else ("a", "b")
    operands = given[0] if name in ("IsInf", "IsNaN", "Not") else " ".join(given)
    nodes = [n("Less", "x c", "a"), n("Greater", "x d", "b"), n(name, operands, "e"), n("Cast", "e", to=1)]
    agrees(save(tmp_path / "m.onnx", nodes, {"c": scalar(0.5), "d": f32(4)}, ROW), f32(*ROW))


def between_int8(name: str, folder: Path) -> Imported:
    """The minimal model of an op between QuantizeLinear and DequantizeLinear; what is a table has a further operand of one element."""
    attributes, arrays, shape = PLAIN[name]
    if name in TABULATED:
        arrays = {key: np.abs(array.reshape(-1)[0]) for key, array in arrays.items()}
    net = Qdq()
    operands = [net.quantised("x")] * (2 if name == "Concat" else 1)
    for key, array in arrays.items():
        if name in WEIGHTS:
            operands.append(net.weight(key, *WEIGHTS[name], axis=None))
        elif key == "c" and name not in TABULATED:
            net.arrays |= {"cq": np.arange(array.size, dtype=np.int8).reshape(array.shape), "cs": Q}
            net.nodes.append(n("DequantizeLinear", "cq cs", "c"))
            operands.append("c")
        else:
            net.arrays[key] = array
            operands.append(key)
    if name == "Where":
        operands = ["m", *(one for one in operands if one != "m")]
    made = net.add(name, " ".join(operands), "made", **attributes)
    if name.startswith("Arg"):
        made = net.add("Cast", made, "real", to=1)
    net.quantised(made, name="y")
    return net.load(folder, shape, opset=max(NEWER.get(name, 20), 20))[1]


@pytest.mark.parametrize("name", [name for name, (_, integer) in supported().items() if integer and name in PLAIN])
def test_op_in_int8(name: str, tmp_path: Path) -> None:
    """Nothing is left in fp32, but for an index that is made a real number."""
    imported = between_int8(name, tmp_path)
    index = name.startswith("Arg")
    assert imported.float_islands == (("Cast_real",) if index else ())
    names = op_names(imported)
    if not index:
        assert names.count("quantise") == names.count("dequantise") == 1, "at the ends of the model"


# what gives no reals, computes nothing, or is written as another op
NO_ISLANDS = ("Cast", "CastLike", "Sum", "TopK")


@pytest.mark.parametrize(
    "name", [name for name, (_, integer) in supported().items() if not integer and name in PLAIN and name not in NO_ISLANDS]
)
def test_op_in_fp32_alone_is_an_island(name: str, tmp_path: Path) -> None:
    """So that the table, which says nothing of int8 there, says all that is so."""
    assert between_int8(name, tmp_path).float_islands


@pytest.mark.parametrize("name", FORMS)
def test_form_of_integers(name: str, tmp_path: Path) -> None:
    operands, attributes, arrays, shape = FORMS[name]
    domain, _, op = name.rpartition(".")
    nodes = [
        n("QuantizeLinear", "x s z", "q"), helper.make_node(op, operands.split(" "), ["r"], name="layer", domain=domain, **attributes),
        n("DequantizeLinear", "r s z", "y"),
    ]
    model = onnx.load(save(tmp_path / "m.onnx", nodes, SCALED | arrays, shape))
    model.graph.output[0].type.tensor_type.elem_type = 1
    _, imported = load(tmp_path, model)
    assert imported.float_islands == ()


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_ends_of_integers(domain: str, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], domain=domain), n("Transpose", "q", "t"),
        helper.make_node("DequantizeLinear", ["t", "s", "z"], ["y"], domain=domain),
    ]
    agrees(save(tmp_path / "m.onnx", nodes, SCALED, (1, 4)), f32(1, 4))
