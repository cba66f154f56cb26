# SPDX-License-Identifier: Apache-2.0
"""Windows over a feature map (H, W, C): tap (r, s) of window (h, w) reads row i = h·sh + r·dh − top, column j = w·sw + s·dw − left.

max_pool: y[h,w,c] = max over the live taps of x[i,j,c], the first where several are equal; index = r·S + s of that tap
    dx[i,j,c] = Σ over the windows (h, w) whose index points to (i, j) of dy[h,w,c]
average_pool: y[h,w,c] = Σ x[i,j,c] / n(h,w), n the number of live taps, or R·S where padding counts
    dx[i,j,c] = Σ over the windows (h, w) that contain (i, j) of dy[h,w,c] / n(h,w)

Of int8 numbers an average is a sum over int32 at a finer scale, rounded by the requantisation that follows:
    y = Σ (x − z)·L/n(h,w)  with L the least common multiple of all n, so that real = y·s/L;  dx = Σ dy·L/n(h,w)

Gradients are gathered, not scattered: each dx is stored once, so that the gradient of an activation can run in the same loop.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.growth import Bounded
from tinytrain.ir.integer import IntegerForms, Operand, Scaled
from tinytrain.ir.op import ALL_HALVES, Cost, Declined, Example, Fusable, Kernel, Op, Tie, Wanted, f32, no
from tinytrain.ir.types import F16, F32, S8, S16, S32, U8, Array, DType, Quant, TensorType, Value
from tinytrain.ops.activation import ReluGrad
from tinytrain.ops.elementwise import Add, Broadcast, Scale
from tinytrain.ops.integer_rules import sums
from tinytrain.ops.simd import by_channel
from tinytrain.ops.sums import INT8, INT32_MAX, ZERO_POINTS, int8
from tinytrain.ops.windowed import Pad
from tinytrain.ops.windows import DILATED, GEOMETRIES, Pool


def _index_type(kernel: tuple[int, int]) -> DType:
    """The smallest type that holds a position inside the window."""
    taps = kernel[0] * kernel[1]
    if taps > 32768:
        raise ValueError(f"a window of {kernel[0]}x{kernel[1]} is too large for a 16-bit index of its maximum")
    return U8 if taps <= 256 else S16


@dataclass(frozen=True)
class MaxPool(Pool):
    """x (H, W, C) -> y (Ho, Wo, C) [, index alike in the smallest integer type]. ONNX MaxPool."""

    dilation: tuple[int, int] = (1, 1)
    argmax: bool = True

    name = "max_pool"
    differentiable = True
    kernels = (
        Kernel("pool", half=ALL_HALVES, shared=True), Kernel("pool", (S8,), shared=True), *by_channel("pool", (F32,), (S8,), shared=True),
    )

    @property
    def results(self) -> tuple[str, ...]:                 # type: ignore[override]
        return ("y", "index") if self.argmax else ("y",)

    def dilations(self) -> tuple[int, int]:
        return self.dilation

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        shape = self.outputs(types[0].shape)
        y = TensorType(shape, types[0].dtype, types[0].quant)
        return (y, TensorType(shape, _index_type(self.kernel))) if self.argmax else (y,)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        taps = np.stack([tap for _, _, tap in self.taps(x, lowest)])
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
        index = outputs[1] if self.argmax else g.emit_all(dataclasses.replace(self, argmax=True), x)[1]
        op = MaxPoolGrad(self.kernel, self.stride, self.pad, self.dilation, x.shape)
        return (g.emit(op, dy, index, name=f"d_{x.name}"),)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(elements=self.base_infer(*types[:1])[0].numel * self.kernel[0] * self.kernel[1])


@dataclass(frozen=True)
class MaxPoolGrad(Pool):
    """dy (Ho, Wo, C), index alike -> dx of `shape` (H, W, C); of s8 sums are s32."""

    dilation: tuple[int, int] = (1, 1)
    shape: tuple[int, ...] = (1, 1, 1)

    name = "max_pool_grad"
    args = ("dy", "index")
    results = ("dx",)
    kernels = (
        *(Kernel("pool", (dy, index), half=ALL_HALVES) for dy in (F32, S8) for index in (U8, S16)),
        *by_channel("pool", (F32, U8)),
    )
    as_integer = sums

    def dilations(self) -> tuple[int, int]:
        return self.dilation

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        dy, index = types
        shape = self.outputs(self.shape)
        if dy.shape != shape or index != TensorType(shape, _index_type(self.kernel)):
            raise ValueError(f"dy {dy} and index {index} for windows {shape}")
        return (TensorType(self.shape, S32 if dy.dtype is S8 else dy.dtype),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, index = _summed(arrays[0]), arrays[1]
        rows, columns = self.windows(self.shape)
        padded = self.padded(np.zeros(self.shape, dy.dtype), 0)
        for r in range(rows.kernel):
            for s in range(columns.kernel):
                tap = self.under(padded, rows, columns, r, s)
                tap += np.where(index == r * columns.kernel + s, dy, np.zeros_like(dy))
        return (self.cropped(padded, self.shape),)


def _summed(dy: Array) -> Array:
    """Gradients in the type that they are summed in."""
    return dy.astype(np.int32) if dy.dtype == np.int8 else dy


def _average_type(shape: tuple[int, ...], x: TensorType, zero_point: int | None, taps: int, unit: int) -> TensorType:
    """Of averages over up to `taps` elements: like x, or sums `unit` times as fine. Raises ValueError where int32 could overflow."""
    if zero_point is None and x.dtype.is_float:
        return TensorType(shape, x.dtype)
    if zero_point is None or x.dtype is not S8 or (x.quant and (x.quant.zero_point != zero_point or len(x.quant.scale) != 1)):
        raise ValueError(f"x {x} of {x.quant} and zero point {zero_point}: of int8 with one scale the op must say the zero point")
    if taps * 255 > INT32_MAX or unit * 255 > INT32_MAX:
        raise ValueError(f"a sum of {taps} int8 numbers in units of 1/{unit} could overflow 32 bits")
    return TensorType(shape, S32, Quant((x.quant.scale[0] / unit,)) if x.quant else None)


@dataclass(frozen=True)
class AveragePool(Pool):
    """x (H, W, C) -> y (Ho, Wo, C); `include_pad` divides by R·S everywhere. ONNX AveragePool.

    With a zero point, x is int8 and y int32; padding then is the zero point.
    """

    include_pad: bool = False
    zero_point: int | None = None
    dilation: tuple[int, int] = (1, 1)

    name = "average_pool"
    differentiable = True
    kernels = (
        Kernel("pool", half=ALL_HALVES, shared=True), Kernel("pool", (S8, S32), shared=True),
        *by_channel("pool", (F32,), (S8, S32), shared=True),
    )

    def dilations(self) -> tuple[int, int]:
        return self.dilation

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x = types[0]
        return (_average_type(self.outputs(x.shape), x, self.zero_point, self.kernel[0] * self.kernel[1], self.unit(x.shape)),)

    def unit(self, x: tuple[int, ...]) -> int:
        """L: a multiple of each window's divisor."""
        return math.lcm(*np.unique(self.divisor(x)).tolist())

    def divisor(self, x: tuple[int, ...]) -> Array:
        """n(h, w) as (Ho, Wo, 1)."""
        rows, columns = self.windows(x)
        if self.include_pad:
            return np.full((rows.out, columns.out, 1), rows.kernel * columns.kernel)
        return np.asarray(np.outer(rows.live(), columns.live())[:, :, None])

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        if self.zero_point is not None:
            weight = self.unit(x.shape) // self.divisor(x.shape)
            return ((self._total(x.astype(np.int32) - np.int32(self.zero_point)) * weight).astype(np.int32),)
        return (self._total(x) / self.divisor(x.shape).astype(x.dtype),)

    def smooth(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        if self.zero_point is None:
            return self.reference(x)
        return (self._total(x - self.zero_point) * (self.unit(x.shape) // self.divisor(x.shape)),)

    def _total(self, x: Array) -> Array:
        total = np.zeros(self.outputs(x.shape), x.dtype)
        for _, _, tap in self.taps(x, 0):
            total += tap
        return total

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x,), dy = inputs, grads[0]
        assert dy is not None
        if self.zero_point is not None:
            dy = g.emit(Scale(self.unit(x.shape)), dy, name=f"d_{outputs[0].name}_units")
        op = AveragePoolGrad(self.kernel, self.stride, self.pad, self.include_pad, x.shape, self.dilation)
        return (g.emit(op, dy, name=f"d_{x.name}"),)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(elements=self.base_infer(*types[:1])[0].numel * self.kernel[0] * self.kernel[1])


@dataclass(frozen=True)
class AveragePoolGrad(Pool):
    """dy (Ho, Wo, C) -> dx of `shape` (H, W, C); of s8 it is s32 in units of 1/L."""

    include_pad: bool = False
    shape: tuple[int, ...] = (1, 1, 1)
    dilation: tuple[int, int] = (1, 1)

    name = "average_pool_grad"
    args = ("dy",)
    results = ("dx",)
    kernels = (Kernel("pool", half=ALL_HALVES), Kernel("pool", (S8,)), *by_channel("pool", (F32,)))

    def dilations(self) -> tuple[int, int]:
        return self.dilation

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (dy,) = types
        if dy.shape != self.outputs(self.shape):
            raise ValueError(f"dy {dy.shape} for windows {self.outputs(self.shape)}")
        return (TensorType(self.shape, S32 if dy.dtype is S8 else dy.dtype),)

    @property
    def forward(self) -> AveragePool:
        return AveragePool(self.kernel, self.stride, self.pad, self.include_pad, dilation=self.dilation)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy = _summed(arrays[0])
        rows, columns = self.windows(self.shape)
        divisor = self.forward.divisor(self.shape).astype(dy.dtype)
        share = dy / divisor if dy.dtype.kind == "f" else dy * (dy.dtype.type(self.unit) // divisor)
        padded = self.padded(np.zeros(self.shape, dy.dtype), 0)
        for r in range(rows.kernel):
            for s in range(columns.kernel):
                tap = self.under(padded, rows, columns, r, s)
                tap += share
        return (self.cropped(padded, self.shape),)

    @property
    def unit(self) -> int:
        """L."""
        return self.forward.unit(self.shape)

    def as_integer(
        self, g: IntegerForms, inputs: Sequence[Operand], outputs: Sequence[Value]
    ) -> tuple[Operand, ...] | Declined:
        made = sums(self, g, inputs, outputs)
        return tuple(dx.times(1 / self.unit) for dx in made if isinstance(dx, Scaled)) if made else made


@dataclass(frozen=True)
class GlobalAveragePool(Fusable, Bounded):
    """x (H, W, C) -> y (C,): the mean over space. ONNX GlobalAveragePool, ReduceMean over space.

    With a zero point, x is int8 and y the int32 sum.
    """

    zero_point: int | None = None

    name = "global_average_pool"
    differentiable = True
    kernels = (
        Kernel("broadcast", half=ALL_HALVES, shared=True), Kernel("broadcast", (S8, S32), shared=True),
        *by_channel("broadcast", (F32,), (S8, S32), macro="global_average_rows"),
        Kernel("broadcast", (F16,), "xpulp", "global_average_pairs", shared=True),
    )

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x = types[0]
        taps = x.numel // x.shape[-1]
        return (_average_type(x.shape[-1:], x, self.zero_point, taps, taps),)

    def ties(self, *types: TensorType) -> tuple[Tie, ...]:
        return (((0, -1), (~0, -1)),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        rows = arrays[0].reshape(-1, arrays[0].shape[-1])
        if self.zero_point is None:
            return (rows.mean(axis=0),)
        return ((rows.astype(np.int32) - np.int32(self.zero_point)).sum(axis=0, dtype=np.int32),)

    def smooth(self, *arrays: Array) -> tuple[Array, ...]:
        (x,) = arrays
        return self.reference(x) if self.zero_point is None else ((x - self.zero_point).reshape(-1, x.shape[-1]).sum(axis=0),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x,), dy = inputs, grads[0]
        assert dy is not None
        if self.zero_point is not None:
            return (g.emit(Broadcast(x.shape), dy, name=f"d_{x.name}"),)
        share = g.emit(Scale(x.shape[-1] / x.type.numel), dy, name=f"d_{outputs[0].name}_share")
        return (g.emit(Broadcast(x.shape), share, name=f"d_{x.name}"),)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(elements=types[0].numel)


def _windows(x: tuple[int, ...], pool: Pool) -> TensorType:
    return pool.base_infer(TensorType(x))[0]


# channels of vectors and some left over, in overlapping windows; of one vector, in windows apart with gaps; dilated
_VECTORS = (
    ((3, 3), (2, 2), Pad(1, 0, 1, 1), (7, 6, 35), (1, 1)), ((2, 2), (3, 3), Pad(), (6, 7, 16), (1, 1)),
    ((2, 2), (1, 1), Pad(), (5, 4, 20), (2, 2)),
)
MaxPool.examples = (
    *(Example(MaxPool(k, s, p), f32(x)) for k, s, p, x in GEOMETRIES),
    *(Example(MaxPool(k, s, p, d), f32(x)) for k, s, p, x, d in DILATED),
    Example(MaxPool((3, 3), (2, 2), Pad(1, 1, 1, 1), argmax=False), f32((7, 6, 5))),
    *(Example(MaxPool(k, s, p, d, argmax=s == (2, 2)), f32(x)) for k, s, p, x, d in _VECTORS),
    *(Example(MaxPool(k, s, p, argmax=s != (1, 1)), (int8(x, -128),), INT8) for k, s, p, x in GEOMETRIES[::2]),
    *(Example(MaxPool(k, s, p, d), (int8(x, 3),), (-3, 3)) for k, s, p, x, d in (*DILATED, *_VECTORS[::2])),
)
MaxPoolGrad.examples = tuple(
    Example(
        MaxPoolGrad(k, s, p, d, x, then=then),
        (y := _windows(x, MaxPool(k, s, p, d)), TensorType(y.shape, _index_type(k)), *(TensorType(x) for _ in then)),
        (0, k[0] * k[1]),
    )
    for then, geometries in (((), _VECTORS[1:]), ((ReluGrad(),), _VECTORS[:1]))
    for k, s, p, x, d in (*((*geometry, (1, 1)) for geometry in GEOMETRIES), *DILATED, *geometries)
) + tuple(
    Example(
        MaxPoolGrad(k, s, p, d, x),
        (TensorType((y := _windows(x, MaxPool(k, s, p, d))).shape, S8), TensorType(y.shape, _index_type(k))), (INT8, (0, k[0] * k[1])),
    )
    for k, s, p, x, d in (*((*geometry, (1, 1)) for geometry in GEOMETRIES), *DILATED)
)
AveragePool.examples = (
    *(Example(AveragePool(k, s, p, include), f32(x)) for include in (False, True) for k, s, p, x in GEOMETRIES),
    *(Example(AveragePool(k, s, p), f32(x)) for k, s, p, x, _ in _VECTORS[:2]),
    *(
        Example(AveragePool(k, s, p, include, z), (int8(x, z),), INT8)
        for include, more in ((False, _VECTORS[:2]), (True, ()))
        for z, (k, s, p, x, *_) in zip(cycle(ZERO_POINTS), (*GEOMETRIES, *more), strict=False)
    ),
    *(Example(AveragePool(k, s, p, include, dilation=d), f32(x)) for include, (k, s, p, x, d) in zip((False, True), DILATED, strict=True)),
    Example(AveragePool(*DILATED[1][:3], zero_point=5, dilation=DILATED[1][4]), (int8(DILATED[1][3], 5),), INT8),
)
AveragePoolGrad.examples = tuple(
    Example(AveragePoolGrad(k, s, p, include, x, then=then), (_windows(x, AveragePool(k, s, p)), *(TensorType(x) for _ in then)))
    for include, then, more in ((False, (), _VECTORS[:2]), (True, (ReluGrad(),), _VECTORS[:1]))
    for k, s, p, x, *_ in (*GEOMETRIES, *more)
) + tuple(
    Example(AveragePoolGrad(k, s, p, include, x), (TensorType(_windows(x, AveragePool(k, s, p)).shape, S8),), INT8)
    for include in (False, True) for k, s, p, x in GEOMETRIES
) + tuple(
    Example(AveragePoolGrad(k, s, p, include, x, d), f32(_windows(x, AveragePool(k, s, p, dilation=d)).shape))
    for include, (k, s, p, x, d) in zip((True, False), DILATED, strict=True)
)
_MAPS = ((1, 1, 1), (5, 7, 3), (4, 1, 8), (1, 1, 5), (3, 2, 83))
GlobalAveragePool.examples = (
    *(Example(GlobalAveragePool(), f32(x)) for x in _MAPS),
    *(Example(GlobalAveragePool(then=(Add(),)), f32((3, 3, channels), (channels,))) for channels in (6, 16)),
    *(Example(GlobalAveragePool(z), (int8(x, z),), INT8) for z, x in zip(cycle(ZERO_POINTS), _MAPS, strict=False)),
)
