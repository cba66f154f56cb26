# SPDX-License-Identifier: Apache-2.0
"""Invariants of a graph, checked after each pass. A failure is a bug of the compiler, hence asserts with both values."""

from __future__ import annotations

from tinytrain.ir.graph import Graph
from tinytrain.ir.types import Role


def verify(graph: Graph, after: str = "") -> Graph:
    """Return the graph if it is sound: each value defined once and before it is read, types as the ops infer them."""
    where = f"{graph.name} after {after}" if after else graph.name
    defined = set(graph.inputs)
    names: dict[str, object] = {}
    for value in graph.values():
        assert names.setdefault(value.name, value) is value, f"{where}: two values are called {value.name}"
        if value.role in (Role.CONST, Role.PARAM, Role.STATE):
            assert value.data is not None, f"{where}: {value!r} is stored but has no data"
            assert value.data.shape == value.shape, f"{where}: {value!r} holds data of shape {value.data.shape}"
            assert value.data.dtype == value.type.dtype.np, f"{where}: {value!r} holds {value.data.dtype}"
            defined.add(value)
        else:
            assert value.role is not Role.INPUT or value in defined, f"{where}: {value!r} is no input of the graph"
    for position, node in enumerate(graph.nodes):
        at = f"{where}: node {position} {node.op.name} ({node.origin})"
        for value in node.inputs:
            assert value in defined, f"{at} reads {value!r} before it is written"
        kinds = node.op.infer(*node.kinds)
        assert tuple(v.type.computed for v in node.outputs) == kinds, f"{at} gives {kinds}, its outputs are {node.outputs}"
        seen = {v.type.dtype.np.itemsize for v in (*node.inputs[:1], *node.outputs)} if node.op.view else ()
        assert len(seen) < 2, f"{at} shows {node.inputs[0]!r} as {node.outputs}"
        for value in node.outputs:
            assert value not in defined, f"{at} writes {value!r} a second time"
            assert value.role is Role.TEMP, f"{at} writes {value!r}, which is {value.role}"
            defined.add(value)
    for value in graph.outputs:
        assert value in defined, f"{where}: output {value!r} is never written"
    for old, new in graph.updates.items():
        assert old.role in (Role.PARAM, Role.STATE), f"{where}: update of {old!r}, which is {old.role}"
        assert old.type == new.type, f"{where}: update of {old!r} by {new!r}"
        assert new in defined, f"{where}: update {new!r} is never written"
    homes = graph.homes()
    assert graph.lent.keys() == set(homes.values()), f"{where}: lent are {list(graph.lent)}, changed where they stand {homes}"
    for old, back in graph.lent.items():
        assert old.role is Role.PARAM and homes.get(back) is old, f"{where}: {old!r} is lent, {back!r} given back"
    return graph
