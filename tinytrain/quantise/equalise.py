# SPDX-License-Identifier: Apache-2.0
"""Cross-layer equalisation: layers hand factors on to the next, so that channels that share a scale have similar ranges.

f(W1·x + b1) into W2  ≡  f(W1/s·x + b1/s) into W2·s,  by channel i,  for f(s·x) = s·f(x): ReLU, pools    (Nagel et al., arXiv 1906.04721)

s_i = √(r1_i / r2_i) makes the ranges on both sides equal. r1 and r2 are the ranges of channel i in the tensors whose elements share
a scale. With one scale for a whole weight these are W1 and W2, as in the paper. With one for each output channel, rows of W1 have
scales of their own; what is shared is the activation between the layers (r1), and the inputs within a row of W2 (r2; a
depthwise W2 has one input a row: nothing to lose there, s_i = r1_i).

A Clip between 0 and an upper bound, as ReLU6, is not homogeneous. Where no sample reaches its bound it becomes a ReLU, else it separates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.ir.types import Array
from tinytrain.quantise.normalise import Editor, attributes
from tinytrain.quantise.plan import Layer, Plan, clip_bounds
from tinytrain.quantise.ranges import Observed

if TYPE_CHECKING:
    import onnx

HOMOGENEOUS = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
VIEWS = ("Flatten", "Reshape", "Squeeze")               # where they leave a row of channels
MOST_FACTOR = 256.0
ROUNDS = 20


@dataclass(frozen=True, eq=False)
class Pair:
    """Two layers with only homogeneous ops between them, and Clips that may become ReLUs; `between` is the point behind the first."""

    first: Layer
    second: Layer
    between: str
    depthwise: bool
    clips: tuple[str, ...]


def equalise(model: onnx.ModelProto, plan: Plan, seen: dict[str, Observed], *, per_tensor: bool) -> tuple[onnx.ModelProto, list[str]]:
    """(a changed copy, what was equalised and what not: one line each)."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    editor = Editor(made.graph)
    pairs, apart = _pairs(editor, plan, seen)
    clips = [name for pair in pairs for name in pair.clips]
    for node in editor.proto.node:
        if node.name in clips:
            node.op_type = "Relu"
            del node.input[1:]
    ranges = {pair.between: np.array(seen[pair.between].channels, np.float64) for pair in pairs}
    total = {pair: np.ones_like(ranges[pair.between]) for pair in pairs}
    for _ in range(ROUNDS):
        most = max([np.abs(np.log(_equalise(editor, pair, ranges, total, per_tensor))).max() for pair in pairs], default=0.0)
        if most < 1e-3:
            break
    editor.write_back()
    said = [f"{len(pairs)} pairs of layers are equalised"] if pairs else ["nothing is equalised: no layer feeds just one other"]
    if clips:
        said.append(f"{', '.join(clips)} became Relu: no sample reaches the upper bound")
    if apart:
        said.append(f"not equalised, as samples reach the bound of the Clip behind them: {', '.join(apart)}")
    return made, said


def _pairs(editor: Editor, plan: Plan, seen: dict[str, Observed]) -> tuple[list[Pair], list[str]]:
    """(pairs, first layers of those that a Clip separates)"""
    pairs: list[Pair] = []
    apart: list[str] = []
    nodes = {node.name: node for node in editor.proto.node}
    for name, first in plan.layers.items():
        if not first.bias:
            continue
        tensor = nodes[name].output[0]
        between = plan.folded.get(tensor, tensor)
        clips: tuple[str, ...] = ()
        while True:
            readers = editor.readers_of(tensor)
            if len(readers) != 1 or editor.is_output(tensor):
                break
            reader = readers[0]
            second = plan.layers.get(reader.name)
            if second is not None:
                depthwise = _kind(editor, reader, second, editor.arrays[first.bias].size)
                if depthwise is not None:
                    pairs.append(Pair(first, second, between, depthwise, clips))
                break
            if reader.op_type == "Clip":
                low, high = clip_bounds(editor, reader)
                if low != 0 or seen[between].high >= high:
                    apart.append(name)
                    break
                clips = (*clips, reader.name)
            elif reader.op_type in VIEWS:
                if editor.shapes.get(reader.output[0]) != (1, editor.arrays[first.bias].size):
                    break
            elif reader.op_type not in HOMOGENEOUS:
                break
            tensor = reader.output[0]
    return pairs, apart


def _kind(editor: Editor, node: onnx.NodeProto, layer: Layer, channels: int) -> bool | None:
    """Whether the second layer is depthwise; None if its inputs are not just the channels of the first."""
    shape = editor.arrays[layer.weight].shape
    if node.op_type == "Conv":
        group = int(attributes(node).get("group", 1))  # type: ignore[call-overload]
        if group == 1:
            return False if shape[1] == channels else None
        return True if group == shape[0] == channels else None
    return False if node.op_type == "Gemm" and shape[1 - layer.axis] == channels else None


def _equalise(editor: Editor, pair: Pair, ranges: dict[str, Array], total: dict[Pair, Array], per_tensor: bool) -> Array:
    """Move one set of factors between two layers; returns it. `total` bounds what all rounds make of a (dead) channel."""
    arrays = editor.arrays
    first = np.moveaxis(arrays[pair.first.weight], pair.first.axis, 0)
    second = np.moveaxis(arrays[pair.second.weight], 0 if pair.depthwise else 1 - pair.second.axis, 0)
    rows = np.abs(second.reshape(len(second), 1 if pair.depthwise else second.shape[1], -1))
    if per_tensor:
        r1, r2 = np.abs(first.reshape(len(first), -1)).max(axis=1), rows.max(axis=(1, 2))
        # a weight near 0 says nothing of its bias: no channel may grow beyond what is the greatest activation or bias already
        greatest = np.maximum(ranges[pair.between], np.abs(arrays[pair.first.bias]))
        factors = np.maximum(_root(r1, r2), greatest / max(greatest.max(), 1e-30))
    elif pair.depthwise:
        factors = _root(ranges[pair.between] ** 2, np.ones(len(second)))
    else:
        whole = np.maximum(rows.max(axis=(0, 2)), 1e-30)
        factors = _root(ranges[pair.between], (rows.max(axis=2) / whole).max(axis=1))
    before, total[pair] = total[pair], np.clip(total[pair] * factors, 1 / MOST_FACTOR, MOST_FACTOR)
    factors = total[pair] / before
    ranges[pair.between] = ranges[pair.between] / factors
    s = factors.astype(np.float32)
    arrays[pair.first.weight] = np.moveaxis(first / s.reshape(-1, *(1,) * (first.ndim - 1)), 0, pair.first.axis)
    arrays[pair.first.bias] = arrays[pair.first.bias] / s
    moved = second * s.reshape(-1, *(1,) * (second.ndim - 1))
    arrays[pair.second.weight] = np.moveaxis(moved, 0, 0 if pair.depthwise else 1 - pair.second.axis)
    return factors


def _root(r1: Array, r2: Array) -> Array:
    """√(r1 / r2) about a median of 1; 1 for a channel that is 0 on either side."""
    alive = (r1 > 0) & (r2 > 0)
    factors = np.ones(len(r1))
    if alive.any():
        root = np.sqrt(r1[alive].astype(np.float64) / r2[alive])
        factors[alive] = root / np.median(root)
    return factors
