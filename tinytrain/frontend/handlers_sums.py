# SPDX-License-Identifier: Apache-2.0
"""Sums over a window that moves along one axis: a convolution of rows, of one channel, with weights that nobody learned."""

from __future__ import annotations

import numpy as np

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.layout import Dims, Tensor
from tinytrain.ir.types import Array, Value
from tinytrain.ops.conv import Conv2d
from tinytrain.ops.elementwise import Add, Mul
from tinytrain.ops.power import Power
from tinytrain.ops.windowed import Pad


def _rows(call: Call, x: Tensor, axis: int) -> tuple[Value, Dims]:
    """The operand as a map of its rows along the axis, with one channel; the order of its axes."""
    order = (*(a for a in range(len(x.shape)) if a != axis), axis)
    size = x.shape[axis]
    return call.view(x, order, (int(np.prod(x.shape)) // size, size, 1)), order


def _moving(call: Call, rows: Value, weights: Array, before: int) -> Value:
    """Σ w[i]·x[at − before + i] at each place of a row; beyond its ends there are zeros."""
    taps = call.model.graph.const(f"{call.result}_window", weights.astype(np.float32).reshape(1, 1, -1, 1))
    return call.emit(Conv2d(pad=Pad(0, before, 0, weights.size - 1 - before)), rows, taps, part="sum")


@handles("LRN")
def local_response(call: Call) -> Tensor:
    """x/(bias + α/size·Σ x²)^β, the sum over `size` channels around each."""
    x, size, beta = call.tensor(), call.integer("size"), call.number("beta", 0.75)
    if size < 1:
        raise call.fail(f"its size is {size}, expected 1 or more", "Check its attributes.")
    rows, order = _rows(call, x, 1)
    weights = np.full(size, call.number("alpha", 1e-4) / size)
    near = _moving(call, call.emit(Mul(), rows, rows, part="squares"), weights, (size - 1) // 2)
    bias = call.model.graph.const(f"{call.result}_bias", np.full(1, call.number("bias", 1.0), np.float32))
    factor = call.emit(Power(-beta), call.emit(Add(), near, bias, part="sum"), part="factor")
    return Tensor(call.emit(Mul(), rows, factor), x.shape, order)


@handles("CumSum")
def running_sum(call: Call) -> Tensor:
    x = call.tensor()
    rank = len(x.shape)
    axis = int(call.scalar(1, "axis", 0))
    if not -rank <= axis < rank:
        raise call.fail(f"its axis is {axis} for {rank} axes, expected one of them", "Check its axis.")
    rows, order = _rows(call, x, axis % rank)
    weights = np.ones(rows.shape[1])
    back = bool(call.integer("reverse"))
    if call.integer("exclusive"):
        weights[0 if back else -1] = 0
    return Tensor(_moving(call, rows, weights, 0 if back else weights.size - 1), x.shape, order)
