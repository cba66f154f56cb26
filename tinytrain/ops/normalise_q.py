# SPDX-License-Identifier: Apache-2.0
"""Normalisation of rows of stored integers without floats, z taken off first where rows are not centred:

S = Σ q, Q = Σ q²,  t_i = N·q_i − S,  D = (N·Q − S² + N²·ε/s²)·2^12        not centred S counts as 0
u_i = ⌊t_i·2^22 / √D⌋,   y_i = clamp(z + ⌊(u_i·gain_i + offset_i·2^16) / 2^(16 + shift) + ½⌋)

u is 2^16 times what normalisation makes of the reals s·q. Sums and D are exact, but for the 12th bit behind the point of ε's part.
1/√D = r·2^j / 2^61, j so that 4^j·D lies in [2^60, 2^62) and r = ⌊2^61 / ⌊√(4^j·D)⌋⌋: one root and one division a row, both bit by bit.

dq: that of the reals (`normalise`), times s, of dy·gain / 2^shift where y lies inside of the bounds
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Cost, Example, Kernel, Wanted
from tinytrain.ir.types import S8, S32, Array, Quant, TensorType, Value
from tinytrain.ops.elementwise import Mul, Scale
from tinytrain.ops.normalise import Normalise, NormaliseGrad
from tinytrain.ops.quantize import Int8, checked_scale, clamped, dequantised, multiplier

LONGEST = 2**15                                           # of a row: Σ q² stays within int32
_BITS, _FINE, _MOST = 16, 12, 2**30                       # of u, of D; and what gains and offsets stay below


@dataclass(frozen=True)
class NormaliseQ(Int8):
    """x s8 (..., N) of scale `scale_in`, gain and offset s32 (N,) in units of 2^-shift steps of y -> y s8 alike.

    ONNX LayerNormalization, and not centred RMSNormalization, between quantised tensors.
    """

    shift: int = 20
    scale_in: float = 1.0
    zero_in: int = 0
    epsilon: float = 1e-5
    centred: bool = True

    name = "normalise_q"
    args = ("x", "gain", "offset")
    kernels = (Kernel("normalise_q", (S8, S32, S32, S8)),)

    def added(self, n: int) -> int:
        """N²·ε/s² in D for rows of n, at least 1: a row without spread has a root too. Raises ValueError where 2^60 is not above it."""
        found = self.epsilon * (n / checked_scale(self.scale_in)) ** 2 * 2.0**_FINE
        if not 0 <= found < 2**60:
            raise ValueError(f"an epsilon of {self.epsilon} for numbers of scale {self.scale_in}: less is expected")
        return max(round(float(found)), 1)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, gain, offset = types
        row = TensorType(x.shape[-1:], S32)
        if x.dtype is not S8 or (gain, offset) != (row, row) or (x.quant and x.quant != Quant((self.scale_in,), self.zero_in)):
            raise ValueError(f"x {x} of {x.quant}, gain {gain}, offset {offset} for scale {self.scale_in}, zero point {self.zero_in}")
        if x.shape[-1] > LONGEST or not 0 <= self.shift <= 30:
            raise ValueError(f"rows of {x.shape[-1]} and a shift of {self.shift}: {LONGEST} and 30 at most are expected")
        kind = self.stored(x.shape)
        assert self.added(x.shape[-1])                    # or ValueError
        return (kind,)

    def affine(self, scale: Array, offset: Array) -> tuple[Array, Array, int]:
        """Gain, offset and shift for a real scale and offset. Raises ValueError where they do not fit."""
        steps = [real.astype(np.float64) / checked_scale(self.scale) for real in (scale, offset)]
        largest = max(float(np.abs(one).max()) for one in steps)
        if not largest < _MOST:
            raise ValueError(f"a scale of {self.scale} for numbers of {largest * self.scale:g}: a larger one is expected")
        shift = min(30 - math.frexp(largest)[1], 30)
        gain, offset = (np.clip(np.rint(one * 2.0**shift), 1 - _MOST, _MOST - 1).astype(np.int32) for one in steps)
        return gain, offset, shift

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        q, gain, offset = (array.astype(np.int64) for array in arrays)
        n = q.shape[-1]
        q = q if self.centred else q - self.zero_in
        total = q.sum(axis=-1, keepdims=True) if self.centred else np.zeros((*q.shape[:-1], 1), np.int64)
        d = ((n * (q * q).sum(axis=-1, keepdims=True) - total * total) << _FINE) + self.added(n)
        j = np.array([(62 - int(one).bit_length()) // 2 for one in d.flat], np.int64).reshape(d.shape)
        r = np.array([2**61 // math.isqrt(int(one)) for one in (d << 2 * j).flat], np.int64).reshape(d.shape)
        u = ((n * q - total) * r) >> (61 - _BITS - _FINE // 2 - j)
        by = _BITS + self.shift
        return (clamped((u * gain + (offset << _BITS) + (np.int64(1) << (by - 1))) >> by, self),)

    def smooth(self, *arrays: Array) -> tuple[Array, ...]:
        q, gain, offset = arrays
        (y,) = Normalise((*q.shape[:-1], 1), self.epsilon, self.centred, statistics=False).reference((q - self.zero_in) * self.scale_in)
        return self.real((y * gain + offset) / 2**self.shift)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x, gain, _), dy = inputs, grads[0]
        assert dy is not None
        rows, name = (*x.shape[:-1], 1), f"d_{x.name}"
        y, *_, r = g.emit_all(Normalise(rows, self.epsilon, self.centred), dequantised(g, x, name=f"{x.name}_real"), name=f"{x.name}_unit")
        gains = multiplier(g, gain, g.const(f"{gain.name}_shift", np.full(gain.shape, self.shift, np.int32)))
        made = g.emit(NormaliseGrad(rows, self.centred), g.emit(Mul(), self.inside(g, dy, outputs[0]), gains, name=name), y, r, name=name)
        return g.emit(Scale(self.scale_in), made, name=name), None, None

    def cost(self, *types: TensorType) -> Cost:
        return Cost(macs=2 * types[0].numel, elements=types[0].numel)


_TABLES = ((-128, 128), (-(2**25), 2**25), (-(2**22), 2**22))
NormaliseQ.examples = tuple(
    Example(
        NormaliseQ(scale, z, shift=shift, scale_in=s, zero_in=zero, epsilon=epsilon, centred=centred),
        (TensorType(shape, S8, Quant((s,), zero)), *[TensorType(shape[-1:], S32)] * 2), _TABLES,
    )
    for shape, scale, z, shift, s, zero, epsilon, centred in (
        ((1,), 0.1, 3, 20, 0.05, 7, 1e-5, True), ((2,), 0.05, -5, 20, 0.05, 0, 1e-5, True), ((5, 7), 0.1, 0, 21, 2.0, -128, 1e-5, True),
        ((2, 3, 16), 0.02, 1, 20, 1e-4, 127, 1e-5, True), ((3, 64), 0.02, 9, 19, 0.04, 5, 0.1, True),
        ((1,), 0.1, 3, 20, 0.05, 7, 1e-5, False), ((4, 13), 0.05, -20, 20, 0.03, -128, 1e-6, False),
    )
)
