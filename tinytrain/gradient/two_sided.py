# SPDX-License-Identifier: Apache-2.0
"""Gradients that two losses tell, without any backward pass: (L(w + ε·z) − L(w − ε·z)) / 2ε · z/n, z random signs of n parameters.

This is the part of the gradient that lies along z. In the mean it is 1/n of the gradient, it is never longer, and so the learning rates of
back-propagation are safe for it.

    y = dense(x, w); L = loss(y)
    → w1 = perturb(w, ε);  y1 = dense(x, w1); L1 = loss(y1)          w1, w2 and w3 stand where w does
      w2 = perturb(w1, −2ε); y2 = dense(x, w2); L2 = loss(y2)
      w3 = perturb(w2, ε);  L = (L1 + L2)/2;  dw = random_direction((L1 − L2)/2εn)

No map outlives its last reader. What does not depend on a perturbed weight is computed once.
Spall, "Multivariate stochastic approximation using a simultaneous perturbation gradient approximation" (1992); weights perturbed where they
stand, and z drawn anew in place of stored: Malladi et al., "Fine-tuning language models with just forward passes", arXiv 2305.17333.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from functools import partial

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Node
from tinytrain.ir.types import Value
from tinytrain.ops.objective import Total
from tinytrain.ops.perturb import Perturb, RandomDirection


def two_sided(g: Builder, loss: Value, params: Sequence[Value], counter: Value, epsilon: float) -> tuple[Value, list[Value]]:
    """Make of a forward pass with its loss, in `g`, two of them: (mean of both losses, gradient of each parameter).

    `counter` (s32[1]) is the number of the step, `epsilon` a power of two.
    """
    nodes, g.nodes = g.nodes, []
    seeds = {param: seed for seed, param in enumerate(params)}

    def move(param: Value, step: float) -> None:
        g.origin = param.name
        g.emit(Perturb(step, seeds[param]), param, counter, name=f"{param.name}_moved")

    def along(param: Value, slope: Value) -> Value:
        g.origin = param.name
        return g.emit(RandomDirection(param.shape, seeds[param]), slope, counter, name=f"d_{param.name}")

    losses = [_moved(g, nodes, loss, seeds, partial(move, step=step)) for step in (epsilon, -2 * epsilon)]
    for param in params:
        move(param, epsilon)
    g.origin = "loss"
    mean = g.emit(Total((0.5, 0.5)), *losses, name="mean_loss")
    share = 0.5 / (epsilon * sum(param.type.numel for param in params))
    slope = g.emit(Total((share, -share)), *losses, name="slope")
    return mean, [along(param, slope) for param in params]


def _moved(g: Builder, nodes: Sequence[Node], loss: Value, params: Collection[Value], move: Callable[[Value], None]) -> Value:
    """The loss of these nodes where each parameter is moved before its first reader; what no parameter changes is computed only once."""
    first, again = not g.nodes, dict[Value, Value]()
    for node in nodes:
        for param in (v for v in node.inputs if v in params and v not in again):
            move(param)
            again[param] = g.now[param]
        inputs = tuple(again.get(v, v) for v in node.inputs)
        g.origin = node.origin
        if first:
            g.nodes.append(dataclasses.replace(node, inputs=inputs))
        elif inputs != node.inputs:
            again.update(zip(node.outputs, g.emit_all(node.op, *inputs, name=node.outputs[0].name), strict=True))
    return again.get(loss, loss)
