# SPDX-License-Identifier: Apache-2.0
"""halve_weights: y = conv2d(x, w:f32)  ->  y = conv2d(x, w:f16)

On the forward graph, before anything is trained of it: what is trained then keeps its fp32 master, or rounds at random
(`ops/optimiser_half.py`); what is not lies in flash as halves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from tinytrain.ir.graph import Graph
from tinytrain.ir.types import F16, F32, Role, Value
from tinytrain.planner.updates import contents


def halve_weights(graph: Graph, fp32: Collection[str] = ()) -> Graph:
    """Needs nothing; a weight that some kernel cannot read as fp16 stays fp32, and so do those of the nodes of these names."""
    shown = contents(graph)                               # a view is the memory of another value
    fixed = {shown[v] for v in (*graph.inputs, *graph.outputs, *unhalved(graph, fp32))}
    weights = {v for v in graph.stored(Role.CONST) if v.type.dtype is F32 and v.type.numel > 1 and v not in fixed}
    stored = {v: halved(v) for v in graph.values() if shown[v] in weights}
    return restored(graph, stored)


def unhalved(graph: Graph, fp32: Collection[str] = ()) -> set[Value]:
    """What some node must read or write as fp32."""
    found = set[Value]()
    for node in graph.nodes:
        if node.op.view:
            continue
        halves = node.half_operands if node.origin not in fp32 else None
        found.update(v for i, v in enumerate(node.inputs) if halves is None or i not in halves)
        found.update(node.outputs if halves is None else ())
    return found


def halved(v: Value) -> Value:
    """The same value stored as fp16."""
    with np.errstate(over="ignore"):                      # found by check_numbers
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
