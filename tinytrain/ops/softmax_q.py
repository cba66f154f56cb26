# SPDX-License-Identifier: Apache-2.0
"""softmax of stored integers, p_i = e^(s·q_i) / Σ e^(s·q_j) as int8, by a table t[k] = round(2^30·e^(−s·k)) and without floats:

y_i = clamp(z + ⌊t_i·r / 2^e + ½⌋),   t_i = t[max q − q_i],   r = ⌊A·2^e / Σ t_j⌋,   A = 1/scale,   A·2^e in [2^61, 2^62)

A half is rounded up. The largest q has t = 2^30, so r < 2^32 and t·r < 2^62; Σ t has 64 bits, enough for any row. That r is cut off
moves y by less than 2^30 / 2^e ≤ A·2^-31 steps, one division a row.

dq_i = s·A·p_i·(dy_i − Σ dy_j·p_j)  where y lies inside of the bounds, p in fp32
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Example, Kernel, Wanted
from tinytrain.ir.types import S8, S32, Array, Quant, TensorType, Value
from tinytrain.ops.elementwise import Scale
from tinytrain.ops.integer_ends import TABLE, exponentials
from tinytrain.ops.quantize import Int8, checked_scale, clamped, dequantised, fixed_point
from tinytrain.ops.softmax import Softmax, SoftmaxGrad, shifted_exponentials

_TABLE_BITS = 30


@dataclass(frozen=True)
class SoftmaxQ(Int8):
    """x s8 (..., N) of scale `scale_in`, table s32[256] -> y s8 alike. ONNX Softmax between quantised tensors."""

    scale_in: float = 1.0

    name = "softmax_q"
    args = ("x", "table")
    kernels = (Kernel("softmax_q", (S8, S32, S8)),)

    @property
    def ratio(self) -> tuple[int, int]:
        """(A·2^e, e). Raises ValueError where no e fits."""
        m, s = fixed_point(1 / self.scale)
        if s > 32:
            raise ValueError(f"a scale of {self.scale} for probabilities: at most 4 is expected")
        return m << 31, s + 31

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, table = types
        checked_scale(self.scale_in)
        if x.dtype is not S8 or table != TABLE or (x.quant and x.quant.scale != (self.scale_in,)):
            raise ValueError(f"x {x} of {x.quant} and table {table} for scale {self.scale_in} and {TABLE}")
        kind = self.stored(x.shape)
        assert self.ratio                                 # or ValueError
        return (kind,)

    def table(self) -> Array:
        """t, 256 entries; that of the largest q first."""
        return exponentials(self.scale_in, _TABLE_BITS)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        q, table = arrays[0].astype(np.int64), arrays[1].astype(np.uint64)
        t = table[q.max(axis=-1, keepdims=True) - q]
        (dividend, e), half = self.ratio, np.uint64(1)
        r = np.uint64(dividend) // t.sum(axis=-1, keepdims=True, dtype=np.uint64)
        return (clamped(((t * r + (half << np.uint64(e - 1))) >> np.uint64(e)).astype(np.int64), self),)

    def smooth(self, *arrays: Array) -> tuple[Array, ...]:
        _, e, total = shifted_exponentials(arrays[0] * self.scale_in)
        return self.real(e / total / self.scale)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        x, dy = inputs[0], grads[0]
        assert dy is not None
        p = g.emit(Softmax(), dequantised(g, x, name=f"{x.name}_real"), name=f"{outputs[0].name}_real")
        made = g.emit(SoftmaxGrad(), self.inside(g, dy, outputs[0]), p, name=f"d_{x.name}_real")
        return g.emit(Scale(self.scale_in / self.scale), made, name=f"d_{x.name}"), None


# Random entries are no exponentials: only where y stays off its bounds do they leave the gradient alone. Their least makes r < 2^32.
_ENTRIES = ((-128, 128), (2**30, 2**31 - 1))
SoftmaxQ.examples = tuple(
    Example(SoftmaxQ(scale, z, scale_in=s), (TensorType(shape, S8, Quant((s,), zero)), TABLE), _ENTRIES)
    for shape, scale, z, s, zero in (
        ((1,), 2**-6, -100, 0.125, 0), ((2,), 2**-6, 5, 0.0625, 5), ((10,), 2**-7, -64, 2**-5, -128), ((3, 5), 0.01, 0, 2**-6, 127),
        ((2, 3, 4), 0.004, -125, 0.25, 3), ((300,), 2**-7, 0, 2**-10, 0),
    )
)
