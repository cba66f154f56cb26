# SPDX-License-Identifier: Apache-2.0
"""From observed numbers to scales: min-max, percentile, or the range of least squared error.

activation: real = s·(q − z), q in −128 … 127, with the range widened to hold 0, which is then exact
weight:     real = s_k·q,     q in −127 … 127, or −7 … 7 of four bits, one s_k for each output channel (or the same for all)

Squared error of a range [l, h] in steps of s = (h − l)/255: what lies inside is rounded, s²/12 each (exact zeros: none);
what lies outside costs its distance to the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tinytrain.ir.types import Array

Method = Literal["minmax", "percentile", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "mse")
BINS = 2048
LEAST_RANGE = 1e-12
MOST_BIAS = 2**30
MOST_WEIGHT = {8: 127, 4: 7}                             # by bits


@dataclass(frozen=True)
class Scale:
    """Of one int8 tensor: real = scale · (stored − zero_point)."""

    scale: np.float32
    zero_point: int
    dead: bool = False

    def quantise(self, real: Array) -> Array:
        """int8, as ONNX QuantizeLinear: half to even, saturating."""
        stored: Array = np.clip(np.rint(real / self.scale) + self.zero_point, -128, 127)
        return stored.astype(np.int8)

    def dequantise(self, stored: Array) -> Array:
        real: Array = (stored.astype(np.float32) - np.float32(self.zero_point)) * self.scale
        return real

    def rounded(self, real: Array) -> Array:
        """The reals that are left of `real` when it is stored."""
        return self.dequantise(self.quantise(real))


# of probabilities, whatever was seen of them
PROBABILITIES = Scale(np.float32(2**-8), -128)


@dataclass(eq=False)
class Observed:
    """What was seen of one tensor: ends, greatest magnitude by channel (last axis), and, if asked for, a histogram without exact zeros."""

    low: float = np.inf
    high: float = -np.inf
    channels: Array | None = None
    counts: Array | None = None
    zeros: int = 0

    def see_ends(self, x: Array) -> None:
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))
        greatest = np.abs(x).reshape(-1, x.shape[-1]).max(axis=0)
        self.channels = greatest if self.channels is None else np.maximum(self.channels, greatest)

    def see_counts(self, x: Array) -> None:
        if self.counts is None:
            self.counts = np.zeros(BINS, np.int64)
        flat = x.reshape(-1)
        some = flat[flat != 0]
        self.zeros += flat.size - some.size
        self.counts += np.histogram(some, BINS, (self.low, self.high) if self.low < self.high else (self.low - 1, self.high + 1))[0]

    @property
    def centres(self) -> Array:
        edges = np.linspace(self.low, self.high, BINS + 1)
        middles: Array = (edges[1:] + edges[:-1]) / 2
        return middles


def activation_scale(seen: Observed, method: Method, percentile: float, bounds: tuple[float, float] = (-np.inf, np.inf)) -> Scale:
    """A tensor that never was anything but 0 gets scale 1, or less between `bounds` (those of its Relu or Clip), and is marked dead."""
    low, high = _ends(seen, method, percentile)
    low, high = min(low, 0.0), max(high, 0.0)
    dead = high - low < LEAST_RANGE
    if dead:
        low = max(bounds[0], -128.0)
        high = min(bounds[1], low + 255)
    scale = np.float32((high - low) / 255)
    return Scale(scale, int(np.clip(np.rint(-128 - low / float(scale)), -128, 127)), dead)


def _ends(seen: Observed, method: Method, percentile: float) -> tuple[float, float]:
    if method == "minmax" or seen.high - seen.low < LEAST_RANGE:
        return seen.low, seen.high
    assert seen.counts is not None
    return _percentile(seen, percentile) if method == "percentile" else _least_error(seen)


def _percentile(seen: Observed, percentile: float) -> tuple[float, float]:
    """Cuts (100 − percentile) % of all elements off each side."""
    assert seen.counts is not None
    counts, centres = seen.counts.astype(np.float64), seen.centres
    if seen.zeros and seen.low <= 0 <= seen.high:
        counts[int(np.abs(centres).argmin())] += seen.zeros
    part = np.cumsum(counts) / counts.sum()
    cut = 1 - percentile / 100
    edges = np.linspace(seen.low, seen.high, BINS + 1)
    return float(edges[int(np.searchsorted(part, cut, side="right"))]), float(edges[min(BINS, int(np.searchsorted(part, 1 - cut)) + 1)])


def _least_error(seen: Observed, steps: int = 100) -> tuple[float, float]:
    """Each end in turn over a grid of fractions of what was seen, until neither moves."""
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    grid = np.linspace(0.02, 1, steps)
    best = (low, high)
    for _ in range(4):
        before = best
        if high > 0:
            best = min(((best[0], high * f) for f in grid), key=lambda ends: _error(seen, *ends))
        if low < 0:
            best = min(((low * f, best[1]) for f in grid), key=lambda ends: _error(seen, *ends))
        if best == before:
            break
    return best


def _error(seen: Observed, low: float, high: float) -> float:
    assert seen.counts is not None
    centres = seen.centres
    outside = np.maximum(low - centres, 0) + np.maximum(centres - high, 0)
    inside = seen.counts[outside == 0].sum()
    return float((seen.counts * outside**2).sum() + inside * ((high - low) / 255) ** 2 / 12)


def weight_scales(rows: Array, method: Method, per_tensor: bool, bits: int = 8) -> Array:
    """(N, F) -> float32 (N,). A row of zeros takes the mean scale of the others, or 1 where all are zero.

    Four bits are too few for the ends of a range: they always take the least squared error.
    """
    most = MOST_WEIGHT[bits]
    whole = rows.reshape(1, -1) if per_tensor else rows
    greatest = np.abs(whole).max(axis=1).astype(np.float64)
    if method == "mse" or bits < 8:
        greatest = _best_clip(whole, greatest, most)
    alive = greatest >= LEAST_RANGE
    scales = np.where(alive, greatest, greatest[alive].mean() if alive.any() else most) / most
    return np.broadcast_to(scales.astype(np.float32), (len(rows),)).copy()


def _best_clip(rows: Array, greatest: Array, most: int) -> Array:
    """By row, the end of the range with the least squared error, of fractions of the greatest magnitude."""
    best, least = greatest.copy(), np.full(len(rows), np.inf)
    for fraction in np.linspace(0.4, 1, 61):
        step = np.maximum(greatest * fraction / most, LEAST_RANGE)[:, None]
        error = ((np.clip(np.rint(rows / step), -most, most) * step - rows) ** 2).sum(axis=1)
        better = error < least
        best[better], least[better] = (greatest * fraction)[better], error[better]
    return best


def raised_for_bias(scales: Array, bias: Array, input_scale: float) -> tuple[Array, Array]:
    """(scales, which rows were raised) such that bias / (s_x·s_w) stays within ±2^30: it shares an int32 with the sum of products."""
    needed = np.abs(bias.astype(np.float64)) / (input_scale * MOST_BIAS)
    raised = needed > scales
    return np.where(raised, np.nextafter(needed.astype(np.float32), np.float32(np.inf)), scales).astype(np.float32), raised


def nearest(rows: Array, scales: Array, bits: int = 8) -> Array:
    """int8 (N, F)"""
    return np.clip(np.rint(rows / scales[:, None]), -MOST_WEIGHT[bits], MOST_WEIGHT[bits]).astype(np.int8)
