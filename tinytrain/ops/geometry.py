# SPDX-License-Identifier: Apache-2.0
"""Where the window of a convolution stands: tap t of position p reads element p·stride + t·dilation − before, along rows and columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tinytrain.ir.types import Array

Pair = tuple[int, int]

_CHAIN, _LONG = 4, 16                                     # steps of a sum that are done at once, of a short and of a long one
_LONG_SUM = 64
BLOCK, _LARGE = 8, 1024                                   # channels that are turned at once, or half as many of so many steps


@dataclass(frozen=True)
class Axis:
    """A window that moves along one axis: tap t of position p reads element p·stride + t·dilation − before."""

    size: int
    taps: int
    positions: int
    stride: int
    dilation: int
    before: int

    def element(self, position: int, tap: int) -> int:
        return position * self.stride + tap * self.dilation - self.before

    @property
    def extent(self) -> int:
        """Elements from the first that some position reads to the last, padding included."""
        return self.element(self.positions - 1, self.taps - 1) + self.before + 1

    @property
    def clips(self) -> bool:
        """Some tap of some position reads padding."""
        return self.before > 0 or self.element(self.positions - 1, self.taps - 1) >= self.size

    @property
    def barren(self) -> bool:
        """Some position, or some tap, reads nothing but padding."""
        live = [[0 <= self.element(p, t) < self.size for t in range(self.taps)] for p in range(self.positions)]
        return not (all(map(any, live)) and all(map(any, zip(*live, strict=True))))

    @property
    def inner(self) -> Pair:
        """The positions [first, last) whose taps are all alive."""
        last = (self.size - 1 - self.element(0, self.taps - 1)) // self.stride + 1
        first = -(-self.before // self.stride)
        return first, max(first, min(self.positions, last))

    def live_positions(self, tap: int) -> Pair:
        """The positions [first, end) whose element at this tap is no padding; (0, 0) where there is none."""
        live = [p for p in range(self.positions) if 0 <= self.element(p, tap) < self.size]
        return (live[0], live[-1] + 1) if live else (0, 0)

    def reached_by(self, element: int) -> tuple[int, ...]:
        """The live taps of the gradient of an element: those that some position reads it with."""
        ends = [(tap, element + self.before - tap * self.dilation) for tap in range(self.taps)]
        return tuple(tap for tap, at in ends if at % self.stride == 0 and 0 <= at // self.stride < self.positions)

    @property
    def mirrored(self) -> Axis:
        """Of stride and dilation 1: the window that gathers the gradient of an element, its taps in reverse order."""
        return Axis(self.positions, self.taps, self.size, 1, 1, self.taps - 1 - self.before)

    @property
    def step(self) -> Pair:
        """Taps that reach the same element are `step[0]` apart, their positions `−step[1]`."""
        common = int(np.gcd(self.stride, self.dilation))
        return self.stride // common, self.dilation // common


@dataclass(frozen=True)
class PaddedAxis:
    """One axis of a map with its padding, every `stride`-th element in a plane of its own: `count` elements a plane, the first of them
    number `first` of its residue; there is one for each of `residues`.
    """

    axis: Axis
    residues: tuple[int, ...]
    first: int
    count: int

    @classmethod
    def of(cls, axis: Axis) -> PaddedAxis:
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
class PaddedMaps:
    """Both maps of a geometry: `steps` of a sum, and how many elements a channel of x and of dy takes."""

    rows: PaddedAxis
    cols: PaddedAxis
    steps: int

    @classmethod
    def of(cls, g: Geometry) -> PaddedMaps:
        rows, cols = PaddedAxis.of(g.rows), PaddedAxis.of(g.cols)
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


@dataclass(frozen=True)
class Phase:
    """Of a row, the elements `first`, first + stride, … (`count` of them); they begin at element `to` of a line of a plane."""

    first: int
    count: int
    to: int


@dataclass(frozen=True)
class Planes:
    """A map by channels: each has `plane` halves, in lines of `pitch`. A tap t of a window reads a line from at[t] on.

    `windows`: there are three taps whose lines overlap, and whole pairs of positions, as a tile for all three wants them.
    """

    plane: int
    pitch: int
    phases: tuple[Phase, ...]
    at: tuple[int, ...]
    windows: bool


@dataclass(frozen=True)
class Geometry:
    """The two axes of a convolution and its channels: C in, K out, in `group` groups."""

    rows: Axis
    cols: Axis
    C: int
    K: int
    group: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the convolution; each gradient takes as many. Those with padding are counted."""
        return self.rows.positions * self.cols.positions * self.K * self.rows.taps * self.cols.taps * (self.C // self.group)

    @property
    def mirrored(self) -> Geometry:
        return dataclasses.replace(self, rows=self.rows.mirrored, cols=self.cols.mirrored, C=self.K, K=self.C)

    def bands(self, count: int) -> list[tuple[int, int, int, int]]:
        """Up to `count` bands of positions: of each the first row and how many, and the same of the elements that they read."""
        rows = self.rows
        ends = sorted({rows.positions * n // count for n in range(count + 1)})
        reads = [(max(0, rows.element(a, 0)), min(rows.size, rows.element(b - 1, rows.taps - 1) + 1)) for a, b in pairwise(ends)]
        return [(a, b - a, first, max(0, end - first)) for (a, b), (first, end) in zip(pairwise(ends), reads, strict=True)]

    @property
    def turned(self) -> Geometry:
        """Rows and columns change places."""
        return dataclasses.replace(self, rows=self.cols, cols=self.rows)

    @property
    def planes(self) -> Planes:
        """Of x, whose elements along a row are apart by the stride: those that a tap reads of all positions are neighbours."""
        axis = self.cols
        offsets = [axis.element(0, t) for t in range(axis.taps)]
        first, last = min(o // axis.stride for o in offsets), max(o // axis.stride for o in offsets)
        before = -first + first % 2                           # even: pairs of x as they lie in memory are words of a line
        width = last + axis.positions + before
        width += width % 2
        found = sorted({o % axis.stride for o in offsets})
        phases = tuple(
            Phase(n, min(-(-(axis.size - n) // axis.stride), width - before), i * width + before) for i, n in enumerate(found)
        )
        at = tuple(found.index(o % axis.stride) * width + o // axis.stride + before for o in offsets)
        windows = axis.taps == 3 and axis.stride == axis.dilation == 1 and axis.positions % 2 == 0 and axis.positions <= 32
        return Planes(len(found) * width * self.rows.size, len(found) * width, phases, at, windows)

    def patches(self, padded: Array) -> Iterator[tuple[int, int, Array]]:
        """Tap r, s and the view of the padded map that it reads: (positions, positions, C)."""
        h, w = self.rows, self.cols
        for r in range(h.taps):
            for s in range(w.taps):
                i, j = r * h.dilation, s * w.dilation
                yield r, s, padded[
                    i : i + (h.positions - 1) * h.stride + 1 : h.stride, j : j + (w.positions - 1) * w.stride + 1 : w.stride
                ]

    @property
    def layout(self) -> PaddedMaps:
        """How both maps are laid out for gradients of the weight."""
        return PaddedMaps.of(self)

    @property
    def in_line(self) -> bool:
        """Two neighbouring positions, at the end of a row too, are as far apart as two neighbouring elements."""
        return self.rows.stride == self.cols.stride == 1 and self.cols.positions == self.cols.size

    @property
    def run(self) -> int:
        """Halves that a channel of dy takes as one run; it may begin at an odd place, and the next one begins at an even one."""
        return (self.rows.positions * self.cols.positions + 2) // 2 * 2

    @property
    def lined_up(self) -> Geometry:
        """The same sums with the longer run along the columns, for the kernels: rows of one column, and 1x1 windows, become one row."""
        h, w = self.rows, self.cols
        one = Axis(1, 1, 1, 1, 1, 0)
        if w == one:
            return dataclasses.replace(self, rows=one, cols=h)
        if h.taps == w.taps == h.stride == w.stride == 1 and not h.clips and not w.clips:
            return dataclasses.replace(self, rows=one, cols=Axis(h.size * w.size, 1, h.size * w.size, 1, 1, 0))
        return self


def patches(count: int, words: int) -> int:
    """Of `count` patches of so many words of four int8, how many to widen to int16 side by side: what the registers and 16 KiB hold."""
    return max(1, min(6, count, 2**14 // widened_bytes(1, words)))


def widened_bytes(count: int, words: int) -> int:
    """Bytes of patches in int16."""
    return count * words * 8
