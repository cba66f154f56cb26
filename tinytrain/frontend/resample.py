# SPDX-License-Identifier: Apache-2.0
"""Resampling along one axis as a table: row i of the result is Σ_t weight[i,t] · element index[i,t].

ONNX Resize: element i of M lies at x of L, as its coordinate transformation says; s = M/L, or the scale that is given:
    half_pixel (i + ½)/s − ½   asymmetric i/s   align_corners i·(L − 1)/(L·s − 1)   …
    nearest: x rounded;  linear, cubic: weights k((j − x)·r) of the neighbours j, k a triangle or the cubic of Keys (1981), r = min(s, 1)
    with antialias, else 1. What lies beyond an end is the end, or has no weight (`exclude_outside`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinytrain.ir.types import Array

NEAREST: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5), "round_prefer_ceil": lambda x: np.floor(x + 0.5), "floor": np.floor, "ceil": np.ceil,
}
REACH = {"linear": 1.0, "cubic": 2.0}
TRANSFORMS = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize"
)


@dataclass(frozen=True)
class Resampling:
    """How an axis is resampled; `roi` are start and end for tf_crop_and_resize, as parts of the axis."""

    mode: str = "nearest"
    transform: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False
    roi: tuple[float, float] = (0.0, 1.0)

    def rows(self, size: int, made: int, scale: float) -> tuple[Array, Array | None]:
        """(index, weight) of an axis of `size` that becomes `made`; index −1 for what lies outside of a crop."""
        x = self.coordinates(size, made, scale)
        outside = (x < 0) | (x > size - 1) if self.transform == "tf_crop_and_resize" else np.zeros(made, bool)
        if self.mode == "nearest":
            index = np.clip(NEAREST[self.nearest](x), 0, size - 1).astype(np.int64)
            return np.where(outside, -1, index), None
        reach = REACH[self.mode] / (ratio := min(scale, 1.0) if self.antialias else 1.0)
        near = np.floor(x[:, None] - reach).astype(np.int64) + np.arange(int(np.ceil(2 * reach)) + 2)
        weight = kernel(self.mode, self.cubic, (near - x[:, None]) * ratio)
        if self.exclude_outside:
            weight = np.where((near >= 0) & (near < size), weight, 0)
        weight /= weight.sum(1, keepdims=True)
        index, weight = gathered(np.clip(near, 0, size - 1), weight)
        return np.where(outside[:, None], -1, index), weight

    def coordinates(self, size: int, made: int, scale: float) -> Array:
        """Where each element of the result lies among those of the axis."""
        i, length = np.arange(made, dtype=np.float64), size * scale
        if self.transform == "asymmetric":
            return i / scale
        if self.transform == "tf_half_pixel_for_nn":
            return (i + 0.5) / scale
        if self.transform == "align_corners":
            return i * (size - 1) / (length - 1) if length != 1 else 0 * i
        if self.transform == "tf_crop_and_resize":
            start, end = self.roi
            return (size - 1) * (start + i * (end - start) / (length - 1) if length != 1 else 0 * i + (start + end) / 2)
        if self.transform == "pytorch_half_pixel" and made == 1:
            return 0 * i
        shift = size / 2 * (1 - made / length) if self.transform == "half_pixel_symmetric" else 0.0
        return shift + (i + 0.5) / scale - 0.5


def kernel(mode: str, a: float, t: Array) -> Array:
    """Weight of a neighbour at distance t."""
    t = np.abs(t)
    if mode == "linear":
        return np.asarray(np.maximum(1 - t, 0))
    inner = ((a + 2) * t - (a + 3)) * t * t + 1
    outer = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.asarray(np.where(t < 1, inner, np.where(t < 2, outer, 0)))


def gathered(index: Array, weight: Array) -> tuple[Array, Array]:
    """The same sums with each element once and without those of weight 0; short rows are filled with the weight 0."""
    rows = []
    for taps, factors in zip(index, weight, strict=True):
        found, where = np.unique(taps, return_inverse=True)
        total = np.bincount(where, factors, len(found))
        live = np.flatnonzero(np.abs(total) > 1e-9)
        live = live if len(live) else np.arange(1)
        rows.append((found[live], total[live]))
    taps = max(len(found) for found, _ in rows)
    filled = [(np.pad(found, (0, taps - len(found)), "edge"), np.pad(total, (0, taps - len(total)))) for found, total in rows]
    return np.array([found for found, _ in filled]), np.array([total for _, total in filled])
