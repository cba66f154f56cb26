# SPDX-License-Identifier: Apache-2.0
"""Functions of one element, y = f(x), by their formula and that of their slope: dx = dy·f'(x).

abs |x|   exp eˣ   log ln x   sqrt √x   reciprocal 1/x   erf 2/√π ∫₀ˣ e^(−t²) dt   softplus ln(1 + eˣ)   softsign x/(1 + |x|)

Where the slope is simpler as a function of y, y is what a training step keeps: one operand either way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Elementwise, Example, Wanted, f32
from tinytrain.ir.types import Array, TensorType, Value
from tinytrain.ir.words import PLAIN, Words, literal
from tinytrain.ops.activation import sigmoid
from tinytrain.ops.simd import elementwise

_ERF = np.vectorize(math.erf, otypes=[np.float64])


def erf(x: Array) -> Array:
    """The error function, in the type of x."""
    return np.asarray(_ERF(x)).astype(x.dtype) if x.size else x


@dataclass(frozen=True)
class Curve(Elementwise):
    """Base of y = f(x). `of_output`: the slope is written as a function of y."""

    differentiable = True
    of_output: ClassVar[bool] = False

    def slope(self, at: Array) -> Array:
        """f' where x, or y, is `at`."""
        raise NotImplementedError(self.name)

    def slope_lanes(self, w: Words, at: str) -> str | None:
        """The same in words, of one element or of many side by side; None: of one only."""
        return None

    def slope_c(self, at: str) -> str:
        """C of the slope of one element."""
        made = self.slope_lanes(PLAIN, at)
        assert made is not None, f"{self.name} has no formula of its slope"
        return made

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        dy = grads[0]
        assert dy is not None
        at = outputs[0] if self.of_output else inputs[0]
        return (g.emit(CurveGrad(self), dy, at, name=f"d_{inputs[0].name}"),)


