# SPDX-License-Identifier: Apache-2.0
"""sink_views: u = reshape(t); z = relu_grad(u, y)  ->  z' = relu_grad(t, reshape'(y)); z = reshape(z')

A view between a kernel and an elementwise op keeps the two from being fused; behind both it costs nothing either.
"""

from __future__ import annotations

import dataclasses

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.op import Elementwise
from tinytrain.ir.types import Value
from tinytrain.ops.shape import Reshape


def sink_views(graph: Graph) -> Graph:
    """Needs nothing; ensures that no same-shaped elementwise op reads a reshape that nobody else reads."""
    readers = {v: len(nodes) for v, nodes in graph.readers().items()}
    kept = graph.kept()
    made: dict[Value, Node] = {}
    g = Builder(graph.name, graph.values())
    for node in graph.nodes:
        view = made.get(node.inputs[0]) if node.inputs else None
        sinks = (
            view is not None and isinstance(view.op, Reshape) and view in g.nodes
            and readers[node.inputs[0]] == node.inputs.count(node.inputs[0]) == 1 and node.inputs[0] not in kept
            and _same_shaped(node) and _fits(node, view.inputs[0])
        )
        if view is not None and sinks:
            g.nodes.remove(view)
            node = _swapped(g, view, node)
        else:
            g.nodes.append(node)
        made.update(dict.fromkeys(node.outputs, node))
    same = len(g.nodes) == len(graph.nodes) and all(a is b for a, b in zip(g.nodes, graph.nodes, strict=True))
    return graph if same else graph.replace(nodes=tuple(g.nodes))


def _same_shaped(node: Node) -> bool:
    """One output, and each operand like it or a single element: the shape then only counts elements."""
    shape = node.inputs[0].shape
    return isinstance(node.op, Elementwise) and len(node.outputs) == 1 and all(v.shape == shape or v.type.numel == 1 for v in node.inputs)


def _fits(node: Node, before: Value) -> bool:
    """Whether the op takes its operands in the shape before the view: a single element there need not be one per channel any more."""
    kinds = [v.type if v.type.numel == 1 else dataclasses.replace(v.type, shape=before.shape) for v in node.inputs[1:]]
    try:
        node.op.infer(before.type, *kinds)
    except ValueError:
        return False
    return True


def _swapped(g: Builder, view: Node, node: Node) -> Node:
    """Emit the elementwise op in the shape before the view, then the view; returns the latter."""
    before = view.inputs[0]
    g.origin = node.origin
    others = [v if v.type.numel == 1 else g.emit(Reshape(before.shape), v, name=f"{v.name}_r") for v in node.inputs[1:]]
    flowing = g.emit(node.op, before, *others, name=node.outputs[0].name)
    after = dataclasses.replace(view, inputs=(flowing,), outputs=node.outputs, origin=node.origin)
    g.nodes.append(after)
    return after
