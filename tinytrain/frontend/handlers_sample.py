# SPDX-License-Identifier: Apache-2.0
"""Handlers of ops that read a map between its pixels, at places known when compiling: of each result a few pixels and their weights."""

from __future__ import annotations

import itertools
import math

import numpy as np

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.layout import Dims, Tensor, plain
from tinytrain.frontend.resample import REACH, gathered, kernel
from tinytrain.frontend.taking import sampled, settled, taken
from tinytrain.ir.types import Array

MODES = {"linear": "linear", "bilinear": "linear", "cubic": "cubic", "bicubic": "cubic", "nearest": "nearest"}
PADDINGS = ("zeros", "border", "reflection")
MOST_EXTENT = 4096                                        # pixels
KEYS = -0.75                                              # of the cubic


@handles("GridSample")
def grid_sample(call: Call) -> Tensor:
    x, grid = call.tensor(), call.array(1, "grid").astype(np.float32)
    mode, padding = call.text("mode", "linear"), call.text("padding_mode", "zeros")
    if mode not in MODES or padding not in PADDINGS:
        message = f"its mode is {mode} and its padding {padding}, expected one of {', '.join(MODES)}, and of {', '.join(PADDINGS)}"
        raise call.fail(message, "Export it with these.")
    n, space = x.shape[0], x.shape[2:]
    aligned = bool(call.integer("align_corners"))
    points = grid.reshape(n, -1, len(space))[..., ::-1]
    axes = [_along(points[..., a], size, MODES[mode], padding, aligned) for a, size in enumerate(space)]
    return sampled(call, x, call.shape, *_pixels(axes, space, np.arange(n)[:, None]))


def _along(points: Array, size: int, mode: str, padding: str, aligned: bool) -> tuple[Array, Array]:
    """Of points between −1 and 1 along an axis: (neighbours, their weights), 0 of what is beyond an end and no pixel."""
    low, high = (0.0, size - 1.0) if aligned else (-0.5, size - 0.5)
    x = (points + 1) / 2 * (size - 1) if aligned else ((points + 1) * size - 1) / 2
    if mode == "nearest":
        x = np.rint(x)
    if padding == "border":
        x = np.where((x < low) | (x > high), np.clip(x, 0, size - 1), x)
    elif padding == "reflection":
        x = _reflected(x, low, high)
    reach = 0 if mode == "nearest" else int(REACH[mode])
    near = np.floor(x[..., None]).astype(np.int64) + (np.arange(1 - reach, 1 + reach) if reach else np.zeros(1, np.int64))
    weight = kernel(mode, KEYS, near - x[..., None]) if reach else np.ones(near.shape)
    if padding == "zeros":
        weight = np.where((near >= 0) & (near < size), weight, 0)
    elif padding == "reflection":
        near = _reflected(near.astype(np.float64), low, high).astype(np.int64)
    return np.clip(near, 0, size - 1), weight


def _reflected(x: Array, low: float, high: float) -> Array:
    """What is beyond an end, mirrored there, as often as it takes."""
    span = high - low
    if span == 0:
        return np.full_like(x, low)
    turned = np.mod(x - low, 2 * span)
    return np.where((x < low) | (x > high), low + np.minimum(turned, 2 * span - turned), x)


def _pixels(axes: list[tuple[Array, Array]], space: Dims, sample: Array) -> tuple[Array, Array]:
    """(index, weight), a row a result: pixels of all axes' neighbours, counted through the samples and space."""
    index: Array = sample[..., None]
    weight: Array = np.ones((1, 1, 1))
    for (near, factor), size in zip(axes, space, strict=True):
        index = (index[..., :, None] * size + near[..., None, :]).reshape(*near.shape[:-1], -1)
        weight = (weight[..., :, None] * factor[..., None, :]).reshape(index.shape)
    return gathered(index.reshape(-1, index.shape[-1]), weight.reshape(-1, weight.shape[-1]))


