# SPDX-License-Identifier: Apache-2.0
"""Circular and hyperbolic functions and their inverses (`runtime_c/tt_trig.h`), each a `Curve`:

sin' = cos   cos' = −sin   tan' = 1 + tan²   asin' = 1/√(1 − x²)   acos' = −asin'   atan' = 1/(1 + x²)
sinh' = cosh   cosh' = sinh   asinh' = 1/√(1 + x²)   acosh' = 1/√(x² − 1)   atanh' = 1/(1 − x²)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinytrain.ir.types import Array
from tinytrain.ops.curve import Curve, CurveGrad, curve_examples, slope_examples


@dataclass(frozen=True)
class _Function(Curve):
    """Base of tt_<name>f(x), which NumPy calls `numpy`; `rise_c` is C of the slope, with {} for its argument."""

    numpy: ClassVar[str]
    rise_c: ClassVar[str]

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):                   # as in C: NaN where there is no value
            return (np.asarray(getattr(np, self.numpy)(arrays[0])),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        return (f"tt_{self.name}f({operands[0]})",)

    def slope_c(self, at: str) -> str:
        return self.rise_c.replace("{}", at)


@dataclass(frozen=True)
class Sin(_Function):
    """ONNX Sin."""

    name = "sin"
    numpy = "sin"
    rise_c = "tt_cosf({})"

    def slope(self, at: Array) -> Array:
        return np.asarray(np.cos(at))


@dataclass(frozen=True)
class Cos(_Function):
    """ONNX Cos."""

    name = "cos"
    numpy = "cos"
    rise_c = "-tt_sinf({})"

    def slope(self, at: Array) -> Array:
        return np.asarray(-np.sin(at))


@dataclass(frozen=True)
class Tan(_Function):
    """ONNX Tan."""

    name = "tan"
    of_output = True
    numpy = "tan"
    rise_c = "1.0f + {} * {}"

    def slope(self, at: Array) -> Array:
        return np.asarray(1 + at * at)


@dataclass(frozen=True)
class Asin(_Function):
    """ONNX Asin."""

    name = "asin"
    numpy = "arcsin"
    rise_c = "1.0f / tt_sqrtf((1.0f - {}) * (1.0f + {}))"

    def slope(self, at: Array) -> Array:
        return np.asarray(1 / np.sqrt((1 - at) * (1 + at)))


@dataclass(frozen=True)
class Acos(_Function):
    """ONNX Acos."""

    name = "acos"
    numpy = "arccos"
    rise_c = "-1.0f / tt_sqrtf((1.0f - {}) * (1.0f + {}))"

    def slope(self, at: Array) -> Array:
        return np.asarray(-1 / np.sqrt((1 - at) * (1 + at)))


@dataclass(frozen=True)
class Atan(_Function):
    """ONNX Atan."""

    name = "atan"
    numpy = "arctan"
    rise_c = "1.0f / (1.0f + {} * {})"

    def slope(self, at: Array) -> Array:
        return np.asarray(1 / (1 + at * at))


@dataclass(frozen=True)
class Sinh(_Function):
    """ONNX Sinh."""

    name = "sinh"
    numpy = "sinh"
    rise_c = "tt_coshf({})"

    def slope(self, at: Array) -> Array:
        return np.asarray(np.cosh(at))


@dataclass(frozen=True)
class Cosh(_Function):
    """ONNX Cosh."""

    name = "cosh"
    numpy = "cosh"
    rise_c = "tt_sinhf({})"

    def slope(self, at: Array) -> Array:
        return np.asarray(np.sinh(at))


@dataclass(frozen=True)
class Asinh(_Function):
    """ONNX Asinh."""

    name = "asinh"
    numpy = "arcsinh"
    rise_c = "1.0f / tt_sqrtf(1.0f + {} * {})"

    def slope(self, at: Array) -> Array:
        return np.asarray(1 / np.sqrt(1 + at * at))


@dataclass(frozen=True)
class Acosh(_Function):
    """ONNX Acosh."""

    name = "acosh"
    numpy = "arccosh"
    rise_c = "1.0f / tt_sqrtf(({} - 1.0f) * ({} + 1.0f))"

    def slope(self, at: Array) -> Array:
        return np.asarray(1 / np.sqrt((at - 1) * (at + 1)))


@dataclass(frozen=True)
class Atanh(_Function):
    """ONNX Atanh."""

    name = "atanh"
    numpy = "arctanh"
    rise_c = "1.0f / ((1.0f - {}) * (1.0f + {}))"

    def slope(self, at: Array) -> Array:
        return np.asarray(1 / ((1 - at) * (1 + at)))


_INSIDE, _ABOVE_ONE = (0.85, 0.0), (1.0, 2.5)
_RANGES: tuple[tuple[Curve, tuple[tuple[float, float], ...]], ...] = (
    *((curve, ((3.0, 0.0), (9000.0, 0.0))) for curve in (Sin(), Cos())),
    *((curve, ()) for curve in (Atan(), Sinh(), Cosh(), Asinh())),
    *((curve, (_INSIDE,)) for curve in (Tan(), Asin(), Acos(), Atanh())), (Acosh(), (_ABOVE_ONE,)),
)
for _curve, _ranges in _RANGES:
    type(_curve).examples = curve_examples(_curve, *_ranges)[2:]
    CurveGrad.examples += slope_examples(_curve, *_ranges)[-1:]
