# SPDX-License-Identifier: Apache-2.0
"""A network layer by layer: nodes behind each other, and weights drawn from one seeded generator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tinytrain.ir.types import Array

OPSET = 20                                                # the first with Gelu


class Net:
    """`at` is the tensor that the next layer reads, `shape` its shape without the batch; each layer returns its output's name."""

    def __init__(self, name: str, *shape: int, seed: int = 0) -> None:
        self.name, self.given, self.at = name, shape, "x"
        self.shape: tuple[int, ...] = shape
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []

    def node(self, op: str, *more: str, of: str | None = None, shape: tuple[int, ...] | None = None, **attributes: Any) -> str:
        """A node that reads `of`, by default the last output, and `more`; `shape` is that of its output where it is another one."""
        output = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, [self.at if of is None else of, *more], [output], output, **attributes))
        self.at, self.shape = output, self.shape if shape is None else shape
        return output

    def store(self, array: Array) -> str:
        name = f"w{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape: int, fan_in: int | None = None) -> str:
        """Drawn with the variance 2 / fan-in (He et al., arXiv 1502.01852)."""
        deviation = math.sqrt(2 / (fan_in or math.prod(shape[1:])))
        return self.store((deviation * self.rng.standard_normal(shape)).astype(np.float32))

    def zeros(self, count: int) -> str:
        return self.store(np.zeros(count, np.float32))

    def ones(self, count: int) -> str:
        return self.store(np.ones(count, np.float32))

    def number(self, value: float) -> str:
        return self.store(np.array(value, np.float32))

    def integers(self, *numbers: int) -> str:
        return self.store(np.array(numbers, np.int64))

    def conv(self, channels: int, kernel: tuple[int, ...] = (3, 3), stride: int = 1, group: int = 1, norm: bool = True) -> str:
        """As large as the input divided by the stride; with a batch norm, or a bias, behind it."""
        c, *space = self.shape
        made = tuple(-(-size // stride) for size in space)
        totals = [max((m - 1) * stride + k - size, 0) for m, k, size in zip(made, kernel, space, strict=True)]
        pads = [*(t // 2 for t in totals), *(t - t // 2 for t in totals)]
        operands = [self.weight(channels, c // group, *kernel), *([] if norm else [self.zeros(channels)])]
        self.node("Conv", *operands, shape=(channels, *made), kernel_shape=kernel, strides=[stride] * len(kernel), pads=pads, group=group)
        return self.norm() if norm else self.at

    def norm(self) -> str:
        c = self.shape[0]
        return self.node("BatchNormalization", self.ones(c), self.zeros(c), self.zeros(c), self.ones(c))

    def relu6(self) -> str:
        return self.node("Clip", self.number(0), self.number(6))

    def pooled(self) -> str:
        """The mean over space, as a row."""
        c = self.shape[0]
        self.node("GlobalAveragePool", shape=(c, *(1 for _ in self.shape[1:])))
        return self.node("Flatten", shape=(c,))

    def dense(self, outputs: int) -> str:
        return self.node("Gemm", self.weight(outputs, self.shape[-1]), self.zeros(outputs), shape=(outputs,), transB=1)

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes, self.name, [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, *self.given))],
            [helper.make_tensor_value_info(self.at, TensorProto.FLOAT, (1, *self.shape))], self.stored,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        onnx.checker.check_model(made, full_check=True)
        return made
