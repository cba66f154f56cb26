# SPDX-License-Identifier: Apache-2.0
"""moving_average: a' = a + (1 − m)·(w − a): a follows w slowly, as far as 1/(1 − m) updates ago still counts."""

from __future__ import annotations

from dataclasses import dataclass

from tinytrain.ir.op import Elementwise, Example, f32
from tinytrain.ir.types import Array, TensorType
from tinytrain.ir.words import Words
from tinytrain.ops.optimiser import in_place
from tinytrain.ops.simd import elementwise


@dataclass(frozen=True)
class MovingAverage(Elementwise):
    """w, a alike -> a'. The average stays fp32 where w is stored as fp16, whose steps are larger than what a moves by."""

    momentum: float = 0.995

    name = "moving_average"
    args = ("w", "a")
    results = ("a_new",)
    kernels = elementwise()
    wide = frozenset((1, ~0))

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        w, a = types
        if a != w:
            raise ValueError(f"average {a} of {w}: the same type is expected")
        return (a,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        w, a = arrays
        return (a + a.dtype.type(1 - self.momentum) * (w - a),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        weight, average = operands
        return (w.madd(average, w.number(1 - self.momentum), w.sub(weight, average)),)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return in_place(self.args, self.results)


MovingAverage.examples = tuple(
    Example(op, f32(shape, shape)) for shape in ((1,), (7,), (5, 3, 3, 4)) for op in (MovingAverage(), MovingAverage(0.75))
)
