# SPDX-License-Identifier: Apache-2.0
"""Integers that stand for reals: real = scale·(q − zero point).

requantise: q = clamp(z + round((x − z_in)·m / 2^s), low, high), the one rounding rule: (x·m + 2^(s−1)) >> s, a half goes up
dequantise: y = s·(x − z)                   quantise: q = clamp(z + round(x / s), low, high), a half goes to the even neighbour as in ONNX
multiplier: f = m / 2^s
clamp_grad: dx = dy where low < y < high; y is rounded, so that inside means low + 1/2 <= real < high − 1/2

Gradients are with respect to stored numbers and take rounding as the identity: d(requantise)/dx = m / 2^s inside of the bounds. An
element at a bound passes nothing, be it a saturated one or the zero of a ReLU that the bounds contain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.integer import IntegerForms, Operand, Scaled
from tinytrain.ir.op import Declined, Elementwise, Example, Kernel, Op, Wanted, no
from tinytrain.ir.types import F32, S8, S32, U8, Array, DType, Quant, TensorType, Value
from tinytrain.ir.words import Words
from tinytrain.ops.activation import MaskGrad, OutputGrad, compared
from tinytrain.ops.elementwise import Mul
from tinytrain.ops.integer_ends import Encode
from tinytrain.ops.integer_rules import moves
from tinytrain.ops.simd import elementwise

LOW, HIGH = -128, 127


def checked_scale(scale: float) -> float:
    """A scale that real numbers can have; raises ValueError for all others."""
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"a scale of {scale}: a positive finite number is expected")
    return scale


def fixed_point(real: float) -> tuple[int, int]:
    """(m, s) with real = m / 2^s, m in [2^30, 2^31) and s in 3..62; what is below 2^-32 has a smaller m. ValueError where none fits.

    With a smaller s, one shifted to the left as vector units do it would not stay in 32 bits.
    """
    fraction, exponent = math.frexp(checked_scale(real))
    m, s = round(math.ldexp(fraction, 31)), 31 - exponent
    if m == 2**31:
        m, s = 2**30, s - 1
    if s < 3:
        raise ValueError(f"a multiplier of {real}: less than 2^28 is expected")
    return (m, s) if s <= 62 else (round(math.ldexp(real, 62)), 62)


def fixed_points(reals: Sequence[float]) -> tuple[Array, Array]:
    """fixed_point of each, as two arrays of int32."""
    pairs = [fixed_point(real) for real in reals]
    return np.array([m for m, _ in pairs], np.int32), np.array([s for _, s in pairs], np.int32)


def rescaled(x: Array, m: Array, s: Array) -> Array:
    """round(x·m / 2^s), a half up, as int64."""
    wide = np.asarray(s, np.int64)
    return np.asarray((x.astype(np.int64) * np.asarray(m, np.int64) + (np.int64(1) << (wide - 1))) >> wide)


def clamped(q: Array, op: Int8) -> Array:
    """q + zero point within the bounds, as int8."""
    return np.asarray(np.clip(q + op.zero_point, op.low, op.high).astype(np.int8))


@dataclass(frozen=True)
class Int8(Op):
    """Base of ops that make int8: the scale and zero point of the output, and the bounds of what is stored."""

    scale: float = 1.0
    zero_point: int = 0
    low: int = LOW
    high: int = HIGH

    differentiable = True

    def stored(self, shape: tuple[int, ...]) -> TensorType:
        """Type of the output; raises ValueError where the attributes fit no int8."""
        checked_scale(self.scale)
        if not LOW <= self.zero_point <= HIGH:
            raise ValueError(f"a zero point of {self.zero_point}: {LOW} to {HIGH} is expected")
        if not LOW <= self.low < self.high <= HIGH:
            raise ValueError(f"bounds {self.low} and {self.high}: they must ascend within {LOW} to {HIGH}")
        return TensorType(shape, S8, Quant((self.scale,), self.zero_point))

    def real(self, v: Array) -> tuple[Array, ...]:
        """What clamped() does, without rounding: the derivative is 0 just where the rounded number lies at a bound."""
        return (np.clip(v + self.zero_point, self.low + 0.5, self.high - 0.5),)

    def inside(self, g: Builder, dy: Value, y: Value) -> Value:
        """dy where y lies between the bounds."""
        return g.emit(ClampGrad(self.low, self.high), dy, y, name=f"{dy.name}_inside")


@dataclass(frozen=True)
class Stored(Int8, Elementwise):
    """Base of those that do it element by element."""


@dataclass(frozen=True)
class Requantise(Stored):
    """x s32|s8, m, s s32 (per channel, per row or one) -> y s8. Bounds contain a following ReLU or Clip."""

    zero_in: int = 0

    name = "requantise"
    args = ("x", "m", "s")
    kernels = (*elementwise(S32, S32, S32, S8), *elementwise(S8, S32, S32, S8))

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, m, s = types
        if m.shape != s.shape:
            raise ValueError(f"multiplier {m} and shift {s}: one shape is expected")
        if x.quant and x.quant.zero_point != self.zero_in:
            raise ValueError(f"the op subtracts {self.zero_in}, the zero point of x is {x.quant.zero_point}")
        return (self.stored(x.shape),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        x, m, s = arrays
        return (clamped(rescaled(x.astype(np.int64) - self.zero_in, m, s), self),)

    def smooth(self, *arrays: Array) -> tuple[Array, ...]:
        x, m, s = arrays
        return self.real((x - self.zero_in) * np.ldexp(m.astype(np.float64), -s))

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        x, m, s = operands
        return (w.requantised(w.minus(x, self.zero_in), m, s, self.zero_point, self.low, self.high),)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x, m, s), dy = inputs, grads[0]
        assert dy is not None
        return g.emit(Mul(), self.inside(g, dy, outputs[0]), multiplier(g, m, s), name=f"d_{x.name}"), None, None


@dataclass(frozen=True)
class Multiplier(Elementwise):
    """m, s s32 alike -> m / 2^s as fp32."""

    name = "multiplier"
    args = ("m", "s")
    results = ("f",)
    kernels = (Kernel("elementwise", (S32, S32, F32), macro="elementwise"),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(types[0].shape),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        m, s = arrays
        return (np.ldexp(m.astype(np.float32), -s),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        m, s = operands
        return (f"(float){m} * tt_exp2i(-{s})",)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ()


def multiplier(g: Builder, m: Value, s: Value) -> Value:
    """m / 2^s: a constant where m and s are."""
    if m.data is not None and s.data is not None:
        return g.const(f"{m.name}_real", np.asarray(Multiplier().reference(m.data, s.data)[0]))
    return g.emit(Multiplier(), m, s, name=f"{m.name}_real")


@dataclass(frozen=True)
class Dequantise(Elementwise):
    """x s8|s32, scale f32 (per channel, per row or one) -> y f32."""

    zero_point: int = 0

    name = "dequantise"
    args = ("x", "scale")
    kernels = (*elementwise(S8, F32), *elementwise(S32, F32))
    differentiable = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x = types[0]
        if x.quant and x.quant.zero_point != self.zero_point:
            raise ValueError(f"the op subtracts {self.zero_point}, the zero point of x is {x.quant.zero_point}")
        return (TensorType(x.shape),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        x, scale = arrays
        return ((x.astype(np.int64) - self.zero_point).astype(scale.dtype) * scale,)

    def smooth(self, *arrays: Array) -> tuple[Array, ...]:
        x, scale = arrays
        return ((x - self.zero_point) * scale,)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        x, scale = operands
        return (w.mul(w.real(w.minus(x, self.zero_point)), scale),)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ()                                         # one kernel must not see one address as two types

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x, scale), dy = inputs, grads[0]
        assert dy is not None
        return (g.emit(Mul(), dy, scale, name=f"d_{x.name}"), None)

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        x, scale = inputs
        if isinstance(x, Scaled) or isinstance(scale, Scaled) or scale.data is None or scale.data.size != 1:
            return no("it has a scale per channel or one that is not constant")
        return (Scaled(x, g.exponent(0), np.asarray(scale.data.reshape(()), np.float64)),)


@dataclass(frozen=True)
class Quantise(Stored):
    """x f32 -> y s8. ONNX QuantizeLinear of a tensor with one scale."""

    name = "quantise"
    kernels = elementwise(F32, S8)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (self.stored(types[0].shape),)

    def _divided(self, x: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.asarray(x / x.dtype.type(np.float32(self.scale)))

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        v = np.rint(np.clip(self._divided(arrays[0]), self.low - self.zero_point, self.high - self.zero_point))
        return (clamped(np.where(np.isnan(v), 0, v).astype(np.int64), self),)

    def smooth(self, *arrays: Array) -> tuple[Array, ...]:
        return self.real(self._divided(arrays[0]))

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        return (w.quantised(operands[0], self.scale, self.zero_point, self.low, self.high),)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ()

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        dy = grads[0]
        assert dy is not None
        with np.errstate(over="ignore"):                  # found by check_numbers
            inverse = g.const(f"{outputs[0].name}_inverse_scale", np.array([1 / self.scale], np.float32))
        return (g.emit(Mul(), self.inside(g, dy, outputs[0]), inverse, name=f"d_{inputs[0].name}"),)

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        x = inputs[0]
        if isinstance(x, Scaled):
            return no("it stands behind a part that computes in fp32")
        return (g.emit(Encode(self.scale, self.zero_point, self.low, self.high), x, name=outputs[0].name),)


@dataclass(frozen=True)
class ClampGrad(OutputGrad):
    """dy (f32, or an integer gradient), y s8 -> dy where low < y < high, else 0."""

    low: int = LOW
    high: int = HIGH

    name = "clamp_grad"
    kernels = tuple(Kernel("elementwise", (dy, S8), macro="elementwise") for dy in (F32, S8, S32))
    as_integer = moves

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, y = arrays
        return (np.where((y > self.low) & (y < self.high), dy, np.zeros_like(dy)),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        dy, y = operands
        # a range with -1 in its middle: y or ~y, whichever is not negative, has one bound
        inside = f"({y} ^ {y} >> 31) < {self.high}" if self.low == ~self.high else f"{y} > {self.low} && {y} < {self.high}"
        return (f"{inside} ? {dy} : 0",)

    def as_mask(self) -> tuple[Op, Elementwise] | Declined:
        return ClampBits(self.low, self.high), MaskGrad()

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)


@dataclass(frozen=True)
class ClampBits(Op):
    """y s8 -> u8[ceil(n/8)]: bit i % 8 of byte i // 8 is set where low < y[i] < high; the spare bits are 0."""

    low: int = LOW
    high: int = HIGH

    name = "clamp_bits"
    args = ("y",)
    results = ("bits",)
    kernels = (
        Kernel("activation", (S8, U8), macro="pass_bits"),
        Kernel("activation", (S8, U8), "dsp", macro="clamp_bits_dsp"),
        *(Kernel("activation", (S8, U8), isa, "pass_vectors", params=partial(compared, n)) for isa, n in (("mve", 16), ("rvv", 64))),
    )

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(((types[0].numel + 7) // 8,), U8),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        y = arrays[0].ravel()
        return (np.packbits((y > self.low) & (y < self.high), bitorder="little"),)

    def inside(self, name: str) -> str:
        """The C condition that sets a bit."""
        return f"{name} > {self.low} && {name} < {self.high}"


def requantised(g: Builder, x: Value, scale: float, zero_point: int, low: int = LOW, high: int = HIGH, name: str | None = None) -> Value:
    """x s32|s8 at another scale, the multipliers made from the scale or scales of x. Raises ValueError where they do not fit."""
    assert x.type.quant is not None, f"{x!r} has no scale"
    m, s = fixed_points([checked_scale(one) / checked_scale(scale) for one in x.type.quant.scale])
    operands = g.const(f"{x.name}_m", m), g.const(f"{x.name}_s", s)
    return g.emit(Requantise(scale, zero_point, low, high, x.type.quant.zero_point), x, *operands, name=name)


def dequantised(g: Builder, x: Value, name: str | None = None) -> Value:
    """The real numbers that x s8|s32 stands for."""
    quant = x.type.quant
    assert quant is not None, f"{x!r} has no scale"
    scale = np.array([checked_scale(one) for one in quant.scale], np.float32)
    if quant.axis == 0 and len(x.shape) > 1 and scale.size > 1:
        scale = scale.reshape(-1, *(1 for _ in x.shape[1:]))
    return g.emit(Dequantise(quant.zero_point), x, g.const(f"{x.name}_scale", scale), name=name)


def _stored(shape: tuple[int, ...], zero_point: int = 0, dtype: DType = S8) -> TensorType:
    return TensorType(shape, dtype, Quant((2.0**-5,), zero_point))


_SHAPES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((1,), (1,)), ((13,), (1,)), ((13,), (13,)), ((3, 5, 7), (7,)), ((6, 3, 2, 2), (6, 1, 1, 1)),
    ((2, 35), (35,)),
)
_BOUNDS = ((0, LOW, HIGH), (-128, LOW, HIGH), (127, -3, HIGH), (-5, -5, 90), (3, -127, HIGH), (-9, LOW, HIGH))
_M = (2**30, 2**31 - 1)

Requantise.examples = (
    *(
        Example(Requantise(0.5, z, low, high), (_stored(x, 0, S32), *[TensorType(m, S32)] * 2), ((-20000, 20001), _M, (36, 41)))
        for (x, m), (z, low, high) in zip(_SHAPES, _BOUNDS, strict=True)
    ),
    Example(Requantise(0.5, 7), (_stored((41,), 0, S32), *[TensorType((41,), S32)] * 2), ((-5000, 5001), _M, (31, 63))),
    Example(Requantise(0.5, 7), (_stored((41,), 0, S32), *[TensorType((41,), S32)] * 2), ((-300, 300), _M, (26, 36))),
    *(
        Example(Requantise(0.5, -1, zero_in=z), (_stored((5, 3), z), *[TensorType((1,), S32)] * 2), ((-128, 128), _M, (30, 33)))
        for z in (0, -128, 9)
    ),
)
Multiplier.examples = tuple(Example(Multiplier(), (TensorType(shape, S32),) * 2, (_M, (1, 63))) for shape in ((1,), (5, 1)))
Dequantise.examples = tuple(
    Example(Dequantise(z), (_stored(x, z, dtype), TensorType(scale)), bounds)
    for x, scale in _SHAPES for dtype, z, bounds in ((S8, -128, (-128, 128)), (S8, 5, (-128, 128)), (S32, 0, (-20000, 20001)))
)
Quantise.examples = tuple(
    Example(Quantise(scale, z, low, high), (TensorType(x),))
    for (x, _), (z, low, high), scale in zip(_SHAPES, _BOUNDS, (0.25, 0.008, 0.125, 0.01, 1e-30, 0.005), strict=True)
)
ClampGrad.examples = tuple(
    Example(ClampGrad(low, high), (TensorType(x, dtype), TensorType(x, S8)), (-10, 10))
    for dtype in (F32, S8, S32) for x, (low, high) in (((1,), (-128, 127)), ((17,), (-4, 5)), ((3, 5, 2), (-128, 0)))
)
ClampBits.examples = tuple(
    Example(ClampBits(low, high), (TensorType(x, S8),), (-10, 10))
    for low, high in ((-128, 127), (-4, 5)) for x in ((1,), (7,), (8,), (17,), (3, 5, 2), (141,))
)
