# SPDX-License-Identifier: Apache-2.0
"""fuse_epilogues: t = conv2d(x, w); u = add(t, b); y = relu(u)  ->  y = conv2d(then=[add, relu])(x, w, b)

The same rule makes `dw = dense_grad_w(dy, x); w' = sgd(dw, w, lr)` one kernel: the gradient then lives in registers only.
"""

from __future__ import annotations

import dataclasses

from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.op import Elementwise, Fusable
from tinytrain.ir.types import Value


def fuse_epilogues(graph: Graph) -> Graph:
    """Needs nothing; ensures that no elementwise op follows a fusable one whose result nobody else reads."""
    readers = {v: len(nodes) for v, nodes in graph.readers().items()}
    kept = graph.kept()
    made: dict[Value, Node] = {}                          # output -> the node that makes it, insertion order = execution order
    for node in graph.nodes:
        fused = _fused(node, made, readers, kept)
        made.update(dict.fromkeys((fused or node).outputs, fused or node))
    nodes = tuple(dict.fromkeys(made.values()))
    return graph if len(nodes) == len(graph.nodes) else graph.replace(nodes=nodes)


def _fused(node: Node, made: dict[Value, Node], readers: dict[Value, int], kept: set[Value]) -> Node | None:
    """The producer of an operand with this node in its epilogue, taken out of `made`; None where that is not possible."""
    if not isinstance(node.op, Elementwise):
        return None
    # the later producer first: what it fuses with then runs right where it stands
    for operand in (1, 0) if _swappable(node) else (0,):
        flowing = node.inputs[operand]
        producer = made.get(flowing)
        if producer is None or not isinstance(producer.op, Fusable) or flowing is not producer.outputs[0]:
            continue
        if readers[flowing] > 1 or flowing in kept or node.inputs.count(flowing) > 1:
            continue
        # new states, which stand in memory before anything can read them
        if any(readers[v] or v not in kept for v in producer.outputs[1:]):
            continue
        for v in producer.outputs:
            del made[v]
        others = node.inputs[1:] if operand == 0 else node.inputs[:1]
        op = dataclasses.replace(producer.op, then=(*producer.op.then, node.op))
        return Node(op, (*producer.inputs, *others), (*node.outputs, *producer.outputs[1:]), producer.origin)
    return None


def _swappable(node: Node) -> bool:
    return isinstance(node.op, Elementwise) and node.op.commutative and node.inputs[0].type == node.inputs[1].type
