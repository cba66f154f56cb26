# SPDX-License-Identifier: Apache-2.0
"""Handlers of sums, products, means, softmax and normalisation of int8 numbers, which the QuantizeLinear behind them gives a scale."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tinytrain.frontend.call import Call, Made, handlers, on_integers
from tinytrain.frontend.handlers_elementwise import operands
from tinytrain.frontend.handlers_quant_linear import added_bias
from tinytrain.frontend.handlers_shape import along_axis
from tinytrain.frontend.layout import Dims, Tensor, ir_shape, lasting
from tinytrain.frontend.quantised import one_tensor, target
from tinytrain.ir.types import S8, Array
from tinytrain.ops.normalise_q import LONGEST, NormaliseQ
from tinytrain.ops.quant_arith import AddQ, MulQ
from tinytrain.ops.softmax_q import SoftmaxQ


@on_integers("Add", "Mul", "Sub")
def binary(call: Call) -> Tensor | None:
    """Both operands at their own scale."""
    if call.op == "Add" and (biased := added_bias(call)) is not None:
        return biased
    placed = {}
    for name in call.node.input:
        held = call.model.tensors.get(name) or one_tensor(call, name)
        if held is None or held.value.type.dtype is not S8 or held.then:
            return None
        placed[name] = held
    call = Call(call.model, call.node, raw=True, placed=placed)
    to = target(call)
    if to is None or not _fits(call):
        return None
    first, second, order = operands(call)
    signed = [(first, 1), (second, -1 if call.op == "Sub" else 1)]
    signed.sort(key=lambda one: -one[0].type.numel)       # the one of full size flows
    (a, b), quants = (v for v, _ in signed), [(sign, v.type.quant) for v, sign in signed]
    scales, zeros = zip(*((sign * quant.scale[0], quant.zero_point) for sign, quant in quants if quant is not None), strict=True)
    kind = MulQ if call.op == "Mul" else AddQ
    op = kind(to.scale, to.zero_point, to.low, to.high, scales=scales, zeros=zeros)
    return Tensor(Call(call.model, call.node, result=to.name).emit(op, a, b), call.shape, order, settled=True)


def _fits(call: Call) -> bool:
    """Whether one operand has the shape of the result, and the other that too, or one number per last axis in memory, or one."""
    full = call.shape
    whole = [call.tensor(i) for i in (0, 1) if call.operand_shape(i) == full]
    if not whole:
        return False
    axes = lasting(full, whole[0].order)
    return all(_large(call.operand_shape(i), full) in ([], sorted(axes), [axes[-1]]) for i in (0, 1)) if axes else True


def _large(shape: Dims, full: Dims) -> list[int]:
    wide = (1,) * (len(full) - len(shape)) + shape
    return [axis for axis, size in enumerate(wide) if size != 1]


@on_integers("Softmax")
def softmax(call: Call) -> Tensor | None:
    """A table of exponentials."""
    x, to = call.tensor(), target(call)
    quant = x.value.type.quant
    if quant is None or x.value.type.dtype is not S8 or x.then or to is None:
        return None
    op = SoftmaxQ(to.scale, to.zero_point, to.low, to.high, scale_in=quant.scale[0])
    rows, order = along_axis(call)
    table = call.model.graph.const(f"{call.node.output[0]}_table", op.table())
    return Tensor(Call(call.model, call.node, result=to.name).emit(op, rows, table), x.shape, order, settled=True)


@on_integers("LayerNormalization", "RMSNormalization")
def normalisation(call: Call) -> Tensor | None:
    """Of rows: the axes that it is over are brought behind all others. Scale and offset are tables, which nobody trains."""
    x, to = call.tensor(), target(call)
    quant, rank = x.value.type.quant, len(x.shape)
    first = call.integer("axis", -1) % rank
    alone = not call.wants(1) and all(call.is_const(i) for i in (1, 2) if call.has(i))
    if quant is None or x.value.type.dtype is not S8 or x.then or to is None or not alone or math.prod(x.shape[first:]) > LONGEST:
        return None
    order = (*(a for a in x.order if a < first), *(a for a in x.order if a >= first))
    scale, offset = (_row(call, i, order, first) for i in (1, 2))
    epsilon, zero = call.number("epsilon", 1e-5), quant.zero_point
    op = NormaliseQ(
        to.scale, to.zero_point, to.low, to.high, scale_in=quant.scale[0], zero_in=zero, epsilon=epsilon,
        centred=call.op == "LayerNormalization",
    )
    made = Call(call.model, call.node, result=to.name)
    with made.fitting():
        gain, offset, shift = op.affine(scale, offset)
    tables = (call.model.graph.const(f"{call.node.output[0]}_{what}", data) for what, data in (("gain", gain), ("offset", offset)))
    rows = call.view(x, order, (math.prod(x.shape[:first]), scale.size))
    y = Tensor(made.emit(dataclasses.replace(op, shift=shift), rows, *tables), x.shape, order)
    return dataclasses.replace(y, value=call.view(y, order, ir_shape(x.shape, order)), settled=True)


def _row(call: Call, index: int, order: Dims, first: int) -> Array:
    """A scale (operand 1) or an offset (2) of the axes from `first` on, as they lie in memory."""
    shape = tuple(1 if a < first else n for a, n in enumerate(call.shape))
    whole = np.broadcast_to(call.array(index, ("scale", "offset")[index - 1]) if call.has(index) else np.float32(0), shape)
    return whole.transpose(order).reshape(-1)


@on_integers("AveragePool", "GlobalAveragePool", "ReduceMean")
def mean(call: Call) -> Made | None:
    """The int32 sum, at a finer scale."""
    x = call.tensor()
    return None if x.value.type.dtype is not S8 or x.then else handlers()[call.op](call)
