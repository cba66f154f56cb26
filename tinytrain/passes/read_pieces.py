# SPDX-License-Identifier: Apache-2.0
"""read_pieces: w = concat(part, rest); y = conv2d(x, w)  ->  y = conv2d(pieces=concat)(x, part, rest)

The part of a weight that is trained lies in RAM and the rest in flash: no room is needed where both stand together.
"""

from __future__ import annotations

import dataclasses

from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.types import Role, Value
from tinytrain.ops.shape import Concat
from tinytrain.passes.drop_dead import drop_dead_nodes

_STORED = (Role.CONST, Role.PARAM)


def read_pieces(graph: Graph) -> Graph:
    """Needs nothing; ensures that stored tensors are joined only for ops that read one array."""
    homes = graph.homes()
    joins = {
        node.outputs[0]: node for node in graph.nodes
        if isinstance(node.op, Concat) and all(homes.get(v, v).role in _STORED for v in node.inputs)
    }
    nodes = tuple(_in_pieces(node, joins) for node in graph.nodes)
    same = all(new is old for new, old in zip(nodes, graph.nodes, strict=True))
    return graph if same else drop_dead_nodes(graph.replace(nodes=nodes))


def _in_pieces(node: Node, joins: dict[Value, Node]) -> Node:
    for operand, value in enumerate(node.inputs):
        if value in joins and (op := node.op.reads_pieces(operand, joins[value].op)):
            inputs = (*node.inputs[:operand], *joins[value].inputs, *node.inputs[operand + 1 :])
            return dataclasses.replace(node, op=op, inputs=inputs)
    return node
