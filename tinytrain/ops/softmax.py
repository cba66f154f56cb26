# SPDX-License-Identifier: Apache-2.0
"""softmax: p_i = e^{z_i} / Σ e^{z_j};             dz = p·(dp − Σ dp·p)
log_softmax: l_i = z_i − log Σ e^{z_j};         dz = dl − e^l·Σ dl

Along the last axis. The maximum is subtracted before each exponential, so that none overflows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.integer import IntegerForms, Operand
from tinytrain.ir.op import ALL_HALVES, Declined, Example, Kernel, Op, Wanted, f32
from tinytrain.ir.types import Array, TensorType, Value
from tinytrain.ops.integer_ends import IntegerSoftmax


def shifted_exponentials(z: Array) -> tuple[Array, Array, Array]:
    """z − max z, its exponentials and their sum, along the last axis."""
    shifted = z - z.max(axis=-1, keepdims=True)
    e = np.exp(shifted)
    return shifted, e, e.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Softmax(Op):
    """x (..., N) -> probabilities along the last axis. ONNX Softmax."""

    name = "softmax"
    kernels = (Kernel("softmax", half=ALL_HALVES),)
    differentiable = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (types[0],)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        _, e, total = shifted_exponentials(arrays[0])
        return (e / total,)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        dy = grads[0]
        assert dy is not None
        return (g.emit(SoftmaxGrad(), dy, outputs[0], name=f"d_{inputs[0].name}"),)

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        found = g.logits(inputs[0])
        if isinstance(found, Declined):
            return found
        q, _, bits, table = found
        return (g.emit(IntegerSoftmax(bits), q, table, name=outputs[0].name),)


@dataclass(frozen=True)
class RowGrad(Op):
    """Base of gradients over (dy, y) that need a whole row of both."""

    args = ("dy", "y")
    results = ("dx",)
    kernels = (Kernel("softmax", half=ALL_HALVES),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if types[0].shape != types[1].shape:
            raise ValueError(f"dy {types[0].shape} against y {types[1].shape}")
        return (types[0],)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return (0, 0), (1, 0)


@dataclass(frozen=True)
class SoftmaxGrad(RowGrad):
    """dy, y (..., N) -> y·(dy − Σ dy·y)."""

    name = "softmax_grad"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, y = arrays
        return (y * (dy - (dy * y).sum(axis=-1, keepdims=True)),)


@dataclass(frozen=True)
class LogSoftmax(Op):
    """x (..., N) -> log probabilities along the last axis. ONNX LogSoftmax."""

    name = "log_softmax"
    kernels = (Kernel("softmax", half=ALL_HALVES),)
    differentiable = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (types[0],)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        shifted, _, total = shifted_exponentials(arrays[0])
        return (shifted - np.log(total),)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        dy = grads[0]
        assert dy is not None
        return (g.emit(LogSoftmaxGrad(), dy, outputs[0], name=f"d_{inputs[0].name}"),)


@dataclass(frozen=True)
class LogSoftmaxGrad(RowGrad):
    """dy, y (..., N) -> dy − e^y·Σ dy."""

    name = "log_softmax_grad"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, y = arrays
        return (dy - np.exp(y) * dy.sum(axis=-1, keepdims=True),)


_ROWS = ((1,), (2,), (7,), (10,), (1, 1, 5), (3, 5))

for _row in (Softmax, LogSoftmax):
    _row.examples = tuple(Example(_row(), f32(x)) for x in _ROWS)
for _grad in (SoftmaxGrad, LogSoftmaxGrad):
    _grad.examples = tuple(Example(_grad(), f32(x, x)) for x in _ROWS)
