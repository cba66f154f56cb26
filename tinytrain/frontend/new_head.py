# SPDX-License-Identifier: Apache-2.0
"""A new classifier in place of the old one, for data of other classes; on the ONNX model, before it is imported.

… → Gemm, MatMul or Conv 1×1 (+ Add) → what keeps classes apart: Reshape, Softmax, QuantizeLinear, … → output

Weights are drawn from N(0, (σ/4)²), σ the deviation of the old ones; biases are 0. With all of σ there is a wrong opinion to be unlearned
first, which costs a frozen model accuracy; zeros would let no gradient through to the layers below.
int8: weights have the median of the old scales, biases the scale that goes with it, and the output keeps its own: what the old
weights and scores needed, the new ones will need once they are trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.ir.types import Array
from tinytrain.onnx_graph import FOUR_BITS, LAYERS, OnnxGraph, stored_tensor

if TYPE_CHECKING:
    import onnx

KEEPS_CLASSES = (
    "Add", "QuantizeLinear", "DequantizeLinear", "Softmax", "LogSoftmax", "Sigmoid", "Relu", "Clip", "Flatten", "Reshape", "Squeeze",
    "Unsqueeze", "Transpose", "Identity", "Dropout", "GlobalAveragePool", "AveragePool",
)


@dataclass(frozen=True)
class NewHead:
    """How many classes, and the seed of their weights."""

    classes: int
    seed: int = 0


def replace_head(model: onnx.ModelProto, path: Path, head: NewHead) -> None:
    """In place; shapes must be inferred anew. The layer and what is stored keep their names. Raises ModelError where there is no head."""
    _Replacement(model.graph, path, head).run()


class _Replacement(OnnxGraph):
    def __init__(self, graph: onnx.GraphProto, path: Path, head: NewHead) -> None:
        super().__init__(graph)
        self.path = path
        self.head = head

    def run(self) -> None:
        *behind, layer = self._way_back()
        old, axis = self.reals(layer.input[1]), self._axis(layer)
        classes, count = self.head.classes, old.shape[axis]
        outputs = math.prod(d.dim_value for d in self.proto.output[0].type.tensor_type.shape.dim)
        if outputs != count:
            raise self._no_head(f"{layer.name} ({layer.op_type}) makes {count} channels of its {outputs} values")
        sizes = [classes if a == axis else size for a, size in enumerate(old.shape)]
        self._store(layer, 1, np.random.default_rng(self.head.seed).normal(0, old.std() / 4, sizes), count)
        biases = [(layer, 2)] if len(layer.input) > 2 and layer.input[2] else []
        biases += [(node, at) for node in behind if node.op_type == "Add" for at in (0, 1) if self.is_stored(node.input[at])]
        for node, at in biases:
            sizes = [classes if size == count else size for size in self.reals(node.input[at]).shape]
            self._store(node, at, np.zeros(sizes), count)
        for node in behind:
            if node.op_type == "Reshape":
                to = self.arrays[node.input[1]]
                self._put(node, 1, np.where(to == count, classes, to))

    def _way_back(self) -> Iterator[onnx.NodeProto]:
        """Nodes from the output to the layer, which comes last."""
        name = self.proto.output[0].name
        while True:
            node = self.makers.get(name)
            if node is None or self.readers[name] > 1:
                raise self._no_head(f"{name} is {'an input' if node is None else 'read twice'}")
            yield node
            if node.op_type in LAYERS and self.is_stored(node.input[1]):
                return
            computed = [operand for operand in node.input if not self.is_stored(operand)]
            if node.op_type not in KEEPS_CLASSES or len(computed) != 1:
                raise self._no_head(f"there is {node.name} ({node.op_type})")
            name = computed[0]

    def _axis(self, layer: onnx.NodeProto) -> int:
        """That of the classes in the weight."""
        shape, given = self.reals(layer.input[1]).shape, {a.name: a.i for a in layer.attribute}
        if layer.op_type == "Conv" and (given.get("group", 1) != 1 or any(size != 1 for size in shape[2:])):
            raise self._no_head(f"{layer.name} is a Conv with a weight of shape {shape} in {given.get('group', 1)} groups")
        return 0 if layer.op_type == "Conv" or given.get("transB") else len(shape) - 1

    def _no_head(self, found: str) -> ModelError:
        return ModelError(
            f"{self.path} has no classifier to replace: on the way back from its output {self.proto.output[0].name}, {found}; "
            "expected a Gemm, MatMul or 1x1 Conv with stored weights of its own, and behind it only what keeps classes apart.",
            hint="Leave out --new-head, or export the model with such a last layer.",
        )

    def _store(self, node: onnx.NodeProto, index: int, reals: Array, count: int) -> None:
        """Reals in place of an operand: as they are, or as integers where integers were; `count` scales become as many as classes."""
        name = node.input[index]
        maker = self.makers.get(name)
        if self.readers[name] > 1 or (maker is not None and self.readers[maker.input[0]] > 1):
            raise self._no_head(f"{node.name} ({node.op_type}) shares {name} with another layer")
        if maker is None:
            self._put(node, index, reals.astype(np.float32))
            return
        stored, scale, zero = self.integers(maker)
        step, middle, limits = np.median(scale), int(np.median(zero)), np.iinfo(stored.dtype)
        low, high = FOUR_BITS.get(self._tensor(maker.input[0]).data_type, (limits.min, limits.max))
        many = (self.head.classes,) if scale.size == count > 1 else scale.shape
        self._put(maker, 0, np.clip(np.rint(reals / step) + middle, low, high).astype(stored.dtype))
        self._put(maker, 1, np.full(many, step, scale.dtype))
        if len(maker.input) > 2:
            self._put(maker, 2, np.full(many, middle, zero.dtype))

    def _put(self, node: onnx.NodeProto, index: int, array: Array) -> None:
        """Another array in place of a stored one, of its bits, under its name unless others read that."""
        name = node.input[index]
        old = self._tensor(name)
        if self.readers[name] == 1:
            old.CopyFrom(stored_tensor(name, array, old.data_type))
            return
        self.readers[name] -= 1
        while name in self.readers:
            name += "_head"
        self.readers[name] = 1
        self.proto.initializer.append(stored_tensor(name, array, old.data_type))
        node.input[index] = name

    def _tensor(self, name: str) -> onnx.TensorProto:
        found: onnx.TensorProto = next(tensor for tensor in self.proto.initializer if tensor.name == name)
        return found
