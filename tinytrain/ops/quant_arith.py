# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of int8 numbers that stand for s·(q − z). All end with one rounding, a half up, and a clamp:

add_q: y = clamp(z + round(A·(a − za) + B·(b − zb)))  with A = sa/s, B = sb/s; as (a·mA + b·mB + c) >> n it needs 32 bits only
    da = A·dy, db = B·dy where y lies inside of the bounds
mul_q: y = clamp(z + round(M·(a − za)·(b − zb)))  with M = sa·sb/s;  da = dy·M·(b − zb), db = dy·M·(a − za) inside (`mul_stored`)
lookup: y = table[x + 128], table[i] = clamp(z + round(f(sx·(i − 128 − zx)) / s));  dx = dy·slopes[x + 128], slopes = sx/s·f′ inside
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.integer import IntegerForms, Operand, Scaled
from tinytrain.ir.op import Declined, Elementwise, Example, Kernel, Tie, Wanted, is_row_operand, no
from tinytrain.ir.types import F32, S8, Array, Quant, TensorType, Value
from tinytrain.ir.words import Words
from tinytrain.ops.activation import sigmoid
from tinytrain.ops.elementwise import Scale, reduced
from tinytrain.ops.integer_arith import SLOPE_BITS, ProductInteger, SlopeInteger
from tinytrain.ops.quantize import HIGH, LOW, Stored, checked_scale, clamped, fixed_point, rescaled
from tinytrain.ops.simd import elementwise

_TABLE = TensorType((256,), S8)
_SLOPES = TensorType((256,), F32)


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
            checked_scale(scale)
            if kind.quant and kind.quant != Quant((scale,), zero):
                raise ValueError(f"an operand of {kind.quant} is taken for one of scale {scale} and zero point {zero}")
        return (self.stored(a.shape),)

    def centred(self, *arrays: Array) -> tuple[Array, Array]:
        """Both operands without their zero points, as int64 or float64."""
        a, b = (x.astype(np.promote_types(x.dtype, np.int64)) - zero for x, zero in zip(arrays, self.zeros, strict=True))
        return a, b.reshape(()) if b.size == 1 else b


@dataclass(frozen=True)
class AddQ(StoredBinary):
    """a, b s8 of any scales -> a + b as s8. ONNX Add between quantised tensors."""

    name = "add_q"

    @property
    def fixed(self) -> tuple[int, int, int, int]:
        """(mA, mB, c, n), n as large as 32-bit sums allow. Raises ValueError where the scales lie too far apart."""
        for n in range(23, 0, -1):
            ma, mb = (round(scale / self.scale * 2**n) for scale in self.scales)
            c = (self.zero_point << n) + (1 << n >> 1) - ma * self.zeros[0] - mb * self.zeros[1]
            if 128 * (ma + mb) + abs(c) < 2**31:
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


Curve = tuple[Callable[[Array], Array], Callable[[Array], Array]]

# name -> f and f′ over float64
CURVES: dict[str, Curve] = {
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x))),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "hard_swish": (
        lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
        lambda x: np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, x / 3 + 0.5)),
    ),
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x)))),
}


@dataclass(frozen=True)
class Lookup(Stored):
    """x s8, table s8[256] -> y s8. `curve` names the function, or is "hard_sigmoid" or "leaky_relu" with slope `alpha`."""

    curve: str = "sigmoid"
    scale_in: float = 1.0
    zero_in: int = 0
    alpha: float = 0.0
    beta: float = 0.0

    name = "lookup"
    args = ("x", "table")
    kernels = (Kernel("elementwise", (S8,), macro="elementwise"),)

    def _functions(self) -> Curve:
        if self.curve == "hard_sigmoid":
            return (
                lambda x: np.clip(self.alpha * x + self.beta, 0, 1),
                lambda x: np.where((self.alpha * x + self.beta > 0) & (self.alpha * x + self.beta < 1), self.alpha, 0.0),
            )
        if self.curve == "leaky_relu":
            return lambda x: np.where(x > 0, x, self.alpha * x), lambda x: np.where(x > 0, 1.0, self.alpha)
        return CURVES[self.curve]

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, table = types
        if self.curve not in (*CURVES, "hard_sigmoid", "leaky_relu"):
            raise ValueError(f"{self.curve}: {', '.join(CURVES)}, hard_sigmoid or leaky_relu is expected")
        checked_scale(self.scale_in)
        if (table.shape, table.dtype) != (_TABLE.shape, S8) or (x.quant and x.quant != Quant((self.scale_in,), self.zero_in)):
            raise ValueError(f"x {x} of {x.quant} and table {table} for scale {self.scale_in}, zero point {self.zero_in} and {_TABLE}")
        return (self.stored(x.shape),)

    def _reals(self, q: Array) -> Array:
        return self.scale_in * (q.astype(np.float64) - self.zero_in)

    def table(self) -> Array:
        """f for each x from -128 on; a half is rounded to the even neighbour."""
        q = np.rint(np.clip(self._functions()[0](self._reals(np.arange(LOW, HIGH + 1))) / self.scale, -1e6, 1e6))
        return clamped(q.astype(np.int64), self)

    def slopes(self) -> Array:
        """dy/dx of stored numbers for each x from -128 on."""
        y = self.table()
        slope = self._functions()[1](self._reals(np.arange(LOW, HIGH + 1))) * (self.scale_in / self.scale)
        return np.where((y > self.low) & (y < self.high), slope, 0.0).astype(np.float32)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        x, table = arrays
        return (table[x.astype(np.int64) - LOW],)

    def smooth(self, *arrays: Array) -> tuple[Array, ...]:
        return self.real(self._functions()[0](self._reals(arrays[0])) / self.scale)

    def ties(self, *types: TensorType) -> tuple[Tie, ...]:
        return super().ties(types[0])                     # the table has no channels

    def load(self, operand: int, pointer: str, i: str, c: str, types: Sequence[TensorType]) -> tuple[str, str]:
        return ("int8_t *", pointer) if operand == 1 else super().load(operand, pointer, i, c, types)

    def expr(self, *operands: str) -> tuple[str, ...]:
        x, table = operands
        return (f"{table}[{x} + 128]",)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x, table), dy = inputs, grads[0]
        assert dy is not None
        if not wanted[0]:
            return (None, None)
        slopes = g.const(f"{table.name}_slopes", self.slopes())
        return g.emit(LookupGrad(), dy, x, slopes, name=f"d_{x.name}"), None


