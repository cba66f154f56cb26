# SPDX-License-Identifier: Apache-2.0
"""conv2d: y[h,w,k] = Σ_r,s,c x[h·sh + r·dh − pt, w·sw + s·dw − pl, c] · w[k,r,s,c]    (x is 0 outside its borders)

dx[i,j,c] = Σ over the live taps (h·sh + r·dh − pt = i, w·sw + s·dw − pl = j) Σ_k dy[h,w,k] · w[k,r,s,c]
dw[k,r,s,c] = Σ_h,w x[h·sh + r·dh − pt, w·sw + s·dw − pl, c] · dy[h,w,k]

With groups, output channel k sees only the C/group input channels of its own group. A bias is an Add after it.
Of int8 x, x − zero_point is what stands here, so that padding is still 0; weights are int8 then, and sums int32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import ClassVar

import numpy as np

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import ALL_HALVES, FIRST_HALF, Example, Kernel, Tie, Wanted, f32
from tinytrain.ir.types import F32, S8, Array, TensorType, Value
from tinytrain.ops import lanes, words
from tinytrain.ops.activation import Relu, ReluGrad
from tinytrain.ops.conv_tiles import FORWARD_TRIES, GRAD_W_TRIES, GRAD_X_TRIES, forward_tiles, grad_w_tiles, grad_x_tiles, patch_tiles
from tinytrain.ops.correlate import Correlation, input_gradients_of, results_of
from tinytrain.ops.depthwise_kernels import one_channel
from tinytrain.ops.elementwise import Add
from tinytrain.ops.geometry import Geometry, Pair, widened_bytes
from tinytrain.ops.integer_rules import sums
from tinytrain.ops.lanes import column_bytes, column_tiles, dot_bytes, dot_tiles
from tinytrain.ops.lines import back_lines, forward_lines
from tinytrain.ops.optimiser import Sgd
from tinytrain.ops.optimiser_int import SgdInt, moved
from tinytrain.ops.outer import outer, outer_halves
from tinytrain.ops.pairs import across_patches, along_channels, along_patches, along_pixels
from tinytrain.ops.pieces import Cut, Piece, ReadsPieces, in_pieces, sides
from tinytrain.ops.planes import back_floats, back_halves, forward_halves, in_planes
from tinytrain.ops.quantize import Requantise
from tinytrain.ops.simd import SIMD
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
from tinytrain.ops.widened import weights_widened
from tinytrain.ops.windowed import Pad, Windowed


@dataclass(frozen=True)
class _Conv(Windowed):
    group: int = 1

    @property
    def window(self) -> tuple[Pair, Pad, Pair, int]:
        return self.stride, self.pad, self.dilation, self.group

    def of(self, x: Sequence[int], w: Sequence[int]) -> Geometry:
        """For a map (H, W, C) and a weight (K, R, S, C/group)."""
        if len(w) != 4:
            raise ValueError(f"w {tuple(w)}: expected (K, R, S, C/group)")
        rows, cols = self.axes(x, w[1:3])
        if self.group < 1 or x[2] != w[3] * self.group or w[0] % self.group:
            raise ValueError(
                f"{self.group} groups of {w[3]} input channels against {x[2]} channels of x and {w[0]} of y: "
                "the groups must split both evenly"
            )
        return Geometry(rows, cols, x[2], w[0], self.group)

    def piece_axes(self) -> tuple[int, ...]:
        return (0, 3) if self.group == 1 else (3,)

    def _grouped(self, a: Array) -> Array:
        """(H, W, n) -> (group, H·W, n/group)"""
        return a.reshape(-1, self.group, a.shape[-1] // self.group).transpose(1, 0, 2)


def _forward_tiles(op: Conv2d, *types: TensorType) -> dict[str, int]:
    return forward_tiles(op.geometry(*types), len(op.rows(types)[0]))


def _patch_tiles(op: Conv2d, *types: TensorType) -> dict[str, int]:
    return patch_tiles(op.geometry(*types), op.row_words(types))


def _patch_bytes(op: Conv2d, *types: TensorType) -> int:
    # the patches, and what one piece takes of one of them as the bytes that they are gathered from
    longest = max(piece.length for piece in op.rows(types)[0])
    return widened_bytes(_patch_tiles(op, *types)["P"], op.row_words(types)) + (longest + 3) // 4 * 4


def _grad_x_tiles(op: Conv2dGradX, *types: TensorType) -> dict[str, int]:
    return grad_x_tiles(op.geometry(*types), op.pieces is not None)


def _grad_w_tiles(op: Conv2dGradW, *types: TensorType) -> dict[str, int]:
    return grad_w_tiles(op.geometry(*types))


def _pixel_lead(op: Conv2d, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int | None:
    # a 1x1 window reads a pixel, then writes it: y is never ahead of x where it ends no later, and no slower if it begins no later
    x, y = inputs[0], outputs[0]
    alike = op.stride == (1, 1) and inputs[1].shape[1:3] == (1, 1) and x.shape[:-1] == y.shape[:-1] and op.group == 1
    return max(0, y.nbytes - x.nbytes) if alike and x.dtype is y.dtype else None


@dataclass(frozen=True)
class Conv2d(_Conv, ReadsPieces):
    """x (H, W, C), w (K, R, S, C/group) -> y (H', W', K). ONNX Conv; one with a line for a map is (L, 1, C)."""

    name = "conv2d"
    patches = 64
    parameters: ClassVar[dict[int, str]] = {1: "weight"}
    differentiable = True
    kernels = (
        Kernel("conv2d", params=_forward_tiles, tries=FORWARD_TRIES, half=ALL_HALVES),
        *(simd.packs("correlate", (F32,), half=ALL_HALVES) for simd in SIMD if not simd.words),
        *one_channel((F32,)), *(simd.packs("correlate", (F32,), half=ALL_HALVES) for simd in SIMD if simd.words), *forward_halves(),
        *forward_lines(),
        Kernel("conv2d", (S8, S8), params=_forward_tiles, tries=FORWARD_TRIES), along_channels(), along_patches(),
        Kernel("conv2d_floats", (S8, S8), "rvf", None, lanes.passes_floats, lanes.float_tiles, lanes.float_bytes, _pixel_lead),
        Kernel("conv2d_floats", (S8, S8), "rvf", None, lanes.takes_floats, lanes.float_tiles, lanes.float_bytes, _pixel_lead, spare=True),
        Kernel("conv2d_dsp", (S8, S8), "dsp", params=_patch_tiles, scratch=_patch_bytes, lead=_pixel_lead),
        Kernel("tiles_dsp", (S8, S8), "dsp", None, words.takes_tiles, words.tile_params, words.tile_bytes, _pixel_lead, spare=True),
        Kernel("conv2d_dot", (S8, S8), "mve", params=dot_tiles, scratch=dot_bytes, lead=_pixel_lead),
        Kernel("conv2d_columns", (S8, S8), "rvv", params=column_tiles, scratch=column_bytes, lead=_pixel_lead),
    )

    def geometry(self, *types: TensorType) -> Geometry:
        x, w = self.whole(types)
        return self.of(x.shape, w.shape)

    def gathers(self, *types: TensorType) -> tuple[Geometry, tuple[Piece, ...]]:
        """The window that moves over x, and what it reads of a pixel."""
        return self.geometry(*types).lined_up, self.rows(types)[0]

    def correlation(self, *types: TensorType) -> Correlation:
        return results_of(self.geometry(*types).lined_up)

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        g = self.geometry(*types)
        return (accumulator_type((g.rows.positions, g.cols.positions, g.K), *self.whole(types), self.zero_point),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        stored = self.joined(arrays)
        x, w = factors(*stored)
        g = self.of(x.shape, w.shape)
        weights = w.reshape(self.group, g.K // self.group, *w.shape[1:])
        y = np.zeros((self.group, g.rows.positions * g.cols.positions, g.K // self.group), x.dtype)
        for r, s, patch in g.patches(self.padded(x - self.zero_point)):
            y += self._grouped(patch) @ weights[:, :, r, s].transpose(0, 2, 1)
        return (summed(y.transpose(1, 0, 2).reshape(g.rows.positions, g.cols.positions, g.K), *stored),)

    def ties(self, *types: TensorType) -> tuple[Tie, ...]:
        return (((0, -1), (1, -1)), ((1, 0), (~0, -1))) if self.group == 1 else ()

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x, w), dy = inputs, grads[0]
        assert dy is not None
        grad_w = Conv2dGradW(*self.window, zero_point=self.zero_point, kernel=w.shape[1:3])
        return (
            g.emit(Conv2dGradX(*self.window, shape=x.shape), dy, w, name=f"d_{x.name}") if wanted[0] else None,
            g.emit(grad_w, *sides(g, dy, x, wanted[1]), name=f"d_{w.name}") if wanted[1] else None,
        )


@dataclass(frozen=True)
class Conv2dGradX(_Conv, ReadsPieces):
    """dy (H', W', K), w (K, R, S, C/group) -> dx of `shape` (H, W, C)."""

    shape: tuple[int, ...] = field(kw_only=True)

    name = "conv2d_grad_x"
    given = "dy"
    patches = 48                                          # there is more often memory to spare for these
    results = ("dx",)
    kernels = (
        *(Kernel("conv2d", dtypes, params=_grad_x_tiles, tries=GRAD_X_TRIES, half=ALL_HALVES) for dtypes in ((F32,), (F32, S8), (S8, S8))),
        *back_floats(), *back_halves(), *back_lines(),
        *(simd.packs("correlate", (F32, S8), half=FIRST_HALF) for simd in SIMD if not simd.words),
        *(simd.direct("correlate", (F32, S8), macro="conv2d_grad_x_direct", half=FIRST_HALF) for simd in SIMD if simd.words),
        *(simd.packs("correlate", (F32, S8), accepts=simd.sweeps_often, half=FIRST_HALF) for simd in SIMD if simd.words),
        Kernel("lanes_dsp", (S8, S8), "dsp", accepts=words.takes_lanes, params=words.lane_tiles, scratch=words.lane_bytes),
        Kernel("tiles_dsp", (S8, S8), "dsp", None, words.takes_back_tiles, words.tile_params, words.tile_bytes, spare=True),
        along_channels(),
    )
    as_integer = sums

    def geometry(self, *types: TensorType) -> Geometry:
        dy, w = self.whole(types)
        return self.against(dy, self.of(self.shape, w.shape))

    def gathers(self, *types: TensorType) -> tuple[Geometry, tuple[Piece, ...]]:
        """The window that moves over dy where the stride is 1, and what it reads of a pixel."""
        g = self.geometry(*types).lined_up.mirrored
        return g, (Piece(self.given, 0, g.K, 0, g.C, g.rows.taps * g.cols.taps * g.C),)

    def correlation(self, *types: TensorType) -> Correlation:
        return input_gradients_of(self.geometry(*types).lined_up)

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        self.geometry(*types)
        return (sum_type(self.shape, *self.whole(types)),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        stored = self.joined(arrays)
        dy, w = factors(*stored)
        g = self.of(self.shape, w.shape)
        weights = w.reshape(self.group, g.K // self.group, *w.shape[1:])
        padded = self.padded(np.zeros(self.shape, dy.dtype))
        for r, s, patch in g.patches(padded):
            patch += (self._grouped(dy) @ weights[:, :, r, s]).transpose(1, 0, 2).reshape(patch.shape)
        return (summed(self.cropped(padded, self.shape), *stored),)


@dataclass(frozen=True)
class Conv2dGradW(_Conv):
    """dy (H', W', K), x (H, W, C) -> dw (K, R, S, C/group) of `kernel` (R, S)."""

    kernel: tuple[int, ...] = field(kw_only=True)

    name = "conv2d_grad_w"
    args = ("dy", "x")
    results = ("dw",)
    kernels = (
        *(Kernel("conv2d", dtypes, params=_grad_w_tiles, tries=GRAD_W_TRIES, half=ALL_HALVES) for dtypes in ((F32,), (F32, S8), (S8, S8))),
        *outer(words=False), *one_channel((F32,), (F32, S8)), *outer(words=True),
        *weights_widened(), *outer_halves(), *in_planes(), along_pixels(), across_patches(),
        Kernel("outer_dsp", (S8, S8), "dsp", accepts=words.takes_outer, params=words.outer_tiles, scratch=words.outer_bytes),
    )
    as_integer = sums

    def _weight(self, dy: Sequence[int], x: Sequence[int]) -> tuple[int, ...]:
        return (dy[-1], *self.kernel, x[-1] // max(self.group, 1))

    def geometry(self, *types: TensorType) -> Geometry:
        dy, x = types[:2]
        return self.against(dy, self.of(x.shape, self._weight(dy.shape, x.shape)))

    def correlation(self, *types: TensorType) -> Correlation:
        return results_of(self.geometry(*types).lined_up)

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        self.geometry(*types)
        check_zero_point(types[1], self.zero_point)
        return (sum_type(self._weight(types[0].shape, types[1].shape), *types),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, x = factors(*arrays)
        w = self._weight(dy.shape, x.shape)
        dw = np.zeros(w, dy.dtype)
        for r, s, patch in self.of(x.shape, w).patches(self.padded(x - self.zero_point)):
            dw[:, r, s] = (self._grouped(dy).transpose(0, 2, 1) @ self._grouped(patch)).reshape(w[0], w[3])
        return (summed(dw, *arrays),)


_CASES: tuple[tuple[Conv2d, tuple[int, ...], tuple[int, ...]], ...] = (
    (Conv2d(pad=Pad(1, 1, 1, 1)), (8, 8, 1), (8, 3, 3, 1)),
    (Conv2d((2, 2), Pad(1, 1, 1, 1)), (8, 8, 8), (16, 3, 3, 8)),
    (Conv2d(), (1, 1, 1), (1, 1, 1, 1)),
    (Conv2d(), (5, 7, 3), (7, 3, 2, 3)),
    (Conv2d((2, 3), Pad(0, 1, 1, 0)), (11, 13, 5), (10, 3, 5, 5)),
    (Conv2d((3, 2), Pad(2, 0, 1, 3)), (7, 9, 4), (6, 4, 3, 4)),
    (Conv2d(pad=Pad(2, 2, 2, 2), dilation=(2, 2)), (7, 6, 4), (5, 3, 3, 4)),
    (Conv2d((2, 1), Pad(3, 0, 1, 4), (1, 3)), (6, 9, 2), (3, 4, 3, 2)),
    (Conv2d((2, 4), Pad(4, 3, 4, 3), (2, 6)), (9, 11, 2), (4, 3, 3, 2)),
    (Conv2d((1, 1), Pad(1, 1, 1, 1), group=2), (5, 6, 8), (6, 3, 3, 4)),
    (Conv2d((2, 2), Pad(0, 1, 0, 1), group=3), (7, 7, 9), (6, 3, 3, 3)),
    (Conv2d(group=2), (3, 5, 4), (8, 1, 1, 2)),
    (Conv2d(), (4, 5, 6), (9, 1, 1, 6)),
    (Conv2d((2, 2)), (7, 8, 5), (4, 1, 1, 5)),
    (Conv2d((2, 2), Pad(1, 2, 0, 1)), (4, 3, 2), (3, 1, 1, 2)),
    (Conv2d(pad=Pad(3, 3, 3, 3)), (2, 3, 4), (5, 7, 7, 4)),
    (Conv2d(pad=Pad(1, 3, 2, 0), dilation=(1, 5)), (3, 1, 2), (2, 2, 1, 2)),
    (Conv2d((2, 1), Pad(2, 0, 1, 0)), (17, 1, 3), (4, 5, 1, 3)),
    (Conv2d((1, 1), dilation=(4, 1)), (20, 1, 2), (5, 3, 1, 2)),
    (Conv2d((1, 1), Pad(0, 1, 0, 1)), (1, 12, 4), (4, 1, 3, 4)),
    (Conv2d((1, 1), Pad(1, 0, 1, 1), group=2), (3, 4, 24), (18, 3, 3, 12)),
    (Conv2d((2, 1), Pad(0, 1, 0, 0)), (5, 4, 32), (32, 2, 1, 32)),
)

# those whose outputs fill words of four int8
_WORDS = tuple(case for n, case in enumerate(_CASES) if n % 3 and case[2][0] // case[0].group % 4 == 0)
_CUTS: tuple[Cut, ...] = (
    (1, 3, (3,)), (1, 0, (6,)), (3, 3, (1, 1)), (3, 0, (1, 4)), (4, 3, (2,)), (6, 3, (1,)), (6, 0, (3,)), (8, 3, (1,)), (9, 3, (1, 2)),
    (12, 3, (1, 4)), (12, 0, (5,)), (13, 3, (2,)), (15, 0, (1, 1)), (17, 3, (2,)),
)
_ONE = Pad(1, 1, 1, 1)
Conv2d.examples = (
    *(Example(op, f32(x, w)) for op, x, w in _CASES),
    *(
        Example(dataclasses.replace(op, zero_point=z), (int8(x, z), int8(w, axis=0)), INT8)
        for z, (op, x, w) in zip(cycle(ZERO_POINTS), _CASES, strict=False)
    ),
    Example(Conv2d(zero_point=-128), (int8((1, 7, 570), -128), int8((6, 1, 1, 570), axis=0)), (110, 128)),  # more than a float holds
    Example(
        Conv2d(zero_point=5, then=(Add(), Requantise(0.25, 3))), (int8((5, 3, 6), 5), int8((9, 1, 1, 6), axis=0), *per_channel(9)),
        REQUANTISED,
    ),
    Example(Conv2d(pad=_ONE, then=(Add(),)), f32((5, 5, 2), (6, 3, 3, 2), (6,))),
    Example(Conv2d((2, 2), _ONE, then=(Add(), Relu())), f32((7, 5, 3), (9, 3, 3, 3), (9,))),
    Example(Conv2d(then=(Add(), Add(), Relu())), f32((5, 3, 4), (4, 1, 1, 4), (4,), (5, 3, 4))),
    *(
        Example(op, (int8(x, op.zero_point), int8(w, axis=0), *per_channel(w[0])), REQUANTISED)
        for op, x, w in (
            (Conv2d(pad=_ONE, group=2, zero_point=-3, then=(Add(), Requantise(0.25, 1))), (5, 4, 8), (12, 3, 3, 4)),
            (Conv2d(group=3, zero_point=4, then=(Add(), Requantise(0.25, 1))), (4, 5, 24), (21, 1, 1, 8)),
            (Conv2d((2, 2), _ONE, zero_point=-3, then=(Add(), Requantise(0.25, -128))), (9, 8, 3), (8, 3, 3, 3)),
            (Conv2d(zero_point=-128, then=(Add(), Requantise(0.25, 7, -9, 96))), (4, 4, 18), (7, 1, 1, 18)),
        )
    ),
)
Conv2d.examples += tuple(
    in_pieces(Conv2d.examples[n], axis, sizes)
    for n, axis, sizes in (
        *((first + n, axis, sizes) for first in (0, len(_CASES)) for n, axis, sizes in _CUTS),
        (-6, 3, (1,)), (-6, 0, (4,)), (-4, 3, (1,)), (-2, 0, (3,)), (-2, 3, (1, 1)), (-1, 3, (5, 6)), (-1, 3, (8,)),
    )
)
Conv2dGradX.examples = (
    *(Example(Conv2dGradX(*op.window, shape=x), f32(op.infer(*f32(x, w))[0].shape, w)) for op, x, w in _CASES),
    *(
        Example(Conv2dGradX(*op.window, shape=x), (*f32(op.infer(*f32(x, w))[0].shape), int8(w, axis=0)), INT8)
        for op, x, w in _CASES
    ),
    *(
        Example(Conv2dGradX(*op.window, shape=x), (int8(op.infer(*f32(x, w))[0].shape), int8(w)), INT8)
        for op, x, w in (*_CASES[::3], *_WORDS, (Conv2d(), (2, 3, 8), (40, 1, 1, 8)))
    ),
    Example(Conv2dGradX((2, 2), _ONE, shape=(7, 5, 3), then=(ReluGrad(),)), f32((4, 3, 6), (6, 3, 3, 3), (7, 5, 3))),
)
Conv2dGradX.examples += tuple(
    in_pieces(Conv2dGradX.examples[n], axis, sizes)
    for n, axis, sizes in (
        *((first + n, axis, sizes) for first in (0, len(_CASES)) for n, axis, sizes in _CUTS),
        *((2 * len(_CASES) + n // 3, axis, sizes) for n, axis, sizes in _CUTS if n % 3 == 0),
        (-1, 3, (2,)), (-1, 0, (3, 2)),
    )
)
Conv2dGradW.examples = (
    *(Example(Conv2dGradW(*op.window, kernel=w[1:3]), f32(op.infer(*f32(x, w))[0].shape, x)) for op, x, w in _CASES),
    *(
        Example(Conv2dGradW(*op.window, zero_point=z, kernel=w[1:3]), (*f32(op.infer(*f32(x, w))[0].shape), int8(x, z)), INT8)
        for z, (op, x, w) in zip(cycle(ZERO_POINTS), _CASES, strict=False)
    ),
    *(
        Example(Conv2dGradW(*op.window, kernel=w[1:3]), (int8(op.infer(*f32(x, w))[0].shape), int8(x)), INT8)
        for op, x, w in _CASES[::3]
    ),
    *(
        Example(Conv2dGradW(*op.window, zero_point=z, kernel=w[1:3]), (int8(op.infer(*f32(x, w))[0].shape), int8(x, z)), INT8)
        for z, (op, x, w) in zip(cycle(ZERO_POINTS), (*_WORDS, (Conv2d(), (40, 40, 1), (12, 1, 1, 1))), strict=False)
    ),
    *(
        Example(
            Conv2dGradW((2, 2), _ONE, zero_point=5, kernel=(3, 3), then=(SgdInt(seed=9),)),
            (*f32((4, 3, 6)), int8((7, 5, c), 5), *moved((6, 3, 3, c), (6, 1, 1, 1))), ((0, 1), INT8, (-127, 128)),
        )
        for c in (3, 1)
    ),
    Example(Conv2dGradW((2, 2), _ONE, kernel=(3, 3), then=(Sgd(),)), f32((4, 3, 6), (7, 5, 3), (6, 3, 3, 3), (1,))),
    Example(
        Conv2dGradW(pad=_ONE, group=2, kernel=(3, 3), then=(Sgd(momentum=0.9),)),
        f32((4, 3, 6), (4, 3, 4), (6, 3, 3, 2), (1,), (6, 3, 3, 2)),
    ),
)
# channels that fill the longest vectors, and not evenly; one alone
_LONG = (
    (Conv2d((2, 1), _ONE), (7, 6, 20), (18, 3, 3, 20)), (Conv2d(), (3, 5, 17), (33, 1, 1, 17)),
    (Conv2d(pad=_ONE), (6, 10, 16), (9, 3, 3, 16)),
    (Conv2d((2, 3), Pad(0, 1, 2, 0), (1, 2)), (9, 12, 1), (5, 3, 2, 1)), (Conv2d((2, 2), _ONE), (16, 16, 16), (5, 3, 3, 16)),
    (Conv2d((1, 1), _ONE, group=2), (5, 7, 32), (18, 3, 3, 16)), (Conv2d(pad=_ONE), (17, 2, 34), (35, 3, 1, 34)),
    (Conv2d((2, 1), _ONE), (9, 8, 5), (8, 3, 3, 5)), (Conv2d(pad=_ONE), (5, 16, 8), (16, 3, 3, 8)),
    (Conv2d((1, 2), Pad(0, 1, 0, 2), (1, 2)), (2, 16, 3), (8, 1, 3, 3)),
)
Conv2d.examples += tuple(Example(op, f32(x, w)) for op, x, w in _LONG)
Conv2dGradX.examples += tuple(
    Example(Conv2dGradX(*op.window, shape=x), (*f32(op.infer(*f32(x, w))[0].shape), kind), INT8)
    for op, x, w in _LONG for kind in (f32(w)[0], int8(w, axis=0))
)
Conv2dGradW.examples += tuple(
    Example(Conv2dGradW(*op.window, zero_point=z, kernel=w[1:3]), (*f32(op.infer(*f32(x, w))[0].shape), kind), INT8)
    for op, x, w in _LONG for z, kind in ((0, f32(x)[0]), (5, int8(x, 5)))
)
# tiles of int8, in two blocks of pixels
_TILED = Example(Conv2dGradX(shape=(7, 9, 6)), (int8((7, 9, 8)), int8((8, 1, 1, 6))), INT8)
Conv2dGradX.examples += (_TILED, in_pieces(_TILED, 0, (4,)), in_pieces(_TILED, 3, (4,)))
