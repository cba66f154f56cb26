# SPDX-License-Identifier: Apache-2.0
"""What kernels of words of two int16 keep in scratch (ISA tag `dsp`), and for which shapes that pays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tinytrain.ir.op import Declined, no
from tinytrain.ir.types import TensorType
from tinytrain.ops.geometry import Geometry
from tinytrain.ops.pieces import Piece

SCRATCH_BYTES = 2**14                                     # of what is widened once and read many times


class HasGeometry(Protocol):
    def geometry(self, *types: TensorType) -> Geometry: ...


class ReadsGeometry(HasGeometry, Protocol):
    def columns(self, types: Sequence[TensorType]) -> tuple[tuple[Piece, ...], ...]: ...


def outer_tiles(op: HasGeometry, *types: TensorType) -> dict[str, int]:
    """Of the gradient of w: outputs `held` as pairs of pixels, `pairs` in a row; `runs` of `run` columns that a position reads of a row."""
    g = op.geometry(*types).lined_up
    pairs, Cg, Kg = (g.cols.positions + 1) // 2, g.C // g.group, g.K // g.group
    joined = g.group == 1 and g.cols.dilation == 1
    fit = SCRATCH_BYTES // (4 * g.rows.positions * pairs) // 4 * 4
    return {
        "pairs": pairs, "held": max(4, min(fit, (Kg + 3) // 4 * 4)),
        "runs": 1 if joined else g.cols.taps, "run": Cg * g.cols.taps if joined else Cg,
    }


def outer_bytes(op: HasGeometry, *types: TensorType) -> int:
    p, g = outer_tiles(op, *types), op.geometry(*types).lined_up
    return (p["held"] + 4) * g.rows.positions * p["pairs"] * 4


def takes_outer(op: HasGeometry, *types: TensorType) -> bool | Declined:
    g = op.geometry(*types).lined_up
    if outer_bytes(op, *types) > 2 * SCRATCH_BYTES:
        return no(f"four outputs of {g.rows.positions}x{g.cols.positions} pixels do not fit the scratch memory")
    return True


def lane_tiles(op: ReadsGeometry, *types: TensorType) -> dict[str, int]:
    """Of the gradient of x: whether what a row of taps reads of dy is one run."""
    g = op.geometry(*types).lined_up
    return {"joined": int(g.group == g.rows.stride == g.cols.stride == g.rows.dilation == g.cols.dilation == 1)}


def lane_bytes(op: ReadsGeometry, *types: TensorType) -> int:
    g = op.geometry(*types).lined_up
    return g.rows.taps * g.cols.taps * g.K // g.group * 16


def takes_lanes(op: ReadsGeometry, *types: TensorType) -> bool | Declined:
    g = op.geometry(*types).lined_up
    if any(piece.K // g.group % 4 for piece in op.columns(types)[0]):
        return no("its outputs, or those of a piece of its weight, do not fill words of four")
    if lane_bytes(op, *types) > SCRATCH_BYTES:
        return no(f"the weights of eight inputs take {lane_bytes(op, *types)} bytes as pairs, {SCRATCH_BYTES} is the most")
    return True
