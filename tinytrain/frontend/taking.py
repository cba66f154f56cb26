# SPDX-License-Identifier: Apache-2.0
"""Tensors whose elements move, or are mixed, by tables that are known when compiling: along one axis, or all over."""

from __future__ import annotations

import math

import numpy as np

from tinytrain.frontend.call import Call
from tinytrain.frontend.layout import Dims, Tensor, channels_last, plain, reshaped_order
from tinytrain.ir.types import Array, Value
from tinytrain.ops.shape import Slice
from tinytrain.ops.take import Take, table


def settled(call: Call, value: Value, shape: Dims, order: Dims) -> Tensor:
    """The tensor that a value holds, in the shape that all handlers expect of it."""
    return Tensor(call.view(Tensor(value, shape, order), order), shape, order)


def reshaped(call: Call, x: Tensor, shape: Dims) -> Tensor:
    """The same elements under another ONNX shape; data move only if axes are merged that do not lie next to each other."""
    order = reshaped_order(x.shape, x.order, shape)
    if order is not None:
        return Tensor(x.value, shape, order)
    return Tensor(call.view(x, plain(x.shape)), shape, plain(shape))


def kept_axes(x: Tensor, *also: int) -> Dims:
    """The axes in memory order, the batch of one among them only where an op minds it."""
    return tuple(a for a in x.order if a != 0 or x.shape[0] != 1 or 0 in also or len(x.shape) == 1)


def taken(call: Call, x: Tensor, axis: int, rows: Array, weight: Array | None = None) -> Tensor:
    """x with an ONNX axis made anew: its element i is element rows[i] (−1: zero), or the sum of several of a row times their weights."""
    if rows.size == 0:
        raise call.fail("it leaves no elements, expected one or more", "Leave out what an empty tensor is made for.")
    if rows.max() >= x.shape[axis] or rows.min() < -1:
        raise call.fail(f"it reads element {rows.max()} of an axis of {x.shape[axis]}", "Correct the indices.")
    taps = rows.reshape(len(rows), -1)
    if weight is not None and taps.shape[1] == 1 and np.isin(weight, (0, 1)).all():
        rows, weight = np.where(weight, taps, -1), None
        taps = rows
    single = taps.shape[1] == 1 and weight is None
    size, first = x.shape[axis], int(rows.flat[0])
    if single and np.array_equal(rows.reshape(-1), np.arange(size)):
        return x
    axes = kept_axes(x, axis)
    value, at = call.view(x, x.order, tuple(x.shape[a] for a in axes)), axes.index(axis)
    if single and first >= 0 and np.array_equal(rows.reshape(-1), np.arange(first, first + len(rows))):
        made = call.emit(Slice(at, first, first + len(rows)), value)
    else:
        made = call.emit(Take(at, weight is not None, bool((taps < 0).any())), value, *stored(call, taps, weight))
    return settled(call, made, (*x.shape[:axis], len(rows), *x.shape[axis + 1 :]), x.order)


def stored(call: Call, taps: Array, weight: Array | None = None) -> tuple[Value, ...]:
    """The table of a Take or Scatter as constants."""
    graph = call.model.graph
    index = graph.const(f"{call.result}_index", table(taps))
    return (index,) if weight is None else (index, graph.const(f"{call.result}_weight", weight.astype(np.float32)))


def rearranged(call: Call, x: Tensor, source: Array) -> Tensor:
    """A tensor of the shape of `source`, whose numbers count the elements of x in ONNX order; −1: zero."""
    shape = tuple(source.shape)
    places = np.append(positions(x), -1)[source]          # −1 picks the last
    order = x.order if len(shape) == len(x.shape) else plain(shape)
    flat = Tensor(call.view(x, x.order, (math.prod(x.shape),)), (math.prod(x.shape),), (0,))
    made = taken(call, flat, 0, places.transpose(order).reshape(-1))
    return settled(call, made.value, shape, order)


def positions(x: Tensor) -> Array:
    """Where in memory each element lies, in ONNX order."""
    shape = tuple(x.shape[a] for a in x.order)
    return np.arange(math.prod(shape)).reshape(shape).transpose(np.argsort(x.order).astype(int)).reshape(-1)


def sampled(call: Call, x: Tensor, shape: Dims, taps: Array, weight: Array | None) -> Tensor:
    """A map (N, C, …) of which pixel i, counted through N and space, is a sum of pixels of x (N, C, …), counted alike, of each channel."""
    order = channels_last(x.shape)
    pixels = Tensor(call.view(x, order), (math.prod(x.shape) // x.shape[1], x.shape[1]), (0, 1))
    pixels = settled(call, pixels.value, pixels.shape, (0, 1))
    made = taken(call, pixels, 0, taps, weight)
    return settled(call, made.value, shape, channels_last(shape))


def regrouped(call: Call, x: Tensor, axis: int, into: Dims) -> Tensor:
    """The axis split into others, or, where there are none, left out."""
    extra = len(into) - 1
    shape = (*x.shape[:axis], *into, *x.shape[axis + 1 :])
    order: list[int] = []
    for a in x.order:
        order += range(axis, axis + len(into)) if a == axis else [a if a < axis else a + extra]
    return settled(call, x.value, shape, tuple(order))
