# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of int8 numbers that stand for s·(q − z). All end with one rounding, a half up, and a clamp:

add_q: y = clamp(z + round(A·(a − za) + B·(b − zb)))  with A = sa/s, B = sb/s; as (a·mA + b·mB + c) >> n it needs 32 bits only
    da = A·dy, db = B·dy where y lies inside of the bounds
mul_q: y = clamp(z + round(M·(a − za)·(b − zb)))  with M = sa·sb/s;  da = dy·M·(b − zb), db = dy·M·(a − za) inside (`mul_stored`)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.integer import IntegerForms, Operand, Scaled
from tinytrain.ir.op import Declined, Elementwise, Example, Wanted, is_row_operand, no
from tinytrain.ir.types import F32, S8, Array, Quant, TensorType, Value
from tinytrain.ir.words import Words
from tinytrain.ops.elementwise import Scale, reduced
from tinytrain.ops.integer_arith import ProductInteger
from tinytrain.ops.quantize import Stored, checked_scale, clamped, fixed_point, rescaled
from tinytrain.ops.simd import elementwise


@dataclass(frozen=True)
class StoredBinary(Stored):
    """Base of a ∘ b of int8; input 1 is like input 0, one per channel, one per row, or one element."""

    scales: tuple[float, float] = (1.0, 1.0)
    zeros: tuple[int, int] = (0, 0)

    args = ("a", "b")
    kernels = elementwise(S8)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        a, b = types
        if not (b.shape in (a.shape, a.shape[-1:]) or b.numel == 1 or is_row_operand(b, a)):
            raise ValueError(f"b {b.shape} against a {a.shape}: the same shape, one per channel, one per row, or one element is expected")
        for kind, scale, zero in zip(types, self.scales, self.zeros, strict=True):
            size = checked_scale(abs(scale))
            if kind.quant and kind.quant != Quant((size,), zero):
                raise ValueError(f"an operand of {kind.quant} is taken for one of scale {scale} and zero point {zero}")
        return (self.stored(a.shape),)

    def centred(self, *arrays: Array) -> tuple[Array, Array]:
        """Both operands without their zero points, as int64 or float64."""
        a, b = (x.astype(np.promote_types(x.dtype, np.int64)) - zero for x, zero in zip(arrays, self.zeros, strict=True))
        return a, b.reshape(()) if b.size == 1 else b


