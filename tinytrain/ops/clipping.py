# SPDX-License-Identifier: Apache-2.0
"""clip_gradient: direction = min(max(g, −V), V), or k·g
square_sum:    q' = q + Σ g²                    norm_factor: k = min(1, V/√q)

By its norm a gradient keeps its direction: that is one over all that is trained, so that no weight may change before the last gradient is
known (Pascanu, Mikolov and Bengio, arXiv 1211.5063).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tinytrain.ir.integer import IntegerForms, Operand
from tinytrain.ir.op import Cost, Declined, Elementwise, Example, Kernel, Op, f32, is_row_operand, no
from tinytrain.ir.types import Array, TensorType, Value
from tinytrain.ir.words import Words, literal
from tinytrain.ops.direction import Direction
from tinytrain.ops.simd import elementwise

_FP32 = no("gradients are clipped in fp32", "Leave out --clip-value and --clip-norm.")


@dataclass(frozen=True)
class ClipGradient(Direction):
    """g [, k (1)] [, factor] -> direction [, 0]. A `limit` of 0 is none; `normed`: k multiplies the gradient."""

    limit: float = 0.0
    normed: bool = False

    name = "clip_gradient"
    kernels = elementwise()
    still = True

    @property
    def ones(self) -> tuple[str, ...]:
        return ("k",) if self.normed else ()

    def follow(self, g: Array, given: Mapping[str, Array]) -> tuple[Array, ...]:
        if self.limit:
            g = np.clip(g, -g.dtype.type(self.limit), g.dtype.type(self.limit))
        return (g * given["k"] if self.normed else g,)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        g = self.gradient(w, operands)
        if self.limit:
            high, low = w.number(self.limit), w.number(-self.limit)
            g = w.where(g, high, high, w.where(low, g, low, g))
        return (w.mul(g, operands[1]) if self.normed else g, *((w.number(0.0),) if self.clear else ()))

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        return _FP32


@dataclass(frozen=True)
class SquareSum(Op):
    """x, before (1) [, factor (one per row, per channel or in all)] -> before + Σ (factor·x)², summed in the order of x."""

    factored: bool = field(default=False, kw_only=True)

    name = "square_sum"
    squares = True
    results = ("total",)
    kernels = (Kernel("clipping"),)

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return ("x", "before", "factor") if self.factored else ("x", "before")

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if types[1].numel != 1:
            raise ValueError(f"{types[1]} before: one element is expected")
        return (types[1],)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        x, before = arrays[:2]
        return (before + np.square(x * arrays[2] if self.factored else x).sum(),)

    def place(self, types: Sequence[TensorType]) -> str:
        """C index of the factor of element i."""
        x, factor = types[0], types[2]
        per = "0" if factor.numel == 1 else f"i % {x.shape[-1]}"
        return f"i / {x.numel // x.shape[0]}" if is_row_operand(factor, x) and factor.numel > 1 else per

    def cost(self, *types: TensorType) -> Cost:
        return Cost(elements=types[0].numel)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((1, 0),)

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        return _FP32


@dataclass(frozen=True)
class NormFactor(Elementwise):
    """A sum of squares -> what its elements are multiplied by so that `scale` times their norm is `limit` at most."""

    limit: float = 1.0
    scale: float = 1.0

    name = "norm_factor"
    args = ("total",)
    results = ("k",)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        real = arrays[0].dtype.type
        norm = np.sqrt(arrays[0]) * real(self.scale)
        return (np.where(norm > real(self.limit), real(self.limit) / np.where(norm > 0, norm, real(1)), real(1)),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        norm = f"tt_sqrtf({operands[0]}) * {literal(self.scale)}"
        return (f"{norm} > {literal(self.limit)} ? {literal(self.limit)} / ({norm}) : 1.0f",)


ClipGradient.examples = (
    Example(ClipGradient(limit=0.5), f32((5, 7))),
    Example(ClipGradient(limit=0.25, scale=0.5, clear=True), f32((37,))),
    Example(ClipGradient(normed=True), f32((1,), (1,))),
    Example(ClipGradient(normed=True, scale=0.25, clear=True), f32((5, 7), (1,))),
    Example(ClipGradient(normed=True, factored=True), f32((4, 3, 2), (1,), (4, 1, 1))),
    Example(ClipGradient(limit=0.5, factored=True, scale=2.0), f32((3, 7), (7,))),
)
SquareSum.examples = (
    *(Example(SquareSum(), f32(x, (1,))) for x in ((1,), (7,), (3, 5))),
    *(Example(SquareSum(factored=True), f32(x, (1,), f)) for x, f in (((4, 3, 2), (4, 1, 1)), ((13,), (13,)), ((13,), (1,)))),
)
NormFactor.examples = tuple(Example(op, f32((1,)), reals=(1.0, 1.25)) for op in (NormFactor(), NormFactor(0.5, 3.0), NormFactor(9.0)))
