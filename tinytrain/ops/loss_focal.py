# SPDX-License-Identifier: Apache-2.0
"""focal loss of a class t, p = softmax z, γ > 0, w the weights of classes, if there are any:  L = w_t·(1 − p_t)^γ·(−log p_t)
dz_i = s·(p_i − [i = t]),  s = w_t·((1 − p_t)^γ + γ·p_t·(1 − p_t)^(γ−1)·(−log p_t))

Lin et al., "Focal Loss for Dense Object Detection", arXiv 1708.02002, for classes of which one is right: what is known well counts little.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.integer import IntegerForms, Operand
from tinytrain.ir.loss import Loss
from tinytrain.ir.op import Declined, Example, Kernel, Op, Wanted, f32, no
from tinytrain.ir.types import F32, S32, Array, TensorType, Value
from tinytrain.ops.elementwise import Mul
from tinytrain.ops.loss import SoftmaxCrossEntropy, SoftmaxCrossEntropyGrad, check_weights, weights_of
from tinytrain.ops.softmax import shifted_exponentials


@dataclass(frozen=True)
class FocalCrossEntropy(Loss):
    """logits (N,), label s32[1] [, weights (N,)] -> loss (1,) [, probs like logits, slope (1,) = s].

    A label outside [0, N) is the nearest class.
    """

    focal_gamma: float = 2.0
    probs: bool = True
    weighted: bool = False

    name = "focal_cross_entropy"
    kernels = (Kernel("loss", dtypes=(F32, S32, F32)),)
    key = "focal"
    options = ("focal_gamma", "class_weights")
    absorbs = SoftmaxCrossEntropy.absorbs

    @classmethod
    def of(cls, **chosen: Any) -> Loss:
        return WeightedFocal(**chosen, weighted=True) if "class_weights" in chosen else cls(**chosen)

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return ("logits", "label", "weights") if self.weighted else ("logits", "label")

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return ("loss", "probs", "slope") if self.probs else ("loss",)

    def target_type(self, output: TensorType) -> TensorType:
        return SoftmaxCrossEntropy().target_type(output)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (loss,) = SoftmaxCrossEntropy(False).infer(*types[:2])
        if any(kind != types[0] for kind in types[2:]):
            raise ValueError(f"weights {types[2]}: {types[0]} is expected")
        return (loss, types[0], loss) if self.probs else (loss,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        logits, label, *weights = arrays
        shifted, e, total = shifted_exponentials(logits)
        at, gamma = min(max(int(label[0]), 0), logits.size - 1), logits.dtype.type(self.focal_gamma)
        missed = np.delete(e.ravel(), at).sum() / total.ravel()
        entropy = np.log(total).ravel() - shifted.ravel()[at]
        part = np.power(missed, gamma)
        for weight in weights:
            part = part * weight.ravel()[at]
        loss = part * entropy
        if not self.probs:
            return (loss,)
        steep = part / np.where(missed > 0, missed, logits.dtype.type(1))
        return loss, e / total, np.where(missed > 0, part + gamma * (1 - missed) * steep * entropy, missed)

    def without(self, outputs: frozenset[int]) -> Op | Declined:
        return dataclasses.replace(self, probs=False) if outputs == {1, 2} and self.probs else no("probs and slope go together")

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 1),) if self.probs else ()

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        logits, label = inputs[:2]
        assert not any(wanted[1:]), "neither a label nor a weight of classes has a gradient"
        _, probs, slope = outputs if self.probs else g.emit_all(dataclasses.replace(self, probs=True), *inputs)
        missed = g.emit(SoftmaxCrossEntropyGrad(), probs, label, name=f"d_{logits.name}")
        return g.emit(Mul(), missed, slope, name=f"d_{logits.name}"), *(None for _ in inputs[1:])

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        return no("focal loss is computed in fp32", "Use --loss ce.")


@dataclass(frozen=True)
class WeightedFocal(FocalCrossEntropy):
    """The same with weights that are known."""

    class_weights: tuple[float, ...] = ()

    def target_type(self, output: TensorType) -> TensorType:
        check_weights(self.class_weights, output)
        return super().target_type(output)

    def _op(self) -> FocalCrossEntropy:
        return FocalCrossEntropy(self.focal_gamma, weighted=True)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return self._op().reference(*arrays, weights_of(self.class_weights, arrays[0].shape).astype(arrays[0].dtype))

    def emit(self, g: Builder, output: Value, target: Value) -> Value:
        return g.emit(self._op(), output, target, g.const("class_weights", weights_of(self.class_weights, output.shape)), name="loss")


_LABEL = TensorType((1,), S32)
FocalCrossEntropy.examples = tuple(
    Example(FocalCrossEntropy(gamma, probs), (*f32(x), _LABEL), labels)
    for x in ((2,), (7,), (1, 1, 5))
    for gamma, probs, labels in ((2.0, True, (0, x[-1])), (0.5, False, (-7, 0)), (1.5, True, (x[-1], 1000)))
) + tuple(Example(FocalCrossEntropy(1.5, probs, True), (*f32((7,)), _LABEL, *f32((7,))), (2, 3)) for probs in (True, False))
