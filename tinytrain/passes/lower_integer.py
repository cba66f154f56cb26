# SPDX-License-Identifier: Apache-2.0
"""lower_integer: dx = conv2d_grad_x(dy:f32, w:s8)  ->  t:s32 = conv2d_grad_x(dy:s8, w:s8); dx:s8, e = renormalise(t, e)

Fully integer training (arXiv 2009.13108): each fp32 value becomes integers, an exponent and a factor (`ir/integer.py`).
"""

from __future__ import annotations

import dataclasses

from tinytrain.errors import ModelError
from tinytrain.gradient.integer import IntegerBuilder
from tinytrain.ir.graph import Graph, Node, Program
from tinytrain.ir.integer import Operand
from tinytrain.ir.op import Declined
from tinytrain.ir.types import F32, Value
from tinytrain.ir.verify import verify


def lower_integer(program: Program) -> Program:
    """Needs int8 graphs before fusion; ensures that no op computes with floats. Raises ModelError where an op has no integer form."""
    constants: dict[tuple[str, bytes], Value] = {}
    gone = {v for graph in program.entries.values() for node in graph.nodes if _floats(node) for v in node.outputs}
    taken = [v for graph in program.entries.values() for v in graph.values() if v not in gone]
    return program.map(lambda graph: _lowered(graph, IntegerBuilder(graph.name, taken, constants)))


def _floats(node: Node) -> bool:
    return any(v.type.dtype is F32 for v in (*node.inputs, *node.outputs))


def _lowered(graph: Graph, g: IntegerBuilder) -> Graph:
    found: dict[Value, Operand] = {}
    for node in graph.nodes:
        operands = [found.get(v, v) for v in node.inputs]
        if not _floats(node):
            g.nodes.append(dataclasses.replace(node, inputs=tuple(v for v in operands if isinstance(v, Value))))
            continue
        g.origin = node.origin
        made = node.op.as_integer(g, operands, node.outputs)
        if isinstance(made, Declined):
            raise _refused(node, made)
        found.update(zip(node.outputs, made, strict=True))
    g.inputs = list(graph.inputs)
    g.origin = graph.name
    outputs = [g.whole(found.get(v, v)) for v in graph.outputs]
    updates = {old: _stored(found.get(new, new)) for old, new in graph.updates.items()}
    return verify(g.graph(outputs, updates), after="lower_integer")


def _stored(v: Operand) -> Value:
    assert isinstance(v, Value), f"{v} is kept between calls"
    return v


def _refused(node: Node, why: Declined) -> ModelError:
    where = f"{node.origin or node.op.name} ({node.op.name})"
    hint = why.fix or "Quantise the whole model (tinytrain quantize), or leave --grad int8 out."
    return ModelError(f"{where} cannot be trained with integers alone: {why.why}.", hint=hint)
