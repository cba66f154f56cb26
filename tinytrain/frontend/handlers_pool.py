# SPDX-License-Identifier: Apache-2.0
"""Handlers of pools and of means over axes."""

from __future__ import annotations

import math

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.handlers_reduce import left_order, reduced, reduced_axes
from tinytrain.frontend.layout import Dims, Tensor, lasting
from tinytrain.frontend.window import Window, feature_map
from tinytrain.ir.types import Value
from tinytrain.ops.elementwise import Scale, SumTo
from tinytrain.ops.pool import AveragePool, GlobalAveragePool, MaxPool
from tinytrain.ops.windowed import Pad


def _zero_point(x: Value) -> int | None:
    """What a mean subtracts from integers."""
    return x.type.quant.zero_point if x.type.quant else None


@handles("MaxPool")
def max_pool(call: Call) -> Tensor:
    x, order = feature_map(call)
    window = Window.of(call, call.integers("kernel_shape", ()))
    y = call.emit(MaxPool(window.kernel, window.stride, window.pad, window.dilation), x)
    return Tensor(y, call.shape, order)


@handles("GlobalMaxPool")
def global_max_pool(call: Call) -> Tensor:
    x, order = feature_map(call)
    kernel = (x.shape[0], x.shape[1])
    return Tensor(call.emit(MaxPool(kernel, kernel, Pad()), x), call.shape, order)


@handles("AveragePool")
def average_pool(call: Call) -> Tensor:
    x, order = feature_map(call)
    window = Window.of(call, call.integers("kernel_shape", ()))
    if window.dilation != (1, 1):
        raise call.fail(f"its dilation is {window.dilation}, expected 1", "Replace it by a depthwise convolution.")
    counted = bool(call.integer("count_include_pad"))
    if counted and call.integer("ceil_mode") and window.pad != Pad():
        raise call.fail("it has both ceil_mode and count_include_pad, expected at most one of them", "Export it with ceil_mode = 0.")
    if window.kernel == x.shape[:2] and window.pad == Pad():
        return Tensor(call.emit(GlobalAveragePool(_zero_point(x)), x), call.shape, order)
    return Tensor(call.emit(AveragePool(window.kernel, window.stride, window.pad, counted, _zero_point(x)), x), call.shape, order)


@handles("GlobalAveragePool")
def global_average_pool(call: Call) -> Tensor:
    x, order = feature_map(call)
    return Tensor(call.emit(GlobalAveragePool(_zero_point(x)), x), call.shape, order)


@handles("ReduceMean")
def reduce_mean(call: Call) -> Tensor:
    """Over axes that lie in front, as those of space do, it is a global average pool; of floats over others a sum times 1/n."""
    x = call.tensor()
    over = reduced_axes(call, len(x.shape))
    if over is None:
        return x
    first, rest = [a for a in x.order if a in over], [a for a in x.order if a not in over]
    order = (*first, *rest)
    if x.value.type.quant is None and lasting(x.shape, order) != lasting(x.shape, x.order):
        return reduced(call, x, over, (), SumTo, (Scale(1 / math.prod(x.shape[a] for a in first)),))
    y = call.emit(GlobalAveragePool(_zero_point(x.value)), call.view(x, order, _as_map(x.shape, first, rest)))
    return Tensor(y, call.shape, left_order(call, order, over))


def _as_map(shape: Dims, first: list[int], rest: list[int]) -> Dims:
    """(H, W, C) with the means over H and W; two axes that really are rows and columns stay apart."""
    space = [shape[a] for a in first if a != 0 or shape[0] != 1]
    rows, columns = (space[0], space[1]) if len(space) == 2 else (math.prod(space), 1)
    return (rows, columns, math.prod(shape[a] for a in rest))
