# SPDX-License-Identifier: Apache-2.0
"""cross entropy, class t:       L = log Σ e^{z_j} − z_t;                dz_i = p_i − [i = t],  p = softmax z
cross entropy, soft target t: L = Σ t_i·(log Σ e^{z_j} − z_i);        dz_i = p_i·Σ t − t_i
label smoothing ε, class weights w:  L = Σ q_i·(log Σ e^{z_j} − z_i),  q_i = w_i·((1 − ε)·[i = t] + ε/N)
temperature T:                       L = T²·cross entropy of z/T and the soft target: T² keeps the size of the gradient

The maximum is subtracted before each exponential, so that none overflows. A loss's gradient takes d loss / d loss as 1. The last two
(Szegedy et al., arXiv 1512.00567; Hinton, Vinyals and Dean, arXiv 1503.02531) are the second behind ops that make its operands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.integer import IntegerForms, Operand, Scaled
from tinytrain.ir.loss import Loss
from tinytrain.ir.op import Declined, Elementwise, Example, Kernel, Op, Wanted, f32, no
from tinytrain.ir.types import F32, S32, Array, TensorType, Value
from tinytrain.ir.words import literal
from tinytrain.ops.elementwise import Scale
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
    options = ("label_smoothing", "class_weights")
    absorbs = (Softmax, LogSoftmax, SoftmaxQ)

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return ("loss", "probs") if self.probs else ("loss",)

    @classmethod
    def of(cls, **chosen: Any) -> Loss:
        return WeightedCrossEntropy(**chosen) if chosen else cls()

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
    options = ("temperature",)
    absorbs = (Softmax, LogSoftmax, SoftmaxQ)

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return ("loss", "probs", "total") if self.probs else ("loss",)

    @classmethod
    def of(cls, **chosen: Any) -> Loss:
        return SoftenedCrossEntropy(**chosen) if chosen else cls()

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
class ClassTarget(Elementwise):
    """weights (N,), label s32[1] -> soft target (N,). A label outside [0, N) is the nearest class."""

    smoothing: float = 0.0

    name = "class_target"
    args = ("weights", "label")
    results = ("target",)
    kernels = (Kernel("elementwise", dtypes=(F32, S32, F32), macro="elementwise"),)

    def _parts(self, count: int) -> tuple[float, float]:
        """What the class of the label has, and any other."""
        return 1 - self.smoothing + self.smoothing / count, self.smoothing / count

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        weights, label = arrays
        at = min(max(int(label[0]), 0), weights.size - 1)
        hit, other = map(weights.dtype.type, self._parts(weights.size))
        return (weights * np.where(np.arange(weights.size).reshape(weights.shape) == at, hit, other),)

    def load(self, operand: int, pointer: str, i: str, c: str, types: Sequence[TensorType]) -> tuple[str, str]:
        if operand == 0:
            return super().load(operand, pointer, i, c, types)
        last, at = types[0].numel - 1, f"{pointer}[0]"
        hit, other = map(literal, self._parts(types[0].numel))
        return "float", f"({at} < 0 ? 0 : {at} > {last} ? {last} : {at}) == {i} ? {hit} : {other}"

    def expr(self, *operands: str) -> tuple[str, ...]:
        weights, part = operands
        return (f"{weights} * {part}",)

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        return no("label smoothing and class weights are computed in fp32", "Leave out --label-smoothing and --class-weights.")

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)


def check_weights(weights: Sequence[float], scores: TensorType) -> None:
    """Raises ValueError where there is not one for each class."""
    if weights and len(weights) != scores.numel:
        raise ValueError(f"there are {len(weights)} class weights for {scores.numel} scores")


def weights_of(weights: Sequence[float], shape: tuple[int, ...]) -> Array:
    """As an operand beside scores of this shape; without any, all are 1."""
    return np.array(weights, np.float32).reshape(shape) if weights else np.ones(shape, np.float32)


@dataclass(frozen=True)
class WeightedCrossEntropy(SoftmaxCrossEntropy):
    """The cross entropy of a class as that of a soft target, which is made of the label."""

    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()

    def target_type(self, output: TensorType) -> TensorType:
        check_weights(self.class_weights, output)
        return super().target_type(output)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        logits, label = arrays
        weights = weights_of(self.class_weights, logits.shape).astype(logits.dtype)
        return SoftmaxCrossEntropySoft().reference(logits, *ClassTarget(self.label_smoothing).reference(weights, label))[:1]

    def emit(self, g: Builder, output: Value, target: Value) -> Value:
        weights = g.const("class_weights", weights_of(self.class_weights, output.shape))
        return g.emit(SoftmaxCrossEntropySoft(), output, g.emit(ClassTarget(self.label_smoothing), weights, target), name="loss")


@dataclass(frozen=True)
class SoftenedCrossEntropy(SoftmaxCrossEntropySoft):
    """The cross entropy of a soft target at a temperature; the target is taken as it is, at whatever temperature a teacher made it."""

    temperature: float = 1.0

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        logits, target = arrays
        soft, square = (logits.dtype.type(number) for number in (1 / self.temperature, self.temperature**2))
        return SoftmaxCrossEntropySoft().reference(logits * soft, target * square)[:1]

    def emit(self, g: Builder, output: Value, target: Value) -> Value:
        softened = g.emit(Scale(1 / self.temperature), output, name="softened")
        return g.emit(SoftmaxCrossEntropySoft(), softened, g.emit(Scale(self.temperature**2), target), name="loss")


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
ClassTarget.examples = tuple(
    Example(ClassTarget(smoothing), (*f32(x), _LABEL), labels)
    for x in _ROWS[1:] for smoothing, labels in ((0.0, (0, x[-1])), (0.1, (-7, 0)), (0.3, (x[-1], 1000)))
)
