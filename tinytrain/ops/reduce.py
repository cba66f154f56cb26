# SPDX-License-Identifier: Apache-2.0
"""Reductions over the axes that broadcasting `shape` to x would repeat, as sum_to, of more than sums:

max_to, min_to: the first element that is extreme, and where it is; its gradient goes there
prod_to: Π x[i], dx[i] = dy·Π of the others: y/x[i], or the product of all others where x[i] is the only zero
log_sum_exp_to: m + ln Σ e^(x[i] − m) with m the largest, so that none overflows; dx[i] = dy·e^(x[i] − y)

arg_extreme: the index of the extreme along one axis. hardmax: 1 there, else 0. top_k: the k most extreme along an axis, in order.
put_along: dx[…, index[…, j, …], …] += dy[…, j, …], zeros elsewhere: the gradient of taking elements by their index.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import ALL_HALVES, FIRST_HALF, Cost, Declined, Example, Kernel, Op, Wanted, f32, no
from tinytrain.ir.types import F32, S8, S32, Array, Quant, TensorType, Value
from tinytrain.ops.elementwise import broadcastable, mapping
from tinytrain.ops.shape import Reshape


def _reduced_axes(full: tuple[int, ...], small: tuple[int, ...]) -> tuple[int, ...]:
    padded = (1,) * (len(full) - len(small)) + small
    return tuple(axis for axis, kept in enumerate(padded) if kept == 1)


def _extreme(x: Array, largest: bool) -> Array:
    """x, or for the smallest what falls as it rises: of integers, which have one number more below 0, its bits turned."""
    return x if largest else -x if x.dtype.kind == "f" else ~x


@dataclass(frozen=True)
class Reduce(Op):
    """Base of x -> `shape`."""

    shape: tuple[int, ...] = ()

    kernels: ClassVar[tuple[Kernel, ...]] = (Kernel("reduce", half=ALL_HALVES),)
    differentiable = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        broadcastable(self.shape, types[0].shape)
        return (TensorType(self.shape, types[0].dtype),)

    def axes(self, full: TensorType) -> tuple[tuple[int, int, int], ...]:
        """What the kernel loops over."""
        return mapping(full.shape, self.shape)

    def over(self, x: Array) -> tuple[int, ...]:
        """The axes that are reduced."""
        return _reduced_axes(x.shape, self.shape)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(elements=types[0].numel)


@dataclass(frozen=True)
class ReduceGrad(Op):
    """Base of gradients that are like x; y and dy are of the reduced shape."""

    results = ("dx",)
    kernels = (Kernel("reduce", half=ALL_HALVES),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        broadcastable(types[0].shape, types[1].shape)
        return (types[1],)

    def axes(self, full: TensorType, small: TensorType) -> tuple[tuple[int, int, int], ...]:
        """What the kernel loops over."""
        return mapping(full.shape, small.shape)

    @property
    def inplace(self) -> tuple[tuple[int, int], ...]:
        return ((1, 0),)


@dataclass(frozen=True)
class ExtremeTo(Reduce):
    """Base of the largest and the smallest: y [, index of the first such element in all of x]; of int8 with one scale, which y has too."""

    index: bool = True
    largest: ClassVar[bool] = True

    kernels = (Kernel("reduce", half=ALL_HALVES), Kernel("reduce", (S8,)))

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return ("y", "index") if self.index else ("y",)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        super().infer(*types)
        y = dataclasses.replace(types[0], shape=self.shape)
        return (y, TensorType(self.shape, S32)) if self.index else (y,)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,), over = arrays, self.over(arrays[0])
        kept = tuple(axis for axis in range(x.ndim) if axis not in over)

        def rows(a: Array) -> Array:
            return np.asarray(a.transpose(*kept, *over).reshape(*(x.shape[axis] for axis in kept), -1))

        first = _extreme(rows(x), self.largest).argmax(axis=-1)[..., None]
        y, at = (np.take_along_axis(rows(a), first, -1).reshape(self.shape) for a in (x, np.arange(x.size).reshape(x.shape)))
        return (y, at.astype(np.int32)) if self.index else (y,)

    def without(self, outputs: frozenset[int]) -> Op | Declined:
        return dataclasses.replace(self, index=False) if outputs == {1} and self.index else no("only the index can be left out")

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x,), dy = inputs, grads[0]
        assert dy is not None
        index = outputs[1] if self.index else g.emit_all(dataclasses.replace(self, index=True), x)[1]
        row = Reshape((dy.type.numel,))
        dx = g.emit(PutAlong(0, x.type.numel), g.emit(row, dy), g.emit(row, index), name=f"d_{x.name}")
        return (g.emit(Reshape(x.shape), dx, name=f"d_{x.name}"),)


@dataclass(frozen=True)
class MaxTo(ExtremeTo):
    """The largest. ONNX ReduceMax."""

    name = "max_to"


@dataclass(frozen=True)
class MinTo(ExtremeTo):
    """The smallest. ONNX ReduceMin."""

    name = "min_to"
    largest = False


@dataclass(frozen=True)
class ProdTo(Reduce):
    """The product, in ascending order of index. ONNX ReduceProd."""

    name = "prod_to"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        return (x.prod(axis=self.over(x), keepdims=True).reshape(self.shape),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x,), dy = inputs, grads[0]
        assert dy is not None
        return (g.emit(ProdGrad(), dy, x, name=f"d_{x.name}"),)


@dataclass(frozen=True)
class ProdGrad(ReduceGrad):
    """dy of the reduced shape, x -> dx."""

    name = "prod_grad"
    args = ("dy", "x")

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, x = arrays
        over = _reduced_axes(x.shape, dy.shape)
        zeros = (x == 0).sum(axis=over, keepdims=True)
        nonzero = np.where(x == 0, x.dtype.type(1), x)
        others = nonzero.prod(axis=over, keepdims=True) / nonzero
        return (np.where(zeros == (x == 0), others, x.dtype.type(0)) * dy,)


@dataclass(frozen=True)
class LogSumExpTo(Reduce):
    """ln Σ eˣ. ONNX ReduceLogSumExp."""

    name = "log_sum_exp_to"

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,), over = arrays, self.over(arrays[0])
        top = x.max(axis=over, keepdims=True)
        return ((top + np.log(np.exp(x - top).sum(axis=over, keepdims=True))).reshape(self.shape),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x,), dy = inputs, grads[0]
        assert dy is not None
        return (g.emit(LogSumExpGrad(), dy, x, outputs[0], name=f"d_{x.name}"),)


@dataclass(frozen=True)
class LogSumExpGrad(ReduceGrad):
    """dy of the reduced shape, x, y like dy -> dx."""

    name = "log_sum_exp_grad"
    args = ("dy", "x", "y")

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, x, y = arrays
        return (dy * np.exp(x - y),)


@dataclass(frozen=True)
class Along(Op):
    """Base of what minds the order along one axis."""

    axis: int = 0

    def inner(self, shape: tuple[int, ...]) -> int:
        """Elements between neighbours along the axis."""
        return math.prod(shape[self.axis + 1 :])

    def resized(self, shape: tuple[int, ...], size: int) -> tuple[int, ...]:
        """The shape with that many elements along the axis."""
        return (*shape[: self.axis], size, *shape[self.axis + 1 :])


@dataclass(frozen=True)
class ArgExtreme(Along):
    """x -> the index along `axis`, which stays, of the largest or smallest, of the first or the `last` such. ONNX ArgMax, ArgMin."""

    largest: bool = True
    last: bool = False

    name = "arg_extreme"
    results = ("index",)
    kernels = (Kernel("reduce", (F32, S32), half=FIRST_HALF), Kernel("reduce", (S8, S32)))

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(self.resized(types[0].shape, 1), S32),)

    def axes(self, full: TensorType) -> tuple[tuple[int, int, int], ...]:
        """What the kernel loops over."""
        return mapping(full.shape, self.infer(full)[0].shape)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        x = _extreme(arrays[0], self.largest)
        if self.last:
            return ((x.shape[self.axis] - 1 - np.flip(x, self.axis).argmax(axis=self.axis, keepdims=True)).astype(np.int32),)
        return (x.argmax(axis=self.axis, keepdims=True).astype(np.int32),)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(elements=types[0].numel)


@dataclass(frozen=True)
class Hardmax(Op):
    """x (..., N) -> 1 at the first that is largest along the last axis, else 0. ONNX Hardmax."""

    name = "hardmax"
    kernels = (Kernel("reduce", half=ALL_HALVES),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (types[0],)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        return ((np.arange(x.shape[-1]) == x.argmax(axis=-1, keepdims=True)).astype(x.dtype),)


@dataclass(frozen=True)
class TopK(Along):
    """x -> the k largest (smallest) along `axis`, in falling (rising) order, and their indices; the first of equal ones. ONNX TopK."""

    k: int = 1
    largest: bool = True

    name = "top_k"
    results = ("y", "index")
    kernels = (Kernel("reduce", (F32, F32, S32), half=FIRST_HALF),)
    differentiable = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        shape = types[0].shape
        if not 0 < self.k <= shape[self.axis]:
            raise ValueError(f"k is {self.k} for {shape[self.axis]} elements: one of these at least, and not more than all, is expected")
        found = self.resized(shape, self.k)
        return (TensorType(found, types[0].dtype), TensorType(found, S32))

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        index = np.argsort(_extreme(x, not self.largest), axis=self.axis, kind="stable").take(np.arange(self.k), self.axis)
        return (np.take_along_axis(x, index, self.axis), index.astype(np.int32))

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x,), dy = inputs, grads[0]
        assert dy is not None
        return (g.emit(PutAlong(self.axis, x.shape[self.axis]), dy, outputs[1], name=f"d_{x.name}"),)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(elements=types[0].numel * self.k)


@dataclass(frozen=True)
class PutAlong(Along):
    """dy, index alike -> dx with `size` elements along `axis`: zeros, and dy added where the index along that axis says."""

    size: int = 1

    name = "put_along"
    args = ("dy", "index")
    results = ("dx",)
    wide = frozenset((~0,))                               # it is added to
    kernels = (Kernel("reduce", (F32, S32, F32), half=FIRST_HALF),)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        dy, index = types
        if index != TensorType(dy.shape, S32):
            raise ValueError(f"dy {dy} and index {index}")
        return (TensorType(self.resized(dy.shape, self.size), dy.dtype),)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, index = arrays
        dx = np.zeros(self.resized(dy.shape, self.size), dy.dtype)
        grid = np.indices(index.shape)
        np.add.at(dx, (*grid[: self.axis], index, *grid[self.axis + 1 :]), dy)
        return (dx,)


_SHAPES = (
    ((1,), (1,)), ((1,), (7,)), ((1, 1), (5, 3)), ((3,), (5, 3)), ((5, 1), (5, 3)), ((2, 1, 3), (2, 4, 3)), ((1, 4, 1), (2, 4, 3)),
    ((2, 1, 3, 1), (2, 5, 3, 2)),
)


def _stored(shape: tuple[int, ...]) -> TensorType:
    return TensorType(shape, S8, Quant((0.1,), 3))


_ALONG = (((1,), 0), ((7,), 0), ((3, 5), 1), ((3, 5), 0), ((2, 4, 3), 1), ((1, 3), 0))

for _reduce in (MaxTo, MinTo, ProdTo, LogSumExpTo):
    _reduce.examples = tuple(Example(_reduce(small), f32(full)) for small, full in _SHAPES)
for _extreme_to in (MaxTo, MinTo):
    _extreme_to.examples += (
        Example(_extreme_to((3,), index=False), f32((5, 3))),
        *(Example(_extreme_to(small), (_stored(full),), (-128, 128)) for small, full in (((1,), (300,)), ((2, 1, 3), (2, 4, 3)))),
    )
LogSumExpTo.examples += (Example(LogSumExpTo((3, 1)), f32((3, 5)), reals=(100.0, 0.0)),)
ProdGrad.examples = tuple(Example(ProdGrad(), f32(*pair)) for pair in _SHAPES)
LogSumExpGrad.examples = tuple(Example(LogSumExpGrad(), f32(small, full, small)) for small, full in _SHAPES)
ArgExtreme.examples = tuple(
    Example(ArgExtreme(axis, largest, last), f32(shape)) for shape, axis in _ALONG for largest, last in ((True, False), (False, True))
) + tuple(Example(ArgExtreme(1, largest), (_stored((3, 90)),), (-128, 128)) for largest in (True, False))
Hardmax.examples = tuple(Example(Hardmax(), f32(shape)) for shape in ((1,), (7,), (3, 5)))
TopK.examples = (
    *(Example(TopK(axis, -(-shape[axis] // 2)), f32(shape)) for shape, axis in _ALONG),
    Example(TopK(1, 5, largest=False), f32((3, 5))),
)
PutAlong.examples = tuple(
    Example(PutAlong(axis, shape[axis] + 3), (TensorType(shape), TensorType(shape, S32)), (0, shape[axis] + 3)) for shape, axis in _ALONG
)
