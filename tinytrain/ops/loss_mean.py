# SPDX-License-Identifier: Apache-2.0
"""Losses that are a mean of one term an element; d = y − t, n elements:

mean squared error:   L = Σ d² / n;                                        dy_i = 2·d_i / n
binary cross entropy: L = Σ (max(z, 0) − z·t + log(1 + e^{−|z|})) / n;     dz_i = (σ(z_i) − t_i) / n
huber:                L = Σ (|d| <= δ ? d²/2 : δ·(|d| − δ/2)) / n;         dy_i = min(max(d_i, −δ), δ) / n        (Huber 1964)
l1:                   L = Σ |d| / n;                                       dy_i = sign(d_i) / n

A loss's gradient takes d loss / d loss as 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.loss import Loss
from tinytrain.ir.op import Elementwise, Example, Kernel, Wanted, f32
from tinytrain.ir.types import Array, TensorType, Value
from tinytrain.ir.words import literal
from tinytrain.ops.activation import Sigmoid, sigmoid


@dataclass(frozen=True)
class MeanLoss(Loss):
    """Base of losses that are a mean of one term an element; the target is like the output."""

    kernels = (Kernel("loss"),)
    results = ("loss",)

    def target_type(self, output: TensorType) -> TensorType:
        return output

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if types[0] != types[1]:
            raise ValueError(f"target {types[1]}: {types[0]} is expected")
        return (TensorType((1,)),)

    def gradient(self, count: int) -> Elementwise:
        """The op over (output, target) that gives the gradient, `count` elements in all."""
        raise NotImplementedError(self.name)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        y = inputs[0]
        assert not wanted[1], "a target has no gradient"
        return g.emit(self.gradient(y.type.numel), *inputs, name=f"d_{y.name}"), None


@dataclass(frozen=True)
class Mse(MeanLoss):
    """y, target alike -> the mean of the squared differences (1,)."""

    name = "mse"
    args = ("y", "target")
    key = "mse"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        y, target = arrays
        return (np.mean((y - target) ** 2).reshape(1),)

    def gradient(self, count: int) -> Elementwise:
        return MseGrad(count)


@dataclass(frozen=True)
class MseGrad(Elementwise):
    """y, target -> 2·(y − target) / count."""

    count: int = 1

    name = "mse_grad"
    args = ("y", "target")
    results = ("dy",)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        y, target = arrays
        return ((y - target) * y.dtype.type(2 / self.count),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        y, target = operands
        return (f"({y} - {target}) * {literal(2 / self.count)}",)


@dataclass(frozen=True)
class SigmoidBce(MeanLoss):
    """logits, target in [0, 1] alike -> the mean binary cross entropy (1,) of the logits' sigmoids."""

    name = "sigmoid_bce"
    args = ("logits", "target")
    key = "bce"
    absorbs = (Sigmoid,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        z, target = arrays
        return (np.mean(np.maximum(z, 0) - z * target + np.log1p(np.exp(-np.abs(z)))).reshape(1),)

    def gradient(self, count: int) -> Elementwise:
        return SigmoidBceGrad(count)


@dataclass(frozen=True)
class SigmoidBceGrad(Elementwise):
    """logits, target -> (sigmoid(logits) − target) / count."""

    count: int = 1

    name = "sigmoid_bce_grad"
    args = ("logits", "target")
    results = ("dlogits",)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        z, target = arrays
        return ((sigmoid(z) - target) * z.dtype.type(1 / self.count),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        z, target = operands
        return (f"(tt_sigmoidf({z}) - {target}) * {literal(1 / self.count)}",)


@dataclass(frozen=True)
class Huber(MeanLoss):
    """y, target alike -> the mean Huber loss (1,)."""

    huber_delta: float = 1.0

    name = "huber"
    args = ("y", "target")
    key = "huber"
    options = ("huber_delta",)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        y, target = arrays
        d, delta, half = np.abs(y - target), y.dtype.type(self.huber_delta), y.dtype.type(0.5)
        return (np.mean(np.where(d <= delta, half * d * d, delta * (d - half * delta))).reshape(1),)

    def gradient(self, count: int) -> Elementwise:
        return HuberGrad(count, self.huber_delta)


@dataclass(frozen=True)
class HuberGrad(Elementwise):
    """y, target -> (y − target) within ±delta / count."""

    count: int = 1
    delta: float = 1.0

    name = "huber_grad"
    args = ("y", "target")
    results = ("dy",)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (y, target), real = arrays, arrays[0].dtype.type
        return (np.clip(y - target, -real(self.delta), real(self.delta)) * real(1 / self.count),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        y, target = operands
        d, delta = f"({y} - {target})", literal(self.delta)
        return (f"({d} > {delta} ? {delta} : {d} < -{delta} ? -{delta} : {d}) * {literal(1 / self.count)}",)


@dataclass(frozen=True)
class MeanAbsolute(MeanLoss):
    """y, target alike -> the mean of the absolute differences (1,)."""

    name = "mean_absolute"
    args = ("y", "target")
    key = "l1"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        y, target = arrays
        return (np.mean(np.abs(y - target)).reshape(1),)

    def gradient(self, count: int) -> Elementwise:
        return MeanAbsoluteGrad(count)


@dataclass(frozen=True)
class MeanAbsoluteGrad(Elementwise):
    """y, target -> the sign of y − target / count, 0 where they are equal."""

    count: int = 1

    name = "mean_absolute_grad"
    args = ("y", "target")
    results = ("dy",)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        y, target = arrays
        return (np.sign(y - target) * y.dtype.type(1 / self.count),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        y, target = operands
        size = literal(1 / self.count)
        return (f"{y} > {target} ? {size} : {y} < {target} ? -{size} : {y} - {target}",)


_SHAPES = ((1,), (2,), (7,), (10,), (1, 1, 5), (3, 5))
for _mean in (Mse, SigmoidBce):
    _mean.examples = tuple(Example(_mean(), f32(x, x)) for x in _SHAPES)
MseGrad.examples = tuple(Example(MseGrad(n), f32((n,), (n,))) for n in (1, 3, 10))
SigmoidBceGrad.examples = tuple(Example(SigmoidBceGrad(n), f32((n,), (n,))) for n in (1, 3, 10))
Huber.examples = tuple(Example(Huber(delta), f32(x, x)) for x in ((1,), (7,), (3, 5)) for delta in (0.3, 5.0))
MeanAbsolute.examples = tuple(Example(MeanAbsolute(), f32(x, x)) for x in ((1,), (7,), (3, 5)))
HuberGrad.examples = tuple(Example(HuberGrad(n, 0.3), f32((n,), (n,))) for n in (1, 10))
MeanAbsoluteGrad.examples = tuple(Example(MeanAbsoluteGrad(n), f32((n,), (n,))) for n in (1, 10))
