# SPDX-License-Identifier: Apache-2.0
"""losses of a sample without a label, p = softmax z:
entropy      L = −Σ p_i·log p_i;          dz_i = −p_i·(log p_i + L)
pseudo-label L = −log max p;              dz_i = p_i − [i = argmax p]

Both make a network surer of what it says already (Wang et al., arXiv 2006.10726; Lee 2013): a sample of which it is unsure teaches what is
wrong, one of which it is sure nothing. So a step learns from losses between bounds only: 0.02·log N to 0.4·log N, after Chen et al., arXiv
2402.17316, and Niu et al., arXiv 2204.02610; of a class whose probability exceeds `confidence`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.integer import IntegerForms, Operand
from tinytrain.ir.loss import Loss
from tinytrain.ir.op import Declined, Elementwise, Example, Kernel, Op, Wanted, f32, no
from tinytrain.ir.types import F32, S32, Array, TensorType, Value
from tinytrain.ops.loss import SoftmaxCrossEntropy, SoftmaxCrossEntropyGrad
from tinytrain.ops.softmax import shifted_exponentials

KNOWN, RELIABLE = 0.02, 0.4                               # of the largest entropy
_SCALAR = TensorType((1,))


@dataclass(frozen=True)
class Unlabelled(Loss):
    """Base: logits (N,) -> loss (1,) [, what the gradient is made of]. An entry point takes a label all the same, which nobody reads."""

    grad: bool = True

    args = ("logits",)
    absorbs = SoftmaxCrossEntropy.absorbs
    labelled = False
    made: ClassVar[tuple[str, ...]] = ()

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return ("loss", *self.made) if self.grad else ("loss",)

    def target_type(self, output: TensorType) -> TensorType:
        return SoftmaxCrossEntropy().target_type(output)

    def emit(self, g: Builder, output: Value, target: Value) -> Value:
        return g.emit(self, output, name="loss")

    def without(self, outputs: frozenset[int]) -> Op | Declined:
        all_of = frozenset(range(1, len(self.made) + 1))
        return dataclasses.replace(self, grad=False) if outputs == all_of and self.grad else no("they go together")

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 1),) if self.grad else ()

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        return no("losses without labels are computed in fp32", "Leave out --grad int8.")


@dataclass(frozen=True)
class Entropy(Unlabelled):
    """logits (N,) -> loss (1,) [, probs like logits]."""

    name = "entropy"
    kernels = (Kernel("loss"),)
    key = "entropy"
    made = ("probs",)

    def bounds(self, output: TensorType) -> tuple[float, float]:
        return KNOWN * math.log(output.numel), RELIABLE * math.log(output.numel)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        self.target_type(types[0])
        return (_SCALAR, types[0]) if self.grad else (_SCALAR,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        shifted, e, total = shifted_exponentials(arrays[0])
        probs = e / total
        loss = (np.log(total).ravel() - (probs * shifted).sum()).reshape(1)
        return (loss, probs) if self.grad else (loss,)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (logits,) = inputs
        loss, probs = outputs if self.grad else g.emit_all(Entropy(), logits)
        return (g.emit(EntropyGrad(), probs, loss, name=f"d_{logits.name}"),)


@dataclass(frozen=True)
class EntropyGrad(Elementwise):
    """probs (N,), entropy (1,) -> dlogits. What has no probability has no slope."""

    name = "entropy_grad"
    args = ("probs", "entropy")
    results = ("dlogits",)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        probs, entropy = arrays
        one = probs.dtype.type(1)
        return (np.where(probs > 0, -probs * (np.log(np.where(probs > 0, probs, one)) + entropy.reshape(())), probs.dtype.type(0)),)

    def expr(self, *operands: str) -> tuple[str, ...]:
        probs, entropy = operands
        return (f"{probs} > 0.0f ? -{probs} * (tt_logf({probs}) + {entropy}) : 0.0f",)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)


@dataclass(frozen=True)
class PseudoLabel(Unlabelled):
    """logits (N,) -> loss (1,) [, probs like logits, label s32[1]]. Of classes that are equally likely the first counts."""

    confidence: float = 0.9

    name = "pseudo_label"
    kernels = (Kernel("loss", dtypes=(F32, F32, F32, S32)),)
    key = "pseudo"
    options = ("confidence",)
    made = ("probs", "label")

    def bounds(self, output: TensorType) -> tuple[float, float]:
        return 0.0, -math.log(self.confidence)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        label = self.target_type(types[0])
        return (_SCALAR, types[0], label) if self.grad else (_SCALAR,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        _, e, total = shifted_exponentials(arrays[0])
        loss = np.log(total).reshape(1)
        return (loss, e / total, np.array([int(arrays[0].argmax())], np.int32)) if self.grad else (loss,)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (logits,) = inputs
        _, probs, label = outputs if self.grad else g.emit_all(PseudoLabel(), logits)
        return (g.emit(SoftmaxCrossEntropyGrad(), probs, label, name=f"d_{logits.name}"),)


_ROWS = ((2,), (7,), (10,), (1, 1, 5))
Entropy.examples = tuple(Example(Entropy(grad), f32(x)) for x in _ROWS for grad in (True, False))
EntropyGrad.examples = tuple(Example(EntropyGrad(), f32(x, (1,)), reals=(0.5, 0.5)) for x in _ROWS)
PseudoLabel.examples = tuple(Example(PseudoLabel(grad), f32(x)) for x in _ROWS for grad in (True, False))
