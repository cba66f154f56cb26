# SPDX-License-Identifier: Apache-2.0
"""An ONNX graph that is changed before it is imported: who makes and reads what, and what is stored, as the reals that it stands for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytrain.ir.types import Array

if TYPE_CHECKING:
    import onnx

LAYERS = ("Gemm", "MatMul", "Conv")
FOUR_BITS = {22: (-8, 7), 21: (0, 15)}                    # bounds of INT4 and UINT4, by ONNX's numbers of these types
SCORES = ("Softmax", "LogSoftmax", "Sigmoid")             # what a loss reads the operand of


def stored_array(tensor: onnx.TensorProto) -> Array:
    """What a tensor stores; integers of four bits as int8 or uint8, as which NumPy can count with them."""
    from onnx import numpy_helper

    array = numpy_helper.to_array(tensor)
    return array.astype(np.int8 if FOUR_BITS[tensor.data_type][0] else np.uint8) if tensor.data_type in FOUR_BITS else array


def stored_tensor(name: str, array: Array, kind: int = 0) -> onnx.TensorProto:
    """The tensor of an array, of an element type that holds its numbers; by default that of the array."""
    from onnx import helper, numpy_helper

    if kind in FOUR_BITS:
        return helper.make_tensor(name, kind, array.shape, array.reshape(-1).astype(int).tolist())
    return numpy_helper.from_array(np.ascontiguousarray(array), name)


class OnnxGraph:
    """In place. Shapes must be known where they are asked for, and inferred anew behind a change."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.proto = graph
        self.arrays: dict[str, Array] = {t.name: stored_array(t) for t in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, int] = {o.name: 1 for o in graph.output}
        for name in (name for node in graph.node for name in node.input):
            self.readers[name] = self.readers.get(name, 0) + 1

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        values = (*self.proto.value_info, *self.proto.input, *self.proto.output)
        return {value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in values}

    @cached_property
    def taken(self) -> set[str]:
        """Names of nodes and of values."""
        inputs = (value.name for value in self.proto.input)
        return {*inputs, *self.arrays, *self.makers, *self.readers, *(node.name for node in self.proto.node)}

    def readers_of(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a value now."""
        return [node for node in self.proto.node if name in node.input]

    def is_output(self, name: str) -> bool:
        return any(o.name == name for o in self.proto.output)

    def is_stored(self, name: str) -> bool:
        maker = self.makers.get(name)
        return not name or name in self.arrays or (
            maker is not None and maker.op_type == "DequantizeLinear" and maker.input[0] in self.arrays
        )

    def reals(self, name: str) -> Array:
        """What is stored, as the reals that it stands for."""
        if name in self.arrays:
            return self.arrays[name]
        stored, scale, zero = self.integers(self.makers[name])
        axis = next((a.i for a in self.makers[name].attribute if a.name == "axis"), 1)
        along = tuple(-1 if a == axis % stored.ndim else 1 for a in range(stored.ndim)) if scale.size > 1 else ()
        return np.asarray((stored.astype(np.float64) - zero.astype(np.float64).reshape(along)) * scale.reshape(along))

    def integers(self, node: onnx.NodeProto) -> tuple[Array, Array, Array]:
        """What a DequantizeLinear reads: integers, scale, zero point."""
        stored, scale = (self.arrays[name] for name in node.input[:2])
        return stored, scale, self.arrays[node.input[2]] if len(node.input) > 2 else np.zeros_like(scale, stored.dtype)

    def unique(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def store(self, name: str, array: Array) -> str:
        """A further initializer; its name."""
        name = self.unique(name)
        self.arrays[name] = array
        self.proto.initializer.append(stored_tensor(name, array))
        return name


class Chain:
    """Nodes that are to stand in a graph one behind the other, each reading what the one before has made."""

    def __init__(self, graph: OnnxGraph, start: str) -> None:
        self.graph = graph
        self.end = start
        self.nodes: list[onnx.NodeProto] = []

    def then(self, op: str, name: str, *operands: str, **attributes: Any) -> Chain:
        """One more node, which reads the end of the chain and these operands."""
        from onnx import helper

        output = self.graph.unique(f"{name}_out")
        self.nodes.append(helper.make_node(op, [self.end, *operands], [output], name=self.graph.unique(name), **attributes))
        self.end = output
        return self
