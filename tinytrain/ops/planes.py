# SPDX-License-Identifier: Apache-2.0
"""Maps laid out for gradients of a weight: with the padding as zeros, so that what a tap reads of a whole map is one run.

What a tap reads are every `stride`-th element: those of a residue lie side by side in a plane of their own. Rows of dy have zeros behind
them for the columns that planes have more: a product with one of them adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod

from tinytrain.ir.op import Declined, Kernel, Op, no
from tinytrain.ir.types import F16, TensorType
from tinytrain.ops.geometry import Axis, Geometry
from tinytrain.ops.simd import HALVES, Simd
from tinytrain.ops.words import HasGeometry

BLOCK = 8                                                 # neighbours that are turned at once, or half as many of large maps
_LARGE = 1024                                             # steps of a sum
_CHAIN, _LONG = 4, 16                                     # steps of a sum that are done at once, of a short and of a long one
_LONG_SUM = 64
_FARTHEST = 2**16                                         # halves that a vector of offsets reaches


@dataclass(frozen=True)
class Planes:
    """One axis of a map: `count` elements a plane, the first of them number `first` of its residue; there is one for each of `residues`."""

    axis: Axis
    residues: tuple[int, ...]
    first: int
    count: int

    @classmethod
    def of(cls, axis: Axis) -> Planes:
        places = [divmod(axis.element(0, tap), axis.stride) for tap in range(axis.taps)]
        first, last = min(at for at, _ in places), max(at for at, _ in places) + axis.positions
        return cls(axis, tuple(sorted({residue for _, residue in places})), first, last - first)

    def place(self, tap: int) -> tuple[int, int]:
        """(plane, element in it) that the tap of position 0 reads; that of the next position is the next element."""
        at, residue = divmod(self.axis.element(0, tap), self.axis.stride)
        return self.residues.index(residue), at - self.first

    def live(self, residue: int) -> tuple[int, int, int]:
        """Of a plane: the first element that is no padding, how many there are, and which element of the map the first one is."""
        found = [i for i in range(self.count) if 0 <= (i + self.first) * self.axis.stride + residue < self.axis.size]
        start = found[0] if found else 0
        return start, len(found), (start + self.first) * self.axis.stride + residue if found else 0


@dataclass(frozen=True)
class Layout:
    """Both maps of a geometry: `steps` of a sum, and how many elements a channel of x and of dy takes."""

    rows: Planes
    cols: Planes
    steps: int

    @classmethod
    def of(cls, g: Geometry) -> Layout:
        rows, cols = Planes.of(g.rows), Planes.of(g.cols)
        live = (g.rows.positions - 1) * cols.count + g.cols.positions
        whole = _LONG if live >= _LONG_SUM else _CHAIN
        return cls(rows, cols, -(-live // whole) * whole)

    @property
    def plane(self) -> int:
        return self.rows.count * self.cols.count

    @property
    def x(self) -> int:
        """All planes; the last tap goes on behind them, and two runs are an even number apart."""
        planes = len(self.rows.residues) * len(self.cols.residues) * self.plane
        return -(-(planes + _LONG) // 2) * 2

    @property
    def dy(self) -> int:
        return self.steps

    @property
    def block(self) -> int:
        return BLOCK if self.steps < _LARGE else BLOCK // 2

    @property
    def taps(self) -> list[int]:
        """Where each tap of x begins, row by row."""
        found = []
        for r in range(self.rows.axis.taps):
            for s in range(self.cols.axis.taps):
                (down, row), (across, col) = self.rows.place(r), self.cols.place(s)
                found.append((down * len(self.cols.residues) + across) * self.plane + row * self.cols.count + col)
        return found


def in_planes() -> Iterator[Kernel]:
    """Of a convolution's weight, from halves: vectors along the channels of x or, turned, along those of dy."""
    return (
        Kernel(
            "correlate_halves", (F16, F16), simd.isa, None, partial(_fits, simd, turned), partial(_tiles, simd, turned),
            partial(_bytes, simd, turned), spare=True, work=_work, exact=simd.exact,
        )
        for turned in (True, False) for simd in HALVES if not simd.apart
    )


def _fits(simd: Simd, turned: bool, op: HasGeometry, *types: TensorType) -> bool | Declined:
    g = op.geometry(*types).lined_up
    layout, along = Layout.of(g), (g.K if turned else g.C) // g.group
    if (BLOCK - 1) * (layout.x if turned else layout.dy) >= _FARTHEST:
        return no("its maps are too large to be turned")
    if simd.double and along % simd.lanes:
        return no(f"{along} channels are not whole vectors of {simd.lanes}")
    return simd.filled_by(along)


def _tiles(simd: Simd, turned: bool, op: Op, *types: TensorType) -> dict[str, int]:
    return {**simd.tiles(op, *types), "turned": turned}


def _bytes(simd: Simd, turned: bool, op: HasGeometry, *types: TensorType) -> int:
    """A vector of each element of one map, and a block of runs of the other."""
    g = op.geometry(*types).lined_up
    layout = Layout.of(g)
    vectors, runs, across = (layout.dy, layout.x, g.C) if turned else (layout.x, layout.dy, g.K)
    return 2 * (simd.lanes * vectors + min(layout.block, across // g.group) * runs)


def _work(params: Mapping[str, int], op: HasGeometry, *types: TensorType) -> dict[str, float]:
    g = op.geometry(*types).lined_up
    layout = Layout.of(g)
    across, along = (n // g.group for n in ((g.C, g.K) if params["turned"] else (g.K, g.C)))
    vectors = g.group * -(-along // params["N"])
    taps = len(layout.taps)
    return {
        "mac": taps * vectors * across * layout.steps, "tile": taps * vectors * -(-across // params["P"]),
        "packed": prod((vectors, layout.x + layout.dy * -(-across // layout.block))), "out": taps * across * along * g.group,
    }
