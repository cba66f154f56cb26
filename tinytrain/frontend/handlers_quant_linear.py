# SPDX-License-Identifier: Apache-2.0
"""Handlers of layers with integer weights: int32 accumulators at scale s_x·s_w[k], which the QuantizeLinear behind them requantises.

A layer whose operands are no int8 with one zero point declines, and is computed in fp32.
"""

from __future__ import annotations

import dataclasses
import math

from tinytrain.frontend.call import Call, on_integers
from tinytrain.frontend.handlers_product import multiplied
from tinytrain.frontend.layout import Dims, Tensor, lasting
from tinytrain.frontend.quantised import bias, check_sums, target, weight
from tinytrain.frontend.window import Window, feature_map, weight_shape
from tinytrain.ir.op import Op
from tinytrain.ir.types import S8, S32, Value
from tinytrain.ops.conv import Conv2d
from tinytrain.ops.dense import Dense
from tinytrain.ops.depthwise import DepthwiseConv2d
from tinytrain.ops.elementwise import Add
from tinytrain.ops.matmul import MOST_PRODUCTS


def _is_int8(x: Tensor) -> bool:
    """Nothing but int8: an activation without a QuantizeLinear behind it is computed in fp32."""
    return x.value.type.dtype is S8 and not x.then


def _zero_point(x: Tensor) -> int:
    assert x.value.type.quant is not None
    return x.value.type.quant.zero_point


def _sums(call: Call, op: Op, x: Value, w: Value, at: int) -> Value | None:
    """x by w and the bias in operand `at`; None where there is one and it is no bias."""
    assert x.type.quant is not None
    assert w.type.quant is not None
    with call.fitting():
        (kind,) = op.infer(x.type, w.type)
    acc = dataclasses.replace(x, type=kind)
    b = bias(call, at, acc) if call.has(at) else None
    if call.has(at) and b is None:
        return None
    assert kind.quant is not None
    b = check_sums(call, w, x.type.quant.zero_point, target(call), b, kind.quant.scale)
    y = call.emit(op, x, w, part="sum")
    return y if b is None else call.emit(Add(), y, b, part="biased")


@on_integers("Conv")
def conv(call: Call) -> Tensor | None:
    if call.is_const(0) or not call.is_const(1) or not _is_int8(call.tensor()):
        return None
    kernel = weight_shape(call)
    k, c, r, s = (*kernel, 1)[:4]
    group = call.integer("group", 1)
    depthwise = group > 1 and c == 1 and k == group
    shape = (k, c, r, s)
    w = (
        weight(call, 1, 0, shape=shape, perm=(2, 3, 1, 0), ir=(r, s, k), ir_axis=2) if depthwise
        else weight(call, 1, 0, shape=shape, perm=(0, 2, 3, 1), ir=(k, r, s, c), ir_axis=0)
    )
    if w is None:
        return None
    x, order = feature_map(call)
    window, zero = Window.of(call, kernel[2:]), _zero_point(call.tensor())
    op = (
        DepthwiseConv2d(window.stride, window.pad, window.dilation, zero_point=zero) if depthwise
        else Conv2d(window.stride, window.pad, window.dilation, group, zero_point=zero)
    )
    y = _sums(call, op, x, w, 2)
    return None if y is None else Tensor(y, call.shape, order)


@on_integers("Gemm")
def gemm(call: Call) -> Tensor | None:
    if call.is_const(0) or not call.is_const(1) or not _is_int8(call.tensor()):
        return None
    if call.number("alpha", 1.0) != 1 or (call.has(2) and call.number("beta", 1.0) != 1):
        return None
    a = call.tensor()
    if call.integer("transA"):
        a = Tensor(a.value, (a.shape[1], a.shape[0]), tuple(1 - axis for axis in a.order))
    rows, columns = call.array(1, "matrix B").shape
    transposed = bool(call.integer("transB"))
    perm, ir, axis = ((0, 1), (rows, columns), 0) if transposed else ((1, 0), (columns, rows), 1)
    w = weight(call, 1, axis, shape=(rows, columns), perm=perm, ir=ir, ir_axis=0)
    if w is None:
        return None
    y = _sums(call, Dense(zero_point=_zero_point(a)), call.view(a, (0, 1)), w, 2)
    return None if y is None else Tensor(y, call.shape, (0, 1))


@on_integers("MatMul")
def matmul(call: Call) -> Tensor | None:
    if not call.is_const(0) and not call.is_const(1):
        a, b = call.tensor(0), call.tensor(1)
        return multiplied(call, a, b, "sum") if _is_int8(a) and _is_int8(b) and a.shape[-1] <= MOST_PRODUCTS else None
    if call.is_const(0) or not call.is_const(1) or not _is_int8(call.tensor()):
        return None
    x, shape = call.tensor(), tuple(call.array(1, "right operand").shape)
    if len(shape) != 2:
        return None
    w = weight(call, 1, 1, shape=shape, perm=(1, 0), ir=(shape[1], shape[0]), ir_axis=0)
    if w is None:
        return None
    last = len(x.shape) - 1
    order = (*(a for a in x.order if a != last), last)
    y = _sums(call, Dense(zero_point=_zero_point(x)), call.view(x, order), w, len(call.node.input))
    return None if y is None else Tensor(y, call.shape, order)


def added_bias(call: Call) -> Tensor | None:
    """An accumulator plus one number per channel, as a MatMul has it behind it."""
    at = 0 if call.is_const(0) else 1
    if not call.is_const(at):
        return None
    x = call.tensor(1 - at)
    quant = x.value.type.quant
    if x.value.type.dtype is not S32 or x.then or quant is None or quant.axis is None or x.shape != call.shape:
        return None
    if not _per_channel(call.operand_shape(at), x):
        return None
    b = bias(call, at, x.value, call.given(at))
    layer = next((n for n in call.model.graph.nodes if n.outputs[0] is x.value), None)
    if b is None or layer is None or not isinstance(layer.op, (Conv2d, DepthwiseConv2d, Dense)):
        return None
    b = check_sums(call, layer.inputs[1], layer.op.zero_point, target(call), b, quant.scale)
    assert b is not None
    return Tensor(call.emit(Add(), x.value, b, part="biased"), x.shape, x.order)


def _per_channel(shape: Dims, x: Tensor) -> bool:
    """Whether a constant differs only along the axis that lies last in memory."""
    axes = lasting(x.shape, x.order)
    padded = (1,) * (len(x.shape) - len(shape)) + shape
    return math.prod(padded) in (1, padded[axes[-1]] if axes else 1)
