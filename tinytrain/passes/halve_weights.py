# SPDX-License-Identifier: Apache-2.0
"""halve_weights: y = conv2d(x, w:f32)  ->  y = conv2d(x, w:f16)

On the forward graph, before anything is trained of it: what is trained then keeps its fp32 master, or rounds at random
(`ops/optimiser_half.py`); what is not lies in flash as halves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.types import F16, F32, Role, Value
from tinytrain.planner.updates import contents

HALF_MAX = float(np.finfo(np.float16).max)


def halve_weights(graph: Graph, fp32: Collection[str] = ()) -> Graph:
    """Needs nothing; a weight that fp16 has no range for, or some kernel cannot read as such, stays fp32; so do those of these nodes."""
    shown = contents(graph)                               # a view is the memory of another value
    stay = {shown[v] for v in (*graph.inputs, *graph.outputs, *unhalved(graph, fp32))}
    weights = {v for v in graph.stored(Role.CONST) if v.type.dtype is F32 and v.type.numel > 1 and v not in stay and not beyond(v)}
    stored = {v: halved(v) for v in graph.values() if shown[v] in weights}
    return restored(graph, stored)


def unhalved(graph: Graph, fp32: Collection[str] = ()) -> set[Value]:
    """What some node must read or write as fp32; that of masks, element by element of numbers that fp16 has no range for, is such too."""
    found: set[Value] = set()
    for node in graph.nodes:
        found.update((*node.inputs, *node.outputs) if node.origin in fp32 else fixed(node))
        found.update(node.outputs if any(beyond(v) for v in node.along) else ())
    return found


def fixed(node: Node) -> tuple[Value, ...]:
    """What no kernel of a node reads or writes as fp16, or nobody should; a view, which has no kernel, minds neither."""
    halves = node.half_operands if not node.op.view else frozenset(range(len(node.inputs)))
    if halves is None:
        return (*node.inputs, *node.outputs)
    return (*(v for i, v in enumerate(node.inputs) if i not in halves), *(v for v in node.outputs if v in node.wide))


def beyond(v: Value) -> float:
    """The largest magnitude of a stored value that fp16 has no range for, else 0."""
    largest = float(np.abs(v.data).max(initial=0.0)) if v.data is not None and v.type.dtype.is_float else 0.0
    return largest if largest > HALF_MAX else 0.0


def halved(v: Value) -> Value:
    """The same value stored as fp16."""
    data = v.data.astype(np.float16) if v.data is not None else None
    return dataclasses.replace(v, type=dataclasses.replace(v.type, dtype=F16), data=data)


def restored(graph: Graph, stored: dict[Value, Value]) -> Graph:
    """The graph with other values in place of these, where they are made too."""
    def get(values: tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(stored.get(v, v) for v in values)

    if not stored:
        return graph
    nodes = (dataclasses.replace(node, inputs=get(node.inputs), outputs=get(node.outputs)) for node in graph.nodes)
    return graph.replace(nodes=tuple(nodes))
