# SPDX-License-Identifier: Apache-2.0
"""Running statistics of a batch norm: what passes while it trains moves the mean μ and the variance σ² of each channel, once an update

drift:    d = Σ (x − μ)/n,  q = Σ (x − μ)²/n  of a channel's n elements in a sample
follow:   μ' = μ + (1 − m)·d,  σ²' = m·σ² + (1 − m)·(q − d²)  with the means of d and q over the samples of an update
inverse_deviation:  r = 1/√(σ² + ε)

So μ + d and q − d² are mean and (population) variance of the group, summed around μ, where little cancels. While a group passes, its
samples are normalised by the statistics that it began with, constants for gradients; so an inference computes the same function, and no
activation outlives its sample. What normalising by a past mean costs, Ioffe says in "Batch Renormalization" (arXiv 1702.03275): at a high
learning rate, gradients do not see that the statistics will follow them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinytrain.ir.op import FIRST_HALF, Cost, Elementwise, Example, Kernel, Op, Tie, f32
from tinytrain.ir.types import Array, TensorType
from tinytrain.ir.words import Words, literal
from tinytrain.ops.simd import elementwise


@dataclass(frozen=True)
class Drift(Op):
    """x (..., C), mean (C,) -> d, q (C,)."""

    name = "drift"
    args = ("x", "mean")
    results = ("d", "q")
    wide = frozenset((1, ~0, ~1))
    kernels = (Kernel("running", half=FIRST_HALF),)
    training_only = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, mean = types
        if mean.shape != x.shape[-1:]:
            raise ValueError(f"mean {mean} for {x}: one number per channel is expected")
        return mean, mean

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        x, mean = arrays
        left = (x - mean).reshape(-1, mean.size)
        return left.mean(axis=0), (left * left).mean(axis=0)

    def ties(self, *types: TensorType) -> tuple[Tie, ...]:
        return (((0, -1), (1, -1), (~0, -1), (~1, -1)),)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(macs=types[0].numel)


@dataclass(frozen=True)
class Follow(Elementwise):
    """mean, var, d, q alike -> mean', var' [, 0, 0].

    `scale` multiplies d and q first (1/N of sums over N samples); `clear` also gives the zeros that the sums start from again.
    """

    momentum: float = 0.9
    scale: float = 1.0
    clear: bool = False

    name = "follow"
    args = ("mean", "var", "d", "q")
    kernels = elementwise()
    training_only = True
    per_update = True

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return ("mean_new", "var_new", *(("d_new", "q_new") if self.clear else ()))

    @property
    def wide(self) -> frozenset[int]:                     # type: ignore[override]
        return frozenset((*range(len(self.args)), *(~o for o in range(len(self.results)))))

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        mean, var, d, q = arrays
        real = mean.dtype.type
        d, q, kept, share = d * real(self.scale), q * real(self.scale), real(self.momentum), real(1 - self.momentum)
        cleared = (np.zeros_like(d), np.zeros_like(q)) if self.clear else ()
        return mean + share * d, kept * var + share * np.maximum(q - d * d, real(0)), *cleared

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        mean, var, d, q = operands
        zero, share = w.number(0.0), w.number(1 - self.momentum)
        if self.scale != 1.0:
            d, q = (w.mul(x, w.number(self.scale)) for x in (d, q))
        spread = w.sub(q, w.mul(d, d))
        moved = w.madd(w.mul(var, w.number(self.momentum)), share, w.where(spread, zero, spread, zero))
        return w.madd(mean, share, d), moved, *((zero, zero) if self.clear else ())


@dataclass(frozen=True)
class InverseDeviation(Elementwise):
    """var -> r alike."""

    epsilon: float = 1e-5

    name = "inverse_deviation"
    args = ("var",)
    results = ("r",)
    wide = frozenset((0, ~0))

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (1 / np.sqrt(arrays[0] + arrays[0].dtype.type(self.epsilon)),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        return (f"1.0f / tt_sqrtf({operands[0]} + {literal(self.epsilon)})",)


_CHANNELS = ((1,), (7,), (37,))

Drift.examples = tuple(
    Example(Drift(), f32(x, x[-1:])) for x in ((1,), (7,), (3, 5, 1), (5, 3, 6), (2, 2, 8), (4, 1, 13))
)
Follow.examples = tuple(
    Example(op, f32(*[shape] * 4), reals=(1.0, 2.0)) for shape in _CHANNELS for op in (Follow(), Follow(0.75, 0.25, clear=True))
)
InverseDeviation.examples = tuple(Example(InverseDeviation(), f32(shape), reals=(1.0, 2.0)) for shape in _CHANNELS)
