# SPDX-License-Identifier: Apache-2.0
"""The linear layers of the IR as matrices: y[p, g, n] = Σ_f patches[p, g, f] · rows[g, n, f], for g of G groups.

Conv2d with G groups: N = K/G rows of F = R·S·C/G; depthwise: G = C groups of one row of R·S; dense: one group of N rows.
"""

from __future__ import annotations

import numpy as np

from tinytrain.ir.op import Op
from tinytrain.ir.types import Array
from tinytrain.ops.conv import Conv2d
from tinytrain.ops.dense import Dense
from tinytrain.ops.depthwise import DepthwiseConv2d

LINEAR_OPS = (Conv2d, DepthwiseConv2d, Dense)


def to_rows(op: Op, w: Array) -> Array:
    """The weight of a layer as (G, N, F)."""
    if isinstance(op, Conv2d):
        return w.reshape(op.group, w.shape[0] // op.group, -1)
    if isinstance(op, DepthwiseConv2d):
        return w.reshape(-1, w.shape[2]).T[:, None, :]
    return w[None]


def from_rows(op: Op, rows: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `to_rows`, for a weight of `shape`."""
    return np.ascontiguousarray(rows[:, 0].T if isinstance(op, DepthwiseConv2d) else rows).reshape(shape)


def patches(op: Op, x: Array, w: tuple[int, ...]) -> Array:
    """What the outputs of one sample are made of: (G, P, F), for a weight of shape w."""
    if not isinstance(op, Conv2d | DepthwiseConv2d):
        return x.reshape(1, -1, w[1])
    geometry = op.of(x.shape, w)
    taps = np.stack([patch for _, _, patch in geometry.patches(op.padded(x))], axis=2)
    positions = taps.shape[0] * taps.shape[1]
    grouped = taps.reshape(positions, taps.shape[2], geometry.group, -1)
    return grouped.transpose(2, 0, 1, 3).reshape(geometry.group, positions, -1)


def grouped_outputs(y: Array, groups: int) -> Array:
    """The output of one sample as (G, P, N)."""
    return y.reshape(-1, groups, y.shape[-1] // groups).transpose(1, 0, 2)
