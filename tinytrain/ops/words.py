# SPDX-License-Identifier: Apache-2.0
"""What kernels of words of two int16 keep in scratch (ISA tag `dsp`), and for which shapes that pays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from tinytrain.ir.op import Declined, no
from tinytrain.ir.types import TensorType
from tinytrain.ops.geometry import Geometry
from tinytrain.ops.pieces import Piece

SCRATCH_BYTES = 2**14                                     # of what is widened once and read many times


class HasGeometry(Protocol):
    def geometry(self, *types: TensorType) -> Geometry: ...


class OverPlane(Protocol):
    def over_plane(self, *types: TensorType) -> Geometry: ...


class HasWeight(HasGeometry, Protocol):
    def whole(self, types: Sequence[TensorType]) -> tuple[TensorType, TensorType]: ...

    def rows(self, types: Sequence[TensorType]) -> tuple[tuple[Piece, ...], ...]: ...

    def columns(self, types: Sequence[TensorType]) -> tuple[tuple[Piece, ...], ...]: ...


class Gathers(Protocol):
    patches: ClassVar[int]                                # at once, at most

    def gathers(self, *types: TensorType) -> tuple[Geometry, tuple[Piece, ...]]: ...


class GathersBack(Gathers, HasWeight, Protocol): ...


def outer_tiles(op: HasGeometry, *types: TensorType) -> dict[str, int]:
    """Of the gradient of w: outputs `held` as pairs of pixels, `pairs` in a row; `runs` of `run` columns that a position reads of a row.

    `batch` pairs of outputs are summed by one call: where no row of dy is ever left out, they stand right behind each other.
    """
    g = op.geometry(*types).lined_up
    pairs, Cg, Kg = (g.cols.positions + 1) // 2, g.C // g.group, g.K // g.group
    joined = g.group == 1 and g.cols.dilation == 1
    fit = 2 * SCRATCH_BYTES // (4 * g.rows.positions * pairs) // 4 * 4
    return {
        "pairs": pairs, "held": max(4, min(fit, (Kg + 3) // 4 * 4)),
        "runs": 1 if joined else g.cols.taps, "run": Cg * g.cols.taps if joined else Cg,
        "batch": 1 if g.rows.clips else 2,
    }


def outer_bytes(op: HasGeometry, *types: TensorType) -> int:
    """Pairs of the outputs held, then those of four columns, then eight sums for each pair of a batch."""
    p, g = outer_tiles(op, *types), op.geometry(*types).lined_up
    return (p["held"] + 4) * g.rows.positions * p["pairs"] * 4 + 32 * p["batch"]


def takes_outer(op: HasGeometry, *types: TensorType) -> bool | Declined:
    g = op.geometry(*types).lined_up
    if outer_bytes(op, *types) > 3 * SCRATCH_BYTES:
        return no(f"four outputs of {g.rows.positions}x{g.cols.positions} pixels do not fit the scratch memory")
    return True


def lane_tiles(op: HasWeight, *types: TensorType) -> dict[str, int]:
    """Of the gradient of x: whether what a row of taps reads of dy is one run, and in how many parts the outputs are added up."""
    g = op.geometry(*types).lined_up
    joined = g.group == g.rows.stride == g.cols.stride == g.rows.dilation == g.cols.dilation == 1
    # a 1x1 window is the end of a block whose maps are all kept, where memory is shortest: half of its weights stand in scratch at once
    halved = joined and g.rows.taps * g.cols.taps == 1 and len(op.columns(types)[0]) == 1 and g.K % 8 == g.C % 8 == 0 and g.K > 32
    return {"joined": int(joined), "parts": 2 if halved else 1}


def lane_bytes(op: HasWeight, *types: TensorType) -> int:
    g = op.geometry(*types).lined_up
    return g.rows.taps * g.cols.taps * g.K // g.group * 16 // lane_tiles(op, *types)["parts"]


def takes_lanes(op: HasWeight, *types: TensorType) -> bool | Declined:
    g = op.geometry(*types).lined_up
    if any(piece.K // g.group % 4 for piece in op.columns(types)[0]):
        return no("its outputs, or those of a piece of its weight, do not fill words of four")
    if lane_bytes(op, *types) > SCRATCH_BYTES:
        return no(f"the weights of eight inputs take {lane_bytes(op, *types)} bytes as pairs, {SCRATCH_BYTES} is the most")
    return True


def tile_params(op: Gathers, *types: TensorType) -> dict[str, int]:
    """Of a convolution: of how many pixels the patches stand in scratch, as many words each, so that weights are widened once for all."""
    g, pieces = op.gathers(*types)
    words, pixels = sum(piece.whole + (piece.rest > 0) for piece in pieces), g.rows.positions * g.cols.positions
    fit = (3 * SCRATCH_BYTES // 2 - words * 32) // (words * 8 + 16) // 8 * 8
    blocks = -(-pixels // max(8, min(fit, op.patches)))
    return {"P": (-(-pixels // blocks) + 7) // 8 * 8, "words": words}


def tile_bytes(op: Gathers, *types: TensorType) -> int:
    """The patches, the weights of four outputs, what sums start from, the sums, and the bytes that two patches are gathered from."""
    p = tile_params(op, *types)
    longest = max(piece.length for piece in op.gathers(*types)[1])
    return p["P"] * (p["words"] * 8 + 16) + p["words"] * 32 + 32 + 2 * ((longest + 3) // 4 * 4)


def takes_tiles(op: Gathers, *types: TensorType) -> bool | Declined:
    g, _ = op.gathers(*types)
    pixels = g.rows.positions * g.cols.positions
    if g.group > 1 or g.K < 4:
        return no("no four outputs read the same inputs")
    if pixels < 8:
        return no(f"it pays to widen weights for eight pixels or more, not for {pixels}")
    if tile_bytes(op, *types) > 2 * SCRATCH_BYTES:
        return no(f"the patches of eight pixels take {tile_bytes(op, *types)} bytes, {2 * SCRATCH_BYTES} is the most")
    return True


def takes_back_tiles(op: GathersBack, *types: TensorType) -> bool | Declined:
    """Of the gradient of x, as a convolution of dy with the weight turned round. A larger window is quicker where dy is not gathered."""
    g = op.geometry(*types).lined_up
    if not g.rows.taps == g.cols.taps == g.rows.stride == g.cols.stride == 1:
        return no("its window is not 1x1, or skips pixels")
    lanes = takes_lanes(op, *types)
    return takes_tiles(op, *types) if lanes else lanes


def plane_words(g: Geometry, count: int) -> int:
    """Words of two columns that `count` neighbouring outputs read of one row; the first starts at an even column."""
    if g.cols.stride == 1:
        return (count - 2) // 2 + g.cols.taps // 2 + 1
    return (count - 1) * g.cols.stride // 2 + (g.cols.taps + 1) // 2


def _plane(g: Geometry) -> dict[str, int]:
    # T outputs of a row at once: their sums, the words of x, two of weights and two pointers stay in 13 registers
    n = g.cols.taps // 2 + 1 if g.cols.stride == 1 else (g.cols.taps + 1) // 2
    most = next((t for t in (4, 2) if t + plane_words(g, t) + 4 <= 13), 0)
    columns = (g.cols.positions + 3) // 4 * 4
    reach = (columns - 1) // 2 + n if g.cols.stride == 1 else (columns - 1) * g.cols.stride // 2 + n
    used = min(g.rows.size, g.rows.element(g.rows.positions - 1, g.rows.taps - 1) + 1)
    pitch = max(reach, (g.cols.before + g.cols.size + 1) // 2)
    return {
        "T": most, "n": n, "pitch": pitch, "rows": max(g.rows.before + used, g.rows.extent), "used": used,
        "words": plane_words(g, most), "words_of_2": plane_words(g, 2),
    }


def plane_tiles(op: OverPlane, *types: TensorType) -> dict[str, int]:
    """Of a depthwise convolution, channel by channel over a plane with its padding, `turned` where its columns are the longer lines."""
    g = op.over_plane(*types)
    turned = _turns(g)
    return {**_plane(g.turned if turned else g), "turned": int(turned)}


def plane_bytes(op: OverPlane, *types: TensorType) -> int:
    g = op.over_plane(*types)
    return _plane_bytes(g.turned if _turns(g) else g)


def _plane_bytes(g: Geometry) -> int:
    """The plane, then the weights of one channel in pairs."""
    p = _plane(g)
    return 4 * (p["pitch"] * p["rows"] + g.rows.taps * p["n"] * (2 if g.cols.stride == 1 else 1))


def _turns(g: Geometry) -> bool:
    """Whether fewer groups of outputs make all of them if they stand along the columns, in no more memory."""
    def groups(of: Geometry) -> int:
        return of.rows.positions * -(-of.cols.positions // 4)

    alike = (g.rows.taps, g.rows.stride) == (g.cols.taps, g.cols.stride)
    return alike and groups(g.turned) < groups(g) and _plane_bytes(g.turned) <= _plane_bytes(g)


def fits_plane(g: Geometry) -> bool | Declined:
    if g.rows.dilation != 1 or g.cols.dilation != 1:
        return no("words of two neighbours do not fit a dilated window")
    plane = _plane(g)
    if not plane["T"]:
        return no(f"a window of {g.cols.taps} columns, {g.cols.stride} apart, does not fit the registers")
    if plane["pitch"] > 1023:
        return no(f"rows of {2 * plane['pitch']} columns: 2046 are what one instruction steps over")
    return True


def line_tiles(op: HasGeometry, *types: TensorType) -> dict[str, int]:
    """Of the gradient of a depthwise w: whether sums run along the rows' axis, and the `pairs` of positions along it."""
    g = op.geometry(*types).lined_up
    return {"turned": int(g.rows.positions > g.cols.positions), "pairs": (max(g.rows.positions, g.cols.positions) + 1) // 2}


def line_bytes(op: HasGeometry, *types: TensorType) -> int:
    g, p = op.geometry(*types).lined_up, line_tiles(op, *types)
    across, along = (g.cols, g.rows) if p["turned"] else (g.rows, g.cols)
    return 16 * (across.positions * p["pairs"] + across.size * along.extent)


def takes_lines(op: HasGeometry, *types: TensorType) -> bool | Declined:
    if op.geometry(*types).C % 4:
        return no("its channels do not fill words of four")
    if line_bytes(op, *types) > SCRATCH_BYTES:
        return no(f"four channels of its maps take {line_bytes(op, *types)} bytes as pairs, {SCRATCH_BYTES} is the most")
    return True
