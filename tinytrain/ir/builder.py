# SPDX-License-Identifier: Apache-2.0
"""Builds a graph node by node; used by the importer, by autodiff and by tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.op import Op
from tinytrain.ir.types import F32, Array, DType, Quant, Role, Source, TensorType, Value


def identifier(name: str) -> str:
    """A valid C identifier close to `name`; a letter comes first."""
    clean = "".join(ch if ch.isalnum() and ch.isascii() else "_" for ch in name).strip("_") or "v"
    return clean if clean[0].isalpha() else f"v{clean}"


class Builder:
    """Collects nodes; gives every value a name that is unique in the graph and valid in C.

    `origin` is stamped on each node emitted; set it before emitting what stems from another ONNX node. `now` has what stands in each lent
    PARAM (`Graph.lent`): nodes that read that PARAM read this.
    """

    def __init__(self, name: str, taken: Iterable[Value] = (), nodes: Iterable[Node] = ()) -> None:
        self.name = name
        self.origin = ""
        self.nodes: list[Node] = list(nodes)
        self.inputs: list[Value] = []
        self.now: dict[Value, Value] = {}
        self._names = {v.name for v in taken}

    def unique(self, name: str) -> str:
        """A valid C identifier close to `name` that no value has yet."""
        clean = identifier(name)
        candidate, count = clean, 1
        while candidate in self._names:
            count += 1
            candidate = f"{clean}_{count}"
        self._names.add(candidate)
        return candidate

    def value(self, name: str, kind: TensorType, role: Role = Role.TEMP, data: Array | None = None, source: Source | None = None) -> Value:
        return Value(self.unique(name), kind, role, data, source)

    def input(self, name: str, shape: tuple[int, ...], dtype: DType = F32, quant: Quant | None = None) -> Value:
        v = self.value(name, TensorType(shape, dtype, quant), Role.INPUT)
        self.inputs.append(v)
        return v

    def const(self, name: str, data: Array, role: Role = Role.CONST, source: Source | None = None) -> Value:
        """A stored tensor; its type is that of the array."""
        dtype = next(d for d in DType if d.np == data.dtype)
        return self.value(name, TensorType(tuple(data.shape), dtype), role, np.ascontiguousarray(data), source)

    def emit_all(self, op: Op, *inputs: Value, name: str | None = None, like: Value | None = None) -> tuple[Value, ...]:
        """Append a node; returns all its outputs, the first stored as `like` is. Raises ValueError where the types do not fit the op."""
        inputs = tuple(self.now.get(v, v) for v in inputs)
        first, *others = op.infer(*(v.type.computed for v in inputs))
        stored = first if like is None else dataclasses.replace(first, dtype=like.type.dtype)
        outputs = tuple(self.value(name or op.name, kind) for kind in (stored, *others))
        self.nodes.append(Node(op, inputs, outputs, self.origin))
        if op.lends:
            self.now[self._home(inputs[0])] = outputs[0]
        return outputs

    def _home(self, value: Value) -> Value:
        """The lent PARAM in which a value stands."""
        return next((param for param, now in self.now.items() if now is value), value)

    def emit(self, op: Op, *inputs: Value, name: str | None = None) -> Value:
        """Append a node; returns its first output."""
        return self.emit_all(op, *inputs, name=name)[0]

    def graph(self, outputs: Iterable[Value], updates: dict[Value, Value] | None = None) -> Graph:
        return Graph(self.name, tuple(self.inputs), tuple(outputs), tuple(self.nodes), updates or {}, lent=dict(self.now))
