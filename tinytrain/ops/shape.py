# SPDX-License-Identifier: Apache-2.0
"""reshape: a view.  transpose: y[i∘perm] = x[i].  concat, slice, pad: copies; each is the transpose of another:

d concat = slices of dy     d slice = dy padded with zeros     d pad = dy cropped     d transpose = dy transposed back
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.integer import IntegerForms, Operand, Scaled
from tinytrain.ir.op import ALL_HALVES, Declined, Example, Fusable, Kernel, Op, Tie, Want, Wanted, f32, no
from tinytrain.ir.types import F32, S8, S32, Array, Quant, TensorType, Value
from tinytrain.ops.integer_rules import moves

_COPIES = tuple(Kernel("shape", (dtype,), half=ALL_HALVES) for dtype in (F32, S8, S32))


@dataclass(frozen=True)
class Reshape(Op):
    """The same elements in the same order under another shape. ONNX Reshape, Flatten, Squeeze, Unsqueeze."""

    shape: tuple[int, ...] = ()

    name = "reshape"
    view = True
    differentiable = True
    as_integer = moves

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if math.prod(self.shape) != types[0].numel:
            raise ValueError(f"{types[0].shape} cannot be seen as {self.shape}")
        x, quant = types[0], types[0].quant
        if quant and quant.axis is not None and len(quant.scale) > 1:
            if quant.axis != len(x.shape) - 1 or self.shape[-1:] != x.shape[-1:]:
                raise ValueError(f"{x.shape} with a scale for each index of axis {quant.axis} cannot be seen as {self.shape}")
            quant = dataclasses.replace(quant, axis=len(self.shape) - 1)
        return (TensorType(self.shape, x.dtype, quant),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (arrays[0].reshape(self.shape),)

    def ties(self, *types: TensorType) -> tuple[Tie, ...]:
        before, after = types[0].shape[-1:], self.shape[-1:]
        return (((0, -1), (~0, -1)),) if before and after and (before[0] % after[0] == 0 or after[0] % before[0] == 0) else ()

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        dy = grads[0]
        assert dy is not None
        return (g.emit(Reshape(inputs[0].shape), dy, name=f"d_{inputs[0].name}"),)


@dataclass(frozen=True)
class Transpose(Fusable):
    """Axis a of y is axis perm[a] of x. ONNX Transpose."""

    perm: tuple[int, ...] = ()

    name = "transpose"
    differentiable = True
    kernels = _COPIES
    as_integer = moves

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        shape = types[0].shape
        if sorted(self.perm) != list(range(len(shape))):
            raise ValueError(f"{self.perm} is no permutation of the axes of {shape}")
        quant = types[0].quant
        if quant and quant.axis is not None:
            quant = dataclasses.replace(quant, axis=self.perm.index(quant.axis))
        return (TensorType(tuple(shape[a] for a in self.perm), types[0].dtype, quant),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (np.ascontiguousarray(arrays[0].transpose(self.perm)),)

    def ties(self, *types: TensorType) -> tuple[Tie, ...]:
        return tuple(((0, axis), (~0, at)) for at, axis in enumerate(self.perm))

    def strides(self, x: TensorType) -> tuple[int, ...]:
        """Elements between neighbours in x along each axis of y."""
        return tuple(math.prod(x.shape[a + 1 :]) for a in self.perm)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        dy = grads[0]
        assert dy is not None
        back = tuple(self.perm.index(a) for a in range(len(self.perm)))
        return (g.emit(Transpose(back), dy, name=f"d_{inputs[0].name}"),)


@dataclass(frozen=True)
class Concat(Op):
    """`count` tensors, alike but for their size along `axis`, one behind the other. ONNX Concat."""

    axis: int = 0
    count: int = 2

    name = "concat"
    differentiable = True
    kernels = _COPIES

    @property
    def args(self) -> tuple[str, ...]:                    # type: ignore[override]
        return tuple(f"x{n}" for n in range(self.count))

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        first, axis = types[0].shape, self.axis
        if len(types) != self.count or not 0 <= axis < len(first):
            raise ValueError(f"{len(types)} tensors along axis {axis} of {first}")
        for kind in types[1:]:
            if len(kind.shape) != len(first) or kind.shape[:axis] != first[:axis] or kind.shape[axis + 1 :] != first[axis + 1 :]:
                raise ValueError(f"{first} and {kind.shape} differ outside of axis {axis}")
        shape = (*first[:axis], sum(t.shape[axis] for t in types), *first[axis + 1 :])
        return (TensorType(shape, types[0].dtype, self._quant([t.quant for t in types])),)

    def _quant(self, quants: list[Quant | None]) -> Quant | None:
        """What all have; scales along the axis itself are joined. Stored numbers of other scales mean something else: ValueError."""
        first = quants[0]
        if first and first.axis == self.axis and all(q and q.axis == self.axis and q.zero_point == first.zero_point for q in quants):
            return dataclasses.replace(first, scale=tuple(s for q in quants if q for s in q.scale))
        if any(q != first for q in quants):
            raise ValueError(f"tensors of different scales: {quants}")
        return first

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (np.concatenate(arrays, self.axis),)

    def ties(self, *types: TensorType) -> tuple[Tie, ...]:
        rank = len(types[0].shape)
        return () if self.axis == rank - 1 else (tuple((i, -1) for i in (*range(self.count), ~0)),)

    def rows(self, x: TensorType) -> int:
        """Runs that an input consists of: whatever lies before the axis."""
        return math.prod(x.shape[: self.axis])

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        dy = grads[0]
        assert dy is not None
        found: list[Value | None] = []
        start = 0
        for value, want in zip(inputs, wanted, strict=True):
            stop = start + value.shape[self.axis]
            found.append(g.emit(Slice(self.axis, start, stop), dy, name=f"d_{value.name}") if want else None)
            start = stop
        return tuple(found)


@dataclass(frozen=True)
class Slice(Fusable):
    """Indices start..stop-1 along one axis. ONNX Slice with step 1, Split."""

    axis: int = 0
    start: int = 0
    stop: int = 1

    name = "slice"
    differentiable = True
    kernels = _COPIES
    as_integer = moves

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        shape = types[0].shape
        if not 0 <= self.axis < len(shape) or not 0 <= self.start < self.stop <= shape[self.axis]:
            raise ValueError(f"[{self.start}, {self.stop}) along axis {self.axis} is no part of {shape}")
        quant = types[0].quant
        if quant and quant.axis == self.axis:
            quant = dataclasses.replace(quant, scale=quant.scale[self.start : self.stop])
        return (TensorType((*shape[: self.axis], self.stop - self.start, *shape[self.axis + 1 :]), types[0].dtype, quant),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        return (np.ascontiguousarray(np.take(arrays[0], range(self.start, self.stop), self.axis)),)

    def rows(self, x: TensorType) -> int:
        """Runs that the input consists of: whatever lies before the axis."""
        return math.prod(x.shape[: self.axis])

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x,), dy = inputs, grads[0]
        assert dy is not None
        before = tuple(self.start if a == self.axis else 0 for a in range(len(x.shape)))
        after = tuple(n - self.stop if a == self.axis else 0 for a, n in enumerate(x.shape))
        return (g.emit(Pad(before, after), dy, name=f"d_{x.name}"),)


@dataclass(frozen=True)
class Pad(Fusable):
    """`before` and `after` elements of a constant around x, one number an axis. ONNX Pad, mode constant.

    Of int8 the constant is a stored number: the zero point where zeros are meant.
    """

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    value: float = 0.0

    name = "pad"
    differentiable = True
    kernels = _COPIES

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        shape, dtype, quant = types[0].shape, types[0].dtype, types[0].quant
        if not len(self.before) == len(self.after) == len(shape) or min((0, *self.before, *self.after)) < 0:
            raise ValueError(f"padding of {self.before} before and {self.after} after {shape}: one number of 0 or more an axis is expected")
        if not dtype.is_float and not (float(self.value).is_integer() and abs(2 * self.value + 1) < 256 ** dtype.np.itemsize):
            raise ValueError(f"padding with {self.value}: no number of type {dtype.tag}")
        if quant and quant.axis is not None and self.before[quant.axis] + self.after[quant.axis]:
            raise ValueError(f"padding along axis {quant.axis}: each index there has a scale of its own")
        return (TensorType(tuple(b + n + a for b, n, a in zip(self.before, shape, self.after, strict=True)), dtype, quant),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        return (np.pad(x, tuple(zip(self.before, self.after, strict=True)), constant_values=x.dtype.type(self.value)),)

    def stride(self, shape: tuple[int, ...], axis: int) -> int:
        """Elements between neighbours along an axis."""
        return math.prod(shape[axis + 1 :])

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x,), dx = inputs, grads[0]
        assert dx is not None
        for axis, (start, size) in enumerate(zip(self.before, x.shape, strict=True)):
            if dx.shape[axis] != size:
                dx = g.emit(Slice(axis, start, start + size), dx, name=f"d_{x.name}")
        return (dx,)

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        x = inputs[0]
        if isinstance(x, Scaled) and x.mantissa.type.quant:
            return no("it pads numbers that are not stored")
        return moves(self, g, inputs, outputs)


Reshape.examples = (
    Example(Reshape((6,)), f32((2, 3))),
    Example(Reshape((1,)), f32(())),
    Example(Reshape((5, 1, 3)), f32((3, 5))),
    Example(Reshape((6, 3)), (TensorType((2, 3, 3), S8, Quant((0.5, 0.25, 0.125), 0, 2)),), (-128, 128)),
)
_ROWS = Quant((0.5, 0.25, 0.125), 0, 0)                   # scales of the three rows of a weight

Transpose.examples = (
    Example(Transpose((0,)), f32((1,))),
    Example(Transpose((1, 0)), f32((3, 7))),
    Example(Transpose((1, 2, 0)), f32((3, 5, 2))),
    Example(Transpose((2, 0, 1)), f32((4, 1, 7))),
    Example(Transpose((0, 3, 1, 2)), f32((2, 3, 5, 2))),
    Example(Transpose((1, 0)), (TensorType((3, 7), S8, _ROWS),), (-128, 128)),
    Example(Transpose((1, 0)), (TensorType((3, 5), S32, _ROWS),), (-1000, 1000)),
)
Concat.examples = (
    Example(Concat(0, 2), f32((1,), (1,))),
    Example(Concat(0, 3), f32((5,), (1,), (7,))),
    Example(Concat(2, 2), f32((3, 5, 2), (3, 5, 7))),
    Example(Concat(1, 2), f32((3, 1, 2), (3, 4, 2))),
    Example(Concat(1, 2), (TensorType((3, 7), S8, _ROWS), TensorType((3, 2), S8, _ROWS)), (-128, 128)),
    Example(Concat(0, 2), (TensorType((3, 2), S32, _ROWS), TensorType((3, 2), S32, _ROWS)), (-1000, 1000)),
    Example(Concat(2, 1), f32((2, 3, 5))),
)
Slice.examples = (
    Example(Slice(0, 0, 1), f32((1,))),
    Example(Slice(0, 2, 7), f32((11,))),
    Example(Slice(1, 1, 3), f32((3, 4, 5))),
    Example(Slice(2, 1, 2), f32((3, 4, 5))),
    Example(Slice(1, 2, 5), (TensorType((3, 7), S8, _ROWS),), (-128, 128)),
    Example(Slice(0, 1, 3), (TensorType((3, 7), S32, _ROWS),), (-1000, 1000)),
    Example(Slice(0, 0, 3), f32((3, 4, 5))),
)
Pad.examples = (
    Example(Pad((0,), (0,)), f32((1,))),
    Example(Pad((2,), (1,), -1.5), f32((3,))),
    Example(Pad((1, 0), (1, 2), -math.inf), f32((2, 3))),
    Example(Pad((1, 0, 0), (0, 2, 0)), f32((3, 5, 2))),
    Example(Pad((1, 2, 3), (3, 0, 1), 0.5), f32((2, 3, 1))),
    Example(Pad((0, 0, 2), (0, 0, 3)), f32((3, 2, 3))),
    Example(Pad((1, 2, 0), (3, 0, 1), -128), (TensorType((2, 3, 2), S8, Quant((0.5,), -128)),), (-128, 128)),
    Example(Pad((2, 0), (1, 0), 1000), (TensorType((5, 3), S32, Quant((0.5, 0.25, 0.125), 0, 1)),), (-2000, 2000)),
)


def channels_of(g: Builder, value: Value, want: Want) -> Value:
    """The wanted channels (last axis) of a value; the value itself where all are wanted."""
    if want.channels is None:
        return value
    return g.emit(Slice(len(value.shape) - 1, *want.channels), value, name=f"{value.name}_part")
