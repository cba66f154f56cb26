# SPDX-License-Identifier: Apache-2.0
"""perturb: w' = w + s·z      random_direction: y[i] = slope·z[i]      z[i] = 1 where f(seed, t·n + i), a signed word, is above 0, else −1

z is drawn again wherever it is needed, from the number t of the step, and takes no memory. With s a power of two, w + s·z − 2s·z + s·z is w
but for what w + s·z has no bits for: all that follows is exact, since signs of one size leave every weight on a grid that holds both sides.

Signs have the least variance of all z with independent elements of mean 0 and variance 1 (Spall, "Multivariate stochastic approximation
using a simultaneous perturbation gradient approximation", 1992).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinytrain.ir.op import Cost, Elementwise, Example, Fusable, Kernel, Tie, f32
from tinytrain.ir.types import F32, S32, Array, TensorType
from tinytrain.ir.words import Words
from tinytrain.ops.draws import drawn, word_text
from tinytrain.ops.optimiser import Sgd
from tinytrain.ops.simd import elementwise

COUNTER = TensorType((1,), S32)


def signs(seed: int, step: Array, shape: tuple[int, ...]) -> Array:
    """z of step number `step` (s32[1]): 1 and −1 in the given shape."""
    return np.where(drawn(seed, step, shape).view(np.int32) > 0, 1, -1)


@dataclass(frozen=True)
class Lent(Elementwise):
    """A weight (w), which is lent (`Graph.lent`), and the number of the step (counter s32[1]) -> the weight, moved where it stands.

    Each weight has a seed of its own.
    """

    seed: int = 0

    args = ("w", "counter")
    results = ("w_new",)
    lends = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if types[1] != COUNTER:
            raise ValueError(f"counter {types[1]}: s32[1] is expected")
        return types[:1]

    def ties(self, *types: TensorType) -> tuple[Tie, ...]:
        return ()                                         # each element has a sign of its own

    def derived(self, w: Words, operand: int, pointer: str, i: str, whole: TensorType) -> tuple[str, str] | None:
        return ("int32_t", w.narrow(word_text(w, self.seed, pointer, i, whole)[1], "int32_t")) if operand else None

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)


@dataclass(frozen=True)
class Perturb(Lent):
    """w f32 -> w + step·z."""

    step: float = 2.0**-10

    name = "perturb"
    kernels = elementwise(F32, S32, F32)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        w, counter = arrays
        return (w + w.dtype.type(self.step) * signs(self.seed, counter, w.shape).astype(w.dtype),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        weight, word = operands
        return (w.add(weight, w.where(w.real(word), w.number(0.0), w.number(self.step), w.number(-self.step))),)


@dataclass(frozen=True)
class RandomDirection(Fusable):
    """slope f32[1], counter s32[1] -> slope·z in the given shape: the gradient that two losses tell of a weight."""

    shape: tuple[int, ...] = (1,)
    seed: int = 0

    name = "random_direction"
    args = ("slope", "counter")
    results = ("dw",)
    kernels = (Kernel("perturb", (F32, S32, F32)),)

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if types[0].numel != 1 or types[1] != COUNTER:
            raise ValueError(f"slope {types[0]}, counter {types[1]}: f32[1] and s32[1] are expected")
        return (TensorType(self.shape),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        slope, counter = arrays
        return (slope.reshape(()) * signs(self.seed, counter, self.shape).astype(slope.dtype),)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(elements=int(np.prod(self.shape)))


_SHAPES = ((1,), (17,), (5, 3), (3, 5, 7))

Perturb.examples = tuple(
    Example(Perturb(seed, step), (*f32(shape), COUNTER), (0, 1000))
    for step, seed in ((2.0**-10, 1), (-0.125, 4_000_000_000)) for shape in _SHAPES
)
RandomDirection.examples = (
    *(Example(RandomDirection(shape, seed), (*f32((1,)), COUNTER), (0, 1000)) for seed in (2, 2**32 - 1) for shape in _SHAPES),
    Example(RandomDirection((5, 3), 7, then=(Sgd(0.9),)), (*f32((1,)), COUNTER, *f32((5, 3), (1,), (5, 3))), (0, 1000)),
)
