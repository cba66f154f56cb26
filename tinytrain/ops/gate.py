# SPDX-License-Identifier: Apache-2.0
"""Activations that are neither a clip nor a sigmoid: each a `Curve`, with its slope.

elu γ·x where x > 0, else γ·α·(eˣ − 1): Elu γ = 1, Selu both fixed (Klambauer et al. 2017)
hard_sigmoid min(max(α·x + β, 0), 1)   hard_swish x·min(max(x/6 + ½, 0), 1)   mish x·tanh(softplus x)
gelu x·Φ(x), or x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2 (Hendrycks and Gimpel 2016)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.types import Array, TensorType
from tinytrain.ir.words import Words, literal
from tinytrain.ops.activation import sigmoid
from tinytrain.ops.curve import Curve, CurveGrad, curve_examples, erf, slope_examples
from tinytrain.ops.simd import elementwise


@dataclass(frozen=True)
class Elu(Curve):
    """gamma·x where x > 0, else gamma·alpha·(eˣ − 1); alpha >= 0 and gamma > 0. ONNX Elu, Selu, Celu of alpha 1."""

    alpha: float = 1.0
    gamma: float = 1.0

    name = "elu"
    of_output = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if not (self.alpha >= 0 and self.gamma > 0):
            raise ValueError(f"alpha {self.alpha} and gamma {self.gamma}: alpha of 0 and above and gamma above 0 are supported")
        return (types[0],)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        kind = x.dtype.type
        return (np.where(x > 0, x * kind(self.gamma), np.expm1(np.minimum(x, 0)) * kind(self.alpha * self.gamma)),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        (x,) = operands
        return (f"{x} > 0.0f ? {x} * {literal(self.gamma)} : tt_expm1f({x}) * {literal(self.alpha * self.gamma)}",)

    def slope(self, at: Array) -> Array:
        kind = at.dtype.type
        return np.asarray(np.where(at > 0, kind(self.gamma), at + kind(self.alpha * self.gamma)))

    def slope_lanes(self, w: Words, at: str) -> str:
        return w.where(at, w.number(0.0), w.number(self.gamma), w.add(at, w.number(self.alpha * self.gamma)))


@dataclass(frozen=True)
class HardSigmoid(Curve):
    """min(max(alpha·x + beta, 0), 1). ONNX HardSigmoid."""

    alpha: float = 0.2
    beta: float = 0.5

    name = "hard_sigmoid"
    of_output = True
    kernels = elementwise()

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        return (np.clip(x * x.dtype.type(self.alpha) + x.dtype.type(self.beta), 0, 1),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        (x,), zero, one = operands, w.number(0.0), w.number(1.0)
        y = w.add(w.mul(x, w.number(self.alpha)), w.number(self.beta))
        return (w.where(zero, y, zero, w.where(y, one, one, y)),)

    def slope(self, at: Array) -> Array:
        return np.asarray(np.where((at > 0) & (at < 1), at.dtype.type(self.alpha), at.dtype.type(0)))

    def slope_lanes(self, w: Words, at: str) -> str:
        zero = w.number(0.0)
        return w.where(at, zero, w.where(w.number(1.0), at, w.number(self.alpha), zero), zero)


@dataclass(frozen=True)
class HardSwish(Curve):
    """x·min(max(x/6 + 1/2, 0), 1). ONNX HardSwish; MobileNetV3 (Howard et al. 2019)."""

    name = "hard_swish"
    kernels = elementwise()

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        return (x * np.clip(x * x.dtype.type(1 / 6) + x.dtype.type(0.5), 0, 1),)

    def lanes(self, w: Words, *operands: str) -> tuple[str, ...]:
        (x,), zero, one = operands, w.number(0.0), w.number(1.0)
        y = w.add(w.mul(x, w.number(1 / 6)), w.number(0.5))
        return (w.mul(x, w.where(zero, y, zero, w.where(y, one, one, y))),)

    def slope(self, at: Array) -> Array:
        kind = at.dtype.type
        return np.asarray(np.where(at > 3, kind(1), np.where(at > -3, at * kind(1 / 3) + kind(0.5), kind(0))))

    def slope_lanes(self, w: Words, at: str) -> str:
        inside = w.add(w.mul(at, w.number(1 / 3)), w.number(0.5))
        return w.where(at, w.number(3.0), w.number(1.0), w.where(at, w.number(-3.0), inside, w.number(0.0)))


@dataclass(frozen=True)
class Mish(Curve):
    """x·tanh(softplus x). ONNX Mish."""

    name = "mish"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        return (x * self._gate(x),)

    @staticmethod
    def _gate(x: Array) -> Array:
        return np.asarray(np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))))

    def expr(self, *operands: str) -> tuple[str, ...]:
        (x,) = operands
        return (f"{x} * tt_tanhf(tt_softplusf({x}))",)

    def slope(self, at: Array) -> Array:
        gate = self._gate(at)
        return np.asarray(gate + at * sigmoid(at) * (1 - gate * gate))

    def slope_c(self, at: str) -> str:
        return f"tt_mish_slopef({at})"


@dataclass(frozen=True)
class Gelu(Curve):
    """x·Φ(x); `tanh` approximates Φ. ONNX Gelu."""

    tanh: bool = False

    name = "gelu"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        return (x * self._gate(x),)

    def _gate(self, x: Array) -> Array:
        kind = x.dtype.type
        if self.tanh:
            return np.asarray(kind(0.5) * (1 + np.tanh(kind(math.sqrt(2 / math.pi)) * (x + kind(0.044715) * x * x * x))))
        return np.asarray(kind(0.5) * (1 + erf(x * kind(math.sqrt(0.5)))))

    def expr(self, *operands: str) -> tuple[str, ...]:
        (x,) = operands
        return (f"{x} * tt_gelu_{'tanh' if self.tanh else 'erf'}f({x})",)

    def slope(self, at: Array) -> Array:
        kind, gate = at.dtype.type, self._gate(at)
        if self.tanh:
            inner = kind(math.sqrt(2 / math.pi)) * (1 + kind(3 * 0.044715) * at * at)
            return np.asarray(gate + 2 * at * gate * (1 - gate) * inner)
        return np.asarray(gate + at * np.exp(kind(-0.5) * at * at) * kind(1 / math.sqrt(2 * math.pi)))

    def slope_c(self, at: str) -> str:
        return f"tt_gelu_{'tanh' if self.tanh else 'erf'}_slopef({at})"


for _gate in (Elu(), HardSigmoid(), HardSwish(), Mish(), Gelu(), Gelu(tanh=True)):
    type(_gate).examples += curve_examples(_gate)
    CurveGrad.examples += slope_examples(_gate)
for _gate in (Elu(0.5), Elu(1.6732632, 1.0507009), HardSigmoid(1 / 6)):
    type(_gate).examples += curve_examples(_gate)[-2:]
    CurveGrad.examples += slope_examples(_gate)[-2:]
