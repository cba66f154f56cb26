# SPDX-License-Identifier: Apache-2.0
"""Functions of one element in pieces, each a `Curve`, and prelu, whose slope below zero is trained.

floor, ceil, round (half to even), sign: constant between their steps: no gradient flows through them
thresholded_relu x where x > α, else 0   shrink x − b where x > λ, x + b where x < −λ, else 0   swish x/(1 + e^(−αx))
prelu x where x > 0, else s·x; s per channel, or one: dx = dy·(x > 0 ? 1 : s), ds = Σ dy·min(x, 0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Elementwise, Example, Wanted, f32
from tinytrain.ir.types import Array, Value
from tinytrain.ir.words import Words, literal
from tinytrain.ops.activation import sigmoid
from tinytrain.ops.curve import Curve, CurveGrad, curve_examples, slope_examples
from tinytrain.ops.elementwise import Binary, reduced
from tinytrain.ops.simd import elementwise


@dataclass(frozen=True)
class Steps(Curve):
    """Base of functions that are constant but for their steps; NumPy calls them `numpy`."""

    numpy: ClassVar[str]

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (np.asarray(getattr(np, self.numpy)(arrays[0])),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        return (f"tt_{self.name}f({operands[0]})",)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        return (None,)


@dataclass(frozen=True)
class Floor(Steps):
    """ONNX Floor."""

    name = "floor"
    numpy = "floor"


@dataclass(frozen=True)
class Ceil(Steps):
    """ONNX Ceil."""

    name = "ceil"
    numpy = "ceil"


@dataclass(frozen=True)
class Round(Steps):
    """ONNX Round."""

    name = "round"
    numpy = "rint"


@dataclass(frozen=True)
class Sign(Steps):
    """−1, 0 or 1. ONNX Sign."""

    name = "sign"
    kernels = elementwise()
    numpy = "sign"

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        (x,), zero = operands, w.number(0.0)
        return (w.where(x, zero, w.number(1.0), w.where(zero, x, w.number(-1.0), zero)),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        return super(Steps, self).expr(*operands)


@dataclass(frozen=True)
class ThresholdedRelu(Curve):
    """x where x > alpha, else 0. ONNX ThresholdedRelu."""

    alpha: float = 1.0

    name = "thresholded_relu"
    kernels = elementwise()

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        return (np.where(x > x.dtype.type(self.alpha), x, x.dtype.type(0)),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        (x,) = operands
        return (w.where(x, w.number(self.alpha), x, w.number(0.0)),)

    def slope(self, at: Array) -> Array:
        return np.asarray(at > at.dtype.type(self.alpha), at.dtype)

    def slope_lanes(self, w: Words, at: str) -> str:
        return w.where(at, w.number(self.alpha), w.number(1.0), w.number(0.0))


@dataclass(frozen=True)
class Shrink(Curve):
    """x − bias where x > limit, x + bias where x < −limit, else 0. ONNX Shrink."""

    limit: float = 0.5
    bias: float = 0.0

    name = "shrink"
    kernels = elementwise()

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        limit, bias, zero = map(x.dtype.type, (self.limit, self.bias, 0.0))
        return (np.where(x < -limit, x + bias, np.where(x > limit, x - bias, zero)),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        (x,), bias = operands, w.number(self.bias)
        above = w.where(x, w.number(self.limit), w.sub(x, bias), w.number(0.0))
        return (w.where(w.number(-self.limit), x, w.add(x, bias), above),)

    def slope(self, at: Array) -> Array:
        limit = at.dtype.type(self.limit)
        return np.asarray((at > limit) | (at < -limit), at.dtype)

    def slope_lanes(self, w: Words, at: str) -> str:
        one = w.number(1.0)
        return w.where(w.number(-self.limit), at, one, w.where(at, w.number(self.limit), one, w.number(0.0)))


@dataclass(frozen=True)
class Swish(Curve):
    """x·sigmoid(alpha·x). ONNX Swish."""

    alpha: float = 1.0

    name = "swish"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        return (x * sigmoid(x * x.dtype.type(self.alpha)),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        (x,) = operands
        return (f"{x} * tt_sigmoidf({x} * {literal(self.alpha)})",)

    def slope(self, at: Array) -> Array:
        inner = at * at.dtype.type(self.alpha)
        gate = sigmoid(inner)
        return np.asarray(gate * (1 + inner * (1 - gate)))

    def slope_c(self, at: str) -> str:
        return f"tt_swish_slopef({at} * {literal(self.alpha)})"


@dataclass(frozen=True)
class PRelu(Binary):
    """x where x > 0, else slope·x. ONNX PRelu."""

    name = "prelu"
    args = ("x", "slope")
    parameters = {1: "slope"}
    extends_layer = True

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        x, slope = self.fitted(arrays)
        return (np.where(x > 0, x, x * slope),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        x, slope = operands
        return (w.where(x, w.number(0.0), x, w.mul(x, slope)),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x, slope), dy = inputs, grads[0]
        assert dy is not None
        return (
            g.emit(PReluGradX(), dy, x, slope, name=f"d_{x.name}") if wanted[0] else None,
            reduced(g, g.emit(PReluGradSlope(), dy, x, name=f"d_{slope.name}"), slope) if wanted[1] else None,
        )


@dataclass(frozen=True)
class PReluGradX(Elementwise):
    """dy, x, slope -> dy where x > 0, else dy·slope."""

    name = "prelu_grad_x"
    args = ("dy", "x", "slope")
    results = ("dx",)
    kernels = elementwise()

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, x, slope = arrays
        return (np.where(x > 0, dy, dy * (slope.reshape(()) if slope.size == 1 else slope)),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        dy, x, slope = operands
        return (w.where(x, w.number(0.0), dy, w.mul(dy, slope)),)


@dataclass(frozen=True)
class PReluGradSlope(Elementwise):
    """dy, x -> dy·min(x, 0)."""

    name = "prelu_grad_slope"
    args = ("dy", "x")
    results = ("dslope",)
    kernels = elementwise()

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, x = arrays
        return (dy * np.minimum(x, 0),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        (dy, x), zero = operands, w.number(0.0)
        return (w.where(x, zero, zero, w.mul(dy, x)),)


_OPERANDS = (((1,), (1,)), ((13,), (13,)), ((35,), (1,)), ((3, 5, 7), (7,)), ((4, 2, 3), (4, 1, 1)))

# the slopes of steps are checked between them, where differences are 0 too
for _step in (Floor(), Ceil(), Round(), Sign()):
    type(_step).examples = curve_examples(_step, (0.4, 0.0), (8.0, 0.0))[1:]
for _curve in (ThresholdedRelu(0.5), Shrink(0.5, 0.25), Swish(), Swish(1.7)):
    type(_curve).examples += curve_examples(_curve)
    CurveGrad.examples += slope_examples(_curve)[-2:]
PRelu.examples = tuple(Example(PRelu(), f32(a, b)) for a, b in _OPERANDS)
PReluGradX.examples = tuple(Example(PReluGradX(), f32(a, a, b)) for a, b in _OPERANDS)
PReluGradSlope.examples = tuple(Example(PReluGradSlope(), f32(a, a)) for a, _ in _OPERANDS[1:4])
