# SPDX-License-Identifier: Apache-2.0
"""Ops that move elements, behind a Conv (channels last in memory) and without one: our graph equals the ONNX model."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from frontend_models import Arrays, check, f32, i64, infer, load, model_of, node, scalar

from tinytrain.errors import ModelError

MAP = (1, 4, 6, 5)
# op, attributes, further operands, by what is told of it; x is a map of MAP
MOVES: dict[str, tuple[str, dict[str, Any], Arrays]] = {
    "gather channels": ("Gather", {"axis": 1}, {"i": i64(3, -4, 3)}),
    "gather one": ("Gather", {"axis": 3}, {"i": np.array(2, np.int64)}),
    "gather table": ("Gather", {"axis": -2}, {"i": i64(1, 5, 0, 0, 2, -1).reshape(2, 3)}),
    "gather batch": ("Gather", {"axis": 0}, {"i": i64(0, 0)}),
    "gather run": ("Gather", {"axis": 1}, {"i": i64(1, 2)}),
    "slice": ("Slice", {}, {"s": i64(1, 0), "e": i64(3, -1), "a": i64(1, -1)}),
    "slice back": ("Slice", {}, {"s": i64(-1, 4), "e": i64(-100, 0), "a": i64(2, 3), "t": i64(-2, -1)}),
    "slice steps": ("Slice", {}, {"s": i64(0, 1), "e": i64(99, 99), "a": i64(3, 1), "t": i64(2, 3)}),
    "tile": ("Tile", {}, {"r": i64(1, 2, 1, 3)}),
    "tile batch": ("Tile", {}, {"r": i64(2, 1, 1, 1)}),
    "expand": ("Expand", {}, {"s": i64(2, 1, 4, 6, 5)}),
    "pad edge": ("Pad", {"mode": "edge"}, {"p": i64(0, 1, 2, 0, 0, 0, 1, 3)}),
    "pad reflect": ("Pad", {"mode": "reflect"}, {"p": i64(0, 0, 2, 1, 0, 3, 0, 4)}),
    "pad batch": ("Pad", {}, {"p": i64(1, 0, 0, 0, 0, 0, 0, 1)}),
    "depth to space": ("DepthToSpace", {"blocksize": 2}, {}),
    "depth to space crd": ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}, {}),
    "space to depth": ("SpaceToDepth", {"blocksize": 1}, {}),
    "reverse": ("ReverseSequence", {"batch_axis": 0, "time_axis": 1}, {"n": i64(3)}),
    "reverse each": ("ReverseSequence", {"batch_axis": 1, "time_axis": 0}, {"n": i64(1, 1, 1, 1)}),
    "elements": ("GatherElements", {"axis": 2}, {"i": np.arange(4 * 2 * 5).reshape(1, 4, 2, 5) % 11 - 5}),
    "tuples": ("GatherND", {}, {"i": i64(0, 1, 2, 0, -1, 5).reshape(2, 3)}),
    "tuples of samples": ("GatherND", {"batch_dims": 2}, {"i": np.arange(8).reshape(1, 4, 2, 1) % 6}),
    "scatter elements": ("ScatterElements", {"axis": 1}, {"i": i64(3, 0, -2, 3).reshape(1, 2, 2, 1), "u": f32(1, 2, 2, 1)}),
    "scatter add": ("ScatterElements", {"axis": 3, "reduction": "add"}, {"i": i64(3, 0, 3, 3).reshape(1, 2, 2, 1), "u": f32(1, 2, 2, 1)}),
    "scatter tuples": ("ScatterND", {}, {"i": i64(0, 1, 0, 3).reshape(2, 2), "u": f32(2, 6, 5)}),
    "scatter max": ("ScatterND", {"reduction": "max"}, {"i": i64(0, 1, 0, 1).reshape(2, 2), "u": f32(2, 6, 5)}),
    "where": ("Where", {}, {}),
    "trilu": ("Trilu", {"upper": 0}, {"k": np.array(1, np.int64)}),
    "crop and pad": ("CenterCropPad", {"axes": [1, 2, 3]}, {"s": i64(3, 9, 2)}),
    "cast": ("Cast", {"to": 1}, {}),
}
RESIZES: dict[str, tuple[dict[str, Any], Arrays]] = {
    "nearest twice": (
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, {"r": f32(0), "s": np.float32([1, 1, 2, 2])},
    ),
    "nearest": ({}, {"r": f32(0), "s": np.float32([1, 1, 0.6, 1.7])}),
    "linear": ({"mode": "linear"}, {"r": f32(0), "e": f32(0), "n": i64(1, 4, 9, 3)}),
    "linear corners": (
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"}, {"r": f32(0), "e": f32(0), "n": i64(1, 4, 4, 8)},
    ),
    "cubic": ({"mode": "cubic"}, {"r": f32(0), "s": np.float32([1, 1, 1.5, 0.8])}),
    "cubic outside": ({"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5}, {"r": f32(0), "s": np.float32([1, 1, 1.5, 0.8])}),
    "antialias": ({"mode": "linear", "antialias": 1, "exclude_outside": 1}, {"r": f32(0), "e": f32(0), "n": i64(1, 4, 2, 3)}),
    "crop": (
        {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 2.5},
        {"r": np.float32([0, 0, 0.2, -0.3, 1, 1, 1.4, 0.7]), "e": f32(0), "n": i64(1, 4, 4, 4)},
    ),
}
CONV: Arrays = {"w": f32(4, 2, 3, 3)}


def both(folder: Path, nodes: list[onnx.NodeProto], arrays: Arrays, opset: int = 18) -> None:
    """Of a Conv, channels last in memory, and of the input as it is; `c` is what the nodes read."""
    check(folder, [node("Conv", "x w", "c"), *nodes], arrays | CONV, (1, 2, 8, 7), opset=opset)
    check(folder, [node("Relu", "x", "c"), *nodes], arrays, MAP, opset=opset)


@pytest.mark.parametrize("case", MOVES)
def test_moves(case: str, tmp_path: Path) -> None:
    op, attributes, arrays = MOVES[case]
    operands = ["c", *arrays]
    if op == "Where":
        arrays = {"m": np.arange(6 * 5).reshape(6, 5) % 3 > 0, "o": f32(1, 4, 1, 1)}
        operands = ["m", "c", "o"]
    both(tmp_path, [node(op, " ".join(operands), **attributes)], arrays)


@pytest.mark.parametrize("case", RESIZES)
def test_resize(case: str, tmp_path: Path) -> None:
    attributes, arrays = RESIZES[case]
    names = [name if array.size else "" for name, array in arrays.items()]
    both(tmp_path, [onnx.helper.make_node("Resize", ["c", *names], ["y"], **attributes)], {n: a for n, a in arrays.items() if a.size})


# onnxruntime moves both coordinates inside where one of them is outside, which a cubic of borders shows
SAMPLES = [*product(("linear", "nearest"), ("zeros", "border", "reflection")), ("cubic", "zeros"), ("cubic", "reflection")]


@pytest.mark.parametrize(("mode", "padding"), SAMPLES)
def test_grid_sample(mode: str, padding: str, tmp_path: Path) -> None:
    both(tmp_path, [node("GridSample", "c g", mode=mode, padding_mode=padding)], {"g": 0.7 * f32(1, 3, 4, 2)}, opset=20)


def test_roi_align(tmp_path: Path) -> None:
    arrays = {"r": np.float32([[0, 1, 3, 4], [-2, 0.5, 2, 9]]), "b": i64(0, 0)}
    both(tmp_path, [node("RoiAlign", "c r b", output_height=2, output_width=3)], arrays)


def test_col2im_and_max_unpool(tmp_path: Path) -> None:
    arrays = {"s": i64(5, 6), "b": i64(2, 3)}
    check(tmp_path, [node("Col2Im", "x s b", pads=[1, 0, 0, 2], strides=[2, 1])], arrays, (1, 12, 18), opset=18)
    nodes = [node("MaxUnpool", "x i", kernel_shape=[2, 2], strides=[2, 2])]
    check(tmp_path, nodes, {"i": i64(0, 3, 13, 10, 17, 18, 24, 31).reshape(1, 2, 2, 2)}, (1, 2, 2, 2))


def test_split_and_concat(tmp_path: Path) -> None:
    nodes = [node("Split", "c n", "a b d", axis=1), node("Concat", "d a b", axis=1)]
    both(tmp_path, nodes, {"n": i64(1, 2, 1)})
    both(tmp_path, [node("Split", "c", "a b", axis=-1, num_outputs=2), node("Concat", "b a", axis=-1)], {})


def test_empty_tensors(tmp_path: Path) -> None:
    """What is left of a whole by a Split joins the rest without a trace; shapes of what is cut become constants."""
    check(tmp_path, [node("Split", "x n", "a b", axis=1), node("Relu", "b", "r"), node("Concat", "a r", axis=1)], {"n": i64(4, 0)}, MAP)
    nodes = [node("Slice", "x s e a", "c"), node("Shape", "c", "n"), node("Expand", "k n", "f"), node("Add", "c f")]
    check(tmp_path, nodes, {"s": i64(1), "e": i64(3), "a": i64(2), "k": f32(1)}, MAP)


def test_shapes_by_constants(tmp_path: Path) -> None:
    condition = {"m": np.array([1, 0, 1, 1], bool)}
    check(tmp_path, [node("Compress", "x m", "c", axis=1), node("Relu", "c")], condition, MAP)
    check(tmp_path, [node("Compress", "x m", "c"), node("Tanh", "c")], condition, MAP)


def test_negative_pads_cut(tmp_path: Path) -> None:
    sample = f32(*MAP)
    for mode, value in (("constant", 1.5), ("edge", 0.0)):
        arrays = {"p": i64(0, 0, -1, 1, 0, -2, 2, -1), "v": scalar(value)}
        _, imported = load(tmp_path, model_of([node("Pad", "x p v", mode=mode)], arrays, MAP))
        more = [(0, 0), (0, 0), (0, 2), (1, 0)]
        cut = sample[:, :-2, 1:, :-1]
        want = np.pad(cut, more, constant_values=value) if mode == "constant" else np.pad(cut, more, "edge")
        np.testing.assert_array_equal(infer(imported, sample), want)


def test_attention_mask(tmp_path: Path) -> None:
    """A number in place of what a mask hides; neither operand is of full shape."""
    mask = np.tril(np.ones((1, 1, 6, 5), bool))
    both(tmp_path, [node("Where", "m c k")], {"m": mask, "k": scalar(-1e9)})
    both(tmp_path, [node("Where", "m k c")], {"m": mask, "k": f32(5)})
    check(tmp_path, [node("Where", "m x k")], {"m": mask[0, 0], "k": f32(6, 1)}, (1, 1, 5), opset=18)


def test_computed_condition(tmp_path: Path) -> None:
    nodes = [node("Less", "c l", "m"), node("Where", "m c k")]
    both(tmp_path, nodes, {"l": f32(1, 4, 1, 1), "k": scalar(0.25)})
    both(tmp_path, [nodes[0], node("Where", "m k c")], {"l": f32(5), "k": f32(6, 1)})
    both(tmp_path, [node("Cast", "c", "m", to=9), node("Cast", "c", "n", to=7), node("Cast", "n", "k", to=1), node("Where", "m k c")], {})


def test_embedding(tmp_path: Path) -> None:
    """Tokens come as floats; the table is a weight that can be trained."""
    nodes = [node("Cast", "x", "i", to=7), node("Gather", "t i")]
    model = model_of(nodes, {"t": f32(7, 3)}, (1, 5), 18)
    _, imported = load(tmp_path, model)
    tokens = np.float32([[6, 0, 3, -1, 3]])
    want = onnx.reference.ReferenceEvaluator(model).run(None, {"x": tokens})[0]
    np.testing.assert_array_equal(infer(imported, tokens), want)
    assert set(imported.params) == {"t"}


def test_one_hot(tmp_path: Path) -> None:
    """Of tokens, in the middle of the axes; from the end, and beyond it."""
    nodes = [node("Cast", "x", "i", to=7), node("OneHot", "i d v", axis=1)]
    model = model_of(nodes, {"d": np.array(4, np.int64), "v": np.float32([0.5, 2])}, (1, 5), 18)
    _, imported = load(tmp_path, model)
    tokens = np.float32([[3, 0, -1, -4, 2]])
    want = onnx.reference.ReferenceEvaluator(model).run(None, {"x": tokens})[0]
    np.testing.assert_array_equal(infer(imported, tokens), want)
    assert (infer(imported, np.float32([[4, -5, 0, 0, 0]]))[0, :, :2] == 0.5).all()


REFUSED: dict[str, tuple[str, dict[str, Any], Arrays, str]] = {
    "beyond": ("Gather", {"axis": 1}, {"i": i64(4)}, "its indices run from 4 to 4 on an axis of 4"),
    "nothing": ("Slice", {}, {"s": i64(3), "e": i64(2), "a": i64(1)}, "it leaves no elements"),
    "a number of half": ("CastLike", {}, {"l": np.ones(1, np.float16)}, "float16"),
    "max": ("RoiAlign", {"mode": "max"}, {"r": f32(1, 4), "b": i64(0)}, "its mode is max, expected avg"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str, tmp_path: Path) -> None:
    op, attributes, arrays, why = REFUSED[case]
    model = model_of([node(op, " ".join(["x", *arrays]), "h", **attributes), node("Cast", "h", to=1)], arrays, MAP, 18)
    with pytest.raises(ModelError, match=why):
        load(tmp_path, model)
