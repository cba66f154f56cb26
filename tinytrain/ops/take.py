# SPDX-License-Identifier: Apache-2.0
"""Elements moved or mixed along one axis by a table (rows I, taps T); a, n are the axes before and behind it:

take     y[a,i,n] = Σ_t weight[i,t] · x[a, index[i,t], n]
scatter  y[a, index[i,t], n] += weight[i,t] · x[a,i,n], from zeros

Each is the transpose of the other by the same table, so neither needs one of its own for its gradient. Without a weight it is 1; where
there are `holes`, an index below 0 stands for nothing. Tables are constants (Gather, Resize), or an index is computed (embeddings).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.integer import IntegerForms, Operand
from tinytrain.ir.op import FIRST_HALF, Cost, Declined, Example, Fusable, Kernel, Op, Tie, Wanted, f32, no
from tinytrain.ir.types import F32, S8, S16, S32, Array, DType, Quant, TensorType, Value
from tinytrain.ops.activation import Relu
from tinytrain.ops.elementwise import Add
from tinytrain.ops.integer_rules import moves, sums
from tinytrain.ops.simd import SIMD, Simd
from tinytrain.ops.sums import INT32_MAX


def _fills(simd: Simd, op: Take | Scatter, *types: TensorType) -> bool | Declined:
    return simd.filled_by(op.inner(types[0]))


def _kernels(*dtypes: DType) -> tuple[Kernel, ...]:
    kinds = tuple((dtype, index, F32) for dtype in dtypes for index in (S16, S32))
    return (
        *(Kernel("take", each, half=FIRST_HALF if each[0] is F32 else ()) for each in kinds),
        *(Kernel("take", each, simd.isa, None, partial(_fills, simd), simd.tiles) for simd in SIMD if simd.words for each in kinds),
    )


def _checked(op: Take | Scatter, x: TensorType, index: TensorType, *weight: TensorType) -> TensorType:
    """The table fits: else ValueError."""
    if not 0 <= op.axis < len(x.shape) or len(index.shape) != 2 or index.dtype not in (S16, S32):
        raise ValueError(f"index {index} along axis {op.axis} of {x.shape}: rows and taps along one of its axes are expected")
    if weight and weight != (TensorType(index.shape),):
        raise ValueError(f"weight {weight[0]} beside index {index}: one number of fp32 for each is expected")
    if not x.dtype.is_float and (weight or index.shape[1] != 1):
        raise ValueError(f"{x.dtype.tag} elements in {index.shape[1]} taps: only single ones, without weights, move integers")
    if x.quant and x.quant.axis == op.axis:
        raise ValueError(f"along axis {op.axis} each index has a scale of its own")
    return x


@dataclass(frozen=True)
class _Along(Op):
    """What both have in common: operands, and what moves together."""

    axis: int = 0
    weighted: bool = False
    holes: bool = False

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return ("x", "index", "weight") if self.weighted else ("x", "index")

    def inner(self, x: TensorType) -> int:
        """Neighbours that move together: whatever lies behind the axis."""
        return math.prod(x.shape[self.axis + 1 :])

    def ties(self, *types: TensorType) -> tuple[Tie, ...]:
        return () if self.axis == len(types[0].shape) - 1 else (((0, -1), (~0, -1)),)


@dataclass(frozen=True)
class Take(_Along, Fusable):
    """x, index s16 or s32 (I, T) [, weight (I, T)] -> x with the axis made anew, I long. ONNX Gather, Resize, embeddings."""

    name = "take"
    differentiable = True
    parameters = {0: "table"}
    kernels = _kernels(F32, S8, S32)

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, index = _checked(self, *types), types[1]
        return (TensorType((*x.shape[: self.axis], index.shape[0], *x.shape[self.axis + 1 :]), x.dtype, x.quant),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        x, index, *weight = arrays
        moved = np.moveaxis(x, self.axis, 0)
        y = np.zeros((index.shape[0], *moved.shape[1:]), x.dtype)
        for t, column in enumerate(index.T):
            rows = np.flatnonzero(column >= 0) if self.holes else np.arange(len(column))
            y[rows] += moved[column[rows]] * _factor(weight, rows, t, moved)
        return (np.ascontiguousarray(np.moveaxis(y, 0, self.axis)),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x, *table), dy = inputs, grads[0]
        assert dy is not None
        back = Scatter(self.axis, self.weighted, self.holes, x.shape[self.axis])
        return (g.emit(back, dy, *table, name=f"d_{x.name}") if wanted[0] else None, *(None for _ in table))

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        return no("its weights are fp32") if self.weighted else moves(self, g, inputs, outputs)

    def cost(self, *types: TensorType) -> Cost:
        x, index = types[:2]
        moved = x.numel // x.shape[self.axis] * index.numel
        return Cost(macs=moved if self.weighted else 0, elements=moved)


def _factor(weight: Sequence[Array], rows: Array, tap: int, like: Array) -> Array:
    factor = weight[0][rows, tap] if weight else np.ones(len(rows))
    return np.asarray(factor.astype(like.dtype).reshape(-1, *(1 for _ in like.shape[1:])))


@dataclass(frozen=True)
class Scatter(_Along):
    """x, index s16 or s32 (I, T) [, weight (I, T)] -> sums in an axis of `size`; of s8 they are s32. ONNX Scatter…, Col2Im, MaxUnpool."""

    size: int = 1

    name = "scatter"
    differentiable = True
    wide = frozenset((~0,))                               # it is added to
    kernels = _kernels(F32, S8)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, index = _checked(self, *types), types[1]
        if index.shape[0] != x.shape[self.axis]:
            raise ValueError(f"index {index} for axis {self.axis} of {x.shape}: a row for each index there is expected")
        return (TensorType((*x.shape[: self.axis], self.size, *x.shape[self.axis + 1 :]), S32 if x.dtype is S8 else x.dtype),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        x, index, *weight = arrays
        moved = np.moveaxis(x.astype(np.int32) if x.dtype == np.int8 else x, self.axis, 0)
        y = np.zeros((self.size, *moved.shape[1:]), moved.dtype)
        for t, column in enumerate(index.T):
            rows = np.flatnonzero(column >= 0) if self.holes else np.arange(len(column))
            np.add.at(y, column[rows], moved[rows] * _factor(weight, rows, t, moved))
        return (np.ascontiguousarray(np.moveaxis(y, 0, self.axis)),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x, *table), dy = inputs, grads[0]
        assert dy is not None
        back = Take(self.axis, self.weighted, self.holes)
        return (g.emit(back, dy, *table, name=f"d_{x.name}") if wanted[0] else None, *(None for _ in table))

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        if self.weighted:
            return no("its weights are fp32")
        index = inputs[1]
        assert isinstance(index, Value)
        if index.type.numel * 127 > INT32_MAX:
            return no(f"{index.type.numel:,} gradients of int8 could overflow an int32 sum")
        return sums(self, g, inputs, outputs)

    def cost(self, *types: TensorType) -> Cost:
        moved = self.inner(types[0]) * math.prod(types[0].shape[: self.axis]) * types[1].numel
        return Cost(macs=moved if self.weighted else 0, elements=moved)


def table(rows: Array) -> Array:
    """An index in the smallest type that holds it."""
    return rows.astype(np.int16 if rows.size == 0 or rows.max() < 2**15 else np.int32)


def _examples(axis: int, shape: tuple[int, ...], rows: int, taps: int, index: DType = S16, x: DType = F32) -> tuple[Example, ...]:
    """Of both ops; several taps have weights, an odd number of rows has holes."""
    weighted, holes = taps > 1, rows % 2 == 1
    kinds = (TensorType((rows, taps), index), *(f32((rows, taps)) if weighted else ()))
    bounds = ((-128, 128), (-1 if holes else 0, shape[axis]))
    back = (*shape[:axis], rows, *shape[axis + 1 :])
    take = Example(Take(axis, weighted, holes), (TensorType(shape, x), *kinds), bounds)
    scatter = Example(Scatter(axis, weighted, holes, shape[axis]), (TensorType(back, x), *kinds), bounds)
    return (take,) if x is S32 else (take, scatter)


# axis, shape of x, rows, taps: vectors of neighbours and some left over, a row of a matrix for each, single elements
_EXAMPLES = (
    *_examples(1, (2, 5, 37), 3, 1), *_examples(0, (3, 2, 9), 8, 1, S32), *_examples(2, (3, 2, 5), 4, 1), *_examples(0, (11,), 5, 1),
    *_examples(1, (1, 4, 16), 2, 3), *_examples(1, (3, 4), 5, 2), *_examples(1, (2, 5, 37), 3, 1, x=S8), *_examples(1, (3, 5), 4, 1, x=S8),
    *_examples(0, (5, 3), 4, 1, x=S32), *_examples(0, (5, 3), 4, 1, S32, S8), *_examples(0, (4, 2), 3, 1, S32, S32),
)
Take.examples = (
    *(example for example in _EXAMPLES if isinstance(example.op, Take)),
    Example(Take(0, then=(Relu(),)), (*f32((3, 20)), TensorType((4, 1), S16)), (0, 3)),
    Example(Take(0, holes=True, then=(Add(),)), (*f32((3, 2, 20)), TensorType((4, 1), S16), *f32((20,))), (-1, 3)),
    Example(Take(1, True, then=(Add(),)), (*f32((3, 5)), TensorType((4, 2), S16), *f32((4, 2), (4,))), (0, 5)),
    Example(Take(0), (TensorType((4, 6), S8, Quant((0.5,), 3)), TensorType((3, 1), S16)), ((-128, 128), (0, 4))),
)
Scatter.examples = tuple(example for example in _EXAMPLES if isinstance(example.op, Scatter))
