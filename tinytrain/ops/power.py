# SPDX-License-Identifier: Apache-2.0
"""power: y = x^p with p known when compiling, dx = dy·p·x^(p − 1)        pow: y = a^b, da = dy·b·a^(b − 1), db = dy·y·ln a

Of a negative number there are powers of whole exponents only, the others are NaN, and it gives its exponent no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Elementwise, Example, Wanted, f32
from tinytrain.ir.types import Array, Value
from tinytrain.ir.words import Words, literal
from tinytrain.ops.curve import Curve, CurveGrad, curve_examples, slope_examples
from tinytrain.ops.elementwise import Binary, reduced
from tinytrain.ops.simd import elementwise

_PRODUCTS = 4                                             # up to here a power is written as a product


def _raised(x: Array, p: Array | float) -> Array:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.asarray(np.power(x, np.asarray(p, x.dtype)))


def _power_lanes(w: Words, x: str, exponent: float) -> str | None:
    """The power in words, where it is a product."""
    return reduce(w.mul, [x] * int(exponent)) if exponent in range(1, _PRODUCTS + 1) else None


def _power_c(x: str, exponent: float) -> str:
    """C of the power of one element: products, with a root where the exponent has a half, or the general form."""
    whole, half = divmod(abs(exponent), 1)
    if whole > _PRODUCTS or half not in (0, 0.5) or not exponent:
        return f"tt_powf({x}, {literal(exponent)})"
    product = " * ".join([x] * int(whole) + ([f"tt_sqrtf({x})"] if half else []))
    return f"1.0f / ({product})" if exponent < 0 else product


@dataclass(frozen=True)
class Power(Curve):
    """x^exponent. ONNX Pow with a constant exponent of one element."""

    exponent: float = 2.0

    name = "power"
    kernels = elementwise()

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (_raised(arrays[0], self.exponent),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...] | None:
        made = _power_lanes(w, operands[0], self.exponent)
        return None if made is None else (made,)

    def expr(self, *operands: str) -> tuple[str, ...]:
        return (_power_c(operands[0], self.exponent),)

    @property
    def _left(self) -> float:
        """The exponent of the slope; that of a constant is 0 everywhere."""
        return self.exponent - 1 if self.exponent else 0.0

    def slope(self, at: Array) -> Array:
        return np.asarray(at.dtype.type(self.exponent) * _raised(at, self._left))

    def slope_lanes(self, w: Words, at: str) -> str | None:
        made = _power_lanes(w, at, self._left)
        return None if made is None else w.mul(w.number(self.exponent), made)

    def slope_c(self, at: str) -> str:
        return f"{literal(self.exponent)} * ({_power_c(at, self._left)})"


@dataclass(frozen=True)
class Pow(Binary):
    """a^b. ONNX Pow."""

    name = "pow"
    kernels = Elementwise.kernels
    parameters = {1: "exponent"}

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (_raised(*self.fitted(arrays)),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        a, b = operands
        return (f"tt_powf({a}, {b})",)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (a, b), dy = inputs, grads[0]
        assert dy is not None
        return (
            g.emit(PowGradBase(), dy, a, b, name=f"d_{a.name}") if wanted[0] else None,
            reduced(g, g.emit(PowGradExponent(), dy, a, outputs[0], name=f"d_{b.name}"), b) if wanted[1] else None,
        )


@dataclass(frozen=True)
class PowGradBase(Elementwise):
    """dy, a, b -> dy·b·a^(b − 1). b is like a, one per channel, one per row or one element."""

    name = "pow_grad_base"
    args = ("dy", "a", "b")
    results = ("dx",)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, a, b = arrays
        b = b.reshape(()) if b.size == 1 else b
        return (dy * b * _raised(a, b - 1),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        dy, a, b = operands
        return (f"{dy} * {b} * tt_powf({a}, {b} - 1.0f)",)


@dataclass(frozen=True)
class PowGradExponent(Elementwise):
    """dy, a, y -> dy·y·ln a where a > 0, else 0."""

    name = "pow_grad_exponent"
    args = ("dy", "a", "y")
    results = ("dx",)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, a, y = arrays
        return (np.where(a > 0, dy * y * np.log(np.where(a > 0, a, a.dtype.type(1))), a.dtype.type(0)),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        dy, a, y = operands
        return (f"{a} > 0.0f ? {dy} * {y} * tt_logf({a}) : 0.0f",)


_POSITIVE = (1.0, 1.25)
_positive = partial(Example, reals=_POSITIVE)
_OPERANDS = (((1,), (1,)), ((13,), (13,)), ((13,), (1,)), ((3, 5, 7), (7,)), ((4, 2, 3), (4, 1, 1)))

for _exponent in (0.0, 2.0, 3.0):
    Power.examples += curve_examples(Power(_exponent))
    CurveGrad.examples += slope_examples(Power(_exponent))
for _exponent in (-2.0, -0.5, 1.5, 0.7, 7.0):
    Power.examples += curve_examples(Power(_exponent), _POSITIVE)[-2:]
    CurveGrad.examples += slope_examples(Power(_exponent), _POSITIVE)[-2:]
Power.examples += (Example(Power(5.0), f32((17,))),)
Pow.examples = tuple(_positive(Pow(), f32(a, b)) for a, b in _OPERANDS)
PowGradBase.examples = tuple(_positive(PowGradBase(), f32(a, a, b)) for a, b in _OPERANDS)
PowGradExponent.examples = tuple(_positive(PowGradExponent(), f32(a, a, a)) for a in ((1,), (13,), (3, 5)))
