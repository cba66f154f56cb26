# SPDX-License-Identifier: Apache-2.0
"""depthwise_conv2d: y[h,w,c] = Σ_r,s x[h·sh + r·dh − pt, w·sw + s·dw − pl, c] · w[r,s,c]    (x is 0 outside its borders)

dx[i,j,c] = Σ over the live taps (h·sh + r·dh − pt = i, w·sw + s·dw − pl = j) of dy[h,w,c] · w[r,s,c]
dw[r,s,c] = Σ_h,w x[h·sh + r·dh − pt, w·sw + s·dw − pl, c] · dy[h,w,c]

Of int8 x, x − zero_point is what stands here, so that padding is still 0; weights are int8 then, and sums int32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import Example, Tie, Want, Wanted, f32
from tinytrain.ir.types import Array, TensorType, Value
from tinytrain.ops import depthwise_kernels
from tinytrain.ops.activation import Relu, ReluGrad
from tinytrain.ops.correlate import Correlation, Window, apart, input_gradients_of, results_of
from tinytrain.ops.elementwise import Add
from tinytrain.ops.geometry import Geometry
from tinytrain.ops.integer_rules import sums
from tinytrain.ops.optimiser import Sgd
from tinytrain.ops.optimiser_int import SgdInt, moved
from tinytrain.ops.pieces import Cut, ReadsPieces, in_pieces
from tinytrain.ops.quantize import Requantise
from tinytrain.ops.shape import channels_of
from tinytrain.ops.sums import (
    INT8,
    REQUANTISED,
    ZERO_POINTS,
    accumulator_type,
    check_zero_point,
    factors,
    int8,
    per_channel,
    sum_type,
    summed,
)
from tinytrain.ops.windowed import Pad, Windowed


@dataclass(frozen=True)
class _Depthwise(Windowed):
    def of(self, x: Sequence[int], w: Sequence[int]) -> Geometry:
        """For a map (H, W, C) and a weight (R, S, C)."""
        if len(w) != 3 or len(x) != 3 or w[2] != x[2]:
            raise ValueError(f"x {tuple(x)} against w {tuple(w)}: expected (H, W, C) and (R, S, C)")
        rows, cols = self.axes(x, w[:2])
        return Geometry(rows, cols, x[2], x[2], x[2])

    def piece_axes(self) -> tuple[int, ...]:
        return (2,)


@dataclass(frozen=True)
class DepthwiseConv2d(_Depthwise, ReadsPieces):
    """x (H, W, C), w (R, S, C) -> y (H', W', C). ONNX Conv with as many groups as input and output channels."""

    name = "depthwise_conv2d"
    parameters = {1: "weight"}
    differentiable = True
    kernels = tuple(depthwise_kernels.forward())

    def geometry(self, *types: TensorType) -> Geometry:
        x, w = self.whole(types)
        return self.of(x.shape, w.shape)

    def correlation(self, *types: TensorType) -> Correlation:
        return results_of(self.geometry(*types).lined_up).channelwise

    def over_plane(self, *types: TensorType) -> Geometry:
        """How its windows move over a plane of one channel."""
        return self.geometry(*types).lined_up

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        g = self.geometry(*types)
        return (accumulator_type((g.rows.positions, g.cols.positions, g.C), *self.whole(types), self.zero_point),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        stored = self.joined(arrays)
        x, w = factors(*stored)
        g = self.of(x.shape, w.shape)
        y = np.zeros((g.rows.positions, g.cols.positions, g.C), x.dtype)
        for r, s, patch in g.patches(self.padded(x - self.zero_point)):
            y += patch * w[r, s]
        return (summed(y, *stored),)

    def ties(self, *types: TensorType) -> tuple[Tie, ...]:
        return (((0, -1), (1, -1), (~0, -1)),)

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x, w), dy = inputs, grads[0]
        assert dy is not None
        same = (self.stride, self.pad, self.dilation)
        return (
            g.emit(DepthwiseConv2dGradX(*same, shape=x.shape), dy, w, name=f"d_{x.name}") if wanted[0] else None,
            self._grad_w(g, x, w, dy, wanted[1]) if wanted[1] else None,
        )

    def _grad_w(self, g: Builder, x: Value, w: Value, dy: Value, want: Want) -> Value:
        op = DepthwiseConv2dGradW(self.stride, self.pad, self.dilation, zero_point=self.zero_point, kernel=w.shape[:2])
        return g.emit(op, channels_of(g, dy, want), channels_of(g, x, want), name=f"d_{w.name}")


@dataclass(frozen=True)
class DepthwiseConv2dGradX(_Depthwise, ReadsPieces):
    """dy (H', W', C), w (R, S, C) -> dx of `shape` (H, W, C)."""

    shape: tuple[int, ...] = field(kw_only=True)

    name = "depthwise_conv2d_grad_x"
    given = "dy"
    results = ("dx",)
    kernels = tuple(depthwise_kernels.input_gradients())
    as_integer = sums

    def geometry(self, *types: TensorType) -> Geometry:
        dy, w = self.whole(types)
        return self.against(dy, self.of(self.shape, w.shape))

    def correlation(self, *types: TensorType) -> Correlation:
        return input_gradients_of(self.geometry(*types).lined_up).channelwise

    def columns_apart(self, *types: TensorType) -> Window:
        """Columns of dx against those of dy, with zeros around these."""
        return apart(self.geometry(*types).lined_up.cols)[0]

    def over_plane(self, *types: TensorType) -> Geometry:
        """How its windows move over a plane of gradients of one channel."""
        return self.geometry(*types).lined_up.mirrored

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        self.geometry(*types)
        return (sum_type(self.shape, *self.whole(types)),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        stored = self.joined(arrays)
        dy, w = factors(*stored)
        padded = self.padded(np.zeros(self.shape, dy.dtype))
        for r, s, patch in self.of(self.shape, w.shape).patches(padded):
            patch += dy * w[r, s]
        return (summed(self.cropped(padded, self.shape), *stored),)


@dataclass(frozen=True)
class DepthwiseConv2dGradW(_Depthwise):
    """dy (H', W', C), x (H, W, C) -> dw (R, S, C) of `kernel` (R, S)."""

    kernel: tuple[int, ...] = field(kw_only=True)

    name = "depthwise_conv2d_grad_w"
    args = ("dy", "x")
    results = ("dw",)
    kernels = tuple(depthwise_kernels.weight_gradients())
    as_integer = sums

    def geometry(self, *types: TensorType) -> Geometry:
        dy, x = types[:2]
        return self.against(dy, self.of(x.shape, (*self.kernel, x.shape[-1])))

    def correlation(self, *types: TensorType) -> Correlation:
        return results_of(self.geometry(*types).lined_up).channelwise

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        self.geometry(*types)
        check_zero_point(types[1], self.zero_point)
        return (sum_type((*self.kernel, types[1].shape[-1]), *types),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, x = factors(*arrays)
        dw = np.zeros((*self.kernel, x.shape[-1]), dy.dtype)
        for r, s, patch in self.of(x.shape, dw.shape).patches(self.padded(x - self.zero_point)):
            dw[r, s] = (patch * dy).sum(axis=(0, 1))
        return (summed(dw, *arrays),)


_CASES: tuple[tuple[DepthwiseConv2d, tuple[int, ...], tuple[int, ...]], ...] = (
    (DepthwiseConv2d(pad=Pad(1, 1, 1, 1)), (7, 5, 8), (3, 3, 8)),
    (DepthwiseConv2d(), (1, 1, 1), (1, 1, 1)),
    (DepthwiseConv2d((2, 2), Pad(0, 0, 1, 1)), (9, 8, 5), (3, 3, 5)),
    (DepthwiseConv2d((3, 1), Pad(2, 0, 0, 2)), (8, 7, 1), (5, 3, 1)),
    (DepthwiseConv2d((1, 2), Pad(2, 2, 2, 2), (2, 2)), (6, 7, 6), (3, 3, 6)),
    (DepthwiseConv2d((2, 4), Pad(4, 3, 4, 3), (2, 6)), (9, 11, 3), (3, 3, 3)),
    (DepthwiseConv2d(), (4, 5, 13), (1, 1, 13)),
    (DepthwiseConv2d((2, 3)), (5, 7, 2), (1, 1, 2)),
    (DepthwiseConv2d(pad=Pad(3, 3, 3, 3)), (2, 3, 4), (7, 7, 4)),
    (DepthwiseConv2d((2, 1), Pad(3, 0, 1, 0)), (17, 1, 7), (5, 1, 7)),
    (DepthwiseConv2d(dilation=(3, 1)), (14, 1, 17), (4, 1, 17)),
)
# channels that fill words of four int8
_WORDS: tuple[tuple[DepthwiseConv2d, tuple[int, ...], tuple[int, ...]], ...] = (
    (DepthwiseConv2d(pad=Pad(0, 3, 4, 0)), (11, 4, 4), (5, 4, 4)),
    (DepthwiseConv2d((2, 2), Pad(0, 0, 1, 1)), (9, 8, 8), (3, 3, 8)),
    (DepthwiseConv2d((1, 2), Pad(2, 2, 2, 2), (2, 2)), (6, 7, 4), (3, 3, 4)),
    (DepthwiseConv2d(pad=Pad(3, 3, 3, 3)), (2, 3, 4), (7, 7, 4)),
)
_CUTS: tuple[Cut, ...] = ((0, 2, (3,)), (2, 2, (1, 3)), (4, 2, (4,)), (6, 2, (5,)), (9, 2, (2, 2)))
_ONE = Pad(1, 1, 1, 1)

DepthwiseConv2d.examples = (
    *(Example(op, f32(x, w)) for op, x, w in _CASES),
    *(
        Example(dataclasses.replace(op, zero_point=z), (int8(x, z), int8(w, axis=2)), INT8)
        for z, (op, x, w) in zip(cycle(ZERO_POINTS), _CASES, strict=False)
    ),
    Example(DepthwiseConv2d((2, 2), _ONE, then=(Add(), Relu())), f32((7, 6, 9), (3, 3, 9), (9,))),
    Example(DepthwiseConv2d(then=(Add(), Add(), Relu())), f32((5, 3, 4), (2, 2, 4), (4,), (4, 2, 4))),
    *(
        Example(op, (int8(x, op.zero_point), int8(w, axis=2), *per_channel(w[2])), REQUANTISED)
        for op, x, w in (
            (DepthwiseConv2d((1, 1), _ONE, zero_point=-128, then=(Add(), Requantise(0.25, -128))), (6, 7, 5), (3, 3, 5)),
            (DepthwiseConv2d((2, 2), Pad(3, 3, 3, 3), zero_point=9, then=(Add(), Requantise(0.25, 0, -9, 96))), (8, 9, 3), (7, 7, 3)),
            (DepthwiseConv2d((1, 1), Pad(2, 2, 2, 2), then=(Add(), Requantise(0.25, 5))), (4, 11, 2), (5, 5, 2)),
        )
    ),
)
DepthwiseConv2d.examples += tuple(
    in_pieces(DepthwiseConv2d.examples[n], axis, sizes)
    for n, axis, sizes in (
        *((first + n, axis, sizes) for first in (0, len(_CASES)) for n, axis, sizes in _CUTS),
        (-5, 2, (4,)), (-3, 2, (2,)),
    )
)
DepthwiseConv2dGradX.examples = (
    *(
        Example(DepthwiseConv2dGradX(op.stride, op.pad, op.dilation, shape=x), f32(op.infer(*f32(x, w))[0].shape, w))
        for op, x, w in _CASES
    ),
    *(
        Example(
            DepthwiseConv2dGradX(op.stride, op.pad, op.dilation, shape=x), (*f32(op.infer(*f32(x, w))[0].shape), int8(w, axis=2)), INT8
        )
        for op, x, w in _CASES
    ),
    *(
        Example(DepthwiseConv2dGradX(op.stride, op.pad, op.dilation, shape=x), (int8(op.infer(*f32(x, w))[0].shape), int8(w)), INT8)
        for op, x, w in (*_CASES[::3], *_WORDS)
    ),
    Example(DepthwiseConv2dGradX((2, 2), _ONE, shape=(7, 5, 10), then=(ReluGrad(),)), f32((4, 3, 10), (3, 3, 10), (7, 5, 10))),
)
DepthwiseConv2dGradX.examples += tuple(
    in_pieces(DepthwiseConv2dGradX.examples[n], axis, sizes)
    for n, axis, sizes in (
        *((first + n, axis, sizes) for first in (0, len(_CASES)) for n, axis, sizes in _CUTS),
        *((2 * len(_CASES) + n // 3, axis, sizes) for n, axis, sizes in _CUTS if n % 3 == 0),
        (-1, 2, (7,)),
    )
)
# more taps than a byte counts
_MANY = (17, 16)
DepthwiseConv2d.examples += (Example(DepthwiseConv2d(), f32((17, 17, 16), (*_MANY, 16))),)
DepthwiseConv2dGradX.examples += tuple(
    Example(DepthwiseConv2dGradX(shape=(17, 17, 16)), (*f32((1, 2, 16)), kind), INT8)
    for kind in (*f32((*_MANY, 16)), int8((*_MANY, 16), axis=2))
)
# planes of int8 that stand turned
_TALL = tuple(
    Example(DepthwiseConv2d(stride, Pad(2, 1, 0, 1), zero_point=3), (int8((13, 6, 5), 3), int8((3, 3, 5), axis=2)), INT8)
    for stride in ((1, 1), (2, 2))
)
DepthwiseConv2d.examples += (*_TALL, in_pieces(_TALL[0], 2, (2,)))
DepthwiseConv2dGradX.examples += (
    Example(DepthwiseConv2dGradX(pad=Pad(2, 1, 0, 1), shape=(13, 6, 5)), (int8((13, 6, 5)), int8((3, 3, 5))), INT8),
)
DepthwiseConv2dGradW.examples = (
    *(
        Example(DepthwiseConv2dGradW(op.stride, op.pad, op.dilation, kernel=w[:2]), f32(op.infer(*f32(x, w))[0].shape, x))
        for op, x, w in _CASES
    ),
    *(
        Example(
            DepthwiseConv2dGradW(op.stride, op.pad, op.dilation, zero_point=z, kernel=w[:2]),
            (*f32(op.infer(*f32(x, w))[0].shape), int8(x, z)), INT8,
        )
        for z, (op, x, w) in zip(cycle(ZERO_POINTS), _CASES, strict=False)
    ),
    *(
        Example(DepthwiseConv2dGradW(op.stride, op.pad, op.dilation, kernel=w[:2]), (int8(op.infer(*f32(x, w))[0].shape), int8(x)), INT8)
        for op, x, w in _CASES[::3]
    ),
    *(
        Example(
            DepthwiseConv2dGradW(op.stride, op.pad, op.dilation, zero_point=z, kernel=w[:2]),
            (int8(op.infer(*f32(x, w))[0].shape), int8(x, z)), INT8,
        )
        for z, (op, x, w) in zip(cycle(ZERO_POINTS), _WORDS, strict=False)
    ),
    Example(
        DepthwiseConv2dGradW((2, 2), _ONE, zero_point=-7, kernel=(3, 3), then=(SgdInt(),)),
        (*f32((4, 3, 6)), int8((7, 5, 6), -7), *moved((3, 3, 6), (1, 1, 6))), ((0, 1), INT8, (-127, 128)),
    ),
    Example(DepthwiseConv2dGradW((2, 2), _ONE, kernel=(3, 3), then=(Sgd(),)), f32((4, 3, 6), (7, 5, 6), (3, 3, 6), (1,))),
    Example(DepthwiseConv2dGradW(kernel=(2, 2), then=(Sgd(momentum=0.9),)), f32((3, 2, 5), (4, 3, 5), (2, 2, 5), (1,), (2, 2, 5))),
)
