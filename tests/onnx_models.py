# SPDX-License-Identifier: Apache-2.0
"""ONNX models for tests: small ones made here, and running any of them through the front end and the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tinytrain.frontend.onnx_import import Imported, import_model
from tinytrain.frontend.prepare import prepare
from tinytrain.ir.types import Array
from tinytrain.verify.reference import run


class ModelMaker:
    """Chains ONNX nodes: each call of `node` reads the last output first, then new initializers of the given shapes."""

    def __init__(self, *input_shape: int, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.input_shape = input_shape
        self.last = "x"

    def weight(self, *shape: int, low: float = -0.5, high: float = 0.5) -> str:
        name = f"w{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(self.rng.uniform(low, high, shape).astype(np.float32), name))
        return name

    def stored(self, array: Array) -> str:
        name = f"w{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op: str, *more: str, first: str | None = None, **attributes: Any) -> str:
        out = f"{op.lower()}_{len(self.nodes)}"
        inputs = [self.last if first is None else first, *more]
        self.nodes.append(helper.make_node(op, inputs, [out], name=f"n_{out}", **attributes))
        self.last = out
        return out

    def conv(self, filters: int, channels: int, size: int = 3, **attributes: Any) -> str:
        return self.node("Conv", self.weight(filters, channels, size, size), self.weight(filters), kernel_shape=[size, size], **attributes)

    def batch_norm(self, channels: int) -> str:
        gamma, beta, mean = self.weight(channels, low=0.5, high=1.5), self.weight(channels), self.weight(channels)
        return self.node("BatchNormalization", gamma, beta, mean, self.weight(channels, low=0.5, high=1.5))

    def dense(self, outputs: int, inputs: int) -> str:
        return self.node("Gemm", self.weight(outputs, inputs), self.weight(outputs), transB=1)

    def model(self, opset: int = 17) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(self.input_shape))
        y = helper.make_tensor_value_info(self.last, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "small", [x], [y], self.initializers)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        return onnx.shape_inference.infer_shapes(made)


def imported(model: onnx.ModelProto, folder: Path, **options: Any) -> Imported:
    """Through a file and the whole front end."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return import_model(prepare(path, **options))


def forward(model: Imported, x: Array, dtype: type[np.floating[Any]] = np.float32) -> Array:
    """Output of an imported model for an ONNX sample of batch 1, in the ONNX layout."""
    (y,) = run(model.graph, [to_ir(model, x)], dtype=dtype).outputs
    perm = model.output.perm
    moved = tuple(model.output.onnx_shape[1:][axis] for axis in perm)
    return y.reshape(moved).transpose(np.argsort(perm).astype(int)).reshape(model.output.onnx_shape)


def to_ir(model: Imported, x: Array) -> Array:
    return np.ascontiguousarray(x[0].transpose(model.input.perm)).reshape(model.graph.inputs[0].shape)