@handles("RoiAlign")
def roi_align(call: Call) -> Tensor:
    """Means over samples of each bin of each region."""
    x, rois, samples = call.tensor(), call.array(1, "rois"), call.array(2, "batch_indices").reshape(-1)
    mode, half = call.text("mode", "avg"), call.text("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    if mode != "avg":
        raise call.fail(f"its mode is {mode}, expected avg", "A maximum over samples between pixels is not supported.")
    sizes, space = (call.shape[2], call.shape[3]), x.shape[2:]
    extent = float(np.abs(rois).max(initial=0)) * abs(call.number("spatial_scale", 1.0))
    if 0 in call.shape or samples.min() < 0 or samples.max() >= x.shape[0] or extent > MOST_EXTENT:
        raise call.fail(
            f"its regions reach {extent:g} pixels far, in samples up to {samples.max(initial=0)} of {x.shape[0]}, for {call.shape}",
            "Correct the regions.",
        )
    rows: list[tuple[Array, Array]] = []
    for (left, top, right, bottom), sample in zip(rois.astype(np.float64) * call.number("spatial_scale", 1.0), samples, strict=True):
        ends = ((top, bottom), (left, right))
        axes = [_bins(np.array(ends[a]) - (0.5 if half else 0.0), sizes[a], space[a], call.integer("sampling_ratio"), half) for a in (0, 1)]
        for (y, wy), (across, wx) in itertools.product(zip(*axes[0], strict=True), zip(*axes[1], strict=True)):
            index = (int(sample) * space[0] + y[:, None]) * space[1] + across
            rows.append((index.reshape(-1), (wy[:, None] * wx).reshape(-1)))
    longest = max(len(index) for index, _ in rows)
    index, weight = (np.stack([np.pad(row[i], (0, longest - len(row[i]))) for row in rows]) for i in (0, 1))
    return sampled(call, x, call.shape, *gathered(index, weight))


def _bins(ends: Array, bins: int, size: int, ratio: int, half: bool) -> tuple[Array, Array]:
    """Of each bin between the ends: (pixels, their parts of its mean)."""
    extent = ends[1] - ends[0] if half else max(ends[1] - ends[0], 1.0)
    count = ratio if ratio > 0 else max(math.ceil(extent / bins), 1)
    x = ends[0] + (np.arange(bins * count) + 0.5) * extent / bins / count
    live = (x >= -1) & (x <= size)
    x = np.clip(x, 0, size - 1)
    low = np.floor(x).astype(np.int64)
    index = np.stack([low, np.minimum(low + 1, size - 1)], -1)
    weight = np.stack([1 - (x - low), x - low], -1) * live[:, None] / count
    return index.reshape(bins, -1), weight.reshape(bins, -1)


@handles("AffineGrid")
def affine_grid(call: Call) -> Tensor:
    """Points of a grid between −1 and 1, moved by a matrix: each is a sum of the elements of a row of it."""
    theta, size = call.tensor(), [int(n) for n in call.array(1, "size").reshape(-1)]
    n, space = size[0], size[2:]
    aligned = bool(call.integer("align_corners"))
    ends = [np.linspace(-1, 1, k) if aligned else (2 * np.arange(k) + 1) / k - 1 for k in space]
    points = np.stack([*(p.reshape(-1) for p in np.meshgrid(*ends, indexing="ij")[::-1]), np.ones(math.prod(space))], -1)
    rows, taps = len(space), len(space) + 1
    if theta.shape != (n, rows, taps):
        raise call.fail(f"its matrices are of shape {theta.shape}, expected {(n, rows, taps)}", "Correct its size.")
    # (sample, point, coordinate, tap)
    index = np.arange(n * rows * taps).reshape(n, 1, rows, taps) + np.zeros((1, len(points), 1, 1), np.int64)
    weight = np.broadcast_to(points[None, :, None], index.shape)
    flat = settled(call, call.view(theta, plain(theta.shape)), (n * rows * taps,), (0,))
    made = taken(call, flat, 0, index.reshape(-1, taps), weight.reshape(-1, taps))
    return settled(call, made.value, call.shape, plain(call.shape))
