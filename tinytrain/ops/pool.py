# SPDX-License-Identifier: Apache-2.0
"""Windows over a feature map (H, W, C): tap (r, s) of window (h, w) reads row i = h·sh + r·dh − top, column j = w·sw + s·dw − left.

max_pool: y[h,w,c] = max over the live taps of x[i,j,c], the first where several are equal; index = r·S + s of that tap
    dx[i,j,c] = Σ over the windows (h, w) whose index points to (i, j) of dy[h,w,c]
average_pool: y[h,w,c] = Σ x[i,j,c] / n(h,w), n the number of live taps, or R·S where padding counts
    dx[i,j,c] = Σ over the windows (h, w) that contain (i, j) of dy[h,w,c] / n(h,w)

Gradients are gathered, not scattered: each dx is stored once, so that the gradient of an activation can run in the same loop.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Cost, Declined, Example, Fusable, Kernel, Op, Wanted, f32, no
from tinytrain.ir.types import F32, S16, U8, Array, DType, TensorType, Value
from tinytrain.ops.activation import ReluGrad
from tinytrain.ops.conv import Pad, out_size
from tinytrain.ops.elementwise import Add, Broadcast, Scale


def _index_type(kernel: tuple[int, int]) -> DType:
    """The smallest type that holds a position inside the window."""
    taps = kernel[0] * kernel[1]
    if taps > 32768:
        raise ValueError(f"a window of {kernel[0]}x{kernel[1]} is too large for a 16-bit index of its maximum")
    return U8 if taps <= 256 else S16


@dataclass(frozen=True)
class Window:
    """Geometry of a pooling window along one axis: what a kernel needs to know for its bounds."""

    size: int
    out: int
    kernel: int
    stride: int
    before: int
    dilation: int

    @property
    def inside(self) -> bool:
        """No tap of any window is padding."""
        return self.before == 0 and (self.out - 1) * self.stride + (self.kernel - 1) * self.dilation < self.size

    @property
    def apart(self) -> bool:
        """No two windows share an element."""
        return self.dilation == 1 and self.stride >= self.kernel

    @property
    def covers(self) -> bool:
        """Every element lies in a window of its own: windows apart, without gaps."""
        return self.apart and self.stride == self.kernel and self.out * self.stride >= self.size + self.before

    def live(self) -> Array:
        """Number of taps that are not padding, for each window."""
        taps = np.arange(self.out)[:, None] * self.stride + np.arange(self.kernel) * self.dilation - self.before
        return np.asarray(((taps >= 0) & (taps < self.size)).sum(axis=1))


@dataclass(frozen=True)
class Pool(Fusable):
    """Base of pooling ops: the geometry."""

    kernel: tuple[int, int] = (2, 2)
    stride: tuple[int, int] = (1, 1)
    pad: Pad = field(default=Pad())

    def dilations(self) -> tuple[int, int]:
        return (1, 1)

    def windows(self, x: tuple[int, ...]) -> tuple[Window, Window]:
        """The windows along H and W of a map of shape x; raises ValueError where they do not fit."""
        if len(x) != 3:
            raise ValueError(f"{x} is no feature map (H, W, C)")
        befores, pads = (self.pad.top, self.pad.left), (self.pad.top + self.pad.bottom, self.pad.left + self.pad.right)
        found = []
        for size, k, s, d, before, both in zip(x, self.kernel, self.stride, self.dilations(), befores, pads, strict=False):
            axis = Window(size, out_size(size, k, s, d, both), k, s, before, d)
            if axis.live().min() < 1:
                raise ValueError(f"padding {self.pad} around {x[:2]}: a window of {self.kernel} would hold nothing but padding")
            found.append(axis)
        return found[0], found[1]

    def outputs(self, x: tuple[int, ...]) -> tuple[int, int, int]:
        rows, columns = self.windows(x)
        return rows.out, columns.out, x[2]

    def taps(self, x: Array, fill: float) -> Iterator[tuple[int, int, Any]]:
        """(r, s, view of the padded map under that tap) for each tap in order."""
        rows, columns = self.windows(x.shape)
        padded = self.padded(x, fill)
        for r in range(rows.kernel):
            for s in range(columns.kernel):
                yield r, s, self.under(padded, rows, columns, r, s)

    def padded(self, x: Array, fill: float) -> Array:
        return np.pad(x, ((self.pad.top, self.pad.bottom), (self.pad.left, self.pad.right), (0, 0)), constant_values=fill)

    @staticmethod
    def under(padded: Array, rows: Window, columns: Window, r: int, s: int) -> Array:
        i, j = r * rows.dilation, s * columns.dilation
        return padded[i : i + rows.out * rows.stride : rows.stride, j : j + columns.out * columns.stride : columns.stride]

    def cropped(self, padded: Array, shape: tuple[int, ...]) -> Array:
        return np.ascontiguousarray(padded[self.pad.top : self.pad.top + shape[0], self.pad.left : self.pad.left + shape[1]])


@dataclass(frozen=True)
class MaxPool(Pool):
    """x (H, W, C) -> y (Ho, Wo, C) [, index alike in the smallest integer type]. ONNX MaxPool."""

    dilation: tuple[int, int] = (1, 1)
    argmax: bool = True

    name = "max_pool"
    onnx = ("MaxPool",)
    differentiable = True
    kernels = (Kernel("pool"),)

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return ("y", "index") if self.argmax else ("y",)

    def dilations(self) -> tuple[int, int]:
        return self.dilation

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        shape = self.outputs(types[0].shape)
        y = TensorType(shape, types[0].dtype)
        return (y, TensorType(shape, _index_type(self.kernel))) if self.argmax else (y,)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        taps = np.stack([tap for _, _, tap in self.taps(x, -np.inf)])
        index = taps.argmax(axis=0)
        y = taps.max(axis=0)
        return (y, index.astype(_index_type(self.kernel).np)) if self.argmax else (y,)

    def without(self, outputs: frozenset[int]) -> Op | Declined:
        return dataclasses.replace(self, argmax=False) if outputs == {1} and self.argmax else no("only the index can be left out")

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x,), dy = inputs, grads[0]
        assert dy is not None
        if not wanted[0]:
            return (None,)
        index = outputs[1] if self.argmax else g.emit_all(dataclasses.replace(self, argmax=True), x)[1]
        op = MaxPoolGrad(self.kernel, self.stride, self.pad, self.dilation, x.shape)
        return (g.emit(op, dy, index, name=f"d_{x.name}"),)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(elements=self.base_infer(*types[:1])[0].numel * self.kernel[0] * self.kernel[1])


@dataclass(frozen=True)
class MaxPoolGrad(Pool):
    """dy (Ho, Wo, C), index alike -> dx of `shape` (H, W, C)."""

    dilation: tuple[int, int] = (1, 1)
    shape: tuple[int, ...] = (1, 1, 1)

    name = "max_pool_grad"
    args = ("dy", "index")
    results = ("dx",)
    kernels = tuple(Kernel("pool", dtypes=(F32, index, F32)) for index in (U8, S16))

    def dilations(self) -> tuple[int, int]:
        return self.dilation

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        dy, index = types
        shape = self.outputs(self.shape)
        if dy.shape != shape or index != TensorType(shape, _index_type(self.kernel)):
            raise ValueError(f"dy {dy} and index {index} for windows {shape}")
        return (TensorType(self.shape, dy.dtype),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, index = arrays
        rows, columns = self.windows(self.shape)
        padded = self.padded(np.zeros(self.shape, dy.dtype), 0)
        for r in range(rows.kernel):
            for s in range(columns.kernel):
                tap = self.under(padded, rows, columns, r, s)
                tap += np.where(index == r * columns.kernel + s, dy, np.zeros_like(dy))
        return (self.cropped(padded, self.shape),)


@dataclass(frozen=True)
class AveragePool(Pool):
    """x (H, W, C) -> y (Ho, Wo, C); `include_pad` divides by R·S everywhere. ONNX AveragePool."""

    include_pad: bool = False

    name = "average_pool"
    onnx = ("AveragePool",)
    differentiable = True
    kernels = (Kernel("pool"),)

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(self.outputs(types[0].shape), types[0].dtype),)

    def divisor(self, x: tuple[int, ...]) -> Array:
        """n(h, w) as (Ho, Wo, 1)."""
        rows, columns = self.windows(x)
        if self.include_pad:
            return np.full((rows.out, columns.out, 1), rows.kernel * columns.kernel)
        return np.asarray(np.outer(rows.live(), columns.live())[:, :, None])

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        total = np.zeros(self.outputs(x.shape), x.dtype)
        for _, _, tap in self.taps(x, 0):
            total += tap
        return (total / self.divisor(x.shape).astype(x.dtype),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x,), dy = inputs, grads[0]
        assert dy is not None
        op = AveragePoolGrad(self.kernel, self.stride, self.pad, self.include_pad, x.shape)
        return (g.emit(op, dy, name=f"d_{x.name}") if wanted[0] else None,)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(elements=self.base_infer(*types[:1])[0].numel * self.kernel[0] * self.kernel[1])


@dataclass(frozen=True)
class AveragePoolGrad(Pool):
    """dy (Ho, Wo, C) -> dx of `shape` (H, W, C)."""

    include_pad: bool = False
    shape: tuple[int, ...] = (1, 1, 1)

    name = "average_pool_grad"
    args = ("dy",)
    results = ("dx",)
    kernels = (Kernel("pool"),)

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (dy,) = types
        if dy.shape != self.outputs(self.shape):
            raise ValueError(f"dy {dy.shape} for windows {self.outputs(self.shape)}")
        return (TensorType(self.shape, dy.dtype),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        (dy,) = arrays
        rows, columns = self.windows(self.shape)
        forward = AveragePool(self.kernel, self.stride, self.pad, self.include_pad)
        share = dy / forward.divisor(self.shape).astype(dy.dtype)
        padded = self.padded(np.zeros(self.shape, dy.dtype), 0)
        for r in range(rows.kernel):
            for s in range(columns.kernel):
                tap = self.under(padded, rows, columns, r, s)
                tap += share
        return (self.cropped(padded, self.shape),)


@dataclass(frozen=True)
class GlobalAveragePool(Fusable):
    """x (H, W, C) -> y (C,): the mean over space. ONNX GlobalAveragePool, ReduceMean over space."""

    name = "global_average_pool"
    onnx = ("GlobalAveragePool", "ReduceMean")
    differentiable = True
    kernels = (Kernel("broadcast"),)

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(types[0].shape[-1:], types[0].dtype),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        return (x.reshape(-1, x.shape[-1]).mean(axis=0),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x,), dy = inputs, grads[0]
        assert dy is not None
        if not wanted[0]:
            return (None,)
        share = g.emit(Scale(x.shape[-1] / x.type.numel), dy, name=f"d_{outputs[0].name}_share")
        return (g.emit(Broadcast(x.shape), share, name=f"d_{x.name}"),)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(elements=types[0].numel)


_GEOMETRIES = (
    ((1, 1), (1, 1), Pad(), (1, 1, 1)),
    ((2, 2), (2, 2), Pad(), (6, 4, 3)),
    ((2, 2), (2, 2), Pad(), (7, 5, 2)),
    ((3, 3), (2, 2), Pad(1, 1, 1, 1), (7, 6, 5)),
    ((3, 2), (1, 1), Pad(0, 0, 1, 1), (5, 4, 1)),
    ((2, 3), (3, 1), Pad(1, 0, 0, 2), (8, 5, 3)),
    ((2, 2), (3, 3), Pad(1, 0, 1, 1), (8, 7, 3)),
    ((2, 2), (2, 2), Pad(1, 1, 1, 1), (4, 6, 2)),
    ((5, 1), (2, 1), Pad(2, 0, 2, 0), (11, 1, 4)),
    ((7, 7), (7, 7), Pad(), (7, 7, 2)),
    ((17, 16), (1, 1), Pad(), (18, 17, 1)),
)
_DILATED = (((2, 2), (1, 1), Pad(), (5, 6, 2), (2, 3)), ((3, 3), (2, 2), Pad(2, 1, 1, 2), (9, 8, 2), (2, 2)))


def _windows(x: tuple[int, ...], pool: Pool) -> TensorType:
    return pool.base_infer(TensorType(x))[0]


MaxPool.examples = (
    *(Example(MaxPool(k, s, p), f32(x)) for k, s, p, x in _GEOMETRIES),
    *(Example(MaxPool(k, s, p, d), f32(x)) for k, s, p, x, d in _DILATED),
    Example(MaxPool((3, 3), (2, 2), Pad(1, 1, 1, 1), argmax=False), f32((7, 6, 5))),
)
MaxPoolGrad.examples = tuple(
    Example(
        MaxPoolGrad(k, s, p, d, x, then=then),
        (y := _windows(x, MaxPool(k, s, p, d)), TensorType(y.shape, _index_type(k)), *(TensorType(x) for _ in then)),
        (0, k[0] * k[1]),
    )
    for then in ((), (ReluGrad(),)) for k, s, p, x, d in (*((*geometry, (1, 1)) for geometry in _GEOMETRIES), *_DILATED)
)
AveragePool.examples = tuple(Example(AveragePool(k, s, p, include), f32(x)) for include in (False, True) for k, s, p, x in _GEOMETRIES)
AveragePoolGrad.examples = tuple(
    Example(AveragePoolGrad(k, s, p, include, x, then=then), (_windows(x, AveragePool(k, s, p)), *(TensorType(x) for _ in then)))
    for include, then in ((False, ()), (True, (ReluGrad(),))) for k, s, p, x in _GEOMETRIES
)
GlobalAveragePool.examples = (
    *(Example(GlobalAveragePool(), f32(x)) for x in ((1, 1, 1), (5, 7, 3), (4, 1, 8), (1, 1, 5))),
    Example(GlobalAveragePool(then=(Add(),)), f32((3, 3, 6), (6,))),
)
