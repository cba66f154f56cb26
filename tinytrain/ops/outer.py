# SPDX-License-Identifier: Apache-2.0
"""Kernels of gradients of a weight in fp32: sums over pixels of what x and dy have there. Of int8, x is widened once for all taps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial

from tinytrain.ir.op import FIRST_HALF, Declined, Kernel, Op, no
from tinytrain.ir.types import F16, F32, S8, DType, TensorType
from tinytrain.ops.simd import FLOATS, HALVES, SIMD, Simd
from tinytrain.ops.words import HasGeometry

PAIR = 2                                                  # vectors of a depthwise tile


def outer(words: bool) -> Iterator[Kernel]:
    """Of a convolution: vectors along the channels of x or, turned, along those of dy; for units with words or without."""
    fit = [simd for simd in SIMD if simd.words == words]
    return (_outer(simd, turned, dtypes) for dtypes in (*FLOATS, (F32, S8)) for simd in fit for turned in (True, False))


def outer_halves() -> Iterator[Kernel]:
    """The same of units that multiply halves, with vectors along the channels of x."""
    return (_outer(simd, False, (F16, F16)) for simd in HALVES)


def _outer(simd: Simd, turned: bool, dtypes: tuple[DType, ...]) -> Kernel:
    stored = S8 in dtypes
    return Kernel(
        "correlate", dtypes, simd.isa, accepts=partial(_fills, simd, turned), params=partial(_tiles, simd, turned),
        scratch=partial(_map_bytes, simd, turned) if stored else None, half=() if turned else FIRST_HALF, spare=stored,
        work=partial(_work, simd), tries=simd.tries, exact=simd.exact, shared=True,
    )


def depth_outer(simd: Simd, dtypes: tuple[DType, ...]) -> Kernel:
    """Of a depthwise convolution: pairs of vectors along the channels."""
    stored = S8 in dtypes
    return Kernel(
        "depthwise_rows", dtypes, simd.isa, accepts=partial(_fills_depth, simd), params=simd.tiles,
        scratch=partial(_pair_bytes, simd) if stored else None, half=FIRST_HALF, spare=stored, work=partial(_depth_work, simd),
        exact=simd.exact, shared=not stored,
    )


def _fills(simd: Simd, turned: bool, op: HasGeometry, *types: TensorType) -> bool | Declined:
    g = op.geometry(*types)
    across, along = (n // g.group for n in ((g.C, g.K) if turned else (g.K, g.C)))
    if simd.double and (along % simd.lanes or across == 1):
        return no(f"{along} channels of x are not whole vectors of {simd.lanes}, or serve one result")
    return simd.filled_by(along)


def _fills_depth(simd: Simd, op: HasGeometry, *types: TensorType) -> bool | Declined:
    return simd.filled_by(op.geometry(*types).C)


def _tiles(simd: Simd, turned: bool, op: Op, *types: TensorType) -> dict[str, int]:
    return {**simd.tiles(op, *types), "turned": turned, **({"fixed": True} if simd.fixed else {})}


def _map_bytes(simd: Simd, turned: bool, op: HasGeometry, *types: TensorType) -> int:
    """All of x, or one vector of each pixel."""
    x = types[1]
    return 4 * x.numel if turned else 4 * simd.lanes * x.numel // x.shape[-1]


def _pair_bytes(simd: Simd, op: HasGeometry, *types: TensorType) -> int:
    """A pair of vectors of each pixel, or the only one."""
    x = types[1]
    return 4 * simd.lanes * min(PAIR, x.shape[-1] // simd.lanes) * x.numel // x.shape[-1]


def _work(simd: Simd, params: Mapping[str, int], op: HasGeometry, *types: TensorType) -> dict[str, float]:
    g = op.geometry(*types).lined_up
    across, along = (g.C, g.K) if params["turned"] else (g.K, g.C)
    return {**simd.outer(params, across // g.group, along // g.group, g), "packed": _packed(*types)}


def _depth_work(simd: Simd, params: Mapping[str, int], op: HasGeometry, *types: TensorType) -> dict[str, float]:
    g = op.geometry(*types).lined_up
    return {**simd.outer({"P": PAIR}, 1, g.C, dataclasses.replace(g, group=1)), "packed": _packed(*types)}


def _packed(dy: TensorType, x: TensorType) -> int:
    return x.numel if x.dtype is S8 else 0
