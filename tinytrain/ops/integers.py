# SPDX-License-Identifier: Apache-2.0
"""truncated: a float without its fraction, as int32; 0 where int32 cannot hold it.    real: the way back.
within: an index from the front, on its axis: below 0 it counts from the end, beyond an end it is that end. No integer has a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinytrain.ir.op import Elementwise, Example, Kernel, f32
from tinytrain.ir.types import F32, S32, Array, TensorType


@dataclass(frozen=True)
class Truncated(Elementwise):
    """x -> s32. ONNX Cast to integers."""

    name = "truncated"
    kernels = (Kernel("elementwise", (F32,), macro="elementwise"),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(types[0].shape, S32),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        return (np.where((x >= -(2.0**31)) & (x < 2.0**31), x, 0).astype(np.int32),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        (x,) = operands
        return (f"{x} >= -2147483648.0f && {x} < 2147483648.0f ? (int32_t){x} : 0",)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ()                                         # one type is stored through no pointer to another


@dataclass(frozen=True)
class Real(Elementwise):
    """s32 -> f32. ONNX Cast to float32."""

    name = "real"
    kernels = (Kernel("elementwise", (S32,), macro="elementwise"),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(types[0].shape),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (arrays[0].astype(np.float32),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        return (f"(float){operands[0]}",)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ()


@dataclass(frozen=True)
class Within(Elementwise):
    """s32 -> s32 in [0, size)."""

    size: int = 1

    name = "within"
    kernels = (Kernel("elementwise", (S32,), macro="elementwise"),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (i,) = arrays
        return (np.clip(np.where(i < 0, i + self.size, i), 0, self.size - 1).astype(i.dtype),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        (i,), last = operands, self.size - 1
        return (f"{i} > {last} ? {last} : {i} >= 0 ? {i} : {i} < -{last} ? 0 : {i} + {self.size}",)


Truncated.examples = tuple(
    Example(Truncated(), f32(shape), reals=(scale, 0.5)) for shape, scale in (((1,), 9.0), ((3, 7), 9.0), ((11,), 4e9))
)
Real.examples = (Example(Real(), (TensorType((3, 5), S32),), (-9, 9)),)
Within.examples = tuple(Example(Within(size), (TensorType(shape, S32),), (-9, 9)) for shape, size in (((1,), 1), ((3, 5), 7)))
