# SPDX-License-Identifier: Apache-2.0
"""save_slices: y = relu(t); …; loss; …; part = slice(y); dw = conv2d_grad_w(dy, part)  ->  y = relu(t); part = slice(y); …; loss; …

The gradient of a slice of a weight needs some channels of its input: they alone are saved while the loss is being computed.
"""

from __future__ import annotations

from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.types import Value
from tinytrain.ops.activation import OutputGrad
from tinytrain.ops.shape import Slice
from tinytrain.passes.pack_masks import memory_readers, turning_point


def save_slices(graph: Graph) -> Graph:
    """Needs the loss in the graph; runs before pack_masks. Ensures that a map of which slices (and its sign) are read late is not saved."""
    turn = turning_point(graph)
    if turn is None:
        return graph
    readers, kept = graph.readers(), graph.kept()
    position = {id(n): i for i, n in enumerate(graph.nodes)}
    early: dict[Value, list[Node]] = {}                   # what slices read -> those to make as soon as it is there
    for node in graph.nodes[:turn]:
        for y in (v for v in node.outputs if not node.op.view and v not in kept):
            late = [n for n in memory_readers(y, readers) if position[id(n)] > turn]
            slices = [n for n in late if isinstance(n.op, Slice)]
            masks = [n for n in late if isinstance(n.op, OutputGrad) and n.op.as_mask()]
            bits = y.type.numel // 8 if masks else 0
            if len(slices) + len(masks) < len(late) or len(masks) > 1 or not slices:
                continue
            if bits + sum(n.outputs[0].type.nbytes for n in slices) < y.type.nbytes:
                for n in slices:
                    early.setdefault(n.inputs[0], []).append(n)
    made_early = {v for node in graph.nodes[:turn] for v in node.outputs}
    moved = {id(n) for v, nodes in early.items() if v in made_early for n in nodes}
    if not moved:
        return graph
    nodes: list[Node] = []
    for node in graph.nodes:
        if id(node) not in moved:
            nodes.append(node)
        nodes += [n for v in node.outputs for n in early.get(v, ()) if id(n) in moved]
    return graph.replace(nodes=tuple(nodes))
