# SPDX-License-Identifier: Apache-2.0
"""drop_dead: y, unread = f(x); z = g(y), z unread  ->  y = f'(x)

Nodes that nobody reads go; of the rest, outputs that nobody reads go where the op can do without them.
"""

from __future__ import annotations

import dataclasses

from tinytrain.ir.graph import Graph, Node


def drop_dead_nodes(graph: Graph) -> Graph:
    """Needs nothing; ensures that every node has an output that is read or kept. All outputs stay: gradients may read them later."""
    return _dropped(graph, outputs=False)


def drop_dead(graph: Graph) -> Graph:
    """Needs every reader to be there, those of the backward pass too; ensures that whatever can be left out is read or kept."""
    return _dropped(graph, outputs=True)


def _dropped(graph: Graph, outputs: bool) -> Graph:
    alive = graph.kept()
    nodes: list[Node] = []
    for node in reversed(graph.nodes):
        unread = frozenset(i for i, v in enumerate(node.outputs) if v not in alive)
        if len(unread) == len(node.outputs):
            continue
        if outputs and unread and (smaller := node.op.without(unread)):
            kept = tuple(v for i, v in enumerate(node.outputs) if i not in unread)
            node = dataclasses.replace(node, op=smaller, outputs=kept)
        alive.update(node.inputs)
        nodes.append(node)
    nodes.reverse()
    same = len(nodes) == len(graph.nodes) and all(a is b for a, b in zip(nodes, graph.nodes, strict=True))
    return graph if same else graph.replace(nodes=tuple(nodes))
