# SPDX-License-Identifier: Apache-2.0
"""cross entropy, class t:       L = log Σ e^{z_j} − z_t;                dz_i = p_i − [i = t],  p = softmax z
cross entropy, soft target t: L = Σ t_i·(log Σ e^{z_j} − z_i);        dz_i = p_i·Σ t − t_i
mean squared error:           L = Σ (y_i − t_i)² / n;                 dy_i = 2·(y_i − t_i) / n
binary cross entropy:         L = Σ (max(z, 0) − z·t + log(1 + e^{−|z|})) / n;   dz_i = (σ(z_i) − t_i) / n

The maximum is subtracted before each exponential, so that none overflows. A loss's gradient takes d loss / d loss as 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.integer import IntegerForms, Operand, Scaled
from tinytrain.ir.op import Declined, Elementwise, Example, Kernel, Loss, Op, Wanted, f32, no
from tinytrain.ir.types import F32, S32, Array, TensorType, Value
from tinytrain.ir.words import literal
from tinytrain.ops.activation import Sigmoid, sigmoid
from tinytrain.ops.integer_ends import IntegerCrossEntropy, IntegerCrossEntropyGrad
from tinytrain.ops.softmax import LogSoftmax, Softmax, shifted_exponentials
from tinytrain.ops.softmax_q import SoftmaxQ

_SCALAR = TensorType((1,))


def _one_row(logits: TensorType) -> None:
    if not logits.shape or logits.numel != logits.shape[-1]:
        raise ValueError(f"logits {logits.shape}: one row of class scores (N,) is expected")
    if logits.numel < 2:
        raise ValueError("the softmax of one score is 1 whatever it is; two classes or more are expected")


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """logits (N,), label s32[1] -> loss (1,) [, probs like logits].

    Entry points refuse a label outside [0, N); should one come here, the nearest class counts.
    """

    probs: bool = True

    name = "softmax_cross_entropy"
    args = ("logits", "label")
    kernels = (Kernel("loss", dtypes=(F32, S32, F32)),)
    key = "ce"
    absorbs = (Softmax, LogSoftmax, SoftmaxQ)

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return ("loss", "probs") if self.probs else ("loss",)

    def target_type(self, output: TensorType) -> TensorType:
        _one_row(output)
        return TensorType((1,), S32)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        logits, label = types
        if label != self.target_type(logits):
            raise ValueError(f"label {label}: {self.target_type(logits)} is expected")
        return (_SCALAR, logits) if self.probs else (_SCALAR,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        logits, label = arrays
        shifted, e, total = shifted_exponentials(logits)
        at = min(max(int(label[0]), 0), logits.size - 1)
        loss = (np.log(total) - shifted.ravel()[at]).reshape(1)
        return (loss, e / total) if self.probs else (loss,)

    def without(self, outputs: frozenset[int]) -> Op | Declined:
        return dataclasses.replace(self, probs=False) if outputs == {1} and self.probs else no("only probs can be left out")

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 1),) if self.probs else ()

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (logits, label) = inputs
        assert not wanted[1], "a label has no gradient"
        if not wanted[0]:
            return None, None
        probs = outputs[1] if self.probs else g.emit(Softmax(), logits, name="probs")
        return g.emit(SoftmaxCrossEntropyGrad(), probs, label, name=f"d_{logits.name}"), None

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        found, label = g.logits(inputs[0]), inputs[1]
        if isinstance(found, Declined):
            return found
        q, scale, bits, table = found
        assert isinstance(label, Value), label
        op = IntegerCrossEntropy(bits, round(scale * 2**20), self.probs)
        loss, *probs = g.emit_all(op, q, label, table, name=outputs[0].name)
        return (loss, *(Scaled(p, g.exponent(-15), np.asarray(1.0)) for p in probs))


@dataclass(frozen=True)
class SoftmaxCrossEntropyGrad(Elementwise):
    """probs (N,), label s32[1] -> dlogits: 1 is taken off the probability of the class."""

    name = "softmax_cross_entropy_grad"
    args = ("probs", "label")
    results = ("dlogits",)
    kernels = (Kernel("elementwise", dtypes=(F32, S32, F32), macro="elementwise"),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        probs, label = arrays
        at = min(max(int(label[0]), 0), probs.size - 1)
        return (probs - (np.arange(probs.size) == at).reshape(probs.shape).astype(probs.dtype),)

    def load(self, operand: int, pointer: str, i: str, c: str, types: Sequence[TensorType]) -> tuple[str, str]:
        if operand == 0:
            return super().load(operand, pointer, i, c, types)
        last, at = types[0].numel - 1, f"{pointer}[0]"
        return "int32_t", f"({at} < 0 ? 0 : {at} > {last} ? {last} : {at}) == {i}"

    def expr(self, *operands: str) -> tuple[str, ...]:
        probs, hit = operands
        return (f"{hit} ? {probs} - 1.0f : {probs}",)

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        probs, label = inputs
        if not isinstance(probs, Scaled) or not isinstance(label, Value):
            return no("its operand is no integer softmax")
        return (dataclasses.replace(probs, mantissa=g.emit(IntegerCrossEntropyGrad(), probs.mantissa, label, name=outputs[0].name)),)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)


@dataclass(frozen=True)
class SoftmaxCrossEntropySoft(Loss):
    """logits (N,), target like logits (any weights of the classes) -> loss (1,) [, probs like logits, total (1,) = Σ target]."""

    probs: bool = True

    name = "softmax_cross_entropy_soft"
    args = ("logits", "target")
    kernels = (Kernel("loss"),)
    key = "ce-soft"
    absorbs = (Softmax, LogSoftmax, SoftmaxQ)

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return ("loss", "probs", "total") if self.probs else ("loss",)

    def target_type(self, output: TensorType) -> TensorType:
        _one_row(output)
        return output

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        logits, target = types
        if target != self.target_type(logits):
            raise ValueError(f"target {target}: {self.target_type(logits)} is expected")
        return (_SCALAR, logits, _SCALAR) if self.probs else (_SCALAR,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        logits, target = arrays
        shifted, e, total = shifted_exponentials(logits)
        loss = (target * (np.log(total) - shifted)).sum().reshape(1)
        return (loss, e / total, target.sum().reshape(1)) if self.probs else (loss,)

    def without(self, outputs: frozenset[int]) -> Op | Declined:
        return dataclasses.replace(self, probs=False) if outputs == {1, 2} and self.probs else no("probs and total go together")

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 1),) if self.probs else ()

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (logits, target) = inputs
        assert not wanted[1], "a target has no gradient"
        if not wanted[0]:
            return None, None
        _, probs, total = outputs if self.probs else g.emit_all(SoftmaxCrossEntropySoft(), *inputs)
        return g.emit(SoftmaxCrossEntropySoftGrad(), probs, target, total, name=f"d_{logits.name}"), None


@dataclass(frozen=True)
class SoftmaxCrossEntropySoftGrad(Elementwise):
    """probs, target (N,), total (1,) -> dlogits."""

    name = "softmax_cross_entropy_soft_grad"
    args = ("probs", "target", "total")
    results = ("dlogits",)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        probs, target, total = arrays
        return (probs * total - target,)

    def expr(self, *operands: str) -> tuple[str, ...]:
        probs, target, total = operands
        return (f"{probs} * {total} - {target}",)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return (0, 0), (1, 0)


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
        return (_SCALAR,)

    def gradient(self, count: int) -> Elementwise:
        """The op over (output, target) that gives the gradient, `count` elements in all."""
        raise NotImplementedError(self.name)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        y = inputs[0]
        assert not wanted[1], "a target has no gradient"
        return g.emit(self.gradient(y.type.numel), *inputs, name=f"d_{y.name}") if wanted[0] else None, None


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


_LABEL = TensorType((1,), S32)
_ROWS = ((2,), (7,), (10,), (1, 1, 5))

SoftmaxCrossEntropy.examples = tuple(
    Example(SoftmaxCrossEntropy(probs), (*f32(x), _LABEL), labels)
    for x in _ROWS for probs, labels in ((True, (0, x[-1])), (False, (x[-1] - 1, x[-1])), (True, (-7, 0)), (True, (x[-1], 1000)))
)
SoftmaxCrossEntropyGrad.examples = tuple(
    Example(SoftmaxCrossEntropyGrad(), (*f32(x), _LABEL), labels) for x in _ROWS for labels in ((0, x[-1]), (-7, 0), (x[-1], 1000))
)
SoftmaxCrossEntropySoft.examples = tuple(Example(SoftmaxCrossEntropySoft(probs), f32(x, x)) for x in _ROWS for probs in (True, False))
SoftmaxCrossEntropySoftGrad.examples = tuple(Example(SoftmaxCrossEntropySoftGrad(), f32(x, x, (1,))) for x in _ROWS)
for _mean in (Mse, SigmoidBce):
    _mean.examples = tuple(Example(_mean(), f32(x, x)) for x in ((1,), *_ROWS, (3, 5)))
MseGrad.examples = tuple(Example(MseGrad(n), f32((n,), (n,))) for n in (1, 3, 10))
SigmoidBceGrad.examples = tuple(Example(SigmoidBceGrad(n), f32((n,), (n,))) for n in (1, 3, 10))
