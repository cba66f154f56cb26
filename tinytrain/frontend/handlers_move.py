# SPDX-License-Identifier: Apache-2.0
"""Handlers of ops that take elements along one axis after the other, at places known when compiling."""

from __future__ import annotations

import math

import numpy as np

from tinytrain.frontend.call import Call, Made, handles
from tinytrain.frontend.handlers_shape import pad_axes
from tinytrain.frontend.layout import Dims, Tensor, channels_last, plain
from tinytrain.frontend.taking import kept_axes, rearranged, regrouped, reshaped, settled, taken
from tinytrain.ir.types import Array
from tinytrain.ops.elementwise import Broadcast
from tinytrain.ops.integers import Within
from tinytrain.ops.take import Take


def wrapped(call: Call, index: Array, size: int) -> Array:
    """Indices counted from the front; an error for one that is beyond an end."""
    if index.size == 0:
        raise call.fail("it takes no elements, expected one or more", "Leave out what an empty tensor is made for.")
    if index.min() < -size or index.max() >= size:
        raise call.fail(f"its indices run from {index.min()} to {index.max()} on an axis of {size}", "Correct the indices.")
    return np.where(index < 0, index + size, index)


def axis_of(call: Call, default: int, rank: int) -> int:
    """The attribute `axis`, counted from the front."""
    axis = call.integer("axis", default)
    if not -rank <= axis < rank:
        raise call.fail(f"its axis is {axis} for {rank} axes", "Export the model again.")
    return axis % rank


@handles("Gather")
def gather(call: Call) -> Tensor:
    """By a constant index, or by one that is computed: rows of a table that can be trained (an embedding)."""
    shape = call.operand_shape(0)
    axis = axis_of(call, 0, len(shape))
    if call.is_const(1):
        places = wrapped(call, call.array(1, "indices"), shape[axis])
        return regrouped(call, taken(call, call.tensor(), axis, places.reshape(-1)), axis, tuple(places.shape))
    data, index = call.tensor(), call.tensor(1, integers=True)
    rows = call.emit(Within(shape[axis]), call.view(index, plain(index.shape), (math.prod(index.shape), 1)), part="index")
    made = call.emit(Take(axis), call.view(data, plain(shape), shape), rows)
    return settled(call, made, call.shape, plain(call.shape))


@handles("Slice")
def slice_(call: Call) -> Tensor:
    x = call.tensor()
    starts, ends = (call.array(i, what).reshape(-1) for i, what in ((1, "starts"), (2, "ends")))
    axes = call.array(3, "axes").reshape(-1) if call.has(3) else np.arange(len(starts))
    steps = call.array(4, "steps").reshape(-1) if call.has(4) else np.ones(len(starts), np.int64)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = int(axis) % len(x.shape)
        x = taken(call, x, at, np.arange(x.shape[at])[int(start) : int(end) : int(step)])
    return x


@handles("Split")
def split(call: Call) -> Made:
    x = call.tensor()
    axis = axis_of(call, 0, len(x.shape))
    made: list[Tensor | None] = []
    start = 0
    for number in range(len(call.node.output)):
        size = call.output_shape(number)[axis]
        rows = np.arange(start, start + size)
        made.append(taken(call, x, axis, rows) if call.wants(number) else None)
        start += size
    return tuple(made)


@handles("Compress")
def compress(call: Call) -> Tensor:
    x = call.tensor()
    rows = np.flatnonzero(call.array(1, "condition"))
    if "axis" in call.attributes:
        axis = axis_of(call, 0, len(x.shape))
        return taken(call, x, axis, wrapped(call, rows, x.shape[axis]))
    return rearranged(call, x, wrapped(call, rows, math.prod(x.shape)))


