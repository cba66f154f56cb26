# SPDX-License-Identifier: Apache-2.0
"""Handlers of sums, products, means and softmax of int8 numbers, which the QuantizeLinear behind them gives a scale."""

from __future__ import annotations

from tinytrain.frontend.call import Call, Made, handlers, on_integers
from tinytrain.frontend.handlers_elementwise import operands
from tinytrain.frontend.handlers_quant_linear import added_bias
from tinytrain.frontend.handlers_shape import along_axis
from tinytrain.frontend.layout import Dims, Tensor, lasting
from tinytrain.frontend.quantised import one_tensor, target
from tinytrain.ir.types import S8
from tinytrain.ops.quant_arith import AddQ, MulQ
from tinytrain.ops.softmax_q import SoftmaxQ


@on_integers("Add", "Mul")
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
    a, b, order = operands(call)
    if a.type.numel < b.type.numel:
        a, b = b, a
    assert a.type.quant is not None
    assert b.type.quant is not None
    kind = AddQ if call.op == "Add" else MulQ
    scales, zeros = (a.type.quant.scale[0], b.type.quant.scale[0]), (a.type.quant.zero_point, b.type.quant.zero_point)
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


@on_integers("AveragePool", "GlobalAveragePool", "ReduceMean")
def mean(call: Call) -> Made | None:
    """The int32 sum, at a finer scale."""
    x = call.tensor()
    return None if x.value.type.dtype is not S8 or x.then else handlers()[call.op](call)
