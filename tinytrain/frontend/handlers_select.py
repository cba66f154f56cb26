# SPDX-License-Identifier: Apache-2.0
"""Handlers of ops that choose between elements, by a mask that is known when compiling or computed, and of Cast."""

from __future__ import annotations

import math

import numpy as np

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.handlers_logic import compared
from tinytrain.frontend.layout import Dims, Tensor, ir_shape, plain
from tinytrain.frontend.taking import reshaped
from tinytrain.ir.types import S32, Array, Value
from tinytrain.ops.activation import PassBits
from tinytrain.ops.elementwise import Broadcast
from tinytrain.ops.integers import Real, Truncated
from tinytrain.ops.select import Select, packed

FLOAT, INT32, INT64, BOOL, FLOAT16, DOUBLE, BFLOAT16 = 1, 6, 7, 9, 10, 11, 16   # element types of ONNX
NARROW = {FLOAT16: "float16", DOUBLE: "float64", BFLOAT16: "bfloat16"}


@handles("Where")
def where(call: Call) -> Tensor:
    """Where the condition is set operand 1, else operand 2."""
    full = call.shape
    if call.is_const(0) and (settled := np.unique(call.array(0, "condition"))).size == 1:
        chosen, other = (1, 2) if settled[0] else (2, 1)
        if call.operand_shape(chosen) == full:
            call.model.ledger.read(call.node.input[other], "never chosen by Where")
            return call.tensor(chosen)
    lead = next((call.tensor(i) for i in (1, 2, 0) if not call.is_const(i)), None)
    order = reshaped(call, lead, (1,) * (len(full) - len(lead.shape)) + lead.shape).order if lead else plain(full)
    spread = tuple(full[i] for i in order)
    a, b = (_operand(call, i, order) for i in (1, 2))
    sizes, small = (a.type.numel, b.type.numel), a.type.numel < b.type.numel
    if small:
        a, b = b, a                                       # what has the full shape flows
    a = a if max(sizes) == math.prod(full) else _whole(call, a, spread)
    b = b if min(sizes) in (1, math.prod(full)) else _whole(call, b, spread)
    if call.is_const(0):
        return _selected(call, a, b, call.array(0, "condition").astype(bool) ^ small, order)
    condition = _whole(call, _operand(call, 0, order), spread)
    bits = call.emit(PassBits(-math.inf, 0.5) if small else PassBits(0.5), condition, part="mask")
    return _chosen(call, a, b, bits, order)


def _operand(call: Call, index: int, order: Dims) -> Value:
    """With all axes of the result, in its order."""
    shape = call.operand_shape(index)
    shape = (1,) * (len(order) - len(shape)) + shape
    ir = tuple(shape[a] for a in order)
    if call.is_const(index):
        return call.const(index, "operand", shape=shape, perm=order, ir=ir, given=call.given(index))
    return call.view(reshaped(call, call.tensor(index), shape), order, ir)


def _whole(call: Call, x: Value, full: Dims) -> Value:
    return x if x.shape == full else call.emit(Broadcast(full), x, part="spread")


def _selected(call: Call, a: Value, b: Value, mask: Array, order: Dims) -> Tensor:
    """a where the mask of the result's ONNX shape, or what broadcasts to it, is set, else b."""
    bits = packed(np.broadcast_to(mask, call.shape).transpose(order))
    return _chosen(call, a, b, call.model.graph.const(f"{call.result}_mask", bits), order)


def _chosen(call: Call, a: Value, b: Value, bits: Value, order: Dims) -> Tensor:
    """By a bit for each element, in memory order."""
    flow = ir_shape(call.shape, order)
    a, b = (v if v.type.numel == 1 < math.prod(flow) else call.view(Tensor(v, call.shape, order), order, flow) for v in (a, b))
    return Tensor(call.emit(Select(), a, b, bits), call.shape, order)


@handles("Trilu")
def trilu(call: Call) -> Tensor:
    """The part of each matrix above, or below, a diagonal, and zeros."""
    x, k = call.tensor(), int(call.scalar(1, "k", 0))
    full = np.ones(call.shape[-2:], bool)
    mask = np.triu(full, k) if call.integer("upper", 1) else np.tril(full, k)
    zero = call.model.graph.const(f"{call.result}_zero", np.zeros(1, np.float32))
    return _selected(call, x.value, zero, mask, x.order)


@handles("Cast", "CastLike")
def cast(call: Call) -> Tensor:
    """From float32 to float32 is nothing; integers lose their fraction."""
    x, to = call.tensor(integers=True), call.integer("to", FLOAT)
    if call.op == "CastLike":
        name = call.node.input[1]
        to = FLOAT if name in call.model.arrays and call.model.arrays[name].dtype == np.float32 else call.model.element_types.get(name, 0)
    integers = x.value.type.dtype is S32
    if to in ((INT32, INT64) if integers else (FLOAT,)) or call.model.element_types.get(call.node.input[0]) == to == BOOL:
        return x
    if to == BOOL and not integers:
        return Tensor(compared(call, x.value, "!=", 0.0), x.shape, x.order)
    if to in (FLOAT, INT32, INT64):
        return Tensor(call.emit(Real() if integers else Truncated(), x.value), x.shape, x.order)
    what = NARROW.get(to, f"ONNX element type {to}")
    raise call.fail(f"it casts to {what}, expected float32, or int32 and int64 of what counts", "Export the model in float32.")
