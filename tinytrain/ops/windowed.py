# SPDX-License-Identifier: Apache-2.0
"""What convolutions share: padding, and a window that moves over the rows and columns of a feature map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tinytrain.ir.op import Cost, Fusable
from tinytrain.ir.types import Array, TensorType
from tinytrain.ops.geometry import Axis, Geometry, Pair


@dataclass(frozen=True)
class Pad:
    """Rows and columns of zeros around a feature map."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0


def out_size(size: int, kernel: int, stride: int, dilation: int, pads: int) -> int:
    """Positions of a window along one axis that has `pads` elements of padding in all; ValueError where there is none."""
    if min(size, kernel, stride, dilation) < 1 or pads < 0:
        raise ValueError(f"size {size}, kernel {kernel}, stride {stride} and dilation {dilation} must be positive, pads not negative")
    extent = (kernel - 1) * dilation + 1
    if size + pads < extent:
        raise ValueError(f"a window of {extent} elements does not fit into {size} with {pads} of padding")
    return (size + pads - extent) // stride + 1


@dataclass(frozen=True)
class Windowed(Fusable):
    """What the convolutions share: a window that moves over the rows and columns of a feature map."""

    stride: Pair = (1, 1)
    pad: Pad = Pad()
    dilation: Pair = (1, 1)
    zero_point: int = field(default=0, kw_only=True)      # of x, if it is int8

    def axes(self, x: Sequence[int], kernel: Sequence[int]) -> tuple[Axis, Axis]:
        """Rows and columns, for a map (H, W, C) and a kernel (R, S)."""
        if len(x) != 3:
            raise ValueError(f"x {tuple(x)}: expected (H, W, C)")
        pads = ((self.pad.top, self.pad.bottom), (self.pad.left, self.pad.right))
        if min(min(p) for p in pads) < 0:
            raise ValueError(f"{self.pad}: negative padding")
        rows, cols = (
            Axis(size, taps, out_size(size, taps, stride, dilation, sum(p)), stride, dilation, p[0])
            for size, taps, stride, dilation, p in zip(x[:2], kernel, self.stride, self.dilation, pads, strict=True)
        )
        return rows, cols

    def padded(self, x: Array) -> Array:
        return np.pad(x, ((self.pad.top, self.pad.bottom), (self.pad.left, self.pad.right), (0, 0)))

    def cropped(self, padded: Array, x: Sequence[int]) -> Array:
        """The inverse of `padded`, for a map of shape x."""
        return padded[self.pad.top : self.pad.top + x[0], self.pad.left : self.pad.left + x[1]]

    def geometry(self, *types: TensorType) -> Geometry:
        """Of the op without its epilogue; ValueError where the inputs do not fit."""
        raise NotImplementedError(self.name)

    def against(self, dy: TensorType, g: Geometry) -> Geometry:
        """g, if dy is a gradient of its result."""
        if dy.shape != (g.rows.positions, g.cols.positions, g.K):
            raise ValueError(f"dy {dy.shape}: expected {(g.rows.positions, g.cols.positions, g.K)}")
        return g

    def cost(self, *types: TensorType) -> Cost:
        return Cost(macs=self.geometry(*types).macs)
