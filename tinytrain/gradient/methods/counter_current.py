# SPDX-License-Identifier: Apache-2.0
"""counter-current: a second, small network carries classes backwards; at each layer what both make of a sample's class shall agree (Kao and
Hariharan, arXiv 2409.19841).

    x → layer 1 → a1 → layer 2 → a2 → last layer → loss of the model
                  ↕ loss 1      ↕ loss 2
                  b1 ← relu(U1) ← b2 ← relu(U2) ← classes

a is a map, as means over a grid of 4x4; b are as many of its size as there are classes. The scores a·bᵀ/√size have the loss of the model,
of which the layer and U learn: no gradient goes further in either network. So a comes to lie near b of its class and away from others: a
distance to b of its own class alone would be least where all are the same. The second network only teaches (`gradient/heads.py`): it never
infers. U are as wide as the channels on both sides where both grids are the same: it costs little beside the layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.gradient.blocks import Cut
from tinytrain.gradient.heads import LAST_GRID, coarse, loss_of, shaped
from tinytrain.gradient.method import Step
from tinytrain.gradient.methods.local import Teacher, again
from tinytrain.gradient.methods.mono import Mono
from tinytrain.gradient.partial import Target
from tinytrain.ir.types import F32, Value
from tinytrain.ops.activation import Relu
from tinytrain.ops.dense import Dense
from tinytrain.ops.elementwise import Scale
from tinytrain.ops.normalise import Normalise
from tinytrain.ops.quantize import dequantised


@dataclass(frozen=True)
class CounterCurrent(Mono):
    key = "counter-current"

    def teacher(self, step: Step, cuts: Sequence[Cut]) -> Teacher:
        g, feedback = step.g, _Feedback(step, step.output.type.numel)

        def teach(number: int) -> tuple[Value, Sequence[Target]]:
            cut = cuts[number]
            a = coarse(g, again(step, cut.value), LAST_GRID)
            g.origin = name = f"{cut.value.name}_feedback"
            a = a if a.type.dtype is F32 else dequantised(g, a)
            b = feedback.layer(name, math.prod(a.shape[:-1]), a.shape[-1], cut.position)
            scores = g.emit(Dense(), g.emit(Normalise((1,)), shaped(g, a, (a.type.numel,))), b)
            scores = g.emit(Scale(a.type.numel**-0.5), scores, name="scores")
            return loss_of(step, scores), feedback.targets[-1:]

        return teach


class _Feedback:
    """The second network, from classes on; `targets` are its weights."""

    def __init__(self, step: Step, classes: int) -> None:
        self.g = step.g
        self.auxiliary = step.auxiliary
        self.classes = classes
        self.pixels = 0                                   # of the layer that was made last, on its grid
        self.signal: Value | None = None                  # what that gives for each class
        self.targets: list[Target] = []

    def layer(self, name: str, pixels: int, channels: int, seed: int) -> Value:
        """(classes, pixels·channels): what the next layer makes of what the last one gave; of single classes it is its weight."""
        g, size = self.g, pixels * channels
        if self.signal is None:
            made = self._weight(name, (self.classes, size), 1, seed)
        else:
            read = self.signal.type.numel // self.classes
            alike = self.pixels if self.pixels == pixels else 1     # pixels that share a weight
            shape = (size // alike, read // alike)
            made = g.emit(Dense(), shaped(g, self.signal, (self.classes * alike, shape[1])), self._weight(name, shape, 2 / shape[1], seed))
        self.pixels = pixels
        made = shaped(g, g.emit(Relu(), made), (self.classes, size))
        self.signal = g.emit(Normalise((self.classes, 1)), made, name="signal")
        return self.signal

    def _weight(self, name: str, shape: tuple[int, ...], variance: float, seed: int) -> Value:
        drawn = np.random.default_rng(seed).normal(0, math.sqrt(variance), shape).astype(np.float32)
        self.targets.append(self.auxiliary.take(self.g, f"{name}_weight", drawn))
        return self.targets[-1].param
