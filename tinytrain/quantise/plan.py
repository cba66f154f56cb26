# SPDX-License-Identifier: Apache-2.0
"""What is quantised, decided on the ONNX graph before any sample is seen.

A node is int8 if there is an integer form of it; every tensor that an int8 node reads or writes becomes a *point*: it gets a scale
and a zero point, but for what lies within a function of one number, which becomes a table (`formulas.py`). An activation right behind
a layer needs no node of its own: the range of its point saturates in the same place. Moves (Flatten, MaxPool, …) hand the point of
their input on. Everything else stays a float island.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.quantise.formulas import find_formulas
from tinytrain.quantise.normalise import LINEAR, Editor, attributes

if TYPE_CHECKING:
    import onnx

COMPUTED = (
    "Add", "Sub", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "ReduceMean", "Softmax", "LayerNormalization", "RMSNormalization",
)
MOVES = (
    "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "MaxPool", "GlobalMaxPool", "Relu", "Clip", "Pad",
    "DepthToSpace", "Expand", "Gather", "Resize", "Slice", "SpaceToDepth", "Tile",
)
# operands that say how, not what, and what stays real
SETTINGS = dict.fromkeys((
    "Reshape", "Squeeze", "Unsqueeze", "Clip", "Pad", "ReduceMean", "Expand", "Gather", "Resize", "Slice", "Tile",
    "LayerNormalization", "RMSNormalization",
), 1)


@dataclass(frozen=True)
class Point:
    """A tensor that is stored as int8. `node` and `op` produce it ("" for the input); `root` is the point whose scale it has."""

    tensor: str
    node: str
    op: str
    root: str


@dataclass(frozen=True)
class Layer:
    """A linear layer by the names of its node and tensors; `axis` of the weight holds the output channels; `bias` may be ""."""

    node: str
    op: str
    input: str
    weight: str
    bias: str
    axis: int


@dataclass(frozen=True)
class Plan:
    """`points` in order of computation; `layers` by node; `constants` are other stored operands;
    `folded`: tensor before an activation → tensor behind it, which `bounds` limit; `islands` are the nodes that stay float."""

    points: dict[str, Point]
    layers: dict[str, Layer]
    constants: tuple[str, ...]
    folded: dict[str, str]
    bounds: dict[str, tuple[float, float]]
    islands: tuple[str, ...]
    int8_nodes: frozenset[str]

    @property
    def entry(self) -> str | None:
        """The input of the model, if it is a point."""
        return next((p.tensor for p in self.points.values() if not p.node), None)


def operands(node: onnx.NodeProto) -> list[str]:
    """The inputs that hold data."""
    return [name for name in node.input[: SETTINGS.get(node.op_type, len(node.input))] if name]


def make_plan(graph: onnx.GraphProto) -> Plan:
    """Of a normalised graph."""
    editor = Editor(graph)
    formulas = find_formulas(editor)
    int8 = [node for node in graph.node if node.name in formulas.nodes or _is_int8(editor, node)]
    names = {node.name for node in int8}
    layers = {n.name: _layer(editor, n) for n in int8 if _is_layer(editor, n)}
    makers = [n for n in int8 if n.name not in formulas.nodes and (n.name in layers or n.op_type in (*COMPUTED, "MatMul"))]
    activations = {n.output[0]: a for n in makers for a in _activation(editor, n) if a.name not in formulas.nodes}
    folded = {before: a.output[0] for before, a in activations.items()}
    bounds = {a.output[0]: clip_bounds(editor, a) for a in activations.values()}
    hidden = {*folded, *formulas.inner, *(name for layer in layers.values() for name in (layer.weight, layer.bias))}
    hidden |= {name for n in int8 if n.name in formulas.nodes for name in n.input if name in editor.arrays}
    wanted = {name for n in int8 for name in (*operands(n), n.output[0]) if name not in hidden}
    constants = tuple(name for name in editor.arrays if name in wanted)
    points: dict[str, Point] = {}
    for value in graph.input:
        if value.name in wanted and value.name not in editor.arrays:
            points[value.name] = Point(value.name, "", "", value.name)
    for node in graph.node:
        tensor = node.output[0]
        if tensor not in wanted:
            continue
        moved = node.op_type in MOVES and node.name in names - formulas.nodes and tensor not in bounds
        source = node.input[0] if moved else ""
        points[tensor] = Point(tensor, node.name, node.op_type, points[source].root if source in points else tensor)
    islands = tuple(node.name for node in graph.node if node.name not in names)
    return Plan(points, layers, constants, folded, bounds, islands, frozenset(names))


def _is_int8(editor: Editor, node: onnx.NodeProto) -> bool:
    if node.op_type == "MatMul" and not any(name in editor.arrays for name in node.input):
        return True
    if node.op_type in LINEAR:
        return _is_layer(editor, node)
    if node.op_type == "Pad":
        return len(node.input) < 3 or not node.input[2] or not editor.arrays.get(node.input[2], np.ones(1)).any()
    if node.op_type == "Resize" and attributes(node).get("mode", b"nearest") != b"nearest":
        return False
    return node.op_type in COMPUTED or (node.op_type in MOVES and node.input[0] not in editor.arrays)


def _is_layer(editor: Editor, node: onnx.NodeProto) -> bool:
    """Of a stored weight, by x."""
    if node.op_type not in LINEAR or node.input[0] in editor.arrays or any(name not in editor.arrays for name in node.input[1:]):
        return False
    return not attributes(node).get("transA") and editor.arrays[node.input[1]].ndim >= 2 and _plain_bias(editor, node)


def _layer(editor: Editor, node: onnx.NodeProto) -> Layer:
    rows_first = node.op_type == "Conv" or attributes(node).get("transB")
    axis = 0 if rows_first else editor.arrays[node.input[1]].ndim - 1
    return Layer(node.name, node.op_type, node.input[0], node.input[1], node.input[2] if len(node.input) > 2 else "", axis)


def _plain_bias(editor: Editor, node: onnx.NodeProto) -> bool:
    return len(node.input) < 3 or editor.arrays[node.input[2]].ndim == 1


def _activation(editor: Editor, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The Relu or Clip around 0 that alone reads the result of a node."""
    readers = editor.readers_of(node.output[0])
    if len(readers) != 1 or editor.is_output(node.output[0]):
        return []
    low, high = clip_bounds(editor, readers[0])
    return readers if low <= 0 <= high and low < high else []


def clip_bounds(editor: Editor, node: onnx.NodeProto) -> tuple[float, float]:
    """(lower, upper) of a Relu or Clip; an empty range for any other node, or where they are not stored."""
    if node.op_type == "Relu":
        return 0.0, float("inf")
    if node.op_type != "Clip":
        return 1.0, -1.0
    bounds = [float("-inf"), float("inf")]
    for index, name in enumerate(node.input[1:3]):
        if name and name not in editor.arrays:
            return 1.0, -1.0
        if name:
            bounds[index] = float(editor.arrays[name].reshape(()))
    return bounds[0], bounds[1]
