# SPDX-License-Identifier: Apache-2.0
"""Loss scaling: on their way back gradients are 2^e times what they are, so that small ones do not vanish where they are stored as fp16.

loss_scale:       s = 2^e
overflow:         o' = 1 where o is, or any element is infinite or not a number
update_factor:    k = 2^-e, or 0, which leaves an update out: where o is, and in a step that only tries a scale
next_loss_scale:  e' = e − 1 where o is, e + 1 behind so many steps without
sums_factor:      k = 0 where every sample of a sum has overflowed, else 1

Powers of two are divided out without a rounding (Micikevicius et al., "Mixed Precision Training", arXiv 1710.03740).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinytrain.ir.op import FIRST_HALF, Cost, Example, Kernel, Op, f32
from tinytrain.ir.types import F16, F32, S32, Array, TensorType

# of the record: e, steps without overflow at this scale, steps with one since the start, and of these the last ones without a break
EXPONENT, GOOD, SKIPPED, IN_A_ROW = range(4)
# as many halvings lead from the largest scale to 1: what still overflows there, does so for another reason than the scale
PATIENCE = 20
LARGEST, LEAST = PATIENCE, -PATIENCE

_RECORD, _FLAG, _FACTOR = TensorType((4,), S32), TensorType((1,), S32), TensorType((1,))


@dataclass(frozen=True)
class _OfRecord(Op):
    """Base of what reads the record and, where it has a second operand, whether there was an overflow."""

    args: ClassVar[tuple[str, ...]] = ("record", "overflowed")

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if types != (_RECORD, _FLAG)[: len(self.args)]:
            raise ValueError(f"record and flag {', '.join(map(str, types))}: s32[4] and s32[1] are expected")
        return (_FACTOR,)


@dataclass(frozen=True)
class LossScaleFactor(_OfRecord):
    """record -> 2^e f32[1]."""

    name = "loss_scale"
    args = ("record",)
    results = ("scale",)
    kernels = (Kernel("loss_scale", (S32, F32)),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (np.ldexp(np.float32(1), arrays[0][EXPONENT : EXPONENT + 1]),)


@dataclass(frozen=True)
class Overflow(Op):
    """x, overflowed s32[1] -> 1 where it was, or x has an element that is infinite or not a number, else 0."""

    name = "overflow"
    args = ("x", "before")
    results = ("overflowed",)
    kernels = (
        Kernel("loss_scale", (F32, S32), half=FIRST_HALF),
        *(Kernel("loss_scale", (F16, S32), isa, "overflow_vectors") for isa in ("rvv", "mveh")),
        Kernel("loss_scale", (F16, S32), "xpulp", "overflow_pairs", shared=True),
    )

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if types[1] != _FLAG:
            raise ValueError(f"{types[1]} before: s32[1] is expected")
        return (_FLAG,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (arrays[1] | np.int32(not np.isfinite(arrays[0]).all()),)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(elements=types[0].numel)


@dataclass(frozen=True)
class UpdateFactor(_OfRecord):
    """record, overflowed -> k f32[1]. `tries`: the first step at a scale makes no update."""

    tries: bool = False

    name = "update_factor"
    results = ("k",)
    kernels = (Kernel("loss_scale", (S32,)),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        record, overflowed = arrays
        left_out = overflowed[0] or (self.tries and not record[GOOD])
        return (np.array([0 if left_out else np.ldexp(np.float32(1), -record[EXPONENT])], np.float32),)


@dataclass(frozen=True)
class NextLossScale(_OfRecord):
    """record, overflowed -> the record of the next step. `steps` without overflow double the scale; 0: it stays as it is."""

    steps: int = 0

    name = "next_loss_scale"
    results = ("record_new",)
    kernels = (Kernel("loss_scale", (S32,)),)

    largest: ClassVar[int] = LARGEST
    least: ClassVar[int] = LEAST

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        super().infer(*types)
        return (_RECORD,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        exponent, good, skipped, in_a_row = map(int, arrays[0])
        if arrays[1][0]:
            lower = max(exponent - 1, LEAST) if self.steps else exponent
            return (np.array([lower, 0, skipped + 1, in_a_row + 1], np.int32),)
        good = min(good + 1, max(self.steps, 1))
        if self.steps and good == self.steps and exponent < LARGEST:
            exponent, good = exponent + 1, 0
        return (np.array([exponent, good, skipped, 0], np.int32),)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)


@dataclass(frozen=True)
class SumsFactor(_OfRecord):
    """record -> 0 f32[1] where the last `samples` have all overflowed, else 1."""

    samples: int = 1

    name = "sums_factor"
    args = ("record",)
    results = ("k",)
    kernels = (Kernel("loss_scale", (S32, F32)),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (np.array([arrays[0][IN_A_ROW] < self.samples], np.float32),)


LossScaleFactor.examples = tuple(Example(LossScaleFactor(), (_RECORD,), bounds) for bounds in ((-20, 0), (0, 21)))
Overflow.examples = (
    *(Example(Overflow(), (*f32(shape), _FLAG), (0, 1)) for shape in ((1,), (7,), (3, 5, 7))),
    Example(Overflow(), (*f32((64,)), _FLAG), (1, 2)),
    Example(Overflow(), (*f32((37,)), _FLAG), (0, 1), reals=(3e38, 3e38)),
)
UpdateFactor.examples = tuple(
    Example(UpdateFactor(tries), (_RECORD, _FLAG), bounds)
    for tries in (False, True) for bounds in (((0, 1), (0, 1)), ((1, 21), (0, 1)), ((-20, -1), (1, 2)))
)
NextLossScale.examples = tuple(
    Example(NextLossScale(steps), (_RECORD, _FLAG), (record, flag))
    for steps, record in ((0, (0, 20)), (7, (5, 7)), (200, (1, 20)), (7, (-20, -19)), (20, (20, 21)), (1, (0, 1)))
    for flag in ((0, 1), (1, 2))
)
SumsFactor.examples = tuple(Example(SumsFactor(samples), (_RECORD,), (3, 4)) for samples in (3, 4))