@dataclass(frozen=True)
class AddQ(StoredBinary):
    """a, b s8 of any scales -> a + b as s8; one with its scale below 0 is subtracted. ONNX Add, Sub between quantised tensors."""

    name = "add_q"

    @property
    def fixed(self) -> tuple[int, int, int, int]:
        """(mA, mB, c, n), n as large as 32-bit sums allow. Raises ValueError where the scales lie too far apart."""
        for n in range(23, 0, -1):
            ma, mb = (round(scale / self.scale * 2**n) for scale in self.scales)
            c = (self.zero_point << n) + (1 << n >> 1) - ma * self.zeros[0] - mb * self.zeros[1]
            if 128 * (abs(ma) + abs(mb)) + abs(c) < 2**31:
                return ma, mb, c, n
        raise ValueError(f"operands of scales {self.scales} are too coarse for a sum of scale {self.scale}")

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        out = super().infer(*types)
        assert self.fixed                                 # or ValueError
        return out

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        ma, mb, _, n = self.fixed
        a, b = self.centred(*arrays)
        return (clamped((a * ma + b * mb + (1 << n >> 1)) >> n, self),)

    def smooth(self, *arrays: Array) -> tuple[Array, ...]:
        ma, mb, _, n = self.fixed
        a, b = self.centred(*arrays)
        return self.real((a * ma + b * mb) / 2**n)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        a, b = operands
        ma, mb, c, n = self.fixed
        return (w.within(w.weighted(a, ma, b, mb, c, n), self.low, self.high),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        dy = grads[0]
        assert dy is not None
        *factors, _, n = self.fixed
        inside = self.inside(g, dy, outputs[0])
        return tuple(
            reduced(g, g.emit(Scale(m / 2**n), inside, name=f"d_{x.name}"), x) if want else None
            for x, m, want in zip(inputs, factors, wanted, strict=True)
        )


@dataclass(frozen=True)
class MulQ(StoredBinary):
    """a, b s8 of any scales -> a·b as s8. ONNX Mul between quantised tensors."""

    name = "mul_q"

    @property
    def fixed(self) -> tuple[int, int]:
        return fixed_point(self.scales[0] * self.scales[1] / self.scale)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        out = super().infer(*types)
        assert self.fixed                                 # or ValueError
        return out

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        m, s = self.fixed
        a, b = self.centred(*arrays)
        return (clamped(rescaled(a * b, np.array(m), np.array(s)), self),)

    def smooth(self, *arrays: Array) -> tuple[Array, ...]:
        m, s = self.fixed
        a, b = self.centred(*arrays)
        return self.real(a * b * (m / 2**s))

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        a, b = (w.minus(name, zero) for name, zero in zip(operands, self.zeros, strict=True))
        m, s = (w.spread(str(number), "int32_t") for number in self.fixed)
        return (w.requantised(w.mul(a, b, "int32_t"), m, s, self.zero_point, self.low, self.high),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (a, b), dy = inputs, grads[0]
        assert dy is not None
        m, s = self.fixed
        by_a, by_b = (MulStored(m / 2**s, zero) for zero in self.zeros)
        inside = self.inside(g, dy, outputs[0])
        return (
            g.emit(by_b, inside, b, name=f"d_{a.name}") if wanted[0] else None,
            reduced(g, g.emit(by_a, inside, a, name=f"d_{b.name}"), b) if wanted[1] else None,
        )


@dataclass(frozen=True)
class MulStored(Elementwise):
    """dy f32, b s8 (like dy, per channel, per row or one) -> dy·factor·(b − zero)."""

    factor: float = 1.0
    zero: int = 0

    name = "mul_stored"
    args = ("dy", "b")
    results = ("dx",)
    kernels = elementwise(F32, S8, F32)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, b = arrays
        return (dy * ((b.astype(np.int64) - self.zero).astype(dy.dtype) * dy.dtype.type(self.factor)),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        dy, b = operands
        return (w.mul(dy, w.mul(w.real(w.minus(b, self.zero)), w.number(self.factor))),)

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        dy, b = inputs
        if not isinstance(dy, Scaled) or isinstance(b, Scaled):
            return no("its other factor is not int8")
        short = g.short(dy)
        made = g.emit(ProductInteger(self.zero), short.mantissa, b, name=outputs[0].name)
        return (dataclasses.replace(short, mantissa=made).times(self.factor),)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)


def _stored(shape: tuple[int, ...], scale: float, zero_point: int) -> TensorType:
    return TensorType(shape, S8, Quant((scale,), zero_point))


_OPERANDS = (((1,), (1,)), ((13,), (13,)), ((13,), (1,)), ((3, 5, 7), (7,)), ((4, 2, 3), (4, 1, 1)), ((5, 3), (5, 3)))
_SETTINGS = (
    (0.1, 3, (0.05, 0.07), (0, 0)), (0.02, -128, (0.02, 0.011), (-128, 127)), (0.5, 127, (0.03, 1.7), (5, -9)),
    (0.01, 0, (0.2, 0.000001), (-128, -128)), (1.0, -7, (0.9, 4e-3), (127, 1)), (0.05, -128, (0.04, 0.05), (-11, -3)),
)
for _binary in (AddQ, MulQ):
    _binary.examples = tuple(
        Example(_binary(s, z, -128 + i, 127 - 3 * i, scales, zeros), tuple(map(_stored, shapes, scales, zeros)), (-128, 128))
        for i, (shapes, (s, z, scales, zeros)) in enumerate(zip(_OPERANDS, _SETTINGS, strict=True))
    )
AddQ.examples += tuple(
    Example(AddQ(0.1, -7, scales=(sa, sb), zeros=(3, -9)), (_stored((5, 3), abs(sa), 3), _stored(small, abs(sb), -9)), (-128, 128))
    for sa, sb, small in ((0.05, -0.07, (5, 3)), (-0.05, 0.07, (3,)))
)
MulStored.examples = tuple(
    Example(MulStored(factor, zero), (TensorType(a), TensorType(b, S8)), (-128, 128))
    for (a, b), (factor, zero, *_) in zip(_OPERANDS, _SETTINGS, strict=True)
)
