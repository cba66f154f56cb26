# SPDX-License-Identifier: Apache-2.0
"""slope_integer: dx = dy·t[x + 128]           product_integer: dx = dy·(b − z)

Gradients of functions by table and of products, for int8 gradients: the result is int32, at the same exponent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.op import Elementwise, Example, Kernel
from tinytrain.ir.types import S8, S32, Array, TensorType
from tinytrain.ops.integer_ends import TABLE

SLOPE_BITS = 15                                           # of the steepest slope; times a gradient of 7 bits it leaves room in 32


@dataclass(frozen=True)
class SlopeInteger(Elementwise):
    """dy s8, x s8 alike, slopes s32[256] within ±2^15 -> dx s32."""

    name = "slope_integer"
    args = ("dy", "x", "slopes")
    results = ("dx",)
    kernels = (Kernel("elementwise", (S8, S8, S32), macro="elementwise"),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        dy, x, slopes = types
        if (dy.shape, dy.dtype, x.dtype, slopes) != (x.shape, S8, S8, TABLE):
            raise ValueError(f"dy {dy}, x {x}, slopes {slopes}")
        return (TensorType(dy.shape, S32),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, x, slopes = arrays
        return (dy * slopes[x.astype(np.int64) + 128],)

    def load(self, operand: int, pointer: str, i: str, c: str, types: Sequence[TensorType]) -> tuple[str, str]:
        return ("int32_t *", pointer) if operand == 2 else super().load(operand, pointer, i, c, types)

    def expr(self, *operands: str) -> tuple[str, ...]:
        dy, x, slopes = operands
        return (f"{dy} * {slopes}[{x} + 128]",)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ()                                         # int32 is written where int8 would still be read


@dataclass(frozen=True)
class ProductInteger(Elementwise):
    """dy s8, b s8 (like dy, per channel, per row or one) -> dy·(b − zero) s32."""

    zero: int = 0

    name = "product_integer"
    args = ("dy", "b")
    results = ("dx",)
    kernels = (Kernel("elementwise", (S8,), macro="elementwise"),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if types[0].dtype is not S8 or types[1].dtype is not S8:
            raise ValueError(f"dy {types[0]}, b {types[1]}: int8 is expected")
        return (TensorType(types[0].shape, S32),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, b = (a.astype(np.int32) for a in arrays)
        return (dy * (b - np.int32(self.zero)),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        dy, b = operands
        return (f"{dy} * ({b} - ({self.zero}))",)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ()


_ALL = (-128, 128)
SlopeInteger.examples = tuple(
    Example(SlopeInteger(), (*[TensorType(x, S8)] * 2, TABLE), (_ALL, _ALL, (-32768, 32769))) for x in ((1,), (3, 5))
)
ProductInteger.examples = tuple(
    Example(ProductInteger(zero), (TensorType(x, S8), TensorType(b, S8)), _ALL)
    for zero, x, b in ((0, (7,), (7,)), (-128, (3, 5), (5,)), (127, (4, 3, 2), (1,)), (5, (4, 3, 2), (4, 1, 1)))
)