@dataclass(frozen=True)
class CurveGrad(Elementwise):
    """dy, and x or y as `of` asks for it -> dy·f'(x)."""

    of: Curve

    name = "curve_grad"
    args = ("dy", "at")
    results = ("dx",)
    kernels = elementwise()

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        dy, at = types
        if dy.shape != at.shape:
            raise ValueError(f"dy {dy.shape} against {at.shape}")
        return (dy,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, at = arrays
        return (dy * self.of.slope(at).astype(dy.dtype),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...] | None:
        dy, at = operands
        slope = self.of.slope_lanes(w, at)
        return None if slope is None else (w.mul(dy, slope),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        dy, at = operands
        return (PLAIN.mul(dy, self.of.slope_c(at)),)


@dataclass(frozen=True)
class Abs(Curve):
    """|x|; the slope at 0 is 0. ONNX Abs."""

    name = "abs"
    kernels = elementwise()

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (np.abs(arrays[0]),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        (x,), zero = operands, w.number(0.0)
        return (w.where(x, zero, x, w.sub(zero, x)),)

    def slope(self, at: Array) -> Array:
        return np.sign(at)

    def slope_lanes(self, w: Words, at: str) -> str:
        zero = w.number(0.0)
        return w.where(at, zero, w.number(1.0), w.where(zero, at, w.number(-1.0), zero))


@dataclass(frozen=True)
class Exp(Curve):
    """eˣ. ONNX Exp."""

    name = "exp"
    of_output = True

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (np.exp(arrays[0]),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        return (f"tt_expf({operands[0]})",)

    def slope(self, at: Array) -> Array:
        return at

    def slope_lanes(self, w: Words, at: str) -> str:
        return at


@dataclass(frozen=True)
class Log(Curve):
    """ln x. ONNX Log."""

    name = "log"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        with np.errstate(divide="ignore", invalid="ignore"):   # as in C: -∞ at 0, and below no number
            return (np.log(arrays[0]),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        return (f"tt_logf({operands[0]})",)

    def slope(self, at: Array) -> Array:
        return 1 / at

    def slope_c(self, at: str) -> str:
        return f"1.0f / {at}"


@dataclass(frozen=True)
class Sqrt(Curve):
    """√x. ONNX Sqrt."""

    name = "sqrt"
    of_output = True

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        with np.errstate(invalid="ignore"):
            return (np.sqrt(arrays[0]),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        return (f"tt_sqrtf({operands[0]})",)

    def slope(self, at: Array) -> Array:
        return np.asarray(at.dtype.type(0.5) / at)

    def slope_c(self, at: str) -> str:
        return f"0.5f / {at}"


@dataclass(frozen=True)
class Reciprocal(Curve):
    """1/x. ONNX Reciprocal."""

    name = "reciprocal"
    of_output = True

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        with np.errstate(divide="ignore"):
            return (1 / arrays[0],)

    def expr(self, *operands: str) -> tuple[str, ...]:
        return (f"1.0f / {operands[0]}",)

    def slope(self, at: Array) -> Array:
        return -at * at

    def slope_lanes(self, w: Words, at: str) -> str:
        return w.mul(w.sub(w.number(0.0), at), at)


@dataclass(frozen=True)
class Erf(Curve):
    """2/√π ∫₀ˣ e^(−t²) dt. ONNX Erf."""

    name = "erf"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (erf(arrays[0]),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        return (f"tt_erff({operands[0]})",)

    def slope(self, at: Array) -> Array:
        return np.asarray(at.dtype.type(2 / math.sqrt(math.pi)) * np.exp(-at * at))

    def slope_c(self, at: str) -> str:
        return f"{literal(2 / math.sqrt(math.pi))} * tt_expf(-({at} * {at}))"


@dataclass(frozen=True)
class Softplus(Curve):
    """ln(1 + eˣ), as max(x, 0) + ln(1 + e^(−|x|)). ONNX Softplus."""

    name = "softplus"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        return (np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        return (f"tt_softplusf({operands[0]})",)

    def slope(self, at: Array) -> Array:
        return sigmoid(at)

    def slope_c(self, at: str) -> str:
        return f"tt_sigmoidf({at})"


@dataclass(frozen=True)
class Softsign(Curve):
    """x/(1 + |x|). ONNX Softsign."""

    name = "softsign"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        return (x / (1 + np.abs(x)),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        (x,) = operands
        return (f"{x} / (1.0f + ({x} < 0.0f ? -{x} : {x}))",)

    def slope(self, at: Array) -> Array:
        return 1 / (1 + np.abs(at)) ** 2

    def slope_c(self, at: str) -> str:
        bottom = f"(1.0f + ({at} < 0.0f ? -{at} : {at}))"
        return f"1.0f / ({bottom} * {bottom})"


_SHAPES = ((1,), (7,), (17,), (3, 5, 2))
_WIDE, _POSITIVE = (8.0, 0.0), (1.0, 1.25)


def curve_examples(
    curve: Curve, *reals: tuple[float, float], shapes: Sequence[tuple[int, ...]] = _SHAPES
) -> tuple[Example, ...]:
    """Odd shapes, and a longer map for each range of the operand."""
    ranges = reals or ((1.0, 0.0), _WIDE)
    return (*(Example(curve, f32(shape), reals=ranges[0]) for shape in shapes), *(Example(curve, f32((61,)), reals=r) for r in ranges))


def slope_examples(curve: Curve, *reals: tuple[float, float]) -> tuple[Example, ...]:
    """The same of its gradient, in fewer shapes: one loop computes all slopes."""
    return tuple(Example(CurveGrad(curve), e.inputs * 2, reals=e.reals) for e in curve_examples(curve, *reals, shapes=_SHAPES[::2]))


_CURVES: tuple[tuple[Curve, tuple[tuple[float, float], ...]], ...] = (
    *((curve, ()) for curve in (Abs(), Exp(), Reciprocal(), Erf(), Softplus(), Softsign())),
    *((curve, (_POSITIVE, (4.0, 4.5))) for curve in (Log(), Sqrt())),
)
for _curve, _reals in _CURVES:
    type(_curve).examples = curve_examples(_curve, *_reals)
    CurveGrad.examples += slope_examples(_curve, *_reals)
