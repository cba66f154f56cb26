# SPDX-License-Identifier: Apache-2.0
"""halve_gradients: dx:f32 = conv2d_grad_x(dy:f32, w)  ->  dx:f16 = conv2d_grad_x(dy:f16, w), computed in fp32 as before

Gradients on their way back stand in memory as fp16 between kernels: half the bytes where the arena is fullest. Gradients of parameters
stay fp32 ("Mixed Precision Training", arXiv 1710.03740, which also scales the loss: `Optimiser.loss_scale`).
"""

from __future__ import annotations

import dataclasses

from tinytrain.ir.graph import Graph, Node
from tinytrain.ir.op import Elementwise, Fusable
from tinytrain.ir.types import F16, F32, Value
from tinytrain.passes.pack_masks import turning_point
from tinytrain.planner.updates import contents


def halve_gradients(graph: Graph) -> Graph:
    """Needs fused kernels, so that only what lies in memory is rounded; a value that some kernel cannot take as fp16 stays fp32."""
    turn = turning_point(graph)
    if turn is None:
        return graph
    backward = graph.nodes[turn + 1 :]
    made = {v for node in backward for v in node.outputs}
    shown = contents(graph)                               # a view is the memory of another value
    fixed = graph.kept() | _directions(graph)
    for node in backward:
        fixed.update(_wide(node))
    fixed = {shown[v] for v in fixed}
    stored = {
        v: dataclasses.replace(v, type=dataclasses.replace(v.type, dtype=F16))
        for v in made
        if v.type.dtype is F32 and v.type.numel > 1 and shown[v] in made - fixed
    }
    return _restored(graph, stored) if stored else graph


def _wide(node: Node) -> list[Value]:
    """What this node must read or write as fp32."""
    op = node.op
    if op.view:
        return []
    halves = {i for kernel in op.kernels if kernel.isa is None for i in kernel.halves(op)}
    arity = op.arity if isinstance(op, Fusable) else len(node.inputs)
    read = [v for i, v in enumerate(node.inputs[:arity]) if i not in halves]
    return read if halves else [*read, *node.outputs]


def _directions(graph: Graph) -> set[Value]:
    """What the updates follow: their operands, and element by element what those are made of."""
    found = set(graph.updates.values())
    for node in reversed(graph.nodes):
        if any(v in found for v in node.outputs):
            arity = node.op.arity if isinstance(node.op, Fusable) else 0
            found.update(node.inputs[arity:] if isinstance(node.op, Elementwise | Fusable) or node.op.view else ())
    return found


def _restored(graph: Graph, stored: dict[Value, Value]) -> Graph:
    def get(values: tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(stored.get(v, v) for v in values)

    nodes = (dataclasses.replace(node, inputs=get(node.inputs), outputs=get(node.outputs)) for node in graph.nodes)
    return graph.replace(nodes=tuple(nodes))