@handles("ReverseSequence")
def reverse_sequence(call: Call) -> Tensor:
    x, lengths = call.tensor(), call.array(1, "sequence_lens").reshape(-1)
    time, batch = call.integer("time_axis"), call.integer("batch_axis", 1)
    if {time, batch} != {0, 1} or len(lengths) != x.shape[batch] or lengths.min() < 0 or lengths.max() > x.shape[time]:
        raise call.fail(
            f"it turns {lengths.tolist()} elements along axis {time} of {x.shape}, of each index of axis {batch}", "Correct its lengths."
        )
    turned = [np.r_[np.arange(n)[::-1], np.arange(n, x.shape[time])] for n in lengths]
    if all(np.array_equal(rows, turned[0]) for rows in turned):
        return taken(call, x, time, turned[0])
    source = np.moveaxis(np.arange(math.prod(x.shape)).reshape(x.shape), (batch, time), (0, 1))
    source = np.stack([sequence[rows] for sequence, rows in zip(source, turned, strict=True)])
    return rearranged(call, x, np.moveaxis(source, (0, 1), (batch, time)))


@handles("CenterCropPad")
def center_crop_pad(call: Call) -> Tensor:
    """Half of what is too much or too little on each side, the odd one behind."""
    x, target = call.tensor(), call.array(1, "shape").reshape(-1)
    axes = [a % len(x.shape) for a in call.integers("axes", plain(x.shape))]
    missing = {a: int(size) - x.shape[a] for a, size in zip(axes, target, strict=True)}
    # of an odd crop the part in front is the smaller one too
    pads = {a: (n // 2, n - n // 2) if n > 0 else (-(-n // 2), n + -n // 2) for a, n in missing.items()}
    return pad_axes(call, x, pads, "constant", 0.0)


@handles("Tile")
def tile(call: Call) -> Tensor:
    x, repeats = call.tensor(), [int(n) for n in call.array(1, "repeats").reshape(-1)]
    if 0 in repeats:
        raise call.fail("it repeats an axis 0 times, expected once or more", "Leave out what an empty tensor is made for.")
    axes = kept_axes(x, *(a for a, n in enumerate(repeats) if n > 1))
    small = tuple(size for a in axes for size in ((1, x.shape[a]) if repeats[a] > 1 else (x.shape[a],)))
    full = tuple(size for a in axes for size in ((repeats[a], x.shape[a]) if repeats[a] > 1 else (x.shape[a],)))
    return _repeated(call, x, small, full, call.shape)


@handles("Expand")
def expand(call: Call) -> Tensor:
    x, full = call.tensor(), call.shape
    x = reshaped(call, x, (1,) * (len(full) - len(x.shape)) + x.shape)
    return _repeated(call, x, tuple(x.shape[a] for a in x.order), tuple(full[a] for a in x.order), full)


def _repeated(call: Call, x: Tensor, small: Dims, full: Dims, shape: Dims) -> Tensor:
    if small == full:
        return x
    return settled(call, call.emit(Broadcast(full), call.view(x, x.order, small)), shape, x.order)


@handles("DepthToSpace", "SpaceToDepth")
def blocks(call: Call) -> Tensor:
    """Channels ↔ blocks of b x b pixels; of the channels, those of a block change slowest (DCR), or fastest (CRD)."""
    x, b, slowest = call.tensor(), call.integer("blocksize"), call.text("mode", "DCR") == "DCR"
    n, c, h, w = x.shape
    if c % (b * b) if call.op == "DepthToSpace" else h % b + w % b:
        raise call.fail(f"its blocks of {b}x{b} do not divide {x.shape}", "Choose a blocksize that does.")
    if call.op == "DepthToSpace":
        parts = (n, b, b, c // b // b, h, w) if slowest else (n, c // b // b, b, b, h, w)
        order = (0, 4, 1, 5, 2, 3) if slowest else (0, 4, 2, 5, 3, 1)
    else:
        parts = (n, c, h // b, b, w // b, b)
        order = (0, 2, 4, 3, 5, 1) if slowest else (0, 2, 4, 1, 3, 5)
    return settled(call, call.view(reshaped(call, x, parts), order), call.shape, channels_last(call.shape))
