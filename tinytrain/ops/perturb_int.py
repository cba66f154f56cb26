# SPDX-License-Identifier: Apache-2.0
"""swap: w' = w ± 1      shift: w' = w + s·z      swap_direction: y[i] = slope·(w'[i] − w[i])      of stored integers; see `ops/perturb.py`

swap pairs the integers: 2k with 2k + 1, or 2k − 1 with 2k, which a random bit of each element decides, and gives the other one of the
pair; at the ends of the range one may have none, and stays. So it undoes itself, and no weight leaves its range. Whether an integer goes
up or down is as good as a random sign. Biases, int32, have room on both sides: shift goes there by so many units, and back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinytrain.ir.op import Cost, Example, Fusable, Kernel, f32
from tinytrain.ir.types import F32, S8, S32, Array, TensorType
from tinytrain.ops.optimiser_int import SgdInt, moved
from tinytrain.ops.perturb import COUNTER, Lent, signs


def swaps(w: Array, within: tuple[int, int], seed: int, step: Array) -> Array:
    """What swap adds to integers."""
    odd = (w.astype(np.int64) + (signs(seed, step, w.shape) > 0)) & 1
    low, high = within
    return np.where(odd, np.where(w == low, 0, -1), np.where(w == high, 0, 1))


@dataclass(frozen=True)
class Swap(Lent):
    """w s8. `within` are the bounds of w."""

    within: tuple[int, int] = (-128, 127)

    name = "swap"
    kernels = (Kernel("elementwise", (S8, S32, S8), macro="elementwise"),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        w, counter = arrays
        return ((w + swaps(w, self.within, self.seed, counter)).astype(w.dtype),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        w, word = operands
        low, high = self.within
        return (f"(int8_t)({w} + ((({w} + ({word} > 0)) & 1) != 0 ? -({w} != {low}) : {w} != {high}))",)


@dataclass(frozen=True)
class Shift(Lent):
    """w s32, by `step` units."""

    step: int = 1

    name = "shift"
    kernels = (Kernel("elementwise", (S32, S32, S32), macro="elementwise"),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        w, counter = arrays
        return ((w.astype(np.int64) + self.step * signs(self.seed, counter, w.shape)).astype(np.int32),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        w, word = operands
        step = f"UINT32_C({abs(self.step)})"
        up, down = (f"(uint32_t){w} {sign} {step}" for sign in ("+-" if self.step > 0 else "-+"))
        return (f"(int32_t)({word} > 0 ? {up} : {down})",)


@dataclass(frozen=True)
class SwapDirection(Fusable):
    """slope f32[1], w s8, counter s32[1] -> what swap adds to w, times the slope: the gradient that two losses tell of w."""

    seed: int = 0
    within: tuple[int, int] = (-128, 127)

    name = "swap_direction"
    args = ("slope", "w", "counter")
    results = ("dw",)
    kernels = (Kernel("perturb", (F32, S8, S32, F32)),)

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if types[0].numel != 1 or types[2] != COUNTER:
            raise ValueError(f"slope {types[0]}, counter {types[2]}: f32[1] and s32[1] are expected")
        return (TensorType(types[1].shape),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        slope, w, counter = arrays
        return (slope.reshape(()) * swaps(w, self.within, self.seed, counter).astype(slope.dtype),)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(elements=types[1].numel)


def _weights(shape: tuple[int, ...]) -> TensorType:
    return TensorType(shape, S8)


_RANGES = ((-128, 127), (-8, 7))
_SHAPES = ((1,), (17,), (5, 3), (3, 5, 7))
_STEPS = (0, 1000)
Swap.examples = tuple(
    Example(Swap(seed, within), (_weights(shape), COUNTER), ((within[0], within[1] + 1), _STEPS))
    for within in _RANGES for seed, shape in enumerate(_SHAPES)
)
Shift.examples = tuple(
    Example(Shift(seed, step), (TensorType((13,), S32), COUNTER), ((-1000, 1000), _STEPS)) for seed, step in ((1, 1), (4_000_000_000, -64))
)
SwapDirection.examples = (
    *(
        Example(SwapDirection(seed, within), (*f32((1,)), _weights(shape), COUNTER), ((within[0], within[1] + 1), _STEPS))
        for within in _RANGES for seed, shape in enumerate(_SHAPES)
    ),
    Example(
        SwapDirection(7, then=(SgdInt(seed=3, scale=50.0),)), (*f32((1,)), _weights((5, 3)), COUNTER, *moved((5, 3), (5, 1))),
        ((-127, 128), _STEPS, (-127, 128), _STEPS),
    ),
)
