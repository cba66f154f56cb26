# SPDX-License-Identifier: Apache-2.0
"""schedule: the learning rate of an update, from the one that is set and the number t = 0, 1, … of the update

warm-up, t < W:  rate = lr·(t + 1) / W          then, with s = t − W:
step:            rate = max(lr·γ^⌊s/N⌋, least)
cosine:          rate = least + (lr − least)·(1 + cos(π·min(s/(N − W), 1))) / 2          (Loshchilov and Hutter, arXiv 1608.03983)
table:           rate = lr·f_i of the last (t_i, f_i) with t_i <= t                   (without a warm-up)

The device can set lr at any time: it is a factor of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from tinytrain.ir.integer import IntegerForms, Operand
from tinytrain.ir.op import Declined, Example, Kernel, Op, no
from tinytrain.ir.types import F32, S32, Array, TensorType, Value

Course = Literal["constant", "step", "cosine", "table"]
_LR, _STEP = TensorType((1,)), TensorType((1,), S32)


@dataclass(frozen=True)
class Schedule(Op):
    """lr f32[1], t s32[1] (1 in the first update) -> rate f32[1].

    `course` of `steps` updates behind the first `warmup` of them; those of a cosine count from the first update on. `table`: from which
    update on the rate is multiplied by which factor, from update 0 on; then there is no `warmup`.
    """

    course: Course = "constant"
    warmup: int = 0
    steps: int = 0
    factor: float = 0.1
    least: float = 0.0
    table: tuple[tuple[int, float], ...] = ()

    name = "schedule"
    args = ("lr", "t")
    results = ("rate",)
    kernels = (Kernel("schedule", (F32, S32, F32)),)

    # sin x = x·Σ c·x²ⁿ for |x| <= π/2, to the last place of fp32
    sine: ClassVar[tuple[float, ...]] = tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(6))

    @property
    def changes(self) -> bool:
        """Whether any update has another rate than the one that is set."""
        return self.course != "constant" or self.warmup > 0

    @property
    def span(self) -> int:
        """Updates from the end of the warm-up to the next fall, or to the end of the cosine."""
        return max(self.steps - (self.warmup if self.course == "cosine" else 0), 1)

    @property
    def logarithm(self) -> float:
        return math.log(self.factor)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if types != (_LR, _STEP):
            raise ValueError(f"learning rate {types[0]}, update {types[1]}: f32[1] and s32[1] are expected")
        if self.course == "table" and self.warmup:
            raise ValueError(f"a table of factors and {self.warmup} updates of warm-up: one of them is expected, a table can rise itself")
        return (_LR,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (lr, t), real = arrays, arrays[0].dtype.type
        since = (int(t[0]) - 1) % 2**32 - self.warmup
        if since < 0:
            return (lr * real((since + self.warmup + 1) / self.warmup),)
        if self.course == "table":
            return (lr * real([factor for start, factor in self.table if start <= since][-1]),)
        least = real(self.least)
        if self.course == "cosine":
            return (least + (lr - least) * real((1 + math.cos(math.pi * min(since / self.span, 1.0))) / 2),)
        return (np.maximum(lr * real(self.factor ** (since // self.span)), least) if self.course == "step" else lr.copy(),)

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        return no("the learning rate of an update is computed in fp32", "Leave out --schedule and --warmup.")


Schedule.examples = tuple(
    Example(op, (_LR, _STEP), bounds)
    for op, steps in (
        (Schedule(warmup=7), (1, 8)), (Schedule("step", 2, 5), (2, 8)), (Schedule("step", 0, 3, 0.5, 0.01), (4, 1000)),
        (Schedule("cosine", 0, 10), (1, 4, 5000)), (Schedule("cosine", 5, 12, least=0.25), (5, 9)),
        (Schedule("table", table=((0, 0.1), (3, 1.0), (7, 0.3))), (1, 3, 4, 8, 5000)),
    )
    for bounds in ((step, step + 1) for step in steps)
)
