# SPDX-License-Identifier: Apache-2.0
"""Int8 layers on vector units: how many pixels and outputs at once, and the scratch that their kernels take."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING

from tinytrain.ir.op import Declined, no
from tinytrain.ir.types import TensorType
from tinytrain.ops.geometry import Geometry
from tinytrain.ops.pieces import ReadsPieces

if TYPE_CHECKING:
    from tinytrain.ops.conv import Conv2d
    from tinytrain.ops.windowed import Windowed

MOST_TAPS = 2**24 // (255 * 128)                          # whose products a float sums exactly
# P pixels times a vector of V outputs
DOT = {"P": 3, "V": 4}                                    # six sums in general registers: those of two outputs at a time
COLUMNS = {"P": 6, "V": 16}                               # 24 of 32 registers hold sums


def _tiles(tiles: dict[str, int], op: ReadsPieces, *types: TensorType) -> dict[str, int]:
    return tiles


def _sums_bytes(tiles: dict[str, int], op: ReadsPieces, *types: TensorType) -> int:
    """What each sum starts from, the sums of P pixels, and their patches where these are no runs of x."""
    _, weight = op.whole(types)
    return 4 * weight.shape[0] * (1 + tiles["P"]) + tiles["P"] * _patch(op, types)


dot_tiles, dot_bytes = partial(_tiles, DOT), partial(_sums_bytes, DOT)
column_tiles, column_bytes = partial(_tiles, COLUMNS), partial(_sums_bytes, COLUMNS)


def _patch(op: ReadsPieces, types: Sequence[TensorType]) -> int:
    _, weight = op.whole(types)
    return 0 if prod(weight.shape[1:-1]) == 1 and not _clips(op, types) else _pixel(op, weight)


def _pixel(op: ReadsPieces, weight: TensorType) -> int:
    """What all outputs of a pixel read."""
    return weight.numel // weight.shape[0] * int(getattr(op, "group", 1))


def _clips(op: ReadsPieces, types: Sequence[TensorType]) -> bool:
    geometry = getattr(op, "geometry", None)
    found: Geometry | None = geometry(*types) if geometry else None
    return found is not None and (found.rows.clips or found.cols.clips)


def float_tiles(op: Conv2d, *types: TensorType) -> dict[str, int]:
    """Of a convolution in floats: up to P pixels at once, and how many products a float sums."""
    g = op.geometry(*types)
    pixels = g.rows.positions * g.cols.positions
    return {"P": -(-pixels // -(-pixels // 6)), "most": MOST_TAPS}


def float_bytes(op: Conv2d, *types: TensorType) -> int:
    """The patches of P pixels."""
    _, weight = op.whole(types)
    return 4 * float_tiles(op, *types)["P"] * _pixel(op, weight)


def takes_floats(op: Conv2d, *types: TensorType) -> bool | Declined:
    g = op.geometry(*types)
    if min(row[0].K for row in op.rows(types)) // g.group < 4:
        return no("no four outputs read the same inputs")
    return g.rows.positions * g.cols.positions > 1 or no("it pays to widen a patch for several pixels, not for one")


def passes_floats(op: Conv2d, *types: TensorType) -> bool | Declined:
    """Where results lie over what is read already, which is worth more memory than the scratch takes."""
    x, weight = op.whole(types)
    if op.stride != (1, 1) or prod(weight.shape[1:-1]) != 1:
        return no("its window reads pixels beside that of the result")
    return _is_small(float_bytes(op, *types), x) and takes_floats(op, *types)


def strip(op: Windowed, *types: TensorType) -> dict[str, int]:
    """Of a depthwise convolution, a channel at a time: `height` bytes hold the rows of one column, a vector `wide` columns, and `vectors`
    a window; `used` columns of x, and the bytes of all that is laid out."""
    g = op.geometry(*types).lined_up
    height = 1 << ((g.rows.taps - 1) * g.rows.dilation).bit_length()
    wide = 16 // height or 1
    vectors = ((g.cols.taps - 1) * g.cols.dilation + wide) // wide
    columns = (g.cols.positions - 1) * g.cols.stride + vectors * wide
    used = min(g.cols.size, g.cols.extent - g.cols.before)
    length = columns * height + (g.rows.positions - 1) * g.rows.stride
    return {"height": height, "wide": wide, "vectors": vectors, "used": used, "strip": length}


def strip_bytes(op: Windowed, *types: TensorType) -> int:
    """The weights of a channel in their lanes, and the channel."""
    p = strip(op, *types)
    return 16 * p["vectors"] + p["strip"]


def fits_strip(op: Windowed, *types: TensorType) -> bool | Declined:
    g = op.geometry(*types).lined_up
    if strip(op, *types)["height"] > 16:
        return no(f"a window of {g.rows.taps} rows, {g.rows.dilation} apart, is higher than a vector")
    return 7 * g.cols.taps * g.C < 2**16 or no(f"of {g.C} channels, eight weights are too far from each other to be loaded at once")


def gathered(op: Windowed, *types: TensorType) -> dict[str, int]:
    """Of a depthwise convolution, a channel at a time: the bytes of its `plane`, rows of `pitch`; windows of `window` columns are gathered
    into `vectors`, each for `shared` outputs that are `shift` apart; of `each` whole rows, if any, a vector. Of x, `rows` of `used` columns
    are read, so many rows `together`."""
    g = op.geometry(*types).lined_up
    R, S = g.rows.taps, g.cols.taps
    rows, used = (min(axis.size, axis.extent - axis.before) for axis in (g.rows, g.cols))
    pitch, height = (max(axis.extent, axis.before + n) for axis, n in ((g.cols, used), (g.rows, rows)))
    each = min(R, 16 // S) if R * S > 32 else 0
    vectors, shift = -(-R // each) if each else -(-R * S // 16), g.cols.stride
    shares = g.cols.dilation == 1 and g.cols.positions > 1 and not each and R * (S + shift) <= 16 * vectors
    beyond = (vectors * each - R) * g.rows.dilation if each else 0
    return {
        "pitch": pitch, "plane": pitch * (height + beyond), "window": S + shift * shares, "vectors": vectors, "shared": 1 + shares,
        "shift": shift * shares, "each": each, "rows": rows, "used": used, "together": max(1, min(rows, 8 // used)),
    }


def gathered_bytes(op: Windowed, *types: TensorType) -> int:
    """The channel, and its weights in their lanes; the second of two outputs may read some of them."""
    p = gathered(op, *types)
    return p["plane"] + p["shift"] + 16 * p["vectors"]


def gathers(op: Windowed, *types: TensorType) -> bool | Declined:
    g, p = op.geometry(*types).lined_up, gathered(op, *types)
    last = ((p["each"] or g.rows.taps) - 1) * g.rows.dilation * p["pitch"] + (p["window"] - 1) * g.cols.dilation
    if p["vectors"] > (4 if p["each"] else 2) or last > 255:
        return no(f"a window of {g.rows.taps}x{g.cols.taps} in rows of {p['pitch']} does not fit the vectors that it is gathered into")
    if p["each"] and g.rows.positions * g.cols.positions > 128:
        return no("a strip shares vectors among windows, which pays in a large map")
    return 7 * g.cols.size * g.C < 2**16 or no(f"of {g.C} channels, eight elements are too far from each other to be loaded at once")


def ring(lanes: int, op: Windowed, *types: TensorType) -> dict[str, int]:
    """Of a depthwise convolution: P outputs of V channels at once, `used` columns of x, and the floats of a ring of its rows."""
    g = op.geometry(*types).lined_up
    rows = (g.rows.taps - 1) * g.rows.dilation + 1
    shared = g.cols.taps <= 3 and g.cols.stride == g.cols.dilation == 1
    used = min(g.cols.size, g.cols.extent - g.cols.before)
    outputs = -(-g.cols.positions // -(-g.cols.positions // 8)) if lanes == 1 else 4 if shared else 6
    return {"P": outputs, "V": lanes, "used": used, "ring": rows * g.cols.extent * lanes}


def ring_bytes(lanes: int, op: Windowed, *types: TensorType) -> int:
    """The widened weights of V channels, the ring, and the sums of P outputs."""
    g = op.geometry(*types).lined_up
    p = ring(lanes, op, *types)
    return 4 * (g.rows.taps * g.cols.taps * p["V"] + p["ring"] + p["P"] * p["V"])


def fits_floats(op: Windowed, *types: TensorType) -> bool | Declined:
    g = op.geometry(*types)
    taps = g.rows.taps * g.cols.taps
    return taps <= MOST_TAPS or no(f"{taps} products are more than the {MOST_TAPS} that a float sums exactly")


def ring_lead(op: Windowed, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int | None:
    return 0 if _behind(op, *inputs) and outputs[0].dtype is inputs[0].dtype else None


def _behind(op: Windowed, *types: TensorType) -> bool:
    """A row of a channel is in the ring before a row of its results that lies there, where these are no wider and begin no later."""
    g = op.geometry(*types).lined_up
    return g.cols.positions <= g.cols.size and g.rows.before < (g.rows.taps - 1) * g.rows.dilation + 1


def passes_ring(lanes: int, op: Windowed, *types: TensorType) -> bool | Declined:
    """Where results lie over what is read already, which is worth more memory than the scratch takes."""
    if not _behind(op, *types):
        return no("its results reach beyond what is read already")
    return _is_small(ring_bytes(lanes, op, *types), types[0]) and fits_floats(op, *types)


def _is_small(scratch_bytes: int, x: TensorType) -> bool | Declined:
    return 4 * scratch_bytes <= x.nbytes or no(f"its scratch of {scratch_bytes} bytes is more than a quarter of its input")
