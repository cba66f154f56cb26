# SPDX-License-Identifier: Apache-2.0
"""Where a model started, beside what it has become: its first weights, which lie in flash anyway, and what it said by them.

    x → frozen → trained → y   becomes   x → frozen → trained, by its first weights → y of the start
                                                    → trained → y

What no update changes runs once for both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.types import Role, Value


def starts_of(forward: Graph) -> dict[Value, Value]:
    """Of each PARAM a constant that is its first value; both have the same array, so that flash holds it once (`Program.firsts`)."""
    names = Builder(forward.name, forward.values())
    return {
        v: dataclasses.replace(v, name=names.unique(f"{v.name}_start"), role=Role.CONST, source=None)
        for v in forward.stored(Role.PARAM, Role.STATE)
    }


def with_start(forward: Graph, plain: Graph, starts: Mapping[Value, Value]) -> tuple[Graph, Graph]:
    """(the forward graph behind the pass of the start, that pass): `plain` is the graph without what only training has."""
    g = Builder(forward.name, (*forward.values(), *starts.values()))
    made: dict[Value, Value] = dict(starts)
    shared, others, mine = set[Node](), set(forward.nodes), plain.needed(plain.outputs)
    for node in plain.nodes:
        if node not in mine:
            continue
        if node in others and made.keys().isdisjoint(node.inputs):
            shared.add(node)
        else:
            g.origin = node.origin
            outputs = g.emit_all(node.op, *(made.get(v, v) for v in node.inputs), name=f"{node.outputs[0].name}_start")
            made.update(zip(node.outputs, outputs, strict=True))
    first = tuple(node for node in forward.nodes if node in shared)
    rest = tuple(node for node in forward.nodes if node not in shared)
    start = plain.replace(nodes=(*first, *g.nodes), outputs=tuple(made.get(v, v) for v in plain.outputs), updates={})
    return forward.replace(nodes=(*start.nodes, *rest)), start
