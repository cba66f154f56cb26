# SPDX-License-Identifier: Apache-2.0
"""ResNet-8 and DS-CNN without normalisation and biases, with seeded weights, as ONNX files: the workloads that libraries are compared on.

All numbers come from one generator, x ← x·1664525 + 1013904223 mod 2³² from x = 1, as r = ((x >> 8) / 2²⁴ − 0.5)·2: first the input in the
order C, H, W, then the weights layer by layer, in the order K, C, R, S, each times √(6 / fan-in).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tinytrain.ir.types import Array


@dataclass(frozen=True, eq=False)
class Network:
    """`sample` in the layout of the device: rows, columns, channels. `loss` is that of the first step with label `LABEL`."""

    model: onnx.ModelProto
    sample: Array
    loss: float


LABEL = 3


def _numbers() -> Iterator[float]:
    state = 1
    while True:
        state = (state * 1_664_525 + 1_013_904_223) & 0xFFFFFFFF
        yield ((state >> 8) / (1 << 24) - 0.5) * 2


class _Builder:
    """Layers behind each other; each draws its weights."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._draw = _numbers()
        self.shape = shape
        self.sample = np.ascontiguousarray(self._drawn(shape, 1.0).transpose(1, 2, 0))
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def _drawn(self, shape: tuple[int, ...], scale: float) -> Array:
        values = np.fromiter(self._draw, np.float64, count=int(np.prod(shape)))
        return np.asarray(values * scale, np.float32).reshape(shape)

    def _add(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def _weight(self, name: str, shape: tuple[int, ...]) -> str:
        weight = self._drawn(shape, float(np.sqrt(6 / np.prod(shape[1:]))))
        self.weights.append(numpy_helper.from_array(weight, f"{name}_weight"))
        return f"{name}_weight"

    def conv(self, x: str, name: str, shape: tuple[int, int, int, int], stride: int = 1, pads: tuple[int, ...] = (), group: int = 1) -> str:
        options = {"strides": [stride, stride], "pads": list(pads or [shape[2] // 2, shape[3] // 2] * 2), "group": group}
        return self._add("Conv", [x, self._weight(name, shape)], name, **options)

    def relu(self, x: str) -> str:
        return self._add("Relu", [x], f"{x}_relu")

    def sum(self, x: str, y: str) -> str:
        return self._add("Add", [x, y], f"{x}_sum")

    def classifier(self, x: str, shape: tuple[int, int]) -> None:
        pooled = self._add("Flatten", [self._add("GlobalAveragePool", [x], "pool")], "flat")
        self._add("Gemm", [pooled, self._weight("fc", shape)], "fc", transB=1)

    def network(self, name: str, classes: int, loss: float) -> Network:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *self.shape])
        y = helper.make_tensor_value_info("fc", TensorProto.FLOAT, [1, classes])
        graph = helper.make_graph(self.nodes, name, [x], [y], self.weights)
        return Network(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), self.sample, loss)


def resnet8() -> Network:
    b = _Builder((3, 32, 32))
    x = b.relu(b.conv("x", "c1", (16, 3, 3, 3)))
    x = b.relu(b.sum(b.conv(b.relu(b.conv(x, "c2", (16, 16, 3, 3))), "c3", (16, 16, 3, 3)), x))
    y = b.conv(b.relu(b.conv(x, "c4", (32, 16, 3, 3), 2)), "c5", (32, 32, 3, 3))
    x = b.relu(b.sum(y, b.conv(x, "s6", (32, 16, 1, 1), 2)))
    y = b.conv(b.relu(b.conv(x, "c7", (64, 32, 3, 3), 2)), "c8", (64, 64, 3, 3))
    x = b.relu(b.sum(y, b.conv(x, "s9", (64, 32, 1, 1), 2)))
    b.classifier(x, (10, 64))
    return b.network("resnet8", 10, 3.2945344)


def dscnn() -> Network:
    b = _Builder((1, 49, 10))
    x = b.relu(b.conv("x", "c1", (64, 1, 10, 4), 2, (4, 1, 5, 1)))
    for i in range(1, 5):
        x = b.relu(b.conv(x, f"dw{i}", (64, 1, 3, 3), group=64))
        x = b.relu(b.conv(x, f"pw{i}", (64, 64, 1, 1)))
    b.classifier(x, (12, 64))
    return b.network("dscnn", 12, 3.1811687)
