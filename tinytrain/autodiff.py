# SPDX-License-Identifier: Apache-2.0
"""Reverse-mode differentiation of a straight line of nodes. It knows no op: each gives its own rule (`Op.vjp`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinytrain.errors import ModelError
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Node
from tinytrain.ir.op import Want
from tinytrain.ir.types import Value
from tinytrain.ops.elementwise import Add


def gradients(g: Builder, nodes: Sequence[Node], loss: Value, wanted: Mapping[Value, Want]) -> dict[Value, Value]:
    """Emit d loss / d v for each wanted value v, and nothing that does not lead to one.

    The walk stops where no wanted value lies further up, so frozen first layers cost nothing. Gradients of a value with several
    readers are summed in reverse order of reading. A wanted value that the loss does not depend on has no entry in the result.
    Raises ModelError where the walk meets an op without a gradient.
    """
    leads: set[Value] = set(wanted)                       # values on a path from a wanted one to the loss
    for node in nodes:
        if any(v in leads for v in node.inputs):
            leads.update(node.outputs)

    found: dict[Value, Value] = {}
    for node in reversed(nodes):
        starts = loss in node.outputs
        if not starts and not any(v in found for v in node.outputs):
            continue
        if not any(v in leads for v in node.inputs):
            continue
        if not node.op.differentiable:
            raise ModelError(
                f"{node.origin or node.op.name} ({node.op.name}) is supported for inference but has no gradient.",
                hint="Freeze it: choose a scheme whose first updated layer comes after it, or change the model.",
            )
        g.origin = node.origin
        asks = tuple(wanted.get(v, Want()) if v in leads else None for v in node.inputs)
        grads = tuple(found.get(v) for v in node.outputs)
        for value, grad in zip(node.inputs, node.op.vjp(g, node.inputs, node.outputs, grads, asks), strict=True):
            if grad is not None:
                found[value] = g.emit(Add(), grad, found[value], name=f"d_{value.name}") if value in found else grad
    return {v: found[v] for v in wanted if v in found}
