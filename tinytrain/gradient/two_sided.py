# SPDX-License-Identifier: Apache-2.0
"""Gradients that two losses tell, without any backward pass: (L(w + ε·z) − L(w − ε·z)) / 2ε · z/n, z random signs of n parameters.

This is the part of the gradient that lies along z. In the mean it is 1/n of the gradient, it is never longer, and so the learning rates of
back-propagation are safe for it.

Of stored integers the least step is one: with d that of the real weights, all of them, it is (L(w + d) − L(w)) · d/d². An int8 weight has
no room beyond the ends of its range; it goes up or down by one as `ops/perturb_int.py` says, and back, and the second loss is that of the
weights as they are. Biases go by as many units as come next to the step of weights.

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
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.graph import Node
from tinytrain.ir.op import Op
from tinytrain.ir.types import F32, S8, S32, Value
from tinytrain.ops.objective import Total
from tinytrain.ops.perturb import Perturb, RandomDirection
from tinytrain.ops.perturb_int import Shift, Swap, SwapDirection


@dataclass(frozen=True)
class _Moved:
    """A parameter, the seed of its signs, and by what it moves, in units of what is stored."""

    param: Value
    seed: int
    step: float

    @property
    def length(self) -> float:
        """The square of the step of all its numbers, as reals."""
        quant = self.param.type.quant
        return float(self.param.type.numel * self.step**2 * np.mean(np.square(quant.scale if quant else 1.0)))

    @property
    def within(self) -> tuple[int, int]:
        source = self.param.source
        return (source.within[0], source.within[1]) if source and source.within else (-128, 127)

    def move(self, g: Builder, counter: Value, times: int) -> None:
        g.origin, kind = self.param.name, self.param.type.dtype
        op: Op = Perturb(self.seed, times * self.step)
        if kind is not F32:
            op = Swap(self.seed, self.within) if kind is S8 else Shift(self.seed, round(times * self.step))
        g.emit(op, self.param, counter, name=f"{self.param.name}_moved")

    def along(self, g: Builder, slope: Value, counter: Value) -> Value:
        g.origin, name = self.param.name, f"d_{self.param.name}"
        if self.param.type.dtype is S8:
            return g.emit(SwapDirection(self.seed, self.within), slope, self.param, counter, name=name)
        return g.emit(RandomDirection(self.param.shape, self.seed), slope, counter, name=name)


def two_sided(g: Builder, loss: Value, params: Sequence[Value], counter: Value, epsilon: float) -> tuple[Value, list[Value]]:
    """Make of a forward pass with its loss, in `g`, two of them: (mean of both losses, gradient of each parameter as it is stored).

    `counter` (s32[1]) is the number of the step, `epsilon`, a power of two, what fp32 moves by. With parameters that are int8 or int32 the
    loss is that of the weights as they are, and what a step of a gradient is worth is that of its real weight (`scale_gradients` is not
    for it).
    """
    nodes, g.nodes = g.nodes, []
    moved = {param: _Moved(param, seed, _step(param, params, epsilon)) for seed, param in enumerate(params)}
    both = all(param.type.dtype is F32 for param in params)
    losses = [
        _moved(g, nodes, loss, moved, partial(_move, g, moved, counter, times)) for times in (1, -2 if both else -1)
    ]
    if both:
        for one in moved.values():
            one.move(g, counter, 1)
    g.origin = "loss"
    mean = g.emit(Total((0.5, 0.5)), *losses, name="mean_loss") if both else losses[1]
    length = sum(one.length for one in moved.values()) * (2 if both else 1)
    slopes: dict[float, Value] = {}
    for one in moved.values():
        if one.step not in slopes:
            share = one.step / length
            slopes[one.step] = g.emit(Total((share, -share)), *losses, name="slope")
    return mean, [one.along(g, slopes[one.step], counter) for one in moved.values()]


def _move(g: Builder, moved: Mapping[Value, _Moved], counter: Value, times: int, param: Value) -> None:
    moved[param].move(g, counter, times)


def _step(param: Value, params: Sequence[Value], epsilon: float) -> float:
    """By what a parameter moves: an int32 by the power of two of units next to what int8 weights do, or `epsilon` where there are none."""
    kind, quant = param.type.dtype, param.type.quant
    if kind is not S32:
        return 1.0 if kind is S8 else epsilon
    scales = [scale for one in params if one.type.dtype is S8 and one.type.quant for scale in one.type.quant.scale]
    unit = float(np.median(quant.scale)) if quant else 1.0
    return max(1.0, min(2.0**20, 2.0 ** round(math.log2((np.mean(scales) if scales else epsilon) / unit))))


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
