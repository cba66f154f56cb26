# SPDX-License-Identifier: Apache-2.0
"""Kernels of convolutions in pairs of halves along their sums (ISA tag `xpulp`), and the scratch that they take."""

from __future__ import annotations

from tinytrain.ir.op import Declined, Kernel, no
from tinytrain.ir.types import F16, TensorType
from tinytrain.ops.geometry import Geometry
from tinytrain.ops.pieces import undivided
from tinytrain.ops.shares import strips_at_once
from tinytrain.ops.simd import Correlates
from tinytrain.ops.words import SCRATCH_BYTES, HasGeometry

LANES, ROWS = 4, 6                                        # of a tile: 24 sums stay in 32 registers
TRIES = {"P": range(ROWS, 0, -1)}


def _tiles(op: object, *types: TensorType) -> dict[str, int]:
    return {"N": LANES, "P": ROWS}


def _strip_bytes(op: Correlates, *types: TensorType) -> int:
    """A strip of the weight: of each tap a pair for every two channels."""
    c = op.correlation(*types)
    return 2 * c.taps[0] * c.taps[1] * (c.inner + c.inner % 2) * LANES


def _bytes(g: Geometry, channels: int) -> int:
    """The planes of so many channels of x, and a strip of dy."""
    return 2 * g.planes.plane * channels + 2 * g.rows.positions * (g.cols.positions + g.cols.positions % 2) * LANES


def _map_tiles(op: HasGeometry, *types: TensorType) -> dict[str, int]:
    """CT channels of x stand in planes at once: a tile of them at least, and else what takes half as much again as the smaller map."""
    g = op.geometry(*types).lined_up
    channels, unit = g.C // g.group, 2 if g.planes.windows else ROWS
    most = 3 * min(g.rows.size * g.cols.size * g.C, g.rows.positions * g.cols.positions * g.K)
    fit = (most - _bytes(g, 0)) // (2 * g.planes.plane) // unit * unit
    return {"N": LANES, "P": ROWS, "CT": min(channels, max(unit, fit))}


def _more_strips(cores: int, op: HasGeometry, *types: TensorType) -> int:
    """They share the work of several strips of dy at once."""
    g = op.geometry(*types).lined_up
    channels, block = g.C // g.group, _map_tiles(op, *types)["CT"]
    blocks = (*[block] * (channels // block), *([channels % block] if channels % block else []))
    taps, most = (g.rows.taps, 2) if g.planes.windows else (g.rows.taps * g.cols.taps, ROWS)
    return (strips_at_once(-(-(g.K // g.group) // LANES), taps, blocks, most, cores) - 1) * _bytes(g, 0)


def _map_bytes(op: HasGeometry, *types: TensorType) -> int:
    return _bytes(op.geometry(*types).lined_up, _map_tiles(op, *types)["CT"])


def _sums(op: Correlates, *types: TensorType) -> bool | Declined:
    if not (alone := undivided(op)):
        return alone
    return op.correlation(*types).inner > 1 or no("its sums have one channel, which makes no pairs")


def _pairs_pixels(op: HasGeometry, *types: TensorType) -> bool | Declined:
    return op.geometry(*types).lined_up.cols.positions > 1 or no("its sums run over one column, which makes no pairs")


def _patch_bytes(op: Correlates, *types: TensorType) -> int:
    """The patches of a tile of pixels, and all strips of the weight."""
    c = op.correlation(*types)
    count = c.taps[0] * c.taps[1] * c.inner
    return 2 * (count + count % 2) * (ROWS + -(-c.outer // LANES) * LANES)


def _more_patches(cores: int, op: Correlates, *types: TensorType) -> int:
    """Each core has patches of its own."""
    c = op.correlation(*types)
    count = c.taps[0] * c.taps[1] * c.inner
    return 2 * (cores - 1) * (count + count % 2) * ROWS


def _joins(op: Correlates, *types: TensorType) -> bool | Declined:
    if not (alone := undivided(op)):
        return alone
    c = op.correlation(*types)
    if c.group > 1 or not c.inner % 2 or c.taps[0] * c.taps[1] == 1:
        return no("its channels make pairs, or it reads one pixel")
    size = _patch_bytes(op, *types)
    return size <= SCRATCH_BYTES or no(f"its weight as strips takes {size} bytes, {SCRATCH_BYTES} is the most")


def _turned_bytes(op: HasGeometry, *types: TensorType) -> int:
    """A plane of what each tap reads of each channel, and a strip of dy."""
    g = op.geometry(*types).lined_up
    count = g.rows.positions * g.cols.positions
    return 2 * (count + count % 2) * (g.rows.taps * g.cols.taps * g.C + LANES)


def _turns(op: HasGeometry, *types: TensorType) -> bool | Declined:
    g = op.geometry(*types).lined_up
    if g.group > 1 or 3 * g.C > ROWS or g.planes.windows or g.rows.taps * g.cols.taps == 1:
        return no("its channels, or three taps of them, fill tiles")
    if g.rows.positions * g.cols.positions == 1:
        return no("its sums have one pixel, which makes no pairs")
    size = _turned_bytes(op, *types)
    return size <= SCRATCH_BYTES or no(f"its patches take {size} bytes, {SCRATCH_BYTES} is the most")


def along_channels() -> Kernel:
    """Of a convolution or its gradient for x."""
    return Kernel("pairs", (F16, F16), "xpulp", None, _sums, _tiles, _strip_bytes, tries=TRIES, shared=True)


def along_pixels() -> Kernel:
    """Of its gradient for w."""
    return Kernel("pairs", (F16, F16), "xpulp", None, _pairs_pixels, _map_tiles, _map_bytes, tries=TRIES, shared=True, more=_more_strips)


def across_patches() -> Kernel:
    """The same of a map of so few channels that taps fill a tile better."""
    return Kernel("pairs", (F16, F16), "xpulp", "conv2d_grad_w_patches", _turns, _tiles, _turned_bytes, tries=TRIES)


def along_patches() -> Kernel:
    """Of a convolution of maps with an odd number of channels."""
    return Kernel(
        "pairs", (F16, F16), "xpulp", "conv2d_patches", _joins, _tiles, _patch_bytes, tries=TRIES, shared=True, more=_more_patches,
    )
