# SPDX-License-Identifier: Apache-2.0
"""dense: y[m,n] = Σ_k x[m,k] · w[n,k]

dx[m,k] = Σ_n dy[m,n] · w[n,k]          dw[n,k] = Σ_m dy[m,n] · x[m,k]

A bias is an Add after it; a pass moves it into the epilogue. Of int8 x, x − zero_point is what stands here; weights are int8 then,
and sums int32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle

from tinytrain.ir.builder import Builder
from tinytrain.ir.op import ALL_HALVES, FIRST_HALF, Cost, Declined, Example, Fusable, Kernel, Tie, Wanted, f32
from tinytrain.ir.types import F16, F32, S8, Array, TensorType, Value
from tinytrain.ops.activation import Relu
from tinytrain.ops.elementwise import Add
from tinytrain.ops.geometry import patches, widened_bytes
from tinytrain.ops.integer_rules import sums
from tinytrain.ops.lanes import column_bytes, column_tiles, dot_bytes, dot_tiles
from tinytrain.ops.optimiser import Sgd
from tinytrain.ops.optimiser_int import SgdInt, moved
from tinytrain.ops.pieces import Cut, ReadsPieces, in_pieces, sides, undivided
from tinytrain.ops.quantize import Requantise
from tinytrain.ops.simd import FLOATS, HALVES, OF_HALVES, SIMD, Simd
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


def _tiles(op: Fusable, *types: TensorType) -> dict[str, int]:
    # NR rows share each operand; KR columns of one weight row are one run in memory; KU steps of a sum are unrolled
    return {"NR": 4, "KR": 8, "KU": 4}


def _outer_tiles(op: Fusable, dy: TensorType, x: TensorType) -> dict[str, int]:
    # of one row no sums are kept; of more, NR x KR of them must fit the 32 registers of a single-precision FPU
    return {"NR": 5, "KR": 8} if dy.numel == dy.shape[-1] else {"NR": 4, "KR": 4}


def _patch_tiles(op: Dense, *types: TensorType) -> dict[str, int]:
    return {"P": patches(types[0].numel // types[0].shape[-1], op.row_words(types))}


def _patch_bytes(op: Dense, *types: TensorType) -> int:
    return widened_bytes(_patch_tiles(op, *types)["P"], op.row_words(types))


def _fills(simd: Simd, op: Fusable, *types: TensorType) -> bool | Declined:
    """Whether vectors can run along the rows of the weight."""
    return simd.filled_by(types[1].shape[-1])


def _reads(simd: Simd, op: DenseGradX, *types: TensorType) -> bool | Declined:
    return undivided(op) and _fills(simd, op, *types)


@dataclass(frozen=True)
class _Dense(ReadsPieces):
    def piece_axes(self) -> tuple[int, ...]:
        return 0, 1


@dataclass(frozen=True)
class Dense(_Dense):
    """x (..., K), w (N, K) -> y (..., N). ONNX Gemm, and MatMul by a constant."""

    zero_point: int = field(default=0, kw_only=True)      # of x, if it is int8

    name = "dense"
    differentiable = True
    parameters = {1: "weight"}
    kernels = (
        Kernel("dense", params=_tiles, tries={"NR": (2, 4, 8), "KU": (2, 4, 8)}, half=ALL_HALVES, shared=True),
        Kernel("dense", (S8, S8), params=_tiles, tries={"NR": (2, 4, 8), "KU": (2, 4, 8)}, shared=True),
        *(Kernel("dense_tiles", kinds, simd.isa, accepts=undivided, params=simd.tiles) for simd in SIMD if simd.dots for kinds in FLOATS),
        *(Kernel("dense_tiles", (F16, F16), s.isa, "dense_apart", undivided, s.tiles) for s in HALVES if s.apart and not s.double),
        Kernel("conv2d_dsp", (S8, S8), "dsp", params=_patch_tiles, scratch=_patch_bytes),
        Kernel("conv2d_dot", (S8, S8), "mve", params=dot_tiles, scratch=dot_bytes),
        Kernel("conv2d_columns", (S8, S8), "rvv", params=column_tiles, scratch=column_bytes),
    )

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, w = self.whole(types)
        if len(w.shape) != 2 or not x.shape or x.shape[-1] != w.shape[1]:
            raise ValueError(f"x {x.shape} against w {w.shape}: the last axis of x must be the second of w")
        return (accumulator_type((*x.shape[:-1], w.shape[0]), x, w, self.zero_point),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        stored = self.joined(arrays)
        x, w = factors(*stored)
        return (summed((x - self.zero_point) @ w.T, *stored),)

    def ties(self, *types: TensorType) -> tuple[Tie, ...]:
        return ((0, -1), (1, 1)), ((1, 0), (~0, -1))

    def vjp(
        self, g: Builder, inputs: Sequence[Value], outputs: Sequence[Value], grads: Sequence[Value | None], wanted: Wanted
    ) -> tuple[Value | None, ...]:
        (x, w), dy = inputs, grads[0]
        assert dy is not None
        return (
            g.emit(DenseGradX(), dy, w, name=f"d_{x.name}") if wanted[0] else None,
            g.emit(DenseGradW(zero_point=self.zero_point), *sides(g, dy, x, wanted[1]), name=f"d_{w.name}") if wanted[1] else None,
        )

    def cost(self, *types: TensorType) -> Cost:
        x, w = self.whole(types)
        return Cost(macs=x.numel * w.shape[0])


@dataclass(frozen=True)
class DenseGradX(_Dense):
    """dy (..., N), w (N, K) -> dx (..., K)."""

    name = "dense_grad_x"
    given = "dy"
    results = ("dx",)
    kernels = (
        *(
            Kernel("dense", dtypes, params=_tiles, tries={"KR": (4, 8, 16)}, half=ALL_HALVES, shared=True)
            for dtypes in ((F32,), (F32, S8), (S8, S8))
        ),
        *(
            Kernel("dense_tiles", kinds, s.isa, None, partial(_reads, s), s.tiles, half=FIRST_HALF, tries=s.tries, exact=s.exact)
            for s in (*SIMD, *OF_HALVES) if s.isa for kinds in s.floats
        ),
    )
    as_integer = sums

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        dy, w = self.whole(types)
        if dy.shape[-1] != w.shape[0]:
            raise ValueError(f"dy {dy.shape} against w {w.shape}")
        return (sum_type((*dy.shape[:-1], w.shape[1]), dy, w),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        stored = self.joined(arrays)
        dy, w = factors(*stored)
        return (summed(dy @ w, *stored),)

    def cost(self, *types: TensorType) -> Cost:
        dy, w = self.whole(types)
        return Cost(macs=dy.numel * w.shape[1])


@dataclass(frozen=True)
class DenseGradW(Fusable):
    """dy (..., N), x (..., K) -> dw (N, K)."""

    zero_point: int = field(default=0, kw_only=True)      # of x, if it is int8

    name = "dense_grad_w"
    args = ("dy", "x")
    results = ("dw",)
    kernels = (
        *(
            Kernel("dense", dtypes, params=_outer_tiles, tries={"NR": (1, 2, 4, 5), "KR": (4, 8)}, half=ALL_HALVES)
            for dtypes in ((F32,), (F32, S8), (S8, S8))
        ),
        *(
            Kernel("dense_tiles", kinds, s.isa, accepts=partial(_fills, s), params=s.tiles, half=FIRST_HALF, exact=s.exact, shared=True)
            for s in (*SIMD, *OF_HALVES) if s.isa for kinds in s.floats
        ),
    )
    as_integer = sums

    def base_infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        dy, x = types
        if dy.shape[:-1] != x.shape[:-1]:
            raise ValueError(f"dy {dy.shape} against x {x.shape}")
        check_zero_point(x, self.zero_point)
        return (sum_type((dy.shape[-1], x.shape[-1]), dy, x),)

    def base_reference(self, *arrays: Array) -> tuple[Array, ...]:
        dy, x = (a.reshape(-1, a.shape[-1]) for a in factors(*arrays))
        return (summed(dy.T @ (x - self.zero_point), *arrays),)

    def cost(self, *types: TensorType) -> Cost:
        return Cost(macs=types[0].numel * types[1].shape[-1])


_SHAPES = (((8,), (4, 8)), ((5,), (3, 5)), ((1,), (1, 1)), ((13,), (7, 13)), ((64,), (10, 64)), ((3, 9), (6, 9)), ((2, 5, 7), (1, 7)))
_CUTS: tuple[Cut, ...] = ((3, 1, (4, 1)), (3, 0, (2, 1)), (4, 1, (16,)), (4, 0, (1,)), (5, 1, (2,)), (6, 1, (5, 1)))

Dense.examples = (
    *(Example(Dense(), f32(x, w)) for x, w in _SHAPES),
    *(
        Example(Dense(zero_point=z), (int8(x, z), int8(w, axis=0)), INT8)
        for z, (x, w) in zip(cycle(ZERO_POINTS), _SHAPES, strict=False)
    ),
    Example(Dense(then=(Add(),)), f32((11,), (6, 11), (6,))),
    Example(Dense(then=(Add(), Relu())), f32((5, 7), (9, 7), (9,))),
    Example(
        Dense(zero_point=-7, then=(Add(), Requantise(0.25, -128))), (int8((3, 21), -7), int8((5, 21), axis=0), *per_channel(5)), REQUANTISED
    ),
)
Dense.examples += tuple(
    in_pieces(Dense.examples[n], axis, sizes)
    for n, axis, sizes in (
        *((first + n, axis, sizes) for first in (0, len(_SHAPES)) for n, axis, sizes in _CUTS),
        (-2, 0, (5,)), (-1, 1, (8,)), (-1, 0, (2, 2)),
    )
)
Dense.examples += (in_pieces(Example(Dense(), (int8((4105,)), int8((1, 4105), axis=0)), INT8), 1, (4102,)),)   # beyond 12 bits
DenseGradX.examples = (
    *(Example(DenseGradX(), f32((*x[:-1], w[0]), w)) for x, w in _SHAPES),
    *(Example(DenseGradX(), (*f32((*x[:-1], w[0])), int8(w, axis=0)), INT8) for x, w in _SHAPES),
    *(Example(DenseGradX(), (int8((*x[:-1], w[0])), int8(w)), INT8) for x, w in _SHAPES[::2]),
)
DenseGradX.examples += tuple(
    in_pieces(DenseGradX.examples[n], axis, sizes)
    for n, axis, sizes in (
        *((first + n, axis, sizes) for first in (0, len(_SHAPES)) for n, axis, sizes in _CUTS),
        *((2 * len(_SHAPES) + n // 2, axis, sizes) for n, axis, sizes in _CUTS if n % 2 == 0),
    )
)
DenseGradW.examples = (
    *(Example(DenseGradW(), f32((*x[:-1], w[0]), x)) for x, w in _SHAPES),
    *(
        Example(DenseGradW(zero_point=z), (*f32((*x[:-1], w[0])), int8(x, z)), INT8)
        for z, (x, w) in zip(cycle(ZERO_POINTS), _SHAPES, strict=False)
    ),
    *(Example(DenseGradW(), (int8((*x[:-1], w[0])), int8(x)), INT8) for x, w in _SHAPES[::2]),
    Example(
        DenseGradW(zero_point=-128, then=(SgdInt(),)),
        (*f32((7,)), int8((13,), -128), *moved((7, 13), (7, 1))), ((0, 1), INT8, (-127, 128)),
    ),
    Example(DenseGradW(then=(Sgd(),)), f32((7,), (13,), (7, 13), (1,))),
    Example(DenseGradW(then=(Sgd(momentum=0.9),)), f32((2, 5), (2, 3), (5, 3), (1,), (5, 3))),
)
