# SPDX-License-Identifier: Apache-2.0
"""Each handler of the importer and its odd attributes: our graph, run by the NumPy reference, equals the ONNX model.

The oracle is onnx's own evaluator, and onnxruntime where it is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from frontend_models import Arrays, check, f32, i64, node, norm_arrays, op_names, scalar
from frontend_oracle import agrees, save

CONVS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "3x3": ((1, 3, 8, 7), (5, 3, 3, 3), {}),
    "1x1": ((1, 3, 8, 7), (5, 3, 1, 1), {}),
    "2x5": ((1, 3, 8, 7), (5, 3, 2, 5), {}),
    "pads": ((1, 3, 8, 7), (5, 3, 3, 3), {"pads": [0, 2, 1, 3]}),
    "stride 3": ((1, 2, 11, 10), (4, 2, 3, 3), {"strides": [3, 2], "pads": [1, 1, 1, 1]}),
    "dilation": ((1, 2, 11, 10), (4, 2, 3, 3), {"dilations": [2, 3]}),
    "group": ((1, 4, 8, 7), (6, 2, 3, 3), {"group": 2}),
    "depthwise": ((1, 4, 8, 7), (4, 1, 3, 3), {"group": 4, "strides": [2, 1], "pads": [1, 0, 1, 2]}),
    "multiplier": ((1, 4, 8, 7), (8, 1, 3, 3), {"group": 4}),
    "upper": ((1, 3, 8, 7), (5, 3, 4, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "lower": ((1, 3, 9, 7), (5, 3, 4, 2), {"auto_pad": "SAME_LOWER", "strides": [1, 1]}),
    "valid": ((1, 3, 8, 7), (5, 3, 3, 3), {"auto_pad": "VALID"}),
    "1-D": ((1, 3, 12), (5, 3, 4), {"strides": [2], "pads": [1, 2]}),
    "1-D depthwise": ((1, 3, 12), (3, 1, 3), {"group": 3, "dilations": [2]}),
    "one channel": ((1, 1, 8, 7), (4, 1, 3, 3), {}),
}


@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("case", CONVS)
def test_conv(case: str, bias: bool, tmp_path: Path) -> None:
    shape, kernel, attributes = CONVS[case]
    arrays = {"w": f32(*kernel)} | ({"b": f32(kernel[0])} if bias else {})
    imported = check(tmp_path, [node("Conv", "x w b" if bias else "x w", name="c1", **attributes)], arrays, shape)
    assert ("depthwise_conv2d" in op_names(imported)) == ("depthwise" in case)
    assert {n.origin for n in imported.graph.nodes} == {"c1"}
    assert set(imported.params) == set(arrays)
    for name, value in imported.params.items():
        assert value.source is not None
        assert value.data is not None
        np.testing.assert_array_equal(value.source.to_onnx(value.data), arrays[name])


TRANSPOSED: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((1, 3, 4, 5), (3, 6, 3, 2), {}),
    "strides": ((1, 3, 4, 5), (3, 6, 3, 3), {"strides": [2, 3], "pads": [1, 0, 0, 2]}),
    "output padding": ((1, 3, 4, 5), (3, 6, 3, 3), {"strides": [2, 3], "pads": [1, 1, 1, 1], "output_padding": [1, 2]}),
    "group": ((1, 4, 3, 3), (4, 3, 2, 2), {"group": 2, "dilations": [2, 1]}),
    "depthwise": ((1, 4, 3, 5), (4, 1, 4, 4), {"group": 4, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "upper": ((1, 2, 3, 3), (2, 2, 3, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "1-D": ((1, 3, 7), (3, 2, 4), {"strides": [2], "pads": [1, 1]}),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_conv_transpose(case: str, tmp_path: Path) -> None:
    shape, kernel, attributes = TRANSPOSED[case]
    arrays = {"w": f32(*kernel), "b": f32(kernel[1] * attributes.get("group", 1))}
    nodes = [node("ConvTranspose", "x w b", **attributes)]
    _, imported = agrees(save(tmp_path / "m.onnx", nodes, arrays, shape), f32(*shape))  # onnx's own evaluator knows no groups
    name = "depthwise_conv_transpose2d" if case == "depthwise" else "conv_transpose2d"
    assert [n for n in op_names(imported) if n != "reshape"] == [name, "add"]
    assert set(imported.params) == set(arrays)


MAPS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "conv": ("Conv", "r w b", {"pads": [1, 1, 1, 1]}), "depthwise": ("Conv", "r d", {"group": 2}),
    "transposed": ("ConvTranspose", "r t", {}), "max": ("MaxPool", "r", {"kernel_shape": [2, 2]}),
    "average": ("AveragePool", "r", {"kernel_shape": [3, 2]}), "global": ("GlobalAveragePool", "r", {}),
}


@pytest.mark.parametrize("case", MAPS)
def test_several_maps_are_taken_one_by_one(case: str, tmp_path: Path) -> None:
    op, inputs, attributes = MAPS[case]
    arrays = {"w": f32(3, 2, 3, 3), "b": f32(3), "d": f32(2, 1, 3, 3), "t": f32(2, 4, 2, 2), "s": i64(3, 2, 4, 5)}
    used = {name: arrays[name] for name in ("s", *inputs.split()[1:])}
    imported = check(tmp_path, [node("Reshape", "x s", "r"), node(op, inputs, **attributes)], used, (1, 120))
    assert set(imported.params) == set(inputs.split()[1:])


GEMMS: dict[str, tuple[tuple[int, ...], tuple[int, ...] | None, dict[str, Any]]] = {
    "plain": ((4, 5), (5,), {}),
    "transB": ((5, 4), (5,), {"transB": 1}),
    "no bias": ((4, 5), None, {}),
    "alpha beta": ((4, 5), (5,), {"alpha": 0.5, "beta": 2.0}),
    "beta 0": ((4, 5), (5,), {"beta": 0.0}),
    "row": ((4, 5), (1, 5), {}),
    "scalar": ((4, 5), (1,), {}),
}


@pytest.mark.parametrize("case", GEMMS)
def test_gemm(case: str, tmp_path: Path) -> None:
    w, b, attributes = GEMMS[case]
    check(tmp_path, [node("Gemm", "x w b" if b else "x w", **attributes)], {"w": f32(*w)} | ({"b": f32(*b)} if b else {}), (1, 4))


def test_gemm_of_a_transposed_matrix(tmp_path: Path) -> None:
    nodes = [node("Reshape", "x s", "r"), node("Gemm", "r w b", transA=1, transB=1)]
    imported = check(tmp_path, nodes, {"s": i64(4, 3), "w": f32(5, 4), "b": f32(5)}, (1, 12))
    assert op_names(imported).count("transpose") == 1


MATMULS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "row": ((1, 4), (4, 5)), "sequence": ((1, 6, 4), (4, 5)), "vector": ((1, 6, 4), (4,)), "leading one": ((1, 6, 4), (1, 4, 5)),
}


@pytest.mark.parametrize("case", MATMULS)
def test_matmul_add(case: str, tmp_path: Path) -> None:
    shape, w = MATMULS[case]
    bias = f32(5) if len(w) > 1 else f32(6)
    imported = check(tmp_path, [node("MatMul", "x w", "z", "fc"), node("Add", "b z", name="add")], {"w": f32(*w), "b": bias}, shape)
    assert op_names(imported)[:1] == ["dense"]
    assert set(imported.params) == {"w", "b"}


def test_matmul_after_conv_needs_no_transpose(tmp_path: Path) -> None:
    """(N, C, H, W) -> (N, H, W, C) is how the feature map lies already."""
    nodes = [node("Conv", "x k", "a"), node("Transpose", "a", "b", perm=[0, 2, 3, 1]), node("MatMul", "b w")]
    imported = check(tmp_path, nodes, {"k": f32(4, 2, 3, 3), "w": f32(4, 5)}, (1, 2, 6, 5))
    assert op_names(imported) == ["conv2d", "dense"]




@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 6), (1, 4, 6, 5)], ids=str)
def test_batch_normalization(shape: tuple[int, ...], tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "a"), node("BatchNormalization", "a g b m v", name="bn", epsilon=1e-2)]
    imported = check(tmp_path, nodes, norm_arrays(4), shape)
    assert op_names(imported) == ["relu", "batch_norm"]
    assert set(imported.params) == {"g", "b"}


def test_batch_normalization_is_folded_or_kept(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "a", "c"), node("BatchNormalization", "a g b m v", name="bn")]
    arrays = norm_arrays(4) | {"w": f32(4, 3, 3, 3)}
    assert op_names(check(tmp_path, nodes, arrays, (1, 3, 6, 5))) == ["conv2d", "add"]
    assert op_names(check(tmp_path, nodes, arrays, (1, 3, 6, 5), fold_batchnorm=False)) == ["conv2d", "batch_norm"]


UNARY: dict[str, tuple[onnx.NodeProto, Arrays, list[str]]] = {
    "relu": (node("Relu"), {}, ["relu"]),
    "relu6": (node("Clip", "x lo hi"), {"lo": scalar(0), "hi": scalar(6)}, ["clip"]),
    "clip to relu": (node("Clip", "x lo"), {"lo": scalar(0)}, ["relu"]),
    "clip above": (onnx.helper.make_node("Clip", ["x", "", "hi"], ["y"]), {"hi": scalar(0.5)}, ["clip"]),
    "leaky": (node("LeakyRelu", alpha=0.2), {}, ["leaky_relu"]),
    "sigmoid": (node("Sigmoid"), {}, ["sigmoid"]),
    "tanh": (node("Tanh"), {}, ["tanh"]),
    "softmax": (node("Softmax", axis=-1), {}, ["softmax"]),
    "softmax over channels": (node("Softmax", axis=1), {}, ["transpose", "reshape", "softmax"]),
    "softmax over the batch": (node("Softmax", axis=0), {}, ["softmax"]),
    "log softmax": (node("LogSoftmax", axis=-1), {}, ["log_softmax"]),
}


@pytest.mark.parametrize("case", UNARY)
def test_unary(case: str, tmp_path: Path) -> None:
    operation, arrays, names = UNARY[case]
    imported = check(tmp_path, [operation], arrays, (1, 3, 4, 5))
    assert [n for n in op_names(imported) if n != "reshape"] == [n for n in names if n != "reshape"]
    assert not imported.params


POOLS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "max": ("MaxPool", (1, 3, 8, 7), {"kernel_shape": [2, 3], "strides": [2, 2]}),
    "max pads": ("MaxPool", (1, 3, 8, 7), {"kernel_shape": [3, 3], "strides": [3, 2], "pads": [1, 0, 0, 1]}),
    "max dilated": ("MaxPool", (1, 3, 9, 8), {"kernel_shape": [2, 3], "dilations": [3, 2]}),
    "max ceil": ("MaxPool", (1, 3, 8, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "max same": ("MaxPool", (1, 3, 8, 7), {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "max 1-D": ("MaxPool", (1, 3, 9), {"kernel_shape": [3], "strides": [2]}),
    "average": ("AveragePool", (1, 3, 8, 7), {"kernel_shape": [2, 3], "strides": [2, 2]}),
    "average pads": ("AveragePool", (1, 3, 8, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 1]}),
    "average counted": ("AveragePool", (1, 3, 8, 7), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    "average ceil": ("AveragePool", (1, 3, 8, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "average all": ("AveragePool", (1, 3, 8, 7), {"kernel_shape": [8, 7], "strides": [8, 7]}),
    "average 1-D": ("AveragePool", (1, 3, 9), {"kernel_shape": [3], "strides": [3]}),
    "average dilated": ("AveragePool", (1, 3, 9, 8), {"kernel_shape": [2, 3], "dilations": [3, 2], "pads": [1, 2, 0, 1]}),
    "average counted ceil": (
        "AveragePool", (1, 3, 8, 8),
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1], "ceil_mode": 1, "count_include_pad": 1},
    ),
    "max 3-D": ("MaxPool", (1, 3, 5, 6, 7), {"kernel_shape": [2, 3, 3], "strides": [1, 2, 2], "pads": [1, 0, 1, 0, 1, 1]}),
    "average 3-D": ("AveragePool", (1, 3, 5, 6, 7), {"kernel_shape": [2, 3, 3], "strides": [2, 1, 2], "pads": [1, 0, 1, 0, 1, 1]}),
    "average counted 3-D": (
        "AveragePool", (1, 2, 4, 5, 6),
        {"kernel_shape": [3, 2, 2], "pads": [1, 0, 1, 1, 1, 0], "count_include_pad": 1, "dilations": [1, 2, 1]},
    ),
    "p 1": ("LpPool", (1, 3, 8, 7), {"kernel_shape": [2, 3], "p": 1}),
    "p 2": ("LpPool", (1, 3, 8, 7), {"kernel_shape": [2, 3], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    "p 3": ("LpPool", (1, 3, 9), {"kernel_shape": [4], "p": 3}),
    "p 4": ("LpPool", (1, 3, 8, 7), {"kernel_shape": [3, 3], "p": 4}),
    "global average": ("GlobalAveragePool", (1, 3, 8, 7), {}),
    "global average 1-D": ("GlobalAveragePool", (1, 3, 8), {}),
    "global max": ("GlobalMaxPool", (1, 3, 8, 7), {}),
}


@pytest.mark.parametrize("case", POOLS)
def test_pool(case: str, tmp_path: Path) -> None:
    op, shape, attributes = POOLS[case]
    imported = check(tmp_path, [node(op, **attributes)], {}, shape, 19 if "dilated" in case or "counted" in case else 15)
    assert ("global_average_pool" in op_names(imported)) == (case in ("average all", "global average", "global average 1-D"))


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", [(2, 3), (-1, -2), (1,), (3,), (1, 2, 3), (0, 2)], ids=str)
def test_reduce_mean(axes: tuple[int, ...], keep: int, tmp_path: Path) -> None:
    arrays = {"w": f32(3, 2, 3, 3)}
    nodes = [node("Conv", "x w", "c"), node("ReduceMean", "c", axes=list(axes), keepdims=keep)]
    imported = check(tmp_path, nodes, arrays, (1, 2, 8, 7))
    if set(axes) in ({2, 3}, {-1, -2}):
        assert op_names(imported)[:2] == ["conv2d", "global_average_pool"]
    newer = [node("Conv", "x w", "c"), node("ReduceMean", "c axes", keepdims=keep)]
    check(tmp_path, newer, arrays | {"axes": i64(*axes)}, (1, 2, 8, 7), opset=18)


SHAPES: dict[str, tuple[list[onnx.NodeProto], Arrays]] = {
    "flatten": ([node("Flatten", "c")], {}),
    "flatten 2": ([node("Flatten", "c", axis=2)], {}),
    "flatten 0": ([node("Flatten", "c", axis=0)], {}),
    "reshape": ([node("Reshape", "c s")], {"s": i64(1, -1)}),
    "reshape keeping channels": ([node("Reshape", "c s")], {"s": i64(0, 3, -1)}),
    "reshape splitting channels": ([node("Reshape", "c s")], {"s": i64(1, 3, 1, 6, 5)}),
    "reshape mixing": ([node("Reshape", "c s")], {"s": i64(1, 6, 15)}),
    "unsqueeze squeeze": ([node("Unsqueeze", "c a", "u"), node("Squeeze", "u a2")], {"a": i64(1, 3), "a2": i64(3)}),
    "transpose": ([node("Transpose", "c", perm=[0, 2, 3, 1])], {}),
    "transpose space": ([node("Transpose", "c", perm=[0, 1, 3, 2])], {}),
    "transpose flatten": ([node("Transpose", "c", "t", perm=[0, 2, 3, 1]), node("Flatten", "t")], {}),
    "transpose back": (
        [node("Transpose", "c", "t", perm=[0, 3, 1, 2]), node("Relu", "t", "r"), node("Transpose", "r", perm=[0, 2, 3, 1])], {},
    ),
    "identity": ([node("Identity", "c")], {}),
    "dropout": ([node("Dropout", "c")], {}),
    "pad": ([node("Pad", "c p")], {"p": i64(0, 0, 1, 2, 0, 0, 3, 0)}),
    "pad value": ([node("Pad", "c p v")], {"p": i64(0, 1, 0, 0, 0, 2, 0, 1), "v": scalar(1.5)}),
    "concat channels": ([node("Relu", "c", "r"), node("Concat", "c r", axis=1)], {}),
    "concat rows": ([node("Relu", "c", "r"), node("Concat", "r c r", axis=-2)], {}),
    "concat batch": ([node("Relu", "c", "r"), node("Concat", "c r", axis=0)], {}),
    "concat transposed": (
        [node("Transpose", "c", "t", perm=[0, 1, 3, 2]), node("Tanh", "t", "h"), node("Transpose", "h", "u", perm=[0, 1, 3, 2]),
         node("Concat", "u c", axis=3)], {},
    ),
    "concat constant": ([node("Concat", "c k", axis=1)], {"k": f32(1, 2, 6, 5)}),
}


@pytest.mark.parametrize("case", SHAPES)
def test_shape_ops(case: str, tmp_path: Path) -> None:
    nodes, arrays = SHAPES[case]
    imported = check(tmp_path, [node("Conv", "x w", "c"), *nodes], arrays | {"w": f32(3, 2, 3, 3)}, (1, 2, 8, 7))
    moves = op_names(imported).count("transpose")
    assert moves == (1 if case in ("flatten", "flatten 0", "reshape", "reshape mixing") else 0), op_names(imported)


def test_pad_with_axes(tmp_path: Path) -> None:
    arrays = {"p": i64(1, 2, 0, 3), "axes": i64(-1, 2), "v": scalar(0)}
    check(tmp_path, [node("Pad", "x p v axes")], arrays, (1, 2, 4, 3), opset=18)


BROADCASTS: dict[str, tuple[int, ...]] = {
    "full": (1, 3, 6, 5), "no batch": (3, 6, 5), "channel": (1, 3, 1, 1), "scalar": (), "one": (1,), "column": (5,), "rows": (6, 1),
    "space": (6, 5), "channel and row": (3, 6, 1),
}


@pytest.mark.parametrize("swap", [False, True], ids=["", "swapped"])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("case", BROADCASTS)
def test_binary_with_a_constant(case: str, op: str, swap: bool, tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "c"), node(op, "k c" if swap else "c k")]
    imported = check(tmp_path, nodes, {"w": f32(3, 2, 3, 3), "k": f32(*BROADCASTS[case])}, (1, 2, 8, 7))
    assert "transpose" not in op_names(imported)
    assert ("k" in imported.params) == (case != "scalar")


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("pair", ["c t", "t c", "c c", "c m", "m c", "m r", "r m"])
def test_binary_of_two_computed_tensors(pair: str, op: str, tmp_path: Path) -> None:
    """t is c in another memory order, m its mean over space, r its mean over channels."""
    nodes = [
        node("Conv", "x w", "c"), node("Transpose", "c", "p", perm=[0, 1, 3, 2]), node("Reshape", "p s", "q"), node("Tanh", "q", "t"),
        node("GlobalAveragePool", "c", "m"), node("ReduceMean", "c", "r", axes=[1]), node(op, pair),
    ]
    check(tmp_path, nodes, {"w": f32(3, 2, 3, 3), "s": i64(1, 3, 6, 5)}, (1, 2, 8, 7))


def test_constant_larger_than_the_tensor(tmp_path: Path) -> None:
    for pair in ("x k", "k x"):
        for op in ("Add", "Sub", "Mul"):
            check(tmp_path, [node(op, pair)], {"k": f32(1, 3, 4)}, (1, 1, 4))
            check(tmp_path, [node(op, pair)], {"k": f32(3, 1)}, (1, 4))


@pytest.mark.parametrize("op", ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"])
def test_reduction_over_no_axes_computes_its_functions_all_the_same(op: str, tmp_path: Path) -> None:
    nodes = [node("Exp", "x", "e"), node(f"Reduce{op}", "e", "y", noop_with_empty_axes=1)]
    check(tmp_path, nodes, {}, (1, 2, 3), opset=18)


@pytest.mark.parametrize("op", ["And", "Or", "Xor"])
def test_bools_that_are_stored(op: str, tmp_path: Path) -> None:
    nodes = [node("Greater", "x k", "g"), node(op, "m g", "h"), node("Cast", "h", to=1)]
    imported = check(tmp_path, nodes, {"k": f32(3), "m": np.array([[True], [False]])}, (1, 2, 3))
    assert "m" not in imported.params
