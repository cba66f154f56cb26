# SPDX-License-Identifier: Apache-2.0
"""Kernels of convolutions of halves along lines: vectors are eight positions of a row, and scalars are the weight, as words.

A line is what a tap of a row's window reads of one channel, side by side and with zeros for padding; those of all taps and channels, and of
neighbouring rows, follow each other as the elements of a weight do, so that each sum is one run. Of the gradient for x, the map is dy and
the window is turned round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from tinytrain.ir.op import Declined, Kernel, no
from tinytrain.ir.types import F16, TensorType
from tinytrain.ops.geometry import Geometry
from tinytrain.ops.pieces import undivided
from tinytrain.ops.simd import OF_HALVES, Correlates, Simd
from tinytrain.ops.words import HasGeometry

BANDS = (2, 4, 8, 16)                                     # rows of results whose lines are there at once
SCALARS, FARTHEST = 6, 127                                # of a tile, as registers hold chains; halves that VLDRH moves on by


class _Lines(Correlates, HasGeometry):
    """A convolution or its gradient for x, with the window that moves over the map."""


def forward_lines() -> Iterator[Kernel]:
    """Of a convolution."""
    return _kernels(_forward)


def back_lines() -> Iterator[Kernel]:
    """Of its gradient for x."""
    return _kernels(_back)


def _kernels(window: Callable[..., Geometry]) -> Iterator[Kernel]:
    for simd in OF_HALVES:
        for band in BANDS if not simd.exact else ():
            yield Kernel(
                "lines_halves", (F16, F16), simd.isa, accepts=partial(_accepts, window, simd), params=partial(_params, simd, band),
                scratch=partial(_bytes, window, simd, band), spare=True, work=partial(_work, window), exact=False,
            )


def _forward(op: _Lines, *types: TensorType) -> Geometry:
    return op.geometry(*types)


def _back(op: _Lines, *types: TensorType) -> Geometry:
    return op.geometry(*types).mirrored


def _slides(op: _Lines, *types: TensorType) -> bool | Declined:
    """Whether the gradient for x has one window, that of all its elements."""
    g = op.geometry(*types)
    alike = all(axis.stride == axis.dilation == 1 for axis in (g.rows, g.cols))
    return alike or no("the gradient for x has several windows where stride or dilation is not 1")


def _accepts(window: Callable[..., Geometry], simd: Simd, op: _Lines, *types: TensorType) -> bool | Declined:
    g = window(op, *types)
    if g.cols.barren:
        return no("a tap, or a position, reads padding only")
    if g.group > 1 or g.rows.dilation > 1:
        return no("rows of the window do not follow each other in the order of the weight")
    if g.cols.positions % simd.lanes or g.cols.positions > FARTHEST:
        return no(f"{g.cols.positions} positions of a row are no whole vectors of {simd.lanes}, or farther apart than {FARTHEST} halves")
    if g.K % simd.lanes:
        return no(f"{g.K} results of a position are no whole vectors of {simd.lanes}")
    return undivided(op) and (window is _forward or _slides(op, *types))


def _params(simd: Simd, band: int, op: _Lines, *types: TensorType) -> dict[str, int]:
    return {**simd.tiles(op, *types), "P": SCALARS, "band": band}


def _bytes(window: Callable[..., Geometry], simd: Simd, band: int, op: _Lines, *types: TensorType) -> int:
    """The weight as words, sums of as many positions as a vector has lanes, and lines of the rows that a band reads."""
    g = window(op, *types)
    across, rows = g.cols.taps * g.C, min(g.rows.size, (min(band, g.rows.positions) - 1) * g.rows.stride + g.rows.taps)
    return 4 * g.rows.taps * across * g.K + 4 * simd.lanes * g.K + 2 * rows * across * g.cols.positions


def _work(window: Callable[..., Geometry], params: Mapping[str, int], op: _Lines, *types: TensorType) -> dict[str, float]:
    g = window(op, *types)
    vectors, terms = g.rows.positions * g.cols.positions // params["N"], g.rows.taps * g.cols.taps * g.C
    return {
        "mac": vectors * terms * g.K, "tile": vectors * -(-g.K // params["P"]), "word": terms * g.K,
        "packed": g.rows.size * g.cols.taps * g.C * g.cols.positions, "out": g.rows.positions * g.cols.positions * g.K,
    }
