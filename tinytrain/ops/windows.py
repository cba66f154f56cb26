# SPDX-License-Identifier: Apache-2.0
"""Windows of pooling over a feature map (H, W, C): their geometry, and the shapes that examples take in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinytrain.ir.growth import Bounded, Growth, times
from tinytrain.ir.op import Fusable, Tie
from tinytrain.ir.types import Array, TensorType
from tinytrain.ops.windowed import Pad, out_size


@dataclass(frozen=True)
class Window:
    """Geometry of a pooling window along one axis: what a kernel needs to know for its bounds."""

    size: int
    out: int
    kernel: int
    stride: int
    before: int
    dilation: int

    @property
    def inside(self) -> bool:
        """No tap of any window is padding."""
        return self.before == 0 and (self.out - 1) * self.stride + (self.kernel - 1) * self.dilation < self.size

    @property
    def apart(self) -> bool:
        """No two windows share an element."""
        return self.dilation == 1 and self.stride >= self.kernel

    @property
    def covers(self) -> bool:
        """Every element lies in a window of its own: windows apart, without gaps."""
        return self.apart and self.stride == self.kernel and self.out * self.stride >= self.size + self.before

    def live(self) -> Array:
        """Number of taps that are not padding, for each window."""
        taps = np.arange(self.out)[:, None] * self.stride + np.arange(self.kernel) * self.dilation - self.before
        return np.asarray(((taps >= 0) & (taps < self.size)).sum(axis=1))


@dataclass(frozen=True)
class Pool(Fusable, Bounded):
    """Base of pooling ops: the geometry."""

    kernel: tuple[int, int] = (2, 2)
    stride: tuple[int, int] = (1, 1)
    pad: Pad = field(default=Pad())

    def dilations(self) -> tuple[int, int]:
        return (1, 1)

    def growth(self, *types: TensorType) -> Growth | None:
        return Growth(((0,),), times(self.kernel[0] * self.kernel[1]))

    def ties(self, *types: TensorType) -> tuple[Tie, ...]:
        return (((0, -1), (~0, -1)),)

    def windows(self, x: tuple[int, ...]) -> tuple[Window, Window]:
        """The windows along H and W of a map of shape x; raises ValueError where they do not fit."""
        if len(x) != 3:
            raise ValueError(f"{x} is no feature map (H, W, C)")
        befores, pads = (self.pad.top, self.pad.left), (self.pad.top + self.pad.bottom, self.pad.left + self.pad.right)
        found = []
        for size, k, s, d, before, both in zip(x, self.kernel, self.stride, self.dilations(), befores, pads, strict=False):
            axis = Window(size, out_size(size, k, s, d, both), k, s, before, d)
            if axis.live().min() < 1:
                raise ValueError(f"padding {self.pad} around {x[:2]}: a window of {self.kernel} would hold nothing but padding")
            found.append(axis)
        return found[0], found[1]

    def outputs(self, x: tuple[int, ...]) -> tuple[int, int, int]:
        rows, columns = self.windows(x)
        return rows.out, columns.out, x[2]

    def taps(self, x: Array, fill: float) -> Iterator[tuple[int, int, Any]]:
        """(r, s, view of the padded map under that tap) for each tap in order."""
        rows, columns = self.windows(x.shape)
        padded = self.padded(x, fill)
        for r in range(rows.kernel):
            for s in range(columns.kernel):
                yield r, s, self.under(padded, rows, columns, r, s)

    def padded(self, x: Array, fill: float) -> Array:
        return np.pad(x, ((self.pad.top, self.pad.bottom), (self.pad.left, self.pad.right), (0, 0)), constant_values=fill)

    @staticmethod
    def under(padded: Array, rows: Window, columns: Window, r: int, s: int) -> Array:
        i, j = r * rows.dilation, s * columns.dilation
        return padded[i : i + rows.out * rows.stride : rows.stride, j : j + columns.out * columns.stride : columns.stride]

    def cropped(self, padded: Array, shape: tuple[int, ...]) -> Array:
        return np.ascontiguousarray(padded[self.pad.top : self.pad.top + shape[0], self.pad.left : self.pad.left + shape[1]])


GEOMETRIES = (
    ((1, 1), (1, 1), Pad(), (1, 1, 1)),
    ((2, 2), (2, 2), Pad(), (6, 4, 3)),
    ((2, 2), (2, 2), Pad(), (7, 5, 2)),
    ((3, 3), (2, 2), Pad(1, 1, 1, 1), (7, 6, 5)),
    ((3, 2), (1, 1), Pad(0, 0, 1, 1), (5, 4, 1)),
    ((2, 3), (3, 1), Pad(1, 0, 0, 2), (8, 5, 3)),
    ((2, 2), (3, 3), Pad(1, 0, 1, 1), (8, 7, 3)),
    ((2, 2), (2, 2), Pad(1, 1, 1, 1), (4, 6, 2)),
    ((5, 1), (2, 1), Pad(2, 0, 2, 0), (11, 1, 4)),
    ((7, 7), (7, 7), Pad(), (7, 7, 2)),
    ((17, 16), (1, 1), Pad(), (18, 17, 1)),
)
DILATED = (((2, 2), (1, 1), Pad(), (5, 6, 2), (2, 3)), ((3, 3), (2, 2), Pad(2, 1, 1, 2), (9, 8, 2), (2, 2)))
