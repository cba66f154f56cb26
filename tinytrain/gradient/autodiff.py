# SPDX-License-Identifier: Apache-2.0
"""Reverse-mode differentiation of a straight line of nodes. It knows no op: each gives its own rule (`Op.vjp`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

from tinytrain.errors import ModelError
from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Node
from tinytrain.ir.op import Want
from tinytrain.ir.types import Value
from tinytrain.ops.elementwise import Add, Mul, Scale
from tinytrain.ops.objective import Total


def gradients(g: Builder, nodes: Sequence[Node], loss: Value, wanted: Mapping[Value, Want]) -> dict[Value, Value]:
    """Emit d loss / d v for each wanted value v, and nothing that does not lead to one.

    The walk stops where no wanted value lies further up, so frozen first layers cost nothing. Gradients of a value with several
    readers are summed in reverse order of reading. A wanted value that the loss does not depend on has no entry in the result.
    Raises ModelError where the walk meets an op without a gradient.
    """
    found = slice_gradients(g, nodes, loss, wanted.items())
    return {v: found[v, want] for v, want in wanted.items() if (v, want) in found}


def slice_gradients(
    g: Builder, nodes: Sequence[Node], loss: Value, wanted: Iterable[tuple[Value, Want]], scale: Value | None = None
) -> dict[tuple[Value, Want], Value]:
    """The same for any number of slices of one value: each is a gradient of its own. All are `scale` (f32[1]) times what they are."""
    slices: dict[Value, list[Want]] = {}
    for value, want in wanted:
        slices.setdefault(value, []).append(want)
    leads: set[Value] = set(slices)                       # values on a path from a wanted one to the loss
    for node in nodes:
        if any(v in leads for v in node.inputs):
            leads.update(node.outputs)

    found: dict[tuple[Value, Want], Value] = {}
    seeds = terms_of(nodes, loss)
    for node in reversed(nodes):
        grads = tuple(found.get((v, Want())) for v in node.outputs)
        seed = next((seeds[v] for v in node.outputs if v in seeds), None)
        if seed is None and not any(grads):
            continue
        if not any(v in leads for v in node.inputs):
            continue
        if not node.op.differentiable:
            raise ModelError(
                f"{node.origin or node.op.name} ({node.op.name}) is supported for inference but has no gradient.",
                hint="Freeze it: choose a scheme whose first updated layer comes after it, or change the model.",
            )
        g.origin = node.origin
        asked = [slices.get(v, [Want()]) if v in leads else [] for v in node.inputs]
        for asks in zip_longest(*asked):
            for value, want, grad in zip(node.inputs, asks, node.op.vjp(g, node.inputs, node.outputs, grads, asks), strict=True):
                if want is not None and grad is not None:
                    if seed not in (None, 1.0):
                        grad = g.emit(Scale(seed), grad, name=f"scaled_{grad.name}")
                    if seed is not None and scale is not None:
                        grad = g.emit(Mul(), grad, scale, name=f"scaled_{grad.name}")
                    before = found.get((value, want))
                    found[value, want] = g.emit(Add(), grad, before, name=f"d_{value.name}") if before else grad
    return found


def terms_of(nodes: Sequence[Node], loss: Value) -> dict[Value, float]:
    """What a walk starts from, with the gradient that each has: the loss, or those that it is the weighted sum of."""
    made = next((node for node in nodes if loss in node.outputs), None)
    return dict(zip(made.inputs, made.op.weights, strict=True)) if made is not None and isinstance(made.op, Total) else {loss: 1.0}
