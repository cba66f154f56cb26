# SPDX-License-Identifier: Apache-2.0
"""pack_masks: dx = relu_grad(dy, y), y otherwise read by the forward pass only  ->  bits = pass_bits(y); dx = mask_grad(dy, bits)

A saved activation whose sign alone matters costs 1 bit an element in place of 32 while the loss is being computed.
"""

from __future__ import annotations

import dataclasses

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.loss import Loss
from tinytrain.ir.types import Value
from tinytrain.ops.activation import OutputGrad


def pack_masks(graph: Graph) -> Graph:
    """Needs the loss in the graph (else nothing is saved for later); runs before fusion, which hides the gradient op."""
    turn = turning_point(graph)
    if turn is None:
        return graph
    readers = graph.readers()
    position = {id(n): i for i, n in enumerate(graph.nodes)}
    kept = graph.kept()
    names = Builder(graph.name, graph.values())
    after: dict[Value, Node] = {}                         # y -> the node that packs its mask
    changed: dict[int, Node] = {}
    for node in graph.nodes[turn:]:
        if not isinstance(node.op, OutputGrad):
            continue
        dy, y = node.inputs
        late = [n for n in memory_readers(y, readers) if position[id(n)] > turn]
        masks = node.op.as_mask()
        if late != [node] or y in kept or not masks:
            continue
        pack, apply = masks
        names.origin = node.origin
        names.nodes.clear()
        bits = names.emit(pack, y, name=f"bits_{y.name}")
        after[y] = names.nodes[0]
        changed[id(node)] = dataclasses.replace(node, op=apply, inputs=(dy, bits))
    if not changed:
        return graph
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes.append(changed.get(id(node), node))
        nodes += [after[v] for v in node.outputs if v in after]
    return graph.replace(nodes=tuple(nodes))


def turning_point(graph: Graph) -> int | None:
    """Where the forward pass ends: the position of the loss."""
    return next((i for i, n in enumerate(graph.nodes) if isinstance(n.op, Loss)), None)


def memory_readers(value: Value, readers: dict[Value, list[Node]]) -> list[Node]:
    """Who reads the memory of a value, also by another name."""
    found: list[Node] = []
    for node in readers[value]:
        found += memory_readers(node.outputs[0], readers) if node.op.view else [node]
    return found
