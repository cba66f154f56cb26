# SPDX-License-Identifier: Apache-2.0
"""Runs the float32 model and its int8 form side by side, all samples through one node before the next.

Each layer is quantised when it is reached, from what the int8 layers before it really give; so its rounding can be learned, its bias
corrected, and its error measured in the same run. Values are dropped after their last reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tinytrain.frontend.onnx_import import Imported
from tinytrain.ir.graph import Node
from tinytrain.ir.types import Array, Role, Value
from tinytrain.quantise import adaround, bias
from tinytrain.quantise.calibrate import point_values
from tinytrain.quantise.layers import LINEAR_OPS, from_rows, grouped_outputs, patches, to_rows
from tinytrain.quantise.plan import Layer, Plan
from tinytrain.quantise.ranges import MOST_WEIGHT, Method, Scale, nearest, raised_for_bias, weight_scales
from tinytrain.report.live import Progress


@dataclass(frozen=True)
class Options:
    """What `tinytrain quantize` can be told; `samples` of the data are used, evenly spread.

    `bits` are those of weights; "mixed": of each layer as many as a `flash_budget` of bytes for all parameters leaves (`bits.py`).
    """

    method: Method = "minmax"
    percentile: float = 99.99
    equalise: bool = False
    bias_correction: bool = True
    adaround: bool = False
    per_tensor: bool = False
    bits: Literal["8", "4", "mixed"] = "8"
    flash_budget: int | None = None
    samples: int = 256
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(eq=False)
class Int8Layer:
    """A quantised layer in the layout of ONNX: weight of so many bits, its scales, int32 bias of scale s_x·s_w[k], weight SNR in dB."""

    weight: Array
    scales: Array
    input_scale: np.float32
    bias: Array | None
    snr: float
    raised: int
    bits: int = 8


@dataclass(eq=False)
class Outcome:
    """`snr`: point → dB; outputs (n, …) of both models in the layout of the device."""

    layers: dict[str, Int8Layer]
    snr: dict[str, float]
    exact: Array
    int8: Array


def snr_db(exact: Array, rounded: Array) -> float:
    """Power of the signal over that of the error; infinite where they are equal."""
    signal = float(np.square(exact, dtype=np.float64).sum())
    noise = float(np.square(exact.astype(np.float64) - rounded).sum())
    return float("inf") if noise == 0 else float("-inf") if signal == 0 else 10 * float(np.log10(signal / noise))


def evaluate(node: Node, values: dict[Value, Array], stored: Mapping[Value, Array]) -> None:
    """Outputs (n, …) of a node; what is stored has no axis of samples."""
    count = len(next(iter(values.values())))

    def operand(v: Value, i: int) -> Array:
        data = values[v][i] if v in values else stored.get(v, v.data)
        assert data is not None
        return np.asarray(data)

    made = [node.op.reference(*(operand(v, i) for v in node.inputs)) for i in range(count)]
    for place, v in enumerate(node.outputs):
        values[v] = np.stack([outputs[place] for outputs in made])


class Lockstep:
    """`scales`: root point or stored constant → its scale; `bits` of the weights of layers by node, 8 of others."""

    def __init__(self, model: Imported, plan: Plan, scales: dict[str, Scale], options: Options, bits: Mapping[str, int]) -> None:
        self.graph = model.graph
        self.plan = plan
        self.scales = scales
        self.options = options
        self.bits = bits
        self.points = point_values(model, plan)
        self.exact: dict[Value, Array] = {}
        self.int8: dict[Value, Array] = {}
        self.stored: dict[Value, Array] = {}
        self.layers: dict[str, Int8Layer] = {}
        self.snr: dict[str, float] = {}
        self.biases: dict[Value, Value] = {}
        for node in self.graph.nodes:
            if len(node.inputs) > 1 and node.inputs[1].role is Role.CONST:
                self.biases[node.inputs[0]] = node.inputs[1]
        for value in self.graph.stored(Role.CONST):
            assert value.data is not None
            name = value.source.initializer if value.source else value.name
            self.stored[value] = scales[name].rounded(value.data) if name in plan.constants else value.data

    def run(self, samples: Array, progress: Progress) -> Outcome:
        (start,), (end,) = self.graph.inputs, self.graph.outputs
        self.exact[start] = self.int8[start] = samples
        self._round(start)
        last = {v: index for index, node in enumerate(self.graph.nodes) for v in (*node.inputs, *node.outputs)}
        progress.start("quantising", len(self.graph.nodes))
        for index, node in enumerate(self.graph.nodes):
            progress.advance(node.origin)
            layer = self.plan.layers.get(node.origin) if isinstance(node.op, LINEAR_OPS) else None
            evaluate(node, self.exact, {})
            if layer is not None:
                self._quantise(node, layer)
            evaluate(node, self.int8, self.stored)
            if layer is not None and layer.bias:
                self._store_bias(node, layer)
            self._round(node.outputs[0])
            for v in {v for v in (*node.inputs, *node.outputs) if last[v] == index and v is not end}:
                self.exact.pop(v, None)
                self.int8.pop(v, None)
        return Outcome(self.layers, self.snr, self.exact[end], self.int8[end])

    def _round(self, value: Value) -> None:
        """At a point, the int8 model has only what its scale can express."""
        tensor = self.points.get(value)
        if tensor is None:
            return
        self.int8[value] = self.scales[self.plan.points[tensor].root].rounded(self.int8[value])
        self.snr[tensor] = snr_db(self.exact[value], self.int8[value])

    def _quantise(self, node: Node, layer: Layer) -> None:
        x, w = node.inputs
        assert w.data is not None and w.source is not None, f"{layer.node}: {w!r} is not stored"
        rows = to_rows(node.op, w.data)
        groups, count, features = rows.shape
        flat = rows.reshape(-1, features)
        bits = self.bits.get(layer.node, 8)
        scales = weight_scales(flat, self.options.method, self.options.per_tensor, bits)
        input_scale = self.scales[self.plan.points[layer.input].root].scale
        raised = np.zeros(len(flat), bool)
        if layer.bias:
            added = self.biases[node.outputs[0]].data
            assert added is not None
            scales, raised = raised_for_bias(scales, added, float(input_scale))
            if self.options.per_tensor:
                scales = np.full_like(scales, scales.max())
        stored = nearest(flat, scales, bits).reshape(rows.shape)
        if self.options.adaround:
            moments = adaround.Moments.empty(groups, features, count)
            for sample, y in zip(self.int8[x], self.exact[node.outputs[0]], strict=True):
                moments.add(patches(node.op, sample, w.shape), grouped_outputs(y, groups))
            stored = adaround.learn(rows, scales.reshape(groups, count), moments, MOST_WEIGHT[bits])
        back = stored * scales.reshape(groups, count, 1)
        self.stored[w] = from_rows(node.op, back, w.shape)
        onnx = w.source.to_onnx(from_rows(node.op, stored, w.shape))
        self.layers[layer.node] = Int8Layer(onnx, scales, input_scale, None, snr_db(rows, back), int(raised.sum()), bits)

    def _store_bias(self, node: Node, layer: Layer) -> None:
        value, made = self.biases[node.outputs[0]], self.layers[layer.node]
        assert value.data is not None
        real = value.data
        if self.options.bias_correction:
            real = real + bias.shift(self.exact[node.outputs[0]], self.int8[node.outputs[0]])
        scales = made.scales * made.input_scale
        made.bias = bias.to_int32(real, scales)
        self.stored[value] = (made.bias * scales.astype(np.float64)).astype(np.float32)