@dataclass(frozen=True)
class LookupGrad(Elementwise):
    """dy f32, x s8 alike, slopes f32[256] -> dy·slopes[x + 128]."""

    name = "lookup_grad"
    args = ("dy", "x", "slopes")
    results = ("dx",)
    kernels = (Kernel("elementwise", (F32, S8, F32), macro="elementwise"),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        dy, x, slopes = types
        if dy.shape != x.shape or slopes != _SLOPES:
            raise ValueError(f"dy {dy}, x {x}, slopes {slopes}")
        return (dy,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, x, slopes = arrays
        return (dy * slopes[x.astype(np.int64) - LOW],)

    def load(self, operand: int, pointer: str, i: str, c: str, types: Sequence[TensorType]) -> tuple[str, str]:
        return ("float *", pointer) if operand == 2 else super().load(operand, pointer, i, c, types)

    def expr(self, *operands: str) -> tuple[str, ...]:
        dy, x, slopes = operands
        return (f"{dy} * {slopes}[{x} + 128]",)

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        dy, x, slopes = inputs
        if not isinstance(dy, Scaled) or isinstance(x, Scaled) or isinstance(slopes, Scaled) or slopes.data is None:
            return no("its table of slopes is no constant")
        short = g.short(dy)
        unit = max(float(np.abs(slopes.data).max()), 1e-30) / 2**SLOPE_BITS
        table = g.shared(f"{slopes.name}_integer", np.rint(slopes.data.astype(np.float64) / unit).astype(np.int32))
        made = g.emit(SlopeInteger(), short.mantissa, x, table, name=outputs[0].name)
        return (dataclasses.replace(short, mantissa=made).times(unit),)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)


def looked_up(g: Builder, x: Value, curve: str, scale: float, zero_point: int, alpha: float = 0.0, beta: float = 0.0) -> Value:
    """A function of x s8 as s8 at a scale of its own; the table is a constant."""
    quant = x.type.quant
    assert quant is not None and len(quant.scale) == 1, f"{x!r} has not one scale"
    op = Lookup(scale, zero_point, curve=curve, scale_in=quant.scale[0], zero_in=quant.zero_point, alpha=alpha, beta=beta)
    return g.emit(op, x, g.const(f"{x.name}_{curve}", op.table()), name=curve)


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
MulStored.examples = tuple(
    Example(MulStored(factor, zero), (TensorType(a), TensorType(b, S8)), (-128, 128))
    for (a, b), (factor, zero, *_) in zip(_OPERANDS, _SETTINGS, strict=True)
)
Lookup.examples = tuple(
    Example(Lookup(s, z, curve=curve, scale_in=sx, zero_in=zx, alpha=0.2, beta=0.5), (_stored(x, sx, zx), _TABLE), (-128, 128))
    for x, (curve, s, z, sx, zx) in zip(((1,), (17,), (3, 5, 2), (256,), (9,), (40,)), (
        ("sigmoid", 2**-8, -128, 0.06, 3), ("tanh", 2**-7, 0, 0.03, -20), ("hard_swish", 0.03, -110, 0.04, 10),
        ("silu", 0.05, -118, 0.05, 0), ("hard_sigmoid", 2**-8, -128, 0.05, 0), ("leaky_relu", 0.02, -30, 0.02, 1),
    ), strict=True)
)
LookupGrad.examples = tuple(
    Example(LookupGrad(), (TensorType(shape), TensorType(shape, S8), _SLOPES), (-128, 128)) for shape in ((1,), (17,), (4, 2, 3))
)
