# SPDX-License-Identifier: Apache-2.0
"""Handlers of pools and of means over axes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.handlers_reduce import left_order, reduced, reduced_axes
from tinytrain.frontend.layout import Dims, Tensor, lasting
from tinytrain.frontend.window import Window, over_maps
from tinytrain.ir.types import Value
from tinytrain.ops.curve import Abs, Exp, Log, Sqrt
from tinytrain.ops.elementwise import Add, Mul, Scale, SumTo
from tinytrain.ops.pool import AveragePool, GlobalAveragePool, MaxPool
from tinytrain.ops.shape import Pad as Around
from tinytrain.ops.shape import Reshape
from tinytrain.ops.windowed import Pad


def _zero_point(x: Value) -> int | None:
    """What a mean subtracts from integers."""
    return x.type.quant.zero_point if x.type.quant else None


def _over_windows(call: Call, pool: Callable[[Value, Window], Value]) -> Tensor:
    """A pool over the windows of each map; one over three axes is one over the first two, and then over the third, of all maps at once."""
    kernel, x = call.integers("kernel_shape", ()), call.tensor()
    if len(x.shape) != 5:
        window = Window.of(call, kernel)
        return over_maps(call, lambda one: pool(one, window))
    first, last = Window.of(call, kernel, slice(0, 2), 3), Window.of(call, kernel, slice(2, 3), 3).turned
    depth, height, width, channels = (*x.shape[2:], x.shape[0] * x.shape[1])
    order = (2, 3, 4, 0, 1)
    y = pool(call.view(x, order, (depth, height, width * channels)), first)
    y = call.emit(Reshape((y.type.numel // (width * channels), width, channels)), y, part="lines")
    return Tensor(pool(y, last), call.shape, order)


@handles("MaxPool")
def max_pool(call: Call) -> Tensor:
    return _over_windows(call, lambda x, window: call.emit(MaxPool(window.kernel, window.stride, window.pad, window.dilation), x))


@handles("GlobalMaxPool")
def global_max_pool(call: Call) -> Tensor:
    def layer(x: Value) -> Value:
        kernel = (x.shape[0], x.shape[1])
        return call.emit(MaxPool(kernel, kernel, Pad()), x)

    return over_maps(call, layer, 3)


@handles("AveragePool")
def average_pool(call: Call) -> Tensor:
    def pool(x: Value, window: Window) -> Value:
        pad, counted = window.pad, bool(call.integer("count_include_pad"))
        if counted and window.beyond != (0, 0):
            # the padding counts, what windows reach behind it does not: it is made elements of the map
            with call.fitting():
                AveragePool(window.kernel, window.stride, pad, dilation=window.dilation).windows(x.shape)
            bottom, right = window.beyond
            around = Around((pad.top, pad.left, 0), (pad.bottom - bottom, pad.right - right, 0), _zero_point(x) or 0)
            x, pad, counted = call.emit(around, x, part="padded"), Pad(0, 0, bottom, right), False
        if window.kernel == x.shape[:2] and pad == Pad():
            return call.emit(GlobalAveragePool(_zero_point(x)), x)
        return call.emit(AveragePool(window.kernel, window.stride, pad, counted, _zero_point(x), window.dilation), x)

    return _over_windows(call, pool)


@handles("GlobalAveragePool")
def global_average_pool(call: Call) -> Tensor:
    return over_maps(call, lambda x: call.emit(GlobalAveragePool(_zero_point(x)), x), 3)


@handles("LpPool", "GlobalLpPool")
def lp_pool(call: Call) -> Tensor:
    """(Σ |x|^p)^(1/p), the sum as a mean of which padding is a part."""
    p = call.integer("p", 2)
    if p < 1:
        raise call.fail(f"its p is {p}, expected 1 or more", "Check p.")

    def pool(x: Value, window: Window) -> Value:
        power = square = call.emit(Mul(), x, x, part="square")
        if p % 2:
            power = call.emit(Abs(), x, part="size")
        for _ in range((p - 1) // 2):
            power = call.emit(Mul(), power, square, part="power")
        mean = call.emit(AveragePool(window.kernel, window.stride, window.pad, True, None, window.dilation), power, part="mean")
        return _root(call, call.emit(Scale(float(window.kernel[0] * window.kernel[1])), mean, part="sum"), p)

    if call.op == "LpPool":
        return _over_windows(call, pool)
    return over_maps(call, lambda x: pool(x, Window((x.shape[0], x.shape[1]), (1, 1), Pad(), (1, 1))), 3)


def _root(call: Call, x: Value, p: int) -> Value:
    """x^(1/p) of x ≥ 0, to which the smallest normal number is added: so its slope at 0 is finite, and a window of zeros learns nothing."""
    if p == 1:
        return x
    least = call.model.graph.const(f"{call.result}_least", np.array([np.finfo(np.float32).tiny], np.float32))
    x = call.emit(Add(), x, least, part="positive")
    while p % 2 == 0:
        x, p = call.emit(Sqrt(), x, part="root"), p // 2
    return x if p == 1 else call.emit(Exp(), call.emit(Scale(1 / p), call.emit(Log(), x, part="log"), part="share"))


@handles("ReduceMean")
def reduce_mean(call: Call) -> Tensor:
    """Over axes that lie in front, as those of space do, it is a global average pool; of floats over others a sum times 1/n."""
    x = call.tensor()
    over = reduced_axes(call, len(x.shape))
    if not over:
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
