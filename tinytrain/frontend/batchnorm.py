# SPDX-License-Identifier: Apache-2.0
"""fold_batchnorm: y = γ·(W·x + b − μ)/√(σ² + ε) + β  becomes  (s·W)·x + (s·(b − μ) + β),  s = γ/√(σ² + ε) per output channel.

On the ONNX model, so that each trained tensor stays one initializer of the model that is exported later. The rules of
onnxscript are not used: they drop the names of nodes, and know no MatMul + Add.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinytrain.ir.op import Declined, no
from tinytrain.ir.types import Array

if TYPE_CHECKING:
    import onnx


def settle_batchnorms(graph: onnx.GraphProto) -> list[str]:
    """Take those in training mode whose new statistics nobody reads as what they are when the device infers, in place; notes on them."""
    read = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    notes = []
    for node in graph.node:
        mode = next((a for a in node.attribute if a.name == "training_mode" and a.i), None)
        if node.op_type == "BatchNormalization" and mode and not read.intersection(node.output[1:]):
            node.attribute.remove(mode)
            del node.output[1:]
            notes.append(f"{node.name} (BatchNormalization) is in training mode; its statistics follow only with --running-statistics")
    return notes


@dataclass(frozen=True)
class Folded:
    """Names: the `linear` node whose tensors have taken the batch norm's scale, offset, mean and variance in: `weight`, with its axis of
    output channels, and `bias`, which was `before` ("" for none).
    """

    linear: str
    weight: str
    axis: int
    bias: str
    before: str
    norm: tuple[str, str, str, str]
    epsilon: float


def fold_batchnorms(model: onnx.ModelProto) -> dict[str, Folded | Declined]:
    """Fold each BatchNormalization behind Conv, Gemm, MatMul or MatMul + Add into its weights, in place; what became of each, by name."""
    folding = _Folding(model.graph)
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    found = {node.name: folding.fold(node) for node in norms}
    folding.clean()
    return found


@dataclass(frozen=True)
class _Match:
    """A linear node whose output a batch norm scales, the Add of its bias if that is apart, names of weight and bias ("" without one), and
    the axis of the output channel in the weight."""

    linear: onnx.NodeProto
    add: onnx.NodeProto | None
    weight: str
    bias: str
    axis: int


class _Folding:
    """The graph with its indices; a batch norm that does not match any pattern is left alone."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.tensors = {t.name: t for t in graph.initializer}
        self.producer = {name: node for node in graph.node for name in node.output}
        self.uses = Counter(name for node in graph.node for name in node.input)
        self.uses.update(o.name for o in graph.output)
        self.rank = {v.name: len(v.type.tensor_type.shape.dim) for v in graph.value_info if v.type.tensor_type.HasField("shape")}
        self.taken = set(self.tensors) | set(self.producer) | set(self.uses)

    def array(self, name: str) -> Array:
        from onnx import numpy_helper

        return numpy_helper.to_array(self.tensors[name])

    def store(self, name: str, array: Array) -> None:
        from onnx import numpy_helper

        # what overflows here is found by check_finite, with the name of the tensor
        with np.errstate(over="ignore"):
            tensor = numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float32), name)
        if name in self.tensors:
            self.tensors[name].CopyFrom(tensor)
        else:
            self.graph.initializer.append(tensor)
            self.tensors[name] = self.graph.initializer[-1]

    def fold(self, norm: onnx.NodeProto) -> Folded | Declined:
        attributes = {a.name: a for a in norm.attribute}
        if "training_mode" in attributes and attributes["training_mode"].i:
            return no("it is in training mode, and its new statistics are read")
        if not all(name in self.tensors for name in norm.input[1:]):
            return no("its parameters are computed")
        found = self._match(norm.input[0])
        if isinstance(found, Declined):
            return found
        linear, add, weight, bias = found.linear, found.add, found.weight, found.bias
        epsilon = attributes["epsilon"].f if "epsilon" in attributes else 1e-5
        gamma, beta, mean, var = (self.array(name).astype(np.float64) for name in norm.input[1:])
        if not ((var + epsilon > 0).all() and np.isfinite(epsilon)):
            return no("its variance is not above 0")      # the importer says what is wrong with it
        scale = gamma / np.sqrt(var + epsilon)
        w = self.array(weight).astype(np.float64)
        along = [1] * w.ndim
        along[found.axis] = -1
        b = self.array(bias).astype(np.float64).reshape(-1) if bias else np.zeros_like(mean)
        self.store(weight, w * scale.reshape(along))
        folded, name = (b - mean) * scale + beta, bias
        if bias:
            old = self.array(bias)
            self.store(bias, folded.reshape(old.shape) if old.size == folded.size else folded)
            (add or linear).output[0] = norm.output[0]
        else:
            name = self._add_bias(linear, norm, folded)
        self.graph.node.remove(norm)
        scale_, offset, mean_, variance = norm.input[1:5]
        return Folded(linear.name, weight, found.axis, name, bias, (scale_, offset, mean_, variance), epsilon)

    def _add_bias(self, linear: onnx.NodeProto, norm: onnx.NodeProto, bias: Array) -> str:
        """Conv and Gemm get their third input; a MatMul gets an Add that takes the place of the batch norm. Its name."""
        from onnx import helper

        name = f"{linear.name}_bias"
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        self.store(name, bias)
        if linear.op_type == "MatMul":
            index = list(self.graph.node).index(norm)
            self.graph.node.insert(index, helper.make_node("Add", [linear.output[0], name], [norm.output[0]], name=norm.name))
        else:
            del linear.input[2:]
            linear.input.append(name)
            linear.output[0] = norm.output[0]
        return name

    def _match(self, value: str) -> _Match | Declined:
        node, add, bias = self.producer.get(value), None, ""
        if node is None:
            return no("it scales an input of the model")
        if self.uses[value] != 1:
            return no(f"what {node.name} ({node.op_type}) gives has other readers too")
        if node.op_type == "Add":
            sides = [name for name in node.input if name not in self.tensors]
            if len(sides) != 1:
                return no(f"{node.name} (Add) adds no stored bias")
            add, bias = node, next(name for name in node.input if name in self.tensors)
            node = self.producer.get(sides[0])
            if node is None or node.op_type != "MatMul" or self.uses[sides[0]] != 1:
                return no(f"{add.name} (Add) adds a bias to no MatMul of its own")
        if node.op_type not in ("Conv", "Gemm", "MatMul") or len(node.input) < 2:
            return no(f"{node.name} ({node.op_type}), before it, has no weights to fold it into")
        attributes = {a.name: a for a in node.attribute}
        if any(attributes[key].f != 1 for key in ("alpha", "beta") if key in attributes):
            return no(f"{node.name} scales its operands")
        weight = node.input[1]
        bias = bias or (node.input[2] if len(node.input) > 2 else "")
        # an initializer with a second reader must keep its value
        if not all(name in self.tensors and self.uses[name] == 1 for name in (weight, *([bias] if bias else []))):
            return no(f"weight or bias of {node.name} is computed, or has a second reader")
        dims = tuple(self.tensors[weight].dims)
        if node.op_type == "MatMul":
            axis = 1
        elif node.op_type == "Gemm":
            axis = 0 if "transB" in attributes and attributes["transB"].i else 1
        else:
            axis = 0
        # the channels of a batch norm are on axis 1, those of a MatMul on the last one: the same only for two axes
        if node.op_type != "Conv" and (len(dims) != 2 or self.rank.get(value, 2 if node.op_type == "Gemm" else 0) != 2):
            return no(f"its channels are not the last axis of {node.name}")
        if bias and int(np.prod(self.tensors[bias].dims)) != dims[axis]:
            return no(f"{bias} is not one bias a channel")
        return _Match(node, add, weight, bias, axis)

    def clean(self) -> None:
        """Drop the initializers that only folded batch norms read."""
        read = {name for node in self.graph.node for name in node.input} | {o.name for o in self.graph.output}
        for tensor in [t for t in self.graph.initializer if t.name not in read]:
            self.graph.initializer.remove(tensor)
