# SPDX-License-Identifier: Apache-2.0
"""Handlers of ops that work element by element: the order of the axes stays as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinytrain.frontend.call import Call, handles
from tinytrain.frontend.layout import Dims, Tensor, ir_shape, lasting
from tinytrain.ir.op import Op
from tinytrain.ir.types import Role, Value
from tinytrain.ops.activation import Clip, LeakyRelu, Relu, Sigmoid, Tanh
from tinytrain.ops.dropout import Dropout
from tinytrain.ops.elementwise import Add, Broadcast, Mul, Scale, Sub


def unary(call: Call, op: Op) -> Tensor:
    x = call.tensor()
    return Tensor(call.emit(op, x.value), x.shape, x.order)


@handles("Relu")
def relu(call: Call) -> Tensor:
    return unary(call, Relu())


@handles("Sigmoid")
def sigmoid(call: Call) -> Tensor:
    return unary(call, Sigmoid())


@handles("Tanh")
def tanh(call: Call) -> Tensor:
    return unary(call, Tanh())


@handles("LeakyRelu")
def leaky_relu(call: Call) -> Tensor:
    alpha = call.number("alpha", 0.01)
    if alpha < 0:
        raise call.fail(f"alpha is {alpha:g}, expected 0 or more", "A negative slope makes the gradient unclear from the output.")
    return unary(call, LeakyRelu(alpha))


@handles("Clip")
def clip(call: Call) -> Tensor:
    low, high = call.scalar(1, "lower bound", -math.inf), call.scalar(2, "upper bound", math.inf)
    if low > high:
        raise call.fail(f"its lower bound {low:g} is above its upper bound {high:g}", "Check the bounds.")
    if low == 0 and high >= np.finfo(np.float32).max:
        return unary(call, Relu())
    return unary(call, Clip(low, high))


@handles("Identity")
def identity(call: Call) -> Tensor:
    return call.tensor()


@handles("Dropout")
def dropout(call: Call) -> Tensor:
    """Identity, unless real dropout is asked for; each layer draws from a stream of its own."""
    x = call.tensor()
    ratio = call.scalar(1, "ratio", 0.5)
    if call.model.dropout_seed is None or ratio == 0:
        if ratio and call.has(2) and call.array(2, "training_mode").any():
            call.model.notes.append(f"{call.node.name} (Dropout) is in training mode, but passes everything on; --dropout trains with it")
        return x
    if not 0 <= ratio < 1:
        raise call.fail(f"its ratio is {ratio:g}, expected 0 or more and less than 1", "Check the ratio.")
    graph = call.model.graph
    if call.model.step is None:
        call.model.step = graph.const("dropout_step", np.zeros(1, np.int32), Role.STATE)
    layer = sum(isinstance(n.op, Dropout) for n in graph.nodes)
    op = Dropout(ratio, call.model.dropout_seed + layer)
    return Tensor(call.emit(op, x.value, call.model.step), x.shape, x.order)


@handles("Add")
def add(call: Call) -> Tensor:
    a, b, order = operands(call)
    return Tensor(call.emit(Add(), *flowing_first(call, a, b)), call.shape, order)


@handles("Mul")
def mul(call: Call) -> Tensor:
    a, b, order = operands(call)
    return Tensor(call.emit(Mul(), *flowing_first(call, a, b)), call.shape, order)


@handles("Sub")
def sub(call: Call) -> Tensor:
    """a − b; where only b has the full shape it is −b + a."""
    a, b, order = operands(call)
    if a.type.numel < b.type.numel:
        return Tensor(call.emit(Add(), call.emit(Scale(-1.0), b, part="negated"), a), call.shape, order)
    return Tensor(call.emit(Sub(), a, b), call.shape, order)


def flowing_first(call: Call, a: Value, b: Value) -> tuple[Value, Value]:
    """For sums and products: a constant and the smaller operand come second."""
    return (a, b) if a.type.numel > b.type.numel or (a.type.numel == b.type.numel and not call.is_const(0)) else (b, a)


def operands(call: Call) -> tuple[Value, Value, Dims]:
    """Both operands in one order of axes, at least one of full shape, the other one of full shape, per channel or a single element."""
    full = call.shape
    rank = len(full)
    order = _order(call)
    axes = lasting(full, order)
    lead = _leader(call)
    own = lead.value.shape if lead and lead.value.type.numel == math.prod(full) else ir_shape(full, order)
    flow = own if not axes or (own and own[-1] == full[axes[-1]]) else tuple(full[a] for a in axes)
    shapes = [padded_shape(call.operand_shape(i), rank) for i in (0, 1)]
    values = [placed(call, i, shapes[i], order, axes, flow) for i in (0, 1)]
    if all(v.type.numel < math.prod(full) for v in values):
        keep = 1 if call.is_const(0) else 0
        spread = tuple(full[a] for a in axes)
        padded = Tensor(values[keep], shapes[keep], order)
        whole = call.emit(Broadcast(spread), call.view(padded, order, tuple(shapes[keep][a] for a in axes)), part="spread")
        values[keep] = call.view(Tensor(whole, full, order), order, flow)
    return values[0], values[1], order


def placed(call: Call, index: int, shape: Dims, order: Dims, axes: Dims, flow: Dims) -> Value:
    """One operand of ONNX shape `shape` (padded to the rank of the output) as the flow, per channel, a single element, or spread."""
    large = [a for a in axes if shape[a] != 1]
    full = call.shape
    if large == list(axes):
        return _laid_out(call, index, shape, order, flow)
    if not large:
        return _laid_out(call, index, shape, order, (1,))
    if large == [axes[-1]]:
        return _laid_out(call, index, shape, order, (full[axes[-1]],))
    small = _laid_out(call, index, shape, order, tuple(shape[a] for a in axes))
    whole = call.emit(Broadcast(tuple(full[a] for a in axes)), small, part="spread")
    return call.view(Tensor(whole, full, order), order, flow)


def _laid_out(call: Call, index: int, shape: Dims, order: Dims, ir: Dims) -> Value:
    if call.is_const(index):
        return call.const(index, "operand", shape=shape, perm=order, ir=ir, given=call.given(index))
    return call.view(widened(call.tensor(index), len(shape)), order, ir)


def _leader(call: Call) -> Tensor | None:
    """The computed operand whose order of axes the result takes: the first of full size, else the first."""
    computed = [widened(call.tensor(i), len(call.shape)) for i in (0, 1) if not call.is_const(i)]
    whole = [t for t in computed if t.shape == call.shape]
    return next(iter(whole or computed), None)


def _order(call: Call) -> Dims:
    lead = _leader(call)
    return lead.order if lead else tuple(range(len(call.shape)))


def padded_shape(shape: Sequence[int], rank: int) -> Dims:
    return (1,) * (rank - len(shape)) + tuple(shape)


def widened(tensor: Tensor, rank: int) -> Tensor:
    """The tensor with axes of size 1 in front, as broadcasting does it."""
    extra = rank - len(tensor.shape)
    return Tensor(tensor.value, padded_shape(tensor.shape, rank), (*range(extra), *(a + extra for a in tensor.order)))
